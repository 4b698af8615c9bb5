"""Attention on a processor by compiled functions (`attention.c`), where there is a compiler.

In decoding each row reads its own keys and values: torch's operators took twice as long over that as memory does. Over
the short causal rows of a packed prompt its fused kernel took 1.6 to 1.9 times as long. What does not give what the
definition gives, on a few values, is not used.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from harness.engine.compiled import compiled
from harness.engine.cpu import best_times
from harness.quick import dataclass

if TYPE_CHECKING:
    from harness.engine.attention import AttentionRule

log = logging.getLogger(__name__)

# Above, a thread's stack would not hold a tile; the lanes of the widest processor, and heads computed together.
_DIM_STEP, _LARGEST_DIM, _LANES, _HEADS = 16, 256, 16, 6
# Products of many queries are left to torch where it takes so much less time, by the best of some turns.
_TRIED_QUERIES, _TRIED_KEYS, _TURNS, _CLEARLY = 64, 512, 3, 1.3
_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.02}
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
    """The compiled functions for heads of one shape: `group` query heads of `dim` values share a key head.

    attends: `attend` is not slower than torch's operators here; `attend_slots` reads memory, which costs both the same.
    """

    def __init__(self, library: ctypes.CDLL, dim: int, group: int) -> None:
        self.dim, self.group = dim, group
        self.attends = True
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
    if dtype not in _TOLERANCES:
        return None
    half = int(dtype == torch.bfloat16)
    library = compiled("attention.c", (f"-DDIM={dim}", f"-DGROUP={group}", f"-DHALF={half}"))
    if library is None:
        return None
    library.prepare()
    found = Kernels(library, dim, group)
    apart = _difference(found, dtype)
    if not apart <= _TOLERANCES[dtype]:
        log.warning("attention goes by torch's operators: the compiled one is %g away from the definition", apart)
        return None
    found.attends = _is_not_slower(found, dtype)
    return found


@torch.inference_mode()
def _is_not_slower(kernels: Kernels, dtype: torch.dtype) -> bool:
    """Whether many queries attend to a shared prefix as fast as by torch, in processor time of one thread."""
    from harness.engine.attention import AttentionRule, attend

    heads, tokens, keys, dim = 2 * kernels.group, _TRIED_QUERIES, _TRIED_KEYS, kernels.dim
    query, key = torch.ones(heads, tokens, dim, dtype=dtype), torch.ones(2, keys, dim, dtype=dtype)
    out, lse, jobs = (
        query.new_empty((tokens, heads, dim)),
        torch.empty((tokens, heads)),
        Jobs.of([(0, tokens, 0, keys, -1)]),
    )
    compiled_time, torch_time = best_times(
        lambda: kernels.attend(query, key, key, 1.0, out, lse, jobs),
        lambda: attend(query[None], key[None], key[None], AttentionRule(1.0)),
        turns=_TURNS,
    )
    return compiled_time < _CLEARLY * torch_time


@torch.inference_mode()
def _difference(kernels: Kernels, dtype: torch.dtype) -> float:
    """How far these are, at most, from the definition in float64 on a few values."""
    from harness.engine.attention import AttentionRule

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
    found, _ = kernels.attend_slots(
        query, key, value, slots[0], slots[1], torch.zeros(tokens, dtype=torch.long), AttentionRule(scale)
    )
    apart.append((found.float() - value.transpose(0, 1).repeat_interleave(kernels.group, 1).float()).abs().max())
    return max(float(one) if one == one else float("inf") for one in apart)
