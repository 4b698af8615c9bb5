"""Runs Python programs that nobody has read, and says whether they pass their tests.

    outcome = run_program(Program("def f(x): return x + 1", tests="assert f(1) == 2"), Limits(seconds=3))
    outcome.passed, outcome.reason, outcome.output

    namespaces  (default) Linux namespaces: no network, no files but a read-only Python and a /tmp of its own, no
                environment, no other processes; when the program ends, or its time does, all its processes end
    docker      the same limits by a container; the image is HARNESS_SANDBOX_IMAGE
    none        limits on resources alone: the program can read, write and send what you can. Never chosen by itself

Tests run in a process of their own, which the program cannot read: what a function returns comes to them as a value,
and is compared there. A program without tests passes when it comes to its end, which it may claim as it likes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from harness.errors import MachineError, UsageError, suggest
from harness.quick import dataclass
from harness.scoring.sandbox.command import PROGRAM_ENVIRONMENT, Limits, command_line, packages

MODES = ("auto", "namespaces", "docker", "none")
_STARTING = 300.0  # seconds until a sandbox stands, on a machine that is busy
_ENDING = 5.0
_MOST_WAITING = 20.0  # times the time by the clock, where the processors are taken by others
_NOT_STARTED = "the sandbox did not start: "
_CPU_SIGNAL = 24  # SIGXCPU: the processor time is used up
_OUT_OF_MEMORY = 124  # what jail.py ends with
_OUT_OF_TIME = "out of time"
_EXCEPTION = 255  # what a script ends with that raises one; as in runner.py
_ROOM = 4 << 30  # bytes of address space beside the memory: stacks and libraries that are never used up
_MOST_PRINTED = 16 << 20  # bytes of standard output of a script
_MOST_OUTPUT = 16_384  # bytes


@dataclass(frozen=True, slots=True)
class Program:
    """A program of a model, and what it is tested with.

    text: the whole program. tests: Python that uses what the program defines and raises where it is wrong. setup: the
    part of `text` that is not the model's: the tests have its complete functions and classes too, unchanged.
    reference: a whole program that is right. With it, `tests` are classes of `unittest` that run in the program's own
    process, as those must that change its modules; see `unit_tests.py`.
    """

    text: str
    tests: str = ""
    setup: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class ProgramOutcome:
    """How a program ended. `reason` says in words why it did not pass; `output` is the beginning of what it printed.

    decided: False where nothing is known of the program: the sandbox did not stand (docker went away, say), the machine
        gave it no time, or its tests cannot be run from outside.
    """

    passed: bool
    reason: str = ""
    output: str = ""
    decided: bool = True


@dataclass(frozen=True, slots=True)
class ScriptOutcome:
    """How a run of a script ended. `printed`: its standard output; `code`: its exit code, as a shell gives it.

    reason: why it did not come to its end by itself, in words; else empty. decided: as in `ProgramOutcome`.
    """

    printed: str
    code: int = 0
    reason: str = ""
    decided: bool = True


def check_mode(mode: str, flag: str = "--sandbox") -> None:
    """Raise `UsageError` for a sandbox that there is not."""
    if mode not in MODES:
        raise UsageError(f"{flag}: there is no sandbox '{mode}'{suggest(mode, MODES)} (known: {', '.join(MODES)})")


def usable(mode: str = "auto") -> str:
    """The sandbox that `mode` means here, `namespaces`, `docker` or `none`, after a try; `auto` asks HARNESS_SANDBOX.

    Raises `UsageError` for an unknown one, and `MachineError` where it does not work.
    """
    check_mode(mode)
    if mode == "auto":
        mode = os.environ.get("HARNESS_SANDBOX") or "auto"
        check_mode(mode, "HARNESS_SANDBOX")
    mode = "namespaces" if mode == "auto" else mode
    if problem := _problem(mode):
        raise MachineError(f"programs cannot be run safely here: {problem}")
    return mode


@functools.cache
def _problem(mode: str) -> str:
    """Why a sandbox does not work on this machine; empty if it does."""
    remedy = {
        "namespaces": "allow user namespaces, or choose --sandbox docker, or, at your own risk, --sandbox none",
        "docker": "start docker and pull the image (HARNESS_SANDBOX_IMAGE), or choose another --sandbox",
        "none": "choose another --sandbox",
    }[mode]
    if mode == "namespaces" and sys.platform != "linux":
        return f"there are no namespaces on {sys.platform}; choose --sandbox docker, or, at your own risk, none"
    if mode == "docker" and shutil.which("docker") is None:
        return f"there is no command 'docker'; {remedy}"
    outcome = _run("", Limits(seconds=5), mode)
    return "" if outcome.passed else f"{outcome.reason.removeprefix(_NOT_STARTED)}; {remedy}"


def run_program(program: str | Program, limits: Limits | None = None, mode: str = "auto") -> ProgramOutcome:
    """Run a Python program and its tests in a sandbox. Raises `UsageError` where that is not to be had."""
    return _run(program, limits or Limits(), usable(mode))


class _Sandbox:
    """A runner in a sandbox, from its start to its end. `with` ends it."""

    def __init__(self, parts: Sequence[dict[str, Any]], limits: Limits, mode: str) -> None:
        self._limits, self._mode = limits, mode
        self._name = f"harness-{secrets.token_hex(6)}"
        self._root = tempfile.TemporaryDirectory(prefix="harness-", ignore_cleanup_errors=True)
        self._answers, self._output = bytearray(), bytearray()
        self.ready = self.late = self.busy = self.answered = False
        self._process = subprocess.Popen(
            command_line(mode, limits, self._root.name, self._name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if mode == "docker" else PROGRAM_ENVIRONMENT,  # docker's client needs its own
            cwd=self._root.name,
            start_new_session=True,
        )
        bodies = [json.dumps(part).encode() for part in parts]
        data = b"".join(f"{len(body):016d}".encode() + body for body in bodies)
        # A sandbox that reads nothing must not hold up what ends it.
        self._feeder = threading.Thread(target=self._feed, args=(data,), daemon=True)
        self._feeder.start()
        self._selector = selectors.DefaultSelector()
        for stream, buffer in ((self._process.stdout, self._answers), (self._process.stderr, self._output)):
            assert stream is not None
            self._selector.register(stream, selectors.EVENT_READ, buffer)
        self._deadline = self._began = time.monotonic()
        self._allow(_STARTING)

    def __enter__(self) -> _Sandbox:
        return self

    def __exit__(self, *error: object) -> None:
        if self._mode == "docker":
            _end_container(self._process, self._name, finished=self.answered)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # The whole group; in a sandbox, the kernel ends all that came from it. Nobody has waited for the process
            # yet, so the number is still its own.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._feeder.join()
        self._selector.close()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        self._root.cleanup()

    @property
    def output(self) -> str:
        """The beginning of what the program has printed to standard error, or to both where it was tested."""
        return self._output.decode("utf-8", "replace")

    @property
    def code(self) -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDING)
        return self._process.returncode if self._process.returncode is not None else 0

    def start(self) -> bool:
        """Wait until the program runs; whether it does."""
        self.ready = self.line() == b"ready"
        self._allow(self._limits.seconds * self._limits.patience)
        return self.ready

    def line(self) -> bytes | None:
        """The runner's next line, without its end; None where it has ended, or its time has."""
        while b"\n" not in self._answers:
            if len(self._answers) >= _MOST_OUTPUT or not self._read():
                return None
        line, _, rest = self._answers.partition(b"\n")
        self._answers[:] = rest
        return bytes(line)

    def exactly(self, size: int) -> bytes | None:
        """The runner's next bytes."""
        while len(self._answers) < size:
            if not self._read():
                return None
        data = bytes(self._answers[:size])
        del self._answers[:size]
        return data

    def again(self) -> None:
        """Allow as much time as at first: another run begins."""
        self._allow(self._limits.seconds * self._limits.patience)

    def rest(self) -> None:
        """Read what has come of the program's output."""
        while self._process.stderr in self._selector.get_map() and len(self._output) < _MOST_OUTPUT:
            if not self._read_some(0.0):
                break

    def _allow(self, seconds: float) -> None:
        self._began = time.monotonic()
        self._seconds = seconds
        self._deadline = self._began + seconds

    def _read(self) -> bool:
        """Read more of the answers; whether that can go on."""
        if self._process.stdout not in self._selector.get_map():
            return False
        left = self._deadline - time.monotonic()
        if left <= 0 and not self._may_wait_longer():
            return False
        self._read_some(max(left, 0.05))
        return True

    def _may_wait_longer(self) -> bool:
        """Whether the time by the clock is up because others have the processors; sets a later deadline then."""
        now = time.monotonic()
        self.late = True
        if not self.ready:
            return False
        used, waited = _times_of(self._process.pid, now - self._began) if self._mode != "docker" else (0.0, None)
        if waited is None:
            waited = self._seconds * max(0.0, os.getloadavg()[0] / (os.cpu_count() or 1) - 1)
        # At its limit the system itself ends a process; what has used more has several.
        if used > math.ceil(self._limits.seconds) + 1 or self._began + self._seconds + waited <= now:
            return False
        if now - self._began > self._seconds * _MOST_WAITING:
            self.busy = True
            return False
        self.late = False
        self._deadline = max(now + 0.1, min(self._began + self._seconds + waited, now + self._seconds))
        return True

    def _read_some(self, seconds: float) -> bool:
        """Read what has come within so many seconds; whether there was anything. What is too much is dropped."""
        events = self._selector.select(seconds)
        for key, _ in events:
            stream: IO[bytes] = key.fileobj  # type: ignore[assignment] # what was registered
            if not (chunk := os.read(stream.fileno(), 65_536)):
                self._selector.unregister(stream)
            elif key.data is self._answers:
                key.data.extend(chunk)
            else:
                key.data.extend(chunk[: max(0, _MOST_OUTPUT - len(key.data))])
        return bool(events)

    def _feed(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError), self._process.stdin as stdin:
            stdin.write(data)

    def not_started(self) -> str:
        """Why there is no program to speak of."""
        self.rest()
        late = "out of time" if self.late else f"exit code {self.code}"
        lines = [" ".join(line.split()) for line in self.output.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith(("jail: ", "docker: "))] or lines[-1:]
        return f"{_NOT_STARTED}{said[0].rstrip('.') if said and said[0].rstrip('.') else late}"

    def end_in_words(self) -> str:
        """Why the runner has ended without an answer."""
        if self.late:
            return "the machine is too busy to run it" if self.busy else _OUT_OF_TIME
        code = self.code
        if code in (-_CPU_SIGNAL, 128 + _CPU_SIGNAL):
            return _OUT_OF_TIME
        return "out of memory" if code == _OUT_OF_MEMORY else f"ended before its end (exit code {code})"


