"""Regular expressions that are compiled at their first use."""

from __future__ import annotations

import copy
import re

import pytest

from harness.later_patterns import later_pattern


def test_it_does_what_a_pattern_does() -> None:
    pattern, plain = later_pattern(r"(?P<n>\d+)|(汉)", re.IGNORECASE), re.compile(r"(?P<n>\d+)|(汉)", re.IGNORECASE)
    text = "a1 汉 22"
    for _ in range(2):  # at the first use and after
        assert pattern.findall(text) == plain.findall(text)
        assert pattern.sub(r"<\1>", text) == plain.sub(r"<\1>", text)
        assert (pattern.pattern, pattern.flags, pattern.groups) == (plain.pattern, plain.flags, plain.groups)
    found = pattern.search(text, 4)
    assert found is not None and found["n"] == "22"
    assert copy.deepcopy(pattern).findall(text) == plain.findall(text)


def test_what_is_wrong_is_said_at_the_first_use() -> None:
    with pytest.raises(re.error, match="unterminated"):
        later_pattern("(").search("")
    with pytest.raises(AttributeError, match="no attribute 'sarch'"):
        later_pattern("a").sarch  # type: ignore[attr-defined]  # noqa: B018
