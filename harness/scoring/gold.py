"""What is right, in the form that a metric compares with (indices of choices, or texts), and the score against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.metrics import Observation
from harness.types import NO_CHOICE, Sample


def gold_indices(sample: Sample) -> tuple[int, ...] | None:
    """The indices of the right choices, or None where the gold is hidden; `NO_CHOICE` for a gold that is none of them
    and counts as one that is never chosen.

    Raises `ValueError` when the gold is no index, or lies outside the choices.
    """
    if sample.target is None:
        return None
    golds = sample.target if isinstance(sample.target, tuple) else (sample.target,)
    return tuple(NO_CHOICE if gold == NO_CHOICE else _checked_index(gold, sample.choices) for gold in golds)


def gold_texts(sample: Sample) -> tuple[str, ...] | None:
    """The texts of the right answers, or None where the gold is hidden.

    An index stands for its choice. Raises `ValueError` when an index has no choice.
    """
    if sample.target is None:
        return None
    golds = sample.target if isinstance(sample.target, tuple) else (sample.target,)
    return tuple(
        gold if isinstance(gold, str) else sample.choices[_checked_index(gold, sample.choices)] for gold in golds
    )


def mean_over_predictions(
    seen: Observation, score: Callable[[str, tuple[str, ...]], float], unread: str | None = None
) -> float | None:
    """The mean of `score(prediction, gold texts)` over the predictions; None where the gold is hidden or none was made.

    unread: the text that stands for a prediction that no filter could read; without one, it scores 0.
    """
    golds = gold_texts(seen.sample)
    if not golds or not seen.predictions:
        return None
    texts = [unread if prediction is None else prediction for prediction in seen.predictions]
    scores = [0.0 if text is None else score(text, golds) for text in texts]
    return sum(scores) / len(scores)


def _checked_index(gold: int | str, choices: tuple[str, ...]) -> int:
    if isinstance(gold, str):
        if gold not in choices:
            raise ValueError(f"the gold answer {gold!r} is none of the {len(choices)} choices")
        return choices.index(gold)
    if not 0 <= gold < len(choices):
        raise ValueError(f"the gold index {gold} is outside the {len(choices)} choices")
    return gold


def all_right(answers: Sequence[bool | None]) -> bool | None:
    """Whether all answers are right; None where one is unknown (it failed) and none is wrong."""
    return False if False in answers else None if None in answers else True
