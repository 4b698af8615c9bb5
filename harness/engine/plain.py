"""Padded batches without any sharing: right for every architecture, and what the shared engine is checked against.

Rows are sorted by length and cut by tokens, the longest first, so that running out of memory happens at once and an
estimate of the time left errs to the safe side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from itertools import groupby
from typing import Any, TypeVar

import torch

from harness.engine.decoder import Decoder, score_positions
from harness.engine.memory import is_out_of_memory, release, wanted
from harness.engine.outcomes import Failed, Scored, SequenceOutcome
from harness.engine.sampling import RowChoice, SamplingRule, check_finite, choose_tokens, random_stream
from harness.engine.stops import StopRule
from harness.engine.thinking_budget import ThinkingBudget
from harness.engine.tokens import GenerateSequence, ScoreSequence
from harness.quick import dataclass
from harness.stopwatch import Seconds

T = TypeVar("T")
R = TypeVar("R")
Piece = tuple[int, int, SequenceOutcome, float]
"""(request, part, outcome, seconds)"""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one batch may hold: rows (None: any number) and tokens, padding included."""

    rows: int | None
    tokens: int


@dataclass(slots=True)
class ScoreRow:
    """One input of the model and everything that is scored on it: sequences that differ in their last token only."""

    tokens: tuple[int, ...]
    sequences: list[ScoreSequence] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The first position whose prediction is scored."""
        return min(sequence.start for sequence in self.sequences) - 1


def score_rows(sequences: Sequence[ScoreSequence]) -> list[ScoreRow]:
    """Sequences with the same input are one row: the four letters of a question cost one forward pass."""
    rows: dict[tuple[int, ...], ScoreRow] = {}
    for sequence in sequences:
        tokens = sequence.inputs
        rows.setdefault(tokens, ScoreRow(tokens)).sequences.append(sequence)
    return sorted(rows.values(), key=lambda row: -len(row.tokens))


def cut_batches(items: Sequence[T], length: Callable[[T], int], limits: BatchLimits) -> Iterator[list[T]]:
    """Cut a list, longest first, such that rows times the longest row stays within the limits."""
    batch: list[T] = []
    longest = 0
    for item in items:
        longest = max(longest, length(item))
        full = limits.rows is not None and len(batch) >= limits.rows
        if batch and (full or longest * (len(batch) + 1) > limits.tokens):
            yield batch
            batch, longest = [], length(item)
        batch.append(item)
    if batch:
        yield batch


def padded_batches(lengths: Iterable[int], limits: BatchLimits) -> list[int]:
    """Tokens of each batch that goes through a model for inputs of these lengths, padding included."""
    batches = cut_batches(sorted(lengths, reverse=True), lambda length: length, limits)
    return [len(batch) * batch[0] for batch in batches]


def lengths_alone(scores: Sequence[ScoreSequence], is_encoder_decoder: bool) -> list[int]:
    """How long each input is, where sequences are scored without sharing anything."""
    if not is_encoder_decoder:
        return [len(tokens) for tokens in {sequence.inputs for sequence in scores}]
    # A context is read once for all its answers.
    by_context = groupby(sorted(scores, key=lambda s: s.context), key=lambda s: s.context)
    return [len(context) + sum(len(s.scored) for s in group) for context, group in by_context]


def run_halving(
    batch: list[T], run: Callable[[list[T]], Iterator[R]], fail: Callable[[T, str], Iterator[R]], device: str
) -> Iterator[R]:
    """Run a batch; when memory runs out, run its halves. One item that does not fit alone is an error of its own."""
    try:
        done = list(run(batch))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        done, more = None, wanted(error)
    if done is not None:
        yield from done
        return
    # Outside the handler: the exception holds the frames, and they the tensors.
    release(device)
    if len(batch) == 1:
        yield from fail(
            batch[0], f"{device} has too little memory for this request alone{more}: try a shorter max_length"
        )
        return
    middle = len(batch) // 2
    yield from run_halving(batch[:middle], run, fail, device)
    yield from run_halving(batch[middle:], run, fail, device)


class PlainScorer:
    """Scores sequences of a causal model in right-padded batches."""

    def __init__(self, decoder: Decoder, limits: BatchLimits) -> None:
        self.decoder = decoder
        self.limits = limits

    def run(self, sequences: Sequence[ScoreSequence]) -> Iterator[Piece]:
        def fail(row: ScoreRow, reason: str) -> Iterator[Piece]:
            return ((sequence.request, sequence.part, Failed(reason), 0.0) for sequence in row.sequences)

        for batch in cut_batches(score_rows(sequences), lambda row: len(row.tokens), self.limits):
            yield from run_halving(batch, self._run_batch, fail, self.decoder.device)

    @torch.inference_mode()
    def _run_batch(self, batch: list[ScoreRow]) -> Iterator[Piece]:
        began = time.perf_counter()
        width = max(len(row.tokens) for row in batch)
        # Causal attention never looks at what pads a row on its right, whichever token it is.
        ids = [[*row.tokens, *row.tokens[-1:] * (width - len(row.tokens))] for row in batch]
        hidden = self.decoder.hidden(**self.decoder.padded(ids))
        targets = ScoreTargets()
        picked = []
        for index, row in enumerate(batch):
            picked.append(hidden[index, row.first : len(row.tokens)])
            targets.add_row(row)
        outcomes = targets.score(self.decoder, torch.cat(picked))
        share = (time.perf_counter() - began) / max(1, len(outcomes))
        return iter([(sequence.request, sequence.part, outcome, share) for sequence, outcome in outcomes])


class ScoreTargets:
    """Which (position, token) pairs of a batch are scored, and for which sequence.

    Positions count the rows of the hidden states that are gathered for scoring, in the order in which rows are added.
    """

    def __init__(self) -> None:
        self.sequences: list[ScoreSequence] = []
        self._positions: list[int] = []
        self._tokens: list[int] = []
        self._owners: list[int] = []
        self._count = 0

    def add_row(self, row: ScoreRow) -> None:
        """Take a row whose hidden states from `row.first` to its end are gathered."""
        for sequence in row.sequences:
            offset = self._count + sequence.start - 1 - row.first
            self.add(sequence, range(offset, offset + len(sequence.scored)))
        self._count += len(row.tokens) - row.first

    def add(self, sequence: ScoreSequence, positions: Sequence[int]) -> None:
        """Take a sequence whose scored tokens are predicted at `positions` of the gathered hidden states."""
        self._positions += positions
        self._tokens += sequence.scored
        self._owners += [len(self.sequences)] * (len(sequence.scored))
        self.sequences.append(sequence)

    def score(self, decoder: Decoder, hidden: torch.Tensor) -> list[tuple[ScoreSequence, SequenceOutcome]]:
        """Outcomes of all sequences, given the gathered hidden states [N, hidden]."""
        positions = torch.tensor(self._positions)
        order = torch.argsort(positions, stable=True)
        scored = score_positions(decoder, hidden, positions[order], torch.tensor(self._tokens)[order])
        values, greedy = (tensor.cpu() for tensor in scored)
        check_finite(values, decoder.dtype)
        owners = torch.tensor(self._owners)[order]
        sums = torch.zeros(len(self.sequences), dtype=torch.float64).index_add_(0, owners, values.double())
        misses = torch.zeros(len(self.sequences)).index_add_(0, owners, (~greedy).float())
        return [
            (sequence, Scored(total, missed == 0, len(sequence.scored)))
            for sequence, total, missed in zip(self.sequences, sums.tolist(), misses.tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class GenerateRow:
    """One prompt to continue, with what ends it, how its tokens are chosen, and when its reasoning is ended."""

    sequence: GenerateSequence
    stop: StopRule
    rule: SamplingRule
    budget: ThinkingBudget | None = None

    def token_after(self, written: Sequence[int], chosen: int) -> int:
        """The token that follows those of the answer so far: the chosen one, unless another is forced."""
        forced = None if self.budget is None else self.budget.forced(written)
        return chosen if forced is None else forced


class PlainGenerator:
    """Continues prompts with transformers' `generate`: any architecture, its own cache, static batches.

    A model with a recurrent state would carry padding along in it: its batches hold prompts of one length only.
    begun: when the latest batch had the first token of each row.
    """

    def __init__(
        self, model: Any, decoder: Decoder | None, limits: BatchLimits, device: str, dtype: str, pad_token: int
    ) -> None:
        self.model = model
        self.decoder = decoder
        self.limits = limits
        self.device = device
        self.dtype = dtype
        self.pad_token = pad_token
        self.needs_equal_lengths = bool(getattr(model, "_is_stateful", False))
        self.begun: Seconds | None = None

    def run(self, rows: Sequence[GenerateRow]) -> Iterator[Piece]:
        for batch in self.batches(rows):
            yield from run_halving(batch, self._run_batch, failed_row, self.device)

    def batches(self, rows: Sequence[GenerateRow]) -> Iterator[list[GenerateRow]]:
        """Rows that are continued together, the longest first."""
        ordered = sorted(rows, key=lambda row: -len(row.sequence.tokens))
        groups = [ordered]
        if self.needs_equal_lengths:
            lengths = sorted({len(row.sequence.tokens) for row in rows}, reverse=True)
            groups = [[row for row in ordered if len(row.sequence.tokens) == length] for length in lengths]

        def longest(row: GenerateRow) -> int:
            return len(row.sequence.tokens) + row.sequence.max_new_tokens

        for group in groups:
            yield from cut_batches(group, longest, self.limits)

    @torch.inference_mode()
    def _run_batch(self, batch: list[GenerateRow]) -> Iterator[Piece]:
        import transformers

        new_config: Any = transformers.GenerationConfig

        began = time.perf_counter()
        decodes_apart = bool(self.model.config.is_encoder_decoder)
        ids, mask = padded_ids([row.sequence.tokens for row in batch], self.pad_token, left=not decodes_apart)
        start = 1 if decodes_apart else ids.shape[1]
        progress = _Progress(batch, start, self.dtype)
        # What ends some rows only is up to `progress`.
        eos = sorted(frozenset.intersection(*(row.stop.eos_ids for row in batch)))
        # Penalties and draws are ours, per row; None and 1.0 keep the checkpoint's own from being applied as well.
        config = new_config(
            max_new_tokens=max(row.sequence.max_new_tokens for row in batch),
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            pad_token_id=self.pad_token,
            eos_token_id=eos or None,
        )
        inputs: Any = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        if self.decoder is not None:
            inputs = self.decoder.generated(ids.tolist(), mask)
        self.model.generate(
            **inputs,
            generation_config=config,
            logits_processor=[progress.choose],
            stopping_criteria=[progress.finished],
        )
        self.begun = progress.begun
        share = (time.perf_counter() - began) / len(batch)
        return iter(
            [
                (row.sequence.request, 0, row.stop.finish(tokens), share)
                for row, tokens in zip(batch, progress.tokens, strict=True)
            ]
        )


class _Progress:
    """The rows of one call of `generate`: chooses their tokens and remembers those before each row's own end."""

    def __init__(self, batch: Sequence[GenerateRow], start: int, dtype: str) -> None:
        self.batch = batch
        self.start = start
        self.dtype = dtype
        self.tokens: list[list[int]] = [[] for _ in batch]
        self.done = [False] * len(batch)
        self.begun: Seconds | None = None
        self._streams = [random_stream(row.sequence.params.seed, row.sequence.repeat) for row in batch]

    def choose(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """A logits processor whose largest value is at the token that is to come."""
        del input_ids
        rows = [
            RowChoice(row.rule, stream, (*row.sequence.tokens, *tokens), len(row.sequence.tokens))
            for row, stream, tokens in zip(self.batch, self._streams, self.tokens, strict=True)
        ]
        drawn = choose_tokens(scores.float().clone(), rows, self.dtype)
        places = zip(self.batch, self.tokens, drawn, strict=True)
        chosen = [row.token_after(tokens, token) for row, tokens, token in places]
        forced = torch.full_like(scores, torch.finfo(scores.dtype).min)
        forced[torch.arange(len(chosen)), torch.tensor(chosen, device=scores.device)] = 0.0
        self.begun = self.begun or Seconds.now()
        return forced

    def finished(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """A stopping criterion that answers for each row."""
        del scores
        latest: list[int] = input_ids[:, -1].tolist()
        for index, token in enumerate(latest):
            if not self.done[index]:
                self.tokens[index].append(token)
                self.done[index] = self.batch[index].stop.ends(self.tokens[index])
        return torch.tensor(self.done, device=input_ids.device)


def failed_row(row: GenerateRow, reason: str) -> Iterator[Piece]:
    """The piece of a row that did not fit into memory."""
    yield row.sequence.request, 0, Failed(reason), 0.0


def padded_ids(rows: Sequence[Sequence[int]], pad_token: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of some rows, shape [rows, longest]."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_token, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[index, place] = torch.tensor(row)
        mask[index, place] = 1
    return ids, mask
