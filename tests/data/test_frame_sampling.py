"""Which frames of a video are shown: positions for any length, rate and part, without any video."""

from __future__ import annotations

from itertools import pairwise

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.frame_sampling import FrameRule, by_change, uniform, within
from harness.errors import DataError


@given(total=st.integers(1, 5000), count=st.integers(1, 300))
def test_uniform_frames_are_the_distinct_whole_positions_of_linspace(total: int, count: int) -> None:
    chosen = uniform(total, count)
    expected = numpy.unique(numpy.linspace(0, total - 1, min(count, total)).astype(int)).tolist()
    assert list(chosen) == expected
    assert chosen[0] == 0 and (count == 1 or chosen[-1] == total - 1)
    assert len(chosen) == min(count, total)


@given(total=st.integers(1, 2000), rate=st.sampled_from([10, 24, 25, 30, 60]), fps=st.sampled_from([0.5, 1, 2, 4]))
def test_so_many_a_second_include_the_first_and_the_last_frame(total: int, rate: int, fps: float) -> None:
    times = [index / rate for index in range(total)]
    chosen = FrameRule(count=None, fps=fps).choose(times)
    assert list(chosen) == sorted(set(chosen))
    assert chosen[0] == 0 and len(chosen) <= times[-1] * fps + 1.001
    if len(chosen) > 1:
        assert chosen[-1] == total - 1
        assert max(b - a for a, b in pairwise(chosen)) <= 2 * rate / fps + 1
    assert len(FrameRule(count=5, fps=fps).choose(times)) <= 5


def test_a_long_still_counts_for_as_long_as_it_is_seen() -> None:
    times = [0.0, 8.0, 8.1, 8.2, 8.3, 8.4, 8.5, 9.0, 10.0]
    assert FrameRule(count=None, fps=0.5).choose(times) == (0, 1, 8)
    assert FrameRule(count=3).choose(times) == (0, 4, 8)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, range(10)),
        (0.25, 0.5, range(3, 6)),
        (0.3, 0.3001, range(3, 4)),
        (0.31, 0.32, range(3, 4)),
        (0.5, 99.0, range(5, 10)),
        (0.95, None, range(9, 10)),
    ],
)
def test_a_part_of_a_clip(start: float | None, end: float | None, expected: range) -> None:
    assert within([index / 10 for index in range(10)], start, end) == expected


@pytest.mark.parametrize(("start", "end"), [(5.0, None), (0.5, 0.5), (0.5, 0.1), (99.0, 100.0)])
def test_a_part_outside_a_clip_is_an_error(start: float, end: float | None) -> None:
    with pytest.raises(DataError, match="its part"):
        within([index / 10 for index in range(10)], start, end)


def test_frames_by_change_lie_where_the_picture_changes() -> None:
    still_then_cuts = [0.0] * 50 + [30.0] * 4 + [0.0] * 46
    chosen = by_change(still_then_cuts, 5)
    assert chosen[0] == 0 and chosen[-1] == 99 and set(chosen[1:-1]) <= {50, 51, 52, 53}
    assert by_change([0.0] * 9, 3) == (0, 4, 8)
    assert by_change([0.0, 1.0, 1.0, 1.0], 9) == (0, 1, 2, 3)
