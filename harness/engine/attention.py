"""Attention over several sets of keys, joined by their log-sum-exps, behind transformers' attention interface.

A query's softmax over two sets of keys A and B is the mean of its softmax over A and over B, weighted by how much
exponentiated score each set holds:

    out = (exp(lse_A) out_A + exp(lse_B) out_B) / (exp(lse_A) + exp(lse_B))

so that a prefix which many rows share is attended to in place: its keys and values are stored once and never copied
for a row. Any decoder of transformers that uses the attention interface runs through this one function.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import torch

from harness.engine import cpu
from harness.engine.lanes import Common, Halted
from harness.engine.rotary import thin_rotary
from harness.quick import dataclass
from harness.stopwatch import Stopwatch

_MATH_BYTES = 64 << 20
_names = itertools.count()


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """How one layer weighs keys. Scores are `scale * q.k`, soft-capped as `c tanh(s / c)`.

    window: a token sees this many tokens, itself included; None sees all. sinks: [heads], a logit that every query
    also attends to, and that has no value. fast: use fused kernels where there are any.
    """

    scale: float
    softcap: float | None = None
    window: int | None = None
    sinks: torch.Tensor | None = None
    fast: bool = True


class AttentionLayout(Protocol):
    """Says which tokens of a packed pass see which keys."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: AttentionRule
    ) -> torch.Tensor:
        """query [heads, tokens, dim], key and value [kv heads, tokens, dim] -> [tokens, heads, value dim]."""


class _Here(threading.local):
    """What the thread at hand is doing: the layout of its pass, and the clock of its lane."""

    layout: AttentionLayout | None = None
    clock: Stopwatch | None = None


