"""What there is to judge: the samples of one finished run, or those that two runs share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from harness.errors import UsageError, suggest
from harness.quick import dataclass
from harness.record.coverage import TaskCoverage, coverage_of, covered
from harness.record.manifest import identity_hash, model_title
from harness.record.manifest_fields import TaskFields
from harness.record.manifest_file import FINISHED
from harness.record.report_fields import Report, TaskReport
from harness.record.run import RunFolder
from harness.tasks.plain_rows import row_count
from harness.types import Record, SampleKey

Say = Callable[[str], None]
Average = Literal["micro", "macro"]
_TOLD = ("title", "version", "num_fewshot", "digest", "modifiers")
"""What the manifest of a judgement says of a task as the run does."""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run, opened for reading."""

    folder: RunFolder
    report: Report

    @property
    def identity(self) -> str:
        return identity_hash(self.folder.manifest["identity"])

    @property
    def title(self) -> str:
        return model_title(self.folder.manifest)

    @property
    def tasks(self) -> dict[str, TaskReport]:
        """The tasks of the report, by name."""
        return {task["task"]: task for task in self.report["tasks"]}

    def has_replies(self, task: str) -> bool:
        """Whether the task's answers are texts; log-probabilities are nothing that a judge could read."""
        config = self.folder.manifest.get("tasks", {}).get(task, {}).get("config", {})
        return bool(config.get("output_type", "generate_until") == "generate_until")


@dataclass(frozen=True, slots=True)
class JudgedTask:
    """A task and its samples, each with the record of every run."""

    name: str
    subsets: tuple[tuple[str, str], ...]
    """(name, title) of each; one without a name where the task has none."""
    average: Average
    fields: TaskFields
    samples: tuple[tuple[Record, ...], ...]
    everything: tuple[tuple[Record, ...], ...]
    """The samples that there are, whatever the limit."""

    def coverage(self, limit: int | float | None) -> TaskCoverage:
        """What of the task is judged."""
        asked, rows = (
            {
                name: max((each[0].id + 1 for each in samples if each[0].subset == name), default=0)
                for name, _ in self.subsets
            }
            for samples in (self.samples, self.everything)
        )
        return TaskCoverage(asked, rows, len(self.subsets), limit)

    def of(self, coverage: TaskCoverage) -> JudgedTask:
        """The task with all samples that are covered."""
        return replace(self, samples=tuple(each for each in self.everything if coverage.holds(each[0])))


def open_run(path: str) -> Run:
    """Open a finished run. Raises `UsageError` for what is none, or has not ended."""
    folder = RunFolder.read(Path(path))
    if folder.kind == "judgement":
        raise UsageError(f"{path}: holds judgements; name the run that they are about")
    report = folder.report
    if report is None or folder.manifest.get("status") != FINISHED:
        raise UsageError(f"{path}: the run has not ended, so that it cannot be judged yet; its command goes on with it")
    return Run(folder, report)


def judged_tasks(runs: Sequence[Run], wanted: Sequence[str], limit: int | float | None, say: Say) -> list[JudgedTask]:
    """The tasks that are judged: those that every run has and whose answers are texts. Raises `UsageError`."""
    common = [name for name in runs[0].tasks if all(name in run.tasks for run in runs)]
    for name in wanted:
        if name not in common:
            whose = "the runs share" if len(runs) > 1 else "the run has"
            has = ", ".join(common) or "none"
            raise UsageError(f"--tasks: {whose} no task '{name}'{suggest(name, common)} ({whose}: {has})")
    judged = []
    for name in wanted or common:
        if all(run.has_replies(name) for run in runs):
            judged.append(_task(runs, name, limit, say))
        else:
            say(f"{name}: its answers are log-probabilities, which no judge can read; it is left out")
    if not judged:
        raise UsageError(f"{runs[0].folder.path}: has no task whose answers are texts, so there is nothing to judge")
    return judged


def _task(runs: Sequence[Run], name: str, limit: int | float | None, say: Say) -> JudgedTask:
    known, report = runs[0].folder.manifest.get("tasks", {}).get(name, {}), runs[0].tasks[name]
    subsets = tuple((part["name"], part["title"]) for part in report["subsets"]) or (("", ""),)
    columns = [
        {record.key: record for record in filter(covered(coverage_of(run.report)), run.folder.records(name))}
        for run in runs
    ]
    for message in (message for run in runs for message in run.folder.take_messages()):
        say(message)
    told: Mapping[str, object] = known
    fields = cast(TaskFields, {key: told[key] for key in _TOLD if key in told})
    everything = list(_shared(name, columns, say))
    samples = tuple(_limited(everything, subsets, limit))
    prompts = [record.prompt for records in samples for record in records]
    if any(prompt.media or any(not isinstance(turn.content, str) for turn in prompt.messages) for prompt in prompts):
        say(f"{name}: shows images, which the log does not hold: the judge sees the text alone")
    average = cast(Average, report.get("average") or "micro")
    return JudgedTask(name, subsets, average, fields, samples, tuple(everything))


def _shared(task: str, columns: Sequence[Mapping[SampleKey, Record]], say: Say) -> Iterator[tuple[Record, ...]]:
    """Samples that every run has, of the same row with the same gold."""
    left_out = 0
    for place, first in columns[0].items():
        records = [column[place] for column in columns if place in column]
        same = all((other.doc, other.target) == (first.doc, first.target) for other in records[1:])
        if same and len(records) == len(columns):
            yield tuple(records)
        else:
            left_out += 1
    left_out += sum(len(column.keys() - columns[0].keys()) for column in columns[1:])
    if left_out:
        say(f"{task}: {left_out} samples are not the same in both runs, and are left out")


def _limited(
    samples: list[tuple[Record, ...]], subsets: Sequence[tuple[str, str]], limit: int | float | None
) -> Iterator[tuple[Record, ...]]:
    """The first samples of each subset, in the order of the report."""
    for name, _ in subsets:
        of_subset = [records for records in samples if records[0].subset == name]
        rows = list(dict.fromkeys(records[0].id for records in of_subset))  # a row may have several views
        kept = set(rows[: row_count(limit, len(rows))])
        yield from (records for records in of_subset if records[0].id in kept)