def _bounds(limits: Limits, mode: str) -> dict[str, int]:
    bounds = {
        "cpu": math.ceil(limits.seconds),
        "memory": limits.memory,
        "space": limits.memory + _ROOM,
        "file_size": limits.file_size,
        "files": limits.files,
    }
    # Elsewhere the limit would count all processes of this user.
    return {**bounds, "processes": limits.processes} if mode == "namespaces" else bounds


def _run(program: str | Program, limits: Limits, mode: str) -> ProgramOutcome:
    program = Program(program) if isinstance(program, str) else program
    if program.reference:
        from harness.scoring.sandbox.unit_tests import run_unit_tests

        return run_unit_tests(program.text, program.tests, program.reference, limits, mode)
    token = secrets.token_hex(16)
    order = {
        "program": program.text,
        "setup": program.setup,
        "call_seconds": limits.call_seconds,
        "limits": _bounds(limits, mode),
        "path": [] if mode == "docker" else packages(),
    }
    with _Sandbox([order, {"tests": program.tests, "token": token}], limits, mode) as box:
        if not box.start():
            return ProgramOutcome(passed=False, reason=box.not_started(), output=box.output, decided=False)
        line = box.line()
        verdict = "" if line is None else line.decode("utf-8", "replace")
        if not verdict:
            reason = box.end_in_words()
            return ProgramOutcome(passed=False, reason=reason, output=box.output, decided=not box.busy)
        box.rest()
        box.answered = True
        word, _, reason = verdict.partition(" ")
        if word == "passed":
            return ProgramOutcome(reason == token, "" if reason == token else "a verdict that is none", box.output)
        return ProgramOutcome(passed=False, reason=reason, output=box.output, decided=word != "undecided")


