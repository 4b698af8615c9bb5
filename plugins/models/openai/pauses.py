"""For how long a server asks to wait: its headers, or the words of its error."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping

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
# What a reset header counts from: seconds to come, or a moment since 1970 in seconds or milliseconds.
_EPOCH, _EPOCH_MS = 1e9, 1e12


def asked_pause(headers: Mapping[str, str], message: str) -> float | None:
    """Seconds until the next try, as the server wishes; None where it says nothing.

    `Retry-After` (RFC 9110, section 10.2.3), then `retry-after-ms`, then "try again in 36s", then `x-ratelimit-reset-*`
    of whichever limit is used up.
    """
    known = {name.lower(): value.strip() for name, value in headers.items()}
    for found in (
        _retry_after(known.get("retry-after")),
        _scaled(known.get("retry-after-ms"), 0.001),
        _in_words(message),
        _reset(known),
    ):
        if found is not None:
            return max(0.0, found)
    return None


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    seconds = _scaled(value, 1.0)
    if seconds is not None:
        return seconds
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _in_words(message: str) -> float | None:
    found = _IN_WORDS.search(message)
    return _span(found[1] or found[2]) if found else None


def _reset(headers: Mapping[str, str]) -> float | None:
    """The longest of the resets; where the server says which limits are used up, of those alone."""
    resets: dict[str, float] = {}
    for name, value in headers.items():
        if "ratelimit" in name.replace("-", "") and "reset" in name and (seconds := _moment(value)) is not None:
            resets[name] = seconds
    used_up = [s for name, s in resets.items() if headers.get(name.replace("reset", "remaining"), "").strip() == "0"]
    return max(used_up or resets.values(), default=None)


def _moment(value: str) -> float | None:
    number = _scaled(value, 1.0)
    if number is None:
        return _span(value) if re.fullmatch(_SPAN, value, re.I) else _retry_after(value)
    if number > _EPOCH_MS:
        return number / 1000 - time.time()
    return number - time.time() if number > _EPOCH else number


def _span(text: str) -> float | None:
    """`36s`, `1m30.5s`, `120ms`, `2 minutes`, `30秒`."""
    parts = _PART.findall(text)
    return math.fsum(float(number) * _UNITS[unit.lower()] for number, unit in parts) if parts else None


def _scaled(value: str | None, factor: float) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number * factor if math.isfinite(number) else None
