"""TensorBoard: event files in a folder, `--log_to tensorboard,dir=logs`; scores over the steps, tables as texts.

It writes with the package `tensorboard` alone, without torch and TensorFlow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import LoggedResults, LoggedRun, Logger, RunStatus, Table, hookimpl


class TensorBoard(Logger):
    """Event files for TensorBoard, in a folder of the run's name below `dir`: `tensorboard --logdir DIR`.

    A run that is logged again goes on there, one step further.
    """

    name = "tensorboard"
    needs = "tensorboard"
    extra = "tensorboard"

    def __init__(self, dir: str = "tensorboard") -> None:
        self.folder = Path(dir)
        self._writer: Any = None

    def start(self, run: LoggedRun) -> str:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.folder = self.folder.resolve() / run.folder.name
        self._writer = EventFileWriter(str(self.folder))
        self._text("config", f"```\n{json.dumps(run.config, ensure_ascii=False, indent=2)}\n```", 0)
        return str(self.folder)

    def results(self, found: LoggedResults) -> None:
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        for name, value in found.scores.items():
            self._add(scalar_pb(name, value), found.step)
        self._text("scores", markdown(found.values), found.step)
        self._text("samples", markdown(found.samples), found.step)

    def end(self, status: RunStatus) -> None:
        self._text("status", status, 0)
        self._writer.close()

    def _text(self, name: str, text: str, step: int) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(text_pb(name, text), step)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def markdown(table: Table) -> str:
    """A table as TensorBoard renders it; its cells can neither end a row nor begin markup of their own."""

    def row(cells: Sequence[object]) -> str:
        return f"| {' | '.join(map(_inert, cells))} |"

    return "\n".join([row(table.columns), "|---" * len(table.columns) + "|", *map(row, table.rows)])


def _inert(cell: object) -> str:
    text = "" if cell is None else " ".join(str(cell).split())
    for mark, entity in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        ("|", "&#124;"),
        ("`", "&#96;"),
        ("[", "&#91;"),
        ("!", "&#33;"),
    ):
        text = text.replace(mark, entity)
    return text


@hookimpl
def harness_loggers() -> list[type[Logger]]:
    return [TensorBoard]