def run_script(
    text: str, inputs: Sequence[str], limits: Limits | None = None, mode: str = "auto"
) -> Iterator[ScriptOutcome]:
    """Run a script once for each input, as `python script.py < input` does, and yield how each run went.

    The limits are those of one run; all runs share a sandbox, and nothing but its /tmp. One that is not asked for its
    next outcome runs no further. Raises `UsageError` where no sandbox is to be had.
    """
    bounds, mode = limits or Limits(), usable(mode)
    left = list(inputs)
    while left:  # a run that had to be ended has ended its sandbox; the others get a new one
        order = {
            "program": text,
            "inputs": left,
            "limits": _bounds(bounds, mode),
            "path": [] if mode == "docker" else packages(),
            "most_output": _MOST_PRINTED,
        }
        with _Sandbox([order], bounds, mode) as box:
            if not box.start():
                yield from [ScriptOutcome("", 1, box.not_started(), decided=False)] * len(left)
                return
            while left:
                outcome = _next_run(box, bounds)
                left = left[1:]
                if outcome is None:
                    yield ScriptOutcome("", 1, box.end_in_words(), decided=not box.busy)
                    break
                box.answered = not left
                yield outcome
                box.again()


def _next_run(box: _Sandbox, limits: Limits) -> ScriptOutcome | None:
    """How the next run of a script went; None where its sandbox has ended, or its time has."""
    words = (box.line() or b"").split()
    printed = box.exactly(int(words[2])) if len(words) == 4 else None
    if printed is None:
        return None
    code = int(words[1])
    late = code == -_CPU_SIGNAL or (code == -9 and float(words[3]) >= math.ceil(limits.seconds))
    reason = _OUT_OF_TIME if late else f"ended by signal {-code}" if code < 0 else ""
    if code == _EXCEPTION:
        code, reason = 1, "an exception"
    return ScriptOutcome(printed.decode("utf-8", "replace"), code if code >= 0 else 128 - code, reason)


