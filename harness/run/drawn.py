"""Rows in a random order until a task is known: as narrowly as `--precision` asks, or against `--until_decided`'s run.

    draws = Draws.of(jobs, spec)                       # None where all rows are asked
    while part := draws.next_samples():
        ...                                            # ask them; each finished record: draws.saw(record)
    draws.keep()                                       # the jobs hold what was asked

What is estimated is the score that all rows would have; the intervals are those of
`harness.scoring.statistics.sequences`, valid at every look. The order depends on the seed and the rows alone: a run
that stopped goes on in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.metrics import BatchMetric, CorpusMetric, ScoreKey
from harness.record.coverage import TaskCoverage
from harness.record.file_types import DecisionFields, DrawnFields
from harness.run.compare import RunSide
from harness.run.jobs import TaskJob
from harness.run.spec import RunSpec
from harness.types import Record, Sample, SampleKey

if TYPE_CHECKING:
    from harness.scoring.statistics.sequences import MeanSequence

Row = tuple[str, int]
"""A subset and the number of a row in it."""
_GROWTH = (1.1, 2.0)
"""By how much the rows grow from one look to the next, at least and at most: models answer many at once better."""


@dataclass
class Rival:
    """What another run scored on the rows of a task."""

    run: str
    scores: Mapping[Row, float]

    @classmethod
    def of(cls, path: str, job: TaskJob) -> Rival:
        """Raises `UsageError` where the run cannot be compared with."""
        name, key = job.task.name, job.scorer.reported[0].name
        side = RunSide(path, None)
        if name not in side.tasks:
            raise UsageError(f"--until_decided {path}: the run has no task '{name}' (it has {', '.join(side.tasks)})")
        scored = {(record.subset, record.id): record.scores.get(key) for record in side.rows(name)}
        scores = {row: float(score) for row, score in scored.items() if isinstance(score, int | float)}
        if not scores:
            raise UsageError(f"--until_decided {path}: task '{name}' has no sample with a score '{key}' there")
        return cls(path, scores)


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
        named = [(number, (subset, row)) for number, subset in enumerate(rows) for row in sorted(rows[subset])]
        strata, self._rows = np.array([number for number, _ in named], dtype=np.int64), [row for _, row in named]
        sizes = np.bincount(strata, minlength=1).astype(float)
        weights = np.ones(len(named))
        if job.task.scoring.average == "macro":
            weights = (sizes.sum() / (sizes > 0).sum() / np.maximum(sizes, 1))[strata]
        self._most = float(weights.max(initial=1.0))
        self._weights = dict(zip(self._rows, weights / self._most, strict=True))
        text = f"{seed}\0{job.task.base_name}"
        rounds = drawing_rounds(strata, int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))
        self.rounds = [[self._rows[index] for index in drawn] for drawn in rounds]
        self.seen_rounds = 0
        self.mean = MeanSequence(len(named))
        self.difference = MeanSequence(len(named)) if rival else None

    @property
    def of_rows(self) -> int:
        return len(self._rows)

    @property
    def n(self) -> int:
        return self.mean.n

    def take(self, scores: Mapping[Row, float | None], rounds: int) -> None:
        """Take the scores of all rounds before number `rounds` that were not taken. A row without a score may have had
        any."""
        least, greatest = self.key.metric.bounds or (0.0, 1.0)
        for drawn in self.rounds[self.seen_rounds : rounds]:
            ranges = [_range(scores.get(row), least, greatest) for row in drawn]
            self._add(self.mean, drawn, [_within(pair, least, greatest) for pair in ranges])
            if self.difference is not None and self.rival is not None:
                others = [self.rival.scores[row] for row in drawn]
                gains = [(low - other, high - other) for (low, high), other in zip(ranges, others, strict=True)]
                span = greatest - least
                self._add(self.difference, drawn, [_within(pair, -span, span) for pair in gains])
        self.seen_rounds = max(rounds, self.seen_rounds)

    def _add(self, sequence: MeanSequence, drawn: Sequence[Row], ranges: Sequence[tuple[float, float]]) -> None:
        """Add values in [0, 1], weighted around 1/2."""
        import numpy as np

        weights = np.array([self._weights[row] for row in drawn])
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


@dataclass
class _Drawing:
    """One task while it is drawn. always: samples that are no part of any estimate, as nothing can be asked of them."""

    job: TaskJob
    task: DrawnTask
    samples: Mapping[Row, Sequence[Sample]]
    always: list[Sample]
    scores: dict[Row, float | None] = field(default_factory=dict)
    views: dict[Row, dict[SampleKey, Record]] = field(default_factory=dict)
    asked: int = 0
    is_known: bool = False


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
        drawings = []
        for job in jobs:
            rival = Rival.of(spec.until_decided, job) if spec.until_decided else None
            samples: dict[Row, list[Sample]] = {}
            always = []
            for sample in job.samples:
                if sample.problem:
                    always.append(sample)
                elif sample.target is not None and (rival is None or (sample.subset, sample.id) in rival.scores):
                    samples.setdefault((sample.subset, sample.id), []).append(sample)
            if not samples:
                raise UsageError(
                    f"{job.task.name}: no row has a gold answer"
                    + (f" here and a score in {rival.run}" if rival else "")
                    + ": nothing can be drawn until it is known"
                )
            rows: dict[str, list[int]] = {subset.name: [] for subset in job.task.subsets}
            for subset, number in samples:
                rows[subset].append(number)
            for name, notes in job.notes.items():
                notes.drawn_from = rows[name]
            drawings.append(_Drawing(job, DrawnTask(job, rows, spec.seed, rival), samples, always))
        return cls(drawings, spec.precision)

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """(task, samples) if all were asked."""
        return [(name, sum(map(len, each.samples.values()))) for name, each in self._drawings.items()]

    def next_samples(self) -> list[tuple[TaskJob, Sample]]:
        """What is to be asked before the next look; empty once every task is known."""
        part: list[tuple[TaskJob, Sample]] = []
        for drawing in self._drawings.values():
            if drawing.asked:
                drawing.task.take(drawing.scores, drawing.asked)
                drawing.is_known = drawing.task.is_known(self._precision)
            if drawing.is_known:
                continue
            look = drawing.task.next_look(self._precision)
            rows = [row for drawn in drawing.task.rounds[drawing.asked : look] for row in drawn]
            samples = [
                *([] if drawing.asked else drawing.always),
                *(each for row in rows for each in drawing.samples[row]),
            ]
            drawing.asked = look
            part += [(drawing.job, sample) for sample in samples]
        return part

    def saw(self, record: Record) -> None:
        """Note the scores of a finished sample; a row that is shown in several ways is scored once all are there."""
        drawing = self._drawings[record.task]
        row = record.subset, record.id
        if row not in drawing.samples:
            return
        views = [record]
        if (count := len(drawing.samples[row])) > 1:  # kept: one of them may be asked again
            drawing.views.setdefault(row, {})[record.key] = record
            views = list(drawing.views[row].values())
        if len(views) == count:
            (joined,) = drawing.job.scorer.rows(iter(views))
            score = joined.scores.get(drawing.task.key.name)
            drawing.scores[row] = float(score) if isinstance(score, int | float) else None

    def keep(self) -> None:
        """Let the jobs hold the samples that were asked, and their notes the numbers of these rows."""
        for drawing in self._drawings.values():
            rows = [row for drawn in drawing.task.rounds[: drawing.asked] for row in drawn]
            drawing.job.hold([*drawing.always, *(sample for row in rows for sample in drawing.samples[row])])
            chosen: dict[str, set[int]] = {name: set() for name in drawing.job.notes}
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


def drawn_fields(job: TaskJob, coverage: TaskCoverage, records: Iterable[Record], spec: RunSpec) -> DrawnFields | None:
    """What the records of a run say of all rows that its own were drawn from."""
    rows, rival = coverage.drawn_from, None
    if spec.until_decided:
        with contextlib.suppress(UsageError):  # of a run that is gone since, the interval alone is left
            rival = Rival.of(spec.until_decided, job)
        if rival and any((name, number) not in rival.scores for name, numbers in rows.items() for number in numbers):
            rival = None
    task = DrawnTask(job, rows, spec.seed, rival)
    done = 0
    while done < len(task.rounds) and all(row in coverage.of_subset(name) for name, row in task.rounds[done]):
        done += 1
    scores = {(record.subset, record.id): record.scores.get(task.key.name) for record in job.scorer.rows(records)}
    task.take({row: float(score) for row, score in scores.items() if isinstance(score, int | float)}, done)
    return task.fields() if task.n else None


def _range(score: float | None, least: float, greatest: float) -> tuple[float, float]:
    return (least, greatest) if score is None or not math.isfinite(score) else (score, score)


def _within(pair: tuple[float, float], least: float, greatest: float) -> tuple[float, float]:
    """Values on the scale from `least` to `greatest`, as parts of it."""
    low, high = ((min(max(value, least), greatest) - least) / (greatest - least) for value in pair)
    return low, high
