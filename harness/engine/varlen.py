"""Fused attention on CUDA over sequences of different lengths, laid end to end: FlashAttention through torch.

Nothing is padded, and keys are not repeated for the heads of a group. Half precision only; where a card or a torch does
not have the kernel, the layouts attend otherwise.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from harness.engine.attention import AttentionRule
from harness.engine.devices import upload
from harness.quick import dataclass

_LARGEST_HEAD = 256
# Ampere; older cards have no such kernel.
_CAPABILITY = (8, 0)


@dataclass(frozen=True, slots=True)
class Spans:
    """Where each sequence begins and ends: [sequences + 1], int32, on the device. longest: tokens of the longest."""

    ends: torch.Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], device: str) -> Spans:
        ends = [0]
        for length in lengths:
            ends.append(ends[-1] + length)
        return cls(upload(ends, device, torch.int32), max(lengths))

    def on(self, device: torch.device) -> Spans:
        """The same, for a layer of a model that is spread over devices."""
        return self if self.ends.device == device else Spans(self.ends.to(device), self.longest)


def serves(query: torch.Tensor, value: torch.Tensor, rule: AttentionRule) -> bool:
    """Whether `attend_spans` can be used for tensors like these."""
    return (
        rule.fast
        and rule.softcap is None
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] == value.shape[-1] <= _LARGEST_HEAD
        and query.is_cuda
        and _kernel() is not None
        and torch.cuda.get_device_capability(query.device) >= _CAPABILITY
    )


def attend_spans(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rule: AttentionRule,
    queries: Spans,
    keys: Spans,
    *,
    causal: bool,
    used: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sequence of queries attends to its own sequence of keys.

    query [tokens, heads, dim]; key, value [keys, kv heads, dim]. causal: the last query of a sequence stands at its
    last key, and the rule's window counts back from there. used: [sequences], int32, how many keys of each are filled;
    None: all. Returns out [tokens, heads, dim] and lse [tokens, heads] in float32.
    """
    kernel = _kernel()
    assert kernel is not None
    back = -1 if rule.window is None else rule.window - 1
    queries, keys = queries.on(query.device), keys.on(query.device)
    out, lse = kernel(
        query,
        key,
        value,
        queries.ends,
        keys.ends,
        queries.longest,
        keys.longest,
        scale=rule.scale,
        window_size=(back, 0) if causal else (-1, -1),
        enable_gqa=query.shape[1] != key.shape[1],
        seqused_k=None if used is None else used.to(query.device),
    )
    # The kernel writes the log-sum-exps of a head one after the other.
    return out, (lse.t() if lse.shape == (query.shape[1], query.shape[0]) else lse).float()


@functools.cache
def _kernel() -> Callable[..., Any] | None:
    try:
        from torch.nn.attention.varlen import AuxRequest, varlen_attn
    except ImportError:
        return None
    if "seqused_k" not in inspect.signature(varlen_attn).parameters:
        return None
    return functools.partial(varlen_attn, return_aux=AuxRequest(lse=True))
