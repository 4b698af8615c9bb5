"""What several answers to a question come to: their mean, and the answer that most of them give.

    --repeats 8 --metrics avg_at_k,majority_at_k(k=8),pass_at_k(k=[1,8])

All are values of questions, of one set of answers, so that their intervals are over questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from harness import Metric, Observation, RepeatMetric, Response, hookimpl


class AverageAtK(RepeatMetric):
    """The mean score of all answers to a question, by the metric that `of` names, or the task's first."""

    name = "avg_at_k"

    def __init__(self, of: str | Mapping[str, Any] | None = None) -> None:
        self.of = of

    def score(self, seen: Observation) -> float | None:
        scores = [score for score in self.score_each(seen) if score is not None]
        return sum(scores) / len(scores) if scores and len(scores) == len(seen.predictions) else None


class MajorityAtK(RepeatMetric):
    """The score of the answer that most of `k` answers give (self-consistency; Wang et al. 2022, arXiv 2203.11171).

    Of more than k answers each k that follow one another vote, and the mean of their scores counts. The first of
    equally frequent answers wins; what could not be read has no vote. of: the metric that scores the answer.
    """

    name = "majority_at_k"

    def __init__(self, k: int, of: str | Mapping[str, Any] | None = None) -> None:
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        self.replies, self.of, self.setting = k, of, f"k = {k}"

    def score(self, seen: Observation) -> float | None:
        if self.inner is None or len(seen.predictions) < self.replies:
            raise ValueError(f"there are {len(seen.predictions)} replies, fewer than k = {self.replies}")
        scores: list[float] = []
        for start in range(0, len(seen.predictions) - self.replies + 1, self.replies):
            votes = Counter(answer for answer in seen.predictions[start : start + self.replies] if answer is not None)
            winner = votes.most_common(1)[0][0] if votes else None
            voted = Observation(
                seen.sample, (Response(text=winner or ""),), predictions=(winner,), pipeline=seen.pipeline
            )
            score = self.inner.score(voted)
            if not isinstance(score, int | float):
                return None
            scores.append(float(score))
        return sum(scores) / len(scores)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [AverageAtK, MajorityAtK]
