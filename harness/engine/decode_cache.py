"""The KV cache of decoding: each row that is being generated has a slot for its own keys and values.

What the rows of a shared prefix have in common is stored once, beside the slots, and attended to in place.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import torch

from harness.engine import varlen
from harness.engine.attention import AttentionRule, additive, apply_sinks, attend, join, window_mask
from harness.engine.batches import KeyValues
from harness.engine.devices import upload
from harness.engine.kernels import Jobs, Kernels, kernels_for
from harness.engine.plain import GenerateRow
from harness.engine.sampling import RowChoice
from harness.quick import dataclass

# Slots of similar length attend together, up to so many places looked at that hold nothing: a call costs as much.
_EMPTY_PLACES = 256
# Slots are put in order when attention costs so much more than it would in order: that copies all of them.
_WORTH_ORDERING = 1.1


@dataclass(slots=True)
class DecodingRow:
    """A row that is being generated. `own`: its keys and values while it has no slot, [kv heads, length, dim] a layer.

    prefix: the plan row above it, or None; start: how many tokens that holds; length: how many of its own are cached.
    tokens: the answer so far, of which the last one is not cached yet. shift: how far its positions are ahead of the
    count of tokens (`PlanRow.shifts`).
    """

    row: GenerateRow
    choice: RowChoice
    history: list[int]
    prefix: int | None
    start: int
    length: int
    tokens: list[int]
    own: KeyValues | None
    seconds: float = 0.0
    shift: int = 0


@dataclass
class DecodeCache:
    """Keys and values of all active rows: [slots, kv heads, capacity, dim] a layer. The first slots are in use.

    padded: slots attend together up to the longest of them, as a step has shown, so that their order matters.
    """

    size: int
    capacity: int
    padded: bool = False
    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)

    def put(self, slot: int, own: KeyValues, length: int) -> None:
        """Copy a row's own keys and values into a slot."""
        for store, source in ((self.keys, own.keys), (self.values, own.values)):
            for layer, tensor in source.items():
                if layer not in store:
                    kv_heads, _, dim = tensor.shape
                    store[layer] = tensor.new_zeros((self.size, kv_heads, self.capacity, dim))
                store[layer][slot, :, :length] = tensor.to(store[layer].device)

    def take(self, slot: int, length: int, device: str) -> KeyValues:
        """Copy a slot's keys and values out, to `device`."""

        def copy(store: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
            return {layer: tensor[slot, :, :length].to(device, copy=True) for layer, tensor in store.items()}

        return KeyValues(copy(self.keys), copy(self.values))

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one slot over another."""
        for store in (self.keys, self.values):
            for tensor in store.values():
                tensor[target, :, :length] = tensor[source, :, :length]

    def reorder(self, order: Sequence[int], length: int) -> None:
        """Put slot `order[0]` first, and so on. length: of what the longest holds."""
        for store in (self.keys, self.values):
            for tensor in store.values():
                tensor[: len(order), :, :length] = tensor[list(order), :, :length]

    def shrink(self, slots: int) -> None:
        """Keep the first slots only."""
        self.size = slots
        for store in (self.keys, self.values):
            for layer, old in store.items():
                store[layer] = old[:slots].clone()


@dataclass(frozen=True, slots=True)
class _PrefixGroup:
    """Rows below one shared prefix; members None: all rows. latest: the greatest position among their newest tokens."""

    members: torch.Tensor | None
    prefix: int
    latest: int


class DecodeLayout:
    """One step of generation: each row's newest token sees the row's own tokens, and its shared prefix."""

    def __init__(
        self, active: Sequence[DecodingRow], cache: DecodeCache, prefixes: Mapping[int, KeyValues], device: str
    ) -> None:
        self.cache = cache
        self.device = device
        self._prefixes = prefixes
        self._tokens, self._lengths, self._starts, self._shifts = upload(_numbers(active), device)
        self._slots = torch.arange(len(active), device=device)
        self._parts = _by_length([row.length for row in active])
        self._groups = _by_prefix(active, device)
        self._masks: dict[Any, torch.Tensor | None] = {}
        self._spans: tuple[varlen.Spans, varlen.Spans] | None = None
        self._used: torch.Tensor | None = None

    def inputs(self) -> dict[str, torch.Tensor]:
        """`input_ids` and `position_ids`, [1, rows]."""
        return {
            "input_ids": self._tokens.unsqueeze(0),
            "position_ids": (self._starts + self._lengths + self._shifts).unsqueeze(0),
        }

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: AttentionRule
    ) -> torch.Tensor:
        keys, values = self.cache.keys, self.cache.values
        for store, new in ((keys, key), (values, value)):
            if layer not in store:
                # No row has anything of its own yet: all are ends of shared prefixes.
                store[layer] = new.new_zeros((self.cache.size, new.shape[0], self.cache.capacity, new.shape[2]))
        kernels = kernels_for(query, key, value, rule)
        if kernels is not None:
            out, lse = kernels.attend_slots(query, key, value, keys[layer], values[layer], self._lengths, rule)
        else:
            out, lse = self._attend_own(layer, query, key, value, rule)
        for group in self._groups:
            out, lse = self._attend_above(layer, query, group, rule, kernels, out, lse)
        return out if rule.sinks is None else apply_sinks(out, lse, rule.sinks)

    def _attend_own(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: AttentionRule
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put each row's new key and value into its slot, and attend to all that it holds, by torch's operators."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        for store, new in ((keys, key), (values, value)):
            # A model that is spread over devices has layers elsewhere than the step was made.
            store[self._slots.to(new.device), :, self._lengths.to(new.device)] = new.transpose(0, 1)
        self.cache.padded = not varlen.serves(query, value, rule)
        attends = self._attend_padded if self.cache.padded else self._attend_filled
        return attends(query, keys, values, rule)

    def _attend_padded(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rule: AttentionRule
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row to its own slot, looking at empty places too, hidden by a mask."""
        queries = query.transpose(0, 1).unsqueeze(2)
        pieces = [
            attend(
                queries[start:end],
                keys[start:end, :, :width],
                values[start:end, :, :width],
                rule,
                mask=self._mask(rule.window, query.dtype)[start:end, ..., :width].to(query.device),
            )
            for start, end, width in self._parts
        ]
        out = torch.cat([found[:, :, 0] for found, _ in pieces])
        return out, torch.cat([found_lse[:, :, 0] for _, found_lse in pieces])

    def _attend_filled(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rule: AttentionRule
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row to what its own slot holds. To the kernel, each key head of a slot is a sequence of its own."""
        heads, rows, dim = query.shape
        _, kv_heads, capacity, _ = keys.shape
        if self._spans is None:
            lengths = [1] * (rows * kv_heads)
            slots = varlen.Spans.of([capacity * one for one in lengths], self.device)
            self._spans = (varlen.Spans.of(lengths, self.device), slots)
        if self._used is None:
            self._used = (self._lengths + 1).repeat_interleave(kv_heads).int()
        queries, slots = self._spans
        out, lse = varlen.attend_spans(
            query.transpose(0, 1).reshape(rows * kv_heads, heads // kv_heads, dim),
            keys[:rows].reshape(-1, 1, dim),
            values[:rows].reshape(-1, 1, dim),
            rule,
            queries,
            slots,
            causal=True,
            used=self._used,
        )
        return out.reshape(rows, heads, dim), lse.reshape(rows, heads)

    def _attend_above(
        self,
        layer: int,
        query: torch.Tensor,
        group: _PrefixGroup,
        rule: AttentionRule,
        kernels: Kernels | None,
        out: torch.Tensor,
        lse: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        prefix = self._prefixes[group.prefix]
        keys, values = prefix.keys[layer], prefix.values[layer]
        members = None if group.members is None else group.members.to(query.device)
        mask = self._mask_above(group, keys.shape[2], rule.window, query)
        if kernels is not None and kernels.attends and mask is None:
            rows = query.shape[1] if members is None else len(members)
            jobs = Jobs.of([(0, rows, 0, keys.shape[2], -1)])
            kernels.attend(query, keys[0], values[0], rule.scale, out, lse, jobs, join=True, places=members)
            return out, lse
        chosen = query if members is None else query[:, members]
        above, above_lse = attend(chosen.unsqueeze(0), keys, values, rule, mask=mask)
        other, other_lse = above[0].transpose(0, 1), above_lse[0].transpose(0, 1)
        if members is None:
            return join(out, lse, other, other_lse)
        out, lse = out.clone(), lse.clone()
        out[members], lse[members] = join(out[members], lse[members], other, other_lse)
        return out, lse

    def _mask_above(
        self, group: _PrefixGroup, keys: int, window: int | None, query: torch.Tensor
    ) -> torch.Tensor | None:
        """What of a shared prefix is too far back for the rows below it; the same in all layers of one window."""
        key = (group.prefix, window, query.dtype)
        if key not in self._masks:
            at = self._starts + self._lengths
            at = at if group.members is None else at[group.members]
            far = window_mask(at, torch.arange(keys, device=self.device), window, group.latest)
            self._masks[key] = None if far is None else additive(far, query.dtype)[None, None]
        mask = self._masks[key]
        return None if mask is None else mask.to(query.device)

    def _mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """[rows, 1, 1, width]: places of a slot that hold nothing yet, or are too far back, are hidden."""
        key = (window, dtype)
        if (mask := self._masks.get(key)) is None:
            places = torch.arange(max(width for _, _, width in self._parts), device=self.device)
            hidden = places > self._lengths.unsqueeze(-1)
            if window is not None:
                hidden |= self._lengths.unsqueeze(-1) - places >= window
            mask = self._masks[key] = additive(hidden[:, None, None], dtype)
        return mask


class StaticDecodeLayout(DecodeLayout):
    """A step of all slots below one shared prefix, which is computed at the same places of memory each time.

    What differs between steps is copied there by `load`. Free slots are computed too: such a row has no tokens, and
    writes where nobody reads.
    """

    def __init__(
        self, active: Sequence[DecodingRow], cache: DecodeCache, prefixes: Mapping[int, KeyValues], device: str
    ) -> None:
        super().__init__(active, cache, prefixes, device)
        self._numbers = torch.zeros(4, cache.size, dtype=torch.long, device=device)
        self._tokens, self._lengths, self._starts, self._shifts = self._numbers
        self._slots = torch.arange(cache.size, device=device)
        self._parts = [(0, cache.size, cache.capacity)]
        self._groups = [_PrefixGroup(None, group.prefix, sys.maxsize) for group in self._groups]
        self.load(active)

    def load(self, active: Sequence[DecodingRow]) -> None:
        """Make the next step that of these rows."""
        free = [0] * (self.cache.size - len(active))
        numbers = [[*numbers, *free] for numbers in _numbers(active)]
        self._numbers.copy_(upload(numbers, self.device), non_blocking=True)

    def renewed(self) -> StaticDecodeLayout:
        """This layout, without what it computed from the numbers of a step before."""
        self._masks.clear()
        self._used = None
        return self


def prefixes_of(active: Sequence[DecodingRow]) -> list[int | None]:
    """The shared prefixes that rows look up to, each once; None stands for rows without one."""
    return list(dict.fromkeys(row.prefix for row in active))


def _numbers(active: Sequence[DecodingRow]) -> list[list[int]]:
    """The newest token of each row, how many tokens of its own are cached, how many are above, and its shift."""
    return [
        [row.tokens[-1] for row in active],
        [row.length for row in active],
        [row.start for row in active],
        [row.shift for row in active],
    ]


def better_order(lengths: Sequence[int]) -> list[int] | None:
    """The slots, the longest first, where it pays to put them in this order: a slot is looked at up to the longest that
    attends with it. None where it does not."""
    order = sorted(range(len(lengths)), key=lambda slot: -lengths[slot])
    ordered = _by_length([lengths[slot] for slot in order])
    return order if _cost(_by_length(lengths)) > _WORTH_ORDERING * _cost(ordered) else None


def _cost(parts: Sequence[tuple[int, int, int]]) -> int:
    """Of attention over these stretches, in places looked at."""
    return sum((end - start) * width + _EMPTY_PLACES for start, end, width in parts)


def _by_length(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first slot, last slot + 1, tokens to look at) of each stretch of slots that attend together."""
    parts: list[tuple[int, int, int]] = []
    start = longest = held = 0
    for slot, length in enumerate(lengths):
        wider = max(longest, length + 1)
        if slot > start and wider * (slot + 1 - start) - held - length > _EMPTY_PLACES:
            parts.append((start, slot, longest))
            start, wider, held = slot, length + 1, 0
        longest, held = wider, held + length + 1
    return [*parts, (start, len(lengths), longest)]


def _by_prefix(active: Sequence[DecodingRow], device: str) -> list[_PrefixGroup]:
    """The rows of each shared prefix in use."""
    groups: list[_PrefixGroup] = []
    for prefix in prefixes_of(active):
        if prefix is None:
            continue
        members = [index for index, row in enumerate(active) if row.prefix == prefix]
        latest = max(active[index].start + active[index].length for index in members)
        everyone = len(members) == len(active)
        groups.append(_PrefixGroup(None if everyone else upload(members, device), prefix, latest))
    return groups
