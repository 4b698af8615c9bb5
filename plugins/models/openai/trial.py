"""Whether a server refuses requests however few are asked: then asking fewer helps nobody, and costs time.

`refused_all_the_same` raises the suspicion, `Trial` decides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PART = 0.6
"""Of what the server lets in, that is asked in a trial."""
_RARE, _OFTEN = 0.01, 0.1
"""Shares that are refused in a trial: where the rate is the cause, and at least where it is not. Of many that are
suspected half of them have to be seen: the more it is, the fewer requests decide."""
_MOVED, _UNMOVED = 0.02, 0.13
"""Shares that are refused at a rate that was lowered to what is let in: where that helps, and where it does not."""
_CERTAIN, _LIKELY, _BEYOND_DOUBT = math.log(100), math.log(20), math.log(1e6)
"""Odds at which refusals are taken for random, and for the rate's; and for random however few requests tell of them."""
_SUSPECT = math.log(10)
"""Odds at which a trial begins."""
_IN_VAIN, _LONG_IN_VAIN, _IN_ALL, _TOLD = 3, 8, 20, 2
_OFTEN_AT_LEAST, _AT_MOST, _NO_LESS = 0.3, 0.97, 0.75
"""How often in a row lowering a rate is in vain where such a share of so many requests is refused, so many of them
after one that was let in, or how often without that; and of those begun last no less than so many times that share."""
_LEAST, _MOST = 40, 300
"""Requests from which a share is known, and after which a trial ends as it stands."""
LEAST_RATE = 0.5
"""Requests a second below which a trial would take too long."""
_LATEST = 2000
"""Requests that are looked at, of those before this moment."""
_HOPELESS, _HARDLY_ANY = 24, 0.9
"""Requests after which a trial is given up where such a share is refused."""


@dataclass(slots=True)
class Start:
    """A request that was begun: when, whether the server let it in, as far as one knows, and whether it has replied.

    held_back: the rate had been lowered to what the server lets in. rate: requests a second, when it was begun.
    pause: seconds that the server wants to pass. unavailable: it said that it is not there.
    """

    moment: float
    held_back: bool = False
    rate: float = math.inf
    let_in: bool = True
    is_decided: bool = False
    pause: float = 0.0
    unavailable: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """Requests, and those of them that were refused."""

    refused: float = 0.0
    begun: float = 0.0

    @property
    def share(self) -> float:
        return min(1.0, self.refused / max(1.0, self.begun))

    def doubt(self, share: float) -> float:
        """The standard error of the share of so many, where it is `share` in truth."""
        return math.sqrt(share * (1 - share) / max(1.0, self.begun))

    def __add__(self, other: Count) -> Count:
        return Count(self.refused + other.refused, self.begun + other.begun)

    def at_most(self, number: float) -> Count:
        """The same share, of so many requests at most."""
        part = min(1.0, number / max(1.0, self.begun))
        return Count(self.refused * part, self.begun * part)

    @staticmethod
    def of(starts: Sequence[Start]) -> Count:
        return Count(sum(not start.let_in for start in starts), len(starts))


@dataclass(frozen=True, slots=True)
class Trial:
    """A time of asking less than the server lets in, to see whether it refuses requests all the same.

    Whatever limits a rate lets all of them in, once it has let in one: a window that was used up is over then, and a
    bucket fills faster than it empties. The test is Wald's ("Sequential Tests of Statistical Hypotheses", 1945).

    began: when. let_in: requests a second that were let in before. rate, usual: the rate to go back to, and what was
    refused at it. known: what is taken to be refused whatever the rate; is_check: by an earlier trial.
    """

    began: float
    let_in: float
    rate: float
    usual: Count
    known: Count
    is_check: bool

    def verdict(self, starts: Sequence[Start], until: float) -> Count | None:
        """What is refused whatever the rate; nothing where the rate is the cause. None: it is open.

        until: when the latest of the requests was begun whose refusal would be known by now.
        """
        tried = begun_between(starts, self.began, until)
        told = telling(tried)
        count, odds = Count.of(told), sum(_weights(told, _RARE, max(_OFTEN, self.known.share / 2)))
        if len(tried) >= _HOPELESS and Count.of(tried).share > _HARDLY_ANY:
            return self.known if self.is_check else Count()
        few = count.begun < _LEAST or (odds < _CERTAIN and count.begun < _MOST)
        if few and -_LIKELY < odds < _BEYOND_DOUBT:
            return None
        both = count + self.known
        if self.is_check and odds > 0 and count.begun < _LEAST:
            return both  # so few tell that some are refused, and hardly how many
        doubt = math.hypot(count.doubt(both.share), self.known.doubt(both.share))
        if abs(count.share - self.known.share) <= 2 * doubt and (odds > 0 or self.is_check):
            return both
        return count if odds > 0 else Count()


def refused_all_the_same(starts: Sequence[Start], expected: float) -> Count | None:
    """What is refused lately of requests that were held back; None where it may be hardly more than `expected`.

    By Page's test of a change ("Continuous Inspection Schemes", 1954).
    """
    held_back = [start for start in telling(starts) if start.held_back]
    few, many = (expected + share * (1 - expected) for share in (_MOVED, _UNMOVED))
    sums = list(itertools.accumulate(_weights(reversed(held_back), few, many)))
    most = max(sums, default=0.0)
    return Count.of(held_back[-1 - sums.index(most) :]) if most > _SUSPECT else None


def refused_in_vain(looks: Sequence[Count], starts: Sequence[Start]) -> Count | None:
    """What is refused of the requests of several looks in a row, before each of which the rate was lowered to what the
    server lets in; None where that helped. A limit would refuse fewer each time, and who is closed refuses all of them.

    starts: those of these looks.
    """
    count = sum(looks, Count())
    if len(looks) < _IN_VAIN or count.begun < _IN_ALL or not _OFTEN_AT_LEAST <= count.share <= _AT_MOST:
        return None
    told = Count.of(telling(starts))
    is_told = told.refused >= _TOLD and told.share >= _NO_LESS * count.share
    is_no_less = looks[-1].share >= _NO_LESS * count.share
    return count if is_no_less and (is_told or len(looks) >= _LONG_IN_VAIN) else None


def telling(starts: Sequence[Start]) -> list[Start]:
    """Those that follow one that was let in. Where a window is used up, one refusal follows another, and of all these
    only the first tells anything."""
    return [start for before, start in itertools.pairwise(starts) if before.let_in]


def begun_between(starts: Sequence[Start], since: float, until: float) -> list[Start]:
    """Those of the latest starts, which are in the order of time."""
    late = itertools.takewhile(lambda start: start.moment >= since, itertools.islice(reversed(starts), _LATEST))
    return [start for start in late if start.moment <= until][::-1]


def _weights(starts: Iterable[Start], few: float, many: float) -> Iterable[float]:
    """By how much each start speaks for the share `many` and against `few`: logarithms of odds."""
    let_in, refused = math.log((1 - many) / (1 - few)), math.log(many / few)
    return (let_in if start.let_in else refused for start in starts)
