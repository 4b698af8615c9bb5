"""What a layer does beside its products, in fewer passes over memory, on a processor.

Norms and activations are a few operations a value, each of which reads and writes the whole tensor. Here they are done
in one pass by compiled functions (`elementwise.c`), or, where there is no compiler, with as few intermediate results as
the operators of torch allow. In bfloat16 they round wherever the architecture's own operators do. Each replacement is
compared with the architecture's own code, on some values, before it is used.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from harness.engine.compiled import compiled

# Texts, since a prompt is shown without torch.
_Forward: TypeAlias = "Callable[..., torch.Tensor]"
# Values to try a module on, and what its forward pass might be replaced by.
_Ways: TypeAlias = "tuple[torch.Tensor, Sequence[_Forward]]"
_HALF_VALUES = 1 << 16
# (what is added to the weight, whether nothing is rounded before it is multiplied by): Llama's, OLMo 2's and Gemma's.
_NORMS = ((0.0, False), (0.0, True), (1.0, True))
_ACTIVATIONS = ("transformers.activations", "torch.nn.modules.activation")


def thin_out(model: Any) -> int:
    """Let a model's RMS norms and gated feed-forward blocks, and in bfloat16 all activations, make fewer passes over
    memory.

    Modules are changed one by one, in place, where their class gives the same. Returns how many were changed.
    """
    changed = 0
    right: dict[tuple[type, torch.dtype], int | None] = {}
    for module in model.modules():
        own = type(module)
        if not own.__module__.startswith(("transformers.", *_ACTIVATIONS)) or "forward" in vars(module):
            continue
        found = _gated_block(module) or _norm(module) or _activation(module, getattr(model, "dtype", None))
        if found is None:
            continue
        values, ways = found
        kind = (own, values.dtype)
        if kind not in right:
            same = (number for number, way in enumerate(ways) if _gives_the_same(module, way, values))
            right[kind] = next(same, None)
        if (number := right[kind]) is not None:
            module.forward = types.MethodType(ways[number], module)
            changed += 1
    return changed


def _gated_block(module: Any) -> _Ways | None:
    """A feed-forward block with a gate; Phi-3 and GLM have the gate in one weight with what it is multiplied by."""
    names = next((names for names in (("gate_proj", "up_proj"), ("gate_up_proj",)) if hasattr(module, names[0])), None)
    parts: list[Any] = [getattr(module, name, None) for name in (*(names or ()), "down_proj")]
    if names is None or not all(type(part) is torch.nn.Linear and part.weight.device.type == "cpu" for part in parts):
        return None
    weight, act = parts[0].weight, getattr(module, "act_fn", getattr(module, "activation_fn", None))
    values = _some_values(weight.shape[1], weight.dtype)
    if weight.dtype == torch.bfloat16 and library(weight.dtype) is not None:
        table = _table(act)
        return None if table is None else (values, [functools.partial(_gated, names=names, table=table)])
    silu = type(act).__name__ in ("SiLU", "SiLUActivation")
    return (values, [functools.partial(_gated, names=names, table=None)]) if silu else None


def _norm(module: Any) -> _Ways | None:
    """A root mean square norm with a weight."""
    weight: Any = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    one = isinstance(weight, torch.Tensor) and weight.dim() == 1 and weight.device.type == "cpu"
    if not one or not isinstance(epsilon, float):
        return None
    # Without compiled functions there is something to gain in float32 alone.
    kinds = _NORMS if library(weight.dtype) is not None else _NORMS[:1] if weight.dtype == torch.float32 else ()
    ways = [functools.partial(_rms_norm, epsilon=epsilon, more=more, once=once) for more, once in kinds]
    return _some_values(len(weight), weight.dtype), ways


def _activation(module: Any, dtype: torch.dtype | None) -> _Ways | None:
    """An activation by itself, of values of this type."""
    if dtype != torch.bfloat16 or type(module).__module__ not in _ACTIVATIONS or library(dtype) is None:
        return None
    table = _table(module)
    return None if table is None else (_some_values(100, dtype), [functools.partial(_activated, table=table)])


def _some_values(width: int, dtype: torch.dtype) -> torch.Tensor:
    """[1, 3, width] of what goes into a module. Sums of their squares are exact, in whichever order."""
    return (torch.arange(3 * width).mul_(7).remainder_(33) - 16).div(8).view(1, 3, width).to(dtype)


def _gives_the_same(module: Any, way: _Forward, values: torch.Tensor) -> bool:
    weight = module._parameters.get("weight")
    if weight is not None:  # it may be all ones, of which nothing is seen
        module = copy.copy(module)
        module._parameters = {"weight": torch.nn.Parameter(_some_values(len(weight), weight.dtype)[0, 0] + 0.25)}
    with contextlib.suppress(Exception), torch.inference_mode():  # others take values of another shape, or more
        expected, found = module(values.clone()), way(module, values)
        if not isinstance(expected, torch.Tensor) or expected.dtype != found.dtype:
            return False
        if values.dtype == torch.bfloat16:
            return torch.equal(found, expected)
        return torch.allclose(found, expected, atol=1e-6, rtol=1e-5)
    return False


def _rms_norm(module: Any, hidden_states: torch.Tensor, *, epsilon: float, more: float, once: bool) -> torch.Tensor:
    """Root mean square norm (Zhang and Sennrich 2019) with a weight, to which `more` is added. once: in bfloat16, the
    product with the weight is rounded, and not what is multiplied too."""
    weight = module.weight
    compiled_code = library(weight.dtype)
    same = hidden_states.dtype == weight.dtype and not torch.is_grad_enabled()
    if not same or (compiled_code is not None and not hidden_states.is_contiguous()):
        normed: torch.Tensor = type(module).forward(module, hidden_states)
        return normed
    if compiled_code is not None:
        out, width = torch.empty_like(hidden_states), hidden_states.shape[-1]
        compiled_code.rms_norm(
            hidden_states.data_ptr(), weight.data_ptr(), out.data_ptr(), hidden_states.numel() // width, width,
            epsilon, more, once, torch.get_num_threads(),
        )  # fmt: skip
        return out
    scale = torch.linalg.vector_norm(hidden_states, dim=-1, keepdim=True)
    scale = scale.square_().div_(hidden_states.shape[-1]).add_(epsilon).rsqrt_()
    scaled: torch.Tensor = hidden_states * scale
    return scaled.mul_(weight)


def _gated(module: Any, values: torch.Tensor, *, names: tuple[str, ...], table: torch.Tensor | None) -> torch.Tensor:
    """A feed-forward block with a gate: down(act(gate) * up) (Shazeer 2020). names: of the layers of gate and up, or of
    the one that has both. table: the activation's; None: it is silu."""
    if torch.is_grad_enabled():
        plain: torch.Tensor = type(module).forward(module, values)
        return plain
    both = [getattr(module, name)(values) for name in names]
    gate, up = both if len(both) == 2 else both[0].chunk(2, dim=-1)
    compiled_code = library(gate.dtype)
    if compiled_code is not None and gate.dtype == up.dtype and (table is not None) == (gate.dtype == torch.bfloat16):
        width, pointer = gate.shape[-1], None if table is None else table.data_ptr()
        out = gate if gate.is_contiguous() else torch.empty_like(gate, memory_format=torch.contiguous_format)
        gate, up = gate.reshape(-1, width), up.reshape(-1, width)
        compiled_code.gated(
            gate.data_ptr(), gate.stride(0), up.data_ptr(), up.stride(0), pointer, out.data_ptr(), len(gate), width,
            torch.get_num_threads(),
        )  # fmt: skip
    elif table is None:
        out = torch.nn.functional.silu(gate, inplace=True).mul_(up)
    else:
        out = (module.act_fn if hasattr(module, "act_fn") else module.activation_fn)(gate).mul(up)
    down: torch.Tensor = module.down_proj(out)
    return down


