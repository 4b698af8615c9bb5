"""From the scores of samples to the results of subsets, groups and tasks.

Records are read once, as a stream; what is kept of each is its numbers. A score of None is counted with its sample and
left out of every value: what was not scored is not 0.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.metrics import BatchMetric, CorpusMetric, Metric, ScoreKey
from harness.reasoning import is_incomplete, strip_reasoning
from harness.scoring.observations import observation, recorded_sample
from harness.scoring.scores import aggregated, identity_of, located, statistics_of, summed
from harness.scoring.statistics.clusters import cluster_number
from harness.types import JSON, Counts, MetricResult, Record, Response, Result, ScoreName

if TYPE_CHECKING:
    from harness.scoring.corpus import Measured
    from harness.scoring.set_items import SetItems
    from harness.scoring.statistics.estimates import Clusters, Estimate, Floats

Average = Literal["micro", "macro"]
Categories = Callable[[Record], Iterable[tuple[str, str]]]
"""What a record is counted under beside its subset: (name of the breakdown, value)."""

WHOLE = "whole set"
"""What the report says of a metric of whole sets in the place of an aggregation: samples have no scores."""

AGGREGATIONS = frozenset({"mean", "nanmean", "median", "max", "min"})
"""Names for `aggregation:`, beside `self`, the metric's own. `nanmean` is `mean`: an unscored sample never counts."""

OWN = frozenset(
    {
        "bits_per_byte",
        "bleu",
        "brier_score",
        "chrf",
        "f1",
        "matthews_corrcoef",
        "perplexity",
        "ter",
        "weighted_perplexity",
    }
)
"""Names that lm-eval gives to the own aggregation of one metric; they choose that metric's default."""


@dataclass
class _Column:
    """The scores under one key in one subset: `width` numbers a sample, row after row."""

    width: int = 0
    values: array[float] = field(default_factory=lambda: array("d"))
    clusters: array[int] = field(default_factory=lambda: array("q"))
    noted: int = 0
    """How many samples of it `ScoreSums.new` has given."""

    def new(self) -> dict[str, Any]:
        """The samples behind those that were noted."""
        start, self.noted = self.noted, len(self.clusters)
        return {
            "width": self.width,
            "values": self.values[start * self.width :].tolist(),
            "clusters": self.clusters[start:].tolist(),
        }

    def extend(self, fields: Mapping[str, Any]) -> None:
        self.width = fields["width"]
        self.values.extend(fields["values"])
        self.clusters.extend(fields["clusters"])
        self.noted = len(self.clusters)

    def add(self, key: ScoreKey, score: float | Sequence[float], cluster: int) -> bool:
        """Take a score; False for one that no value can hold, of another width than the others: its sample failed."""
        try:
            row = statistics_of(key.metric, (score,) if isinstance(score, int | float) else tuple(score))
        except (Exception, SystemExit):  # as when the sample was scored, which then counts as failed
            return False
        if self.width and len(row) != self.width:
            return False
        self.width = len(row)
        self.values.extend(row)
        self.clusters.append(cluster)
        return True


def _set_items() -> SetItems:
    from harness.scoring.set_items import SetItems

    return SetItems()


@dataclass
class _Items:
    """What a metric of whole sets keeps of one subset, and its values, which several means are made of.

    answered: how many of the items are of samples that have an answer.
    """

    items: SetItems = field(default_factory=_set_items)
    clusters: array[int] = field(default_factory=lambda: array("q"))
    answered: int = 0
    measured: Measured | None = None

    def measure(self, metric: CorpusMetric) -> Measured:
        from harness.scoring.corpus import measure

        if self.measured is None:
            self.measured = measure(metric, self.items, self.clusters)
        return self.measured


def _joined_items(parts: Sequence[_Items]) -> _Items:
    """The items of several subsets as those of one set."""
    if len(parts) == 1:
        return parts[0]
    joined = _Items()
    for part in parts:
        joined.items.extend(part.items.all())
        joined.clusters.extend(part.clusters)
    return joined


