"""Which token of a packed pass sees which keys: the rows of a plan, laid end to end."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from harness.engine import varlen
from harness.engine.attention import AttentionRule, additive, apply_sinks, attend, join, window_mask
from harness.engine.devices import upload
from harness.engine.kernels import Jobs, Kernels, kernels_for
from harness.engine.plan import PlanRow

# Rows of one attention call are padded to the longest: at most this much is spent on that.
_PADDING = 1.25


@dataclass
class KeyValues:
    """Keys and values of a path from the first token on: one tensor [1, kv heads, tokens, dim] a layer."""

    keys: dict[int, torch.Tensor] = field(default_factory=dict)
    values: dict[int, torch.Tensor] = field(default_factory=dict)


@dataclass
class _Bucket:
    """Rows that attend to themselves in one padded call.

    index: [rows, width], where in the pack each place is taken from (padding repeats the row's last token). targets
    and sources: where the real places go. contiguous: the rows are equally long and stand together. stem: up to here no
    row branches. reach: how far a row's first token is before its last.
    """

    index: torch.Tensor
    sources: torch.Tensor
    targets: torch.Tensor
    contiguous: tuple[int, int] | None
    positions: torch.Tensor
    hidden: torch.Tensor | None
    stem: int
    reach: int
    masks: dict[tuple[int | None, torch.dtype], torch.Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor | None:
        """What to add to scores, or None where plain causal attention is right."""
        key = (window, dtype)
        if key not in self.masks:
            far = window_mask(self.positions, self.positions, window, self.reach)
            hidden = self.hidden
            if far is not None:
                width = far.shape[-1]
                later = torch.ones(width, width, dtype=torch.bool, device=far.device).triu_(1)
                hidden = far | (later if hidden is None else hidden)
            self.masks[key] = None if hidden is None else additive(hidden.unsqueeze(1), dtype)
        return self.masks[key]


class PackLayout:
    """The rows of one batch: each token sees its own branch of its row, and the shared prefix that the row continues.

    prefixes: keys and values of the shared prefixes above, by row index. Those of rows that have children, or all where
    `keep_all`, are found in `cached` after the pass.
    """

    def __init__(
        self, rows: Sequence[PlanRow], prefixes: Mapping[int, KeyValues], device: str, keep_all: bool = False
    ) -> None:
        self.rows = rows
        self.device = device
        self.offsets = [0, *itertools.accumulate(len(row.tokens) for row in rows)][:-1]
        self.cached: dict[int, KeyValues] = {row.index: KeyValues() for row in rows if row.children or keep_all}
        self._prefixes = prefixes
        self._at = [at for row in rows for at in row.positions]
        self._positions = upload(self._at, device)
        self._paths = [member for member, row in enumerate(rows) if row.is_path]
        trees = [member for member, row in enumerate(rows) if not row.is_path]
        self._tree_buckets = [self._bucket(group) for group in _group_by_length(rows, trees)]
        self._masks: dict[tuple[int, int, torch.dtype], torch.Tensor | None] = {}
        self._shared = _runs_below_one_prefix(rows, self.offsets)
        self._read: tuple[int, torch.Tensor] | None = None

    def __len__(self) -> int:
        """Tokens of all rows. A pass may have more of them, behind: nothing is read there."""
        return len(self._at)

    def read_only_at(self, layer: int, places: torch.Tensor) -> None:
        """Say that of this layer's attention nothing is read but at some places of the pack."""
        self._read = layer, places.unique()

    def inputs(self) -> dict[str, torch.Tensor]:
        """`input_ids` and `position_ids`, [1, tokens]."""
        tokens = [token for row in self.rows for token in row.tokens]
        return {
            "input_ids": upload([tokens], self.device),
            "position_ids": self._positions.unsqueeze(0),
        }

    @functools.cached_property
    def _path_buckets(self) -> list[_Bucket]:
        """The rows that are paths, for padded calls."""
        return [self._bucket(group) for group in _group_by_length(self.rows, self._paths)]

    @functools.cached_property
    def _path_spans(self) -> varlen.Spans:
        """The rows that are paths, for calls without padding."""
        return varlen.Spans.of([len(self.rows[member].tokens) for member in self._paths], self.device)

    @functools.cached_property
    def _path_places(self) -> torch.Tensor | None:
        """Where the tokens of paths lie in the pack; None: everywhere."""
        if len(self._paths) == len(self.rows):
            return None
        places = [
            place
            for member in self._paths
            for place in range(self.offsets[member], self.offsets[member] + len(self.rows[member].tokens))
        ]
        return torch.as_tensor(upload(places, self.device))

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: AttentionRule
    ) -> torch.Tensor:
        heads, tokens = query.shape[0], query.shape[1]
        if self._read is not None and self._read[0] == layer and len(self._read[1]) == 0:
            self._keep(layer, key, value)
            return query.new_zeros((tokens, heads, value.shape[-1]))
        out = query.new_empty((tokens, heads, value.shape[-1]))
        lse = torch.empty((tokens, heads), dtype=torch.float32, device=query.device)
        if tokens > len(self):
            out[len(self) :], lse[len(self) :] = 0.0, 0.0
        kernels = kernels_for(query, key, value, rule)
        if kernels is not None and not (kernels.attends and (rule.window is None or max(self._at) < rule.window)):
            kernels = None
        if kernels is not None:
            for causal, jobs in self._own_jobs:
                kernels.attend(query, key, value, rule.scale, out, lse, jobs, causal=causal)
        else:
            self._attend_own(query, key, value, rule, out, lse)
        for start, end, prefix in self._shared:
            self._attend_above(layer, start, end, self._prefixes[prefix], query, rule, kernels, out, lse)
        self._keep(layer, key, value)
        return out if rule.sinks is None else apply_sinks(out, lse, rule.sinks)

    def _attend_own(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rule: AttentionRule,
        out: torch.Tensor,
        lse: torch.Tensor,
    ) -> None:
        """All rows to themselves, by torch's operators."""
        packed = bool(self._paths) and varlen.serves(query, value, rule)
        if packed:
            self._attend_paths(query, key, value, rule, out, lse)
        for bucket in self._tree_buckets if packed else (*self._path_buckets, *self._tree_buckets):
            self._attend_within(bucket, query, key, value, rule, out, lse)

    @functools.cached_property
    def _own_jobs(self) -> list[tuple[bool, Jobs]]:
        """What rows attend to of themselves, by whether a token sees nothing after it; trees by masks."""
        groups: dict[bool, list[tuple[int, int, int, int, int]]] = {}
        masks: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        for row, offset in zip(self.rows, self.offsets, strict=True):
            length, causal, begins = len(row.tokens), not row.blocks, -1
            if not row.is_path:
                begins = sum(len(mask) for mask in masks[causal])
                masks[causal].append(additive(_hidden(row, length), torch.float32).flatten())
            groups.setdefault(causal, []).append((offset, length, offset, length, begins))
        return [
            (causal, Jobs.of(jobs, torch.cat(masks[causal]) if masks[causal] else None))
            for causal, jobs in groups.items()
        ]

    def _attend_paths(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rule: AttentionRule,
        out: torch.Tensor,
        lse: torch.Tensor,
    ) -> None:
        places, spans = self._path_places, self._path_spans
        own = [tensor.transpose(0, 1) for tensor in (query, key, value)]
        if places is None:
            out[:], lse[:] = varlen.attend_spans(own[0], own[1], own[2], rule, spans, spans, causal=True)
            return
        places = places.to(query.device)
        own = [tensor[places] for tensor in own]
        out[places], lse[places] = varlen.attend_spans(own[0], own[1], own[2], rule, spans, spans, causal=True)

    def _attend_within(
        self,
        bucket: _Bucket,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        rule: AttentionRule,
        out: torch.Tensor,
        lse: torch.Tensor,
    ) -> None:
        mask = bucket.mask(rule.window, query.dtype)
        # A model that is spread over devices has layers elsewhere than the batch was made.
        mask = None if mask is None else mask.to(query.device)
        own_query, own_key, own_value = (_gather(tensor, bucket) for tensor in (query, key, value))
        stem = bucket.stem if mask is not None and rule.window is None else 0
        if stem == 0:
            part, part_lse = attend(own_query, own_key, own_value, rule, causal=mask is None, mask=mask)
        else:
            assert mask is not None
            # Causal up to where rows branch, and masked from there: a mask costs what it hides.
            upper = attend(own_query[:, :, :stem], own_key[:, :, :stem], own_value[:, :, :stem], rule, causal=True)
            lower = attend(own_query[:, :, stem:], own_key, own_value, rule, mask=mask[:, :, stem:])
            part, part_lse = (torch.cat(halves, dim=2) for halves in zip(upper, lower, strict=True))
        flat, flat_lse = part.transpose(1, 2).flatten(0, 1), part_lse.transpose(1, 2).flatten(0, 1)
        if bucket.contiguous is not None:
            start, end = bucket.contiguous
            out[start:end], lse[start:end] = flat, flat_lse
            return
        sources, targets = bucket.sources.to(query.device), bucket.targets.to(query.device)
        out[targets] = flat[sources]
        lse[targets] = flat_lse[sources]

    def _attend_above(
        self,
        layer: int,
        start: int,
        end: int,
        prefix: KeyValues,
        query: torch.Tensor,
        rule: AttentionRule,
        kernels: Kernels | None,
        out: torch.Tensor,
        lse: torch.Tensor,
    ) -> None:
        keys, values = prefix.keys[layer], prefix.values[layer]
        mask = self._mask_above(start, end, keys.shape[2], rule.window, query)
        chosen: slice | torch.Tensor = slice(start, end)
        if self._read is not None and self._read[0] == layer:
            read = self._read[1]
            chosen = read[(read >= start) & (read < end)]
            if len(chosen) == 0:
                return
            mask = mask if mask is None else mask[:, :, chosen - start]
        if kernels is not None:
            places = None if isinstance(chosen, slice) else chosen
            first, count = (start, end - start) if places is None else (0, len(places))
            jobs = Jobs.of([(first, count, 0, keys.shape[2], -1)])
            kernels.attend(query, keys[0], values[0], rule.scale, out, lse, jobs, join=True, places=places)
            return
        above, above_lse = attend(query[None, :, chosen], keys, values, rule, mask=mask)
        joined = join(out[chosen], lse[chosen], above[0].transpose(0, 1), above_lse[0].transpose(0, 1))
        out[chosen], lse[chosen] = joined

    def _mask_above(
        self, start: int, end: int, keys: int, window: int | None, query: torch.Tensor
    ) -> torch.Tensor | None:
        """What of a shared prefix is too far back for the tokens of a stretch; the same in all layers of one window."""
        if window is None:
            return None
        key = (start, window, query.dtype)
        if key not in self._masks:
            places = torch.arange(keys, device=self.device)
            far = window_mask(self._positions[start:end], places, window, max(self._at[start:end]))
            self._masks[key] = None if far is None else additive(far, query.dtype)[None, None]
        mask = self._masks[key]
        return None if mask is None else mask.to(query.device)

    def _keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        for row, start in zip(self.rows, self.offsets, strict=True):
            cached = self.cached.get(row.index)
            if cached is None:
                continue
            end = start + len(row.tokens)
            above = None if row.parent is None or not row.children else self._prefixes[row.parent]
            for store, tensor, before in (
                (cached.keys, key, above and above.keys),
                (cached.values, value, above and above.values),
            ):
                mine = tensor[None, :, start:end]
                store[layer] = (
                    mine.clone(memory_format=torch.contiguous_format)
                    if not before
                    else torch.cat((before[layer], mine), dim=2)
                )

    def _bucket(self, members: list[int]) -> _Bucket:
        width = max(len(self.rows[member].tokens) for member in members)
        index: list[list[int]] = []
        sources: list[int] = []
        targets: list[int] = []
        for line, member in enumerate(members):
            start, length = self.offsets[member], len(self.rows[member].tokens)
            index.append([start + min(place, length - 1) for place in range(width)])
            sources += range(line * width, line * width + length)
            targets += range(start, start + length)
        places = upload(index, self.device)
        together = targets == list(range(targets[0], targets[0] + len(members) * width))
        trees = any(not self.rows[member].is_path for member in members)
        hidden = torch.stack([_hidden(self.rows[member], width) for member in members]) if trees else None
        stem = 0
        if trees:  # up to here no row branches: each token sees what is before it, and nothing else
            rows = [self.rows[member] for member in members]
            stem = min(place for row in rows for place in (row.segments[0][1], *(start for start, _ in row.blocks)))
        return _Bucket(
            index=places,
            sources=upload(sources, self.device),
            targets=upload(targets, self.device),
            contiguous=(targets[0], targets[0] + len(targets)) if together else None,
            positions=self._positions[places],
            hidden=None if hidden is None else upload(hidden, self.device),
            stem=stem,
            reach=max(max(self.rows[member].positions) - self.rows[member].start for member in members),
        )


