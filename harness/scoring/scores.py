"""What a metric returns, checked and put under its names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.metrics import ScoreKey

Score = float | tuple[float, ...] | None


def checked(score: Score) -> Score:
    """The score as floats. Raises `ValueError` for one that is not finite."""
    if score is None:
        return None
    parts = tuple(float(part) for part in (score if isinstance(score, tuple) else (score,)))
    if not all(map(math.isfinite, parts)):
        raise ValueError(f"the score {score} is not a finite number")
    return parts if isinstance(score, tuple) else parts[0]


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
    """`FILE:LINE` that raised; empty where that was a check of this room."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or Path(trace.tb_frame.f_code.co_filename).parent == Path(__file__).parent:
        return ""
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
