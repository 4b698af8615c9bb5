"""Why samples failed: the commonest causes, each with how many samples it failed and one of its messages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.record.report_fields import FailureFields, Report
from harness.types import Record
from harness.words import Translate, english

MOST_CAUSES = 5
_LONGEST = 300
# What differs between samples that fail for one cause: numbers, ids and texts in quotes.
_PARTICULAR = re.compile(r"'[^']*'|\"[^\"]*\"|\b[0-9a-fA-F]{8,}\b|[0-9]+(?:\.[0-9]+)?")


def cause_of(error: str) -> str:
    """The message without what differs between samples that fail for one cause."""
    return _PARTICULAR.sub("#", error)


@dataclass(slots=True)
class Failures:
    """Counts the failed samples of a task by cause."""

    counts: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Count a record that failed; one that did not changes nothing."""
        if record.error is not None:
            cause = cause_of(record.error)
            self.counts[cause] += 1
            self.messages.setdefault(cause, record.error)

    def to_json(self) -> list[FailureFields]:
        """The commonest causes, as the report has them: `{n, message}`, the commonest first."""
        return [
            {"n": n, "message": self.messages[cause][:_LONGEST]} for cause, n in self.counts.most_common(MOST_CAUSES)
        ]


def failure_lines(report: Report, t: Translate = english) -> Iterator[str]:
    """One line for each of the commonest causes of all tasks, for the reader of a result table."""
    causes = [
        (cause["n"], task["task"], cause["message"]) for task in report["tasks"] for cause in task.get("failures", ())
    ]
    causes.sort(key=lambda cause: -cause[0])
    for n, task, message in causes[:MOST_CAUSES]:
        yield t("  {n} of {task}: {message}", n=n, task=task, message=message)
    named = sum(n for n, _, _ in causes[:MOST_CAUSES])
    if causes and (others := sum(task["counts"]["failed"] for task in report["tasks"]) - named) > 0:
        yield t("  {n} for other causes: `error` in the records says each", n=others)
