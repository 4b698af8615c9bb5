"""The first process inside a sandbox. It starts the program in a process of its own, and tests it from outside.

Reads two parts from its input, each behind its length: a JSON object {"program", "setup", "limits", "path", "inputs"},
and another one {"tests", "token"}, which it reads when the program's process is made already: no copy of it is there.
Answers on standard output, a line each: `ready`, then `passed TOKEN`, `failed REASON` or `undecided
REASON`. With "inputs", the program is run once for each of them instead, and what it prints comes back in frames.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
import types
from typing import Any

from harness.scoring.sandbox import checker, program
from harness.scoring.sandbox.wire import Broken, Channel, Unpassable, printable

_DUMPABLE = 4  # PR_SET_DUMPABLE
_CHANNEL, _MOST_DESCRIPTORS = 3, 1024  # descriptors of the program's process: to its tests, and all there may be
_EXCEPTION = 255  # what a script ends with that raises one
_OUT_OF_TIME = "out of time"


def _read_part() -> dict[str, Any]:
    """The next part of the input, and not a byte of what comes after it."""
    size, parts = int(_read_exactly(16)), []
    while size:
        parts.append(os.read(0, min(size, 1 << 20)))
        if not parts[-1]:
            raise EOFError("the order ends too early")
        size -= len(parts[-1])
    part: dict[str, Any] = json.loads(b"".join(parts))
    return part


def _read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(0, size - len(data))
        if not chunk:
            raise EOFError("the order ends too early")
        data += chunk
    return data


def _limit(limits: dict[str, int]) -> None:
    """Set the limits on this process and its children, so that they cannot be raised again."""
    import resource

    kinds = {
        "cpu": resource.RLIMIT_CPU,
        "memory": resource.RLIMIT_DATA,
        "space": resource.RLIMIT_AS,
        "file_size": resource.RLIMIT_FSIZE,
        "files": resource.RLIMIT_NOFILE,
        "processes": getattr(resource, "RLIMIT_NPROC", None),
    }
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, kind in kinds.items():
        if kind is not None and name in limits:
            value = limits[name]
            # The last second of processor time is for SIGXCPU, by which the end can be told from others.
            wanted = value + 1 if name == "cpu" else value
            hard = resource.getrlimit(kind)[1]
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            with contextlib.suppress(ValueError, OSError):  # a system that does not know this one
                resource.setrlimit(kind, (min(value, most), most))


def _be_dumpable(*, allowed: bool) -> None:
    """Whether other processes of the same user may look into this one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DUMPABLE, int(allowed), 0, 0, 0)


def _replace_descriptor(number: int, source: int) -> None:
    if source != number:
        os.dup2(source, number)
        os.close(source)


def _start_program(order: dict[str, Any]) -> tuple[int, int]:
    """Fork the program's process; return its number and this end of the channel."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            _replace_descriptor(0, os.open(os.devnull, os.O_RDONLY))
            os.dup2(2, 1)
            os.dup2(theirs.fileno(), _CHANNEL)
            os.closerange(_CHANNEL + 1, _MOST_DESCRIPTORS)  # the answers' too: they are not the program's to write
            _limit(order["limits"])
            _be_dumpable(allowed=True)
            program.run(_CHANNEL, _CHANNEL, order["call_seconds"])
        finally:
            os._exit(1)
    theirs.close()
    return child, ours.detach()


class _Child:
    """The program's process, and how it has ended."""

    def __init__(self, number: int, seconds: float) -> None:
        self._number, self._seconds = number, seconds
        self.code: int | None = None

    def alive(self) -> bool:
        if self.code is None:
            try:
                ended, status = os.waitpid(self._number, os.WNOHANG)
            except ChildProcessError:  # the tests have waited for it
                self.code = 0
                return False
            if ended:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def cause(self) -> str:
        """Why the conversation with the program has ended."""
        deadline = time.monotonic() + 1.0
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if self.code is None:
            return "ended before its end"
        # What ignores the signal of a used-up processor time is killed by the system.
        if self.code in (-signal.SIGXCPU, -signal.SIGPROF, -signal.SIGALRM) or (
            self.code == -signal.SIGKILL and self.processor_time() >= self._seconds
        ):
            return _OUT_OF_TIME
        return f"ended before its end (exit code {self.code if self.code >= 0 else 128 - self.code})"

    def processor_time(self) -> float:
        used = os.times()
        return used.children_user + used.children_system


