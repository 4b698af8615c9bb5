"""Imports torch and transformers, which takes seconds: while something else is waited for, and no more than needed."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.engine.deferred_imports import defer_compiler, defer_meta_kernels, import_compiler_as_ever
from harness.engine.import_structure import keep_import_structure

_LOSSES = "transformers.loss.loss_utils"
_FROM_SCIPY = "linear_sum_assignment"
_DISTRIBUTED = "is_torch_distributed_available"
# What starts the processes of a model that is spread over them says so in these.
_PROCESS_GROUP = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
# How long a thread that has nothing to do looks for work before it sleeps: GNU's OpenMP in turns of a loop, Intel's and
# LLVM's in milliseconds.
_WAITING = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}


def import_libraries() -> None:
    """Import what every model needs. What is wrong with a library is said by whoever needs it."""
    with contextlib.suppress(Exception), _no_collection():
        keep_import_structure()
        defer_meta_kernels()
        if sys.platform == "linux" and "torch" not in sys.modules:
            threading.Thread(target=_open_torch, name="harness-open-torch", daemon=True).start()
        importlib.import_module("transformers")  # as far as it needs no torch
        importlib.import_module("torch")
        importlib.import_module("transformers").AutoConfig  # noqa: B018 - it is imported when it is named
        importlib.import_module("transformers").AutoTokenizer  # noqa: B018


def _open_torch() -> None:
    """Open torch's largest library, which registers thousands of operators as it is opened: a quarter of a second.

    Python itself opens libraries with its lock held. Called as a foreign function, the system's own loader leaves the
    lock to whoever imports something meanwhile.
    """
    with contextlib.suppress(Exception):
        found = importlib.util.find_spec("torch")
        if found is not None and found.origin is not None:
            opens = ctypes.CDLL(None).dlopen
            opens.restype = ctypes.c_void_p
            opens(str(Path(found.origin).with_name("lib") / "libtorch_cpu.so").encode(), os.RTLD_LAZY)


def let_threads_sleep() -> None:
    """Let torch's threads sleep soon when they wait for one another. Nothing, once torch is imported.

    Left alone, each of them looks for work for some milliseconds after every product. Where others want the cores too,
    the thread that is waited for does not get one because of that: with two threads on two busy cores a run took five
    times as long. Who has said in the environment how threads wait is obeyed.
    """
    if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", *_WAITING} & os.environ.keys():
        os.environ.update(_WAITING)


def keep_to_allowed_cores() -> None:
    """Have torch start no more threads than the container may use of the machine's cores, before it is imported.

    torch counts cores, and not what the container's quota allows of them: threads above that are stopped again and
    again, and those that are not wait for them. Who has set `OMP_NUM_THREADS` is obeyed.
    """
    if "torch" not in sys.modules and allowed_cores() < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(allowed_cores()))


def allowed_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many cores this process may use at a time, by its affinity and its container's quota; at least 1."""
    there = getattr(os, "sched_getaffinity", None)
    cores = len(there(0)) if there else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such file, or `max 100000`: no quota
        most, period = map(int, quota.read_text(encoding="ascii").split())
        cores = min(cores, -(-most // period))
    return max(1, cores)


def import_model_classes() -> None:
    """Import what every model class of transformers derives from; its file imports the rest.

    Every one of them imports every loss. Those for finding objects are all that needs SciPy, for one function: half a
    second, which is left to who trains such a model. Nor are torch's compiler and what spreads a model over processes
    imported, where there is one process: a second of processor, SymPy's part included.
    """
    with contextlib.suppress(ImportError, AttributeError), _no_collection():  # another version, arranged otherwise
        defer_compiler()
        _leave_out_process_groups()
        if _LOSSES not in sys.modules and "scipy.optimize" not in sys.modules:
            _import_losses_without_scipy()
        try:
            importlib.import_module("transformers.modeling_utils")
        except Exception:  # it asks for more of the compiler than was expected
            import_compiler_as_ever()
            importlib.import_module("transformers.modeling_utils")


@contextlib.contextmanager
def without_numbers() -> Iterator[None]:
    """A model that is built in here has shapes and no numbers, and takes no memory."""
    import torch

    from harness.engine.unset_weights import UnsetWeights

    with torch.device("meta"), UnsetWeights():
        yield


def _leave_out_process_groups() -> None:
    """Have transformers take it that torch cannot spread a model over processes, as it is built on some platforms.

    Nothing where this process is one of several, or where transformers looked already.
    """
    if any(name in os.environ for name in _PROCESS_GROUP) or "transformers.distributed.utils" in sys.modules:
        return
    for module in ("transformers.utils.import_utils", "transformers.utils"):
        found = importlib.import_module(module)
        if hasattr(found, _DISTRIBUTED):
            setattr(found, _DISTRIBUTED, lambda: False)


def _import_losses_without_scipy() -> None:
    utils: Any = importlib.import_module("transformers.utils")
    known = utils.is_scipy_available

    def is_scipy_available() -> bool:
        return False

    utils.is_scipy_available = is_scipy_available
    try:
        importlib.import_module(_LOSSES)
    finally:
        utils.is_scipy_available = known
        for name, module in list(sys.modules.items()):
            if name.startswith("transformers.") and vars(module).get("is_scipy_available") is is_scipy_available:
                vars(module)["is_scipy_available"] = known
                if known() and name.startswith("transformers.loss."):
                    vars(module).setdefault(_FROM_SCIPY, _linear_sum_assignment)


def _linear_sum_assignment(*arguments: Any, **options: Any) -> Any:
    return getattr(importlib.import_module("scipy.optimize"), _FROM_SCIPY)(*arguments, **options)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Nothing is garbage yet while modules are imported: looking through it again and again takes a tenth of that."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # nobody else's is thawed
                gc.freeze()
                gc.unfreeze()  # together they make all that was imported old, without a look at it
            gc.enable()
