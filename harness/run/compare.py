"""Compares runs that are on disk, sample by sample: `compare_runs("runs/baseline", "runs/current")`."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

from harness.errors import HarnessError, UsageError
from harness.metrics import Metric
from harness.quick import dataclass
from harness.record.coverage import NAMED, coverage_of, covered, part_words
from harness.record.manifest import (
    MANIFEST_FILE,
    model_title,
    read_manifest,
    read_report,
    shown_differences,
    the_run,
)
from harness.record.report_fields import TaskReport
from harness.record.run import REPORT_FILE, RunFolder
from harness.record.sample_keys import SampleKeys
from harness.record.score_fields import MetricFields
from harness.registry import Registry, load_plugins
from harness.run.jobs import TaskJob, load_jobs
from harness.run.spec import Progress, RunSpec
from harness.scoring.aggregation import WHOLE
from harness.scoring.scorer import Scorer
from harness.scoring.scores import located, statistics_of, summed
from harness.scoring.statistics.paired import Comparison, compare, compare_macro, correct_for_many
from harness.scoring.statistics.pairs import PairKeys, pair, pair_by_subset
from harness.types import JSON, Record, SampleKey

_ASKED_BY = (
    "apply_chat_template", "fewshot_as_multiturn", "system_instruction", "gen_kwargs", "task_gen_kwargs", "seed",
    "user_model", "bad_rows",
)  # fmt: skip
"""What a run's identity says of how it was asked, whoever answered."""
P = ParamSpec("P")
T = TypeVar("T")


def compare_runs(
    first: str | Path,
    second: str | Path,
    registry: Registry | None = None,
    *,
    across: bool = False,
    message: Callable[[str], None] = lambda text: None,
) -> list[Comparison]:
    """Compare the headline metric of every task that both runs have, sample by sample, `second` against `first`.

    A task whose average is the macro mean is compared by it. P-values are corrected for the number of tasks.
    across: where the runs share no task, a task and its modified form (`cmmlu` and `cmmlu+circular`) are compared, row
    by row. message: is told what of a folder cannot be read and so is in no number. Raises `UsageError` for what is no
    run, has no report yet, or shares no task.
    """
    old, new = RunSide(first, registry), RunSide(second, registry)
    common = [(name, name) for name in old.tasks if name in new.tasks]
    if not common and across:
        common = [(name, other) for name in old.tasks for other in new.tasks if old.base(name) == new.base(other)]
    if not common:
        there, here = ", ".join(old.tasks), ", ".join(new.tasks)
        raise UsageError(f"the runs share no task: {old.path} has {there}; {new.path} has {here}")
    comparisons = correct_for_many([compare_task(old, new, *names) for names in common])
    for problem in [
        *told_of_sides(old, new),
        *asked_otherwise(old, new, [name for name, other in common if name == other]),
    ]:
        message(problem)
    return comparisons


def told_of_sides(old: RunSide, new: RunSide) -> Iterator[str]:
    """What of the folders of two runs cannot be read and so is in no number, a line each."""
    for side in (old, new):
        yield from side.run.take_messages()


def asked_otherwise(old: RunSide, new: RunSide, tasks: Sequence[str]) -> Iterator[str]:
    """What was asked or scored otherwise in the second run, whose scores then differ for more than the model, in lines:
    of the runs, and of their common tasks."""
    sides = f"in {old.path}", f"in {new.path}"
    first, second = ({key: side.manifest["identity"].get(key) for key in _ASKED_BY} for side in (old, new))
    if others := shown_differences(first, second, *sides):
        yield f"the runs were not asked alike: {others}"
    digests = {name: (old.digest(name), new.digest(name)) for name in tasks}
    differing = [name for name, (one, other) in digests.items() if one and other and one != other]
    for name in differing[:NAMED]:
        others = shown_differences(old.config(name), new.config(name), *sides) or "a file that it reads has changed"
        yield f"{name}: is not asked and scored alike: {others}"
    if len(differing) > NAMED:
        yield f"nor are {len(differing) - NAMED} more tasks"


def run_labels(paths: Sequence[str | Path]) -> list[str]:
    """What tells runs apart: the model, the arguments in which it differs, when the run began, its folder."""
    manifests = [read_manifest(the_run(Path(path))) for path in paths]
    titles = [manifest.get("spec", {}).get("name") or model_title(manifest) for manifest in manifests]
    args = [{**manifest.get("model", {}).get("args", {})} for manifest in manifests]
    named = dict.fromkeys(key for own in args for key in own)
    differing = [key for key in named if any(own.get(key) != args[0].get(key) for own in args)]
    labels = []
    for path, manifest, title, own in zip(paths, manifests, titles, args, strict=True):
        differences = [f"{key}={own.get(key, 'default')}" for key in differing if titles.count(title) > 1]
        began = str(manifest.get("started") or "")[:16].replace("T", " ")
        labels.append(f"{', '.join([title, *differences])} ({', '.join(filter(None, [began, str(path)]))})")
    return labels


