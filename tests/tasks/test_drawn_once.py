"""`sampler: once` draws the examples once a subset and seed; what it costs to draw anew is told in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from task_files import CHOICE, build, load, prompts

from harness.run.describe import examples_of_their_own
from harness.run.jobs import TaskJob
from harness.tasks.build_options import SubsetNotes
from harness.types import Sample

ROWS = [{"q": f"question {number}", "a": "yes"} for number in range(12)]
DEV = [{"q": f"example {number}", "a": "no"} for number in range(40)]
ONCE = CHOICE + "num_fewshot: 3\nfewshot_config: {sampler: once}\n"


def samples(folder: Path, text: str, seed: int = 1234) -> list[Sample]:
    return list(build(load(folder, text), ROWS, DEV, SubsetNotes(), seed=seed))


def openings(found: list[Sample]) -> set[str]:
    return {sample.requests[0].prompt.prefix for sample in found}


def test_all_rows_share_one_draw_which_hangs_on_the_seed(tmp_path: Path) -> None:
    (one,) = openings(samples(tmp_path, ONCE))
    assert one.count("example") == 3
    assert openings(samples(tmp_path, ONCE)) == {one}
    assert openings(samples(tmp_path, ONCE, seed=7)) != {one}
    assert len(openings(samples(tmp_path, ONCE.replace("once", "default")))) == len(ROWS)


def test_only_a_row_that_was_drawn_itself_sees_another_example_in_its_place(tmp_path: Path) -> None:
    text = ONCE.replace("fewshot_split: dev", "fewshot_split: test")
    shown = prompts(build(load(tmp_path, text), ROWS, DEV, seed=1234))
    usual = {f"question {n}" for n in range(12) if sum(f"question {n}\n" in prompt for prompt in shown) > 6}
    for number, prompt in enumerate(shown):
        assert prompt.count("question") == 4
        assert prompt.count(f"question {number}\n") == 1
        assert all(prompt.count(f"{name}\n") == 1 for name in usual)


def test_examples_that_are_forgotten_for_room_are_rendered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sampler in ("once", "default"):
        text = ONCE.replace("once", sampler)
        kept = prompts(samples(tmp_path, text))
        with monkeypatch.context() as patch:
            patch.setattr("harness.tasks.shots._MOST_SHOTS", 2)
            assert prompts(samples(tmp_path, text)) == kept


def test_a_dry_run_says_what_it_costs_that_each_row_has_its_own(tmp_path: Path) -> None:
    def told(text: str) -> str:
        task = load(tmp_path, text)
        return examples_of_their_own(TaskJob(task, scorer=None, samples=samples(tmp_path, text)))  # type: ignore[arg-type]

    assert told(ONCE) == ""
    assert told(CHOICE) == ""
    assert "12 of 12 samples have examples of their own" in told(ONCE.replace("once", "default"))
