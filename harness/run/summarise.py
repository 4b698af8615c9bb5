"""From the records on disk to the report: what each task came to, and then each group of tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.cost import joined_usage, note_cost
from harness.record.coverage import Coverage, TaskCoverage, counted_coverage, covered
from harness.record.manifest_fields import Manifest
from harness.record.report import Missing, build_report, missing_of
from harness.record.report_fields import AbilityFields, RangeFields, Report, TaskReport
from harness.record.run import RunFolder
from harness.record.sample_keys import SampleKeys
from harness.record.seen_rows import note_contamination, read_contamination
from harness.record.submission import write_submission
from harness.run.dated import dated_fields
from harness.run.drawn import drawn_fields
from harness.run.jobs import TaskJob, groups_of
from harness.run.lite import lite_fields
from harness.run.recipes import note_published
from harness.run.spec import RunSpec
from harness.run.sums import RunSums
from harness.scoring.capability import AbilityScore, RangedValue, TaskValue, ability_scores
from harness.scoring.groups import group_result
from harness.tasks.file_models import words
from harness.tasks.task import Task
from harness.types import GroupMembers, GroupResult, MetricResult, Record, Result, SampleKey


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The report of what was asked, and the larger one that the folder keeps in its place, if there is such."""

    asked: Report
    coverage: Coverage | None
    larger: Report | None = None


def summarise_run(
    jobs: Sequence[TaskJob],
    folder: RunFolder,
    coverage: Coverage | None = None,
    asked: Mapping[str, Collection[SampleKey]] | None = None,
    sums: RunSums | None = None,
) -> RunSummary:
    """Sum up the records on disk and write the report.

    coverage: what the report is about; left out, what the folder's own is about, or all that the folder holds. Where
    an earlier report is about more, that is what is written, from the records beside: a smaller ask takes nothing away.
    asked: by task, the samples that there must be. Those that cannot be read back are named in the report: a number of
    what happens to be left would look like the whole. Where nobody says, the coverage or the manifest does.
    sums: of the records that were taken while they were written; of the other tasks they are read.
    """
    # A bootstrap is of the rows as they come: those that a batch answered first must not decide an error bar.
    folder.put_in_order()
    try:
        earlier = counted_coverage(folder.report) if folder.report else None
    except (UsageError, LookupError, TypeError):  # a report that cannot be read is written anew
        earlier = None
    coverage = coverage or earlier
    summary = _Summary(folder, coverage, sums or RunSums(jobs), has_sums=sums is not None)
    report = _report(jobs, summary, asked)
    larger = None
    if coverage and earlier and not all(coverage[name].includes(earlier[name]) for name in coverage if name in earlier):
        whole = {name: each.joined(earlier[name]) if name in earlier else each for name, each in coverage.items()}
        summary = _Summary(folder, whole, RunSums(jobs))
        larger = _report(jobs, summary, None)
    folder.finish("finished", larger or report, summary.sums.page)
    return RunSummary(report, coverage, larger)


def write_submissions(jobs: Sequence[TaskJob], folder: RunFolder, say: Callable[[str], None]) -> None:
    """Write the file that a leaderboard takes, of each task whose gold the leaderboard keeps. Raises SaveError."""
    for job in jobs:
        # The letters of a modified task are not those of the leaderboard's questions.
        if (job.task.config.metadata or {}).get("submission") and not job.task.modifiers:
            name = job.task.name
            path = folder.path / f"submission_{name.replace(':', '@')}.json"
            lacking = write_submission(folder.records(name), path)
            say(f"{name}: answers for the leaderboard are in {path}; {lacking} samples have none")


def _report(jobs: Sequence[TaskJob], summary: _Summary, asked: Mapping[str, Collection[SampleKey]] | None) -> Report:
    """The report of the records that are covered."""
    folder, coverage = summary.folder, summary.coverage
    results = {job.task.name: summary.of(job) for job in jobs}
    known = {job.task.name: job for job in jobs}
    groups = [summary.of_group(members, known, results) for members in groups_of(jobs)]
    everything = [each for of_task in results.values() for each in of_task]
    missing = {job.task.name: lost for job in jobs if (lost := summary.missing(job, asked))}
    usage = {name: task.usage for name, task in summary.sums.tasks.items()}
    report = build_report(folder.manifest, everything, usage, groups, missing)
    headlines = [summary.headline(job, results[job.task.name]) for job in jobs]
    for task in report["tasks"]:
        name = task["task"]
        if causes := summary.sums.tasks[name].failures.to_json():
            task["failures"] = causes
        if lite := lite_fields(known[name], (coverage or {}).get(name), folder.records(name)):
            task["lite"] = lite
        if cutoff := folder.manifest.get("spec", {}).get("cutoff"):
            is_asked = covered(coverage or {})
            if dated := dated_fields(known[name], filter(is_asked, folder.records(name)), str(cutoff)):
                task["dated"] = dated
        if coverage and name in coverage:
            task["covers"] = coverage[name].to_json()
            _mark_parts(task, known[name].task)
            if coverage[name].drawn_from:
                _note_drawn(task, known[name], coverage[name], folder)
    if shard := folder.manifest.get("identity", {}).get("shard"):
        report["shard"] = {"part": shard["part"], "of": shard["of"]}
    else:  # what was published is of all rows
        note_published(report, folder.manifest)
    try:
        note_contamination(report, folder.manifest, read_contamination(folder.path))
    except UsageError as error:  # a report is of more than this
        folder.messages.append(str(error))
    _note_costs(report, folder.manifest)
    report["cutoff"] = folder.manifest.get("spec", {}).get("cutoff")
    report["abilities"] = list(map(_ability_fields, ability_scores(headlines)))
    return report


