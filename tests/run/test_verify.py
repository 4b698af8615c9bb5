"""`harness verify`: one model served twice is the same, another one differs, and few samples say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.run.verify import Compared
from harness.testing import run_harness


def made(tmp_path: Path, name: str, *flags: str, task: str = "demo_arithmetic", limit: int = 60) -> Path:
    done = run_harness(
        "--tasks", task, "--model", "dummy", "-a", *flags, "--limit", str(limit), "--output", tmp_path / name,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    (folder,) = (tmp_path / name).iterdir()
    return folder


@pytest.mark.parametrize(
    ("served", "verdict", "code"),
    [("mode=gold,seed=1", "same", 0), ("mode=fixed,text=I cannot say.", "differs", 1)],
)
def test_a_verdict_for_texts(tmp_path: Path, served: str, verdict: str, code: int) -> None:
    reference = made(tmp_path, "reference", "mode=gold")
    done = run_harness("verify", "--reference", reference, "--served", made(tmp_path, "served", served))
    assert f"verdict: {verdict} (60 pairs" in done.stdout and done.exit_code == code, done.stdout + done.stderr


def test_choices_and_their_probabilities(tmp_path: Path) -> None:
    reference = made(tmp_path, "reference", "mode=gold", task="demo_choice_en", limit=20)
    other = made(tmp_path, "other", "mode=random,seed=3", task="demo_choice_en", limit=20)
    same = run_harness("verify", "--reference", reference, "--served", reference)
    differs = run_harness("verify", "--reference", reference, "--served", other)
    assert "verdict: same (100 pairs" in same.stdout
    assert "distance of choice probabilities" in differs.stdout and "verdict: differs" in differs.stdout


def test_few_samples_and_other_prompts_say_nothing(tmp_path: Path) -> None:
    few = made(tmp_path, "few", "mode=gold", limit=5)
    done = run_harness("verify", "--reference", few, "--served", few)
    assert "verdict: unclear (5 pairs" in done.stdout and done.exit_code == 0
    done = run_harness(
        "verify", "--reference", few, "--served", made(tmp_path, "c", "mode=gold", task="demo_choice_en")
    )
    assert "nothing can be compared" in done.stderr and done.exit_code == 4


def test_an_interval_decides() -> None:
    def verdict(low: float, high: float, n: int = 100) -> str:
        return Compared("x", 1.0, (low, high), n, 1.0, 0.05).verdict

    assert [verdict(0.96, 1.0), verdict(0.8, 0.94), verdict(0.9, 0.99), verdict(0.96, 1.0, 20)] == [
        "same", "differs", "unclear", "unclear",
    ]  # fmt: skip
