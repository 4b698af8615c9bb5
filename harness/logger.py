"""What a logger plugin is: it writes a run into an experiment tracker (W&B, MLflow, TensorBoard ...).

    harness --tasks demo --log_to tensorboard,dir=logs

A logger works in a process of its own, beside the run: it may be slow, hang or fail, and the run goes on. Everything
that it writes comes from the run folder, so that what was missed can be sent later.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import field
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from harness.errors import MachineError
from harness.quick import dataclass
from harness.types import JSON

RunStatus = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows for a person to look at; each cell is a text, a number or None."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """A run as a tracker is told of it.

    key: lower-case letters and digits, the same whenever this run is logged to this place: the tracker goes on with
    the run that has it. config: the model, the tasks and the settings, without secrets.
    """

    key: str
    title: str
    config: Mapping[str, JSON]
    folder: Path


@dataclass(frozen=True, slots=True)
class LoggedResults:
    """What came of a run.

    scores: `TASK/METRIC`, `TASK/METRIC_stderr`, `TASK/n` and the counts of what is in doubt; what has no value is not
    in it. values: every value with its interval, of subsets too. samples: some of them, drawn by a hash. step: how
    often results of this run were logged before. files: the report, as JSON and as a page.
    """

    scores: Mapping[str, float]
    values: Table
    samples: Table
    step: int = 0
    files: Sequence[Path] = field(default=())


class Logger(ABC):
    """Base class of all loggers. `--log_to NAME,KEY=VALUE` gives its options to `__init__`, which contacts nobody.

    Its life: `require`, `start`, then `results` where the run came to its end, then `end`. What is raised is told to
    the user in one line, and stops nothing.
    """

    name: ClassVar[str]
    needs: ClassVar[str] = ""
    """The package that it imports, where it needs one."""
    extra: ClassVar[str] = ""
    """The extra of this project that brings the package."""

    @classmethod
    def require(cls) -> None:
        """Refuse to begin where the package is not installed. Raises `MachineError`."""
        if cls.needs and find_spec(cls.needs) is None:
            extra = f"'harness-eval[{cls.extra}]'" if cls.extra else cls.needs
            raise MachineError(f"logger '{cls.name}' needs the package {cls.needs}: pip install {extra}")

    @abstractmethod
    def start(self, run: LoggedRun) -> str:
        """Open the tracker's run of this key, or make it; returns where it can be seen (an address or a folder)."""

    @abstractmethod
    def results(self, found: LoggedResults) -> None:
        """Write what came of the run."""

    @abstractmethod
    def end(self, status: RunStatus) -> None:
        """Close the tracker's run; returns when all has arrived there."""
