"""When a server is asked again: what may pass, how long to wait, and when it is enough.

    policy = RetryPolicy(retries=3, delay=1.0, total=300.0)
    rows = policy.call(ask)  # `ask` raises `Retryable` for what may work later

Files from the web, both hubs and models behind an API are asked under this one policy. Who waits otherwise than by
`time.sleep` goes through `policy.attempts()` itself.
"""

from __future__ import annotations

import math
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from harness.errors import UsageError
from harness.quick import dataclass

DELAY_VARIABLE = "HARNESS_RETRY_DELAY"
LONGEST_PAUSE = 60.0
LONGEST_THROTTLED = 8.0
"""Seconds. Fewer requests bring a busy server relief; one that waits on need not wait long."""
_UNITS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds", "毫秒"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒", "秒钟"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "分", "分钟"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours", "小时"), 3600.0),
    **dict.fromkeys(("d", "day", "days", "天"), 86400.0),
}
_NAMES = "|".join(sorted(_UNITS, key=len, reverse=True))
_SPAN = rf"(?:\d+(?:\.\d+)?\s*(?:{_NAMES})(?![a-z])\s*)+"
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*({_NAMES})(?![a-z])", re.I)
_IN_WORDS = re.compile(
    rf"(?:(?:try again|retry|wait|available|resets?)\D{{0,24}}?({_SPAN}))|(?:({_SPAN})\s*(?:之?后|以后))", re.I
)
_USED_UP = re.compile(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
# Above them a number is no span but a moment since 1970, in seconds or milliseconds.
_EPOCH, _EPOCH_MS = 1e9, 1e12
_Answer = TypeVar("_Answer")


class Retryable(Exception):
    """A failure that may pass. `pause`: for how many seconds the server asks to wait, None where it says nothing.
    `throttled`: the server works, and wants fewer requests."""

    def __init__(self, message: str, *, pause: float | None = None, throttled: bool = False) -> None:
        super().__init__(message)
        self.pause = pause
        self.throttled = throttled


class RetriesExhausted(Exception):
    """A question is given up. Its text is the last failure's, which is its `__cause__`."""

    def __init__(self, failure: Retryable, attempts: Attempts) -> None:
        asked = attempts.asked_too_much
        super().__init__(str(failure) if asked is None else f"{failure}; it asks to wait {asked:.0f} s")
        self.attempts = attempts.number


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long one question is asked again. All times are seconds.

    retries: failures beyond the first. To be asked for fewer requests is none, for as long as `total` lasts. delay:
    before the first retry; it doubles from then on. Where the server names a time (`asked_pause`), that time counts.
    total: what all pauses may take together, and attempts where they are counted (`Attempts.spend`); a server that
    asks to wait beyond it is not waited for.
    """

    retries: int = 3
    delay: float = 1.0
    total: float = 300.0

    @staticmethod
    def for_data() -> RetryPolicy:
        """The policy of files and hubs, with `HARNESS_RETRY_DELAY` seconds before the first retry.

        Only its pauses count: a transfer that breaks after an hour is taken up where it broke.
        """
        value = os.environ.get(DELAY_VARIABLE, "1")
        delay = _scaled(value, 1.0)
        if delay is None or delay < 0:
            raise UsageError(f"{DELAY_VARIABLE}={value}: is no number of seconds")
        return RetryPolicy(delay=delay)

    def attempts(self) -> Attempts:
        """A fresh count, for one question."""
        return Attempts(self)

    def call(self, ask: Callable[[], _Answer]) -> _Answer:
        """What `ask` returns, asked again while it raises `Retryable`. Raises `RetriesExhausted`."""
        attempts = self.attempts()
        while True:
            try:
                return ask()
            except Retryable as error:
                pause = attempts.failed(error.pause, throttled=error.throttled)
                if pause is None:
                    raise RetriesExhausted(error, attempts) from error
                time.sleep(pause)

    def pause(self, number: int, asked: float | None, *, throttled: bool) -> float:
        """Seconds before retry `number` (from 0): as the server asks, else longer each time; never all at once."""
        if asked is not None:
            return asked + (min(self.delay, 0.2) + 0.1 * asked) * random.random()
        longest = LONGEST_THROTTLED if throttled else LONGEST_PAUSE
        return min(longest, self.delay * 2.0 ** min(number, 30)) * random.uniform(0.5, 1.0)


class Attempts:
    """The attempts at one question: the `number` that failed, and how many seconds are `left`.

    asked_too_much: the seconds that the server asked to wait, where nothing but that was too long.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self.number = 0
        self.left = policy.total
        self.asked_too_much: float | None = None

    def spend(self, seconds: float) -> None:
        """An attempt took so long, and that counts."""
        self.left -= seconds

    def failed(self, asked: float | None = None, *, throttled: bool = False) -> float | None:
        """Note that an attempt failed. Seconds to wait before the next one, or None where it is enough.

        asked: seconds that the server asks to wait. throttled: it works, and wants fewer requests.
        """
        self.number += 1
        self._failures += not throttled
        pause = self._policy.pause(self.number - 1 if throttled else self._failures - 1, asked, throttled=throttled)
        if self._failures <= self._policy.retries and pause < self.left:
            self.left -= pause
            return pause
        if asked is not None and asked >= self.left and self._failures <= self._policy.retries:
            self.asked_too_much = asked
        return None


def may_pass(status: int) -> bool:
    """Whether the same question may have an answer later, by its HTTP status.

    409: what it conflicts with passes (a session in use). 425: it came too early (RFC 8470). 499: a proxy's word for
    one that was given up on its way.
    """
    return status in (408, 409, 425, 429, 499) or status >= 500


def is_throttling(status: int, pause: float | None) -> bool:
    """Whether a status asks for fewer requests. 529: overloaded (Anthropic). A 503 that names a time is a server that
    is there, and busy."""
    return status in (429, 529) or (status == 503 and pause is not None)


def asked_pause(headers: Mapping[str, str], message: str) -> float | None:
    """Seconds until the next try, as the server wishes; None where it says nothing.

    `Retry-After` (RFC 9110, section 10.2.3), then `retry-after-ms`, then `RateLimit` of a limit that is used up (the
    IETF's draft "RateLimit header fields for HTTP"), then "try again in 36s" in the message of the error, then
    `x-ratelimit-reset-*` of whichever limit is used up.
    """
    known = {name.lower(): value.strip() for name, value in headers.items()}
    in_words = _IN_WORDS.search(message)
    now = _now(known)
    wishes = (
        _seconds_until(known.get("retry-after", ""), now),
        _scaled(known.get("retry-after-ms", ""), 0.001),
        max(map(float, _USED_UP.findall(known.get("ratelimit", ""))), default=None),
        _span(in_words[1] or in_words[2]) if in_words else None,
        _reset(known, now),
    )
    return next((max(0.0, seconds) for seconds in wishes if seconds is not None), None)


def _now(headers: Mapping[str, str]) -> float:
    """Seconds since 1970 by the clock of the server, which its moments are of: ours may be wrong, or be set."""
    moment = _moment(headers["date"]) if "date" in headers else None
    return time.time() if moment is None else moment


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """The longest of the resets; where the server says which limits are used up, of those alone."""
    resets: dict[str, float] = {}
    for name, value in headers.items():
        if "ratelimit" not in name.replace("-", "") or "reset" not in name:
            continue
        if (seconds := _seconds_until(value, now)) is not None:
            resets[name] = seconds
    used_up = [s for name, s in resets.items() if headers.get(name.replace("reset", "remaining"), "").strip() == "0"]
    return max(used_up or resets.values(), default=None)


def _seconds_until(value: str, now: float) -> float | None:
    """Seconds to come of `7`, `1m30s`, a date of HTTP, or a moment since 1970 in seconds or milliseconds."""
    number = _scaled(value, 1.0)
    if number is not None:
        moment = number / 1000 if number > _EPOCH_MS else number
        return moment - now if number > _EPOCH else number
    if re.fullmatch(_SPAN, value, re.I):
        return _span(value)
    date = _moment(value)
    return None if date is None else date - now


def _moment(date: str) -> float | None:
    """Seconds since 1970 of a date of HTTP."""
    from email.utils import parsedate_to_datetime  # as long to import as the rest of this module, and rarely needed

    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _span(text: str) -> float:
    """Seconds of `36s`, `1m30.5s`, `120ms`, `2 minutes`, `30秒`."""
    return math.fsum(float(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(text))


def _scaled(value: str, factor: float) -> float | None:
    """The finite number that a text is, times `factor`."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number * factor if math.isfinite(number) else None
