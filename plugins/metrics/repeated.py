"""What several answers to a question come to: their mean, and the answer that most of them give.

    --repeats 8 --metrics avg_at_k,majority_at_k,pass_at_k(k=[1,8])

All are values of questions, of one set of answers, so that their intervals are over questions. A question of which an
answer failed has no value and is counted; of one whose answers were cut inside their reasoning, the others count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from harness import Metric, Observation, RepeatMetric, Response, hookimpl


class AverageAtK(RepeatMetric):
    """The mean score of all answers to a question, by the metric that `of` names, or the task's first.

    None where one of them has no score, because the gold is hidden.
    """

    name = "avg_at_k"

    def __init__(self, of: str | Mapping[str, Any] | None = None) -> None:
        self.of = of

    def score(self, seen: Observation) -> float | None:
        scores = [score for score in self.score_each(seen) if score is not None]
        return sum(scores) / len(scores) if scores and len(scores) == len(seen.predictions) else None


class MajorityAtK(RepeatMetric):
    """The score of the answer that most of `k` answers give (self-consistency; Wang et al. 2022, arXiv 2203.11171).

    k: left out, all of them vote. Of more than k answers each k that follow one another vote, and the mean of their
    scores counts. The first of equally frequent answers wins; what could not be read has no vote, and where nothing
    could be read the vote is scored as an answer that cannot be read. of: the metric that scores the answer.
    """

    name = "majority_at_k"
    output_types = frozenset({"generate_until"})

    def __init__(self, k: int | None = None, of: str | Mapping[str, Any] | None = None) -> None:
        if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
            raise ValueError(f"k is {k}; it must be at least 1")
        self.voters, self.of = k, of
        self.replies, self.setting = k or 1, f"k = {k or 'all'}"

    def score(self, seen: Observation) -> float | None:
        if self.inner is None or len(seen.predictions) < self.replies:
            raise ValueError(f"there are {len(seen.predictions)} replies, fewer than k = {self.replies}")
        scores: list[float] = []
        voters = self.voters or len(seen.predictions)
        for start in range(0, len(seen.predictions) - voters + 1, voters):
            votes = Counter(answer for answer in seen.predictions[start : start + voters] if answer is not None)
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
