"""Turns replies into scores, one sample at a time, and scores into results.

    scorer = Scorer(spec, registry.metric, registry.filter, where="tasks/gsm8k.yaml")
    scored = scorer.score(sample, responses)
    results = scorer.summarise("gsm8k", records, [("", "", ())])

Everything that can be wrong with a task's metrics and filters is found when the scorer is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace

from harness.errors import HarnessError, UsageError, only_failures, suggest
from harness.filters import Filter
from harness.metrics import BatchMetric, CorpusMetric, Metric, MetricOptions, Observation, RepeatMetric, ScoreKey
from harness.quick import dataclass
from harness.reasoning import is_incomplete
from harness.scoring.aggregation import AGGREGATIONS, OWN, Categories, ScoreSums, summarise
from harness.scoring.batches import BatchScorer
from harness.scoring.construct import construct
from harness.scoring.observations import split_by_condition
from harness.scoring.scores import (
    Score,
    check_declared,
    checked,
    checked_answers,
    described,
    located,
    named,
    raised_at,
    statistics_of,
)
from harness.types import FilterPipeline, MetricSpec, Record, Response, Result, Sample, ScoreName, ScoringSpec

TEXT_OPTIONS = frozenset({"ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore", "average"})
"""Options of lm-eval's metrics of texts. Its files give them to metrics of choices too, where they mean nothing
(api/task.py, `process_results`): those that a metric of choices does not take are passed over."""


@dataclass(frozen=True, slots=True)
class SampleScores:
    """What scoring decides of a `Record`; fields as there.

    cause: where in a metric or filter an exception was raised, for samples that fail alike; empty where none was.
    """

    scores: Mapping[str, Score]
    answers: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    unparsed: bool = False
    error: str | None = None
    cause: str = ""


class FilterFailure(Exception):
    """A filter raised. Its text names the filter, `cause` the place."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class _Pipeline:
    name: str
    filters: tuple[Filter, ...]

    def run(self, replies: Sequence[str | None], sample: Sample, every: bool = False) -> tuple[str | None, ...]:
        """The answers that are read from the replies; with `every` one of each, where the pipeline would join them."""
        for step in self.filters:
            if every and step.joins:
                continue
            try:
                replies = checked_answers(step.apply(replies, sample), len(replies))
            except BaseException as error:
                only_failures(error)
                raise FilterFailure(f"filter {step.name}: {located(error)}", _cause(step.name, error)) from error
        return tuple(replies)


def _cause(name: str, error: BaseException) -> str:
    """What samples that fail alike have in common; empty for an error that is meant for a reader, and of its sample."""
    return "" if isinstance(error, HarnessError) else f"{name} {type(error).__name__} {raised_at(error)}"


def _complete_ones(seen: Observation, cut: Sequence[bool]) -> Observation:
    """What a metric sees where some answers were cut inside their reasoning: the other ones.

    An answer that was made of several by a filter (a vote) stays, unless it is that of one that was cut.
    """
    whole = tuple(response for response, cut_off in zip(seen.responses, cut, strict=True) if not cut_off)
    if len(seen.predictions) == len(cut):
        pairs = zip(seen.predictions, cut, strict=True)
        return replace(seen, responses=whole, predictions=tuple(answer for answer, cut_off in pairs if not cut_off))
    kept = () if all(answer is None for answer in seen.predictions) else whole
    return replace(seen, responses=kept)


def _score_name(own: str, metric: Metric, value: str) -> str:
    """What one number of a metric is called; `value` is its name among several."""
    if not value:
        return own
    return value if metric.stem is None else f"{metric.stem or own}_{value}"


