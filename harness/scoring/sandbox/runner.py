"""Runs one program inside the sandbox. Started as a script of its own; needs the standard library alone.

Reads a JSON object {"program", "token", "limits", "path"} from its input, then gives the program an empty input and
sends all that the program prints to standard error. Answers on standard output, a line each: `ready`, and then
`passed TOKEN`, or `failed REASON`. Only a program that came to its end knows the token, so leaving early is no pass.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import types


def _limit(limits: dict[str, int]) -> None:
    """Set the limits on this process and its children, so that they cannot be raised again."""
    import resource

    kinds = {
        "cpu": resource.RLIMIT_CPU,
        "memory": resource.RLIMIT_AS,
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
            resource.setrlimit(kind, (min(value, most), most))


def _run(program: str) -> str | None:
    """Run the program; return why it failed, or None."""
    module = types.ModuleType("program")
    sys.modules["program"] = module
    try:
        exec(compile(program, "program.py", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:  # SystemExit too: a program that leaves has not passed its tests
        try:
            cause = " ".join(str(error)[:1000].split())[:300]
            cause = "".join(char if char.isprintable() else "?" for char in cause)  # it is shown on terminals
        except BaseException:
            cause = ""
        name = type(error).__name__
        return f"{name}: {cause}" if cause else name
    return None


def main() -> None:
    """Run what the input names, and say how it went."""
    order = json.loads(sys.stdin.buffer.read())
    answers = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.path += order["path"]
    sys.argv = ["program.py"]
    _limit(order["limits"])
    os.write(answers, b"ready\n")
    problem = _run(order["program"])
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    verdict = f"passed {order['token']}\n" if problem is None else f"failed {problem}\n"
    os.write(answers, verdict.encode("utf-8", "replace"))
    os._exit(0)  # no exit handlers, no waiting for threads


if __name__ == "__main__":
    main()