def _gather(tensor: torch.Tensor, bucket: _Bucket) -> torch.Tensor:
    """[heads, tokens, dim] -> [rows, heads, width, dim]."""
    rows, width = bucket.index.shape
    if bucket.contiguous is not None:
        start, end = bucket.contiguous
        return tensor[:, start:end].view(tensor.shape[0], rows, width, -1).transpose(0, 1)
    return tensor.transpose(0, 1)[bucket.index.to(tensor.device)].transpose(1, 2)


def _hidden(row: PlanRow, width: int) -> torch.Tensor:
    """[width, width], True where a token may not see another: later tokens, and other branches of the tree."""
    hidden = torch.ones(width, width, dtype=torch.bool)
    for segment, (start, end, _) in enumerate(row.segments):
        for above_start, above_end in row.path(segment)[:-1]:
            hidden[start:end, above_start:above_end] = False
        hidden[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).triu_(1)
    for start, end in row.blocks:
        hidden[start:end, start:end] = False
    # Padding sees the first token, so that no softmax is over nothing.
    hidden[len(row.tokens) :, 0] = False
    return hidden


def _group_by_length(rows: Sequence[PlanRow], members: Sequence[int]) -> list[list[int]]:
    """Group some of the rows so that padding each group to its longest row stays cheap."""
    groups: list[list[int]] = []
    group: list[int] = []
    real = 0
    for member in sorted(members, key=lambda index: -len(rows[index].tokens)):
        length = len(rows[member].tokens)
        if group and len(rows[group[0]].tokens) * (len(group) + 1) > _PADDING * (real + length):
            groups.append(sorted(group))
            group, real = [], 0
        group.append(member)
        real += length
    return [*groups, sorted(group)] if group else groups


def _runs_below_one_prefix(rows: Sequence[PlanRow], offsets: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first token, last token + 1, shared prefix) of each stretch of rows that continue the same shared prefix."""
    runs: list[tuple[int, int, int]] = []
    for row, start in zip(rows, offsets, strict=True):
        if row.parent is None:
            continue
        end = start + len(row.tokens)
        if runs and runs[-1][2] == row.parent and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], end, row.parent)
        else:
            runs.append((start, end, row.parent))
    return runs
