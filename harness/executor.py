"""What an executor plugin is: where the work of a run is done, when that is not this process.

    harness --tasks cmmlu --model hf --model_args pretrained=DIR --executor ray,address=auto,workers=8

A `ModelExecutor` holds copies of the model elsewhere, and has them answer; a `ShardExecutor` has whole shards of the
run done elsewhere, which are merged then.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from harness.errors import MachineError
from harness.model import Model
from harness.types import Request, Response

WorkPiece = Sequence[tuple[int, Request]]
"""Requests that share what they begin with, each with its number."""


class RunExecutor(ABC):
    """Base class of executors. `--executor NAME,KEY=VALUE` gives its options to `__init__`, which contacts nobody."""

    name: ClassVar[str]
    needs: ClassVar[str] = ""
    """The package that it imports, where it needs one."""
    extra: ClassVar[str] = ""
    """The extra of this project that brings the package."""
    say: Callable[[str], None] = staticmethod(lambda text: None)
    """Tells the user something, in one line."""

    @classmethod
    def require(cls) -> None:
        """Refuse to begin where the package is not installed. Raises `MachineError`."""
        if cls.needs and find_spec(cls.needs) is None:
            extra = f"'harness-eval[{cls.extra}]'" if cls.extra else cls.needs
            raise MachineError(f"executor '{cls.name}' needs the package {cls.needs}: pip install {extra}")


class ModelOrder(ABC):
    """What makes the model of a run on another machine. Can be pickled, and names no package that only plugins need."""

    @abstractmethod
    def takes(self, argument: str) -> bool:
        """Whether the model takes an argument of this name."""

    @abstractmethod
    def load(self, device: str, args: Mapping[str, Any]) -> Model:
        """Make the model there, and load it. device: as of `--device`. args: over the model's own, none of which may
        change an answer. Raises `HarnessError`, one line, where it is not there or is another one, or where versions
        of packages differ from those of the machine that gives the order."""


class ModelExecutor(RunExecutor):
    """Has copies of the model answer on other machines: `require`, `start`, `respond`, perhaps again, then `close`.

    No request is lost when a copy ends before its time: what it had not answered goes to another.
    """

    @abstractmethod
    def start(self, order: ModelOrder) -> None:
        """Have the model loaded, and return once one copy can answer; others may come later. Raises `ModelError`."""

    @property
    @abstractmethod
    def pieces(self) -> int:
        """Into about how many pieces work should be cut: several for each copy, so that all end together."""

    @abstractmethod
    def respond(self, pieces: Sequence[WorkPiece]) -> Iterator[tuple[int, Response]]:
        """Yield `(number of the request, response)` in any order, each soon after it is done."""

    def describe(self) -> Mapping[str, Any]:
        """What the manifest should say of the copies (see `Model.describe`). After `start`."""
        return {}

    def incidents(self) -> Sequence[Mapping[str, Any]]:
        """What went wrong and was survived, as of `Model.incidents`."""
        return ()

    def close(self) -> None:
        """Let all copies end."""


class ShardJob(ABC):
    """One shard of a run, as work for another process that sees the same folders. Can be pickled; holds no secrets."""

    part: int
    of: int

    @abstractmethod
    def __call__(self) -> str:
        """Do the shard. Returns why it could not come to its end, in a line; an empty text where it did."""


class ShardExecutor(RunExecutor):
    """Has shards of a run done by other processes. shards: how many."""

    shards: int

    @abstractmethod
    def run(self, jobs: Sequence[ShardJob], folder: Path) -> Iterator[tuple[ShardJob, str | None, str]]:
        """Yield `(job, error, log)` as each ends: no error where all is well, and else one line; log: where its output
        is. folder: where the executor may keep files, the same each time this run is given to it.

        Where the work is stopped (an exception in the caller closes the iterator), jobs under way are ended.
        """
