"""What a metric plugin is: it scores samples, and turns all the scores of a set into one value.

Metric        scores one sample at a time: all that is a formula
BatchMetric   scores many samples at once: all that runs a model
CorpusMetric  has no score of a sample, only a value of a whole set
RepeatMetric  says how often another metric's score is reached when a question is asked several times (pass@k)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from harness.quick import dataclass
from harness.types import JSON, OutputType, Response, Sample, View

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
    pipeline: the name of the filter pipeline that gave the predictions.
    """

    sample: Sample
    responses: tuple[Response, ...]
    unconditional: tuple[Response, ...] = ()
    predictions: tuple[str | None, ...] = ()
    views: tuple[Answered, ...] = ()
    pipeline: str = "none"

    @property
    def logprobs(self) -> tuple[float, ...]:
        """One log-probability a choice, in nats."""
        return tuple(value for response in self.responses for value in response.logprobs)


@dataclass(frozen=True, slots=True)
class MetricOptions:
    """What a metric may want to know of its surroundings. None of it may change a score beyond float noise.

    base: the folder of the task file, against which relative paths in options are read. sandbox: where programs that a
    model wrote are run, as `--sandbox` says.
    """

    base: Path = Path()
    device: str = "auto"
    offline: bool = False
    sandbox: str = "auto"


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
    is_distance: ClassVar[bool] = False
    """Whether an own value (`aggregation` is `self`) says how far sums are from zero, so that noise alone makes it
    positive, as it does a calibration error. Its interval allows for that."""
    is_constant: ClassVar[bool] = False
    """Whether it describes the rows and not the answers (`chance`): such a value has no error."""
    values: tuple[str, ...] = ()
    """Names of the numbers of one score, where it has several: each is averaged and reported as `<metric>_<name>`."""
    setting: str = ""
    """What a table says beside its name, where the name does not say it (`k = 1`)."""
    stem: str | None = ""
    """What stands before those names, if not the metric's own name (`pass_at` of `pass_at_k`); None: nothing."""

    @classmethod
    def for_output_type(cls, output_type: OutputType) -> type[Metric]:
        """The class for tasks of this kind, where one name means two formulas (`f1` of choices and of texts)."""
        return cls

    @classmethod
    def for_aggregation(cls, aggregation: str | None) -> type[Metric]:
        """The class for an entry's `aggregation`, where a metric can score samples as well as whole sets."""
        return cls

    @classmethod
    def member(cls, name: str) -> type[Metric] | None:
        """The class for `metric: <this metric>/<name>`, where this metric is a family; None where it is not."""
        return None

    def prepare(self, options: MetricOptions) -> None:
        """Look at files and packages, and refuse what cannot work with `UsageError`. Called before any model loads.

        Weights stay on disk until there is something to score.
        """

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
    """One entry of `Record.scores`, and all that turns its values into one.

    group: the same for all keys that one metric fills at once, through one pipeline.
    """

    name: str
    pipeline: str
    metric: Metric
    aggregation: str
    higher_is_better: bool
    group: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a metric that scores in batches says of one sample: a score, as `Metric.score` gives it, or an error.

    truncated: how many texts of the sample were longer than the metric's window and were cut.
    not_in_log: the error is that a log does not hold what has to be looked at (a picture). Where a run is scored again,
        a score of the same answer by the same metric then stays.
    """

    score: float | tuple[float, ...] | None = None
    error: str | None = None
    truncated: int = 0
    not_in_log: bool = False


class BatchMetric(Metric):
    """A metric that scores many samples at once, as one that runs a model must.

    Answers are on disk before it is asked; what it has scored is written batch by batch, and a run that was killed goes
    on with the rest. `prepare_corpus` is called before the first batch, in every session.
    """

    is_filled_later: ClassVar[bool] = False
    """Whether its scores are null until something else gives them (`judge`)."""

    def prepare_corpus(self, samples: Iterable[Sample]) -> None:
        """Look at all samples that will be scored, once: for what depends on the whole set (inverse document
        frequencies). They come as a stream; most metrics need not look."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, JSON]:
        """All that decides the scores beside the task file, as JSON: the model's weights, what `prepare_corpus` found.

        Known after `prepare` and `prepare_corpus`. It stands in the report; a score on disk is kept while it stays.
        """

    @abstractmethod
    def score_batch(self, seen: Sequence[Observation]) -> Sequence[Outcome]:
        """Score some samples: one outcome each, in their order.

        What goes wrong with one sample is its outcome's `error`; an exception is the error of all of them.
        """

    def score(self, seen: Observation) -> float | tuple[float, ...] | None:
        (outcome,) = self.score_batch([seen])
        if outcome.error is not None:
            raise ValueError(outcome.error)
        return outcome.score

    def close(self) -> None:
        """Give back memory; there may be more to score later."""


