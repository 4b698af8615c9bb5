"""An interval that is looked at after every round still holds the mean of all values in 95 of 100 runs."""

from __future__ import annotations

import numpy as np
import pytest

from harness.scoring.statistics.sequences import MeanSequence, drawing_rounds


def missed(runs: int, size: int, share: float, spread: bool = False) -> int:
    """In how many runs any look refused the mean of `size` scores: 0/1 with a share of ones, or spread between."""
    count = 0
    for seed in range(runs):
        generator = np.random.default_rng([7, seed])
        subsets = np.sort(generator.integers(0, 5, size))
        right = np.clip(share + 0.1 * (subsets - 2), 0, 1)  # subsets differ in difficulty
        values = (generator.random(size) < right).astype(float)
        values = values * generator.random(size) if spread else values
        known, truth, inside = MeanSequence(size), values.mean(), True
        for rows in drawing_rounds(subsets, seed):
            known.add(values[rows], values[rows])
            inside = inside and known.interval[0] - 1e-9 <= truth <= known.interval[1] + 1e-9
        count += not inside
    return count


def test_looking_after_every_round_keeps_the_level() -> None:
    assert missed(30, 64, 0.5) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
@pytest.mark.parametrize("spread", [False, True])
def test_looking_keeps_the_level_for_rare_and_for_graded_scores(share: float, spread: bool) -> None:
    assert missed(300, 200, share, spread) <= 15


def test_each_subset_has_its_share_at_every_moment_and_all_rows_come_once() -> None:
    subsets = np.repeat([0, 1], [300, 100])
    rounds = drawing_rounds(subsets, 3)
    drawn = np.concatenate(rounds)
    assert sorted(drawn) == list(range(400))
    assert np.array_equal(drawn, np.concatenate(drawing_rounds(subsets, 3)))
    assert not np.array_equal(drawn, np.concatenate(drawing_rounds(subsets, 4)))
    for end in np.cumsum([len(rows) for rows in rounds])[1:]:
        assert abs((subsets[drawn[:end]] == 1).mean() - 0.25) < 0.06


def test_the_order_is_the_one_of_earlier_versions_so_that_their_runs_go_on_in_it() -> None:
    drawn = np.concatenate(drawing_rounds(np.arange(40) % 3, 7))
    assert drawn[:12].tolist() == [9, 6, 37, 31, 11, 3, 33, 7, 32, 29, 12, 4]
    of_one_subset = np.concatenate(drawing_rounds(np.zeros(45, dtype=np.uint8), 7))
    assert of_one_subset[:12].tolist() == [19, 24, 3, 26, 25, 43, 35, 17, 30, 23, 28, 4]


def test_the_interval_narrows_to_the_mean_of_all() -> None:
    values = np.arange(64) % 4 / 3
    known, widths = MeanSequence(64), []
    for rows in drawing_rounds(np.zeros(64, dtype=np.int64), 0):
        known.add(values[rows], values[rows])
        widths.append(known.half_width)
    assert widths == sorted(widths, reverse=True)
    assert known.interval == pytest.approx((0.5, 0.5))


def test_values_that_nobody_knows_may_be_anything() -> None:
    known, lacking = MeanSequence(64), MeanSequence(64)
    ones, zeros = np.ones(8), np.zeros(8)
    for round_number in range(8):
        known.add(ones, ones)
        lacking.add(zeros if round_number == 0 else ones, ones)
    assert known.interval == (1.0, 1.0)
    assert lacking.interval == pytest.approx((56 / 64, 1.0))
