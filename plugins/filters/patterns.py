"""Filters for benchmarks whose authors read answers with patterns: the first that occurs, or all that one finds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import find_all


class FirstPattern(Filter):
    """What the first of `patterns` that occurs in a reply captures; None where none of them occurs.

    Each pattern has one group (Python's `re`, with `^` and `$` at line ends). `take`: which occurrence of that
    pattern counts, `first` or `last`, or `all` of them, joined.
    """

    name = "first_pattern"

    def __init__(self, patterns: Sequence[str], take: str = "first") -> None:
        if take not in ("first", "last", "all"):
            raise ValueError(f"take is '{take}'; it must be 'first', 'last' or 'all'")
        self._patterns = [re.compile(pattern, re.MULTILINE) for pattern in patterns]
        for pattern in self._patterns:
            if pattern.groups != 1:
                raise ValueError(f"pattern '{pattern.pattern}' has {pattern.groups} groups; it must have one")
        self._taken = {"first": slice(1), "last": slice(-1, None), "all": slice(None)}[take]

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._read(reply) for reply in replies]

    def _read(self, reply: str) -> str | None:
        for pattern in self._patterns:
            if matches := find_all(pattern, reply):
                return "".join(map(str, matches[self._taken]))
        return None


class FindAll(Filter):
    """All that `pattern` (or its one group) finds in a reply, joined by `separator`; None where it finds nothing.

    as_set: each finding once, sorted, for questions with several right letters in any order. once: each finding once,
    in the order in which they occur. at_most: only so many.
    """

    name = "find_all"

    def __init__(
        self,
        pattern: str,
        separator: str = " ",
        as_set: bool = False,
        at_most: int | None = None,
        once: bool = False,
    ) -> None:
        self._pattern = re.compile(pattern, re.MULTILINE)
        if self._pattern.groups > 1:
            raise ValueError(f"pattern '{pattern}' has {self._pattern.groups} groups; it must have one, or none")
        self._separator = separator
        self._as_set = as_set
        self._once = once
        self._at_most = at_most

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._read(reply) for reply in replies]

    def _read(self, reply: str) -> str | None:
        matches = find_all(self._pattern, reply)
        if self._as_set:
            matches = sorted(set(matches))
        elif self._once:
            matches = list(dict.fromkeys(matches))
        return self._separator.join(matches[: self._at_most]) or None


class NumberBehind(Filter):
    """The last number behind the last place at which a reply has a mark; None where it has neither.

    A number is digits, perhaps with decimals: commas within it, its sign, zeros at the end of its decimals and a full
    stop behind it are left out, as simple-evals reads MGSM (openai/simple-evals, mgsm_eval.py, `parse_answer` and
    `score_mgsm`). field: of the subset, which holds the mark.
    """

    name = "number_behind"

    def __init__(self, field: str) -> None:
        self._field = field

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        mark = str(sample.subset_fields[self._field])
        return [None if reply is None else self._read(reply, mark) for reply in replies]

    def _read(self, reply: str, mark: str) -> str | None:
        _, found, rest = reply.rpartition(mark)
        numbers = re.findall(r"\d+\.?\d*", rest.replace(",", "")) if found else []
        if not numbers:
            return None
        whole, _, decimals = numbers[-1].partition(".")
        decimals = decimals.rstrip("0")
        return f"{whole}.{decimals}" if decimals else whole


class ChoicePattern(Filter):
    """lm-eval's `multi_choice_regex`: the letter `(A)` that a reply names, by a pattern, by an option's text, or behind
    a colon. `fallback`: the answer where it names none; left out, such a reply is unparsed.

    The options are the row's column `choices`. First the `group_select`th match of `regex_pattern` counts; then the
    `group_select`th option whose text the reply holds (blanks around it, case, punctuation and `regexes_to_ignore` left
    out as asked); then the `group_select`th `: A`. The rules are those of lm-eval's filters/extraction.py.
    """

    name = "multi_choice_regex"

    def __init__(
        self,
        regex_pattern: str = r"#### (\-?[0-9\.\,]+)",
        group_select: int = 0,
        fallback: str | None = None,
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
        regexes_to_ignore: Sequence[str] | None = None,
    ) -> None:
        self._pattern = re.compile(regex_pattern)
        self._place = group_select
        self._fallback = fallback
        self._ignore_case = ignore_case
        self._ignore_punctuation = ignore_punctuation
        self._ignored = [re.compile(pattern) for pattern in regexes_to_ignore or ()]

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        choices = sample.doc.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
            raise ValueError("the row has no column 'choices' with a list of texts, which this filter looks for")
        letters = [chr(ord("A") + number) for number in range(len(choices))]
        texts = {self._bare(choice.strip()): f"({letter})" for letter, choice in zip(letters, choices, strict=True)}
        # The longest first: an option that another one begins with must not hide it.
        named = re.compile("|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True)))
        after_colon = re.compile(rf":[\s]*({'|'.join(letters)})")

        def read(reply: str) -> str | None:
            if found := self._find(self._pattern, reply):
                return found
            if found := self._find(named, self._bare(reply)):
                return texts.get(found, found)
            if found := self._find(after_colon, reply):
                return f"({found})"
            return self._fallback

        return [None if reply is None else read(reply) for reply in replies]

    def _find(self, pattern: re.Pattern[str], reply: str) -> str:
        matches = find_all(pattern, reply)
        if not -len(matches) <= self._place < len(matches):
            return ""
        match = matches[self._place]
        if isinstance(match, tuple):
            match = next((part for part in match if part), "")
        return str(match).strip()

    def _bare(self, text: str) -> str:
        for pattern in self._ignored:
            text = pattern.sub("", text)
        if self._ignore_case:
            text = text.lower()
        if self._ignore_punctuation:
            text = "".join(sign for sign in text if not unicodedata.category(sign).startswith("P"))
        return text


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [ChoicePattern, FindAll, FirstPattern, NumberBehind]
