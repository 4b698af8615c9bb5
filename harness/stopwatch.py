"""Where the time of a run goes: each moment belongs to exactly one phase, so that the phases add up to the whole.

with clock.phase("plan"):
    plan = make_plan(items)
before = clock.turn("records")     # the same without the cost of `with`, where it is passed for every sample
...
clock.turn(before)
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Self, TypeVar

from harness.quick import dataclass

Item = TypeVar("Item")
OTHER = "other"
_IMPORTED = time.perf_counter()
PHASES = (
    "tasks", "rows", "prompts", "prepare", "known", "load", "tokens", "plan", "model", "attention", "waiting", "scores",
    "records", "report", OTHER,
)  # fmt: skip
"""In the order of a run. tasks: task files and metrics read. rows: data sets opened. prompts: rows rendered. prepare:
the model's configuration and tokenizer, and its look at the prompts. known: what is on disk already. load: weights, or
a connection. tokens: prompts tokenised, where the model waits for it. plan: the tree of shared prefixes. model: forward
passes, without attention where that is told apart. waiting: for a server's answers. scores: answers extracted and
scored. records: written. report: summed up and written."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by the clock, by phase, and of processor: of this process and of those that it has waited for."""

    phases: Mapping[str, float]
    processor: float

    def since(self, earlier: Spent) -> Spent:
        """What was spent after `earlier`."""
        phases = {name: seconds - earlier.phases.get(name, 0.0) for name, seconds in self.phases.items()}
        return Spent(
            {name: seconds for name, seconds in phases.items() if seconds > 0}, self.processor - earlier.processor
        )


@dataclass(frozen=True, slots=True)
class Seconds:
    """What something takes: seconds by the clock, and of processor, of all threads together.

    Of a busy machine only the latter tell what the work itself takes; see `since`.
    """

    clock: float = 0.0
    processor: float = 0.0

    @classmethod
    def now(cls) -> Self:
        """A moment, to be taken off a later one."""
        return cls(time.perf_counter(), _processor_seconds())

    @classmethod
    def so_far(cls) -> Self:
        """What this process has taken since it began; by the clock, since it imported this module."""
        return cls(time.perf_counter() - _IMPORTED, _processor_seconds())

    def since(self, earlier: Seconds) -> Seconds:
        """From an earlier moment to this one."""
        return Seconds(self.clock - earlier.clock, self.processor - earlier.processor)

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.clock + other.clock, self.processor + other.processor)

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.clock * factor, self.processor * factor)


class Stopwatch:
    """Seconds by phase, of the thread that runs the work. seconds: of the phases that are over."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase = OTHER
        self._since = time.perf_counter()
        self.begun = Spent({}, _processor_seconds())

    def turn(self, phase: str) -> str:
        """From now on it is this phase. Returns the one before, to turn back to."""
        now, before = time.perf_counter(), self._phase
        self.seconds[before] = self.seconds.get(before, 0.0) + now - self._since
        self._phase, self._since = phase, now
        return before

    def move(self, phase: str, seconds: float) -> None:
        """So many seconds of the phase that it is now were of another one: of threads beside the one that is timed."""
        for name, more in ((phase, seconds), (self._phase, -seconds)):
            self.seconds[name] = self.seconds.get(name, 0.0) + more

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Within the block it is this phase; not to be held open where a generator yields."""
        before = self.turn(name)
        try:
            yield
        finally:
            self.turn(before)

    def over(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items; the time until each is there is of this phase."""
        iterator = iter(items)
        while True:
            before = self.turn(name)
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.turn(before)
            yield item

    def so_far(self) -> Spent:
        """What was spent until now."""
        self.turn(self._phase)
        return Spent(dict(self.seconds), _processor_seconds())


def peak_memory() -> int:
    """The most bytes of main memory that this process has had; 0 where the system does not say."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _processor_seconds() -> float:
    spent = os.times()  # of this process in hundredths of a second, in which a small model answers
    return time.process_time() + spent.children_user + spent.children_system