@dataclass
class _Table:
    """What is kept of one subset's records.

    truncated: samples of which a metric cut a text, by key. reasoned: those of which it scored the reasoning too.
    """

    columns: dict[str, _Column] = field(default_factory=dict)
    items: dict[str, _Items] = field(default_factory=dict)
    truncated: Counter[str] = field(default_factory=Counter)
    reasoned: Counter[str] = field(default_factory=Counter)
    clustered: bool = False
    _plain: int = 0
    _others: Counts = field(default_factory=Counts)
    """Of the samples that are in some doubt; of the other ones there is only a number."""

    @property
    def counts(self) -> Counts:
        return self._others + Counts(n=self._plain)

    def new(self) -> dict[str, Any]:
        """See `ScoreSums.new`."""
        return {
            "counts": list(astuple(self.counts)),
            "columns": {name: column.new() for name, column in self.columns.items()},
            "truncated": self.truncated,
            "reasoned": self.reasoned,
            "clustered": self.clustered,
        }

    def extend(self, fields: Mapping[str, Any]) -> None:
        """See `ScoreSums.extend`."""
        self._plain, self._others, self.clustered = 0, Counts(*fields["counts"]), fields["clustered"]
        self.truncated, self.reasoned = Counter(fields["truncated"]), Counter(fields["reasoned"])
        for name, column in fields["columns"].items():
            self.columns.setdefault(name, _Column()).extend(column)

    def add(self, record: Record, keys: Iterable[ScoreKey]) -> None:
        if (counted := _count(record)) is _ONE:
            self._plain += 1
        else:
            self._others += counted
        self.clustered = self.clustered or record.cluster is not None
        cluster = cluster_number(record.cluster, record.subset, record.id)
        for key in keys:
            score = record.scores.get(key.name)
            if score is not None:
                if (column := self.columns.get(key.name)) is None:
                    column = self.columns[key.name] = _Column()
                if not column.add(key, score, cluster):
                    self._others += Counts(failed=0 if record.error else 1)
            if (scored := record.scored_by.get(key.group)) is not None and scored.truncated:
                self.truncated[key.name] += 1
            # A judge is shown answers alone.
            if score is not None and not getattr(key.metric, "is_filled_later", key.metric.is_constant):
                answers = record.answers.get(key.pipeline, ())
                self.reasoned[key.name] += any(strip_reasoning(each)[1] is not None for each in answers if each)
            if isinstance(key.metric, CorpusMetric):
                is_answered = _is_answered(record)
                item = _item(key.metric, record, key.pipeline if is_answered else None)
                if item is not None:
                    kept = self.items.setdefault(key.name, _Items())
                    kept.items.append(item)
                    kept.clusters.append(cluster)
                    kept.answered += is_answered


