"""Shows how far a run is: live bars on a terminal, now and then a plain line elsewhere.

`sample_done` only counts. Drawing happens a few times a second at most, so that it costs nothing per sample.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from harness.cli.speedometer import Speedometer, packed
from harness.run.spec import Progress
from harness.terminal import visible
from harness.types import Record
from harness.words import Phrase, Translate, english, locale_language, said, translator

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as Bars
    from rich.progress import Task as Bar

    from harness.run.work import Meter

Clock = Callable[[], float]


@dataclass(slots=True)
class TaskProgress:
    """How far one task is, or all of them together."""

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
        return pace_text(self.speed)

    def left(self, t: Translate) -> str:
        if not self.speed or self.finished:
            return ""
        return t("{time} left", time=clock_text((self.total - self.done) / self.speed))


def pace_text(speed: float) -> str:
    """Samples a second in the unit that shows them: `12/s`, `0.3/s`, `3.2/min`, `1.5/h`; empty for none."""
    if speed >= 10:
        return f"{speed:.0f}/s"
    if speed >= 0.1:
        return f"{speed:.1f}/s"
    if speed * 60 >= 0.1:
        return f"{speed * 60:.1f}/min"
    return f"{speed * 3600:.1f}/h" if speed else ""


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
    t: Translate = english
    speed: Speedometer | None = None
    lines: dict[str, TaskProgress] = field(default_factory=dict)
    latest: float = 0.0
    began: float = 0.0

    def started(self, tasks: Sequence[tuple[str, int, int]], model: str | Phrase) -> None:
        self.began = self.latest = self.clock()
        self.lines = {name: TaskProgress(name, total, known, known) for name, total, known in tasks}
        whole = self.overall()
        on_disk = self.t(", {n} of them on disk already", n=whole.known) if whole.known else ""
        tasks_word = self.t("1 task") if len(self.lines) == 1 else self.t("{n} tasks", n=len(self.lines))
        samples = self.t("1 sample") if whole.total == 1 else self.t("{n} samples", n=whole.total)
        self.message(
            self.t("{model}: {tasks}, {samples}", model=said(model, self.t), tasks=tasks_word, samples=samples)
            + on_disk
        )

    def metered(self, meter: Meter) -> None:
        self.speed = Speedometer(meter, self.clock)

    def sample_done(self, record: Record, headline: str) -> None:
        line = self.lines.get(record.task)
        if line is not None:
            now = self.clock()
            line.add(record, headline, self.latest, now)
            self.latest = now
            self.changed(line)

    def overall(self) -> TaskProgress:
        """All tasks as one."""
        lines = self.lines.values()
        total, done, known = (sum(getattr(line, name) for line in lines) for name in ("total", "done", "known"))
        return TaskProgress(self.t("all tasks"), total, done, known, self.began, self.latest)

    def changed(self, line: TaskProgress) -> None:
        """A sample was added to `line`."""

    def message(self, text: str | Phrase) -> None:
        self.stream.write(visible(said(text, self.t)) + "\n")
        self.stream.flush()


@dataclass
class PlainBoard(Board):
    """Plain lines for logs and pipes: one at each tenth of a task, and never two within `pause` seconds.

    The end of a task is always told; a long silence is broken after `patience` seconds. A stage is named when it has
    taken `stage_patience` seconds, or begins after a silence of twice as many, and again, with its time, every
    `stage_again` seconds.
    """

    pause: float = 3.0
    patience: float = 30.0
    stage_patience: float = 6.0
    stage_again: float = 60.0
    _told: float = float("-inf")
    _tenths: dict[str, int] = field(default_factory=dict)
    _stage_is_over: threading.Event | None = None

    def stage(self, name: str | Phrase) -> None:
        self._end_stage()
        words = f"{said(name, self.t)} ..."
        if self._told == float("-inf"):
            self._told = self.clock()
        if self.clock() - self._told >= 2 * self.stage_patience:
            self._tell(words)
            self._tell_later(self.stage_again, words, is_told=True)
        else:
            self._tell_later(self.stage_patience, words, is_told=False)

    def started(self, tasks: Sequence[tuple[str, int, int]], model: str | Phrase) -> None:
        self._end_stage()
        super().started(tasks, model)
        self._told = self.clock()
        self._tenths = {name: 10 * line.done // max(line.total, 1) for name, line in self.lines.items()}

    def changed(self, line: TaskProgress) -> None:
        self._end_stage()
        tenth = 10 * line.done // max(line.total, 1)
        quiet = line.seen - self._told
        if line.finished or quiet >= self.patience or (tenth > self._tenths[line.name] and quiet >= self.pause):
            self._tenths[line.name] = tenth
            self._told = line.seen
            words = (line.name, line.counts(), line.score, line.pace(), line.left(self.t), self._of_all())
            speed = self.speed.phrases(self.t) if self.speed is not None and quiet >= self.pause else ()
            self.message("  ".join(word for word in (*words, *speed) if word))

    def finished(self) -> None:
        self._end_stage()
        self.speed = None

    def _of_all(self) -> str:
        whole = self.overall()
        if len(self.lines) < 2 or whole.finished:
            return ""
        return f"({', '.join(filter(None, (f'{whole.name} {whole.counts()}', whole.left(self.t))))})"

    def _tell(self, text: str) -> None:
        self._told = self.clock()
        self.message(text)

    def _tell_later(self, seconds: float, stage: str, *, is_told: bool) -> None:
        """Name the stage in so many seconds, if it is not over by then, and again now and then."""
        began, is_over = self.clock(), threading.Event()
        self._stage_is_over = is_over

        def tell() -> None:
            wait, told = seconds, is_told
            while not is_over.wait(wait):
                self._tell(f"{stage} ({clock_text(self.clock() - began)})" if told else stage)
                wait, told = self.stage_again, True

        threading.Thread(target=tell, daemon=True).start()

    def _end_stage(self) -> None:
        if self._stage_is_over is not None:
            self._stage_is_over.set()
            self._stage_is_over = None


@dataclass
class LiveBoard(Board):
    """Live bars by rich: the stage of the run, the tasks at work, and all tasks together.

    Finished tasks move up and stay.
    """

    _bars: Bars | None = None
    _kept: set[str] = field(default_factory=set)
    _stage: str = ""
    _stage_began: float = 0.0

    def stage(self, name: str | Phrase) -> None:
        self._stage, self._stage_began = said(name, self.t), self.clock()
        self._show()

    def started(self, tasks: Sequence[tuple[str, int, int]], model: str | Phrase) -> None:
        super().started(tasks, model)
        self._kept = set()
        self._show()

    def changed(self, line: TaskProgress) -> None:
        self._stage = ""
        if line.finished and line.name not in self._kept and self._bars is not None:
            self._kept.add(line.name)
            self._bars.console.print(self._bars.make_tasks_table(self._as_bars([line])))

    def message(self, text: str | Phrase) -> None:
        if self._bars is None:
            super().message(text)
        else:
            self._bars.console.print(visible(said(text, self.t)), markup=False)

    def finished(self) -> None:
        self._stage = ""
        self.speed = None
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _show(self) -> None:
        """Start drawing, if that has not begun."""
        if self._bars is not None:
            return
        from rich.console import Console
        from rich.progress import BarColumn, ProgressColumn, TextColumn
        from rich.progress import Progress as Bars
        from rich.spinner import Spinner
        from rich.table import Column
        from rich.text import Text

        board, spinner = self, Spinner("line")

        class Drawing(Bars):
            """What is drawn: the counts as they are at that moment."""

            def get_renderables(self) -> Iterable[RenderableType]:
                yield self.make_tasks_table(board._as_bars(board.working()))
                speed = board.speed  # another thread may end it
                if speed is not None and (phrases := speed.phrases(board.t)):
                    yield Text("\n".join(packed(phrases, self.console.width)))
                if board._stage:
                    took = board.clock() - board._stage_began
                    spinner.update(text=visible(board._stage) + (f" ({clock_text(took)})" if took >= 5 else ""))
                    yield spinner

        console = Console(file=self.stream, highlight=False)
        width = console.width
        name = Column(no_wrap=True, overflow="ellipsis", width=max(10, min(32, width - 48)))
        cells = [TextColumn(f"{{task.fields[{cell}]}}", markup=False) for cell in ("counts", "score", "pace", "left")]
        bar: list[ProgressColumn] = [BarColumn(bar_width=min(20, width - 68))] if width >= 80 else []
        columns = (TextColumn("{task.description}", markup=False, table_column=name), *bar, *cells)
        self._bars = Drawing(*columns, console=console, transient=True, redirect_stdout=False, refresh_per_second=4)
        self._bars.start()

    def working(self) -> list[TaskProgress]:
        """What the bars are of: the tasks at work, and all together."""
        lines = [line for line in self.lines.values() if line.began is not None and not line.finished]
        return [*lines, self.overall()] if len(self.lines) > 1 and (lines or self._kept) else lines

    def _as_bars(self, lines: Sequence[TaskProgress]) -> list[Bar]:
        from rich.progress import Task, TaskID

        bars = []
        for number, line in enumerate(lines):
            cells = {"counts": line.counts(), "score": line.score, "pace": line.pace(), "left": line.left(self.t)}
            total = max(line.total, 1)
            bars.append(Task(TaskID(number), visible(line.name), total, line.done, self.clock, fields=cells))
        return bars


def watch(stream: TextIO | None = None) -> Board:
    """The way of showing that suits where stderr goes."""
    stream = sys.stderr if stream is None else stream
    board = LiveBoard if stream.isatty() else PlainBoard
    return board(stream, t=translator(locale_language(None)))
