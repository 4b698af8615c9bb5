"""Metrics of tasks that are scored by log-likelihood: which choice is likeliest, and how sure the model is of it.

Names and formulas as in lm-evaluation-harness (`lm_eval/api/task.py`, `process_results`): of equally likely choices the
first wins; lengths are those of the choices without the delimiter in front of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness import Metric, Observation, hookimpl
from harness.scoring import NO_CHOICE, gold_indices


class Accuracy(Metric):
    """1 where the likeliest choice is right; for a single continuation, 1 where greedy decoding would give it."""

    name = "acc"
    output_types = frozenset({"multiple_choice", "loglikelihood"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        if not seen.sample.choices:
            greedy = (flag for response in seen.responses for flag in response.is_greedy)
            return float(next(greedy))
        return _hit(seen, _logprobs(seen))


class CharNormAccuracy(Metric):
    """Like `acc`, each log-probability divided by the number of characters of its choice."""

    name = "acc_norm"
    output_types = frozenset({"multiple_choice"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return _hit(seen, _per_unit(_logprobs(seen), [len(choice) for choice in seen.sample.choices]))


class ByteNormAccuracy(Metric):
    """Like `acc`, each log-probability divided by the number of UTF-8 bytes of its choice."""

    name = "acc_bytes"
    output_types = frozenset({"multiple_choice"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return _hit(seen, _per_unit(_logprobs(seen), [len(choice.encode()) for choice in seen.sample.choices]))


class TokenNormAccuracy(Metric):
    """Like `acc`, each log-probability divided by the number of tokens of its choice.

    Null where a model does not say how many tokens a choice has.
    """

    name = "acc_tokens"
    output_types = frozenset({"multiple_choice"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        counts = [count for response in seen.responses for count in response.token_counts]
        if len(counts) != len(seen.sample.choices):
            return None
        return _hit(seen, _per_unit(_logprobs(seen), counts))


class MutualInformationAccuracy(Metric):
    """Like `acc`, with log P(choice | question) - log P(choice): what the question adds."""

    name = "acc_mutual_info"
    output_types = frozenset({"multiple_choice"})
    bounds = (0.0, 1.0)
    needs_unconditional = True

    def score(self, seen: Observation) -> float | None:
        without = [value for response in seen.unconditional for value in response.logprobs]
        if len(without) != len(seen.sample.choices):
            raise ValueError(f"{len(without)} unconditional log-probabilities for {len(seen.sample.choices)} choices")
        return _hit(seen, [given - alone for given, alone in zip(_logprobs(seen), without, strict=True)])


class BrierScore(Metric):
    """Squared distance between the softmax over the choices and the gold, in [0, 2]; the nearest of several golds."""

    name = "brier_score"
    output_types = frozenset({"multiple_choice"})
    higher_is_better = False
    bounds = (0.0, 2.0)

    def score(self, seen: Observation) -> float | None:
        golds = _chosen_golds(seen)
        if golds is None:
            return None
        probabilities = _softmax(_logprobs(seen))
        square = sum(p * p for p in probabilities)
        return min(square - 2 * probabilities[gold] + 1 for gold in golds)


class GoldMass(Metric):
    """How much of the probability of all choices the right ones have, 0 to 1 (MC2 of TruthfulQA, Lin et al. 2021)."""

    name = "gold_mass"
    output_types = frozenset({"multiple_choice"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        golds = _chosen_golds(seen)
        if golds is None:
            return None
        probabilities = _softmax(_logprobs(seen))
        return sum(probabilities[gold] for gold in golds)


class MatthewsCorrelation(Metric):
    """Matthews' correlation of chosen and gold labels (Gorodkin's R_K for more than two), over the whole set.

    Statistics of a sample: hit, and for each label whether it was chosen and whether it is gold.
    """

    name = "mcc"
    output_types = frozenset({"multiple_choice"})
    aggregation = "self"
    bounds = (-1.0, 1.0)

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        golds = _chosen_golds(seen)
        if golds is None:
            return None
        chosen = _argmax(_logprobs(seen))
        labels = [flag for i in range(len(seen.sample.choices)) for flag in (float(i == chosen), float(i == golds[0]))]
        return (float(chosen == golds[0]), *labels)

    def from_means(self, means: tuple[float, ...]) -> float:
        hits, chosen, gold = means[0], means[1::2], means[2::2]
        covariance = hits - sum(c * g for c, g in zip(chosen, gold, strict=True))
        spread = (1 - sum(c * c for c in chosen)) * (1 - sum(g * g for g in gold))
        return covariance / math.sqrt(spread) if spread > 1e-15 else 0.0


def _chosen_golds(seen: Observation) -> tuple[int, ...] | None:
    """The indices of the right choices; None where the gold is hidden, and where it is none of the choices."""
    golds = gold_indices(seen.sample)
    return None if golds is None or NO_CHOICE in golds else golds


def _hit(seen: Observation, values: Sequence[float]) -> float | None:
    golds = gold_indices(seen.sample)
    return None if golds is None else float(_argmax(values) in golds)


def _logprobs(seen: Observation) -> tuple[float, ...]:
    values = seen.logprobs
    if len(values) != len(seen.sample.choices):
        raise ValueError(f"{len(values)} log-probabilities for {len(seen.sample.choices)} choices")
    if any(map(math.isnan, values)):
        raise ValueError("a log-probability is not a number")
    return values


def _per_unit(logprobs: Sequence[float], lengths: Sequence[int]) -> list[float]:
    return [value / length if length else -math.inf for value, length in zip(logprobs, lengths, strict=True)]


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    total = sum(weights)
    return [weight / total for weight in weights]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [
        Accuracy,
        BrierScore,
        ByteNormAccuracy,
        CharNormAccuracy,
        GoldMass,
        MatthewsCorrelation,
        MutualInformationAccuracy,
        TokenNormAccuracy,
    ]
