"""What a server did under one load: latencies, throughput and goodput with 95 % intervals, as one step of a ladder.

Definitions, which are those of vLLM's benchmark client (`vllm bench serve`, vllm/benchmarks/serve.py), but that an
event without text, reasoning or a call (a role, an end) is no token:

first token   from sending a request to its first token (TTFT)
per token     of one reply, (last token - first token) / (tokens - 1): TPOT; of replies with two tokens at least
whole         from sending a request to its last token (E2EL)
requests/s    replies that came whole, divided by the time from the first request sent to the last reply's end
tokens/s      tokens of these replies, divided by the same time
goodput       replies that came whole and within every limit, divided by the same time (Zhong et al. 2024, DistServe,
              arXiv 2401.09670); a reply of one token has 0 per token

Intervals: of means Student's t, of quantiles by order statistics, of requests and tokens a second by batch means over
ten equal parts of the time (Law, Simulation Modeling and Analysis, 5th edition, 2015, section 9.5.3), of the share
within the limits Wilson's. Replies of one load slow each other, so the first two are too narrow rather than too wide.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from harness.quick import dataclass
from harness.scoring.statistics.estimates import (
    LEVEL,
    mean_estimate,
    quantile_interval,
    student_t_quantile,
    wilson_interval,
)
from harness.streaming import TimedReply

PARTS = 10
LEAST_FOR_KNEE = 3
LIMITS = ("ttft", "tpot", "e2el")
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds, over n replies. An interval is None where so few replies have none; its upper end is None where no
    reply seen bounds it."""

    n: int
    mean: float
    mean_interval: Interval | None
    median: float
    median_interval: tuple[float, float | None] | None
    p90: float
    p99: float
    p99_interval: tuple[float, float | None] | None


