"""Processors: memory that is used again, and matrix products where torch's libraries leave most of them unused.

Activations are made and dropped many times in each layer. What glibc gives back to the system in between must be
mapped and cleared anew, which took as long as all that is not a product of matrices.

torch multiplies float32 matrices with MKL, which takes its AVX2 path on processors that are not Intel's. oneDNN, which
ships with torch too, uses AVX-512 wherever it is: 2.2 times as fast on an AMD EPYC of 2025, and no faster than MKL on
an Intel Xeon. With AVX2 alone it gains where few rows meet a weight that no cache holds, as in decoding: up to 1.7
times as fast on an EPYC, 1.2 for half of the shapes. So both are tried. The arithmetic is the same IEEE float32; only
the order of sums differs.

Half precision is multiplied by a loop where the processor has no instructions for it, nine times as slow as float32 on
AVX2: there, layers widen what they multiply, and round the result once, as such instructions do.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

# Below this many rows oneDNN's own overhead outweighs its speed.
_ENOUGH_ROWS = 8
# Above so many rows MKL was about as fast for large weights, and for weights of fewer bytes whatever the rows.
_FEW_ROWS, _LARGE_BYTES = 256, 8 << 20
# The two are tried on a weight [outputs, inputs] with so many rows: of a layer, and where few meet a large one.
_TRIED_LAYER, _TRIED_LARGE = (1024, 1024, 128), (4096, 1024, 32)
# Scores of one piece of attention stay in a core's own cache: so many queries, and so many values.
_QUERIES = 512
_SCORE_VALUES = 256 << 10
_ENOUGH_KEYS = 128
# Two kernels of attention are held against each other on keys of so many bytes, which no cache holds, with so many
# places a row, and so often; two products, which take less time, more often. The second is taken where the first takes
# so much longer.
_TRIED_BYTES, _TRIED_PLACES, _TURNS, _CLEARLY = 24 << 20, 192, 2, 1.3
_TURNS_OF_PRODUCTS, _CLEARLY_IN_PRODUCTS = 8, 1.15
# glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Freed memory of up to so many bytes a piece is kept; older releases of glibc take no more than the second.
_KEPT_BYTES = (1 << 30, 32 << 20)


def keep_freed_memory() -> bool:
    """Let the process use memory again that was freed, instead of giving it back and asking anew. False: not glibc."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        return any(mallopt(_MMAP_THRESHOLD, most) and mallopt(_TRIM_THRESHOLD, most) for most in _KEPT_BYTES)
    return False


def speed_up_linear_layers(model: Any) -> int:
    """Let a model's linear layers on the CPU multiply with oneDNN, or widened. Returns how many were changed.

    Layers are changed one by one, in place, and only where this is known to pay; quantised layers and those that
    accelerate moves between devices are left alone.
    """
    changed = 0
    for module in model.modules():
        transposed = type(module).__name__ == "Conv1D"
        if not (transposed or type(module) is torch.nn.Linear) or not _is_plain(module):
            continue
        if _pays(module.weight.dtype):
            module.forward = types.MethodType(_transposed if transposed else _linear, module)
            changed += 1
        elif not transposed and module.weight.nbytes >= _LARGE_BYTES and _pays_for_few_rows(module.weight.dtype):
            module.forward = types.MethodType(_large_linear, module)
            changed += 1
    return changed


def _linear(module: Any, values: torch.Tensor) -> torch.Tensor:
    """A linear layer's forward pass."""
    return _multiply(values, module.weight, module.bias)


def _large_linear(module: Any, values: torch.Tensor) -> torch.Tensor:
    """The same where only few rows are multiplied faster."""
    if values.numel() > _FEW_ROWS * values.shape[-1]:
        return torch.nn.functional.linear(values, module.weight, module.bias)
    return _multiply(values, module.weight, module.bias)


def _transposed(module: Any, values: torch.Tensor) -> torch.Tensor:
    """The same where the weight is [inputs, outputs], as in GPT-2's layers."""
    return _multiply(values, module.weight.t(), module.bias)


