"""Several judges of the same answers: what they say together, and how far they agree.

The panel's score of a sample is the mean of its judges', where every one of them gave one: the mean of those that
happen to be there would move with who failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import compress
from pathlib import Path
from typing import Any

from harness.judging.judged_runs import JudgedTask
from harness.judging.rubric import Rubric
from harness.judging.verdicts import score_keys
from harness.quick import dataclass
from harness.record.report import build_report
from harness.record.report_fields import Report
from harness.record.run import RunFolder
from harness.scoring.aggregation import summarise
from harness.scoring.statistics.agreement import Level, Ratings, equal_share, krippendorff_alpha
from harness.scoring.statistics.estimates import Clusters
from harness.types import Record, SampleKey


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the judges of a task agree on the headline.

    alpha: Krippendorff's, with its 95 % interval; None where it is not defined. equal: the share of the `n` samples,
    those that every judge was asked about and scored, on which all say the same.
    """

    task: str
    level: Level
    alpha: float | None
    interval: tuple[float, float] | None
    equal: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Panel:
    """The judges by their folders, their joint report (its tasks are those of any report), and their agreement."""

    judges: tuple[str, ...]
    report: Report
    agreement: tuple[Agreement, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "report": dict(self.report)}


def make_panel(rubric: Rubric, tasks: Sequence[JudgedTask], paths: Sequence[Path]) -> Panel:
    """Read what each judge wrote, and put it together."""
    folders = [RunFolder.read(path) for path in paths]
    key = score_keys(rubric)[0]
    headline = next(each for each in rubric.format.fields if each.name == rubric.score)
    level: Level = "nominal" if not rubric.pairwise and headline.type in ("boolean", "choice") else "interval"
    results, agreement = [], []
    for task in tasks:
        columns = [{record.key: record for record in folder.records(task.name)} for folder in folders]
        places = [records[0].key for records in task.samples]
        ratings = []
        for place in places:
            scores = [column[place].scores.get(key.name) if place in column else None for column in columns]
            ratings.append([score if isinstance(score, float) else None for score in scores])
        subsets = [(name, title, ()) for name, title in task.subsets]
        known = {place: record for column in reversed(columns) for place, record in column.items()}
        # Where nobody was asked, all say the same: two equal answers are a tie.
        asked = [not (place in known and (known[place].judge or {}).get("skipped")) for place in places]
        agreement.append(agreed(task.name, level, list(compress(ratings, asked))))
        joint = _joined(known, places, ratings, key.name)
        results += summarise(task.name, joint, subsets, (key,), task.average)
    report = build_report({"kind": "judgement", "tasks": {task.name: task.fields for task in tasks}}, results)
    return Panel(tuple(map(str, paths)), report, tuple(agreement))


def agreed(task: str, level: Level, ratings: Ratings, clusters: Clusters = None) -> Agreement:
    """How far judges agree on what they were asked: a row a sample, a column a judge; None where one gave no rating."""
    alpha, equal = krippendorff_alpha(ratings, level, clusters), equal_share(ratings)
    value, interval = (alpha.value, alpha.interval) if alpha else (None, None)
    share, n = equal if equal else (None, 0)
    return Agreement(task, level, value, interval, share, n)


def _joined(
    known: Mapping[SampleKey, Record], places: Sequence[SampleKey], ratings: Sequence[Sequence[float | None]], key: str
) -> Iterator[Record]:
    """The samples with their joint score; one that no judge has is in no number."""
    for place, row in zip(places, ratings, strict=True):
        scores = [score for score in row if score is not None]
        joint = sum(scores) / len(scores) if len(scores) == len(row) else None
        if place in known:
            yield replace(known[place], scores={key: joint}, responses=(), unparsed=False, error=None)