class SharedAttention:
    """Makes one model attend by a `AttentionLayout`, while it is active; otherwise the model is as it was.

    Threads can have passes of the model at once, each by its own layout. halted: those of all lanes are given up.
    """

    def __init__(self, model: Any) -> None:
        from transformers import AttentionInterface

        self.model = model
        self.fast = True
        self.clock = Stopwatch()
        self.halted = False
        self._here = _Here()
        self._common = Common()
        self._name = f"harness_shared_{next(_names)}"
        configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
        self._configs = list(configs.values())
        # One module of each class of attention.
        self._kinds = list({type(each): each for each in model.modules() if hasattr(each, "layer_idx")}.values())
        # The registry outlives every model: it must not keep this one's weights.
        me = weakref.ref(self)

        def forward(*args: Any, **kwargs: Any) -> Any:
            attention = me()
            assert attention is not None
            return attention._forward(*args, **kwargs)

        AttentionInterface.register(self._name, forward)

    @contextlib.contextmanager
    def active(self, layout: AttentionLayout) -> Iterator[None]:
        """Within the block, the model attends by `layout` in this thread."""
        with self._common.within(self._registered):
            self._here.layout = layout
            try:
                yield
            finally:
                self._here.layout = None

    def inactive(self) -> contextlib.AbstractContextManager[None]:
        """Within the block, the model attends as it does by itself, in all threads: the others wait."""
        return self._common.undone()

    def time_here(self, clock: Stopwatch) -> None:
        """Tell this clock, and no other, what the passes of this thread take."""
        self._here.clock = clock

    @contextlib.contextmanager
    def _registered(self) -> Iterator[None]:
        """Within the block, the model calls `_forward`; masks that it would build are not built."""
        before = [config._attn_implementation for config in self._configs]
        on_cpu = getattr(self.model, "device", torch.device("meta")).type == "cpu"
        try:
            for config in self._configs:
                config._attn_implementation = self._name
            with contextlib.ExitStack() as stack:
                for module in self._kinds if on_cpu else ():
                    stack.enter_context(thin_rotary(module))
                yield
        finally:
            for config, own in zip(self._configs, before, strict=True):
                config._attn_implementation = own

    def _forward(
        self,
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """transformers' attention interface: tensors [1, heads, tokens, dim] -> [1, tokens, heads, dim]."""
        del attention_mask
        layout, clock = self._here.layout, self._here.clock or self.clock
        assert layout is not None
        if self.halted and self._here.clock is not None:
            raise Halted
        scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
        rule = AttentionRule(scale, softcap, sliding_window, s_aux, self.fast)
        if query.device.type != "cpu":  # there, what is asked for here is computed later
            return layout.attend(module.layer_idx, query[0], key[0], value[0], rule).unsqueeze(0), None
        before = clock.turn("attention")
        out = layout.attend(module.layer_idx, query[0], key[0], value[0], rule)
        clock.turn(before)
        return out.unsqueeze(0), None


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rule: AttentionRule,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention and its log-sum-exp.

    query [batch, heads, L, dim]; key, value [batch, kv heads, S, dim]; mask: additive, broadcast to [batch, heads, L,
    S], not together with `causal`. Returns out [batch, heads, L, dim] in the query's dtype and lse [batch, heads, L]
    in float32. Rows that a mask leaves no key get an arbitrary finite out and the lse -inf.
    """
    if rule.fast and rule.softcap is None and query.shape[-1] == value.shape[-1]:
        if mask is None and not causal and cpu.pays_to_attend(query, key):
            out, lse = cpu.attend_to_all(query[0], key[0], value[0], rule.scale)
            return out.unsqueeze(0), lse.unsqueeze(0)
        if query.device.type == "cpu" and query.dtype == torch.float32 and query.shape[2] == 1 and mask is not None:
            return cpu.attend_one(query, key, value, rule.scale, mask)
        if query.device.type == "cpu":
            out, lse = _flash_cpu(query, key, value, rule.scale, causal, mask)
            return out, _forget_blind_rows(lse, mask)
        if query.device.type == "cuda":
            out, lse = _fused_cuda(query, key, value, rule.scale, causal, mask)
            return out, _forget_blind_rows(lse, mask)
    return _math(query, key, value, rule, causal, mask)


def join(
    out: torch.Tensor, lse: torch.Tensor, other: torch.Tensor, other_lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over the union of two disjoint sets of keys. out [..., dim] and lse [...] of each; `out` is used up."""
    total = torch.logaddexp(lse, other_lse)
    mine, theirs = torch.exp(lse - total).unsqueeze(-1), torch.exp(other_lse - total).unsqueeze(-1)
    return out.mul_(mine.to(out.dtype)).addcmul_(other, theirs.to(out.dtype)), total


def apply_sinks(out: torch.Tensor, lse: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """Let each query also attend to its head's sink. out [tokens, heads, dim], lse [tokens, heads], sinks [heads]."""
    share = torch.sigmoid(lse - sinks.float())
    return out * share.unsqueeze(-1).to(out.dtype)


def window_mask(query_at: torch.Tensor, key_at: torch.Tensor, window: int | None, reach: int) -> torch.Tensor | None:
    """True where a key is too far back, [..., L, S]; None where no key is. Positions are [..., L] and [..., S].

    reach: how far back the furthest key is. Who knows that without asking the device spares waiting for it.
    """
    if window is None or reach < window:
        return None
    return query_at.unsqueeze(-1) - key_at.unsqueeze(-2) >= window


def additive(hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to add to scores, from one that is True where a key is hidden."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))


def _forget_blind_rows(lse: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None:
        return lse
    blind = torch.isneginf(mask).all(dim=-1)
    return lse.masked_fill(blind, float("-inf"))


def _flash_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    causal: bool,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, length, dim = query.shape
    if not causal and (mask is None or mask.shape[1:3] == (1, 1)):
        # Without an order among queries, the heads of a group are just more queries of one key head: larger products.
        query = query.reshape(batch, key.shape[1], -1, dim)
    # The public function does not return the log-sum-exp. This kernel groups heads by itself.
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = kernel(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)
    return out.reshape(batch, heads, length, dim), lse.reshape(batch, heads, length)


def _fused_cuda(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    causal: bool,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, length, dim = query.shape
    groups = heads // key.shape[1]
    if groups > 1 and not causal and mask is None:
        # Without an order among queries, the heads of a group are just more queries of one key head.
        query = query.reshape(batch, key.shape[1], groups * length, dim)
    elif groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if mask is None and query.dtype in (torch.float16, torch.bfloat16):
        result = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)
    else:
        bias = None
        if mask is not None:
            # The kernel reads a bias in steps of 16 bytes: rows begin at multiples of 8 values.
            width = key.shape[2]
            padded = mask.new_zeros((batch, heads, length, -(-width // 8) * 8))
            bias = padded[..., :width]
            bias[:] = mask
        kernel = torch.ops.aten._scaled_dot_product_efficient_attention
        result = kernel(query, key, value, bias, True, 0.0, causal, scale=scale)
    out, lse = result[0], result[1][..., : query.shape[2]]
    return out.reshape(batch, heads, length, -1), lse.reshape(batch, heads, length).float()


def _math(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rule: AttentionRule,
    causal: bool,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition, in float32, a bounded number of queries at a time."""
    batch, heads, length, _ = query.shape
    kv_heads, keys = key.shape[1], key.shape[2]
    grouped = query.reshape(batch, kv_heads, heads // kv_heads, length, -1)
    step = max(1, _MATH_BYTES // (4 * batch * heads * max(1, keys)))
    outs, lses = [], []
    for start in range(0, length, step):
        part = grouped[..., start : start + step, :]
        scores = torch.matmul(part, key.unsqueeze(2).transpose(-1, -2)).float() * rule.scale
        if rule.softcap is not None:
            scores = torch.tanh(scores / rule.softcap) * rule.softcap
        scores = scores.reshape(batch, heads, -1, keys)
        if causal:
            at = torch.arange(start, start + scores.shape[2], device=query.device)
            scores.masked_fill_(torch.arange(keys, device=query.device) > at.unsqueeze(-1), float("-inf"))
        if mask is not None:
            scores = scores + (mask if mask.shape[-2] == 1 else mask[..., start : start + step, :]).float()
        lse = torch.logsumexp(scores, dim=-1)
        weights = torch.exp(scores - lse.unsqueeze(-1).masked_fill(torch.isneginf(lse).unsqueeze(-1), 0.0))
        weights = weights.to(value.dtype).reshape(batch, kv_heads, heads // kv_heads, -1, keys)
        outs.append(torch.matmul(weights, value.unsqueeze(2)).reshape(batch, heads, -1, value.shape[-1]))
        lses.append(lse)
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)
