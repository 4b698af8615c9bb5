"""Reasoning that a server's template has opened, so that replies hold its closing mark alone.

By itself a reply that was cut before that mark looks like an answer. Beside the other replies of its run it does not:
where most of the finished ones close reasoning that they have not opened, it was cut inside its reasoning too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harness.reasoning import last_closing, lone_closing, strip_reasoning
from harness.record.run import RunFolder
from harness.run.jobs import TaskJob
from harness.run.rescore import scored_again
from harness.tasks.build import sample_from_record
from harness.types import Record, Response


@dataclass
class OpenedReasoning:
    """Watches the replies of a run. marks: which closing marks stood in finished ones without what opens them."""

    folder: RunFolder
    marks: set[str] = field(default_factory=set)
    any_cut: bool = False

    def watch(self, responses: Sequence[Response]) -> None:
        """Look at the replies to one sample."""
        for response in responses:
            if _is_cut(response):
                self.any_cut = True
            elif response.text and (mark := lone_closing(response.text)) is not None:
                self.marks.add(mark)

    def settle(self, jobs: Sequence[TaskJob]) -> str | None:
        """Take replies that were cut inside such reasoning for incomplete, and score their samples anew.

        Returns what was done, in words. Conversations are left as they are: later turns were asked by what they said.
        """
        known = self.folder.manifest.get("opened_reasoning")
        self.marks |= {known} if known else set()
        if not self.marks or (known and not self.any_cut):
            return None
        single = [job for job in jobs if not _has_turns(job)]
        finished = closing = 0
        for response in (each for job in single for record in self._records(job) for each in record.responses):
            if response.text and response.finish_reason != "length":
                finished += 1
                closing += lone_closing(response.text) is not None
        if 2 * closing <= finished:
            return None
        mark = min(self.marks)
        if not known:
            self.folder.note(opened_reasoning=mark)
        changed = 0
        for job in single:
            for record in list(filter(_has_cut, self._records(job))):
                told = replace(record, responses=tuple(map(_incomplete, record.responses)))
                self.folder.write(scored_again(job, sample_from_record(job.task, record, job.bad_rows), told))
                changed += sum(map(_is_cut, record.responses))
        if not changed:
            return None
        return (
            f"{changed} replies were cut inside reasoning that the server's template opens ({closing} of {finished} "
            f"finished ones close it with {mark}): they are incomplete, and no answers"
        )

    def _records(self, job: TaskJob) -> Iterator[Record]:
        return self.folder.records(job.task.name)


def _has_turns(job: TaskJob) -> bool:
    """Whether what is asked later hangs on what was said before."""
    return job.task.config.environment is not None or job.facts.is_talk


def _is_cut(response: Response) -> bool:
    """Whether a reply was cut, and shows no reasoning."""
    text = response.text
    if not text or response.finish_reason != "length" or response.reasoning is not None:
        return False
    return strip_reasoning(text)[1] is None and last_closing(text) is None


def _has_cut(record: Record) -> bool:
    return any(map(_is_cut, record.responses))


def _incomplete(response: Response) -> Response:
    return replace(response, text="", reasoning=response.text) if _is_cut(response) else response
