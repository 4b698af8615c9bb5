"""A filter for benchmarks whose authors read answers with a list of patterns, tried one after another."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness import Filter, Sample, hookimpl


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
            if found := pattern.findall(reply):
                return str(found[self._place])
        return None


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [FirstPattern]
