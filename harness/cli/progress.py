"""Shows how far a run is: a live line a task on a terminal, now and then a plain line elsewhere.

`sample_done` only counts. Drawing happens a few times a second at most, so that it costs nothing per sample.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from harness.cli.console import counted
from harness.run.spec import Progress
from harness.terminal import visible
from harness.types import Record

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

Clock = Callable[[], float]


@dataclass(slots=True)
class TaskProgress:
    """How far one task is."""

    name: str
    total: int
    done: int
    known: int
    began: float | None = None
    seen: float = 0.0
    metric: str = ""
    sum: float = 0.0
    scored: int = 0

    def add(self, record: Record, headline: str, before: float, now: float) -> None:
        """Count a record that came at `now`, when the last one of any task had come at `before`."""
        self.began = before if self.began is None else self.began
        self.seen = now
        self.done += 1
        self.metric = headline
        score = record.scores.get(headline)
        if isinstance(score, int | float):
            self.sum += score
            self.scored += 1

    @property
    def finished(self) -> bool:
        return self.done >= self.total

    @property
    def score(self) -> str:
        return f"{self.metric.partition('@')[0]} {self.sum / self.scored:.3f}" if self.scored else ""

    @property
    def speed(self) -> float:
        """Samples a second since the task had its turn; what was on disk already does not count."""
        elapsed = self.seen - self.began if self.began is not None else 0.0
        return (self.done - self.known) / elapsed if elapsed > 0 else 0.0

    def counts(self) -> str:
        return f"{self.done}/{self.total}"

    def pace(self) -> str:
        return f"{self.speed:.0f}/s" if self.speed >= 10 else f"{self.speed:.1f}/s" if self.speed else ""

    def left(self) -> str:
        if not self.speed or self.finished:
            return ""
        return f"{clock_text((self.total - self.done) / self.speed)} left"


def clock_text(seconds: float) -> str:
    """`0:42`, `12:05` or `3:01:30`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class Board(Progress):
    """The counting that both ways of showing share."""

    stream: TextIO
    clock: Clock = time.monotonic
    lines: dict[str, TaskProgress] = field(default_factory=dict)
    latest: float = 0.0

    def started(self, tasks: Sequence[tuple[str, int, int]], model: str) -> None:
        self.latest = self.clock()
        self.lines = {name: TaskProgress(name, total, known, known) for name, total, known in tasks}
        total, known = sum(line.total for line in self.lines.values()), sum(line.known for line in self.lines.values())
        on_disk = f", {known} of them on disk already" if known else ""
        self.message(f"{model}: {counted(len(self.lines), 'task')}, {counted(total, 'sample')}{on_disk}")

    def sample_done(self, record: Record, headline: str) -> None:
        line = self.lines.get(record.task)
        if line is not None:
            now = self.clock()
            line.add(record, headline, self.latest, now)
            self.latest = now
            self.changed(line)

    def changed(self, line: TaskProgress) -> None:
        """A sample was added to `line`."""

    def message(self, text: str) -> None:
        self.stream.write(visible(text) + "\n")
        self.stream.flush()


@dataclass
class PlainBoard(Board):
    """Plain lines for logs and pipes: one at each tenth of a task, and never two within `pause` seconds.

    The end of a task is always told; a long silence is broken after `patience` seconds.
    """

    pause: float = 3.0
    patience: float = 30.0
    _told: float = float("-inf")
    _tenths: dict[str, int] = field(default_factory=dict)

    def started(self, tasks: Sequence[tuple[str, int, int]], model: str) -> None:
        super().started(tasks, model)
        self._told = self.clock()
        self._tenths = {name: 10 * line.done // max(line.total, 1) for name, line in self.lines.items()}

    def changed(self, line: TaskProgress) -> None:
        tenth = 10 * line.done // max(line.total, 1)
        quiet = line.seen - self._told
        if line.finished or quiet >= self.patience or (tenth > self._tenths[line.name] and quiet >= self.pause):
            self._tenths[line.name] = tenth
            self._told = line.seen
            words = (line.name, line.counts(), line.score, line.pace(), line.left())
            self.message("  ".join(word for word in words if word))


@dataclass
class LiveBoard(Board):
    """Live lines by rich. Finished tasks move up and stay; only tasks at work are redrawn."""

    _live: Live | None = None
    _kept: set[str] = field(default_factory=set)

    def started(self, tasks: Sequence[tuple[str, int, int]], model: str) -> None:
        super().started(tasks, model)
        self._kept = set()
        from rich.console import Console
        from rich.live import Live

        board = self

        class Drawing:
            def __rich__(self) -> RenderableType:
                return board.table(
                    [line for line in board.lines.values() if line.began is not None and not line.finished]
                )

        console = Console(file=self.stream, highlight=False)
        self._live = Live(Drawing(), console=console, refresh_per_second=4, transient=True, redirect_stdout=False)
        self._live.start()

    def changed(self, line: TaskProgress) -> None:
        if line.finished and line.name not in self._kept and self._live is not None:
            self._kept.add(line.name)
            self._live.console.print(self.table([line]))

    def table(self, lines: Sequence[TaskProgress]) -> Table:
        """Name, bar, counts, score, speed and time left; the name gives way when the terminal is narrow."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2, 0, 0), expand=False)
        width = self._live.console.width if self._live is not None else 80
        table.add_column(no_wrap=True, overflow="ellipsis", width=max(10, min(32, width - 48)))
        for _ in range(5 if width >= 80 else 4):
            table.add_column(no_wrap=True)
        for line in lines:
            bar = [ProgressBar(total=max(line.total, 1), completed=line.done, width=min(20, width - 68))]
            cells = [line.counts(), line.score, line.pace(), line.left()]
            table.add_row(Text(visible(line.name)), *(bar if width >= 80 else []), *(Text(cell) for cell in cells))
        return table

    def message(self, text: str) -> None:
        if self._live is None:
            super().message(text)
        else:
            self._live.console.print(visible(text), markup=False)

    def finished(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def watch(stream: TextIO | None = None) -> Board:
    """The way of showing that suits where stderr goes."""
    stream = sys.stderr if stream is None else stream
    return LiveBoard(stream) if stream.isatty() else PlainBoard(stream)
