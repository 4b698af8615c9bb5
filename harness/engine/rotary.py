"""Rotary positions in fewer passes over memory, on a processor: by a compiled function (`elementwise.c`), or as torch's
operators allow.

What an architecture has for it is compared, on some values, before it is replaced. In bfloat16 all is rounded where the
architecture's own operators round.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch

from harness.engine import elementwise

_Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]
_NAME = "apply_rotary_pos_emb"


@contextlib.contextmanager
def thin_rotary(module: Any) -> Iterator[None]:
    """Within the block, the architecture of an attention module rotates its queries and keys in fewer passes."""
    source = sys.modules.get(type(module).__module__)
    own = vars(source).get(_NAME) if source is not None else None
    # What turns halves turns them whatever the type; how it rounds is another question.
    if own is None or not type(module).__module__.startswith("transformers.") or not _rotates(own, torch.float32):
        yield
        return

    def rotate(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *more: Any, **options: Any
    ) -> Any:
        plain = not more and not options and cos.dim() == 3 and q.shape[-1] == k.shape[-1]
        # Some architectures rotate a part of each head.
        if plain and _rotates(own, q.dtype, part=cos.shape[-1] != q.shape[-1]):
            found = _rotated(q, k, cos, sin)
            if found is not None:
                return found
        return own(q, k, cos, sin, *more, **options)

    setattr(source, _NAME, rotate)
    try:
        yield
    finally:
        setattr(source, _NAME, own)


@functools.cache
def _rotates(own: Callable[..., Any], dtype: torch.dtype, *, part: bool = False) -> bool:
    """Whether a function is `_rotated` done otherwise, for tensors of this type. part: of a part of each head."""
    query, key = (torch.linspace(-1.0, size, 12 * size).view(1, size, 3, 4).repeat(1, 1, 1, 4) for size in (2, 1))
    angles = torch.linspace(0.0, 9.0, 24 if part else 48).view(1, 3, -1)
    given = [one.to(dtype) for one in (query, key, angles.cos(), angles.sin())]
    tried = []
    with contextlib.suppress(Exception):
        for mode in (torch.inference_mode(), torch.enable_grad()):
            with mode:
                expected, found = own(*given), _rotated(*given)
            if found is not None:
                tried.append(all(map(_same, found, expected)))
    return bool(tried) and all(tried)


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    return torch.allclose(found, expected, atol=1e-6) if found.dtype == torch.float32 else torch.equal(found, expected)


def _rotated(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> _Pair | None:
    """Rotary positions (Su et al. 2021), where the halves of what is turned of a head are the pairs. q, k [batch,
    heads, tokens, dim]; cos, sin [batch, tokens, turned]. None where nothing here does it."""
    if not q.dtype == k.dtype == cos.dtype == sin.dtype:
        return None
    compiled_code = elementwise.library(q.dtype)
    one = len(q) == len(k) == len(cos) == 1 and q.stride(-1) == k.stride(-1) == 1 and not torch.is_grad_enabled()
    if compiled_code is not None and one:
        cos, sin = cos.contiguous(), sin.contiguous()
        pointers, threads = (cos.data_ptr(), sin.data_ptr()), torch.get_num_threads()

        def turned(values: torch.Tensor) -> torch.Tensor:
            _, heads, tokens, dim = values.shape
            out = values.new_empty((1, tokens, heads, dim))
            compiled_code.rotated_heads(
                values.data_ptr(), values.stride(2), values.stride(1), *pointers, out.data_ptr(), tokens, heads,
                cos.shape[-1], dim, threads,
            )  # fmt: skip
            return out.transpose(1, 2)

        return turned(q), turned(k)
    if q.dtype != torch.float32 or cos.shape[-1] != q.shape[-1]:
        return None
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    half = sin.shape[-1] // 2

    def turned_by_torch(values: torch.Tensor) -> torch.Tensor:
        out = values * cos
        out[..., :half].addcmul_(values[..., half:], sin[..., :half], value=-1)
        out[..., half:].addcmul_(values[..., :half], sin[..., half:])
        return out

    return turned_by_torch(q), turned_by_torch(k)
