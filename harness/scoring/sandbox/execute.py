"""Runs a Python program that nobody has read, and says whether it came to its end.

    outcome = run_program("assert 1 + 1 == 2", Limits(seconds=3))
    outcome.passed, outcome.reason, outcome.output

    namespaces  (default) Linux namespaces: no network, no files but a read-only Python and a /tmp of its own, no
                environment, no other processes; when the program ends, or its time does, all its processes end
    docker      the same limits by a container; the image is HARNESS_SANDBOX_IMAGE
    none        limits on resources alone: the program can read, write and send what you can. Never chosen by itself

A program that passes could still have looked for the tests in its own process and tricked them: a sandbox protects the
machine, not the benchmark.
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
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import MachineError, UsageError, suggest

MODES = ("auto", "namespaces", "docker", "none")
_HERE = Path(__file__).parent
_STARTING = 60.0  # seconds until a sandbox stands, on a machine that is busy
_ENDING = 5.0
_IMAGE = "python:3.11-slim"
_NOT_STARTED = "the sandbox did not start: "
_CPU_SIGNAL = 24  # SIGXCPU: the processor time is used up
_MOST_OUTPUT = 16_384  # bytes
_ENVIRONMENT = {
    "HOME": "/tmp",
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    seconds: of processor time (rounded up), for each process; by the clock, `patience` times as long, so that a busy
        machine fails no program. memory: bytes of address space a process. processes: and threads, at one time.
        file_size: bytes of one file. space: bytes of all files together.
    """

    seconds: float = 3.0
    patience: float = 3.0
    memory: int = 1 << 30
    processes: int = 8
    file_size: int = 16 << 20
    space: int = 64 << 20
    files: int = 64

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.patience < 1 or self.memory <= 0:
            raise ValueError("seconds and memory must be positive, and patience at least 1")


@dataclass(frozen=True, slots=True)
class ProgramOutcome:
    """How a program ended. `reason` says in words why it did not pass; `output` is the beginning of what it printed.

    started: False where the sandbox did not stand (docker went away, say). Nothing is known of the program then.
    """

    passed: bool
    reason: str = ""
    output: str = ""
    started: bool = True


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