def _note_costs(report: Report, manifest: Manifest) -> None:
    """Set in the report what was paid to the model, to the user of its conversations and to its judges."""
    spec = manifest.get("spec", {})
    note_cost(report, spec.get("prices") or {}, spec.get("user_prices") or {})
    for task in report["tasks"]:
        known = (judge.get("usage", {}).get(task["task"]) for judge in manifest.get("judges", ()))
        if "usage" in task and (of_judges := [usage for usage in known if usage]):
            task["usage"]["judges"] = joined_usage(of_judges)


def _ability_fields(score: AbilityScore) -> AbilityFields:
    def fields(given: RangedValue | None) -> RangeFields | None:
        if given is None:
            return None
        return {"value": given.value, "interval": list(given.interval) if given.interval else None}

    return {
        "ability": score.ability,
        "tasks": list(score.tasks),
        "n": score.n,
        "raw": fields(score.raw),
        "corrected": fields(score.corrected),
        "left_out": list(score.left_out),
    }


def _note_drawn(entry: TaskReport, job: TaskJob, coverage: TaskCoverage, folder: RunFolder) -> None:
    """Give the headline of a task whose rows were drawn the interval that is valid however often one looked."""
    spec = RunSpec.from_json(folder.manifest["spec"])
    records = filter(coverage.holds, folder.records(job.task.name))
    drawn = drawn_fields(job, coverage, records, spec.seed)
    if drawn is None:
        return
    entry["drawn"] = drawn
    if drawn["rows"] < drawn["of_rows"]:
        by_average = entry.get("by_average", {})
        for metrics in (entry["metrics"], by_average.get(str(entry.get("average")), [])):
            for metric in metrics[:1]:
                metric["interval"] = list(drawn["interval"])


def _mark_parts(entry: TaskReport, task: Task) -> None:
    """Say of each group of subsets of which some are left out how many there are."""
    chosen = {subset.name for subset in task.subsets}
    for group in entry["groups"]:
        members = [subset.name for subset in task.all_subsets if group["name"] in subset.groups]
        if 0 < len(chosen.intersection(members)) < len(members):
            group["covers"] = {"subsets": len(chosen.intersection(members)), "of_subsets": len(members)}


@dataclass
class _Summary:
    """The records of a run, one task at a time. has_sums: whether `sums` hold those that were taken as they came.

    read: the samples that were read, of each task that was.
    """

    folder: RunFolder
    coverage: Coverage | None
    sums: RunSums
    has_sums: bool = False
    read: dict[str, SampleKeys] = field(default_factory=dict)

    def missing(self, job: TaskJob, asked: Mapping[str, Collection[SampleKey]] | None) -> Missing | None:
        """Which samples of a task there must be and are not."""
        name = job.task.name
        if name not in self.read:  # all that was asked was taken
            return None
        read = self.read[name]
        if asked is not None:
            return missing_of(asked[name], read)
        if self.coverage and name in self.coverage:
            return missing_of(self.coverage[name].keys(name), read)
        there_must_be = self.folder.manifest.get("tasks", {}).get(name, {}).get("samples", 0)
        return Missing(there_must_be - len(read)) if there_must_be > len(read) else None

    def of(self, job: TaskJob) -> list[Result]:
        """All results of a task. Its records are read once at most, for all that report and page say of them."""
        if self.has_sums and self.sums.know(job, self.folder):
            return self.sums.tasks[job.task.name].results()
        self.read[job.task.name] = SampleKeys()
        return self.sums.read(job, self._seen(job.task.name)).results()

    def of_group(
        self, members: GroupMembers, jobs: Mapping[str, TaskJob], results: Mapping[str, Sequence[Result]]
    ) -> GroupResult:
        scores = {}
        for name, chosen in members.tasks:
            job, of_task = jobs[name], results[name]
            subsets = [subset for subset in job.task.subsets if chosen is None or subset.name in chosen]
            if len(subsets) < len(job.task.subsets):  # the run asks for more of the task than the group does
                named = [(subset.name, subset.title, subset.groups) for subset in subsets]
                of_task = job.scorer.summarise(name, self._seen(name), named)
            scores[name] = job.member_scores([result for result in of_task if result.level == "task"])
        return group_result(members, scores)

    def headline(self, job: TaskJob, results: Sequence[Result]) -> TaskValue:
        """What a task says of its abilities: its first score, and what a guess is worth."""
        key, whole = job.scorer.reported[0], next((each for each in results if each.level == "task"), None)
        metric = whole.metrics[0] if whole and whole.metrics else MetricResult(key.name, None, 0)
        return TaskValue(
            task=job.task.name,
            abilities=words(job.task.config.ability),
            metric=key.name,
            value=metric.value,
            interval=metric.interval,
            n=metric.n,
            bounds=key.metric.bounds,
            higher_is_better=key.higher_is_better,
            chance=self.sums.tasks[job.task.name].guesses.value if key.higher_is_better else None,
        )

    def _seen(self, task: str) -> Iterator[Record]:
        """The wanted records of a task, each noted as read."""
        read = self.read.get(task)
        is_covered = covered(self.coverage) if self.coverage else lambda record: True
        for record in self.folder.records(task):
            if is_covered(record):
                if read is not None:
                    read.add(record.key)
                yield record
