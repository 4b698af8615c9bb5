"""Filters for benchmarks whose authors read answers with patterns: the first that occurs, or all that one finds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import find_all


class FirstPattern(Filter):
    """What the first of `patterns` that occurs in a reply captures; None where none of them occurs.

    Each pattern has one group (Python's `re`, with `^` and `$` at line ends). `take`: which occurrence of that
    pattern counts, `first` or `last`.
    """

    name = "first_pattern"

    def __init__(self, patterns: Sequence[str], take: str = "first") -> None:
        if take not in ("first", "last"):
            raise ValueError(f"take is '{take}'; it must be 'first' or 'last'")
        self._patterns = [re.compile(pattern, re.MULTILINE) for pattern in patterns]
        for pattern in self._patterns:
            if pattern.groups != 1:
                raise ValueError(f"pattern '{pattern.pattern}' has {pattern.groups} groups; it must have one")
        self._place = 0 if take == "first" else -1

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._read(reply) for reply in replies]

    def _read(self, reply: str) -> str | None:
        for pattern in self._patterns:
            if matches := find_all(pattern, reply):
                return str(matches[self._place])
        return None


class FindAll(Filter):
    """All that `pattern` (or its one group) finds in a reply, joined by `separator`; None where it finds nothing.

    as_set: each finding once, sorted, for questions with several right letters in any order. at_most: only so many.
    """

    name = "find_all"

    def __init__(self, pattern: str, separator: str = " ", as_set: bool = False, at_most: int | None = None) -> None:
        self._pattern = re.compile(pattern, re.MULTILINE)
        if self._pattern.groups > 1:
            raise ValueError(f"pattern '{pattern}' has {self._pattern.groups} groups; it must have one, or none")
        self._separator = separator
        self._as_set = as_set
        self._at_most = at_most

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._read(reply) for reply in replies]

    def _read(self, reply: str) -> str | None:
        matches = find_all(self._pattern, reply)
        if self._as_set:
            matches = sorted(set(matches))
        return self._separator.join(matches[: self._at_most]) or None


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [FindAll, FirstPattern]