def _complaint(output: str) -> str:
    """What is wrong with a sandbox that did not start, on one line, from what it printed; empty if that is nothing."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(("jail: ", "docker: "))] or lines[-1:]
    return said[0].rstrip(".") if said else ""


def run_program(program: str, limits: Limits | None = None, mode: str = "auto") -> ProgramOutcome:
    """Run a Python program in a sandbox, see `usable`. Raises `UsageError` where that is not to be had."""
    return _run(program, limits or Limits(), usable(mode))


def command_line(mode: str, limits: Limits, root: str, name: str) -> list[str]:
    """The command that starts the runner. `root` is an empty folder; `name` names a container."""
    runner = ["-I", "-S", "-X", "utf8", "-c", (_HERE / "runner.py").read_text("utf-8")]
    if mode == "docker":
        return [*_docker(limits, name), "python", *runner]
    python = str(Path(sys.executable).resolve())
    if mode == "none":
        return [python, *runner]
    order = {
        "root": root,
        "show": _shown(),
        "command": [python, *runner],
        "environment": _ENVIRONMENT,
        "space": limits.space,
    }
    return [python, "-I", "-S", str(_HERE / "jail.py"), json.dumps(order)]


def _docker(limits: Limits, name: str) -> list[str]:
    options = [
        "--rm", "--pull=never", "--interactive", "--init", f"--name={name}", "--network=none", "--read-only",
        "--log-driver=none",  # what a program prints without end does not fill the disk of the daemon
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges", "--user=65534:65534", "--workdir=/tmp", "--ipc=none",
        f"--tmpfs=/tmp:rw,nosuid,nodev,size={limits.space}", f"--memory={limits.memory}",
        f"--memory-swap={limits.memory}", f"--pids-limit={limits.processes + 2}",
    ]  # fmt: skip
    variables = [f"--env={key}={value}" for key, value in _ENVIRONMENT.items()]
    return ["docker", "run", *options, *variables, os.environ.get("HARNESS_SANDBOX_IMAGE") or _IMAGE]


@functools.cache
def _shown() -> list[str]:
    """The paths that a program sees: this Python, its packages, the system's libraries, and harmless devices."""
    python = {sys.base_prefix, sys.base_exec_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    wanted = [*(str(Path(path).resolve()) for path in python), *_packages(), str(Path(sys.executable).resolve())]
    system = ["/usr", "/bin", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/localtime"]
    devices = [f"/dev/{name}" for name in ("null", "zero", "random", "urandom")]
    paths = [path for path in sorted({*wanted, *system, *devices}) if os.path.lexists(path) and path != "/"]
    # A folder inside one that is shown already comes with it.
    return [path for path in paths if not any(path.startswith(f"{other}/") for other in paths)]


def _packages() -> list[str]:
    return sorted({str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib")})


def _run(program: str, limits: Limits, mode: str) -> ProgramOutcome:
    token = secrets.token_hex(16)
    name = f"harness-{token[:12]}"
    bounds = {
        "cpu": math.ceil(limits.seconds),
        "memory": limits.memory,
        "file_size": limits.file_size,
        "files": limits.files,
    }
    if mode == "namespaces":  # elsewhere the limit would count all processes of this user
        bounds["processes"] = limits.processes
    packages = [] if mode == "docker" else _packages()
    order = json.dumps({"program": program, "token": token, "limits": bounds, "path": packages}).encode()
    with tempfile.TemporaryDirectory(prefix="harness-", ignore_cleanup_errors=True) as root:
        environment = None if mode == "docker" else _ENVIRONMENT  # docker's client needs its own
        process = subprocess.Popen(
            command_line(mode, limits, root, name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=root,
            start_new_session=True,
        )
        verdict = b""
        with process:
            try:
                verdict, output, late = _watch(process, order, limits.seconds * limits.patience)
            finally:
                if mode == "docker":
                    _end_container(process, name, verdict.count(b"\n") > 1)
                _end(process)
    return _outcome(verdict, output.decode("utf-8", "replace"), late, process.returncode, token)


def _watch(process: subprocess.Popen[bytes], order: bytes, seconds: float) -> tuple[bytes, bytes, bool]:
    """Feed the runner and read it until it has said how it went, has ended, or its time is up.

    Returns its answers, the beginning of the program's output, and whether its time was up.
    """
    assert process.stdin and process.stdout and process.stderr
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(order)
    answers, output = bytearray(), bytearray()
    deadline = time.monotonic() + _STARTING
    ready = False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, answers)
        selector.register(process.stderr, selectors.EVENT_READ, output)
        while answers.count(b"\n") < 2 and len(answers) < _MOST_OUTPUT and process.stdout in selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return bytes(answers), bytes(output), True
            _read(selector, left)
            if process.stdout not in selector.get_map():  # it has ended, and soon says how
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_ENDING)
            if not ready and answers.startswith(b"ready\n"):
                ready, deadline = True, time.monotonic() + seconds
        while process.stderr in selector.get_map() and _read(selector, 0.0):
            if len(output) >= _MOST_OUTPUT:
                break
    return bytes(answers), bytes(output), False


def _read(selector: selectors.BaseSelector, seconds: float) -> bool:
    """Read what has come within so many seconds; whether there was anything. What is too much is dropped."""
    events = selector.select(seconds)
    for key, _ in events:
        stream: IO[bytes] = key.fileobj  # type: ignore[assignment] # what was registered
        if chunk := os.read(stream.fileno(), 65_536):
            key.data.extend(chunk[: _MOST_OUTPUT - len(key.data)])
        else:
            selector.unregister(stream)
    return bool(events)


def _end_container(process: subprocess.Popen[bytes], name: str, finished: bool) -> None:
    """Kill the container, unless the program has `finished` and its container ends by itself: the client with it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING if finished else 0)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):  # a daemon that hangs does not hang the run
        subprocess.run(["docker", "kill", name], capture_output=True, check=False, timeout=_STARTING)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its group; in a sandbox, the kernel ends all that came from it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # Not waited for yet, so the number is still its own.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(answers: bytes, output: str, late: bool, code: int, token: str) -> ProgramOutcome:
    lines = answers.decode("utf-8", "replace").splitlines()
    if not lines:
        cause = _complaint(output) or ("out of time" if late else f"exit code {code}")
        return ProgramOutcome(False, f"{_NOT_STARTED}{cause}", output, started=False)
    if late:
        return ProgramOutcome(False, "out of time", output)
    if lines[1:2] == [f"passed {token}"]:
        return ProgramOutcome(True, "", output)
    if lines[1:2] and lines[1].startswith("failed "):
        return ProgramOutcome(False, lines[1].removeprefix("failed "), output)
    if code in (-_CPU_SIGNAL, 128 + _CPU_SIGNAL):
        return ProgramOutcome(False, "out of time", output)
    return ProgramOutcome(False, f"ended before its end (exit code {code})", output)


def run_programs(
    programs: Sequence[str], limits: Limits | None = None, mode: str | None = None
) -> Iterator[ProgramOutcome]:
    """Run several programs, as many at once as there are processors, and yield their outcomes in order.

    mode: what `usable` said earlier, maybe in another thread; left out, it is asked now.
    """
    from concurrent.futures import ThreadPoolExecutor

    mode, bounds = mode or usable(), limits or Limits()
    with ThreadPoolExecutor(min(len(programs), os.cpu_count() or 1) or 1) as pool:
        yield from pool.map(lambda program: _run(program, bounds, mode), programs)
