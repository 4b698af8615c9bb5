"""From the records on disk to the report: what each task came to, and then each group of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.record.report import Usage, build_report, watch
from harness.record.run import RunFolder
from harness.run.jobs import TaskJob, groups_of
from harness.scoring.groups import group_result
from harness.tasks.task import Subset
from harness.types import GroupMembers, GroupResult, Record, Result

Wanted = Callable[[Record], bool]


def summarise_run(jobs: Sequence[TaskJob], folder: RunFolder, wanted: Wanted = lambda _: True) -> dict[str, Any]:
    """Sum up the records on disk and write the report."""
    # A bootstrap is of the rows as they come: those that a batch answered first must not decide an error bar.
    folder.put_in_order()
    sums = _Summary(folder, wanted)
    results = {job.task.name: sums.of(job, job.task.subsets) for job in jobs}
    known = {job.task.name: job for job in jobs}
    groups = [sums.of_group(members, known, results) for members in groups_of(jobs)]
    report = build_report(folder.manifest, [each for found in results.values() for each in found], sums.usage, groups)
    folder.finish("finished", report)
    return report


@dataclass
class _Summary:
    """Reads the records of a run, one task at a time; `usage` is what the answers of each task cost."""

    folder: RunFolder
    wanted: Wanted
    usage: dict[str, Usage] = field(default_factory=dict)

    def of(self, job: TaskJob, subsets: Sequence[Subset]) -> list[Result]:
        return self._results(job, subsets, self.usage)

    def of_group(
        self, members: GroupMembers, jobs: Mapping[str, TaskJob], results: Mapping[str, Sequence[Result]]
    ) -> GroupResult:
        scores = {}
        for name, chosen in members.tasks:
            job, found = jobs[name], results[name]
            subsets = [subset for subset in job.task.subsets if chosen is None or subset.name in chosen]
            if len(subsets) < len(job.task.subsets):  # the run asks for more of the task than the group does
                found = self._results(job, subsets, {})
            scores[name] = job.member_scores([result for result in found if result.level == "task"])
        return group_result(members, scores)

    def _results(self, job: TaskJob, subsets: Sequence[Subset], usage: dict[str, Usage]) -> list[Result]:
        records = (record for record in self.folder.records(job.task.name) if self.wanted(record))
        named = [(subset.name, subset.title, subset.groups) for subset in subsets]
        return job.scorer.summarise(job.task.name, watch(records, usage), named)
