"""Which samples of a run's index are looked at: filters as SQL, and the words of a search as its index has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Chinese has no spaces: each character is a word of the index, and a search for several of them is one for a phrase.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SEAMS = re.compile(rf"(?<=[{_CJK}])(?=\w)|(?<=\w)(?=[{_CJK}])")
_ENDS_IN_CJK = re.compile(rf"[{_CJK}]$")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which samples are looked at. Empty means any. text: words that the prompt or the answer holds.

    tasks: those of an ability. least, most: characters of the reply, ends included.
    """

    task: str = ""
    subset: str = ""
    kind: str = ""
    answer: str = ""
    text: str = ""
    cut: bool = False
    tasks: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None

    @property
    def is_counted(self) -> bool:
        """Whether how many there are was counted when the index was made."""
        return not (self.text or self.answer or self.cut) and self.least is None and self.most is None


def separated(text: str) -> str:
    """The text with each character of Chinese as a word of its own, as the index of words holds it."""
    return _SEAMS.sub(" ", text)


def _query(text: str) -> str:
    """Words of a search as FTS5 has them: runs of Chinese are phrases, others may go on (`comput` finds `computer`)."""
    phrases = []
    for word in _WORD.findall(text):
        phrases.append(f'"{_SEAMS.sub(" ", word)}"' + ("" if _ENDS_IN_CJK.search(word) else "*"))
    return " ".join(phrases)


def where_of(filters: Filters, more: str = "") -> tuple[str, list[str | int]]:
    """The condition on columns, and its values; words are no part of it."""
    conditions: list[str] = []
    values: list[str | int] = []
    for column in ("task", "subset", "kind", "answer"):
        if value := getattr(filters, column):
            conditions.append(f"{column} = ?")
            values.append("" if value == WHOLE_SUBSET else value)
    if filters.tasks:
        conditions.append(f"task IN ({', '.join('?' * len(filters.tasks))})")
        values += filters.tasks
    for bound, condition in ((filters.least, "size >= ?"), (filters.most, "size <= ?")):
        if bound is not None:
            conditions.append(condition)
            values.append(bound)
    conditions += [condition for condition in (filters.cut and "cut", more) if condition]
    return f"WHERE {' AND '.join(conditions)}" if conditions else "", values


def rows_of(filters: Filters, more: str = "") -> tuple[str, list[str | int]]:
    """What stands behind FROM for the samples that the filters leave, and its values; the last is that of `more`.

    The index of words hands out its rows in their order, so that a page of the commonest word reads but that page.
    """
    where, values = where_of(filters, more)
    if not filters.text:
        return f"samples {where}", values
    query = _query(filters.text)
    if not query:
        return f"samples {where}{' AND' if where else 'WHERE'} 0", values
    joined = "words CROSS JOIN samples ON samples.n = words.rowid WHERE words MATCH ?"
    return f"{joined}{where.replace('WHERE', ' AND', 1)}", [query, *values]


def place_of(filters: Filters) -> str:
    """The column by which samples stand in the order of the file, in `rows_of`."""
    return "words.rowid" if filters.text and _query(filters.text) else "samples.n"


WHOLE_SUBSET = "-"
"""Stands in a filter for the subset without a name."""
