"""What filters and comparisons need of all samples of a run, as arrays: one over a million samples takes milliseconds,
whichever it is.

    columns = Columns(connection)
    places = columns.matching(Filters(kind="wrong", most=40))
    columns["size"][places]

A sample's place is its number in the index less one. The arrays lie in the index's own file, a piece for each batch of
lines that was read, and are read from there when they are needed.
"""

from __future__ import annotations

import functools
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.quick import dataclass
from harness.record.html import KINDS
from harness.view.filters import WHOLE_SUBSET, Filters, signs_of

Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
TYPES: Mapping[str, str] = {
    "task": "<i4", "subset": "<i4", "id": "<i8", "view": "<i4", "kind": "<i1", "score": "<f8", "cluster": "<i8",
    "clustered": "<i1", "row": "<u8", "answer": "<u8", "gold": "<u8", "short": "<i1", "confidence": "<f8",
    "chance": "<f8", "size": "<i4", "cut": "<i1", "signs": "<u4",
}  # fmt: skip
"""Column -> how its values lie in the file. task, subset: numbers of names. answer, gold: hashes of texts; short:
whether both are. cluster: see `cluster_number`; clustered: whether it is known. NaN where there is no score, confidence
or chance. signs: see `signs_in`."""
_TENTHS = 10
_LONGEST = 2**19
_MOST_LETTERS = 400


