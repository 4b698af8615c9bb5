"""How numbers read: shares as percent with half of their 95 % interval, other values as they are."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError
from harness.record.file_types import MetricFields, Number
from harness.record.report import number
from harness.registry import load_plugins
from harness.types import ScoreName

UNIT = (0.0, 1.0)


def is_share(metric: MetricFields) -> bool:
    """Whether a metric of a report has values in [0, 1], which are shown in percent."""
    return _is_share(ScoreName.parse(metric["metric"]).metric)


@functools.cache
def _is_share(name: str) -> bool:
    try:
        return load_plugins().metric(name).bounds == UNIT
    except HarnessError:  # of a package that is not installed here
        return False


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as it is printed. text: `21.7`, half: `1.8`, unit: `%`; low, high, place: percent of a bar's width.

    A value that was never formed is `-`; a bar is there for shares alone.
    """

    text: str
    half: str
    unit: str
    place: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{self.text}{f' ± {self.half}' if self.half else ''}{f' {self.unit}' if self.unit else ''}"


def finite(found: Number | None) -> float | None:
    """The number; None where it is none, or one that has no place on a scale."""
    return float(found) if isinstance(found, int | float) else None


def interval_of(metric: MetricFields) -> tuple[float, float] | None:
    """The 95 % interval, where both of its ends are numbers."""
    low, high = (finite(end) for end in metric["interval"] or (None, None))
    return None if low is None or high is None else (low, high)


def value(metric: MetricFields) -> Shown:
    """A metric of a report."""
    found, interval = finite(metric["value"]), interval_of(metric)
    if found is None:
        return Shown(number(metric["value"]), "", "")
    if is_share(metric):
        low, high = interval or (found, found)
        half = f"{50 * (high - low):.1f}" if interval else ""
        return Shown(f"{100 * found:.1f}", half, "%", *(_place(each) for each in (found, low, high)))
    return Shown(number(found), number((interval[1] - interval[0]) / 2) if interval else "", "")


def place_in(asked: Mapping[str, Any]) -> int:
    """From which row on a list is asked for."""
    start = asked.get("start") or "0"
    return int(start) if start.isdecimal() and len(start) < 12 else 0


def percent(share: float | None, digits: int = 1) -> str:
    """`21.7 %`; `-` where there is none."""
    return "-" if share is None else f"{round(100 * share, digits) + 0.0:.{digits}f} %"


def _place(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 2)
