"""What a run leaves: its folder, its report, and its records as they are read back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import ExitCode, UsageError, suggest
from harness.record.console_table import summary_text
from harness.record.coverage import Coverage, covered
from harness.record.report_fields import Report
from harness.record.report_table import report_table
from harness.record.result_rows import number
from harness.record.run import RunFolder
from harness.run.jobs import TaskJob
from harness.types import Record
from harness.words import locale_language, translator

if TYPE_CHECKING:
    from harness.run.budget import Budget
    from harness.run.frames import Library

_SHOWN_TASKS = 5


@dataclass(frozen=True, slots=True, repr=False)
class RunResult:
    """A finished run: its folder, its report, and the exit code that it deserves.

    coverage: what the report is about; None for all that the folder holds. larger: the report that the folder keeps,
    where an earlier command asked for more. jobs: the tasks as they were loaded, without their samples. budget: what
    the run was to spend, and what it has; the judges of its answers spend of the same.
    """

    path: Path
    report: Report
    coverage: Coverage | None = None
    larger: Report | None = None
    jobs: Sequence[TaskJob] = ()
    budget: Budget | None = None

    def __repr__(self) -> str:
        shown = []
        for task in self.report["tasks"][:_SHOWN_TASKS]:
            for metric in task["metrics"][:1]:
                shown.append(f"{task['task']}: {metric['metric']} {number(metric['value'])} (n = {metric['n']})")
        more = len(self.report["tasks"]) - _SHOWN_TASKS
        words = "; ".join([*shown, *([f"and {more} tasks more"] if more > 0 else [])])
        return f"<RunResult {self.path}: {words}>"

    def _repr_html_(self) -> str:
        """The result table, as a notebook shows it."""
        return report_table(self.report, str(self.path), translator(locale_language(None)))

    @property
    def exit_code(self) -> ExitCode:
        failed = any(
            task["counts"]["failed"] or task.get("missing") or any(metric.get("error") for metric in task["metrics"])
            for task in self.report["tasks"]
        )
        return ExitCode.SAMPLES_FAILED if failed else ExitCode.OK

    def summary(self, width: int = 100) -> str:
        """The result table as text."""
        return summary_text(self.report, width)

    def to_dict(self) -> dict[str, Any]:
        """The report of what was asked, which `report.json` holds unless it keeps a `larger` one."""
        return {**self.report}

    def samples(self, task: str | None = None) -> Iterator[Record]:
        """The records of a task, or of all, read from disk as they are asked for. `UsageError` for an unknown task."""
        names = [row["task"] for row in self.report["tasks"]]
        if task is not None and task not in names:
            raise UsageError(f"this run has no task '{task}'{suggest(task, names)} (it has: {', '.join(names)})")
        records = load_run(self.path).records(task)
        return records if self.coverage is None else filter(covered(self.coverage), records)

    def samples_frame(self, task: str | None = None, library: Library = "pandas") -> Any:
        """The records of a task, or of all, as a frame of pandas or polars, or a table of Arrow: one row a sample."""
        from harness.run.frames import samples_frame

        return samples_frame(self.samples(task), library)


class LoadedRun(RunFolder):
    """A run folder that is open for reading."""

    def __repr__(self) -> str:
        return f"<LoadedRun {self.path}: {len(self)} samples>"

    def samples_frame(self, task: str | None = None, library: Library = "pandas") -> Any:
        """The records of a task, or of all, as a frame of pandas or polars, or a table of Arrow: one row a sample."""
        from harness.run.frames import samples_frame

        return samples_frame(self.records(task), library)


def load_run(path: str | Path) -> LoadedRun:
    """Open a run folder for reading: `.manifest`, `.report`, `.records(task=None)`, `.samples_frame(task=None)`."""
    return LoadedRun.read(Path(path))