@functools.lru_cache(4096)
def text_number(text: str) -> int:
    """A number for a text, by which equal ones are found: 64 bits of its hash."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def write_piece(connection: sqlite3.Connection, start: int, rows: Sequence[Sequence[Any]]) -> None:
    """Keep the columns of a batch of samples. rows: values in the order of `TYPES`. start: the place of the first."""
    for (name, form), values in zip(TYPES.items(), zip(*rows, strict=True), strict=True):
        connection.execute("INSERT INTO columns VALUES(?, ?, ?)", [name, start, np.array(values, form).tobytes()])


@dataclass(frozen=True, slots=True)
class Pairs:
    """The samples of a task that two indexes both hold, in the order of the first. first, second: their places there.

    subset: numbers of names of the first. only_first, only_second: subset -> how many samples the other index lacks.
    """

    first: Places
    second: Places
    subset: Array
    only_first: Mapping[str, int]
    only_second: Mapping[str, int]


class Columns:
    """The columns of an index as they are now; each is read when it is first asked for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._read: dict[str, Array] = {}
        self._names: dict[str, dict[str, int]] = {"task": {}, "subset": {}}
        for kind, code, name in connection.execute("SELECT kind, code, name FROM names"):
            self._names[kind][name] = code

    def __getitem__(self, name: str) -> Array:
        if name not in self._read:
            (size,) = self._connection.execute(
                "SELECT coalesce(sum(length(data)), 0) FROM columns WHERE name = ?", [name]
            ).fetchone()
            column = np.empty(size // np.dtype(TYPES[name]).itemsize, TYPES[name])
            for start, piece in self._pieces(name):
                column[start : start + len(piece)] = piece
            self._read[name] = column
        return self._read[name]

    def at(self, name: str, places: Places) -> Array:
        """The values of a column at some places. Where those ascend, the whole of the column is never in memory."""
        if name in self._read or (len(places) and bool((places[1:] < places[:-1]).any())):
            return self[name][places]
        found, done = np.empty(len(places), TYPES[name]), 0
        for start, piece in self._pieces(name):
            end = int(np.searchsorted(places, start + len(piece)))
            found[done:end] = piece[places[done:end] - start]
            done = end
        return found

    def _pieces(self, name: str) -> Iterator[tuple[int, Array]]:
        """(place of the first, values) of each batch of lines that was read."""
        rows = self._connection.execute("SELECT start, data FROM columns WHERE name = ? ORDER BY start", [name])
        for start, data in rows:
            yield start, np.frombuffer(data, TYPES[name])

    @functools.cached_property
    def live(self) -> Mask:
        """Which samples are the last of their key, as in the record itself."""
        mask = np.ones(len(self["kind"]), np.bool_)
        gone = [n - 1 for (n,) in self._connection.execute("SELECT n FROM replaced")]
        mask[gone] = False
        return mask

    def names(self, kind: str) -> dict[str, int]:
        """Name -> its number, of `task` or `subset`."""
        return self._names[kind]

    def mask(self, filters: Filters) -> Mask:
        """Which samples the filters leave; of what is searched, the signs alone."""
        mask = self.live.copy()
        if filters.task or filters.tasks:
            for wanted in ((filters.task,) if filters.task else (), filters.tasks):
                if wanted:
                    mask &= np.isin(self["task"], [self._names["task"].get(name, -1) for name in wanted])
        if filters.subset:
            name = "" if filters.subset == WHOLE_SUBSET else filters.subset
            mask &= self["subset"] == self._names["subset"].get(name, -1)
        if filters.kind:
            mask &= self["kind"] == KINDS.index(filters.kind)
        if filters.answer:
            mask &= self["answer"] == np.uint64(text_number(filters.answer))
        if signs := np.uint32(signs_of(filters.text)):
            mask &= self["signs"] & signs == signs
        if filters.cut:
            mask &= self["cut"] != 0
        if filters.least is not None:
            mask &= self["size"] >= filters.least
        if filters.most is not None:
            mask &= self["size"] <= filters.most
        return mask

    def matching(self, filters: Filters) -> Places:
        """The places of the samples that the filters leave, ascending."""
        return np.flatnonzero(self.mask(filters))

    def kinds(self, places: Places) -> dict[str, int]:
        """Kind -> how many of the samples."""
        counts = np.bincount(self["kind"][places], minlength=len(KINDS)).tolist()
        return {kind: n for kind, n in zip(KINDS, counts, strict=True) if n}

    def ordered(self, places: Places, column: str, most: int, *, descending: bool) -> Places:
        """The first `most` of the samples by a column; those of equal value by place, and those without one last."""
        keys = self[column][places].astype(np.float64)
        if descending:
            keys, places = -keys[::-1], places[::-1]
        if most < len(keys):
            last = np.partition(keys, most - 1)[most - 1]
            near = keys <= last if not np.isnan(last) else np.ones(len(keys), np.bool_)
            keys, places = keys[near], places[near]
        return places[np.argsort(keys, kind="stable")][:most]

    def totals(self, task: str) -> dict[str, dict[str, int]]:
        """Subset -> kind -> how many samples; of a task, or of all together."""
        mask = self.mask(Filters(task=task))
        width = len(KINDS)
        counts = np.bincount(self["subset"][mask].astype(np.int64) * width + self["kind"][mask])
        counts.resize(len(self._names["subset"]) * width)
        by_subset = counts.reshape(-1, width).tolist()
        return {
            name: {kind: n for kind, n in zip(KINDS, by_subset[code], strict=True) if n}
            for name, code in self._names["subset"].items()
            if any(by_subset[code])
        }

    def chances(self, task: str) -> dict[str, tuple[float, int]]:
        """Subset -> the sum over its samples of what a guess among the options would score, and of how many."""
        mask = self.mask(Filters(task=task)) & ~np.isnan(self["chance"])
        subsets, size = self["subset"][mask], len(self._names["subset"])
        sums, counts = np.bincount(subsets, self["chance"][mask], size), np.bincount(subsets, minlength=size)
        return {
            name: (float(sums[code]), int(counts[code])) for name, code in self._names["subset"].items() if counts[code]
        }

    def calibration(self, task: str) -> list[tuple[float, float, int]]:
        """(mean confidence, share right, how many) in tenths of confidence, of samples that have one."""
        right, wrong = KINDS.index("right"), KINDS.index("wrong")
        mask = self.mask(Filters(task=task)) & ~np.isnan(self["confidence"])
        mask &= (self["kind"] == right) | (self["kind"] == wrong)
        sure, hits = self["confidence"][mask], self["kind"][mask] == right
        bins = np.minimum((sure * _TENTHS).astype(np.int64), _TENTHS - 1)
        counts = np.bincount(bins, minlength=_TENTHS)
        sums, rights = np.bincount(bins, sure, _TENTHS), np.bincount(bins, hits, _TENTHS)
        return [
            (float(sums[place] / n), float(rights[place] / n), int(n)) for place, n in enumerate(counts.tolist()) if n
        ]

    def lengths(self, task: str) -> list[tuple[int, int, int]]:
        """(characters from, how many samples, how many of them right): replies by length, in powers of two."""
        mask = self.mask(Filters(task=task))
        sizes, hits = np.minimum(self["size"][mask], _LONGEST), self["kind"][mask] == KINDS.index("right")
        powers = np.frexp(sizes)[1]  # 0 for 0, 1 for 1, 2 for 2 and 3, 3 for 4 to 7, ...
        counts, rights = np.bincount(powers), np.bincount(powers, hits)
        return [
            (2 ** (power - 1) if power else 0, n, int(rights[power])) for power, n in enumerate(counts.tolist()) if n
        ]

    def letters(self, task: str) -> Iterator[tuple[int, int]]:
        """(number of a sample, how many) of wrong samples with short answers: one for each answer and gold, the most
        frequent first."""
        places = np.flatnonzero(self.mask(Filters(task=task, kind="wrong")) & (self["short"] != 0))
        both = self["answer"][places] * np.uint64(0x9E3779B97F4A7C15) + self["gold"][places]
        _, first, counts = np.unique(both, return_index=True, return_counts=True)
        for place in np.argsort(-counts, kind="stable")[:_MOST_LETTERS]:
            yield int(places[first[place]]) + 1, int(counts[place])

    def pairs(self, other: Columns, task: str) -> Pairs:
        """The samples of a task by subset, id and view in this index and another one."""
        sides = self.matching(Filters(task=task)), other.matching(Filters(task=task))
        codes = dict(self._names["subset"])
        for name in other.names("subset"):
            codes.setdefault(name, len(codes))
        own = self.at("subset", sides[0])
        renamed = np.array([codes[name] for name in other.names("subset")] or [0], np.int64)
        keys = [
            _keys(own, self.at("id", sides[0]), self.at("view", sides[0])),
            _keys(renamed[other.at("subset", sides[1])], other.at("id", sides[1]), other.at("view", sides[1])),
        ]
        if np.array_equal(keys[0], keys[1]):
            return Pairs(*sides, own, {}, {})
        _, first, second = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
        order = np.argsort(first, kind="stable")
        first, second = first[order], second[order]
        alone = [np.ones(len(each), np.bool_) for each in keys]
        alone[0][first], alone[1][second] = False, False
        names = {code: name for name, code in codes.items()}
        lacking = [
            Counter(names[code] for code in (each[mask] >> _KEY_BITS).tolist())
            for each, mask in zip(keys, alone, strict=True)
        ]
        return Pairs(sides[0][first], sides[1][second], own[first], *lacking)


_VIEW_BITS, _KEY_BITS = 12, 46


def _keys(subset: Array, number: Array, view: Array) -> Places:
    """One number for each subset, id and view."""
    keys = subset.astype(np.int64)
    keys <<= _KEY_BITS - _VIEW_BITS
    keys |= number
    keys <<= _VIEW_BITS
    keys |= view
    return keys
