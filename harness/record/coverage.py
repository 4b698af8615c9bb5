"""What a report is about: of which subsets of each task, and of which of their rows.

A limit takes the first rows of each subset, so that a number for each subset says it all; rows that were drawn or
chosen are named. Of two reports of one run folder one holds the other, or both together make a third.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Self

from harness.quick import dataclass
from harness.record.report_fields import BadRowFields, CoverageFields, PartCoverage, Report, TaskReport
from harness.record.row_set import RowSet
from harness.types import BadRows, Record, SampleKey
from harness.words import Translate, english

_NO_BAD_ROWS: BadRowFields = {"handling": "refuse", "by_subset": {}}
_BECAME: Mapping[BadRows, tuple[str, str]] = {
    "refuse": ("is refused", "are refused"),
    "fail": ("cannot be used and counts as failed", "cannot be used and count as failed"),
    "skip": ("cannot be used and is left out", "cannot be used and are left out"),
    "lm_eval": ("is at fault and scored as lm-eval scores it", "are at fault and scored as lm-eval scores them"),
}
"""What became of bad rows: of one, of several."""
RowNumbers = range | RowSet
"""Rows of a subset: the first ones, or those with these numbers."""
NAMED = 5
"""How many of many things a line names."""
_PLACE = re.compile(r" \(task '.*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TaskCoverage:
    """asked: subset -> how many of its rows, from the first; "" for a task without subsets. rows: subset -> how many it
    has, as far as that is known. of_subsets: how many subsets the task has, asked or not. limit: as it was given. bad:
    subset -> number of a row that cannot be used as it is -> why. bad_rows: what became of those. chosen: subset -> its
    rows that are asked, where these are not the first. drawn_from: subset -> the rows that they were drawn from, in a
    random order, where they were drawn. rival: the run with which they were compared until it was decided.
    """

    asked: Mapping[str, int]
    rows: Mapping[str, int]
    of_subsets: int
    limit: int | float | None = None
    bad: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    bad_rows: BadRows = "refuse"
    chosen: Mapping[str, RowNumbers] = field(default_factory=dict)
    drawn_from: Mapping[str, RowNumbers] = field(default_factory=dict)
    rival: str | None = None

    @property
    def is_part(self) -> bool:
        """Whether subsets of the task were left out."""
        return len(self.asked) < self.of_subsets

    def holds(self, record: Record) -> bool:
        return record.id in self.of_subset(record.subset)

    def of_subset(self, name: str) -> RowNumbers:
        """The numbers of the rows of a subset that are asked."""
        return self.chosen.get(name) or range(self.asked.get(name, 0))

    def includes(self, other: Self) -> bool:
        return all(_includes(self.of_subset(name), other.of_subset(name)) for name in other.asked)

    def joined(self, other: Self) -> Self:
        """What both cover together."""
        if self.includes(other) or other.includes(self):
            return self if self.includes(other) else other
        names = [*self.asked, *(name for name in other.asked if name not in self.asked)]
        together = {name: _joined(self.of_subset(name), other.of_subset(name)) for name in names}
        asked = {name: len(rows) for name, rows in together.items()}
        chosen = {name: rows for name, rows in together.items() if isinstance(rows, RowSet)}
        both = {name: {**other.bad.get(name, {}), **self.bad.get(name, {})} for name in names}
        bad = {name: rows for name, rows in both.items() if rows}
        rows, of_subsets = {**other.rows, **self.rows}, max(self.of_subsets, other.of_subsets)
        return type(self)(asked, rows, of_subsets, bad=bad, bad_rows=self.bad_rows, chosen=chosen)

    @property
    def count(self) -> int:
        """How many samples there must be: of a row with several views, the first."""
        skipped = sum(map(len, self.bad.values())) if self.bad_rows == "skip" else 0
        return sum(len(self.of_subset(name)) for name in self.asked) - skipped

    def keys(self, task: str) -> Iterator[SampleKey]:
        """The samples that `count` counts."""
        left_out = self.bad if self.bad_rows == "skip" else {}
        for name in self.asked:
            rows = self.of_subset(name)
            yield from (SampleKey(task, name, number) for number in rows if number not in left_out.get(name, {}))

    def to_json(self) -> CoverageFields:
        """As the report has it: `subsets` of `of_subsets`, `rows` of `of_rows`, and both by subset."""
        known = all(name in self.rows for name in self.asked)
        fields: CoverageFields = {
            "subsets": len(self.asked),
            "of_subsets": self.of_subsets,
            "rows": sum(self.asked.values()),
            "of_rows": sum(self.rows[name] for name in self.asked) if known else None,
            "limit": self.limit,
            "by_subset": {name: [n, self.rows.get(name)] for name, n in self.asked.items()},
        }
        if self.bad:
            named = {name: {str(row): why for row, why in rows.items()} for name, rows in self.bad.items()}
            fields["bad_rows"] = {"handling": self.bad_rows, "by_subset": named}
        if self.chosen:
            fields["chosen"] = {name: list(rows) for name, rows in self.chosen.items()}
        if self.drawn_from:
            fields["drawn_from"] = {
                name: len(rows) if isinstance(rows, range) else list(rows) for name, rows in self.drawn_from.items()
            }
        return fields


Coverage = Mapping[str, TaskCoverage]
"""Task -> what of it is covered."""


def coverage_of(report: Report) -> dict[str, TaskCoverage]:
    """What a report says that it is about; without the tasks of which an older one does not say so."""
    return {task["task"]: _read(task, task["covers"]) for task in report["tasks"] if "covers" in task}


def counted_coverage(report: Report) -> dict[str, TaskCoverage]:
    """The same, and of an older report's tasks what their counts tell."""
    counts = {
        task["task"]: {part["name"]: part["counts"]["n"] for part in task["subsets"]} or {"": task["counts"]["n"]}
        for task in report["tasks"]
    }
    return {task: TaskCoverage(asked, {}, len(asked)) for task, asked in counts.items()} | coverage_of(report)


