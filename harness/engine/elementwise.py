"""What a layer does beside its products, in fewer passes over memory, on a processor.

Norms, rotary positions and gated activations are a few operations a value, each of which reads and writes the whole
activation. Here they are done in one pass by compiled functions (`elementwise.c`), or, where there is no compiler, with
as few intermediate results as the operators of torch allow. Each replacement is compared with the architecture's own
code, on random values, before it is used.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch

from harness.engine.compiled import compiled

_ROTARY = "apply_rotary_pos_emb"


def thin_out(model: Any) -> int:
    """Let a model's RMS norms, in float32, and gated feed-forward blocks make fewer passes over memory.

    Modules are changed one by one, in place, where their class gives the same. Returns how many were changed.
    """
    changed = 0
    right: dict[type, bool] = {}
    for module in model.modules():
        own = type(module)
        found = _replacement(module)
        if found is None or not own.__module__.startswith("transformers.") or "forward" in vars(module):
            continue
        if own not in right:
            right[own] = _gives_the_same(module, *found)
        if right[own]:
            module.forward = types.MethodType(found[0], module)
            changed += 1
    return changed


def _replacement(module: Any) -> tuple[Callable[..., torch.Tensor], torch.Tensor] | None:
    """What a module's forward pass can be replaced by, and values to try it on; None for other modules."""
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if all(type(part) is torch.nn.Linear and part.weight.device.type == "cpu" for part in parts):
        silu = type(getattr(module, "act_fn", None)).__name__ in ("SiLU", "SiLUActivation")
        return (_gated, _some_values(module.gate_proj.weight)) if silu else None
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor) and hasattr(module, "variance_epsilon") and weight.device.type == "cpu":
        return (_rms_norm, _some_values(weight)) if weight.dtype == torch.float32 else None
    return None


def _some_values(weight: torch.Tensor) -> torch.Tensor:
    """[1, 3, width] of what goes into a module with this weight."""
    return torch.linspace(-2.0, 9.0, 3 * weight.shape[-1]).sin().view(1, 3, -1).to(weight.dtype)


def _gives_the_same(module: Any, replacement: Callable[..., torch.Tensor], values: torch.Tensor) -> bool:
    with torch.inference_mode():  # as a decorator it would import torch where a prompt is only shown
        expected, found = module(values.clone()), replacement(module, values)
    return isinstance(expected, torch.Tensor) and torch.allclose(found, expected, atol=1e-6, rtol=1e-5)


