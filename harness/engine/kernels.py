"""Attention on a processor by kernels of our own (`kernels.c`), compiled where they run in a second or two, once.

Decoding reads each row's own keys and values: torch's operators took twice as long over that as memory does, and its
fused kernel 1.6 to 1.9 times as long over the short causal rows of a packed prompt. There is nothing to install: where
there is no C compiler, or the kernels do not give what the definition gives, torch's operators are used.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from harness.data.download import cache_folder

if TYPE_CHECKING:
    from harness.engine.attention import AttentionRule

log = logging.getLogger(__name__)

SWITCH = "HARNESS_CPU_KERNELS"
"""The variable of the environment that turns these kernels off where it is `0`."""
_SOURCE = Path(__file__).with_name("kernels.c")
_OPTIONS = ("-std=gnu11", "-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-fPIC")
_COMPILING_S = 120
# A multiple of the lanes of every processor; above, a thread's stack would not hold a tile.
_DIM_STEP, _LARGEST_DIM, _LANES, _HEADS = 16, 256, 16, 6
_TOLERANCE = 1e-5
_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
_PLACED = (_POINTER, _LONG, _LONG)  # a tensor, and how far apart its heads and its tokens are


@dataclass(frozen=True, slots=True)
class Jobs:
    """What attends to what in one call: (first token, tokens, first key, keys, where its mask begins or -1) each."""

    numbers: torch.Tensor
    masks: torch.Tensor | None = None

    @classmethod
    def of(cls, jobs: Sequence[tuple[int, int, int, int, int]], masks: torch.Tensor | None = None) -> Jobs:
        return cls(torch.tensor(jobs, dtype=torch.long), masks)


class Kernels:
    """The compiled functions for heads of one shape: `group` query heads of `dim` values share a key head."""

    def __init__(self, library: ctypes.CDLL, dim: int, group: int) -> None:
        self.dim, self.group = dim, group
        self._attend, self._attend_slots = library.attend, library.attend_slots
        self._attend.argtypes = [
            *_PLACED, *_PLACED, *_PLACED, _POINTER, _POINTER, _LONG, _POINTER, _POINTER, _LONG, _POINTER, _INT,
            ctypes.c_float, _INT, _INT,
        ]  # fmt: skip
        self._attend_slots.argtypes = [
            *_PLACED, *_PLACED, *_PLACED, _POINTER, _POINTER, _LONG, _POINTER, _POINTER, _LONG, _LONG, _POINTER, _LONG,
            ctypes.c_float, _POINTER, _LONG, _INT,
        ]  # fmt: skip
        self._attend.restype = self._attend_slots.restype = None

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        out: torch.Tensor,
        lse: torch.Tensor,
        jobs: Jobs,
        *,
        causal: bool = False,
        join: bool = False,
        places: torch.Tensor | None = None,
    ) -> None:
        """Attention of the jobs' tokens, into out [tokens, heads, dim] and lse [tokens, heads].

        query [heads, tokens, dim]; key, value [kv heads, keys, dim]. causal: a job's token i sees its keys up to i, a
        mask besides. join: out and lse hold what was found over other keys. places: [tokens], where in query and out a
        job's token stands.
        """
        self._attend(
            *_placed(query), *_placed(key), *_placed(value), out.data_ptr(), lse.data_ptr(), query.shape[0],
            None if places is None else places.data_ptr(), jobs.numbers.data_ptr(), len(jobs.numbers),
            None if jobs.masks is None else jobs.masks.data_ptr(), causal, scale, join, torch.get_num_threads(),
        )  # fmt: skip

    def attend_slots(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        lengths: torch.Tensor,
        rule: AttentionRule,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put each row's new key and value at place lengths[row] of its slot, and attend to all that the slot holds.

        query [heads, rows, dim]; key, value [kv heads, rows, dim]; keys, values [slots, kv heads, places, dim]; lengths
        [rows]. Returns out [rows, heads, dim] and lse [rows, heads].
        """
        heads, rows, dim = query.shape
        threads, places = torch.get_num_threads(), keys.shape[2]
        out, lse = query.new_empty((rows, heads, dim)), torch.empty((rows, heads))
        room_row = min(self.group, _HEADS) * -(-places // _LANES) * _LANES
        room = torch.empty(threads * room_row)
        self._attend_slots(
            *_placed(query), *_placed(key), *_placed(value), keys.data_ptr(), values.data_ptr(), places,
            out.data_ptr(), lse.data_ptr(), heads, rows, lengths.data_ptr(), rule.window or 0, rule.scale,
            room.data_ptr(), room_row, threads,
        )  # fmt: skip
        return out, lse


def kernels_for(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: AttentionRule) -> Kernels | None:
    """What attends for tensors like these; None where torch's operators have to. query [heads, tokens, dim]; key,
    value [kv heads, tokens, dim]."""
    dim = query.shape[-1]
    if query.device.type != "cpu" or not rule.fast or rule.softcap is not None or dim != value.shape[-1]:
        return None
    if dim % _DIM_STEP or dim > _LARGEST_DIM or any(one.stride(-1) != 1 for one in (query, key, value)):
        return None
    return _kernels(dim, query.shape[0] // key.shape[0], query.dtype)


def _placed(tensor: torch.Tensor) -> tuple[int, int, int]:
    return tensor.data_ptr(), tensor.stride(0), tensor.stride(1)


@functools.cache
def _kernels(dim: int, group: int, dtype: torch.dtype) -> Kernels | None:
    if dtype not in (torch.float32, torch.bfloat16) or os.environ.get(SWITCH) == "0":
        return None
    compiler = next((found for name in ("gcc", "cc") if (found := shutil.which(name))), None)
    if compiler is None or sys.platform != "linux":
        return None
    try:
        half = dtype == torch.bfloat16
        library = _compiled(compiler, (f"-DDIM={dim}", f"-DGROUP={group}", f"-DHALF={int(half)}"))
        with _threads_of_torch():
            found = Kernels(ctypes.CDLL(str(library)), dim, group)
        apart = _difference(found, dtype)
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        detail = getattr(error, "stderr", None) or error
        log.info(
            "attention goes by torch's operators: the kernels were not compiled: %s", " ".join(str(detail).split())
        )
        return None
    if not apart <= (_TOLERANCE if dtype == torch.float32 else 0.02):
        log.warning("attention goes by torch's operators: the compiled kernels are %g away from the definition", apart)
        return None
    return found


def _compiled(compiler: str, defines: Sequence[str]) -> Path:
    """The library for this machine's instructions: of the cache, or compiled into it."""
    identity = "\0".join((_SOURCE.read_text("utf-8"), compiler, *_OPTIONS, *defines, _instructions()))
    name = f"kernels-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    for folder in (cache_folder("kernels"), Path(tempfile.mkdtemp(prefix="harness-kernels-"))):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (folder / name).exists():
                return folder / name
            # Two commands that compile at once each put a whole file there.
            with tempfile.TemporaryDirectory(dir=folder) as work:
                made, objects = Path(work) / name, str(Path(work) / "kernels.o")
                for command in (
                    [compiler, *_OPTIONS, *defines, "-c", str(_SOURCE), "-o", objects],
                    # Without OpenMP's library: torch has brought its own, and two of them would fight for the cores.
                    [compiler, "-shared", objects, "-o", str(made), "-lm"],
                ):
                    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMPILING_S)
                made.replace(folder / name)
            return folder / name
    raise OSError("no folder to compile into")


def _instructions() -> str:
    """What this processor can do: a home folder may be shared by machines that differ."""
    lines = [platform.machine()]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.split(":")[0].strip() in ("flags", "Features", "model name"):
                lines.append(line)
    return "\n".join(sorted(set(lines)))


@contextlib.contextmanager
def _threads_of_torch() -> Iterator[None]:
    """Within the block, a library that is opened finds the OpenMP that torch uses. OSError where that is not GNU's."""
    mapped = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in mapped if "libgomp" in line}
    if len(paths) != 1:
        raise OSError(f"torch's threads are not those of one GNU OpenMP: {sorted(paths)}")
    ctypes.CDLL(paths.pop(), mode=ctypes.RTLD_GLOBAL)
    yield


