"""Scores of drawn rows, by place: equal to what was put in, in a byte a row where few values differ."""

from __future__ import annotations

import math

import pytest

from harness.run.row_scores import RowPlaces, RowScores


@pytest.mark.parametrize("different", [2, 255, 256, 700])
def test_a_score_is_what_was_put_last_and_no_number_where_none_was(different: int) -> None:
    scores = RowScores(1000)
    for place in range(900):
        scores[place] = place % different / 7
    scores[3], scores[4], scores[5] = 1, math.nan, -0.5
    put = [place % different / 7 for place in range(900)]
    assert [scores[place] for place in range(900) if place not in (3, 4, 5)] == put[:3] + put[6:]
    assert (scores[3], scores[5]) == (1.0, -0.5)
    assert all(math.isnan(scores[place]) for place in (4, 900, 999))


@pytest.mark.parametrize("law", [range(3, 7), [6, 3, 4, 5], [2, 9, 70_000]])
def test_each_row_has_one_place_and_each_place_one_row(law: list[int]) -> None:
    rows = RowPlaces({"law": law, "none": [], "art": [-4, 8]})
    assert len(rows) == len(law) + 2
    assert [rows.row(place) for place in range(len(rows))] == [
        *(("law", number) for number in sorted(law)),
        ("art", -4),
        ("art", 8),
    ]
    assert [rows.place(*rows.row(place)) for place in range(len(rows))] == list(range(len(rows)))
    assert rows.place("law", 8) is rows.place("none", 0) is rows.place("history", 3) is None