class ScoreSums:
    """The scores of a task, taken one record a row at a time.

    subsets, categories: as of `Scorer.summarise`. keys: what is reported.
    """

    def __init__(
        self,
        subsets: Sequence[tuple[str, str, Sequence[str]]],
        keys: Sequence[ScoreKey],
        average: Average,
        categories: Categories | None = None,
    ) -> None:
        self._subsets, self._keys, self._average, self._categories = subsets, keys, average, categories
        self._tables = {name: _Table() for name, _, _ in subsets}
        self._by_category: dict[tuple[str, str], _Table] = {}

    def add(self, row: Record) -> None:
        """Take a row; one of a subset that is not named is passed over."""
        table = self._tables.get(row.subset)
        if table is None:
            return
        table.add(row, self._keys)
        for category in dict.fromkeys(self._categories(row)) if self._categories else ():
            self._by_category.setdefault(category, _Table()).add(row, self._keys)

    @property
    def can_be_noted(self) -> bool:
        """Whether numbers are all that is kept."""
        return self._categories is None and not any(isinstance(key.metric, CorpusMetric) for key in self._keys)

    def new(self) -> dict[str, Any]:
        """What came since this was last called, for a file of JSON; of what does not grow, all. See `can_be_noted`."""
        return {name: table.new() for name, table in self._tables.items() if table.counts.n}

    def extend(self, fields: Mapping[str, Any]) -> None:
        """Take what `new` gave, in its order."""
        for name, of_subset in fields.items():
            self._tables[name].extend(of_subset)

    def results(self, task: str) -> list[Result]:
        """The results of each subset, each group of subsets, and the task, and then of each category."""
        results = _over_subsets(task, self._subsets, self._tables, self._keys, self._average)
        order = list(dict.fromkeys(breakdown for breakdown, _ in self._by_category))
        categories = sorted(self._by_category.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
        for (breakdown, name), table in categories:
            results.append(_single(task, name, "category", breakdown, table, self._keys))
        return results


def summarise(
    task: str,
    rows: Iterable[Record],
    subsets: Sequence[tuple[str, str, Sequence[str]]],
    keys: Sequence[ScoreKey],
    average: Average,
    categories: Categories | None = None,
) -> list[Result]:
    """See `Scorer.summarise`."""
    sums = ScoreSums(subsets, keys, average, categories)
    for row in rows:
        sums.add(row)
    return sums.results(task)


def _over_subsets(
    task: str,
    subsets: Sequence[tuple[str, str, Sequence[str]]],
    tables: Mapping[str, _Table],
    keys: Sequence[ScoreKey],
    average: Average,
) -> list[Result]:
    """The results of each subset, each group of subsets, and the task."""
    if [name for name, _, _ in subsets] == [""]:
        return [_single(task, task, "task", subsets[0][1], tables[""], keys)]
    results = [_single(task, name, "subset", title, tables[name], keys) for name, title, _ in subsets]
    if len(subsets) == 1:
        return [*results, _single(task, task, "task", "", tables[subsets[0][0]], keys)]
    groups: dict[str, list[str]] = {}
    for name, _, memberships in subsets:
        for group in memberships:
            groups.setdefault(group, []).append(name)
    for group, members in groups.items():
        of_group = _averages(task, group, "group", [tables[name] for name in members], keys, average)
        results += [replace(result, members=tuple(members)) for result in of_group]
    return [*results, *_averages(task, task, "task", list(tables.values()), keys, average)]


def _is_answered(record: Record) -> bool:
    return bool(record.responses) and not any(
        response.error is not None or is_incomplete(response) for response in record.responses
    )


def _item(metric: CorpusMetric, record: Record, pipeline: str | None) -> Any | None:
    """pipeline: None for a sample that has no answer."""
    try:
        sample = recorded_sample(record)
        return metric.unanswered(sample) if pipeline is None else metric.item(observation(sample, record, pipeline))
    except Exception:  # The same was raised when the sample was scored, which then counts as failed.
        return None


_ONE = Counts(n=1)


def _is_plain(response: Response) -> bool:
    """Whether an answer is log-probabilities, of which nothing was cut: in no doubt."""
    return response.text is None and response.finish_reason is None and not response.truncated


def _count(record: Record) -> Counts:
    if record.error is None and not record.unparsed and all(map(_is_plain, record.responses)):
        return _ONE
    incomplete = any(map(is_incomplete, record.responses))
    texts = [each.text for each in record.responses if each.text is not None and not is_incomplete(each)]
    return Counts(
        n=1,
        failed=int(record.error is not None),
        refused=int(any(response.finish_reason == "refused" for response in record.responses)),
        unparsed=int(record.unparsed),
        truncated=int(record.truncated),
        empty=int(bool(texts) and not any(text.strip() for text in texts)),
        cut=int(incomplete or any(response.finish_reason == "length" for response in record.responses)),
    )


def _single(
    task: str,
    name: str,
    level: Literal["subset", "category", "task"],
    title: str,
    table: _Table,
    keys: Sequence[ScoreKey],
) -> Result:
    metrics = tuple(result for key in keys for result in _micro(key, [table]))
    return Result(task, name, level, table.counts, metrics, title=title)


def _averages(
    task: str,
    name: str,
    level: Literal["group", "task"],
    tables: Sequence[_Table],
    keys: Sequence[ScoreKey],
    first: Average,
) -> Iterator[Result]:
    """The micro and the macro result of several subsets, the task's own average first."""
    counts = sum((table.counts for table in tables), Counts())
    ways: Mapping[Average, Callable[[ScoreKey, Sequence[_Table]], list[MetricResult]]] = {
        "micro": _micro,
        "macro": _macro,
    }
    for average in sorted(ways, key=lambda way: way != first):
        metrics = tuple(result for key in keys for result in ways[average](key, tables))
        yield Result(task, name, level, counts, metrics, average)


def _micro(key: ScoreKey, tables: Sequence[_Table]) -> list[MetricResult]:
    """One value over all samples, as if there were no subsets."""
    if isinstance(key.metric, CorpusMetric):
        return _corpus(key, key.metric, tables, "micro")
    n = _scored(key, tables)
    try:
        return [_result(key, _estimate(key, *_joined(key, tables)) if n else None, n, tables)]
    except (Exception, SystemExit) as error:
        return [_without_value(key, error, n, tables)]


def _macro(key: ScoreKey, tables: Sequence[_Table]) -> list[MetricResult]:
    """The mean of the subsets' values, each counting the same. A subset without a scored sample has no value."""
    from harness.scoring.statistics.estimates import macro_estimate

    if isinstance(key.metric, CorpusMetric):
        return _corpus(key, key.metric, tables, "macro")
    n = _scored(key, tables)
    scored = [table for table in tables if _scored(key, [table])]
    try:
        estimates = [_estimate(key, *_joined(key, [table])) for table in scored]
        return [_result(key, macro_estimate(estimates, key.metric.bounds) if scored else None, n, tables)]
    except (Exception, SystemExit) as error:
        return [_without_value(key, error, n, tables)]


def _scored(key: ScoreKey, tables: Sequence[_Table]) -> int:
    """How many samples have a score under the key."""
    return sum(len(table.columns[key.name].clusters) for table in tables if key.name in table.columns)


def _without_value(key: ScoreKey, error: BaseException, n: int, tables: Sequence[_Table]) -> MetricResult:
    """What is told of a metric that makes no value of a set: why, and of how many samples."""
    return replace(_result(key, None, n, tables), error=located(error))


def _corpus(key: ScoreKey, metric: CorpusMetric, tables: Sequence[_Table], average: Average) -> list[MetricResult]:
    """The values of a metric of whole sets; one that raises has none, and says why."""
    from harness.scoring.corpus import mean_of

    parts = [table.items[key.name] for table in tables if key.name in table.items and table.items[key.name].answered]
    n = sum(part.answered for part in parts)
    if not parts:
        return [_result(key, None, 0, tables)]
    try:
        if average == "macro":
            values = mean_of([part.measure(metric) for part in parts])
        else:
            values = _joined_items(parts).measure(metric)
    except (Exception, SystemExit) as error:
        return [_without_value(key, error, n, tables)]
    # `evaluate/rouge_rouge1@strict` for the value `rouge1` under the key `evaluate/rouge@strict`.
    name = ScoreName.parse(key.name)
    own = {value: str(name._replace(metric=f"{name.metric}_{value}")) if value else key.name for value in values}
    return [
        replace(_result(key, found.estimate, n, tables), metric=own[value], unknown=found.unknown)
        for value, found in values.items()
    ]


def _joined(key: ScoreKey, tables: Sequence[_Table]) -> tuple[Floats, Clusters]:
    """The scores of some subsets, shape [n, width], and their clusters, shape [n], if any sample has one."""
    import numpy as np

    columns = [table.columns[key.name] for table in tables if key.name in table.columns]
    if len({column.width for column in columns}) > 1:
        raise ValueError("it gave different numbers of statistics in different subsets")
    values = np.concatenate([np.frombuffer(column.values).reshape(-1, column.width) for column in columns])
    if not any(table.clustered for table in tables):
        return values, None
    return values, np.concatenate([np.frombuffer(column.clusters, dtype=np.int64) for column in columns])


def _estimate(key: ScoreKey, values: Floats, clusters: Clusters) -> Estimate:
    from harness.scoring.statistics import estimates as statistics

    if key.aggregation == "self":
        return _own_estimate(key.metric, values, clusters)
    if values.shape[1] != 1:
        raise ValueError(f"it gives {values.shape[1]} statistics a sample, which '{key.aggregation}' cannot join")
    column = values[:, 0]
    if key.aggregation == "median":
        return statistics.median_estimate(column, clusters)
    if key.aggregation in ("max", "min"):
        return statistics.Estimate(float(column.max() if key.aggregation == "max" else column.min()))
    if key.metric.bounds == (-1.0, 1.0):
        return statistics.difference_estimate(column, clusters)
    return statistics.mean_estimate(column, clusters)


def _own_estimate(metric: Metric, values: Floats, clusters: Clusters) -> Estimate:
    """A metric's own value of a set; without an error where a resample of it has no value."""
    from harness.scoring.statistics import estimates as statistics

    if type(metric).aggregate is not Metric.aggregate:
        scores, aggregate = [tuple(row) for row in values.tolist()], aggregated(metric)
        value = aggregate(scores)
        try:
            return statistics.opaque_estimate(scores, aggregate)
        except (Exception, SystemExit):
            return statistics.Estimate(value)
    value = summed(metric)(tuple(values.sum(axis=0).tolist()), len(values))
    try:
        estimate = statistics.distance_estimate if metric.is_distance else statistics.own_estimate
        return estimate(values, summed(metric), clusters)
    except (Exception, SystemExit):
        return statistics.Estimate(value)


def _result(key: ScoreKey, estimate: Estimate | None, n: int, tables: Sequence[_Table]) -> MetricResult:
    metric = key.metric
    scorer: Mapping[str, JSON] | None = identity_of(metric) if isinstance(metric, BatchMetric | CorpusMetric) else None
    told = MetricResult(
        key.name,
        None,
        n,
        higher_is_better=key.higher_is_better,
        aggregation=WHOLE if isinstance(metric, CorpusMetric) else key.aggregation,
        bounds=metric.bounds,
        scorer=scorer,
        truncated=sum(table.truncated[key.name] for table in tables),
        reasoned=sum(table.reasoned[key.name] for table in tables),
        setting=metric.setting,
    )
    if estimate is None:
        return told
    if metric.is_constant:
        return replace(told, value=estimate.value)
    interval = estimate.interval
    if interval is not None and metric.bounds is not None:
        least, greatest = metric.bounds
        interval = (max(least, interval[0]), min(greatest, interval[1]))
    return replace(told, value=estimate.value, stderr=estimate.stderr, interval=interval)
