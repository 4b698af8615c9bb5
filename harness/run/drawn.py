"""Rows in a random order until a task is known: as narrowly as `--precision` asks, or against `--until_decided`'s run.

    draws = Draws.of(jobs, spec)                       # None where all rows are asked
    for look in draws.looks():
        ...                                            # ask its samples; each finished record: draws.saw(record)
    draws.keep()                                       # the jobs hold what was asked

What is estimated is the score that all rows would have; the intervals are those of
`harness.scoring.statistics.sequences`, valid at every look. The order depends on the seed and the rows alone: a run
that stopped goes on in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.column import Column
from harness.errors import UsageError
from harness.metrics import BatchMetric, CorpusMetric, ScoreKey
from harness.record.coverage import TaskCoverage
from harness.record.manifest import the_run
from harness.record.report_fields import DecisionFields, DrawnFields
from harness.record.row_set import RowSet
from harness.run.jobs import TaskJob
from harness.run.row_scores import RowPlaces, RowScores, counted_up
from harness.run.spec import RunSpec
from harness.spool import Spool
from harness.types import Record, Sample

if TYPE_CHECKING:
    from harness.scoring.statistics.sequences import MeanSequence, Rows

_GROWTH = (1.1, 2.0)
"""By how much the rows grow from one look to the next, at least and at most: models answer many at once better."""


@dataclass
class Rival:
    """What another run scored on the rows of a task: scores, by place."""

    run: str
    rows: RowPlaces
    scores: RowScores

    @classmethod
    def of(cls, path: str, job: TaskJob) -> Rival:
        """Raises `UsageError` where the run cannot be compared with."""
        from harness.run.compare import RunSide  # with all that compares runs

        name, key = job.task.name, job.scorer.reported[0].name
        side = RunSide(path, None)
        if name not in side.tasks:
            raise UsageError(f"--until_decided {path}: the run has no task '{name}' (it has {', '.join(side.tasks)})")
        numbers: dict[str, Column] = {}
        values: dict[str, array[float]] = {}
        for record in side.rows(name):
            if isinstance(score := record.scores.get(key), int | float):
                numbers.setdefault(record.subset, Column()).append(record.id)
                values.setdefault(record.subset, array("d")).append(score)
        if not numbers:
            raise UsageError(f"--until_decided {path}: task '{name}' has no sample with a score '{key}' there")
        rows = RowPlaces(numbers)
        scores = RowScores(len(rows))
        for subset, of_subset in numbers.items():
            for number, score in zip(of_subset, values[subset], strict=True):
                if (place := rows.place(subset, number)) is not None:
                    scores[place] = score
        return cls(path, rows, scores)

    def knows(self, subset: str, number: int) -> bool:
        return self.rows.place(subset, number) is not None

    def scores_of(self, rows: RowPlaces) -> RowScores:
        """The scores of rows that it knows, by their places."""
        scores = RowScores(len(rows))
        for own in range(len(rows)):
            place = self.rows.place(*rows.row(own))
            assert place is not None
            scores[own] = self.scores[place]
        return scores


class DrawnTask:
    """The rows of one task in the order in which they are drawn, and what those that were scored say of all of them.

    rows: subset -> numbers of the rows to draw from. weights: a row's, so that their weighted mean is the task's score:
    equal, or for a macro mean equal in sum for each subset.
    """

    def __init__(self, job: TaskJob, rows: Mapping[str, Iterable[int]], seed: int, rival: Rival | None = None) -> None:
        import numpy as np

        from harness.scoring.statistics.sequences import MeanSequence, drawing_rounds

        self.key = scored_by(job)
        self.rival = rival
        self.rows = RowPlaces(rows)
        sizes = np.array([len(numbers) for numbers in self.rows.numbers.values()] or [0], dtype=float)
        weights = np.ones(len(sizes))
        if job.task.scoring.average == "macro":
            weights = sizes.sum() / max(1, (sizes > 0).sum()) / np.maximum(sizes, 1)
        self._most = float(weights[sizes > 0].max(initial=1.0))
        self._weights = weights / self._most
        """Of the rows of each subset."""
        text = f"{seed}\0{job.task.base_name}"
        strata = np.arange(len(sizes), dtype=np.min_scalar_type(len(sizes))).repeat(sizes.astype(np.int64))
        self.rounds = drawing_rounds(
            strata, int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        )
        """The places of the rows that are drawn together."""
        self.seen_rounds = 0
        self.mean = MeanSequence(len(self.rows))
        self.difference = MeanSequence(len(self.rows)) if rival else None
        self._others = rival.scores_of(self.rows) if rival else RowScores(0)

    @property
    def of_rows(self) -> int:
        return len(self.rows)

    @property
    def n(self) -> int:
        return self.mean.n

    def take(self, scores: RowScores, rounds: int) -> None:
        """Take the scores of all rounds before number `rounds` that were not taken. scores: by place; a row without one
        (not a number) may have had any."""
        least, greatest = self.key.metric.bounds or (0.0, 1.0)
        for drawn in self.rounds[self.seen_rounds : rounds]:
            places = drawn.tolist()
            ranges = [_range(scores[place], least, greatest) for place in places]
            self._add(self.mean, drawn, [_within(pair, least, greatest) for pair in ranges])
            if self.difference is not None:
                others = (self._others[place] for place in places)
                gains = [(low - other, high - other) for (low, high), other in zip(ranges, others, strict=True)]
                span = greatest - least
                self._add(self.difference, drawn, [_within(pair, -span, span) for pair in gains])
        self.seen_rounds = max(rounds, self.seen_rounds)

    def _add(self, sequence: MeanSequence, drawn: Rows, ranges: Sequence[tuple[float, float]]) -> None:
        """Add values in [0, 1], weighted around 1/2."""
        import numpy as np

        weights = self._weights[np.searchsorted(self.rows.starts, drawn, side="right") - 1]
        low, high = np.array(ranges).T
        sequence.add(0.5 + weights * (low - 0.5), 0.5 + weights * (high - 0.5))

    @property
    def interval(self) -> tuple[float, float]:
        """Of the task's score over all rows, in the metric's own unit."""
        least, greatest = self.key.metric.bounds or (0.0, 1.0)
        return self._own_unit(self.mean, least, greatest)

    @property
    def gain(self) -> tuple[float, float]:
        """Of the difference to the other run over all rows; how much better, whichever way the metric goes."""
        least, greatest = self.key.metric.bounds or (0.0, 1.0)
        if self.difference is None:
            return least - greatest, greatest - least
        low, high = self._own_unit(self.difference, least - greatest, greatest - least)
        return (low, high) if self.key.higher_is_better else (-high, -low)

    def _own_unit(self, sequence: MeanSequence, least: float, greatest: float) -> tuple[float, float]:
        low, high = (0.5 + self._most * (bound - 0.5) for bound in sequence.interval)
        return least + max(0.0, low) * (greatest - least), least + min(1.0, high) * (greatest - least)

    @property
    def verdict(self) -> str:
        low, high = self.gain
        if low > 0 or high < 0:
            return "better" if low > 0 else "worse"
        return "equal" if self.n == self.of_rows and high - low < 1e-9 else "open"

    def is_known(self, precision: float | None) -> bool:
        """Whether nothing more has to be asked: what was asked for is known, or all rows were asked."""
        low, high = self.interval
        narrow = precision is None or (high - low) / 2 <= precision
        return self.n == self.of_rows or (narrow and (self.rival is None or self.verdict != "open"))

    def next_look(self, precision: float | None) -> int:
        """After which round to look again: where the interval should be narrow enough, within `_GROWTH`."""
        done = self.seen_rounds
        if done >= len(self.rounds):
            return done
        least, most = (self.n * growth for growth in _GROWTH)
        wanted = self.n * 1.25
        low, high = self.interval
        if precision is not None and self.n and high - low > 2 * precision:
            # The squared width falls with n / (1 - n / N), the information that n of N rows give.
            information = self.n / (1 - self.n / self.of_rows) * ((high - low) / 2 / precision) ** 2
            wanted = self.n + 0.8 * (information / (1 + information / self.of_rows) - self.n)
        target = min(max(wanted, least), most)
        sizes, total = [len(drawn) for drawn in self.rounds], self.n
        while done < len(self.rounds) and (total < target or done < 2):
            total += sizes[done]
            done += 1
        return done

    def fields(self) -> DrawnFields:
        """As the report has it."""
        fields: DrawnFields = {"rows": self.n, "of_rows": self.of_rows, "interval": list(self.interval)}
        if self.rival is not None:
            gain = sorted(self.gain)
            against: DecisionFields = {"run": self.rival.run, "difference": gain, "verdict": self.verdict}  # type: ignore[typeddict-item]
            fields["against"] = against
        return fields


class _Drawing:
    """One task while it is drawn: the samples of its rows lie in a file, in memory are numbers.

    always: samples that are no part of any estimate, as nothing can be asked of them. scores: by place of the row.
    """

    def __init__(self, job: TaskJob, spec: RunSpec) -> None:
        rival = Rival.of(spec.until_decided, job) if spec.until_decided else None
        self.job = job
        self.always: list[Sample] = []
        self._samples = Spool[tuple[Sample, ...]](block=1)
        rows = {subset.name: Column() for subset in job.task.subsets}
        entries = {name: Column() for name in rows}
        counts = Column()
        drawn = (sample for sample in job.samples if self._is_drawn(sample, rival))
        for (subset, number), views in itertools.groupby(drawn, key=lambda sample: (sample.subset, sample.id)):
            rows[subset].append(number)
            entries[subset].append(len(counts))
            self._samples.append(of_row := tuple(views))
            counts.append(len(of_row))
        if not self._samples:
            raise UsageError(
                f"{job.task.name}: no row has a gold answer"
                + (f" here and a score in {rival.run}" if rival else "")
                + ": nothing can be drawn until it is known"
            )
        for name, notes in job.notes.items():
            notes.drawn_from = RowSet(rows[name])
        self.task = DrawnTask(job, rows, spec.seed, rival)
        self.scores = RowScores(len(counts))
        entry_of, views_of = Column(), Column()
        for column in (entry_of, views_of):
            column.add_zeros(len(counts))
        for name in rows:
            for number, entry in zip(rows[name], entries[name], strict=True):
                place = self.task.rows.place(name, number)
                assert place is not None
                entry_of[place], views_of[place] = entry, counts[entry]
        self._entries = counted_up(entry_of)
        self._views = counted_up(Column(itertools.accumulate(views_of, initial=0)))
        """Where the views of the row at a place begin, among those of all rows."""
        self._records = Spool[Record](block=1)
        self._seen = Column()
        """By view: how many records there were once the last one of it came; 0 where none did. Kept where a row has
        several: one may be asked again."""
        self._seen.add_zeros(self.count if self.count > len(counts) else 0)
        self.asked = 0
        self.is_known = False

    def _is_drawn(self, sample: Sample, rival: Rival | None) -> bool:
        if sample.problem:
            self.always.append(sample)
            return False
        return sample.target is not None and (rival is None or rival.knows(sample.subset, sample.id))

    @property
    def count(self) -> int:
        """How many samples all rows have."""
        return self._views[-1]

    def samples(self, first: int, last: int) -> Iterator[Sample]:
        """Those of the rounds from `first` until before `last`."""
        if not first:
            yield from self.always
        for drawn in self.task.rounds[first:last]:
            for place in drawn.tolist():
                yield from self._samples[self._entries[place]]

    def saw(self, record: Record) -> None:
        """Note the scores of a finished sample; a row that is shown in several ways is scored once all are there."""
        place = self.task.rows.place(record.subset, record.id)
        if place is None:
            return
        views, (begin, end) = [record], self._views[place : place + 2]
        if end - begin > 1:
            self._records.append(record)
            self._seen[begin + (record.view.index if record.view else 0)] = len(self._records)
            views = [self._records[count - 1] for count in self._seen[begin:end] if count]
        if len(views) == end - begin:
            (joined,) = self.job.scorer.rows(iter(views))
            score = joined.scores.get(self.task.key.name)
            self.scores[place] = score if isinstance(score, int | float) else math.nan


class Draws:
    """The tasks of a run whose rows are drawn until they are known."""

    def __init__(self, drawings: Sequence[_Drawing], precision: float | None) -> None:
        self._drawings = {drawing.job.task.name: drawing for drawing in drawings}
        self._precision = precision

    @classmethod
    def of(cls, jobs: Sequence[TaskJob], spec: RunSpec) -> Draws | None:
        """What a run draws; None where it asks all rows. Raises `UsageError`."""
        if spec.precision is None and spec.until_decided is None:
            return None
        check_drawn(jobs, spec)
        return cls([_Drawing(job, spec) for job in jobs], spec.precision)

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """(task, samples) if all were asked."""
        return [(name, each.count) for name, each in self._drawings.items()]

    def looks(self) -> Iterator[Iterator[tuple[TaskJob, Sample]]]:
        """What is to be asked before each look, until every task is known. All of it must be seen before the next."""
        while True:
            wanted = [(each, each.asked) for each in self._drawings.values() if not self._is_known(each)]
            if not wanted:
                return
            for drawing, _ in wanted:
                drawing.asked = drawing.task.next_look(self._precision)
            yield ((each.job, sample) for each, first in wanted for sample in each.samples(first, each.asked))

    def _is_known(self, drawing: _Drawing) -> bool:
        if drawing.asked:
            drawing.task.take(drawing.scores, drawing.asked)
            drawing.is_known = drawing.task.is_known(self._precision)
        return drawing.is_known

    def saw(self, record: Record) -> None:
        """Note the scores of a finished sample."""
        self._drawings[record.task].saw(record)

    def keep(self) -> None:
        """Let the jobs hold the samples that were asked, and their notes the numbers of these rows."""
        for drawing in self._drawings.values():
            drawing.job.hold(drawing.samples(0, drawing.asked))
            chosen = {name: RowSet() for name in drawing.job.notes}
            for sample in drawing.job.samples:
                chosen[sample.subset].add(sample.id)
            for name, notes in drawing.job.notes.items():
                notes.chosen = chosen[name]


def check_drawn(jobs: Sequence[TaskJob], spec: RunSpec) -> None:
    """Refuse what cannot be drawn until it is known. Raises `UsageError`."""
    if spec.precision is None and spec.until_decided is None:
        return
    for job in jobs:
        scored_by(job)


def check_rival(rival: str, own: Path) -> None:
    """Refuse to compare a run with itself. Raises `UsageError`. own: where it is, or will be."""
    if own.exists() and own.resolve() == the_run(Path(rival)).resolve():
        raise UsageError(f"--until_decided {rival}: is this very run; name another, or another --output")


def rival_asked_otherwise(rival: str, own: Path, jobs: Sequence[TaskJob]) -> Iterator[str]:
    """What was asked or scored otherwise in the run that this one is compared with, in lines."""
    from harness.run.compare import RunSide, asked_otherwise

    yield from asked_otherwise(RunSide(rival, None), RunSide(own, None), [job.task.name for job in jobs])


def own_job(job: TaskJob) -> TaskJob:
    """The job with samples and notes of its own, which `Draws.keep` may change."""
    notes = {name: replace(each) for name, each in job.notes.items()}
    return replace(job, notes=notes)


def scored_by(job: TaskJob) -> ScoreKey:
    """The score that is estimated: the headline, where it is a mean of scores between known bounds."""
    key = job.scorer.reported[0]
    if key.aggregation != "mean" or isinstance(key.metric, BatchMetric | CorpusMetric) or key.metric.bounds is None:
        raise UsageError(
            f"--precision, --until_decided: task '{job.task.name}' is scored by '{key.name}', which is no mean of "
            "scores that are known at once and have bounds; leave the task out, or name another metric first in it"
        )
    return key


def drawn_fields(job: TaskJob, coverage: TaskCoverage, records: Iterable[Record], seed: int) -> DrawnFields | None:
    """What the records of a run say of all rows that its own were drawn from."""
    rows, rival = coverage.drawn_from, None
    if coverage.rival:
        with contextlib.suppress(UsageError):  # of a run that is gone since, the interval alone is left
            rival = Rival.of(coverage.rival, job)
        if rival and any(not rival.knows(name, number) for name, numbers in rows.items() for number in numbers):
            rival = None
    task = DrawnTask(job, rows, seed, rival)
    asked = {name: coverage.of_subset(name) for name in rows}
    done = 0
    while done < len(task.rounds):
        drawn = map(task.rows.row, task.rounds[done].tolist())
        if not all(number in asked[name] for name, number in drawn):
            break
        done += 1
    scores = RowScores(len(task.rows))
    for record in job.scorer.rows(records):
        score, place = record.scores.get(task.key.name), task.rows.place(record.subset, record.id)
        if place is not None and isinstance(score, int | float):
            scores[place] = score
    task.take(scores, done)
    return task.fields() if task.n else None


def _range(score: float, least: float, greatest: float) -> tuple[float, float]:
    return (score, score) if math.isfinite(score) else (least, greatest)


def _within(pair: tuple[float, float], least: float, greatest: float) -> tuple[float, float]:
    """Values on the scale from `least` to `greatest`, as parts of it."""
    low, high = ((min(max(value, least), greatest) - least) / (greatest - least) for value in pair)
    return low, high
