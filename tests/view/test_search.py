"""A search in the index of words finds what the words say, however its parts are cut."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np
import pytest

from harness.view import search
from harness.view.filters import separated

TEXTS = [
    "Which computer?",
    "which network",
    "whichever computes",
    "计算机 network",
    "网络 which",
    "computer which GPT-4o",
    "好😀👍 done😀",
]
TEXTS += [f"word{n}" for n in range(40)]


@pytest.fixture
def connection() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:")
    made.execute(search.WORDS)
    made.executemany(
        "INSERT INTO words(rowid, text) VALUES(?, ?)", [(n, separated(text)) for n, text in enumerate(TEXTS, 1)]
    )
    made.execute(search.TERMS)
    return made


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("which", [0, 1, 2, 4, 5]),
        ("COMPUT which", [0, 2, 5]),
        ("网络", [4]),
        ("计算", [3]),
        ("网络 wh", [4]),
        ("gpt 4", [5]),
        ("word", list(range(7, 47))),
        ("wo", list(range(7, 47))),
        ("word3", [10, *range(37, 47)]),
        ("c", [0, 2, 5]),
        ("w c", [0, 2, 5]),
        ("😀", [6]),
        ("😀👍", [6]),
        ("👍😀", []),
        ("don", [6]),
        ('" OR word1', []),
        ("nothing", []),
        ("?!", []),
    ],
)
@pytest.mark.parametrize("parts", [(20_000,), (1, 2)])
@pytest.mark.parametrize("whole", [False, True])
def test_words_are_found_in_parts_and_at_once(
    connection: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    found: Sequence[int],
    parts: tuple[int, ...],
    whole: bool,
) -> None:
    monkeypatch.setattr(search, "_PARTS", parts)
    looked = search.Search(connection, text, 0, len(TEXTS))
    assert [place for some in looked.parts(whole=whole) for place in some.tolist()] == found
    assert [place for some in looked.parts() for place in some.tolist()] == found
    wanted = np.array([place != 4 for place in range(len(TEXTS))])
    sides = [search.nearest(connection, text, wanted, 4, before=before) for before in (True, False)]
    assert sides[0] == max((place + 1 for place in found if place < 3), default=None)
    assert sides[1] == min((place + 1 for place in found if place > 4), default=None)
    assert search.nearest(connection, text, wanted & False, 4, before=True) is None


def test_a_search_keeps_to_its_places(connection: sqlite3.Connection) -> None:
    looked = search.Search(connection, "which", 1, 5)
    assert [place for some in looked.parts() for place in some.tolist()] == [1, 2, 4]
