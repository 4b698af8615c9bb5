"""How far a model's confidence can be believed, on tasks that are scored by log-likelihood.

Confidence is the probability of the likeliest choice, by a softmax over the choices' log-probabilities.
`per_character: true` divides each by the number of characters of its choice first, as `acc_norm` does.
"""

from __future__ import annotations

import math

from harness import Metric, Observation, hookimpl
from harness.scoring import gold_indices


class _Confidence(Metric):
    """Base of the metrics of this file."""

    output_types = frozenset({"multiple_choice"})

    def __init__(self, per_character: bool = False) -> None:
        self.per_character = per_character

    def probabilities(self, seen: Observation) -> list[float]:
        """One a choice, in their order. Raises `ValueError` where there are none, or a log-probability is NaN."""
        values, choices = list(seen.logprobs), seen.sample.choices
        if len(values) != len(choices) or not values:
            raise ValueError(f"{len(values)} log-probabilities for {len(choices)} choices")
        if any(map(math.isnan, values)):
            raise ValueError("a log-probability is not a number")
        if self.per_character:
            values = [
                value / len(choice) if choice else -math.inf for value, choice in zip(values, choices, strict=True)
            ]
        top = max(values)
        if math.isinf(top):
            raise ValueError("no choice has a probability above zero")
        weights = [math.exp(value - top) for value in values]
        return [weight / sum(weights) for weight in weights]

    def chosen(self, seen: Observation) -> int:
        probabilities = self.probabilities(seen)
        return max(range(len(probabilities)), key=probabilities.__getitem__)

    def judged(self, seen: Observation) -> tuple[float, bool] | None:
        """(confidence, whether the likeliest choice is right); None where the gold is hidden."""
        golds = gold_indices(seen.sample)
        return None if golds is None else (max(self.probabilities(seen)), self.chosen(seen) in golds)


class ExpectedCalibrationError(_Confidence):
    """Expected calibration error: how far accuracy is from confidence, in bins of equal width weighted by their size.

    Guo et al. 2017, On Calibration of Modern Neural Networks, equation 3: bin m of M holds confidences in
    ((m - 1) / M, m / M]. 0 is perfect. Where bins hold few samples, noise alone makes it larger than it is; its
    interval allows for that, and begins at 0 where a calibrated model could well show as much.
    A sample's score is (confidence, 1 where right).
    """

    name = "ece"
    higher_is_better = False
    aggregation = "self"
    bounds = (0.0, 1.0)
    is_distance = True

    def __init__(self, bins: int = 15, per_character: bool = False) -> None:
        super().__init__(per_character)
        if not isinstance(bins, int) or bins < 1:
            raise ValueError(f"bins: should be a number above 0, found {bins!r}")
        self.bins = bins

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        found = self.judged(seen)
        return None if found is None else (found[0], float(found[1]))

    def statistics(self, score: tuple[float, ...]) -> tuple[float, ...]:
        """The sample's gap between confidence and accuracy, in its bin."""
        confidence, hit = score
        gaps = [0.0] * self.bins
        gaps[min(self.bins, max(1, math.ceil(confidence * self.bins))) - 1] = confidence - hit
        return tuple(gaps)

    def from_means(self, means: tuple[float, ...]) -> float:
        return sum(map(abs, means))


class Confidence(_Confidence):
    """Mean confidence. Above `acc` the model is overconfident by the difference, below it underconfident."""

    name = "confidence"
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float:
        return max(self.probabilities(seen))


class Margin(_Confidence):
    """Mean distance between the probabilities of the likeliest choice and the second: how clear the decisions are."""

    name = "margin"
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float:
        ordered = sorted(self.probabilities(seen), reverse=True)
        return ordered[0] - ordered[1] if len(ordered) > 1 else 1.0


class LuckyGuess(_Confidence):
    """Which share of the right answers was luck, estimated from how sure the model was of each. n: right answers.

    The model is taken to know the answer with some probability s, and else to choose among the k choices at random. Its
    confidence in what it chose is then p = s + (1 - s) / k, and a right answer was a guess with the probability

        ((1 - s) / k) / p = (1 - p) / ((k - 1) p),

    which is 1 at p = 1/k and 0 at p = 1. (With m right choices a guess is right by m / k.) Of a calibrated model, which
    is right with probability p, the sum of these is on average W / (k - 1), W the wrong answers: what the correction
    for guessing takes off the score of a test (J. Diamond and W. Evans, Review of Educational Research 43, 1973). It
    holds as far as confidence can be believed: read it beside `ece`. A wrong answer has no score.
    """

    name = "lucky_guess"
    higher_is_better = False
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        found = self.judged(seen)
        k = len(seen.sample.choices)
        if found is None or not found[1] or k < 2:
            return None
        right = len(set(gold_indices(seen.sample) or ())) / k  # the chance of a guess
        guessed = min(1.0, k * (1 - found[0]) / (k - 1))  # 1 - s
        return guessed * right / (1 - guessed + guessed * right)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [Confidence, ExpectedCalibrationError, LuckyGuess, Margin]
