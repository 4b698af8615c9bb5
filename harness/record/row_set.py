"""Which rows of a subset there are: a set of numbers in a bit each, so that a million of them take little room."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

_DENSE = 1 << 26
"""Rows are numbered from 0. Up to here a number is a place in a row of bits; what is beyond is kept as it is."""


class RowSet(Set[int]):
    """A set of numbers of rows, which come back in rising order."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._bits = bytearray()
        self._far: set[int] = set()
        self._count = 0
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        if number in self:
            return
        self._count += 1
        if not 0 <= number < _DENSE:
            self._far.add(number)
            return
        place = number >> 3
        if place >= len(self._bits):
            self._bits.extend(bytes(max(64, place + 1 - len(self._bits))))
        self._bits[place] |= 1 << (number & 7)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int) or not 0 <= number < _DENSE:
            return number in self._far
        place = number >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (number & 7) & 1)

    def __iter__(self) -> Iterator[int]:
        yield from sorted(number for number in self._far if number < 0)
        for place, byte in enumerate(self._bits):
            for bit in range(8) if byte else ():
                if byte >> bit & 1:
                    yield place * 8 + bit
        yield from sorted(number for number in self._far if number >= 0)

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"RowSet({list(self)})"