@dataclass(frozen=True, slots=True)
class Rate:
    """Of something a second; the interval is None where too little came for one."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Rung:
    """A server under one load.

    at_once: requests under way in a closed loop; rate: requests sent a second in an open loop; one of them is None.
    asked: requests that were to be sent; sent: that were, which are fewer where the server did not answer any more;
    answered: replies that came whole. errors: what the others said, and how often. seconds: from the first request to
    the last reply's end. tokens, prompt_tokens: of the replies that came whole, None where the server does not say them
    of each (`uncounted`: of how many not). in_one_piece: replies of several tokens that all came in one moment, so that
    the server holds its pieces back. goodput: None without limits; within: the share of the requests sent that kept
    them all. asked_before: requests whose prompt this server had been asked already, by this bench.
    """

    at_once: int | None
    rate: float | None
    asked: int
    sent: int
    answered: int
    errors: Mapping[str, int]
    seconds: float
    first_token: Latency | None
    per_token: Latency | None
    whole: Latency | None
    requests_per_second: Rate
    tokens_per_second: Rate | None
    tokens: int | None
    prompt_tokens: int | None
    uncounted: int
    in_one_piece: int
    goodput: float | None
    within: float | None
    within_interval: Interval | None
    asked_before: int

    @property
    def failed(self) -> int:
        """Requests without a whole reply, those that were not sent any more among them."""
        return self.asked - self.answered

    @property
    def load(self) -> float:
        return float(self.at_once if self.at_once is not None else self.rate or 0)

    @property
    def power(self) -> float:
        """Requests a second by seconds of a whole reply."""
        return self.requests_per_second.value / self.whole.mean if self.whole and self.whole.mean else 0.0


def rung_of(
    replies: Sequence[TimedReply],
    asked: int,
    limits: Mapping[str, float],
    *,
    at_once: int | None,
    rate: float | None,
    asked_before: int,
) -> Rung:
    """What the replies to one load say. limits: seconds that a reply may take, by `ttft`, `tpot`, `e2el`."""
    whole = [reply for reply in replies if not reply.error]
    start = min((reply.sent for reply in replies), default=0.0)
    seconds = max((reply.ended for reply in replies), default=0.0) - start
    uncounted = sum(reply.tokens is None for reply in whole)
    counted = bool(whole) and not uncounted
    prompts = [reply.prompt_tokens for reply in whole]
    good = sum(_is_within(reply, limits) for reply in whole)
    return Rung(
        at_once=at_once,
        rate=rate,
        asked=asked,
        sent=len(replies),
        answered=len(whole),
        errors=dict(Counter(reply.error for reply in replies if reply.error).most_common()),
        seconds=seconds,
        first_token=latency_of([reply.first for reply in whole]),
        per_token=latency_of([reply.per_token for reply in whole]),
        whole=latency_of([reply.whole for reply in whole]),
        requests_per_second=_rate([(reply.ended - start, 1.0) for reply in whole], seconds),
        tokens_per_second=_rate([each for reply in whole for each in _tokens(reply, start)], seconds)
        if counted
        else None,
        tokens=sum(reply.tokens or 0 for reply in whole) if counted else None,
        prompt_tokens=sum(each or 0 for each in prompts) if prompts and None not in prompts else None,
        uncounted=uncounted,
        in_one_piece=sum((reply.tokens or 0) > 1 and len(set(reply.pieces)) == 1 for reply in whole),
        goodput=(good / seconds if seconds else 0.0) if limits else None,
        within=good / len(replies) if limits and replies else None,
        within_interval=wilson_interval(good / len(replies), len(replies)) if limits and replies else None,
        asked_before=asked_before,
    )


def latency_of(seconds: Sequence[float | None]) -> Latency | None:
    """Of those that are known; None where none is."""
    values = np.array([each for each in seconds if each is not None], dtype=np.float64)
    if not len(values):
        return None
    mean = mean_estimate(values)
    median, p90, p99 = (float(each) for each in np.percentile(values, [50, 90, 99]))
    return Latency(
        len(values),
        mean.value,
        mean.interval,
        median,
        quantile_interval(values, 0.5),
        p90,
        p99,
        quantile_interval(values, 0.99),
    )


def knee(rungs: Sequence[Rung]) -> Rung | None:
    """The load with the greatest power, requests a second by seconds of a reply: below it more load brings more than
    it costs, above it less (L. Kleinrock, Power and deterministic rules of thumb for probabilistic problems in computer
    communications, ICC 1979). None where it is the greatest load asked, so that the knee may lie above, and of fewer
    than three loads.
    """
    measured = sorted((rung for rung in rungs if rung.answered), key=lambda rung: rung.load)
    if len(measured) < LEAST_FOR_KNEE:
        return None
    best = max(measured, key=lambda rung: rung.power)
    return None if best is measured[-1] else best


def _is_within(reply: TimedReply, limits: Mapping[str, float]) -> bool:
    single = reply.tokens is not None and reply.tokens < 2
    took: Mapping[str, float | None] = {
        "ttft": reply.first,
        "tpot": 0.0 if single else reply.per_token,
        "e2el": reply.whole,
    }
    return all((seconds := took[name]) is not None and seconds <= limit for name, limit in limits.items())


def _tokens(reply: TimedReply, start: float) -> list[tuple[float, float]]:
    """(moment, tokens) of each piece: a reply's tokens, spread evenly over its pieces."""
    share = (reply.tokens or 0) / len(reply.pieces) if reply.pieces else 0.0
    return [(piece - start, share) for piece in reply.pieces]


def _rate(events: Sequence[tuple[float, float]], seconds: float) -> Rate:
    """events: (moment, how many)."""
    if seconds <= 0:
        return Rate(0.0, None)
    value = math.fsum(size for _, size in events) / seconds
    if len(events) < 2 * PARTS:
        return Rate(value, None)
    moments, sizes = np.array(events, dtype=np.float64).T
    sums, _ = np.histogram(moments, bins=PARTS, range=(0.0, seconds), weights=sizes)
    error = float(np.std(sums * PARTS / seconds, ddof=1)) / math.sqrt(PARTS)
    margin = student_t_quantile(0.5 + LEVEL / 2, PARTS - 1) * error
    return Rate(value, (max(0.0, value - margin), value + margin))
