"""Logs a run from a process of its own beside it: a tracker that is slow, hangs or fails costs the run nothing.

    loggers = RunLoggers(run, targets, say)
    loggers.begin()                          # once there is something to log
    loggers.end("finished")                  # waits for the trackers, each at most as long as its target says

The process is told of the run by its standard input: one line of what to log where, then one word, how the run ended.
Where the input ends without that word, the run was killed. What it has to tell comes back line by line.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, get_args

from harness.errors import one_line
from harness.logger import RunStatus
from harness.run.log import Delivery, LogTarget, later_command
from harness.secret import Secret, is_secret_name, revealed, sealed, secrets_in, shown_urls

_LAST_WORDS = 60.0
"""Seconds that the process has to close the tracker's run after the command has gone."""
_NICENESS = 10


class RunLoggers:
    """The processes that log one run. `say` is called in the thread that calls the methods."""

    def __init__(self, run: Path, targets: Sequence[LogTarget], say: Callable[[str], None]) -> None:
        self._run, self._targets, self._say = run, targets, say
        self._processes: list[_Logging] = []
        self._told: deque[str] = deque()

    def begin(self) -> None:
        """Start the processes, where that was not done yet; and say what they have told since."""
        while self._told:
            self._say(self._told.popleft())
        if not self._processes:
            self._processes = [_Logging(self._run, target, self._told.append) for target in self._targets]

    def end(self, status: RunStatus) -> None:
        """Tell the processes how the run ended. Where it is finished, wait for them; else they close by themselves."""
        if status == "finished":
            self.begin()
        for process in self._processes:
            process.tell(status)
        for process in self._processes if status == "finished" else ():
            if not process.is_done_within(process.target.wait):
                later = later_command(self._run, process.target)
                self._told.append(f"{process.target.name} has not taken the results; to send what it missed: {later}")
        while self._told:
            self._say(self._told.popleft())


class _Logging:
    """One process, its input, and a thread that reads what it tells."""

    def __init__(self, run: Path, target: LogTarget, told: Callable[[str], None]) -> None:
        self.target = target
        self._told = told
        self._deadline: float | None = None
        self._process: subprocess.Popen[str] | None = None
        command = [sys.executable, "-m", "harness.run.log_process"]
        try:
            # A session of its own: Ctrl-C is for the run, which then says how it ended.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                encoding="utf-8", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            told(f"{target.name}: its process could not be started: {one_line(error)}")
            return
        # On standard input, since anybody can read a command line, and options may be keys.
        asked = {"run": str(run.resolve()), "name": target.name, "options": revealed(dict(target.options))}
        self._write(json.dumps(asked))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def tell(self, status: RunStatus) -> None:
        self._write(status)
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._deadline = time.monotonic() + self.target.wait

    def is_done_within(self, seconds: float) -> bool:
        """Whether everything has arrived. A process that has not ended by then is ended."""
        if self._process is None:
            return False
        left = seconds if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        try:
            code = self._process.wait(left)
        except subprocess.TimeoutExpired:
            code = -1
            self._kill()
        except BaseException:  # Ctrl-C while waiting: the run is on disk, and the user wants to go
            self._kill()
            raise
        self._reader.join(1.0)
        return code == 0

    def _kill(self) -> None:
        """End the process with its children: trackers have servers of their own."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            self._process.wait()

    def _write(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError):  # it has ended, and has told why
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError), self._process.stdout as lines:
            for line in lines:
                self._told(line.rstrip("\n"))
        self._process.wait()  # here, for those that nobody waits for


def main() -> int:
    """The process itself: log one run, as standard input says. Exits with 0 when the tracker has everything."""
    tell, orders = _own_streams()
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    asked: Mapping[str, Any] = json.loads(orders.readline())
    target = LogTarget(asked["name"], sealed(asked["options"]))
    from_outside = [value for name, value in os.environ.items() if is_secret_name(name) and not name.endswith("PWD")]
    hidden = [*secrets_in(target.options), *map(Secret, from_outside)]

    def say(text: str) -> None:
        for secret in hidden:
            text = secret.hide_in(text)
        tell(f"{target.name}: {shown_urls(text)}")

    try:
        return _log(Path(asked["run"]), target, say, orders)
    except (Exception, SystemExit) as error:
        say(f"{type(error).__name__}: {one_line(error)}")
        return 1


def _log(run: Path, target: LogTarget, say: Callable[[str], None], orders: IO[str]) -> int:
    from harness.registry import load_plugins

    ended = threading.Event()
    status: list[RunStatus] = []

    def wait_for_the_end() -> None:
        word = orders.readline().strip()
        status.append(next((known for known in get_args(RunStatus) if known == word), "failed"))
        ended.set()
        if status[0] != "finished":  # nobody waits for this process, and nobody would end it
            time.sleep(_LAST_WORDS)
            os._exit(1)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    delivery = Delivery(run, target, load_plugins())
    if not ended.wait(0.2):  # a run of which all was on disk ends at once, and may have nothing new
        say(f"this run is at {delivery.begin()}")
        ended.wait()
        delivery.complete(status[0])
    elif delivery.complete(status[0]):
        say(f"this run is at {delivery.note.seen_at}")
    elif status[0] == "finished":
        say(f"has everything already, at {delivery.note.seen_at}")
    return 0


def _own_streams() -> tuple[Callable[[str], None], IO[str]]:
    """Keep the standard streams for what is told and ordered: a tracker prints nowhere, and asks nobody."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    with Path(os.devnull).open("r+") as nowhere:
        for number in range(3):
            os.dup2(nowhere.fileno(), number)

    def tell(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            print(" ".join(text.split()), file=channel, flush=True)

    return tell, orders


if __name__ == "__main__":
    sys.exit(main())