def _activated(module: Any, values: torch.Tensor, *, table: torch.Tensor) -> torch.Tensor:
    """An activation of bfloat16, looked up."""
    compiled_code = library(torch.bfloat16)
    if values.dtype != torch.bfloat16 or not values.is_contiguous() or torch.is_grad_enabled() or compiled_code is None:
        plain: torch.Tensor = type(module).forward(module, values)
        return plain
    out = torch.empty_like(values)
    pointers = values.data_ptr(), table.data_ptr(), out.data_ptr()
    compiled_code.activated(*pointers, values.numel(), torch.get_num_threads())
    return out


def _table(act: Any) -> torch.Tensor | None:
    """What an activation makes of each of the values of bfloat16, in the order of their bits; None where what it makes
    hangs on more."""
    if type(act).__module__ not in _ACTIVATIONS or next(act.parameters(), None) is not None:
        return None
    values = torch.arange(_HALF_VALUES, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    made: Any = None
    with contextlib.suppress(Exception), torch.inference_mode():  # one of rows or of columns
        made = act(values)
    same = isinstance(made, torch.Tensor) and made.dtype == torch.bfloat16 and made.shape == values.shape
    return _kept(made.view(torch.int16).numpy().tobytes()) if same else None


@functools.cache
def _kept(table: bytes) -> torch.Tensor:
    """One table for all layers, so that it stays in the processor's cache."""
    return torch.frombuffer(bytearray(table), dtype=torch.int16)


def greatest(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest value of each row of [rows, width], as float32, and where it first stands; NaN of a row with a
    NaN."""
    compiled_code = library(values.dtype) if values.device.type == "cpu" and values.is_contiguous() else None
    if compiled_code is None:
        top, places = values.max(dim=-1)
        return top.float(), places
    rows, width = values.shape
    tops, places = torch.empty(rows), torch.empty(rows, dtype=torch.long)
    pointers = tops.data_ptr(), places.data_ptr()
    compiled_code.greatest(values.data_ptr(), rows, width, *pointers, torch.get_num_threads())
    return tops, places


def log_sums(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """The largest of each row of logits [rows, width], where it first stands, and the logarithm of the sum of the
    exponentials, in float32; None where nothing is compiled for them."""
    compiled_code = library(logits.dtype) if logits.device.type == "cpu" and logits.is_contiguous() else None
    if compiled_code is None:
        return None
    rows, width = logits.shape
    tops, places, sums = torch.empty(rows), torch.empty(rows, dtype=torch.long), torch.empty(rows)
    pointers = tops.data_ptr(), places.data_ptr(), sums.data_ptr()
    compiled_code.log_sums(logits.data_ptr(), rows, width, *pointers, torch.get_num_threads())
    return tops, places, sums


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled functions of `elementwise.c` for tensors of a type; None where there are none."""
    if dtype not in (torch.float32, torch.bfloat16):
        return None
    found = compiled("elementwise.c", (f"-DHALF={int(dtype == torch.bfloat16)}",))
    if found is None:
        return None
    pointer, long, integer, number = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float
    found.rms_norm.argtypes = [pointer, pointer, pointer, long, long, number, number, integer, integer]
    found.gated.argtypes = [pointer, long, pointer, long, pointer, pointer, long, long, integer]
    found.rotated_heads.argtypes = [pointer, long, long, pointer, pointer, pointer, long, long, long, long, integer]
    found.greatest.argtypes = [pointer, long, long, pointer, pointer, integer]
    found.log_sums.argtypes = [pointer, long, long, pointer, pointer, pointer, integer]
    functions = [found.rms_norm, found.gated, found.rotated_heads, found.greatest, found.log_sums]
    if dtype == torch.bfloat16:
        found.activated.argtypes = [pointer, pointer, pointer, long, integer]
        functions.append(found.activated)
    for function in functions:
        function.restype = None
    return found
