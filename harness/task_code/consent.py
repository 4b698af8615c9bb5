"""Whose Python may run: folders that the user has named by `--trust_task_code`, and nothing else."""

from __future__ import annotations

from pathlib import Path

from harness.errors import UsageError
from harness.quick import dataclass
from harness.tasks.functions import file_of, refused
from harness.tasks.yaml_file import Document, KeyPath, PythonFunction

FLAG, UNBOXED_FLAG = "--trust_task_code", "--trust_task_code_in_process"


@dataclass(frozen=True, slots=True)
class Consent:
    """boxed: folders whose code may run in the sandbox. open: folders whose code may run without one."""

    boxed: tuple[Path, ...] = ()
    open: tuple[Path, ...] = ()

    @classmethod
    def to(cls, boxed: tuple[str, ...], open: tuple[str, ...]) -> Consent:
        """Consent to folders as a user names them. Raises `UsageError` for one that is not there."""
        return cls(_folders(boxed, FLAG), _folders(open, UNBOXED_FLAG))

    @property
    def roots(self) -> tuple[Path, ...]:
        return (*self.boxed, *self.open)

    def unboxed(self, function: PythonFunction) -> bool:
        """Whether a function runs without the sandbox."""
        return _inside(file_of(function), self.open)

    def check(self, function: PythonFunction, document: Document, path: KeyPath) -> None:
        """Refuse Python that nobody has consented to: `TaskError` with the flag, the file and the function."""
        if not _inside(file_of(function), self.roots):
            raise refused(function, document, path)


def _inside(file: Path, folders: tuple[Path, ...]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)


def _folders(given: tuple[str, ...], flag: str) -> tuple[Path, ...]:
    found = []
    for name in given:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise UsageError(f"{flag}: there is no folder '{name}'")
        if folder.resolve() == Path(folder.resolve().anchor):
            raise UsageError(f"{flag}: '{name}' is everything; name the folder of the tasks")
        found.append(folder.resolve())
    return tuple(found)