def _judged(child: _Child, channel: int, order: dict[str, Any], judging: dict[str, Any]) -> str:
    """Run the program's tests; return the verdict's line."""
    side = checker.TestSide(Channel(channel, channel, child.alive))
    try:
        checker.run_tests(side, order["program"], order["setup"], judging["tests"])
    except Unpassable as error:
        return f"undecided {printable(error).partition(': ')[2]}"
    except Broken as error:
        cause = str(error)
        return f"failed {child.cause() if cause == 'it has ended' or not child.alive() else cause}"
    except SystemExit as error:
        if type(error) is SystemExit and error.code in (None, 0, False):  # the tests' own runner is content
            return f"passed {judging['token']}"
        return f"failed {printable(error)}"
    except MemoryError:
        return "failed MemoryError"
    except BaseException as error:
        return f"failed {getattr(error, 'in_program', None) or printable(error)}"
    return f"passed {judging['token']}"


def _run_scripts(order: dict[str, Any], answers: int) -> None:
    """Run the program once for each input, and write a frame for each: a line `ran CODE SIZE CPU`, and its output."""
    import tempfile

    code = order["program"].lstrip("\ufeff")
    for text in order["inputs"]:
        with tempfile.TemporaryFile() as given:
            given.write(text.encode("utf-8", "surrogateescape"))
            given.seek(0)
            source, target = os.pipe()
            before = os.times()
            child = os.fork()
            if child == 0:
                try:
                    os.dup2(given.fileno(), 0)
                    os.dup2(target, 1)
                    os.closerange(_CHANNEL, _MOST_DESCRIPTORS)
                    _limit(order["limits"])
                    _be_dumpable(allowed=True)
                    _run_script(code)
                finally:
                    os._exit(1)
            os.close(target)
            output = _collect(source, child, order["most_output"])
            _, status = os.waitpid(child, 0)
            used = os.times()
        seconds = used.children_user + used.children_system - before.children_user - before.children_system
        head = f"ran {os.waitstatus_to_exitcode(status)} {len(output)} {seconds:.3f}\n".encode()
        data = memoryview(head + output)
        while data:
            data = data[os.write(answers, data) :]


def _run_script(code: str) -> None:
    """Run a program as `python program.py` would, and end the process as it does."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    status = 0
    try:
        exec(program.compiled(code), module.__dict__)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            os.write(2, f"{printable(error)}\n".encode("utf-8", "replace"))
        status = _EXCEPTION
    import threading

    with contextlib.suppress(BaseException):
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    try:
        sys.stdout.flush()
    except BaseException:
        status = status or _EXCEPTION
    os._exit(status & 0xFF)


def _collect(source: int, child: int, most: int) -> bytes:
    """What comes from a pipe until the child has ended, at most so many bytes; what is more is read and dropped."""
    output = bytearray()
    ended = False
    while True:
        ready = select.select([source], [], [], 0.0 if ended else 0.02)[0]
        if ready:
            chunk = os.read(source, 1 << 16)
            if not chunk:
                break
            output += chunk[: max(0, most - len(output))]
        elif ended:
            break  # something of the program's still holds the pipe
        else:
            ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    os.close(source)
    return bytes(output)


def main() -> None:
    """Run what the input names, and say how it went."""
    _be_dumpable(allowed=False)
    order = _read_part()
    sys.path += order["path"]
    sys.argv = ["program.py"]
    program.add_exit()
    answers = os.dup(1)
    os.dup2(2, 1)
    if "inputs" in order:
        os.write(answers, b"ready\n")
        _run_scripts(order, answers)
        os._exit(0)
    number, channel = _start_program(order)
    judging = _read_part()
    _replace_descriptor(0, os.open(os.devnull, os.O_RDONLY))
    limits = {**order["limits"], "cpu": 4 * order["limits"]["cpu"] + 4}
    limits.pop("processes", None)
    _limit(limits)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = open(2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115
    os.write(answers, b"ready\n")
    verdict = _judged(_Child(number, order["limits"]["cpu"]), channel, order, judging)
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    os.write(answers, f"{verdict}\n".encode("utf-8", "replace"))
    os._exit(0)  # no exit handlers, no waiting for threads
