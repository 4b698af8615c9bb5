"""Which frames of a video are shown: one rule for all models and all decoders, from the times of its frames alone.

    FrameRule(count=8).choose(times)              # distinct whole positions of linspace(0, N-1, 8)
    FrameRule(fps=1, count=64).choose(times)      # one a second, and at most 64
    FrameRule(count=8, scenes=True)               # where the picture changes most: `choose_by_change`

The first and the last frame are always among them, where more than one is shown.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from harness.errors import DataError
from harness.quick import dataclass

# Times are sums of fractions: a frame that is due at a point is shown there although it comes out a little later.
_FUZZ = 1e-6
# How many frames are looked at for each that is shown, where changes of the picture decide.
_LOOKED_AT = 8


@dataclass(frozen=True, slots=True)
class FrameRule:
    """count: the most frames. fps: so many a second of the clip, up to `count` (None: no bound but the clip).
    scenes: spaced by how much the picture changes between them, and not by time."""

    count: int | None = 8
    fps: float | None = None
    scenes: bool = False

    @property
    def name(self) -> str:
        """The rule in words, as logs hold it."""
        kind = "scenes" if self.scenes else "uniform" if self.fps is None else f"{self.fps:g} fps"
        return kind if self.count is None else f"{kind}, at most {self.count}"

    def choose(self, times: Sequence[float]) -> tuple[int, ...]:
        """Positions among `times` (in seconds, ascending, one a frame), ascending and distinct."""
        if self.fps is None:
            return uniform(len(times), self.count or len(times))
        wanted = max(1, int((times[-1] - times[0]) * self.fps + _FUZZ) + 1)
        return by_time(times, min(wanted, self.count or wanted))

    def candidates(self, total: int) -> tuple[int, ...]:
        """Positions that are looked at where changes decide."""
        return uniform(total, _LOOKED_AT * (self.count or total))


def uniform(total: int, count: int) -> tuple[int, ...]:
    """Distinct whole positions of linspace(0, total - 1, count), as lmms-eval's `read_video` has them; none beyond the
    clip: a clip with fewer frames is shown whole."""
    import numpy

    points = numpy.linspace(0, total - 1, min(count, total), dtype=int)
    return tuple(dict.fromkeys(int(point) for point in points))


def by_time(times: Sequence[float], count: int) -> tuple[int, ...]:
    """The frames that are on screen at `count` points of linspace(first time, last time). Where all frames are equally
    long, this is `uniform`; where they are not, a long still does not count for less."""
    import numpy

    points = numpy.linspace(times[0], times[-1], min(count, len(times)))
    return tuple(dict.fromkeys(max(0, bisect.bisect_right(times, point + _FUZZ) - 1) for point in points))


def by_change(changes: Sequence[float], count: int) -> tuple[int, ...]:
    """Positions among frames of which `changes` says how far each is from the one before it (the first from nothing).

    The frames are spaced by equal shares of all change, first and last included; a clip without any change is shown
    uniformly.
    """
    import numpy

    sums = numpy.cumsum([0.0, *changes[1:]])
    if not sums[-1] > 0:
        return uniform(len(changes), count)
    points = numpy.linspace(0.0, sums[-1], min(count, len(changes)))
    first = [int(numpy.searchsorted(sums, point - _FUZZ * sums[-1])) for point in points]
    return tuple(dict.fromkeys([*first[:-1], len(changes) - 1] if len(first) > 1 else first))


def within(times: Sequence[float], start: float | None, end: float | None) -> range:
    """The positions of a clip's frames between two moments, in seconds from its beginning.

    Where none begins between them, the one that is on screen at `start`. Raises DataError where `start` is behind the
    last frame or not before `end`.
    """
    if start is not None and end is not None and end <= start:
        raise DataError(f"its part from {start:g} s to {end:g} s has no length")
    length = times[-1] + (times[-1] - times[0]) / max(1, len(times) - 1)
    if start is not None and start > max(times[-1], length) + _FUZZ:
        raise DataError(f"its part begins at {start:g} s, and it ends at {length:.3f} s")
    if end is not None and end < times[0] - _FUZZ:
        raise DataError(f"its part ends at {end:g} s, and it begins at {times[0]:.3f} s")
    first = 0 if start is None else bisect.bisect_left(times, start - _FUZZ)
    last = len(times) if end is None else bisect.bisect_right(times, end + _FUZZ)
    if first >= last:
        first = max(0, bisect.bisect_right(times, start or 0.0) - 1)
        last = first + 1
    return range(first, last)
