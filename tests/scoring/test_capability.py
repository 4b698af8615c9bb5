"""The capability map: means over tasks of one ability, raw and corrected for chance, with their intervals."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.scoring.capability import TaskValue, ability_scores


def task(name: str, ability: str, value: float | None, **other: Any) -> TaskValue:
    fields: dict[str, Any] = {"metric": "acc", "interval": None, "n": 10, "bounds": (0.0, 1.0), **other}
    return TaskValue(name, (ability,), value=value, **fields)


def test_the_best_ability_after_correction_for_chance_comes_first() -> None:
    half, quarter = task("two", "reasoning", 0.6, chance=0.5), task("four", "knowledge", 0.55, chance=0.25)
    scores = ability_scores([half, quarter])
    assert [score.ability for score in scores] == ["knowledge", "reasoning"]
    assert scores[0].corrected is not None and scores[0].corrected.value == pytest.approx(0.4)
    assert scores[1].corrected is not None and scores[1].corrected.value == pytest.approx(0.2)
    assert scores[1].raw is not None and scores[1].raw.value == 0.6


def test_values_are_put_on_one_scale_before_they_are_averaged() -> None:
    values = [
        task("bleu", "generation", 30.0, bounds=(0.0, 100.0)),
        task("rating", "generation", 5.5, bounds=(1.0, 10.0)),
        task("errors", "generation", 0.2, higher_is_better=False),
    ]
    (score,) = ability_scores(values)
    assert score.raw is not None and score.raw.value == pytest.approx((0.3 + 0.5 + 0.8) / 3)
    assert score.tasks == ("bleu", "rating", "errors")


def test_a_value_without_bounds_or_without_a_score_is_left_out_and_named() -> None:
    values = [
        task("text", "language_modelling", 1.4, bounds=None),
        task("ppl", "language_modelling", 3.0, bounds=(0.0, math.inf)),
        task("null", "language_modelling", None),
    ]
    (score,) = ability_scores(values)
    assert (score.raw, score.corrected, score.left_out) == (None, None, ("text", "ppl", "null"))


def test_the_interval_of_a_mean_is_narrower_than_those_of_its_tasks() -> None:
    one, two = task("a", "math", 0.5, interval=(0.4, 0.7)), task("b", "math", 0.3, interval=(0.2, 0.5))
    (score,) = ability_scores([one, two])
    assert score.raw is not None and score.raw.interval is not None
    assert score.raw.interval == pytest.approx((0.4 - math.sqrt(0.02) / 2, 0.4 + math.sqrt(0.08) / 2))


def test_a_task_of_two_abilities_counts_for_both() -> None:
    both = TaskValue("c", ("math", "reasoning"), "acc", 0.5, None, 4, (0.0, 1.0))
    assert [(score.ability, score.n) for score in ability_scores([both])] == [("math", 4), ("reasoning", 4)]


def test_where_every_guess_is_right_there_is_nothing_above_chance() -> None:
    (score,) = ability_scores([task("one option", "math", 1.0, chance=1.0)])
    assert score.corrected is not None and score.corrected.value == 0.0