@torch.inference_mode()
def _difference(kernels: Kernels, dtype: torch.dtype) -> float:
    """How far these are, at most, from the definition in float64 on a few values."""
    heads, tokens, dim, scale = 2 * kernels.group, 19, kernels.dim, kernels.dim**-0.5

    def some(count: int, start: float) -> torch.Tensor:
        values = torch.linspace(start, start + count * tokens, count * tokens * dim).mul(2.7).sin()
        return values.view(tokens, count, dim).to(dtype).transpose(0, 1)

    query, key, value = some(heads, 0.0), some(2, 1.0), some(2, 2.0)
    out, lse = query.new_empty((tokens, heads, dim)), torch.empty((tokens, heads))
    kernels.attend(query, key, value, scale, out, lse, Jobs.of([(0, tokens, 0, tokens, -1)]), causal=True)
    kernels.attend(query, key, value, scale, out, lse, Jobs.of([(0, tokens, 0, tokens, -1)]), join=True)
    scores = (query.double() @ key.double().repeat_interleave(kernels.group, 0).transpose(1, 2)) * scale
    hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu_(1)
    both = torch.cat((scores.masked_fill(hidden, float("-inf")), scores), dim=-1)
    twice = value.double().repeat_interleave(kernels.group, 0).repeat(1, 2, 1)
    expected = (both.softmax(-1) @ twice).transpose(0, 1)
    apart = [(out - expected).abs().max(), (lse.T - both.logsumexp(-1)).abs().max()]
    slots = [torch.zeros(tokens, 2, 4, dim, dtype=dtype) for _ in range(2)]
    from harness.engine.attention import AttentionRule

    found, _ = kernels.attend_slots(
        query, key, value, slots[0], slots[1], torch.zeros(tokens, dtype=torch.long), AttentionRule(scale)
    )
    apart.append((found.float() - value.transpose(0, 1).repeat_interleave(kernels.group, 1).float()).abs().max())
    return max(float(one) if one == one else float("inf") for one in apart)