def _rms_norm(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """Root mean square norm (Zhang and Sennrich 2019) with a weight."""
    if hidden_states.dtype != torch.float32 or torch.is_grad_enabled():
        normed: torch.Tensor = type(module).forward(module, hidden_states)
        return normed
    library, threads = _library(), torch.get_num_threads()
    if library is not None and hidden_states.is_contiguous():
        out, width = torch.empty_like(hidden_states), hidden_states.shape[-1]
        rows, epsilon = hidden_states.numel() // width, module.variance_epsilon
        weight = module.weight.data_ptr()
        library.rms_norm(hidden_states.data_ptr(), weight, out.data_ptr(), rows, width, epsilon, threads)
        return out
    scale = torch.linalg.vector_norm(hidden_states, dim=-1, keepdim=True)
    scale = scale.square_().div_(hidden_states.shape[-1]).add_(module.variance_epsilon).rsqrt_()
    scaled: torch.Tensor = hidden_states * scale
    return scaled.mul_(module.weight)


def _gated(module: Any, values: torch.Tensor) -> torch.Tensor:
    """A feed-forward block with a gate: down(silu(gate) * up) (Shazeer 2020, SwiGLU)."""
    if torch.is_grad_enabled():
        plain: torch.Tensor = type(module).forward(module, values)
        return plain
    gate, up = module.gate_proj(values), module.up_proj(values)
    library = _library() if gate.dtype == up.dtype == torch.float32 else None
    if library is not None and gate.is_contiguous() and up.is_contiguous():
        library.gated(gate.data_ptr(), up.data_ptr(), gate.numel(), torch.get_num_threads())
    else:
        gate = torch.nn.functional.silu(gate, inplace=True).mul_(up)
    down: torch.Tensor = module.down_proj(gate)
    return down


def greatest(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest value of each row of [rows, width], float32, and where it first stands; NaN of a row with a NaN."""
    plain = values.device.type == "cpu" and values.is_contiguous() and values.dtype == torch.float32
    library = _library() if plain else None
    if library is None:
        top, places = values.max(dim=-1)
        return top, places
    rows, width = values.shape
    tops, places = values.new_empty(rows), torch.empty(rows, dtype=torch.long)
    library.greatest(values.data_ptr(), rows, width, tops.data_ptr(), places.data_ptr(), torch.get_num_threads())
    return tops, places


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The compiled functions of `elementwise.c`."""
    library = compiled("elementwise.c")
    if library is not None:
        pointer, long, integer = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
        library.rms_norm.argtypes = [pointer, pointer, pointer, long, long, ctypes.c_float, integer]
        library.gated.argtypes = [pointer, pointer, long, integer]
        library.rotated.argtypes = [pointer, long, long, pointer, pointer, pointer, long, long, long, integer]
        library.greatest.argtypes = [pointer, long, long, pointer, pointer, integer]
        library.greatest.restype = None
        library.rms_norm.restype = library.gated.restype = library.rotated.restype = None
    return library


@contextlib.contextmanager
def thin_rotary(module: Any) -> Iterator[None]:
    """Within the block, the architecture of an attention module rotates its queries and keys in fewer passes."""
    source = sys.modules.get(type(module).__module__)
    own = vars(source).get(_ROTARY) if source is not None else None
    if own is None or not type(module).__module__.startswith("transformers.") or not _rotates_halves(own):
        yield
        return

    def rotate(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *more: Any, **options: Any
    ) -> Any:
        # Some architectures rotate a part of each head.
        whole = cos.dim() == 3 and cos.shape[-1] == q.shape[-1] == k.shape[-1]
        return _rotary(q, k, cos, sin) if whole and not more and not options else own(q, k, cos, sin, *more, **options)

    setattr(source, _ROTARY, rotate)
    try:
        yield
    finally:
        setattr(source, _ROTARY, own)


@functools.cache
def _rotates_halves(own: Callable[..., Any]) -> bool:
    """Whether a function is `_rotary` done otherwise."""
    query, key = (torch.linspace(-1.0, size, 6 * size).view(1, size, 3, 2).repeat(1, 1, 1, 4) for size in (2, 1))
    angles = torch.linspace(0.0, 9.0, 24).view(1, 3, 8)
    with contextlib.suppress(Exception):
        expected, found = (rotate(query, key, angles.cos(), angles.sin()) for rotate in (own, _rotary))
        return all(torch.allclose(one, other, atol=1e-6) for one, other in zip(expected, found, strict=True))
    return False


def _rotary(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary positions (Su et al. 2021), where the halves of a head are the pairs. q, k [batch, heads, tokens, dim];
    cos, sin [batch, tokens, dim]."""
    library, threads = _library(), torch.get_num_threads()
    one = len(q) == len(k) == len(cos) == 1 and all(each.dtype == torch.float32 for each in (q, k, cos, sin))
    if library is not None and one and all(each.stride(-1) == 1 for each in (q, k)) and not torch.is_grad_enabled():
        cos, sin = cos.contiguous(), sin.contiguous()

        def compiled_rotated(values: torch.Tensor) -> torch.Tensor:
            _, heads, tokens, dim = values.shape
            out = values.new_empty((1, tokens, heads, dim))
            library.rotated(
                values.data_ptr(), values.stride(2), values.stride(1), cos.data_ptr(), sin.data_ptr(), out.data_ptr(),
                tokens, heads, dim, threads,
            )  # fmt: skip
            return out.transpose(1, 2)

        return compiled_rotated(q), compiled_rotated(k)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    half = sin.shape[-1] // 2

    def rotated(values: torch.Tensor) -> torch.Tensor:
        out = values * cos
        out[..., :half].addcmul_(values[..., half:], sin[..., :half], value=-1)
        out[..., half:].addcmul_(values[..., :half], sin[..., half:])
        return out

    return rotated(q), rotated(k)
