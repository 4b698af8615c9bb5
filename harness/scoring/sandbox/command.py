"""The command that starts a sandbox: what the program in it may use, sees, and finds in its environment."""

from __future__ import annotations

import functools
import json
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.quick import dataclass

_PACKAGE = "harness.scoring.sandbox"
_HERE = Path(__file__).parent
IMAGE = "python:3.11-slim"
"""Of docker, where HARNESS_SANDBOX_IMAGE names none."""
ENVIRONMENT = {
    "HOME": "/tmp",
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""The variables that whatever runs in a sandbox has; a program of a model, and Python of a task, have more."""
PROGRAM_ENVIRONMENT = {
    **ENVIRONMENT,
    "MALLOC_ARENA_MAX": "2",  # else each thread reserves much memory that it does not use
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use.

    seconds: of processor time (rounded up), for each process; by the clock, `patience` times as long, not counting the
        time for which it waits for a processor. memory: bytes of all processes together (with `none`: of each).
        call_seconds: of processor time for one call that the tests make; 0 is no limit but that of all of them.
        processes: and threads, at one time. file_size: bytes of one file. space: bytes of all files together.
    """

    seconds: float = 3.0
    patience: float = 3.0
    memory: int = 1 << 30
    processes: int = 64
    file_size: int = 16 << 20
    space: int = 64 << 20
    files: int = 256
    call_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.patience < 1 or self.memory <= 0:
            raise ValueError("seconds and memory must be positive, and patience at least 1")


def command_line(mode: str, limits: Limits, root: str, name: str) -> list[str]:
    """The command that starts the runner. `root` is an empty folder; `name` names a container."""
    runner = ["-I", "-S", "-X", "utf8", "-c", _runner_code()]
    if mode == "docker":
        return [*_docker(limits, name), "python", *runner]
    python = str(Path(sys.executable).resolve())
    if mode == "none":
        return [python, *runner]
    return jailed([python, *runner], limits, root)


def jailed(
    command: Sequence[str],
    limits: Limits,
    root: str,
    show: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    copies: Mapping[str, str] | None = None,
) -> list[str]:
    """The command that starts another one in namespaces. root: an empty folder, which becomes the root of what it sees.

    show: paths that it sees, read-only, beside this Python and its packages. copies: what it sees in the place of some
    of them. environment: all variables that it has.
    The limits on single processes (time, size of a file, number) it has to set on itself.
    """
    paths = sorted({*_shown(), *show})
    order = {
        "root": root,
        # A folder inside one that is shown already comes with it.
        "show": [path for path in paths if not any(path.startswith(f"{other}/") for other in paths)],
        "copies": dict(copies or {}),
        "command": list(command),
        "environment": dict(PROGRAM_ENVIRONMENT if environment is None else environment),
        "space": limits.space,
        "memory": limits.memory,
    }
    python = str(Path(sys.executable).resolve())
    return [python, "-I", "-S", str(_HERE / "jail.py"), json.dumps(order)]


@functools.cache
def _runner_code() -> str:
    """One text that makes the modules of the runner, where this package cannot be imported, and starts it."""
    sources = {name: (_HERE / f"{name}.py").read_text("utf-8") for name in ("wire", "program", "checker", "runner")}
    return f"""
import sys, types
package = sys.modules[{_PACKAGE!r}] = types.ModuleType({_PACKAGE!r})
for name, source in {sources!r}.items():
    module = sys.modules[{_PACKAGE!r} + "." + name] = types.ModuleType({_PACKAGE!r} + "." + name)
    setattr(package, name, module)
    exec(compile(source, f"<{{name}}>", "exec"), module.__dict__)
module.main()
"""


def _docker(limits: Limits, name: str) -> list[str]:
    options = [
        "--rm", "--pull=never", "--interactive", "--init", f"--name={name}", "--network=none", "--read-only",
        "--log-driver=none",  # what a program prints without end does not fill the disk of the daemon
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges", "--user=65534:65534", "--workdir=/tmp", "--ipc=private",
        f"--shm-size={limits.memory // 2}",
        f"--tmpfs=/tmp:rw,nosuid,nodev,size={limits.space}", f"--memory={limits.memory}",
        f"--memory-swap={limits.memory}", f"--pids-limit={limits.processes + 3}",
    ]  # fmt: skip
    variables = [f"--env={key}={value}" for key, value in PROGRAM_ENVIRONMENT.items()]
    return ["docker", "run", *options, *variables, os.environ.get("HARNESS_SANDBOX_IMAGE") or IMAGE]


@functools.cache
def _shown() -> list[str]:
    """The paths that a program sees: this Python, its packages, the system's libraries, and harmless devices."""
    python = {sys.base_prefix, sys.base_exec_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    wanted = [*(str(Path(path).resolve()) for path in python), *packages(), str(Path(sys.executable).resolve())]
    system = ["/usr", "/bin", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/localtime"]
    system += map(str, Path("/etc").glob("java-*"))  # a Java machine of Debian does not start without its settings
    devices = [f"/dev/{name}" for name in ("null", "zero", "random", "urandom")]
    paths = [path for path in sorted({*wanted, *system, *devices}) if os.path.lexists(path) and path != "/"]
    # A folder inside one that is shown already comes with it.
    return [path for path in paths if not any(path.startswith(f"{other}/") for other in paths)]


def packages() -> list[str]:
    """The folders of this Python's packages."""
    own = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    others = [
        path for path in sys.path if Path(path).name in ("site-packages", "dist-packages") and Path(path).is_dir()
    ]
    return list(dict.fromkeys(str(Path(path).resolve()) for path in [*own, *others]))
