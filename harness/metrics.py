"""What a metric plugin is: it scores one sample, and turns all the scores of a set into one value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from harness.types import OutputType, Response, Sample, View

ALL_OUTPUT_TYPES: frozenset[OutputType] = frozenset(
    {"multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"}
)


@dataclass(frozen=True, slots=True)
class Answered:
    """One view of a row, and what came of it under one score key.

    answer: what the model answered, said so that it means the same in every view: the number of the option in the row,
        numbers of options, or the text that was read; None where nothing could be read.
    place: where the chosen option stood, from 0; None where that cannot be told.
    places: how many options there were, and `right` how many of them were right; 0 where that is not known.
    """

    view: View
    score: float | tuple[float, ...] | None
    answer: Hashable = None
    place: int | None = None
    places: int = 0
    right: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """What a metric sees of one sample.

    responses: the model's answers, one a request, unconditional ones left out.
    unconditional: answers to the same choices without their question (`acc_mutual_info` only).
    predictions: what the filter pipeline read from the replies, one a repeat unless a filter joined them; None where
        nothing could be read. Empty for log-likelihood tasks.
    views: all views of the row, for a metric of whole rows that a modifier brings (`Modifier.row_scores`); `sample` is
        then that of the first view. Empty otherwise.
    """

    sample: Sample
    responses: tuple[Response, ...]
    unconditional: tuple[Response, ...] = ()
    predictions: tuple[str | None, ...] = ()
    views: tuple[Answered, ...] = ()

    @property
    def logprobs(self) -> tuple[float, ...]:
        """One log-probability a choice, in nats."""
        return tuple(value for response in self.responses for value in response.logprobs)


class Metric(ABC):
    """Base class of all metrics. Options of the `metric_list` entry arrive as keywords of `__init__`."""

    name: ClassVar[str]
    output_types: ClassVar[frozenset[OutputType]] = ALL_OUTPUT_TYPES
    """The kinds of task that this metric can score."""
    higher_is_better: ClassVar[bool] = True
    aggregation: ClassVar[str] = "mean"
    """The default way from scores to one value; a name known to `harness.scoring.aggregation`, or `self`."""
    needs_unconditional: ClassVar[bool] = False
    bounds: tuple[float, float] | None = None
    """The least and the greatest value there can be, where there are such; no interval reaches beyond them."""

    @classmethod
    def for_output_type(cls, output_type: OutputType) -> type[Metric]:
        """The class for tasks of this kind, where one name means two formulas (`f1` of choices and of texts)."""
        return cls

    @abstractmethod
    def score(self, seen: Observation) -> float | tuple[float, ...] | None:
        """Score one sample: a number, or a tuple of sufficient statistics that `aggregate` adds up, or None.

        None means that the sample cannot be scored (its gold is hidden); it is counted, and never taken for 0.
        An exception is recorded on the sample, which then counts as failed.
        """

    def statistics(self, score: tuple[float, ...]) -> tuple[float, ...]:
        """What is added up of a sample, given its score: the score itself, unless a shorter one is logged.

        The number of statistics must be the same for all samples. `from_means` and `from_sums` get these.
        """
        return score

    def chosen(self, seen: Observation) -> int | None:
        """Which choice the model took, as this metric sees it: the likeliest. None where there are no choices."""
        values = seen.logprobs
        if not values or len(values) != len(seen.sample.choices):
            return None
        return max(range(len(values)), key=values.__getitem__)

    def aggregate(self, scores: list[tuple[float, ...]]) -> float:
        """The value of a set of samples from their scores; used where `aggregation` is `self`.

        Must be a function of the column sums alone where a fast bootstrap is wanted: define `from_sums` or
        `from_means` then, and leave this one as it is.
        """
        sums = tuple(sum(column) for column in zip(*scores, strict=True))
        return self.from_sums(sums, len(scores))

    def from_sums(self, sums: tuple[float, ...], n: int) -> float:
        """The value of a set of `n` samples from the sums of its statistics, where their size matters (smoothing)."""
        return self.from_means(tuple(value / n for value in sums))

    def from_means(self, means: tuple[float, ...]) -> float:
        """The value of a set from the means of its statistics (corpus BLEU, ratios, perplexity)."""
        if len(means) != 1:
            raise TypeError(f"metric '{self.name}' returns {len(means)} statistics a sample and must define from_means")
        return means[0]


@dataclass(frozen=True, slots=True)
class ScoreKey:
    """One entry of `Record.scores`, and all that turns its values into one."""

    name: str
    pipeline: str
    metric: Metric
    aggregation: str
    higher_is_better: bool
