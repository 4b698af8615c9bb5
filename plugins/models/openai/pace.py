"""How many requests are under way, and how fast they follow each other, learnt from what the server grants.

`Places` bounds how many samples are being asked at once. `Pace` spaces the starts of requests once a server has said
that there are too many: at slightly more than the rate that it granted lately, so that its limit is used up and a
rise of it is noticed, while few requests are refused. What it refuses however few are asked is no reason to ask less.
A refused request waits for itself, without a place.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable

from .closure import Closure, closure
from .trial import LEAST_RATE, PART, Count, Start, Trial, begun_between, refused_all_the_same, refused_in_vain

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]

AUTO_FIRST, AUTO_MOST = 8, 64
_SLOW, _QUICKER = math.log(2), math.log(0.7)
"""How much longer than usual replies take that may wait in a line, and how much less when half as many are asked."""
_RECENT = 0.25
"""The weight of the newest round in what is usual, if it was quicker."""
_OBSERVED = 0.5
"""Seconds between two looks at what was granted and what was refused."""
_GLANCE, _LONGEST_GLANCE = 0.1, 0.5
"""Seconds between two looks of a request that waits."""
_SHORTEST = 0.1
"""Seconds: what was let in at one moment is taken for what is let in within so many."""
_SHORTEST_MEMORY, _LONGEST_MEMORY = 1.0, 120.0
_LEAST_RISE, _FIRST_RISE, _MOST_RISE = 1.04, 1.3, 1.6
_SLACK = 0.05
"""Seconds by which late starts are made up for: timers and a busy processor make them late."""
_MANY_REFUSED, _FEW_REFUSED = 0.12, 0.03
"""Shares of requests whose refusal is a reason to be slower: without a rate of one's own, and with one."""
_ENOUGH, _MANY_LET_IN, _LONGEST_EVIDENCE = 32, 16, 10.0
"""Replies that tell how freely a server lets in, how many must be answers, and for how many seconds they tell."""
_TELLS, _TELLING = 5, 20
"""Requests that are let in between two looks, at least, where a trial may begin; that are begun, where it shows that
more were let in before."""
_LONG_AGO, _SETTLED = 4.0, 1.05
"""Seconds after which it is forgotten how many were let in, and by how much more that may have been than it is now."""
_DOUBT = 1.5
"""Standard errors within which a share may be what it usually is."""
_OVERSHOOT, _MOST_OVERSHOOT = 1.02, 2.0
"""Of what the server lets in, that is asked: at first, and where it takes more to be let in as often."""
_MOST_RANDOM = 0.97
"""A server that refuses more than that is asked less, for whatever cause."""
_REMEMBERED = 120
"""Requests of which that share is known, at most: what was long ago counts for less."""
_BETWEEN_TRIALS, _FIRST_CHECK = 10, 2.0
"""How many times as long as a trial it lasts until the next, and seconds that pass at least until what one found is
looked at again; twice as long each time that it is confirmed, up to eight times."""

_LOST, _NEAR = 0.9, 0.92
"""Parts of a rate at which hardly any was refused, to which it is not lowered, and of one at which many were, up to
which it is raised again."""
_STAYS_CLEAN, _STAYS_CEILING = 4.0, 10.0
"""Seconds for which these are so."""
_FIRST_DISTRUST = 15.0
"""Seconds for which nothing is taken for random that no trial has shown, once that was wrong; then twice as long."""


