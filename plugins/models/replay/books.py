"""Recorded answers by the id of their row: memory holds 20 bytes of each, the answers themselves lie in a file."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import Response

if TYPE_CHECKING:
    from harness.data import Spool


@dataclass(frozen=True, slots=True)
class Entry:
    """What was recorded for one row, under one id. `row` holds hashes of the row's plain fields, to notice another
    row."""

    name: str
    responses: tuple[Response, ...]
    row: Mapping[str, int]


class Entries:
    """Id -> `Entry`. All are added first; then `settle`, and look them up.

    kept: where entries lie, those of all books together.
    """

    def __init__(self, kept: Spool[Entry]) -> None:
        self._kept = kept
        self._hashes, self._places = array("q"), array("I")

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def add(self, entry: Entry) -> None:
        self._hashes.append(hash(entry.name))
        self._places.append(len(self._kept))
        self._kept.append(entry)

    def settle(self, *, last_counts: bool = False) -> str | None:
        """Leave one entry of each id: the first, or the last where that counts. Returns the first id, in the order in
        which they came, of which a later entry has other answers."""
        import numpy as np

        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        order = np.argsort(hashes, kind="stable")
        hashes, places = hashes[order], np.frombuffer(self._places, dtype=np.uint32)[order]
        is_kept = np.ones(len(hashes), dtype=bool)
        conflicts: dict[int, str] = {}
        again = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        for stretch in _stretches(again.tolist()):
            known: dict[str, tuple[int, tuple[Response, ...]]] = {}
            for at in stretch:
                entry = self._kept[places[at]]
                before, answers = known.setdefault(entry.name, (at, entry.responses))
                if before == at:
                    continue
                if answers != entry.responses:
                    conflicts[int(places[at])] = entry.name
                is_kept[before if last_counts else at] = False
                if last_counts:
                    known[entry.name] = at, entry.responses
        self._hashes, self._places = array("q", hashes[is_kept].tobytes()), array("I", places[is_kept].tobytes())
        return conflicts[min(conflicts)] if conflicts else None

    def get(self, name: str) -> Entry | None:
        wanted = hash(name)
        at = bisect.bisect_left(self._hashes, wanted)
        while at < len(self._hashes) and self._hashes[at] == wanted:
            entry = self._kept[self._places[at]]
            if entry.name == name:
                return entry
            at += 1
        return None


def _stretches(again: list[int]) -> Iterator[range]:
    """Places that have the same hash, given those that have the hash of the place before them."""
    for _, alike in itertools.groupby(enumerate(again), key=lambda pair: pair[1] - pair[0]):
        places = [place for _, place in alike]
        yield range(places[0] - 1, places[-1] + 1)


@dataclass(slots=True)
class Book:
    """The answers of one file, or of one subset in a run folder, by the recorded id.

    `names` are the names under which a subset may ask for it; empty where it serves all. `id_field` is the field of the
    records that named them; None where they are numbered. `by_repeat`: an entry has an answer a repeat, not a request.
    """

    source: str
    entries: Entries
    task: str | None = None
    subset: str | None = None
    names: frozenset[str] = frozenset()
    id_field: str | None = None
    by_repeat: bool = True
