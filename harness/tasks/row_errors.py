"""Says of an error which line of the task file and which row it is about."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.tasks.task import Subset, Task
from harness.tasks.yaml_file import KeyPath, shown


def place_of(task: Task, subset: Subset, split: str) -> str:
    """The task, the subset and the split of a row, for messages."""
    name = f"{task.name}/{subset.name}" if subset.name else task.name
    return f"task '{name}', split '{split}'"


def placed(task: Task, error: HarnessError, around: KeyPath = ()) -> str:
    """The error's text behind the line of the task file that it is about, unless it names a line itself.

    around: the key whose own keys are meant first, for an error that begins with a key's name.
    """
    text, document = str(error), task.document
    if any(text.startswith(shown(file)) for file in (*document.files, *task.files)) or text.startswith("--"):
        return text
    key = text.partition(":")[0]
    path = (*around, key) if (*around, key) in document.places else (key,)
    return f"{document.place(path if path in document.places else ())}: {text}"


class NamingRow:
    """Adds to an error of ours which file and row it is about. A class: a generator would cost more than a render."""

    __slots__ = ("split", "subset", "task", "what")

    def __init__(self, task: Task, subset: Subset, split: str, what: str) -> None:
        self.task, self.subset, self.split, self.what = task, subset, split, what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, HarnessError):
            text = placed(self.task, error)
            raise type(error)(f"{text} ({place_of(self.task, self.subset, self.split)}, {self.what})") from error
