"""A program that runs a server for as long as the run that wants it lives, and leaves nothing of it behind.

    python keeper.py PARENT PATIENCE COMMAND...

It is a process of its own, so that the server ends with the run even where that is killed and cleans up nothing itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STEP = 0.1
"""Seconds between two looks at who is still there."""
_DIES_WITH_PARENT, _TAKES_ORPHANS = 1, 36
"""Of Linux's prctl: PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER."""


def keep(parent: int, patience: float, command: list[str]) -> int:
    """Run `command` until it ends, SIGTERM comes, or `parent` is gone. Returns its status, 128 + N for signal N.

    All that it started ends with it: its group by SIGTERM, and what is left after `patience` seconds by SIGKILL, in
    groups of its own, too, where the system is Linux. There the server also ends where this program is killed.
    """
    control = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    if control:
        control(_TAKES_ORPHANS, 1)
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_stop.append(number))
    try:
        with_this = (lambda: control(_DIES_WITH_PARENT, signal.SIGKILL)) if control else None
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=with_this)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    try:
        while server.poll() is None and not asked_to_stop and os.getppid() == parent:
            time.sleep(STEP)
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(patience)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # its children, where it left them behind
        status = server.wait()
        end_orphans()
    return 128 - status if status < 0 else status


def end_orphans() -> None:
    """Kill all descendants of this process. A child of one that is killed becomes one of this process, on Linux."""
    while children := children_of(os.getpid()):
        for child in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def children_of(parent: int) -> list[int]:
    """As Linux tells them; none elsewhere."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = entry.read_text("utf-8", "replace").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(entry.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
