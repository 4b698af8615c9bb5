"""Whole numbers in a row that takes as few bytes as the widest of them needs."""

from __future__ import annotations

import sys

import pytest

from harness.column import Column
from harness.spool import Spool

NUMBERS = [0, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1, -1, -(2**63)]


@pytest.mark.parametrize("numbers", [NUMBERS, NUMBERS[::-1], []])
def test_numbers_come_back_whatever_their_width_and_their_order(numbers: list[int]) -> None:
    column = Column(numbers)
    assert list(column) == numbers
    assert [column[at] for at in range(len(column))] == numbers
    assert list(column[1:]) == numbers[1:]
    assert list(column.picked(reversed(range(len(numbers))))) == numbers[::-1]


@pytest.mark.parametrize(("number", "width"), [(255, 1), (256, 2), (65_536, 4), (2**32, 8), (-1, 8)])
def test_a_column_is_as_wide_as_its_widest_number(number: int, width: int) -> None:
    column, n = Column(), 10_000
    column.add_zeros(n)
    column[7] = number
    assert (column[6], column[7], column[8], len(column)) == (0, number, 0, n)
    assert width * n <= sys.getsizeof(column) < width * n * 1.1 + 200


@pytest.mark.parametrize("widths", ["BHIq", "Q"])
def test_a_number_of_more_bits_than_there_are_changes_nothing(widths: str) -> None:
    column = Column([1, 2], widths=widths)
    with pytest.raises(OverflowError):
        column.append(1 << 64)
    with pytest.raises(OverflowError):
        column[0] = 1 << 64
    assert list(column) == [1, 2]


def test_a_value_of_a_spool_that_is_looked_up_in_any_order_takes_five_bytes_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("harness.spool.FEW", 100)
    spool = Spool((str(number) for number in range(20_000)), block=1)
    assert (spool[19_999], spool[12_345]) == ("19999", "12345")
    assert sys.getsizeof(spool._ends) < 5 * len(spool)
