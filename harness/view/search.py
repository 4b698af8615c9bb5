"""A search in the index of words: where the words stand, read in parts, and only as far as somebody looks.

search = Search(connection, "network 网络", first=0, last=1_000_000)
for places in search.parts():
    ...
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.view.filters import EMOJI, phrases_of

if TYPE_CHECKING:
    from harness.view.columns import Mask, Places

_PREFIXES = 3
"""Beginnings of words of so many characters have lists of their own: without them, a search for one letter would put
together the lists of all words that begin with it."""
WORDS = f"""CREATE VIRTUAL TABLE words USING fts5(
    text, content='', tokenize="unicode61 tokenchars '{EMOJI}'", prefix='{" ".join(map(str, range(1, _PREFIXES + 1)))}'
)"""
TERMS = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.terms USING fts5vocab('main', 'words', 'row')"
"""The words that the index has; a table of the connection alone."""
_FOUND = "SELECT rowid FROM words WHERE words MATCH ?"
_PARTS = (20_000, 100_000, 500_000)
"""How many samples are looked up at a time, enough for a page of a common word first; then all others."""
_MOST_TERMS = 16


def expression(connection: sqlite3.Connection, text: str) -> str:
    """The words of a search as FTS5 has them, all of which a sample has to hold; `comput` finds `computer`.

    Samples with a word that may go on are all looked up before the first is known, those with one of several words are
    not: so the words themselves are named where they are few.
    """
    found = []
    for phrase, word in phrases_of(text):
        terms = [word, *_longer(connection, word)] if len(word) > _PREFIXES else []
        if terms and len(terms) <= _MOST_TERMS:
            found.append("(" + " OR ".join(f'"{term}"' for term in terms) + ")")
        else:
            found.append(phrase)
    return " AND ".join(found) or '""'  # which matches nothing


def _longer(connection: sqlite3.Connection, word: str) -> Sequence[str]:
    """Words of the index that begin with this one; of many, more than may be named."""
    query = f"SELECT term FROM temp.terms WHERE term >= ? AND term <= ? LIMIT {_MOST_TERMS}"
    return [term for (term,) in connection.execute(query, [f"{word}\0", f"{word}\U0010ffff"])]


class Search:
    """The samples that hold some words, between two places of the index; what was found is kept."""

    def __init__(self, connection: sqlite3.Connection, text: str, first: int, last: int) -> None:
        self._connection, self._expression = connection, expression(connection, text)
        self._from, self._last = first, last
        self._known: list[Places] = []
        self._is_done = False

    def parts(self, *, whole: bool = False) -> Iterator[Places]:
        """The places of the samples, ascending, in parts. whole: all will be wanted."""
        yield from self._known
        while not self._is_done:
            self._known.append(self._more(whole=whole))
            yield self._known[-1]

    def _more(self, *, whole: bool) -> Places:
        import numpy as np

        limit = -1 if whole or len(self._known) >= len(_PARTS) else _PARTS[len(self._known)]
        query = f"SELECT group_concat(rowid) FROM ({_FOUND} AND rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?)"
        (text,) = self._connection.execute(query, [self._expression, self._from, self._last, limit]).fetchone()
        places = np.fromstring(text or "", np.int64, sep=",") - 1
        self._is_done = limit < 0 or len(places) < limit
        if len(places):
            self._from = int(places[-1]) + 1
        return places


def nearest(connection: sqlite3.Connection, text: str, wanted: Mask, n: int, *, before: bool) -> int | None:
    """The number of the sample nearest before or after one that holds some words and is wanted (by its place)."""
    here = wanted[: n - 1] if before else wanted[n:]
    if not here.any():
        return None
    first, last = int(here.argmax()), len(here) - 1 - int(here[::-1].argmax())
    start = 1 if before else n + 1
    query = f"{_FOUND} AND rowid BETWEEN ? AND ? ORDER BY rowid {'DESC' if before else 'ASC'}"
    found = connection.execute(query, [expression(connection, text), start + first, start + last])
    return next((number for (number,) in found if wanted[number - 1]), None)
