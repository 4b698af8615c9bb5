"""Where the lines of samples are in a file, and what is known of each: 24 to 52 bytes a sample, in columns."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from harness.column import Column
from harness.types import SampleKey

DIGEST_BYTES = 8
_UNKNOWN, _OPEN, _ANSWERED = range(3)
_DENSE = 1 << 22
"""Samples are numbered by row. Up to here a number is a place in an array; what is beyond is looked up by its key."""


class Knowledge(NamedTuple):
    """What is known of a sample that is on disk.

    answered: digest of the keys of its requests; None where an answer is missing or the sample failed.
    row, rules: what decides its scores beside its answers: a digest of what its row says, and the rules of the task.
    """

    answered: bytes | None
    row: bytes
    rules: str


class LinePosition(NamedTuple):
    """Where the winning line of a sample is, and what must be known of it without reading it again.

    digest: of the whole line but its seconds; tells whether a new line says anything new.
    known: None where only the line itself says it. prefix: the reference to the shared part of its prompt.
    """

    offset: int
    length: int
    digest: bytes
    known: Knowledge | None
    prefix: str | None


class _Names:
    """Texts that many samples have in common, by number."""

    def __init__(self) -> None:
        self.texts: list[str | None] = []
        self._numbers: dict[str | None, int] = {}

    def number(self, text: str | None) -> int:
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number


_COLUMNS = ("_ids", "_group", "_lengths", "_digests", "_prefixes")
_OF_KNOWN = ("_state", "_answered", "_rows", "_rules")
"""What each line has, beside where it begins; and what there is of lines up to the last of which anything is known."""


class LinePositions:
    """`SampleKey` -> `LinePosition`. A key that is put again keeps its turn, as in a dictionary."""

    def __init__(self) -> None:
        self._dense: dict[tuple[str, str, int], array[int]] = {}
        """(task, subset, view) -> by row of the data: the place in the columns and 1; 0 where there is none."""
        self._far: dict[SampleKey, int] = {}
        self._groups: list[tuple[str, str, int]] = []
        self._group_of: dict[tuple[str, str, int], int] = {}
        self._ids, self._group = Column(), Column()
        self._offsets, self._lengths = Column(), Column()
        self._digests, self._prefixes = Column(widths="Q"), Column()
        self._state, self._rules = Column(), Column()
        self._answered, self._rows = Column(widths="Q"), Column(widths="Q")
        """What is known of the lines, up to the last one of which anything is."""
        self._rule_names, self._prefix_names = _Names(), _Names()

    def __len__(self) -> int:
        return len(self._offsets)

    def get(self, key: SampleKey) -> LinePosition | None:
        at = self._find(key)
        return None if at is None else self._at(at)

    def put(self, key: SampleKey, place: LinePosition) -> None:
        at = self._find(key)
        if at is None:
            at = self._append(key, place)
        else:
            self._offsets[at], self._lengths[at] = place.offset, place.length
            self._digests[at] = _number(place.digest)
            self._prefixes[at] = self._prefix_names.number(place.prefix)
        if place.known is not None:
            self._know(at, place.known)
        elif at < len(self._state):
            self._state[at] = _UNKNOWN

    def items(self) -> Iterator[tuple[SampleKey, LinePosition]]:
        """All, in the order in which they came."""
        return ((self._key(at), self._at(at)) for at in range(len(self)))

    def groups(self) -> Iterator[SampleKey]:
        """The key of one sample of each task, subset and view."""
        return (SampleKey(task, subset, 0, view) for task, subset, view in self._groups)

    def offsets(self) -> array[int]:
        """Where the lines begin, in the order of the file."""
        if all(self._offsets[at] < self._offsets[at + 1] for at in range(len(self) - 1)):
            return self._offsets[:]
        return array("q", sorted(self._offsets))

    def size(self) -> int:
        """Bytes of all lines together."""
        return sum(self._lengths)

    def prefixes(self) -> Iterator[str]:
        """References to the shared prompts, each once, in the order of the first that uses it."""
        names = (self._prefix_names.texts[number] for number in dict.fromkeys(self._prefixes))
        return (name for name in names if name is not None)

    def order(self, rank: Callable[[SampleKey], tuple[int, ...]]) -> array[int] | None:
        """What `at` and `reorder` take for the order (rank, subset, id, view); None where all are as they would be in a
        file that holds their lines alone. rank: of a task and a subset.
        """
        order = array("I", self._in_order(rank))
        start = 0
        for at, place in enumerate(order):
            if at != place or self._offsets[place] != start:
                return order
            start += self._lengths[place]
        return None

    def at(self, order: Iterable[int]) -> Iterator[LinePosition]:
        """All, in an order."""
        return map(self._at, order)

    def reorder(self, order: array[int]) -> None:
        """Take an order, as of a file that holds the lines in it and nothing else. In place, column by column: memory
        holds one of them twice."""
        if self._state:
            self._know_up_to(len(self))
        for name in (*_COLUMNS, *(_OF_KNOWN if self._state else ())):
            setattr(self, name, getattr(self, name).picked(order))
        start = 0
        for at, length in enumerate(self._lengths):
            self._offsets[at] = start
            start += length
        now = array("I", bytes(4 * len(order)))
        for at, place in enumerate(order):
            now[place] = at
        for numbers in self._dense.values():
            for number, at in enumerate(numbers):
                if at:
                    numbers[number] = now[at - 1] + 1
        self._far = {key: now[at] for key, at in self._far.items()}

    def _in_order(self, rank: Callable[[SampleKey], tuple[int, ...]]) -> Iterator[int]:
        views: dict[tuple[str, str], list[int]] = {}
        for task, subset, view in sorted(self._groups):
            views.setdefault((task, subset), []).append(view)
        for task, subset in sorted(views, key=lambda pair: (*rank(SampleKey(pair[0], pair[1], 0)), *pair)):
            far = sorted(key for key in self._far if key[:2] == (task, subset))
            yield from (self._far[key] for key in far if key.id < 0)
            arrays = [self._dense.get((task, subset, view), array("i")) for view in views[task, subset]]
            for number in range(max(map(len, arrays))):
                yield from (each[number] - 1 for each in arrays if number < len(each) and each[number])
            yield from (self._far[key] for key in far if key.id >= 0)

    def _find(self, key: SampleKey) -> int | None:
        if not 0 <= key.id < _DENSE:
            return self._far.get(key)
        numbers = self._dense.get((key.task, key.subset, key.view))
        at = numbers[key.id] if numbers is not None and key.id < len(numbers) else 0
        return at - 1 if at else None

    def _append(self, key: SampleKey, place: LinePosition) -> int:
        group, at = (key.task, key.subset, key.view), len(self)
        try:
            self._ids.append(key.id)
        except OverflowError:
            raise ValueError(f"its id {key.id} is the number of no row") from None
        if group not in self._group_of:
            self._group_of[group] = len(self._groups)
            self._groups.append(group)
        if 0 <= key.id < _DENSE:
            numbers = self._dense.setdefault(group, array("i"))
            if key.id >= len(numbers):
                numbers.extend(bytes(key.id + 1 - len(numbers)))
            numbers[key.id] = at + 1
        else:
            self._far[key] = at
        self._group.append(self._group_of[group])
        self._offsets.append(place.offset)
        self._lengths.append(place.length)
        self._digests.append(_number(place.digest))
        self._prefixes.append(self._prefix_names.number(place.prefix))
        return at

    def _know(self, at: int, known: Knowledge) -> None:
        self._know_up_to(at + 1)
        self._state[at] = _OPEN if known.answered is None else _ANSWERED
        self._answered[at], self._rows[at] = _number(known.answered or b""), _number(known.row)
        self._rules[at] = self._rule_names.number(known.rules)

    def _know_up_to(self, count: int) -> None:
        """Have so many lines of which something may be known."""
        if (lacking := count - len(self._state)) > 0:
            for column in (self._state, self._answered, self._rows, self._rules):
                column.add_zeros(lacking)

    def _key(self, at: int) -> SampleKey:
        task, subset, view = self._groups[self._group[at]]
        return SampleKey(task, subset, self._ids[at], view)

    def _at(self, at: int) -> LinePosition:
        known = None
        if at < len(self._state.numbers) and (state := self._state.numbers[at]) != _UNKNOWN:
            answered = _digest(self._answered.numbers[at]) if state == _ANSWERED else None
            rules = self._rule_names.texts[self._rules.numbers[at]] or ""
            known = Knowledge(answered, _digest(self._rows.numbers[at]), rules)
        prefix = self._prefix_names.texts[self._prefixes.numbers[at]]
        offset, length = self._offsets.numbers[at], self._lengths.numbers[at]
        return LinePosition(offset, length, _digest(self._digests.numbers[at]), known, prefix)


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "big")


def _digest(number: int) -> bytes:
    return number.to_bytes(DIGEST_BYTES, "big")
