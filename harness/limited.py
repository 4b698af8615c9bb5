"""Work that may come to no end, in a process of its own: comparing mathematics, searching with somebody's pattern.

    worker = LimitedWorker("harness.scoring.math.worker", "compares mathematics")
    worker.ask({"first": "x+x", "second": "2x"}, seconds=2.0)

The limit is processor time, and the system itself keeps it: a busy machine changes nothing, and 9**9**9 ends too.
What is not answered in time is `Undecided`: nothing is known then, and nobody may take it for a wrong answer.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

from harness.errors import Undecided

_START_SECONDS = 300.0
# By the clock a request may take this many times its processor time, and at least so many seconds.
_PATIENCE, _LEAST_PATIENCE = 10.0, 120.0
_MEMORY = 2 * 1024**3
_TIMER_SIGNAL = getattr(signal, "SIGPROF", None)  # there is none on Windows, where only the clock counts
_OUT_OF_MEMORY = "MemoryError"


class LimitedWorker:
    """One process that answers requests, started at first use and again after it has died. Serves one thread at a time.

    module: what the process runs; it calls `serve`. does: what that is, in words, for messages.
    """

    def __init__(self, module: str, does: str) -> None:
        self._module = module
        self._does = does
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        atexit.register(self.stop)

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the process's answer. Raises `Undecided` where there is none within so much processor time."""
        line = json.dumps({**request, "seconds": seconds}) + "\n"
        with self._lock:
            # What ended without a reason of its own, or without memory, may have suffered from earlier requests.
            reply = self._reply(line, seconds) or self._reply(line, seconds)
        if reply is None:
            raise Undecided(f"the process that {self._does} has ended before it could answer")
        if "undecided" in reply:
            raise Undecided(reply["undecided"])
        return reply

    def stop(self) -> None:
        """Kill the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):  # the pipe of a killed process
                        stream.close()

    def _reply(self, line: str, seconds: float) -> dict[str, Any] | None:
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = self._lines.get(timeout=max(seconds * _PATIENCE, _LEAST_PATIENCE))
        except queue.Empty:
            self.stop()
            return {"undecided": f"the machine is too busy: {seconds:g} s of processor time could not be had"}
        except OSError:
            answer = ""
        if not answer:
            code = process.wait()
            self.stop()
            if _TIMER_SIGNAL is not None and code == -_TIMER_SIGNAL:
                return {"undecided": f"no result within {seconds:g} s of processor time"}
            return None
        reply: dict[str, Any] = json.loads(answer)
        if reply.get("undecided") == _OUT_OF_MEMORY:
            self.stop()
            return None
        return reply

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            self._lines = queue.Queue()
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True).start()
            try:
                started = bool(self._lines.get(timeout=_START_SECONDS))
            except queue.Empty:
                started = False
            if not started:
                self.stop()
                raise Undecided(f"the process that {self._does} does not start")
        return self._process


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    with contextlib.suppress(ValueError):  # closed while reading
        for line in stream:
            lines.put(line)
    lines.put("")  # the process has ended: whoever waits sees that this is no reply


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests, a JSON line each, until the input ends. Called in the process of a `LimitedWorker`.

    An exception in `answer` is reported as `undecided`.
    """
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # no limits on this system; the time limit is kept by the other side
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if hasattr(signal, "setitimer"):
            # The signal ends the process. A handler for it would wait until 9**9**9 is done.
            signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        try:
            reply = json.dumps(answer(request))
        except MemoryError:
            reply = json.dumps({"undecided": _OUT_OF_MEMORY})
        except Exception as error:
            reply = json.dumps({"undecided": " ".join(f"{type(error).__name__}: {error}".split())[:200]})
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 0)
        print(reply, flush=True)