class Places:
    """As many samples at once as `most`; with `adapts` it begins with a few and grows while replies stay quick.

    It doubles with every round until replies take more than twice as long as usual. Then half of it is taken back. If
    that makes replies quicker, they had only waited in the server's own line, and from there on growth is additive, by
    four a round; if not, the questions themselves take longer now, which is usual from then on, and it grows on.
    """

    def __init__(self, most: int, adapts: bool) -> None:
        self.most = most
        self.size = float(min(most, AUTO_FIRST) if adapts else most)
        self._adapts = adapts
        self._taken = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._round: list[float] = []
        self._begun_before = 0
        """Replies to come of requests that were under way when the size was halved."""
        self._usual: float | None = None
        self._before_halving: float | None = None
        self._slow = False
        self._doubles = True

    def begin(self) -> None:
        """Forget who had a place before: nobody is asked."""
        self._taken = 0
        self._waiting.clear()

    async def take(self, rank: int) -> None:
        """Wait for a place; of those that wait, the lowest rank is next."""
        if self._taken < int(self.size) and not self._waiting:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            raise

    def give(self) -> None:
        """Leave a place to the next."""
        self._taken -= 1
        while self._waiting and self._taken < int(self.size):
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                self._taken += 1
                turn.set_result(None)

    def answered(self, seconds: float) -> None:
        """A reply came after so many seconds."""
        if not self._adapts:
            return
        if self._begun_before > 0:
            self._begun_before -= 1
            return
        self._round.append(math.log(max(seconds, 1e-3)))
        if len(self._round) < int(self.size):
            return
        # Of logarithms, since few answers are long and most are short; their mean is known to about its standard error.
        mean = statistics.fmean(self._round)
        error = statistics.stdev(self._round) / math.sqrt(len(self._round))
        self._round.clear()
        if self._before_halving is not None:
            before, self._before_halving = self._before_halving, None
            if mean > before + _QUICKER:
                self._usual, self.size = mean, min(self.most, 2 * self.size)
                return
            self._doubles = False
        usual = mean if self._usual is None else self._usual
        was_slow, self._slow = self._slow, mean > usual + _SLOW + error and self.size > AUTO_FIRST
        if self._slow and was_slow:  # the round before was in part of requests that were begun when there were fewer
            self._before_halving, self._begun_before, self._slow = mean, self._taken, False
            self.size = max(AUTO_FIRST, self.size / 2)
        elif not self._slow:
            self.size = min(self.most, 2 * self.size if self._doubles else self.size + 4)
        self._usual = min(usual, usual + _RECENT * (mean - usual))


