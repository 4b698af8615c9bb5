"""What a run over several benchmarks says of each ability: the mean over its tasks, raw and corrected for chance.

A value is first put on a scale from 0, the worst that the metric can be, to 1, the best. Corrected for chance it is
(value - c) / (1 - c), with c the value of a guess: 0 at chance, 1 where all is right, negative below chance.
Tasks count alike. The interval of a mean of k independent values v_i with the intervals (l_i, u_i) is
mean - sqrt(sum (v_i - l_i)^2) / k and mean + sqrt(sum (u_i - v_i)^2) / k (MOVER;
Zou and Donner 2008, doi 10.1002/sim.3095).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.quick import dataclass
from harness.types import NO_CHOICE, Record


@dataclass(frozen=True, slots=True)
class RangedValue:
    """A value with its 95 % interval; None where that is not defined."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class TaskValue:
    """The headline of one task. abilities: what it measures. bounds: of the metric; None where it has none, and then it
    cannot be averaged with others. chance: what a guess is worth, on the metric's own scale; 0 where one cannot guess.
    """

    task: str
    abilities: tuple[str, ...]
    metric: str
    value: float | None
    interval: tuple[float, float] | None
    n: int
    bounds: tuple[float, float] | None
    higher_is_better: bool = True
    chance: float | None = None


@dataclass(frozen=True, slots=True)
class AbilityScore:
    """The mean over the tasks of one ability, on a scale from 0 to 1. left_out: tasks whose value has no such scale."""

    ability: str
    tasks: tuple[str, ...]
    n: int
    raw: RangedValue | None
    corrected: RangedValue | None
    left_out: tuple[str, ...] = ()


def ability_scores(values: Sequence[TaskValue]) -> list[AbilityScore]:
    """One score an ability, the best first (by the corrected value); abilities without a value come last."""
    names = dict.fromkeys(name for value in values for name in value.abilities)
    scores = [_ability(name, [value for value in values if name in value.abilities]) for name in names]
    return sorted(
        scores, key=lambda score: (score.corrected is None, -(score.corrected.value if score.corrected else 0))
    )


@dataclass(slots=True)
class GuessTally:
    """Adds up what a blind choice among the options of records would score."""

    sum: float = 0.0
    count: int = 0

    def add(self, record: Record) -> None:
        if record.choices and record.target is not None:
            golds = record.target if isinstance(record.target, tuple) else (record.target,)
            right = len(golds) - golds.count(NO_CHOICE)
            self.sum += min(1.0, right / len(record.choices))
            self.count += 1

    @property
    def value(self) -> float | None:
        """The mean share of right options; None where there are none to choose from."""
        return self.sum / self.count if self.count else None


def _ability(name: str, tasks: Sequence[TaskValue]) -> AbilityScore:
    scaled = [(task, value) for task in tasks if (value := _scaled(task)) is not None]
    used = tuple(task.task for task, _ in scaled)
    left_out = tuple(task.task for task in tasks if task.task not in used)
    raw = _mean([value for _, value in scaled])
    corrected = _mean([_above_chance(value, task) for task, value in scaled])
    return AbilityScore(name, used, sum(task.n for task, _ in scaled), raw, corrected, left_out)


def _scaled(task: TaskValue) -> RangedValue | None:
    """A task's value from 0, the worst, to 1, the best."""
    if task.value is None or task.bounds is None or not all(map(math.isfinite, task.bounds)):
        return None
    ends = [_on_scale(end, task) for end in task.interval] if task.interval else None
    return RangedValue(_on_scale(task.value, task), (min(ends), max(ends)) if ends else None)


def _on_scale(value: float, task: TaskValue) -> float:
    least, most = task.bounds or (0.0, 1.0)
    share = (value - least) / (most - least)
    return share if task.higher_is_better else 1.0 - share


def _above_chance(scaled: RangedValue, task: TaskValue) -> RangedValue:
    """How far a value is on its way from what chance gives, 0, to the best, 1."""
    chance = 0.0 if task.chance is None or task.bounds is None else min(_on_scale(task.chance, task), 1.0)
    if chance >= 1.0:
        return RangedValue(0.0, (0.0, 0.0))
    ends = [(end - chance) / (1.0 - chance) for end in scaled.interval] if scaled.interval else None
    return RangedValue((scaled.value - chance) / (1.0 - chance), (ends[0], ends[1]) if ends else None)


def _mean(ranges: Sequence[RangedValue]) -> RangedValue | None:
    if not ranges:
        return None
    count = len(ranges)
    mean = sum(item.value for item in ranges) / count
    if any(item.interval is None for item in ranges):
        return RangedValue(mean, None)
    below = math.sqrt(sum((item.value - item.interval[0]) ** 2 for item in ranges if item.interval)) / count
    above = math.sqrt(sum((item.interval[1] - item.value) ** 2 for item in ranges if item.interval)) / count
    return RangedValue(mean, (mean - below, mean + above))
