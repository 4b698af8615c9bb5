"""What a metric returns, checked and put under its names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import plugin_values
from harness.errors import HarnessError
from harness.metrics import ScoreKey
from harness.plugin_values import items, number, text

Score = float | tuple[float, ...] | None


def checked(score: object) -> Score:
    """The score as floats. Raises `ValueError` for one that is not finite, `TypeError` for what is no number."""
    if score is None:
        return None
    if isinstance(score, tuple):
        return tuple(number(part, f"score[{place}]") for place, part in enumerate(score))
    return number(score, "the score")


def checked_answers(given: object, asked: int) -> tuple[str | None, ...]:
    """What a filter made of `asked` replies: at most as many, and one at least. Raises `TypeError`, `ValueError`."""
    found = items(given, "what it gave")
    if not min(asked, 1) <= len(found) <= asked:
        raise ValueError(f"it gave {len(found)} answers for {asked} replies")
    return tuple(None if one is None else text(one, f"answer {place}") for place, one in enumerate(found))


def named(keys: Sequence[ScoreKey], score: Score) -> dict[str, Score]:
    """A metric's score under its keys: one, or one for each of the metric's `values`."""
    if not keys[0].metric.values or score is None:
        return dict.fromkeys((key.name for key in keys), score)
    parts = score if isinstance(score, tuple) else (score,)
    if len(parts) != len(keys):
        raise ValueError(f"it gave {len(parts)} numbers and names {len(keys)}: {', '.join(keys[0].metric.values)}")
    return {key.name: part for key, part in zip(keys, parts, strict=True)}


def described(error: BaseException) -> str:
    """An error of a plugin on one line, with its kind."""
    cause = " ".join(str(error).split())
    return f"{type(error).__name__}: {cause}" if cause else type(error).__name__


def located(error: BaseException) -> str:
    """The same, and behind it the file and the line that raised it, as far as a plugin's author needs them."""
    place = "" if isinstance(error, HarnessError) else raised_at(error)
    return described(error) + (f" ({place})" if place else "")


def raised_at(error: BaseException) -> str:
    """`FILE:LINE` that raised; empty where that was a check of our own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    file = trace.tb_frame.f_code.co_filename
    is_ours = Path(file).parent == Path(__file__).parent or file == plugin_values.__file__
    return "" if is_ours else f"{file}:{trace.tb_lineno}"
