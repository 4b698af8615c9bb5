"""Whole numbers in a row, each in as few bytes as the widest of them takes: 1, 2, 4 or 8.

    offsets = Column()
    offsets.append(70_000)      # from now on four bytes a number

What a large run knows of its samples is such numbers: most files are shorter than 4 GiB, and their lines than 64 KiB.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, overload

_WIDTHS = "BHIq"
"""Type codes of arrays; of these only the widest holds numbers below 0."""


class Column(Sequence[int]):
    """Numbers of up to 64 bits with a sign. One that is none of these raises OverflowError and changes nothing.

    widths: the type codes that an array may have, the narrowest first.
    """

    __slots__ = ("_widths", "numbers")

    def __init__(self, numbers: Iterable[int] = (), *, widths: str = _WIDTHS) -> None:
        self._widths = widths
        self.numbers = array(widths[0])
        """As they are now, to be read in a hurry; a wider number puts another array in its place."""
        self.extend(numbers)

    def append(self, number: int) -> None:
        try:
            self.numbers.append(number)
        except OverflowError:
            self._widen(number)
            self.numbers.append(number)

    def extend(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.append(number)

    def add_zeros(self, count: int) -> None:
        self.numbers.frombytes(bytes(count * self.numbers.itemsize))

    def picked(self, places: Iterable[int]) -> Self:
        """The numbers at some places, in their order."""
        other = type(self)(widths=self._widths)
        other.numbers = array(self.numbers.typecode, map(self.numbers.__getitem__, places))
        return other

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> array[int]: ...
    def __getitem__(self, index: int | slice) -> int | array[int]:
        return self.numbers[index]

    def __setitem__(self, place: int, number: int) -> None:
        try:
            self.numbers[place] = number
        except OverflowError:
            self._widen(number)
            self.numbers[place] = number

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.numbers.__sizeof__()

    def _widen(self, number: int) -> None:
        """Take the next width that holds a number. Raises OverflowError where none does."""
        for code in self._widths[self._widths.index(self.numbers.typecode) + 1 :]:
            try:
                array(code, (number,))
            except OverflowError:
                continue
            self.numbers = array(code, self.numbers)
            return
        raise OverflowError(f"{number} takes more bits than a column has")