class Pace:
    """When the next request may start. Without limit until the server refuses many for being too many.

    Then the rate is a little above that of the requests which it let in lately. It rises while hardly any is refused,
    by more each time, and is without limit again when the requests themselves come no faster.

    Where as many are refused at the lower rate, a trial finds out how many are whatever the rate. These count no more.
    """

    def __init__(self, sleep: Sleep = asyncio.sleep, clock: Clock = time.monotonic) -> None:
        self._sleep, self._clock = sleep, clock
        self._turn = asyncio.Lock()
        self._began = self._looked = clock()
        self._next = 0.0
        self.rate = float("inf")
        """Requests a second."""
        self.random = Count()
        """What the server refuses however few are asked."""
        self._rise = _LEAST_RISE
        self._overshoot = _OVERSHOOT
        self._memory = _SHORTEST_MEMORY
        self._starts: deque[Start] = deque(maxlen=50_000)
        self._begun = self._refused = 0
        self.sent = self.refusals = 0
        """Requests since the start, and those that were refused."""
        self._last_look: tuple[float, float] | None = None
        self._in_vain: list[Count] = []
        """What was refused at the latest looks in a row, before each of which the rate was lowered."""
        self._lowered = clock()
        """When it was first lowered before these."""
        self._grants: deque[tuple[float, float]] = deque(maxlen=16)
        """When one looked, and how many a second were let in."""
        self._trial: Trial | None = None
        self._tried = (0.0, 0.0)
        """When the latest trial began, and when it ended."""
        self._next_trial = self._next_check = float("-inf")
        self._clean, self._ceiling, self._returned = (0.0, 0.0), (float("-inf"), 0.0), False
        """The latest rate at which hardly any was refused, and one at which so many were that less was let in, each
        with its moment; whether the former was gone back to."""
        self._is_claim, self._taken_back, self._next_claim = False, 0, float("-inf")
        """Whether what is refused at random is known from lowering a rate in vain only, how often that was wrong, and
        when it may be taken for known again."""
        self._unlimited = Count()
        """What was refused when the rate was first limited."""
        self._held_back = False
        self._notice = 0.0
        """Seconds after which a refusal is known."""
        self._confirmed = 0
        self._judged, self._generous = float("-inf"), False
        self._let_in = float("-inf")
        self._closure: Closure | None = None
        self.openings = 0
        """How often it let in again after it had let nobody in."""
        self._opened = clock()
        """When the server last began to let in."""

    async def turn(self) -> Start:
        """Wait until a request may start."""
        if self.rate < float("inf"):
            async with self._turn:
                while (wait := self._next - self._clock()) > 0:
                    await self._sleep(min(wait, _OBSERVED))  # the rate may have changed meanwhile
                    self._look()
                self._next = max(self._next, self._clock() - _SLACK) + 1 / self.rate
        start = Start(self._clock(), self._held_back, self.rate)
        if not self._starts:
            self._began = self._looked = self._opened = start.moment
        self._starts.append(start)
        self._begun += 1
        self.sent += 1
        self._look()
        return start

    def answered(self, start: Start) -> None:
        """The server has let it in."""
        start.is_decided = True
        self._let_in = self._clock()

    @property
    def refuses_at_random(self) -> bool:
        """Whether it is known to refuse requests however few are asked."""
        return self.random.refused > 0

    @property
    def lets_in(self) -> bool:
        """Whether the server has answered a request within the last seconds."""
        return self._clock() - self._let_in < _LONGEST_EVIDENCE

    @property
    def is_generous(self) -> bool:
        """Whether of the requests of the last second, and of enough of them, the server refused hardly any.

        Then one that it did refuse may come again as well as another one may come. Where fewer were begun in the last
        second, the latest count: towards the end hardly any are.
        """
        now, answered, refused = self._clock(), 0, 0
        if now - self._judged < _GLANCE / 2:
            return self._generous
        for start in reversed(self._starts):
            age = now - start.moment
            if age > _LONGEST_EVIDENCE or (age > 1.0 and answered + refused >= _ENOUGH):
                break
            answered += start.is_decided and start.let_in
            refused += not start.let_in
        self._judged = now
        count = Count(refused, answered + refused)
        most = _MANY_REFUSED + _DOUBT * count.doubt(_MANY_REFUSED)
        self._generous = answered >= _MANY_LET_IN and not self._is_excess(count, most)
        return self._generous

    def refused(self, start: Start, asked_pause: float | None, *, unavailable: bool = False) -> None:
        """asked_pause: seconds that the server wants to pass. Its limit counts over a span of about that length.

        unavailable: it said that it is not there, and not that there are too many.
        """
        start.let_in, start.is_decided = False, True
        start.pause, start.unavailable = asked_pause or 0.0, unavailable
        self._refused += 1
        self.refusals += 1
        self._notice = max(self._clock() - start.moment, 0.9 * self._notice)
        self._memory = min(_LONGEST_MEMORY, max(self._memory, asked_pause or 0.0))
        if self._closure is not None and start.moment >= self._closure.noticed:
            self._closure.refused(start)
        self._look()

    def _look(self) -> None:
        """Learn from what was begun and refused since the last look, if that is long enough ago."""
        now = self._clock()
        span = now - self._looked
        if self._closure is not None:
            self._wait_for_the_end(self._closure, now)
            return
        if self._trial is not None:
            self._judge(self._trial, now)
            return
        count, is_limited = Count(self._refused, self._begun), self.rate < float("inf")
        many = not self._held_back and count.refused >= 8 and self._excess(count) > 0.5
        many = many and not (self._is_claim and not self._is_excess(count, 0.5))
        enough = (
            count.begun >= (10 if is_limited else _ENOUGH)
            or span >= _LONGEST_EVIDENCE / 2
            or not 0 < count.refused < count.begun
        )
        if not many and (span < max(_OBSERVED, 3 / self.rate) or not enough):
            return
        self._forget(now)
        self._closure = closure(self._starts, self._opened, self._latest_known(now), now)
        if self._closure is not None:
            self._wait_for_the_end(self._closure, now)
            return
        if count.begun == 0 or (count.refused == 0 and not is_limited and not self.refuses_at_random):
            return
        if not many and is_limited and count.begun < 0.7 * self.rate * span:
            return  # there was less to ask than might have been
        if not many and not self.refuses_at_random and (self._tried[1] or PART * self.rate < LEAST_RATE):
            self._learn_overshoot(self._excess(count), (count.begun - count.refused) / max(span, _SHORTEST))
        if many or now - self._opened < _SHORTEST_MEMORY:
            self._grants.clear()  # what it had saved up is let in at once, and never again
        else:
            self._grants.append((now, self._let_in_rate(now)))
        if self._is_excess(count, _FEW_REFUSED if is_limited else _MANY_REFUSED):
            if self._is_claim and not is_limited:
                self._take_back(now)
            self._lower(now, count, span, many=many)
        else:
            self._raise(now, count, span)
            tells = count.begun - count.refused >= _TELLS and (is_limited or count.begun >= _ENOUGH)
            if self.refuses_at_random and now >= self._next_check and tells:
                self._try(now, count, span, self.rate, count, self.random)
        self._next = min(self._next, now + 1 / self.rate)

    def _forget(self, now: float) -> None:
        """Count anew."""
        self._begun = self._refused = 0
        self._looked = now

    def _excess(self, count: Count) -> float:
        """The share of requests that were refused beyond those that are refused anyway."""
        random = self.random.share
        return (count.share - random) / (1 - random)

    def _is_excess(self, count: Count, most: float) -> bool:
        """Whether that share is `most` or more, beyond what may be chance."""
        random = self.random.share
        doubt = _DOUBT * math.hypot(count.doubt(random), self.random.doubt(random))
        return self._excess(count) >= most + doubt / (1 - random)

    def _take_back(self, now: float) -> None:
        """As many as this are not refused whatever the rate: of a limit of tokens the large requests are, at any."""
        self.random, self._is_claim = Count(), False
        self._next_claim = now + _FIRST_DISTRUST * 2.0 ** min(self._taken_back, 6)
        self._taken_back += 1

    def _lower(self, now: float, count: Count, span: float, *, many: bool) -> None:
        """Ask hardly more than is let in; or find out whether that helps, where it was done and did not."""
        was_limited = self.rate < float("inf")
        if not was_limited:
            self._unlimited = count
        elif not many and count.begun - count.refused >= _TELLS and now >= self._next_trial:
            since = max(self._tried[1], now - _LONGEST_MEMORY)
            starts = begun_between(self._starts, since, self._latest_known(now))
            expected = 1 - (1 - self.random.share) / self._overshoot
            known = refused_all_the_same(starts, expected)
            if known is not None and self._try(now, count, span, float("inf"), self._unlimited, known):
                self._confirmed = 0
                return
        if self._held_back:
            self._in_vain.append(count)
        else:
            self._in_vain, self._lowered = [], now
        starts = begun_between(self._starts, self._lowered, self._latest_known(now))
        known = refused_in_vain(self._in_vain, starts) if now >= self._next_claim else None
        if known is not None:
            self._is_claim = True
            self._go_on(now, known, float("inf"), self._unlimited, self._let_in_rate(now), now - self._looked)
            return
        granted = self._granted(now, count, span)
        most = granted
        if not self._is_excess(count, _MANY_REFUSED):
            # A few may be refused at random. Who asks less for that is let in less, and as many are refused again.
            most = max([granted, *(let_in for moment, let_in in self._grants if now - moment < _LONG_AGO)])
        asked, self.rate = self.rate, self._overshoot * most / (1 - self.random.share)
        if count.begun >= _TELLING:
            self._return(now, asked)
        if self.rate < asked:
            self._rise = _LEAST_RISE if count.share <= 0.5 else _FIRST_RISE
        # What is let in within the first moments may have been saved up; what was let in before may be no more.
        is_settled = now - self._opened >= _OBSERVED and most <= _SETTLED * granted
        self._held_back = (was_limited or not many) and is_settled

    def _return(self, now: float, asked: float) -> None:
        """Go back to the rate at which hardly any was refused, from a higher one at which less was let in than that.

        One that lets in a single request each so many milliseconds refuses half of those that come a little faster. To
        ask hardly more than it let in would leave half of what it allows unused.
        """
        moment, rate = self._clean
        if self.rate < _LOST * rate and rate < asked and now - moment < _STAYS_CLEAN:
            self._ceiling = (now, asked)
            self.rate = rate
            self._clean = (now, rate)
        self._returned = not self._returned and self.rate == rate
        if not self._returned:
            self._clean = (now, 0.0)

    def _raise(self, now: float, count: Count, span: float) -> None:
        self._held_back = False
        if self.rate < float("inf"):
            self._clean, self._returned = (now, self.rate), False
            since, ceiling = self._ceiling
            if now - since < _STAYS_CEILING and self.rate < ceiling:
                if self.rate < _NEAR * ceiling:
                    self.rate = (self.rate + ceiling) / 2
                return
            self.rate *= self._rise
            self._rise = min(_MOST_RISE, self._rise**1.5)
            self._memory = max(_SHORTEST_MEMORY, self._memory * 0.9)
            if self.rate > 3 * self._granted(now, count, span):
                self.rate = float("inf")

    def _try(self, now: float, count: Count, span: float, rate: float, usual: Count, known: Count) -> bool:
        """Ask less than is let in, for a while; unless that is so little that it would take long."""
        let_in = self._let_in_rate(now)
        lately = min(let_in, (count.begun - count.refused) / max(span, _SHORTEST))
        if PART * lately < LEAST_RATE:
            return False
        is_check = self.refuses_at_random
        self._trial = Trial(now, let_in, rate, usual, self.random if is_check else known, is_check)
        self._held_back = False
        self.rate = PART * lately
        return True

    def _judge(self, trial: Trial, now: float) -> None:
        """Go on by what a trial has shown, if it has."""
        found = trial.verdict(self._starts, self._latest_known(now))
        if found is None:
            return
        self._trial, self._tried, self._is_claim = None, (trial.began, now), False
        self._go_on(now, found, trial.rate, trial.usual, trial.let_in, now - trial.began)

    def _go_on(self, now: float, found: Count, rate: float, usual: Count, let_in: float, took: float) -> None:
        """Ask at this rate, if what was refused at it is usual; or else hardly more than is let in."""
        self.random = found.at_most(_REMEMBERED) if found.share <= _MOST_RANDOM else Count()
        self._next_trial = now + _BETWEEN_TRIALS * took
        self._next_check = now + max(_FIRST_CHECK, _BETWEEN_TRIALS * took) * 2.0 ** min(self._confirmed, 3)
        self._confirmed += 1
        self._last_look, self._held_back, self._in_vain = None, False, []
        self._forget(now)
        is_usual = not self._is_excess(usual, _FEW_REFUSED if rate < float("inf") else _MANY_REFUSED)
        self.rate = rate if is_usual else self._overshoot * let_in / (1 - self.random.share)
        self._rise = _LEAST_RISE
        self._next = min(self._next, now + 1 / self.rate)

    def _latest_known(self, now: float) -> float:
        """When the latest request was begun whose refusal would be known by now."""
        return now - 1.5 * self._notice - _GLANCE / 4

    def _wait_for_the_end(self, closed: Closure, now: float) -> None:
        """Ask now and then whether the server lets in again; then it is asked as before, if that was right."""
        if not closed.is_over(self._starts, self._latest_known(now)):
            pause = closed.pause(now)
            self.rate, self._next = 1 / pause, min(self._next, now + pause)
            return
        self._memory = min(_LONGEST_MEMORY, max(self._memory, now - closed.since))
        before = closed.rate_before(self._starts)
        self.rate = self._overshoot * self._let_in_rate(now) if before is None else before
        self._closure, self._opened, self._next = None, now, now
        self.openings += 1
        self._last_look, self._rise, self._held_back = None, _LEAST_RISE, False
        self._forget(now)

    def _let_in_rate(self, now: float) -> float:
        """Requests a second that were let in: of those begun within the memory, or of the last ten of them. A trial,
        in which fewer were asked than might have been, does not count."""
        number, since = 0, max(self._began, now - self._memory)
        tried, ended = self._tried
        for start in reversed(self._starts):
            if start.moment < since and number >= 10:
                break
            if start.let_in and not tried <= start.moment < ended:
                number += 1
                since = min(since, start.moment)
        else:
            since = min(since, self._began)
        return max(1, number) / max(now - since - max(0.0, ended - max(tried, since)), _SHORTEST)

    def _granted(self, now: float, count: Count, span: float) -> float:
        """Requests a second that were let in lately: since the last look, or within the memory, which may reach back
        into a time in which nobody was, or be shorter than a reply takes; whichever is more."""
        return max(self._let_in_rate(now), (count.begun - count.refused) / max(span, _SHORTEST))

    def _learn_overshoot(self, excess: float, let_in: float) -> None:
        """Where not every request takes as long, or as many tokens, it takes more of them to use a limit up."""
        before = self._last_look
        self._last_look = (min(self.rate, 1e6), let_in)
        if before is None or excess < _MANY_REFUSED or self.rate > before[0] * 0.97:
            self._overshoot = max(_OVERSHOOT, self._overshoot * 0.98)
        elif let_in < before[1] * (1 - 0.5 * (1 - self.rate / before[0])):
            self._overshoot = min(_MOST_OVERSHOOT, self._overshoot * 1.25)


async def rested(most: float, least: float, pace: Pace) -> float:
    """Wait for `most` seconds, or for as few as `least` while the server lets others in, or where it was closed and
    opens. Returns how many it were."""
    openings = pace.openings
    await asyncio.sleep(least)
    passed = least
    while passed < most and not pace.is_generous and pace.openings == openings:
        step = min(max(_GLANCE, passed / 16), _LONGEST_GLANCE, most - passed)
        await asyncio.sleep(step)
        passed += step
    return passed
