"""The embedded model that sees: the whole way from a command to scores, proved by what it sees and does not see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.testing import run_harness


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def scores(*flags: str) -> dict[str, float]:
    """The main score of each task of a run."""
    done = run_harness(*flags, "--output", "out")
    assert done.exit_code == 0, done.stderr
    (report,) = Path("out").glob("*/report.json")
    tasks: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["tasks"]
    report.parent.rename(f"done-{len(list(Path().glob('done-*')))}")
    return {task["task"]: task["metrics"][0]["value"] for task in tasks}


def test_it_sees_what_is_shown_and_in_which_order() -> None:
    seen = scores(
        "--tasks", "demo_vision_choice_zh,demo_vision_choice_en:gen,demo_vision_order,demo_vision_order:swapped"
    )
    assert seen["demo_vision_choice_zh"] > 0.9
    assert seen["demo_vision_choice_en:gen"] > 0.9
    assert seen["demo_vision_order"] > 0.6  # chance is 0.3
    assert seen["demo_vision_order:swapped"] < 0.35


def test_without_pictures_it_guesses() -> None:
    blind = scores("--tasks", "demo_vision_choice_en", "--modify", "no_image")
    assert blind["demo_vision_choice_en+no_image"] < 0.5