def unshared_tasks(first: str | Path, second: str | Path) -> tuple[list[str], list[str]]:
    """The tasks that only the first and only the second run has; none where they share none."""
    old, new = RunSide(first, None).tasks, RunSide(second, None).tasks
    if not old.keys() & new.keys():
        return [], []
    return [name for name in old if name not in new], [name for name in new if name not in old]


class RunSide:
    """One of two runs: its report, and its records as rows, the views of a modified task joined."""

    def __init__(self, path: str | Path, registry: Registry | None) -> None:
        self.path = the_run(Path(path))
        self.manifest = read_manifest(self.path)
        self.registry = registry
        report = read_report(self.path / REPORT_FILE)
        if report is None:
            raise UsageError(f"{self.path}: has no report yet: the run has not ended; its command goes on with it")
        self.tasks = {task["task"]: task for task in report["tasks"]}
        if bare := [name for name, task in self.tasks.items() if not task["metrics"]]:
            file, again = self.path / REPORT_FILE, f"`harness score {self.path}` writes it anew"
            raise UsageError(f"{file}: damaged (task '{bare[0]}' has no score); {again}")
        absent = [name for name in self.tasks if name not in self.manifest.get("tasks", {})]
        if absent and self.manifest["kind"] == "run":
            told = f"it knows no task '{absent[0]}', of which {REPORT_FILE} tells"
            raise UsageError(f"{self.path / MANIFEST_FILE}: damaged ({told}); copy the run folder again")
        self._coverage = coverage_of(report)
        self._is_covered = covered(self._coverage)
        self._read: dict[str, SampleKeys] = {}

    @functools.cached_property
    def run(self) -> RunFolder:
        """The folder with its records, which are looked through for it."""
        return RunFolder.read(self.path)

    @functools.cached_property
    def jobs(self) -> dict[str, TaskJob]:
        """The tasks of the run, from their files."""
        if "spec" not in self.manifest:
            raise UsageError("it holds judgements, which know no task files")
        spec = RunSpec.from_json(self.manifest["spec"])
        return {job.task.name: job for job in load_jobs(spec, self.registry or load_plugins(), Progress())}

    def base(self, task: str) -> str:
        """The task's name without its modifiers."""
        return task.removesuffix("".join(f"+{name}" for name in self.modifiers(task)))

    def modifiers(self, task: str) -> Sequence[str]:
        return self.manifest.get("tasks", {}).get(task, {}).get("modifiers") or ()

    def digest(self, task: str) -> str | None:
        """Of all that decides how a task is asked and scored."""
        return self.manifest.get("tasks", {}).get(task, {}).get("digest")

    def config(self, task: str) -> dict[str, JSON]:
        """What the task's file says."""
        return self.manifest.get("tasks", {}).get(task, {}).get("config", {})

    def rows(self, task: str) -> Iterator[Record]:
        records: Iterator[Record] = self._noted(task)
        if self.modifiers(task):
            records = iter(self._scorer(task, "its views are joined").rows(records))
        return records

    def _noted(self, task: str) -> Iterator[Record]:
        """The records that the report is about, each row noted that is there with all of its views."""
        read = self._read[task] = SampleKeys()
        views: Counter[SampleKey] = Counter()
        for record in filter(self._is_covered, self.run.records(task)):
            key = record.key._replace(view=0)
            if record.view is not None:
                views[key] += 1
            if record.view is None or views[key] == record.view.count:
                read.add(key)
            yield record

    def lost(self, task: str) -> int:
        """How many rows its report is about whose records are not there, of a task whose `rows` were read."""
        covers = self._coverage.get(task) if self.manifest["kind"] == "run" else None
        return max(0, covers.count - len(self._read[task])) if covers is not None else 0

    def own_metric(self, task: str, key: str) -> Metric:
        """The metric that forms a value from sufficient statistics (corpus BLEU, points), as the task file says it."""
        keys = self._scorer(task, f"'{key}' is a value of a whole set").reported
        return next(item.metric for item in keys if item.name == key)

    def _scorer(self, task: str, why: str) -> Scorer:
        try:
            return self.jobs[task].scorer
        except HarnessError as error:
            raise UsageError(f"{task}: {why}, and its task cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class ScoreOfRun:
    """One score of a task of a run."""

    side: RunSide
    task: str
    metric: MetricFields

    @property
    def key(self) -> str:
        return self.metric["metric"]


def headline(task: TaskReport) -> MetricFields:
    """The score by which a task is compared: a metric of whole sets says nothing about a sample; the next one may."""
    return next((metric for metric in task["metrics"] if metric["aggregation"] != WHOLE), task["metrics"][0])


def compare_task(
    old: RunSide, new: RunSide, name: str, other: str | None = None, metric: MetricFields | None = None
) -> Comparison:
    """Compare a task that both runs have. other: its name in the second run, where it is another one. metric: of the
    first run's report; left out, its headline. Raises `UsageError`.
    """
    task, other = old.tasks[name], other or name
    first = ScoreOfRun(old, name, metric or headline(task))
    _require_one_scorer(first.metric, old, name, new, other)
    part = _common_part(task, new.tasks[other])
    if name == other:
        return compare_scores(first, ScoreOfRun(new, other, first.metric), f"{name}{part}: {first.key}")
    second = ScoreOfRun(new, other, new.tasks[other]["metrics"][0])
    return compare_scores(first, second, f"{name}{part}: {first.key}, {other}: {second.key}")


def compare_scores(first: ScoreOfRun, second: ScoreOfRun, title: str) -> Comparison:
    """Compare a score of one run with one of another, or of the same, row by row; they may show the rows differently.

    A task whose average is the macro mean is compared by it. Raises `UsageError` where the rows are of other data.
    """
    old, name, key, better = first.side, first.task, first.key, first.metric["higher_is_better"]
    new, other, task = second.side, second.task, old.tasks[name]
    if name != other and _rows_of(old, name) != _rows_of(new, other):
        raise UsageError(f"{name} and {other}: the runs asked rows of different data; compare runs on the same rows")
    own = old.own_metric(name, key) if first.metric["aggregation"] == "self" else None
    from_sums = _told_of(f"{name}: {key}", summed(own)) if own else None
    statistics = _told_of(f"{name}: {key}", functools.partial(statistics_of, own)) if own else tuple

    rows, same = (old.rows(name), new.rows(other)), name == other
    if task["average"] == "macro" and len(task["subsets"]) > 1:
        pairs = pair_by_subset(*rows, key, statistics, second_key=second.key, same_rows=same)
        known = [subset["name"] for subset in task["subsets"]]
        parts = [compare(subset, pairs[subset], better, from_sums) for subset in known if subset in pairs]
        comparison = _with_counts(compare_macro(title, parts), parts)
    else:
        pairs_of_all = pair(*rows, key, statistics, second_key=second.key, same_rows=same)
        comparison = compare(title, pairs_of_all, better, from_sums)
    # What the first run scored and holds no more is in no pair, and unknown all the same.
    comparison = replace(comparison, missing=comparison.missing + old.lost(name))
    return _within_bounds(comparison, first.metric)


def _within_bounds(comparison: Comparison, metric: MetricFields) -> Comparison:
    """The comparison with its interval cut off where no difference can be: two values of a metric are at most as far
    apart as its bounds are."""
    bounds, interval = metric.get("bounds"), comparison.interval
    if not bounds or interval is None:
        return comparison
    most = float(bounds[1]) - float(bounds[0])
    return replace(comparison, interval=(max(-most, interval[0]), min(most, interval[1])))


def _told_of(what: str, function: Callable[P, T]) -> Callable[P, T]:
    """A metric's own function, whose errors name what is compared. Raises `UsageError`."""

    def call(*args: P.args, **options: P.kwargs) -> T:
        try:
            return function(*args, **options)
        except (Exception, SystemExit) as error:
            raise UsageError(f"{what} cannot be compared: {located(error)}") from error

    return call


def _common_part(first: TaskReport, second: TaskReport) -> str:
    """What stands behind a task's name where the runs do not both cover all of it."""
    mine, other = first.get("covers"), second.get("covers")
    if mine is None or other is None:
        return ""
    common = mine["by_subset"].keys() & other["by_subset"].keys()
    return part_words({"subsets": len(common), "of_subsets": mine["of_subsets"]})


def _rows_of(side: RunSide, task: str) -> dict[str, str]:
    """Fingerprints of the rows that a task read, by split."""
    data = side.manifest.get("data", {})
    return {name.removeprefix(task): value for name, value in data.items() if name.startswith(f"{task}/")}


def _require_one_scorer(metric: MetricFields, old: RunSide, name: str, new: RunSide, other: str) -> None:
    """Raise UsageError where two models scored the two runs: a difference would be theirs."""
    key, first = metric["metric"], metric.get("scorer") or {}
    same = [each for each in new.tasks[other]["metrics"] if each["metric"] == key]
    second = (same[0].get("scorer") or {}) if same else first
    for what in [*first, *second]:
        if first.get(what) != second.get(what):
            raise UsageError(
                f"{name}: '{key}' was scored with {what} {first.get(what)} in {old.path} and {second.get(what)} "
                f"in {new.path}: score both with the same, by `harness score RUN`"
            )


def _with_counts(whole: Comparison, parts: Sequence[Comparison]) -> Comparison:
    """A macro comparison with the wins and losses of its parts."""
    notes: dict[str, int] = {}
    for part in parts:
        for what, count in part.notes.items():
            notes[what] = notes.get(what, 0) + count
    wins, losses = (PairKeys.joined(each) for each in ([part.wins for part in parts], [part.losses for part in parts]))
    ties, missing = sum(part.ties for part in parts), sum(part.missing for part in parts)
    return replace(whole, wins=wins, losses=losses, ties=ties, notes=notes, missing=missing)
