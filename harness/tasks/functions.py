"""What a task needs of whatever runs its Python: lm-eval's `!function`, by consent, in a process of its own.

This room only names it; `harness/task_code/` is where it happens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Protocol

from harness.errors import TaskError
from harness.quick import dataclass
from harness.tasks.yaml_file import Document, KeyPath, PythonFunction, shown
from harness.types import JSON


@dataclass(frozen=True, slots=True)
class LoadedCode:
    """What the functions of a task are made of. names: as Python has them. files: path -> hash of its content."""

    names: tuple[str | None, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


class TaskFunctions(Protocol):
    """Runs the functions of task files."""

    def check(self, function: PythonFunction, document: Document, path: KeyPath) -> None:
        """Refuse what nobody has consented to, with `TaskError`."""

    def load(self, functions: Sequence[PythonFunction]) -> LoadedCode:
        """Import their modules. Raises `UsageError`."""

    def describe_class(self, function: PythonFunction, config: Mapping[str, JSON]) -> dict[str, Any]:
        """What a task that is a class brings: `keys`, `methods` and `metrics`. Raises `UsageError`."""

    def requests(self, function: PythonFunction, row: Mapping[str, Any], context: str) -> list[tuple[str, list[Any]]]:
        """What a class asks about a row: (kind, arguments) of each request. Raises `DataError`."""

    def rows(
        self, function: PythonFunction, rows: Sequence[Mapping[str, Any]], features: JSON = None, label: str = ""
    ) -> Sequence[dict[str, Any]]:
        """`process_docs` of a split. Raises `DataError`."""

    def samples(self, function: PythonFunction) -> list[dict[str, Any]]:
        """Few-shot examples. Raises `DataError`."""

    def splits(self, function: PythonFunction, options: Mapping[str, JSON]) -> Mapping[str, Sequence[dict[str, Any]]]:
        """`custom_dataset`: rows by split. Raises `DataError`."""

    def media(self, kind: str, function: PythonFunction, row: Mapping[str, Any]) -> list[Any]:
        """`doc_to_image` or `doc_to_audio`: what is shown of a row, as `media_of` takes it. Raises `DataError`."""

    def foresee(self, functions: Sequence[PythonFunction], rows: Iterable[Mapping[str, Any]]) -> None:
        """Have the values of functions for many rows made at once, for `value` to find."""

    def known(self, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The rows that `foresee` was told, each while `value` finds its values."""

    def forget(self) -> None:
        """Drop what `foresee` and `splits` hold."""

    def value(self, function: PythonFunction, row: Mapping[str, Any]) -> Any:
        """What a function makes of a row. Raises `DataError`."""

    def offer(self, environment: Mapping[str, PythonFunction]) -> tuple[JSON, str]:
        """The functions of an environment, as a list of JSON Schemas, and its policy. Raises `DataError`."""

    def play(
        self,
        environment: Mapping[str, PythonFunction],
        row: Mapping[str, Any],
        actions: Sequence[tuple[str, JSON]],
        *,
        digest: bool = False,
    ) -> tuple[list[str], str]:
        """What each of `actions` returns, from a fresh state on, and a digest of the state then,
        where one is wanted. Raises `DataError`."""


def refused(function: PythonFunction, document: Document, path: KeyPath) -> TaskError:
    """The error for Python that nobody has consented to: what, where, and the flag."""
    key = next((step for step in reversed(path) if isinstance(step, str)), "")
    file = file_of(function)
    where = shown(file) if file.is_file() else f"the folder {shown(Path(function.folder))}"
    return document.error(
        path,
        f"key '{key}': '{function}' is Python, in {where}, and runs by consent alone: add --trust_task_code "
        f"{shown(Path(function.folder))} (it runs in a sandbox), or say it in Jinja",
    )


def file_of(function: PythonFunction) -> Path:
    """The file that a function stands in, or its folder where that is a module of a package."""
    file = Path(function.folder, *function.name.split(".")[:-1]).with_suffix(".py")
    return (file if file.is_file() else Path(function.folder)).resolve()