@dataclass(frozen=True, slots=True)
class SetValue:
    """A value of a set in which several samples decide together what is right (both questions on an image).

    value: None, reported as null, where nothing is known to be right or wrong. unknown: how many such groups the value
    leaves out, because an answer of theirs is missing and none is wrong; the report says it.
    """

    value: float | None
    unknown: int = 0


class CorpusMetric(Metric):
    """A metric that only a whole set of samples has: no sample has a score, and no sums of numbers make the value.

    What `item` returns is kept for every sample of the set: tuples of numbers in memory, values of which few are
    different once each, others in a file, and in memory where there are resamples. For what can be summed, define
    `from_sums` of a plain metric instead.
    """

    aggregation: ClassVar[str] = "self"
    resamples: int = 0
    """How many bootstrap resamples the standard error is made of. Each costs a `measure`; with 0 there is no error."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, JSON]:
        """All that decides the value beside the task file and the answers, as JSON; it stands in the report."""

    @abstractmethod
    def item(self, seen: Observation) -> Any | None:
        """What the value needs of one sample; None where it cannot be scored (its gold is hidden).

        `seen.sample` has no requests. An exception fails the sample, which is then left out of the value.
        """

    def unanswered(self, sample: Sample) -> Any | None:
        """What the value needs to know of a sample that failed, where several decide together whether something is
        right; None where it needs nothing. It does not count in n."""
        return None

    @abstractmethod
    def measure(self, items: Sequence[Any]) -> float | SetValue | Mapping[str, float | SetValue]:
        """The value of a set, or several by name, of which each is reported as `<metric>_<name>`.

        items: a list; of more than 20,000 a sequence that makes each item as it is looked at.

        One under the metric's own name is reported as `<metric>`.
        """

    def score(self, seen: Observation) -> None:
        self.item(seen)


class RepeatMetric(Metric):
    """A metric of all replies to a question, each of which another metric scores on its own (pass@k).

    Where `wants_inner`, `use` is called with that metric when the task's metrics are made: the one that `of` names,
    with the task's own options where the task lists it, or the task's first one. It gives one number for a sample, of
    which more is better. `predictions` hold an answer for each reply: filters that make one of them are left out.
    """

    of: str | Mapping[str, JSON] | None = None
    """The option `of`: a metric's name, or an entry as `metric_list` has it."""
    replies: int = 1
    """How many replies there must be at least: the task's `repeats`."""
    inner: Metric | None = None

    @property
    def wants_inner(self) -> bool:
        return True

    def use(self, inner: Metric) -> None:
        self.inner = inner

    def prepare(self, options: MetricOptions) -> None:
        if self.inner is not None:
            self.inner.prepare(options)

    def score_each(self, seen: Observation) -> list[float | None]:
        """The inner metric's score of each reply; None where it has none, because the gold is hidden."""
        if self.inner is None:
            raise ValueError("it was not told which metric scores a reply")
        scores: list[float | None] = []
        for index, prediction in enumerate(seen.predictions):
            own = seen.responses[index : index + 1] if len(seen.responses) == len(seen.predictions) else seen.responses
            score = self.inner.score(replace(seen, responses=own, predictions=(prediction,)))
            if isinstance(score, tuple):
                raise ValueError(f"metric '{self.inner.name}' gives several numbers for a reply")
            scores.append(score)
        return scores
