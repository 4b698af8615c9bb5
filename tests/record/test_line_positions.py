"""The index of a file of records: found, put again, in order, and small."""

from __future__ import annotations

import sys
from array import array

import pytest

from harness.column import Column
from harness.record.line_positions import Knowledge, LinePosition, LinePositions
from harness.types import SampleKey

DIGEST = bytes(range(8))


def line(offset: int, length: int = 10, prefix: str | None = None, answered: bytes | None = DIGEST) -> LinePosition:
    return LinePosition(offset, length, DIGEST, Knowledge(answered, DIGEST[::-1], "rules"), prefix)


def test_what_is_put_is_found_again_and_the_last_counts():
    places = LinePositions()
    key = SampleKey("任务😀", "law", 3, 1)
    assert places.get(key) is None
    for place in (line(0, prefix="a"), line(70, prefix="b", answered=None)):
        places.put(key, place)
        assert places.get(key) == place
    assert len(places) == 1
    assert places.get(SampleKey("任务😀", "law", 3)) is None
    assert list(places.prefixes()) == ["b"]


def test_order_is_by_rank_subset_row_and_view_whatever_numbers_the_rows_have():
    keys = [SampleKey("t", subset, id, view) for subset in "ab" for id in (-5, 0, 7, 1 << 40) for view in (0, 2)]
    places = LinePositions()
    for offset, key in enumerate(reversed(keys)):
        places.put(key, line(offset * 10))
    rank = lambda key: (key.subset == "a",)  # noqa: E731
    order = places.order(rank)
    assert order is not None
    before = list(places.at(order))
    assert [place.offset for place in before[:2]] == [10 * (15 - 8), 10 * (15 - 9)]
    places.reorder(order)
    assert [key for key, _ in places.items()] == keys[8:] + keys[:8]
    assert [place.offset for _, place in places.items()] == list(range(0, 160, 10))
    assert [places.get(key) for key in keys[8:] + keys[:8]] == [
        place._replace(offset=at * 10) for at, place in enumerate(before)
    ]
    assert places.order(rank) is None
    assert places.offsets() == array("q", range(0, 160, 10))


def test_what_is_known_of_some_lines_goes_with_them_into_another_order():
    places, keys = LinePositions(), [SampleKey("t", "", number) for number in (2, 0, 1)]
    lines = [line(0, prefix="a"), line(10, answered=None), line(20)._replace(known=None)]
    for key, place in zip(keys, lines, strict=True):
        places.put(key, place)
    order = places.order(lambda key: ())
    assert order is not None
    places.reorder(order)
    assert [places.get(key) for key in keys] == [
        lines[0]._replace(offset=20),
        lines[1]._replace(offset=0),
        lines[2]._replace(offset=10),
    ]
    places.put(SampleKey("t", "", 3), line(30))
    assert places.get(SampleKey("t", "", 3)) == line(30)


def test_a_number_that_no_row_can_have_is_refused_and_leaves_the_index_as_it_was():
    places = LinePositions()
    with pytest.raises(ValueError, match="number of no row"):
        places.put(SampleKey("t", "", 10**30), line(0))
    places.put(SampleKey("t", "", 0), line(0))
    assert [key.id for key, _ in places.items()] == [0]


def test_lines_behind_four_gigabytes_and_as_long_are_found_again():
    places = LinePositions()
    keys = [SampleKey("t", "", number) for number in (1, 0, 70_000)]
    lines = [line(0, 1 << 33, "a"), line(1 << 33, 300), line((1 << 33) + 300, 70_000)]
    for key, place in zip(keys, lines, strict=True):
        places.put(key, place)
    assert [places.get(key) for key in keys] == lines
    assert places.size() == (1 << 33) + 70_300
    assert list(places.offsets()) == [place.offset for place in lines]
    order = places.order(lambda key: ())
    assert order is not None
    places.reorder(order)
    assert [places.get(keys[at]) for at in (1, 0, 2)] == [
        lines[1]._replace(offset=0),
        lines[0]._replace(offset=300),
        lines[2],
    ]


def test_a_sample_takes_at_most_forty_five_bytes():
    places, n = LinePositions(), 20_000
    for number in range(n):
        places.put(SampleKey("t", "", number), line(number * 1000, 1000, "shared"))
    columns = [value for value in vars(places).values() if isinstance(value, Column)]
    assert len(columns) == 10
    assert sum(map(sys.getsizeof, [*columns, *places._dense.values()])) < 45 * n
