"""What commands print: tables and lines on stdout, notices on stderr. rich is imported when something is printed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from harness.terminal import visible

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 120
_LONGEST_WORD = 24
_READABLE = 40
"""So many columns of a cell that may be shortened are shown before others get more than they need."""


def width() -> int:
    """Columns to write for: the terminal's own, or a fixed number in a pipe, so that a pipe's text never varies."""
    if sys.stdout.isatty():
        return console().width
    return int(os.environ.get("COLUMNS") or PIPE_WIDTH)


def console() -> Console:
    """A console on stdout. In a pipe it writes plain text of a fixed width."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=int(os.environ.get("COLUMNS") or PIPE_WIDTH), no_color=True)


def show(renderable: Any) -> None:
    """Print a table or text of rich. A pipe gets no spaces at the ends of lines."""
    made = console()
    with made.capture() as captured:
        made.print(renderable)
    text = captured.get()
    _write(
        text.rstrip("\n") if sys.stdout.isatty() else "\n".join(part.rstrip() for part in text.split("\n")).rstrip("\n")
    )


def line(text: str = "") -> None:
    """Print on stdout; control characters in it are written out."""
    _write(visible(text))


def _write(text: str) -> None:
    """Print on stdout, as it is. Whoever reads it may have gone (`| head`), which is no error."""
    try:
        click.echo(text)
    except BrokenPipeError:
        forget_stdout()


def forget_stdout() -> None:
    """Send what is still to be printed nowhere, at the exit of the interpreter too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_what_can_be_written() -> None:
    """Have stdout and stderr take any text: what their encoding lacks (cp1252, GBK, ASCII) is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class BestEffort:
    """stderr; what cannot be written there (a full disk, a reader that went away) is let go: results are elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_streams() -> None:
    """Have a stdout and a stderr, also where the caller closed them, and go on where stderr cannot be written."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # The first file that is opened takes the number of the closed one: it must not be one of ours.
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    if not isinstance(sys.stderr, BestEffort):
        sys.stderr = cast(TextIO, BestEffort(sys.stderr))


def notice(text: str) -> None:
    """Say something beside the result, on stderr."""
    click.echo(visible(text), err=True)


def notice_path(label: str, path: Path) -> None:
    """Name a file or folder on stderr; a terminal gets a link to it."""
    shown = visible(str(path))
    if sys.stderr.isatty():
        shown = f"\x1b]8;;{path.absolute().as_uri()}\x1b\\{shown}\x1b]8;;\x1b\\"
    click.echo(f"{label}: {shown}", err=True)


def counted(n: int, noun: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], flexible: Sequence[str] = (), shortened: Sequence[str] = ()
) -> Any:
    """A borderless table. When the terminal is narrow, `flexible` columns fold and `shortened` ones end in an ellipsis.

    The others are never broken.
    """
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    least = _least_widths(columns, rows, flexible, shortened)
    most = _most_widths(columns, rows, least, flexible, shortened)
    for number, column in enumerate(columns):
        folds, shrinks = column in flexible, column in shortened
        made.add_column(
            column,
            no_wrap=not folds,
            overflow="ellipsis" if shrinks else "fold",
            min_width=least[number],
            # rich would take from columns that cannot give, and cut the lines.
            max_width=most[number] if folds or shrinks else None,
        )
    for row in rows:
        made.add_row(*(Text(visible(cell)) for cell in row))
    return made


def least_width(column: str, cells: Sequence[str], *, folds: bool, longest: int = 0) -> int:
    """How wide a column must be that no word is broken, or no cell where it does not fold.

    longest: more than so many columns are not kept for one word; 0 keeps as many as it takes.
    """
    from rich.cells import cell_len

    shown = [visible(cell) for cell in cells]
    if folds:  # between words
        shown = [word for cell in shown for word in cell.split()]
    widest = max(map(cell_len, shown), default=0)
    return max(min(widest, longest) if folds and longest else widest, cell_len(column))


def _least_widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], flexible: Sequence[str], shortened: Sequence[str]
) -> list[int]:
    """Of each column; where a terminal has no room for all words, those of flexible ones are broken."""
    from rich.cells import cell_len

    few = [max(6, cell_len(column)) for column in columns]
    whole = [
        few[n] if column in shortened else least_width(column, [row[n] for row in rows], folds=column in flexible)
        for n, column in enumerate(columns)
    ]
    if sum(whole) + 2 * (len(columns) - 1) <= width():
        return whole
    return [few[n] if column in flexible else whole[n] for n, column in enumerate(columns)]


def _most_widths(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    least: Sequence[int],
    flexible: Sequence[str],
    shortened: Sequence[str],
) -> list[int]:
    """Of each column: what the terminal has beyond the least makes the shortened ones readable, then grows all that
    have a use for it alike."""
    from rich.cells import cell_len

    most, spare = list(least), width() - sum(least) - 2 * (len(columns) - 1)
    natural = [max((cell_len(visible(row[n])) for row in rows), default=0) for n in range(len(columns))]
    for n, column in enumerate(columns):
        if column in shortened and spare > 0:
            given = max(0, min(spare, min(natural[n], _READABLE) - most[n]))
            most[n], spare = most[n] + given, spare - given
    growing = {*flexible, *shortened}
    while wanting := [n for n, column in enumerate(columns) if column in growing and most[n] < natural[n]]:
        share = spare // len(wanting)
        if share <= 0:
            break
        for n in wanting:
            given = min(share, natural[n] - most[n])
            most[n], spare = most[n] + given, spare - given
    return most


def show_in_parts(
    columns: Sequence[str], rows: Sequence[Sequence[str]], flexible: Sequence[str], kept: int = 1
) -> None:
    """Print a table of which no column may be lost. Where a terminal is too narrow for all of them, it is cut into
    tables below one another, each of which begins with the `kept` first columns."""

    def least(number: int) -> int:
        name = columns[number]
        return least_width(name, [row[number] for row in rows], folds=name in flexible, longest=_LONGEST_WORD) + 2

    first = list(range(kept))
    parts = [[*first]]
    for number in range(kept, len(columns)):
        if len(parts[-1]) > kept and sum(map(least, [*parts[-1], number])) - 2 > width():
            parts.append([*first])
        parts[-1].append(number)
    for part in parts:
        show(table([columns[n] for n in part], [[row[n] for n in part] for row in rows], flexible))


def long_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table as text that is never folded: thousands of rows, for which rich takes seconds."""
    from rich.cells import cell_len

    lines = [columns, *([visible(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, cells)) + 2 for cells in zip(*lines, strict=True)]
    return "\n".join(
        "".join(cell + " " * (size - cell_len(cell)) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in lines
    )
