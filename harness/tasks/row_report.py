"""What a task's rows are like: how many, which labels are right, and which rows should be looked at before a run.

Nothing is dropped: what is suspicious is counted and named, and stays in the benchmark as its authors published it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from harness.errors import HarnessError
from harness.tasks.build import built_rows
from harness.tasks.build_options import BuildOptions
from harness.tasks.splits import OpenSplit
from harness.tasks.task import Task
from harness.types import DatasetSpec, Rows, Sample

SHOWN_IDS = 3
_MOST_LABELS = 12
_LONGEST_LABEL = 12
_ID_COLUMN = re.compile(r"id|idx|index|uid|qid|question[_-]?id", re.IGNORECASE)
_NUMBER_OF_ROW = re.compile(r"\(task .*$")


@dataclass(slots=True)
class Findings:
    """Rows that share one fault or oddity, by what it is: their ids, `SUBSET NUMBER` or `NUMBER`."""

    rows: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, row: str) -> None:
        self.rows.setdefault(what, []).append(row)

    def lines(self) -> Iterator[str]:
        for what, rows in self.rows.items():
            count = f"{len(rows)} row" if len(rows) == 1 else f"{len(rows)} rows"
            more = ", ..." if len(rows) > SHOWN_IDS else ""
            yield f"{what}: {count} ({', '.join(rows[:SHOWN_IDS])}{more})"


@dataclass(slots=True)
class RowReport:
    """What was found in the rows that a task asks.

    rows: how many are asked. left_out: those that `where` leaves out. published: how many its file says
    (`metadata.rows`), or None. hidden: rows without gold. labels: place of the right option, or the right answer, ->
    rows. options: place -> the texts that stand there. problems: rows that cannot be asked or scored. remarks: rows to
    look at.
    """

    task: str
    split: str
    rows: int = 0
    left_out: int = 0
    published: int | None = None
    hidden: int = 0
    labels: Counter[int | str] = field(default_factory=Counter)
    options: dict[int, set[str]] = field(default_factory=dict)
    problems: Findings = field(default_factory=Findings)
    remarks: Findings = field(default_factory=Findings)

    @property
    def count_differs(self) -> bool:
        return self.published is not None and self.published != self.rows + self.left_out

    def lines(self) -> Iterator[str]:
        """The report for a person: the first line is the count, the others are indented."""
        expected = "" if self.published is None else ", as published"
        if self.count_differs:
            expected = f", but {self.published} were published"
        left_out = f" and {self.left_out} that 'where' leaves out" if self.left_out else ""
        hidden = f", {self.hidden} without a gold answer" if self.hidden else ""
        yield f"{self.task}, split {self.split}: {self.rows} rows{left_out}{expected}{hidden}"
        if 0 < len(self.labels) <= _MOST_LABELS:
            total = sum(self.labels.values())
            places = sorted(self.labels.items(), key=lambda item: (isinstance(item[0], str), item[0]))
            texts = {place: next(iter(texts)) for place, texts in self.options.items() if len(texts) == 1}
            named = {
                place: place if isinstance(place, str) else texts.get(place, f"option {place + 1}")
                for place, _ in places
            }
            shares = ", ".join(f"{named[place]} {count / total:.1%}" for place, count in places)
            yield f"  right answers: {shares}"
        for text in self.problems.lines():
            yield f"  cannot be used: {text}"
        for text in self.remarks.lines():
            yield f"  look at: {text}"


def report_rows(task: Task, open_split: OpenSplit, options: BuildOptions) -> RowReport:
    """Build every row that a task asks, and say what they are like. Raises `DataError` where a split is not there."""
    report = RowReport(task.name, task.eval_split)
    published = (task.config.metadata or {}).get("rows")
    published = published.get(task.eval_split) if isinstance(published, Mapping) else published
    # The number counts whole benchmarks: it says nothing of a part.
    if isinstance(published, int) and len(task.subsets) == len(task.all_subsets):
        report.published = published
    # Several subsets may choose their rows from one and the same: those are counted once.
    counts: dict[str, int] = {}
    for subset in task.subsets:
        seen = _Seen()
        opened: list[str] = []

        def counted_split(spec: DatasetSpec, split: str, opened: list[str] = opened) -> Rows:
            rows = open_split(spec, split)
            opened.append(f"{rows.origin} {rows.fingerprint}")
            counts.setdefault(opened[0], len(rows.rows))  # the first split that is opened is the one that is asked
            return rows

        for number, built in built_rows(task, subset, counted_split, options):
            name = f"{subset.name} {number}".strip()
            report.rows += 1
            if isinstance(built, HarnessError):
                report.problems.add(_NUMBER_OF_ROW.sub("", str(built)).strip(), name)
                continue
            _look_at(task, built[0], name, report, seen)
    report.left_out = max(0, sum(counts.values()) - report.rows)
    return report


@dataclass(slots=True)
class _Seen:
    """What earlier rows of a subset had, to find what comes twice."""

    ids: dict[tuple[str, str], str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)


def _look_at(task: Task, sample: Sample, name: str, report: RowReport, seen: _Seen) -> None:
    if sample.target is None:
        report.hidden += 1
    else:
        targets = sample.target if isinstance(sample.target, tuple) else (sample.target,)
        report.labels.update(target if sample.choices else str(target)[:_LONGEST_LABEL] for target in targets)
        for place, choice in enumerate(sample.choices):
            report.options.setdefault(place, set()).add(choice.strip())
    if isinstance(sample.target, str) and not sample.target.strip() and task.config.output_type == "generate_until":
        report.problems.add("the gold answer is empty", name)
    for choice in sample.choices:
        if not choice.strip():
            report.remarks.add("an option is empty", name)
            break
    if len(set(sample.choices)) < len(sample.choices):
        report.remarks.add("two options are the same", name)
    for column, value in sample.doc.items():
        if column.lower() in ("question", "input", "query", "prompt") and isinstance(value, str) and not value.strip():
            report.remarks.add(f"'{column}' is empty", name)
        if _ID_COLUMN.fullmatch(column) and isinstance(value, str | int):
            earlier = seen.ids.setdefault((column, str(value)), name)
            if earlier != name:
                report.remarks.add(f"'{column}' is there twice", f"{earlier} and {name}")
    question = repr(sorted(sample.doc.items(), key=lambda item: item[0]))
    if (earlier := seen.questions.setdefault(question, name)) != name:
        report.remarks.add("the row is there twice", f"{earlier} and {name}")
    if (asked := sample.requests[0].prompt.text if sample.requests else "") and not asked.strip():
        report.problems.add("the prompt is empty", name)
