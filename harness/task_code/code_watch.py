"""What the Python of task files does that a task has no business with, as Python's audit hooks tell it.

Loaded by its path into the process that runs task code (process.py): no module of this project is imported in here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_TRIED = {
    "socket.connect": "to connect to {1}",
    "socket.getaddrinfo": "to reach {0}",
    "socket.bind": "to bind a socket to {1}",
    "subprocess.Popen": "to start {1}",
    "os.system": "to start {0}",
    "os.exec": "to start {0}",
    "os.posix_spawn": "to start {0}",
    "os.fork": "to fork",
    "os.forkpty": "to fork",
    "os.kill": "to end process {0}",
    "os.remove": "to remove {0}",
    "os.rename": "to rename {0}",
    "os.rmdir": "to remove {0}",
    "shutil.rmtree": "to remove {0}",
}
"""Events of Python's audit hooks that a task's code has no reason for, in words."""
_FILE_ACTS = ("to write", "to remove", "to rename")
_MOST_TOLD = 40
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class CodeWatch:
    """What the code does with files, processes and the network, as Python's audit hooks tell it.

    roots: folders of the tasks. shown: what the code is allowed to read beside them; all, where empty. short: how an
    argument of an event is told.
    """

    def __init__(self, roots: Sequence[str], shown: Sequence[str], short: Callable[[Any], str]) -> None:
        self.roots = tuple(roots)
        self.shown = tuple(shown)
        self.short = short
        self.on = False
        self.read: dict[str, None] = {}
        self.tried: dict[str, None] = {}
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        try:
            if event == "open":
                self._opened(*arguments)
            elif event in _TRIED:
                self._say(_TRIED[event].format(*map(self.short, (*arguments, "", ""))))
        except Exception:  # what is heard must never change what the code does
            return

    def _say(self, told: str) -> None:
        """Note what the code tried; not what a package does while it is imported, nor what stays in /tmp."""
        own = "/tmp/" in told and not any(root in told for root in self.roots)
        if len(self.tried) >= _MOST_TOLD or (told.startswith(_FILE_ACTS) and (own or "/dev/" in told)):
            return
        frame = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(self.roots):
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                return
            frame = frame.f_back  # type: ignore[assignment]
        if frame is not None:
            self.tried[told] = None

    def _opened(self, path: Any, mode: Any, flags: int) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        file = os.path.normpath(Path.cwd() / os.fsdecode(path))
        if flags & _WRITING:
            self._say(f"to write {'/tmp/' if file == '/tmp' else file}")
        elif file.startswith(self.roots):
            self.read[file] = None
        elif self.shown and not file.startswith(("/tmp/", "/proc", "/sys", "/dev", *self.shown)):
            self._say(f"to read {file}")

    def take(self) -> dict[str, list[str]]:
        taken = {"read": list(self.read), "tried": list(self.tried)[:_MOST_TOLD]}
        self.read, self.tried = {}, {}
        return taken
