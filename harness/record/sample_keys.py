"""Which samples there are: a set of keys in a bit each, so that a million of them take little room."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from harness.types import SampleKey

_DENSE = 1 << 22
"""Samples are numbered by row. Up to here a number is a place in a row of bits; what is beyond is kept as it is."""


class SampleKeys(Collection[SampleKey]):
    """A set of keys; they come back by task, subset and view in the order in which these came first, then by row."""

    def __init__(self, keys: Iterable[SampleKey] = ()) -> None:
        self._bits: dict[tuple[str, str, int], bytearray] = {}
        self._far: set[SampleKey] = set()
        self._count = 0
        for key in keys:
            self.add(key)

    def add(self, key: SampleKey) -> None:
        task, subset, number, view = key
        if not 0 <= number < _DENSE:
            self._count += key not in self._far
            self._far.add(key)
            return
        bits = self._bits.setdefault((task, subset, view), bytearray())
        place, bit = number >> 3, 1 << (number & 7)
        if place >= len(bits):
            bits.extend(bytes(max(64, place + 1 - len(bits))))
        if not bits[place] & bit:
            bits[place] |= bit
            self._count += 1

    def discard(self, key: SampleKey) -> None:
        """Take a key out, if it is there."""
        if key not in self:
            return
        self._count -= 1
        task, subset, number, view = key
        if not 0 <= number < _DENSE:
            self._far.remove(key)
        else:
            self._bits[task, subset, view][number >> 3] &= ~(1 << (number & 7))

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, SampleKey):
            return False
        task, subset, number, view = key
        if not 0 <= number < _DENSE:
            return key in self._far
        bits = self._bits.get((task, subset, view), b"")
        return number >> 3 < len(bits) and bool(bits[number >> 3] & 1 << (number & 7))

    def __iter__(self) -> Iterator[SampleKey]:
        for (task, subset, view), bits in self._bits.items():
            for place, byte in enumerate(bits):
                for bit in range(8) if byte else ():
                    if byte & 1 << bit:
                        yield SampleKey(task, subset, place * 8 + bit, view)
        yield from sorted(self._far)

    def __len__(self) -> int:
        return self._count
