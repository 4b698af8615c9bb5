"""Filters that work on any text: patterns, case, white space, which of several replies. Names as lm-evaluation-harness
has them.

None stands for an answer that could not be read; it passes through every filter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import find_all

Replies = Sequence[str | None]


class _Each(Filter):
    """A filter that treats each reply on its own."""

    def apply(self, replies: Replies, sample: Sample) -> list[str | None]:
        return [None if reply is None else self.change(reply) for reply in replies]

    def change(self, reply: str) -> str | None:
        raise TypeError(f"filter '{self.name}' must define change")


class Regex(_Each):
    """The match number `group_select` of a pattern, stripped; of several groups, the first that is not empty.

    fallback: the answer where nothing matches. Left out, such a reply is unparsed.
    """

    name = "regex"

    def __init__(
        self, regex_pattern: str = r"#### (\-?[0-9\.\,]+)", group_select: int = 0, fallback: str | None = None
    ) -> None:
        self._pattern = re.compile(regex_pattern)
        self._select = group_select
        self._fallback = fallback

    def change(self, reply: str) -> str | None:
        matches = find_all(self._pattern, reply)
        if not -len(matches) <= self._select < len(matches):
            return self._fallback
        match = matches[self._select]
        if isinstance(match, tuple):
            match = next((group for group in match if group), None)
        return self._fallback if match is None else match.strip()


class RemoveWhitespace(_Each):
    """The reply without white space around it."""

    name = "remove_whitespace"

    def change(self, reply: str) -> str:
        return reply.strip()


class Strip(_Each):
    """The reply without white space, or without any of the characters in `chars`, around it."""

    name = "strip"

    def __init__(self, chars: str | None = None) -> None:
        self._chars = chars

    def change(self, reply: str) -> str:
        return reply.strip(self._chars)


class Lowercase(_Each):
    """The reply in lower case."""

    name = "lowercase"

    def change(self, reply: str) -> str:
        return reply.lower()


class Uppercase(_Each):
    """The reply in upper case."""

    name = "uppercase"

    def change(self, reply: str) -> str:
        return reply.upper()


class Map(_Each):
    """The value of the reply in `mapping_dict`, or `default_value`; without one, an unknown reply is unparsed."""

    name = "map"

    def __init__(self, mapping_dict: Mapping[object, object], default_value: object = None) -> None:
        if not isinstance(mapping_dict, Mapping):
            raise ValueError("mapping_dict must map replies to answers")
        # YAML reads `yes: 1` as (True, 1); replies are text, and so are answers.
        self._mapping = {str(key): _text(value) for key, value in mapping_dict.items()}
        self._default = _text(default_value)

    def change(self, reply: str) -> str | None:
        return self._mapping.get(reply, self._default)


class TakeFirst(Filter):
    """The first reply."""

    name = "take_first"
    joins = True

    def apply(self, replies: Replies, sample: Sample) -> Replies:
        return replies[:1]


class TakeFirstK(Filter):
    """The first `k` replies. A task with fewer `repeats` is an error."""

    name = "take_first_k"

    def __init__(self, k: int) -> None:
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        self._k = k

    def apply(self, replies: Replies, sample: Sample) -> Replies:
        if len(replies) < self._k:
            raise ValueError(f"there are {len(replies)} replies, fewer than k = {self._k}; raise the task's repeats")
        return replies[: self._k]


class MajorityVote(Filter):
    """The answer that most replies give; of equally frequent ones, the first. What could not be read has no vote."""

    name = "majority_vote"
    joins = True

    def apply(self, replies: Replies, sample: Sample) -> list[str | None]:
        votes = Counter(reply for reply in replies if reply is not None)
        return [votes.most_common(1)[0][0] if votes else None]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [Lowercase, MajorityVote, Map, Regex, RemoveWhitespace, Strip, TakeFirst, TakeFirstK, Uppercase]