def _times_of(root: int, elapsed: float) -> tuple[float, float | None]:
    """Seconds of processor time that a process and all below it have used, and for which one of them waited for a
    processor at most; None for the latter where the system does not say."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    ticks = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            fields = entry.read_text("utf-8", "replace").rpartition(")")[2].split()
            number = int(entry.parent.name)
            parents[number], used[number] = int(fields[1]), sum(map(int, fields[11:15])) / ticks
    below, known = [root], {root}
    while more := [number for number, parent in parents.items() if parent in known and number not in known]:
        below += more
        known |= set(more)
    waited = None
    for number in below:
        for entry in Path(f"/proc/{number}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                waited = max(waited or 0.0, int(entry.read_text().split()[1]) / 1e9)
    return sum(used.get(number, 0.0) for number in below), None if waited is None else min(waited, elapsed)


def _end_container(process: subprocess.Popen[bytes], name: str, *, finished: bool) -> None:
    """Kill the container, unless the program has `finished` and its container ends by itself: the client with it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING if finished else 0)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):  # a daemon that hangs does not hang the run
        subprocess.run(["docker", "kill", name], capture_output=True, check=False, timeout=_STARTING)


def run_programs(
    programs: Sequence[str | Program], limits: Limits | None = None, mode: str = "auto"
) -> Iterator[ProgramOutcome]:
    """Run several programs, as many at once as there are processors, and yield their outcomes in order."""
    from concurrent.futures import ThreadPoolExecutor

    bounds, mode = limits or Limits(), usable(mode)
    with ThreadPoolExecutor(min(len(programs), os.cpu_count() or 1) or 1) as pool:
        yield from pool.map(lambda program: _run(program, bounds, mode), programs)