class Scorer:
    """All metrics of one task. Holds no state between samples, so that one scorer can serve many threads."""

    def __init__(
        self,
        spec: ScoringSpec,
        find_metric: Callable[[str], type[Metric]],
        find_filter: Callable[[str], type[Filter]],
        where: str = "",
    ) -> None:
        self._spec = spec
        self._where = where
        self._lines: dict[int, str] = {}  # id of a metric -> where the task file asks for it
        self._generates = spec.output_type == "generate_until"
        # Filters are for texts, but a mistake in their names is one for every kind of task.
        pipelines = self._make_pipelines(find_filter)
        self._pipelines = pipelines if self._generates else (_Pipeline("none", ()),)
        self.keys = tuple(key for item in self._checked_metrics(spec) for key in self._make_keys(item, find_metric))
        names = [key.name for key in self.keys]
        if repeated := next((name for index, name in enumerate(names) if name in names[:index]), None):
            raise UsageError(f"{self._at()}metric_list: two metrics give a score '{repeated}'; take one out")
        self._looks_at_every_reply = any(isinstance(key.metric, RepeatMetric) for key in self.keys)
        groups = [tuple(keys) for _, keys in itertools.groupby(self.keys, key=lambda key: key.group)]
        self._groups = [keys for keys in groups if not isinstance(keys[0].metric, BatchMetric)]
        in_batches = [keys for keys in groups if isinstance(keys[0].metric, BatchMetric)]
        options = {item.metric: item.options for item in spec.metrics}
        self.batches = BatchScorer(in_batches, options, self._at()) if in_batches else None
        """The metrics that score many samples at once, if there are any: `score` leaves their scores out."""

    def prepare(self, options: MetricOptions) -> None:
        """Have every metric look at files and packages, before any model loads. Raises `UsageError`."""
        for metric in {id(key.metric): key.metric for key in self.keys}.values():
            try:
                metric.prepare(options)
            except HarnessError as error:
                kind = type(error) if isinstance(error, UsageError) else UsageError
                raise kind(f"{self._at(self._lines.get(id(metric), ''))}metric '{metric.name}': {error}") from error
            except Exception as error:
                where = self._at(self._lines.get(id(metric), ""))
                raise UsageError(f"{where}metric '{metric.name}' cannot work: {described(error)}") from error

    @property
    def needs_unconditional(self) -> bool:
        """Whether a metric wants the choices scored without their question, too."""
        return any(key.metric.needs_unconditional for key in self.keys)

    @property
    def reported(self) -> tuple[ScoreKey, ...]:
        """The scores that the report holds, the headline first."""
        return self.keys

    @property
    def renamed(self) -> Mapping[str, str]:
        """Metric -> what the report calls it, where that is another name."""
        return {}

    @property
    def headline(self) -> str:
        """The score key that stands for the task: its first metric, through its first pipeline."""
        return self.keys[0].name

    def score(self, sample: Sample, responses: Sequence[Response]) -> SampleScores:
        """Score one sample from the responses to `sample.requests`, in their order, by all metrics but `batches`.

        A response with an error, a filter or a metric that raises, and a score that is not finite make the sample
        failed: `error` says why, and what could not be scored is None. An answer that was cut inside its reasoning is
        none: a sample without any other has no score, and of several answers the others count.
        """
        failed = sample.problem or next((response.error for response in responses if response.error), None)
        if failed:
            return SampleScores(self._unscored(), error=failed)
        cut = [is_incomplete(response) for response in responses]
        try:
            answers = self._answers(sample, responses, cut)
            every = self._answers(sample, responses, cut, every=True) if self._looks_at_every_reply else {}
        except FilterFailure as error:
            return SampleScores(self._unscored(), error=str(error), cause=error.cause)
        conditional, unconditional = split_by_condition(len(sample.choices), responses)
        scores: dict[str, Score] = self._unscored()
        errors, causes = [], []
        for keys in self._groups:
            metric, pipeline = keys[0].metric, keys[0].pipeline
            read = (every if isinstance(metric, RepeatMetric) else answers).get(pipeline, ())
            seen = Observation(sample, conditional, unconditional, read, pipeline=pipeline)
            if any(cut):
                seen = _complete_ones(seen, cut)
                if not seen.responses or (isinstance(metric, RepeatMetric) and len(seen.predictions) < metric.replies):
                    continue
            try:
                score = checked(metric.score(seen))
                if score is not None and keys[0].aggregation == "self":
                    statistics_of(metric, score if isinstance(score, tuple) else (score,))
                scores.update({} if isinstance(metric, CorpusMetric) else named(keys, score))
            except BaseException as error:
                only_failures(error)
                errors.append(f"metric {keys[0].group}: {located(error)}")
                causes.append(_cause(keys[0].group, error))
        first = answers.get(self._pipelines[0].name, ())
        unparsed = bool(first) and all(answer is None for answer in first) and not all(cut)
        return SampleScores(scores, answers, unparsed, "; ".join(errors) or None, "; ".join(filter(None, causes)))

    def summarise(
        self,
        task: str,
        rows: Iterable[Record],
        subsets: Sequence[tuple[str, str, Sequence[str]]],
        categories: Categories | None = None,
    ) -> list[Result]:
        """Return the results of each subset, each group of subsets, and the task.

        rows: read once; only numbers are kept. Rows of a subset that is not named in `subsets` are passed over.
        subsets: (name, title, names of its groups), in the order of the report. A task without subsets has one, "".

        categories: what else a row is counted under; each of them has a result of its own.

        A value over several subsets comes twice, as `micro` and as `macro` mean; the task's own average comes first.
        """
        return summarise(task, self.rows(rows), subsets, self.reported, self._spec.average, categories)

    def sums(
        self, subsets: Sequence[tuple[str, str, Sequence[str]]], categories: Categories | None = None
    ) -> ScoreSums:
        """What takes the `rows` of the records one at a time, and gives the same results."""
        return ScoreSums(subsets, self.reported, self._spec.average, categories)

    def rows(self, records: Iterable[Record]) -> Iterator[Record]:
        """One record a row, with the scores that are reported: the records themselves."""
        return iter(records)

    def _unscored(self) -> dict[str, Score]:
        return {key.name: None for key in self.keys if not isinstance(key.metric, CorpusMetric)}

    def _answers(
        self, sample: Sample, responses: Sequence[Response], cut: Sequence[bool], every: bool = False
    ) -> dict[str, tuple[str | None, ...]]:
        if not self._generates:
            return {}
        replies = [None if cut_off else response.text for response, cut_off in zip(responses, cut, strict=True)]
        return {pipeline.name: pipeline.run(replies, sample, every) for pipeline in self._pipelines}

    def _make_pipelines(self, find_filter: Callable[[str], type[Filter]]) -> tuple[_Pipeline, ...]:
        specs = self._spec.pipelines or (FilterPipeline(),)
        for index, pipeline in enumerate(specs):
            if pipeline.name in [other.name for other in specs[:index]]:
                where = self._at(pipeline.where)
                raise UsageError(f"{where}two pipelines of filter_list are named '{pipeline.name}'; rename one")
        return tuple(
            _Pipeline(
                pipeline.name,
                tuple(
                    construct("filter", step.function, find_filter, step.options, step.where or self._where)
                    for step in pipeline.steps
                ),
            )
            for pipeline in specs
        )

    def _checked_metrics(self, spec: ScoringSpec) -> tuple[MetricSpec, ...]:
        if not spec.metrics:
            raise UsageError(f"{self._at()}metric_list is empty; name at least one metric")
        for index, item in enumerate(spec.metrics):
            if item.metric in [other.metric for other in spec.metrics[:index]]:
                raise UsageError(
                    f"{self._at(item.where)}metric '{item.metric}' is listed more than once in metric_list"
                )
        return spec.metrics

    def _make_keys(self, item: MetricSpec, find_metric: Callable[[str], type[Metric]]) -> list[ScoreKey]:
        metric = self._make_metric(item, find_metric)
        if isinstance(metric, RepeatMetric) and metric.wants_inner:
            metric.use(self._make_inner(item, metric, find_metric))
        aggregation = self._aggregation(item, metric)
        better = metric.higher_is_better if item.higher_is_better is None else item.higher_is_better
        several = len(self._pipelines) > 1
        return [
            ScoreKey(
                name=str(ScoreName(_score_name(item.metric, metric, value), ending)),
                pipeline=pipeline.name,
                metric=metric,
                aggregation=aggregation,
                higher_is_better=better,
                group=str(ScoreName(item.metric, ending)),
            )
            for pipeline in self._pipelines
            for ending in [pipeline.name if several else ""]
            for value in metric.values or [""]
        ]

    def _make_metric(self, item: MetricSpec, find_metric: Callable[[str], type[Metric]]) -> Metric:
        output_type = self._spec.output_type

        made = construct(
            "metric",
            item.metric,
            lambda name: find_metric(name).for_output_type(output_type).for_aggregation(item.aggregation),
            item.options,
            item.where or self._where,
            idle=() if output_type == "generate_until" else TEXT_OPTIONS,
        )
        self._lines[id(made)] = item.where
        check_declared(made)
        if output_type not in made.output_types:
            fits = ", ".join(sorted(made.output_types))
            raise UsageError(
                f"{self._at(item.where)}metric '{item.metric}' cannot score a task of output_type '{output_type}' "
                f"(it scores: {fits})"
            )
        return made

    def _make_inner(self, item: MetricSpec, outer: RepeatMetric, find_metric: Callable[[str], type[Metric]]) -> Metric:
        """The metric that scores each reply for `outer`."""
        place = f"{self._at(item.where)}metric '{item.metric}'"
        own = {spec.metric: spec for spec in self._spec.metrics}
        if outer.of is None:
            wanted = self._spec.metrics[0]
        elif isinstance(outer.of, str):
            wanted = own.get(outer.of) or MetricSpec(outer.of, where=item.where)
        elif isinstance(outer.of, Mapping) and "metric" in outer.of:
            options = dict(outer.of)
            wanted = MetricSpec(str(options.pop("metric")), options=options, where=item.where)
        else:
            raise UsageError(f"{place}: of: a metric's name, or an entry with the key 'metric' is expected")
        inner = self._make_metric(wanted, find_metric)
        if isinstance(inner, RepeatMetric):
            raise UsageError(f"{place}: say by `of` which metric scores a single reply (of: exact_match)")
        if isinstance(inner, BatchMetric | CorpusMetric) or inner.aggregation != "mean" or inner.values:
            raise UsageError(f"{place}: '{wanted.metric}' does not score a single reply by one number at once")
        if not (inner.higher_is_better if wanted.higher_is_better is None else wanted.higher_is_better):
            raise UsageError(f"{place}: less is better for '{wanted.metric}', so that no score of it is a pass")
        return inner

    def _aggregation(self, item: MetricSpec, metric: Metric) -> str:
        name = item.aggregation or metric.aggregation
        # lm-eval's files name a metric's own way from scores to a value after the metric (`aggregation: bleu`).
        name = metric.aggregation if name in OWN else name
        if name != "self" and name not in AGGREGATIONS:
            known = sorted({*AGGREGATIONS, "self"})
            raise UsageError(
                f"{self._at(item.where)}metric '{item.metric}': unknown aggregation '{name}'{suggest(name, known)} "
                f"(known: {', '.join(known)})"
            )
        if name != "self" and metric.aggregation == "self":
            raise UsageError(
                f"{self._at(item.where)}metric '{item.metric}' has its own way to one value; leave its aggregation out"
            )
        return name

    def _at(self, where: str = "") -> str:
        """How a message begins: the line of the task file, or the file."""
        place = where or self._where
        return f"{place}: " if place else ""
