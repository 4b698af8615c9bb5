"""A program that runs a server for as long as the run that wants it lives, and leaves nothing of it behind.

    python keeper.py PARENT PATIENCE COMMAND...

It is a process of its own, so that the server ends with the run even where that is killed and cleans up nothing itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

STEP = 0.1
"""Seconds between two looks at who is still there."""


def keep(parent: int, patience: float, command: list[str]) -> int:
    """Run `command` until it ends, SIGTERM comes, or `parent` is gone. Returns its status, 128 + N for signal N.

    All processes of its group end: by SIGTERM, and those that are left after `patience` seconds by SIGKILL.
    """
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_stop.append(number))
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
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
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
