"""The embedded model that sees: the whole way from a command to scores, proved by what it sees and does not see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.testing import run_harness
from harness_plugins.models.demo_vision import train_vision


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def scores(*flags: str) -> dict[str, float]:
    """The main score of each task of a run, and under `TASK METRIC` every score."""
    done = run_harness(*flags, "--output", "out")
    assert done.exit_code == 0, done.stderr
    (report,) = Path("out").glob("*/report.json")
    tasks: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["tasks"]
    report.parent.rename(f"done-{len(list(Path().glob('done-*')))}")
    every = {f"{task['task']} {metric['metric']}": metric["value"] for task in tasks for metric in task["metrics"]}
    return {task["task"]: task["metrics"][0]["value"] for task in tasks} | every


@pytest.mark.slow
def test_it_sees_what_is_shown_and_in_which_order() -> None:
    seen = scores(
        "--tasks",
        "demo_vision_choice_zh,demo_vision_choice_en:gen,demo_vision_order,demo_vision_order:swapped,demo_vision_pairs",
    )
    assert seen["demo_vision_choice_zh"] > 0.9
    assert seen["demo_vision_choice_en:gen"] > 0.9
    assert seen["demo_vision_order"] > 0.9  # chance is 0.3
    assert seen["demo_vision_order:swapped"] < 0.1
    assert seen["demo_vision_pairs"] > 0.9
    assert seen["demo_vision_pairs mme_acc_plus"] > 0.9


def test_without_pictures_it_guesses() -> None:
    probed = scores("--tasks", "demo_vision_choice_en", "--modify", "image_probes")
    task = "demo_vision_choice_en+image_probes"
    assert probed[task] > 0.9
    assert abs(probed[f"{task} no_image_acc"] - probed[f"{task} chance"]) < 0.15
    assert probed[f"{task} blank_image_acc"] < 0.5
    assert probed[f"{task} wrong_image_acc"] < 0.5
    assert probed[f"{task} gain_over_no_image_acc"] > 0.5


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_vision, "KEPT_EVERY", 2)
    recipe = train_vision.VisionRecipe(steps=3, naming=1, rows=2, vocabulary=300)
    processor, kept = train_vision.make_processor(recipe), tmp_path / "kept"
    straight = train_vision.train(recipe, processor, kept).state_dict()
    assert torch.load(kept, weights_only=True)["steps"] == 2
    gone_on = train_vision.train(recipe, processor, kept).state_dict()
    from_nothing = train_vision.train(recipe, processor, tmp_path / "none").state_dict()
    for name, value in straight.items():
        assert torch.equal(value, gone_on[name])
        assert torch.equal(value, from_nothing[name])