def _read(task: TaskReport, covers: CoverageFields) -> TaskCoverage:
    by_subset = covers["by_subset"].items()
    bad = covers.get("bad_rows", _NO_BAD_ROWS)
    return TaskCoverage(
        {name: asked or 0 for name, (asked, _) in by_subset},
        {name: rows for name, (_, rows) in by_subset if rows is not None},
        covers["of_subsets"],
        covers["limit"],
        {name: {int(row): why for row, why in rows.items()} for name, rows in bad["by_subset"].items()},
        bad["handling"],
        {name: RowSet(rows) for name, rows in covers.get("chosen", {}).items()},
        {
            name: range(rows) if isinstance(rows, int) else RowSet(rows)
            for name, rows in covers.get("drawn_from", {}).items()
        },
        against["run"] if (against := task.get("drawn", {}).get("against")) else None,
    )


def numbered(rows: Iterable[int]) -> RowNumbers:
    """Numbers of rows as a coverage keeps them: a range, where they are the first."""
    held = rows if isinstance(rows, RowSet) else RowSet(rows)
    first = range(len(held))
    return first if all(number in held for number in first) else held


def _includes(rows: RowNumbers, others: RowNumbers) -> bool:
    if isinstance(rows, range) and isinstance(others, range):
        return len(rows) >= len(others)
    return all(number in rows for number in others)


def _joined(rows: RowNumbers, others: RowNumbers) -> RowNumbers:
    if isinstance(rows, range) and isinstance(others, range):
        return max(rows, others, key=len)
    return numbered(itertools.chain(rows, others))


def covered(coverage: Coverage) -> Callable[[Record], bool]:
    """Whether a record is of what is covered; of a task of which nothing is said, each is."""

    def holds(record: Record) -> bool:
        return record.task not in coverage or coverage[record.task].holds(record)

    return holds


def part_words(covers: PartCoverage | None, t: Translate = english) -> str:
    """What stands behind the name of a task, or of a group of subsets, that is not asked as a whole."""
    if covers is None or covers["subsets"] >= covers["of_subsets"]:
        return ""
    return f" ({t('{n} of {of} subsets', n=covers['subsets'], of=covers['of_subsets'])})"


def and_more(names: Sequence[str], t: Translate = english, n: int | None = None) -> str:
    """The first few names, and how many more there are. n: how many there are, where not all are named."""
    shown, others = ", ".join(names[:NAMED]), (n or len(names)) - len(names[:NAMED])
    return t("{names} and {n} more", names=shown, n=others) if others > 0 else shown


def setting_words(task: TaskReport, t: Translate = english) -> str:
    """How a task was asked: `5-shot, split test, limit 10 (520 of 1,346 rows)`."""
    words = [t("{n}-shot", n=task.get("num_fewshot") or 0)]
    if task.get("split"):
        words.append(t("split {name}", name=task["split"]))
    if covers := task.get("covers"):
        asked, there_are, limit = covers["rows"], covers["of_rows"], covers["limit"]
        of_rows = row_words(asked, there_are, t)
        if limit is not None:
            words.append(t("limit {n}", n=f"{limit:g}") + (f" ({of_rows})" if of_rows else ""))
        elif of_rows:
            words.append(of_rows)
    return t(", ").join(words)


def row_words(asked: int, there_are: int | None, t: Translate = english) -> str:
    """`520 of 1,346 rows`, where that is known and not all of them."""
    if there_are is None or asked >= there_are:
        return ""
    return t("{n} of {of} rows", n=f"{asked:,}", of=f"{there_are:,}")


def bad_rows_of(task: TaskReport) -> Sequence[tuple[str, str]]:
    """(row, what is wrong) of each row that could not be used as it is; a row is `NUMBER`, or `SUBSET NUMBER`."""
    by_subset = task["covers"].get("bad_rows", _NO_BAD_ROWS)["by_subset"] if "covers" in task else {}
    return [(f"{name} {row}".strip(), why) for name, rows in by_subset.items() for row, why in rows.items()]


def failed_rows(report: Report) -> int:
    """How many samples failed because nothing could be asked about their rows."""
    failing = (task for task in report["tasks"] if "covers" in task)
    return sum(len(bad_rows_of(task)) for task in failing if _handling(task) == "fail")


def _handling(task: TaskReport) -> BadRows:
    return task["covers"].get("bad_rows", _NO_BAD_ROWS)["handling"]


def bad_row_lines(report: Report, t: Translate = english) -> Iterator[str]:
    """One line for each task that has rows which could not be used as they are: what became of them."""
    for task in report["tasks"]:
        bad = bad_rows_of(task)
        if not bad:
            continue
        yield t(
            "{task}: {n} of {of} rows {verb}: {named} (row {row}: {why})",
            task=task["task"],
            n=len(bad),
            of=f"{task['covers']['rows']:,}",
            verb=t(_BECAME[_handling(task)][len(bad) > 1]),
            named=and_more([row for row, _ in bad], t),
            row=bad[0][0],
            why=_PLACE.sub("", bad[0][1]),
        )
