"""Searches with patterns that somebody gives in a task file, which must not hold up a run for ever.

    find_all(re.compile(r"(a+)+b"), "a" * 40)        # Undecided: no end within 10 s of processor time

Most patterns cannot take long on a reply of usual length, and are searched here. Others go to a process of their own.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from harness.errors import Undecided
from harness.limited import LimitedWorker, serve

SECONDS = 10.0
_MOST_STEPS = 2e8  # that a search may take in the worst case and still be done here
_MOST_CHARACTERS = 100_000_000
_GROUP = re.compile(r"\\(?:\d|g<)")
_QUANTIFIER = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
_worker = LimitedWorker("harness.patterns", "searches with patterns")


def find_all(pattern: re.Pattern[str], text: str) -> list[Any]:
    """What `pattern.findall(text)` gives. Raises `Undecided` where the search comes to no end."""
    if _is_quick(pattern, text):
        return pattern.findall(text)
    matches = _ask("find", pattern, text)
    return [tuple(groups) if isinstance(groups, list) else groups for groups in matches]


def replace_all(pattern: re.Pattern[str], replacement: str, text: str, count: int = 0) -> str:
    """What `pattern.sub(replacement, text, count)` gives.

    Raises `Undecided` where the search comes to no end, or its result may be longer than `_MOST_CHARACTERS`.
    """
    places = min(count or len(text) + 1, len(text) + 1)
    # A group stands for a part of the text, and behind a look-ahead the same part may be found at each place again.
    groups = len(_GROUP.findall(replacement)) * len(text) * (places if "(?=" in pattern.pattern else 1)
    if len(text) + places * len(replacement) + groups > _MOST_CHARACTERS:
        raise Undecided(
            f"a replacement of {len(replacement):,} characters in a text of {len(text):,} may give more than "
            f"{_MOST_CHARACTERS:,} characters"
        )
    if _is_quick(pattern, text):
        return pattern.sub(replacement, text, count)
    return str(_ask("replace", pattern, text, replacement=replacement, count=count))


def _ask(what: str, pattern: re.Pattern[str], text: str, **more: Any) -> Any:
    request = {"what": what, "pattern": pattern.pattern, "flags": pattern.flags, "text": text, **more}
    try:
        return _worker.ask(request, SECONDS)["result"]
    except Undecided as error:
        shown = pattern.pattern if len(pattern.pattern) <= 60 else f"{pattern.pattern[:60]}..."
        raise Undecided(f"pattern '{shown}' on a text of {len(text)} characters: {error}") from None


def _is_quick(pattern: re.Pattern[str], text: str) -> bool:
    power = _power(pattern.pattern)
    return power is not None and float(len(text) + 1) ** (power + 1) <= _MOST_STEPS


@functools.lru_cache(maxsize=512)
def _power(pattern: str) -> int | None:
    """The power of a text's length with which the tries for a match at one place can grow; None where it may be more.

    Each repetition without an end can stop anywhere; with one inside of another there are exponentially many ways.
    """
    # A level of brackets: repetitions in the alternative at hand, the most in one, and whether there is any at all.
    levels = [[0, 0, 0]]
    at = 0
    closed: list[int] | None = None  # the group that has just ended
    while at < len(pattern):
        char = pattern[at]
        quantifier = _QUANTIFIER.match(pattern, at)
        if quantifier and at:
            endless = char in "*+" or (char == "{" and (quantifier[2] or int(quantifier[1] or 0) > 1))
            if closed and closed[2] and endless:
                return None
            levels[-1][0] += bool(endless)
            levels[-1][2] += 1
            at = quantifier.end()
        elif char == "\\":
            at += 2
        elif char == "[":
            end = pattern.find("]", at + (3 if pattern[at + 1 : at + 2] == "^" else 2))
            while end > 0 and pattern[end - 1] == "\\" and pattern[end - 2] != "\\":
                end = pattern.find("]", end + 1)
            at = len(pattern) if end < 0 else end + 1
        elif char == "(":
            levels.append([0, 0, 0])
            head = re.compile(r"\(\?(?:[:=!>]|<[=!]|P?<\w+>|[aiLmsux-]+[:)]|P=\w+\)|#[^)]*\))?").match(pattern, at)
            at = head.end() if head else at + 1
            if head and head.group().endswith(")"):
                levels.pop()
        elif char == "|":
            levels[-1][1] = max(levels[-1][:2])
            levels[-1][0] = 0
            levels[-1][2] += 1
            at += 1
        elif char == ")" and len(levels) > 1:
            closed = levels.pop()
            levels[-1][0] += max(closed[:2])
            levels[-1][2] += closed[2]
            at += 1
            continue
        else:
            at += 1
        closed = None
    return max(levels[0][:2])


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    pattern = re.compile(request["pattern"], request["flags"])
    if request["what"] == "replace":
        return {"result": pattern.sub(request["replacement"], request["text"], request["count"])}
    return {"result": pattern.findall(request["text"])}


if __name__ == "__main__":
    serve(_answer)
