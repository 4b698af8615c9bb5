"""Krippendorff's alpha, against the figures of the literature and of the package `krippendorff` 0.9.0."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score

from harness.scoring.statistics.agreement import (
    Level,
    equal_share,
    krippendorff_alpha,
    rank_correlation,
    rank_estimate,
    weighted_kappa,
)

# Four observers and twelve units: the example of K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011),
# section E, with missing ratings. He gives 0.743 (nominal) and 0.849 (interval).
_ = None
EXAMPLE = [
    [1, 1, _, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [_, 5, 5, 5],
    [_, _, 1, 1],
    [_, _, 3, _],
]


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.7434210526), ("interval", 0.8491071428)])
def test_the_example_of_its_author(level: Level, value: float) -> None:
    found = krippendorff_alpha(EXAMPLE, level)
    assert found is not None
    assert found.value == pytest.approx(value, abs=1e-9)
    assert found.interval is not None
    assert found.interval[0] < value < found.interval[1]


def direct(ratings: list[list[float | None]], level: Level) -> float:
    """The definition, pair by pair."""

    def distance(a: float, b: float) -> float:
        return float(a != b) if level == "nominal" else (a - b) ** 2

    units = [[value for value in row if value is not None] for row in ratings]
    units = [unit for unit in units if len(unit) > 1]
    every = [value for unit in units for value in unit]
    observed = sum(
        sum(distance(a, b) for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j) / (len(unit) - 1)
        for unit in units
    ) / len(every)
    pairs = [distance(a, b) for i, a in enumerate(every) for j, b in enumerate(every) if i != j]
    return 1 - observed / (sum(pairs) / len(pairs))


@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_definition(seed: int) -> None:
    draw = random.Random(seed)
    level: Level = "nominal" if seed % 2 else "interval"
    rows: list[list[float | None]] = [
        [None if draw.random() < 0.2 else draw.choice([1.0, 2.0, 5.0, 9.5]) for _ in range(2 + seed % 3)]
        for _ in range(15)
    ]
    found = krippendorff_alpha(rows, level)
    assert found is not None
    assert found.value == pytest.approx(direct(rows, level), abs=1e-12)


def test_where_it_is_not_defined() -> None:
    assert krippendorff_alpha([], "interval") is None
    assert krippendorff_alpha([[7, 7], [7, 7]], "interval") is None
    assert krippendorff_alpha([[1, 2]], "nominal") is None
    assert krippendorff_alpha([[1, None], [None, 2]], "nominal") is None


def test_full_agreement_is_1_and_a_resample_without_variation_takes_the_interval_not_the_value() -> None:
    found = krippendorff_alpha([[1, 1], [2, 2]], "nominal")
    assert found is not None
    assert found.value == 1.0
    assert found.interval is None


def test_large_numbers_keep_their_digits() -> None:
    near, far = [[0, 1], [1, 1], [2, 3]], [[1e6, 1e6 + 1], [1e6 + 1, 1e6 + 1], [1e6 + 2, 1e6 + 3]]
    first, second = krippendorff_alpha(near, "interval"), krippendorff_alpha(far, "interval")
    assert first is not None and second is not None
    assert math.isclose(first.value, second.value, abs_tol=1e-12)


def test_the_share_that_is_equal_is_of_samples_that_every_judge_rated() -> None:
    assert equal_share([[1, 1], [1, 2], [1, None]]) == (0.5, 2)
    assert equal_share([[1, None]]) is None


def test_weighted_kappa_and_rank_correlation_are_those_of_the_books() -> None:
    generator = np.random.default_rng(5)
    for n in (2, 7, 60, 400):
        for levels in (2, 3, 5):
            pairs = generator.integers(1, levels + 1, (n, 2)).astype(float)
            pairs[: n // 2, 1] = pairs[: n // 2, 0]
            kappa, ranks = weighted_kappa(pairs), rank_correlation([(x, y) for x, y in pairs])
            if len(np.unique(pairs)) > 1:
                labels = list(range(1, levels + 1))
                expected = cohen_kappa_score(*pairs.T.astype(int), weights="quadratic", labels=labels)
                assert kappa is not None and kappa.value == pytest.approx(expected, abs=1e-9)
            if min(len(np.unique(column)) for column in pairs.T) > 1:
                assert ranks == pytest.approx(spearmanr(*pairs.T).statistic, abs=1e-9)
    assert weighted_kappa(np.ones((5, 2))) is None and weighted_kappa(np.empty((0, 2))) is None
    assert rank_estimate([(1.0, 2.0), (1.0, 3.0)]) is None and rank_estimate([]) is None
    far = weighted_kappa(1e9 + np.array([[1.0, 2.0], [2.0, 2.0], [5.0, 4.0]]))
    near = weighted_kappa(np.array([[1.0, 2.0], [2.0, 2.0], [5.0, 4.0]]))
    assert far is not None and near is not None and far.value == pytest.approx(near.value)
