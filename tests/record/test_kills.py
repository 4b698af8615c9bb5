"""What is left after SIGKILL at random moments is, once the commands went on to their end, as if nobody had killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.testing import tiny_causal_lm

HERE = Path(__file__).parent
KINDS = [
    "dummy",
    "large",
    "openai",
    "judge",
    "score",
    "shards",
    "drawn",
    "drawn large",
    "decided",
    "turns",
    "talks",
    "judged",
]


def killed(folder: Path, kills: int, seed: int, *kinds: str, model: str = "none") -> str:
    argv = [sys.executable, str(HERE / "kills.py"), str(folder), str(kills), str(seed), model, str(HERE.parent), *kinds]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_few_kills_change_nothing(tmp_path: Path) -> None:
    assert "0 folders differ" in killed(tmp_path, 2, 1, "dummy", "score")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "hf"])
def test_many_kills_change_nothing(tmp_path: Path, kind: str) -> None:
    """Twenty of each kind."""
    model = str(tiny_causal_lm(tmp_path / "model")) if kind == "hf" else "none"
    assert "0 folders differ" in killed(tmp_path / "runs", 20, 7, kind, model=model)
