"""What a report adds up over the records of a run, taken record by record: as they are written, or as they are read.

Records that a session has written itself, or whose sums an earlier one has noted, are not read again for the report,
where they came in the order in which the file has them: the sums are then those of the file to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from harness.record.failures import Failures
from harness.record.html import PageSamples
from harness.record.run import RunFolder
from harness.record.usage import Usage
from harness.run.jobs import TaskJob
from harness.scoring.capability import GuessTally
from harness.types import Record, Response, Result, SampleKey

_NUMBERS = frozenset({float, int, type(None)})
_COUNTS = frozenset({int, type(None)})


class TaskSums:
    """The sums of one task. usage: what its answers cost. guesses: what blind choices would score. failures: why
    samples failed. n: how many records were taken. page: what the report's page says of the samples of all tasks."""

    def __init__(self, job: TaskJob, page: PageSamples) -> None:
        self.name, self.page = job.task.name, page
        self.usage, self.guesses, self.failures, self.n = Usage(), GuessTally(), Failures(), 0
        categories = None
        if job.task.templates.breakdown:

            def categories(record: Record) -> list[tuple[str, str]]:
                return list(job.task.categories(record.doc, record.subset))

        named = [(subset.name, subset.title, subset.groups) for subset in job.task.subsets]
        self._scores = job.scorer.sums(named, categories)
        self._rows = job.scorer.rows
        is_plain = not job.task.modifiers and job.scorer.batches is None and self._scores.can_be_noted
        self._ranks = {subset.name: rank for rank, subset in enumerate(job.task.subsets)}
        self._last = -1, 0
        self.is_in_order = is_plain
        """Whether the records came as their file has them in the end, so that they need not be read from there."""
        page.forget(self.name)

    def results(self) -> list[Result]:
        """The results of each subset, each group of subsets, and the task."""
        return self._scores.results(self.name)

    def read(self, records: Iterable[Record]) -> None:
        """Take the records of a file, all of them, in its order."""
        for row in self._rows(self._looked_at(records)):
            self._scores.add(row)

    def _looked_at(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            self._look(record)
            yield record

    def _look(self, record: Record) -> None:
        self.n += 1
        self.failures.add(record)
        self.page.look(record)
        self.guesses.add(record)
        for response in record.responses:
            self.usage.add(response)

    def add(self, record: Record) -> None:
        """Take a record that was written."""
        place = self._ranks.get(record.subset, -1), record.id
        if not self.is_in_order or place <= self._last or not _is_plain(record):
            self.is_in_order = False
            return
        self.is_in_order = False  # until all of it is taken, where the command is stopped halfway
        self._look(record)
        self._scores.add(record)
        self._last, self.is_in_order = place, True

    def new(self) -> dict[str, Any] | None:
        """What came since this was last called, for a file of JSON; None where records came in another order, or not
        only numbers are kept of them."""
        if not self.is_in_order or self.failures.counts:
            return None
        return {
            "n": self.n,
            "last": self._last,
            "usage": self.usage.to_json(),
            "guesses": [self.guesses.sum, self.guesses.count],
            "page": self.page.tallies[self.name].new(),
            "scores": self._scores.new(),
        }

    def extend(self, noted: Mapping[str, Any]) -> None:
        """Take what `new` gave in an earlier session, in its order."""
        self.page.tallies[self.name].extend(noted["page"])
        self._scores.extend(noted["scores"])

    def go_on(self, last: Mapping[str, Any], folder: RunFolder) -> None:
        """Take what the last of it gives alone, and the records that came behind it."""
        tally = self.page.tallies[self.name]
        self.n, self._last = last["n"], (last["last"][0], last["last"][1])
        self.usage, self.guesses = Usage.from_json(last["usage"]), GuessTally(*last["guesses"])
        tally.keep(last["page"], lambda subset, row: folder.record(SampleKey(self.name, subset, row)))
        for record in folder.records(self.name, skip=self.n):
            self.add(record)


class RunSums:
    """The sums of all tasks of a run, and what the page of its report says of their samples."""

    def __init__(self, jobs: Sequence[TaskJob]) -> None:
        headlines = {job.task.name: job.scorer.reported[0].name for job in jobs}
        self.page = PageSamples(headlines, {job.task.name: len(job.task.subsets) for job in jobs})
        self.tasks = {job.task.name: TaskSums(job, self.page) for job in jobs}

    @classmethod
    def of_folder(cls, jobs: Sequence[TaskJob], folder: RunFolder) -> Self:
        """Those of the records on disk before anything is asked, as far as an earlier session has noted them."""
        sums = cls(jobs)
        noted = folder.noted_sums
        lacking = {name for fields in noted for name in sums.tasks if fields.get(name) is None}
        known = {
            name: task for name, task in sums.tasks.items() if len(noted) and task.is_in_order and name not in lacking
        }
        last: Mapping[str, Any] = {}
        for fields in noted:
            last = fields
            for name, task in known.items():
                task.extend(fields[name])
        for name, task in sums.tasks.items():
            if name in known:
                task.go_on(last[name], folder)
            else:
                task.is_in_order = task.is_in_order and not folder.count(name)
        return sums

    def add(self, record: Record) -> None:
        """Take a record that was written."""
        self.tasks[record.task].add(record)

    def new(self) -> dict[str, Any]:
        """What came since this was last called, by task; see `TaskSums.new`."""
        return {name: task.new() for name, task in self.tasks.items()}

    def know(self, job: TaskJob, folder: RunFolder) -> bool:
        """Whether all records of a task were taken, those that are on disk, as they are there."""
        task = self.tasks[job.task.name]
        n = job.count if task.is_in_order else -1
        return task.n == n == folder.count(job.task.name) and folder.is_as_written(job.task.name)

    def read(self, job: TaskJob, records: Iterable[Record]) -> TaskSums:
        """Take the records of a task as they are on disk, in the place of all that was taken."""
        task = self.tasks[job.task.name] = TaskSums(job, self.page)
        task.read(records)
        return task


def _is_plain(record: Record) -> bool:
    """Whether a record says the same when it is read from its line: numbers and texts, and nothing like them."""
    if record.view is not None or record.judge:
        return False
    for score in record.scores.values():
        if type(score) not in _NUMBERS and not (type(score) is tuple and _NUMBERS.issuperset(map(type, score))):
            return False
    return all(map(_is_counted, record.responses))


def _is_counted(response: Response) -> bool:
    if response.text is None and response.prompt_tokens is None and response.completion_tokens is None:
        return response.user is None and type(response.truncated) is int
    counts = response.prompt_tokens, response.completion_tokens, response.reasoning_tokens, response.cached_tokens
    whole = _COUNTS.issuperset(map(type, counts)) and all(0 <= count < 1 << 53 for count in counts if count is not None)
    return whole and response.user is None and type(response.truncated) is int