def _multiply(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if values.dtype != weight.dtype or values.numel() < _ENOUGH_ROWS * values.shape[-1]:
        return torch.nn.functional.linear(values, weight, bias)
    if weight.dtype != torch.float32:
        wide = torch.nn.functional.linear(values.float(), weight.float(), None if bias is None else bias.float())
        return wide.to(weight.dtype)
    return _by_onednn(values.contiguous(), weight, bias)


def _by_onednn(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")
    return out


def padded_size(tokens: int, dtype: torch.dtype) -> int:
    """How many tokens a pass of so many had better have: as many, or up to a thirty-second more.

    Memory that is in use grows with each number of rows that oneDNN multiplies, by some three megabytes for a model of
    20 million weights: 67 subjects of CMMLU took 1.6 GB so.
    """
    in_onednn = multiplies(dtype) if dtype in (torch.bfloat16, torch.float16) else _pays(dtype)
    unit = 1 << max(0, tokens.bit_length() - 6) if in_onednn else 1
    return -(-tokens // unit) * unit


def attend_to_all(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of every query to every key, by oneDNN: where its products are faster than MKL's (`pays_to_attend`),
    1.3 to 1.6 times as fast as torch's fused kernel.

    query [heads, L, dim]; key, value [kv heads, S, dim], float32. Returns out [heads, L, dim] and lse [heads, L].
    Where there is no order among queries, the heads of a group are just more queries of one key head.
    """
    kv_heads, keys, dim = key.shape
    # Rows that do not follow each other in memory would send oneDNN to its reference code, a hundred times slower.
    key = key.contiguous()
    grouped = query.reshape(kv_heads, -1, dim)
    out = torch.empty_like(grouped)
    lse = torch.empty(grouped.shape[:2])
    # Equal pieces: a short last one would be slow.
    pieces = -(-grouped.shape[1] // max(_ENOUGH_ROWS, min(_QUERIES, _SCORE_VALUES // keys)))
    step = -(-grouped.shape[1] // pieces)
    for head in range(kv_heads):
        weights = value[head].t().contiguous()
        for start in range(0, grouped.shape[1], step):
            part = grouped[head, start : start + step] * scale
            scores = _by_onednn(part, key[head])
            shares = torch.softmax(scores, dim=-1)
            # The largest share is exp(largest score - lse), and never below 1 / S.
            lse[head, start : start + step] = scores.amax(dim=-1) - shares.amax(dim=-1).log()
            out[head, start : start + step] = _by_onednn(shares, weights)
    return out.view(query.shape), lse.view(query.shape[:2])


def attend_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of one query a row and head, by whichever kernel is faster on this processor.

    query [batch, heads, 1, dim]; key, value [batch, kv heads, S, dim]; mask: additive, [batch, 1, 1, S]. Returns out
    [batch, heads, 1, dim] and lse [batch, heads, 1]; of a row that sees no key, zeros and -inf.
    """
    grouped = query.reshape(len(key), key.shape[1], -1, key.shape[-1])
    products = products_are_faster(key.shape[1], grouped.shape[2], key.shape[-1])
    out, lse = (_by_products if products else _by_flash)(grouped, key, value, scale, mask)
    blind = torch.isneginf(mask).all(dim=-1)
    if bool(blind.any()):
        out, lse = out.masked_fill(blind.unsqueeze(-1), 0.0), lse.masked_fill(blind, float("-inf"))
    return out.reshape(query.shape), lse.reshape(query.shape[:3])


def _by_products(
    grouped: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = torch.matmul(grouped * scale, key.transpose(-1, -2)).add_(mask)
    shares = torch.softmax(scores, dim=-1)
    return torch.matmul(shares, value), scores.amax(dim=-1) - shares.amax(dim=-1).log()


def _by_flash(
    grouped: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = kernel(grouped, key, value, 0.0, False, attn_mask=mask, scale=scale)
    return out, lse


@functools.cache
def products_are_faster(kv_heads: int, group: int, dim: int) -> bool:
    """Whether `attend_one` multiplies, rather than calls torch's fused kernel, for heads like these: measured once.

    Which is faster hangs on the processor: the fused kernel took 1.4 times as long on one, and less than half on
    another. Both give the same but for the rounding of sums, so that an answer could only change where two tokens are
    equally likely to within that. Processor time of the best of several turns is compared, and the second is taken only
    for a clear gain, so that what else the machine does decides nothing.
    """
    rows = max(1, _TRIED_BYTES // (4 * kv_heads * _TRIED_PLACES * dim))
    grouped, mask = torch.ones(rows, kv_heads, group, dim), torch.zeros(rows, 1, 1, _TRIED_PLACES)
    key, value = (torch.ones(rows, kv_heads, _TRIED_PLACES, dim) for _ in range(2))
    products, flash = best_times(
        *(functools.partial(way, grouped, key, value, 1.0, mask) for way in (_by_products, _by_flash)), turns=_TURNS
    )
    return products < _CLEARLY * flash


@torch.inference_mode()
def best_times(*ways: Callable[[], object], turns: int) -> list[float]:
    """Processor seconds that each way takes one thread, at best, when all are tried by turns so often.

    Several would wait for one another on a busy machine, some ways with their eyes open.
    """
    best = [float("inf")] * len(ways)
    with threads(1):
        for turn in range(turns + 1):
            for number, way in enumerate(ways):
                began = time.thread_time()
                way()
                if turn:  # what a library makes once it makes in the first
                    best[number] = min(best[number], time.thread_time() - began)
    return best


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block torch multiplies by so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pays_to_attend(query: torch.Tensor, key: torch.Tensor) -> bool:
    """Whether `attend_to_all` is faster here. Tensors [1, heads, tokens, dim]."""
    plain = query.device.type == "cpu" and query.dtype == torch.float32
    return plain and len(query) == 1 and key.shape[2] >= _ENOUGH_KEYS and _pays(torch.float32)


@functools.cache
def multiplies(dtype: torch.dtype) -> bool:
    """Whether this processor has instructions for products of bfloat16 or float16; unknown is taken to be yes."""
    known = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    supported = getattr(torch.ops.mkldnn, known[dtype], None) if torch.backends.mkldnn.is_available() else None
    return supported is None or bool(supported())


@functools.cache
def _pays(dtype: torch.dtype) -> bool:
    """Whether layers of this type multiply faster otherwise than as torch has it."""
    if dtype in (torch.bfloat16, torch.float16):
        return not multiplies(dtype)
    has_wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return has_wide and _has_onednn(dtype) and _onednn_is_faster(*_TRIED_LAYER)


@functools.cache
def _pays_for_few_rows(dtype: torch.dtype) -> bool:
    """Whether oneDNN is clearly faster where few rows meet a large weight."""
    return _has_onednn(dtype) and _onednn_is_faster(*_TRIED_LARGE)


def _onednn_is_faster(outputs: int, inputs: int, rows: int) -> bool:
    """Whether oneDNN takes clearly less time than torch by itself to multiply rows by a weight: measured."""
    weight, values = torch.ones(outputs, inputs), torch.ones(rows, inputs)
    ways = (functools.partial(way, values, weight) for way in (torch.nn.functional.linear, _by_onednn))
    plain, other = best_times(*ways, turns=_TURNS_OF_PRODUCTS)
    return plain > _CLEARLY_IN_PRODUCTS * other


def _has_onednn(dtype: torch.dtype) -> bool:
    mkldnn: Any = torch.backends.mkldnn
    return dtype == torch.float32 and mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _is_plain(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    if weight is None or weight.device.type != "cpu" or hasattr(module, "_hf_hook"):
        return False
    # Quantised weights can look like plain ones and be of a class of their own, or hide behind another forward pass.
    others = "forward" in vars(module) and getattr(module.forward, "__func__", None) not in (
        _linear,
        _large_linear,
        _transposed,
    )
    return type(weight) in (torch.Tensor, torch.nn.Parameter) and not others
