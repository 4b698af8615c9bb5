"""What task code finds in place of packages: the same numbers as from the packages themselves."""

from __future__ import annotations

import pytest
from rouge_score import rouge_scorer, scoring

from harness.task_code import package_names

PAIRS = [("the river stands near the stone", "a river near the lamp"), ("one two three", "three two one"), ("a", "b")]


def rouge(pairs: list[tuple[str, str]]) -> dict[str, scoring.AggregateScore]:
    scorer, aggregator = rouge_scorer.RougeScorer(["rouge1", "rougeLsum"]), scoring.BootstrapAggregator()
    for gold, reply in pairs:
        aggregator.add_scores(scorer.score(gold, reply))
    return dict(aggregator.aggregate())


def test_one_pair_of_texts_is_not_resampled_and_scores_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [rouge([pair]) for pair in PAIRS]
    draws: list[int] = []
    original = scoring.BootstrapAggregator._bootstrap_resample
    monkeypatch.setattr(
        scoring.BootstrapAggregator,
        "_bootstrap_resample",
        lambda self, matrix: draws.append(len(matrix)) or original(self, matrix),
    )
    package_names.restore("from rouge_score import scoring\naggregator = scoring.BootstrapAggregator()\n")
    assert [rouge([pair]) for pair in PAIRS] == before
    assert draws == []
    assert rouge(PAIRS)["rouge1"].mid.fmeasure > 0
    assert draws == [len(PAIRS)] * 2
