"""A time in which a server lets nobody in: the window of its limit is used up, or it is away.

Nothing is learnt from it about how fast requests may follow each other once it is over.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .trial import Count, Start, begun_between

_LEAST_IN_A_ROW, _MOST_IN_A_ROW, _SHORTEST = 12, 200, 1.5
"""Requests that are refused one after another, and seconds that this lasts. Shorter windows are met by a rate."""
_CHANCE = math.log(1e-4)
"""Of a row of refusals that is taken for more than the chance of a server which refused many before."""
_PARTS, _PARTS_OF_WISH = 24, 6
"""Into how many parts of the time so far looks divide it: where the server says nothing, and where it names a time."""
_LEAST_PAUSE = 0.1
_LATEST = 2000
"""Requests that are looked at."""
_FILL_A_WINDOW = 8
"""Requests that were let in before: so many are more than what a bucket gains while nobody is asked."""


@dataclass(slots=True)
class Closure:
    """began: the first request that was refused. noticed: when that was understood. since: when the server had begun to
    let in. opens: when it will again, as it says; in the past where it says nothing."""

    began: Start
    noticed: float
    since: float
    opens: float

    def refused(self, start: Start) -> None:
        """One more was refused."""
        self.opens = start.moment + start.pause

    def pause(self, now: float) -> float:
        """Seconds from one look to the next: longer and longer, and one of them at the time that the server names."""
        passed = now - self.began.moment
        if self.opens > now:
            return min(max(_LEAST_PAUSE, passed / _PARTS_OF_WISH), self.opens - now)
        return max(_LEAST_PAUSE, passed / _PARTS)

    def is_over(self, starts: Sequence[Start], until: float) -> bool:
        """Whether it is known by now that one was let in. until: when the latest was begun of which that is known."""
        begun = begun_between(starts, self.noticed, math.inf)
        return any(start.let_in and (start.is_decided or start.moment <= until) for start in begun)

    def rate_before(self, starts: Sequence[Start]) -> float | None:
        """Requests a second to begin with once it is over; None where it may have been too high a rate that closed."""
        if self.began.unavailable:
            return self.began.rate
        let_in = [start.rate for start in begun_between(starts, self.since, self.began.moment) if start.let_in]
        return max(let_in) if len(let_in) >= _FILL_A_WINDOW else None


def closure(starts: Sequence[Start], since: float, until: float, now: float) -> Closure | None:
    """The closure that the latest requests tell of, if any. since: when the server last began to let in."""
    known = itertools.dropwhile(lambda start: start.moment > until, reversed(starts))
    row = list(itertools.islice(itertools.takewhile(lambda start: not start.let_in, known), _LATEST))
    if len(row) < _LEAST_IN_A_ROW:
        return None
    share = Count.of(begun_between(starts, since, row[-1].moment)).share
    if 0 < share < 1 and len(row) < min(_MOST_IN_A_ROW, _CHANCE / math.log(share)):
        return None
    latest, began = row[0], row[-1]
    lasted = max(latest.moment, min(now, began.moment + began.pause)) - began.moment
    return Closure(began, now, since, latest.moment + latest.pause) if lasted >= _SHORTEST else None
