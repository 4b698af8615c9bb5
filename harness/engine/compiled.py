"""C functions for processors, compiled where they run: in a second or two, once a machine.

There is nothing to install. Where there is no compiler, torch's operators are used.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from harness.data.download import cache_folder

log = logging.getLogger(__name__)

SWITCH = "HARNESS_COMPILE"
"""The variable of the environment that forbids compiling where it is `0`."""
_FOLDER = Path(__file__).parent
_SHARED = ("vectors.h", "tiles.h")
_OPTIONS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-fPIC")
_COMPILING_S = 120


def compiled(source: str, defines: Sequence[str] = ()) -> ctypes.CDLL | None:
    """The functions of a C file of this room, for this machine's instructions; None where it cannot be compiled."""
    if os.environ.get(SWITCH) == "0" or sys.platform != "linux":
        return None
    compiler = shutil.which("gcc")  # another one has an OpenMP of its own
    if compiler is None:
        log.info("there is no C compiler: torch's operators are used for all that a model computes")
        return None
    try:
        library = _library(compiler, source, defines)
        _offer_threads_of_torch()
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(library))
        library.unlink()  # it was not whole
        return ctypes.CDLL(str(_library(compiler, source, defines)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: whoever runs this has no home
        detail = " ".join(str(getattr(error, "stderr", None) or error).split())
        log.info("%s was not compiled, torch's operators are used: %s", source, detail)
        return None


def _library(compiler: str, source: str, defines: Sequence[str]) -> Path:
    """The library, out of the cache or compiled into it."""
    texts = [(_FOLDER / name).read_text("utf-8") for name in (source, *_SHARED)]
    identity = "\0".join((*texts, compiler, *_OPTIONS, *defines, _instructions()))
    name = f"{Path(source).stem}-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    made = cache_folder("compiled") / name
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Two commands that compile at once each put a whole file there.
        with tempfile.TemporaryDirectory(dir=made.parent) as work:
            objects, whole = f"{work}/objects.o", Path(work) / name
            for command in (
                [compiler, *_OPTIONS, *defines, "-c", str(_FOLDER / source), "-o", objects],
                # Without OpenMP's library: torch has brought its own, and two would fight for the cores.
                [compiler, "-shared", objects, "-o", str(whole), "-lm"],
            ):
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMPILING_S)
            whole.replace(made)
    return made


def _instructions() -> str:
    """What this processor can do: a home folder may be shared by machines that differ."""
    lines = {platform.machine()}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.split(":")[0].strip() in ("flags", "Features", "model name"):
                lines.add(line)
    return "\n".join(sorted(lines))


def _offer_threads_of_torch() -> None:
    """Let a library that is opened next find the OpenMP that torch uses. OSError where that is not GNU's."""
    mapped = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in mapped if "libgomp" in line}
    # Other packages may have brought one too.
    own = {path for path in paths if str(Path(torch.__file__).parent) in path} or paths
    if len(own) != 1:
        raise OSError(f"which OpenMP torch's threads are of is not known: {', '.join(sorted(own)) or 'none of GNU'}")
    ctypes.CDLL(own.pop(), mode=ctypes.RTLD_GLOBAL)
