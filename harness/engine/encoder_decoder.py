"""Scoring with encoder-decoder models: a context is encoded once for all its continuations.

The head is run on a piece of the decoder's hidden states at a time. They are caught where the model's own code hands
them to its head, scaled as that architecture wants them, so that no [batch, length, vocabulary] tensor is ever made.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from harness.engine.decoder import score_positions
from harness.engine.outcomes import Failed, Scored, SequenceOutcome
from harness.engine.plain import BatchLimits, Piece, cut_batches, run_halving
from harness.engine.sampling import check_finite
from harness.engine.tokens import ScoreSequence

# Logits of one piece, in float32, with as much again for what is summed up.
_HEAD_BYTES = 64 << 20
_HEAD_POSITIONS = 32
Group = list[ScoreSequence]
"""Sequences of one context."""


class EncoderDecoderScorer:
    """Scores `tokens[start:]` on the decoder's side, given `tokens[:start]` on the encoder's."""

    def __init__(self, model: Any, limits: BatchLimits, device: str, dtype: str, pad_token: int) -> None:
        self.model = model
        self.limits = limits
        self.device = device
        self.dtype = dtype
        self.pad_token = pad_token
        starts = [getattr(c, "decoder_start_token_id", None) for c in (model.generation_config, model.config)]
        self.start_token = next((int(start) for start in starts if start is not None), pad_token)
        self._head = model.get_output_embeddings()
        self._splits = self._head_is_the_models()

    def run(self, sequences: Sequence[ScoreSequence]) -> Iterator[Piece]:
        # A batch holds groups here: as many as their sequences would be.
        share = max(1, len(sequences) // max(1, len({sequence.context for sequence in sequences})))
        rows = None if self.limits.rows is None else max(1, self.limits.rows // share)

        def fail(group: Group, reason: str) -> Iterator[Piece]:
            return ((sequence.request, sequence.part, Failed(reason), 0.0) for sequence in group)

        for batch in cut_batches(self._groups(sequences), _longest, BatchLimits(rows, self.limits.tokens)):
            yield from run_halving(batch, self._run_batch, fail, self.device)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Float32 logits [positions, vocabulary] of what the head is given [positions, hidden]."""
        if not self._splits:
            return hidden.float()
        logits: torch.Tensor = self._head(hidden)
        bias = getattr(self.model, "final_logits_bias", None)
        return (logits if bias is None else logits + bias.to(logits.device)).float()

    def chunks(self, positions: int) -> Iterator[tuple[int, int]]:
        """Cut a number of positions such that the logits of one piece stay small."""
        size = max(_HEAD_POSITIONS, _HEAD_BYTES // (8 * int(self.model.config.vocab_size)))
        for at in range(0, positions, size):
            yield at, min(positions, at + size)

    def _groups(self, sequences: Sequence[ScoreSequence]) -> list[Group]:
        """Sequences by context, the longest first; no more of them at once than a batch may hold."""
        by_context: dict[tuple[int, ...], Group] = {}
        for sequence in sorted(sequences, key=lambda sequence: (-len(sequence.tokens), sequence.tokens)):
            by_context.setdefault(sequence.context, []).append(sequence)
        groups = [
            part
            for group in by_context.values()
            for part in cut_batches(group, lambda sequence: len(sequence.scored), self.limits)
        ]
        return sorted(groups, key=lambda group: -_longest(group))

    @torch.inference_mode()
    def _run_batch(self, batch: list[Group]) -> Iterator[Piece]:
        began = time.perf_counter()
        contexts = [group[0].context for group in batch]
        sequences = [sequence for group in batch for sequence in group]
        ids, mask = self._padded(contexts)
        states = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        owners = torch.tensor([at for at, group in enumerate(batch) for _ in group], device=self.device)
        answers = [sequence.scored for sequence in sequences]
        inputs, _ = self._padded([(self.start_token, *answer[:-1]) for answer in answers])
        hidden = self._decode(
            encoder_outputs=(states[owners],), attention_mask=mask[owners], decoder_input_ids=inputs, use_cache=False
        )
        outcomes = self._score(hidden, answers)
        share = (time.perf_counter() - began) / len(sequences)
        return iter([(s.request, s.part, outcome, share) for s, outcome in zip(sequences, outcomes, strict=True)])

    def _score(self, hidden: torch.Tensor, answers: Sequence[Sequence[int]]) -> list[SequenceOutcome]:
        """Outcomes of answers, given what the head is to be given for them [answers, length, hidden]."""
        picked = torch.cat([row[: len(answer)] for row, answer in zip(hidden, answers, strict=True)])
        targets = torch.tensor([token for answer in answers for token in answer], device=picked.device)
        values, greedy = score_positions(self, picked, torch.arange(len(targets), device=picked.device), targets)
        check_finite(values, self.dtype)
        ends = list(itertools.accumulate(len(answer) for answer in answers))
        places = zip([0, *ends], ends, strict=False)
        return [
            Scored(float(values[start:end].double().sum()), bool(greedy[start:end].all()), end - start)
            for start, end in places
        ]

    def _decode(self, **inputs: Any) -> torch.Tensor:
        """What the model hands to its head, [rows, length, hidden]; its logits where they cannot be parted."""
        if not self._splits:
            logits: torch.Tensor = self.model(**inputs).logits
            return logits
        return _given_to(self._head, self.model, inputs)

    @torch.inference_mode()
    def _head_is_the_models(self) -> bool:
        """Compare with the model's own logits, once."""
        tokens = torch.arange(3, device=self.device).unsqueeze(0)
        inputs = {"input_ids": tokens, "decoder_input_ids": tokens, "use_cache": False}
        expected = self.model(**inputs).logits
        if self._head is None:
            return False
        self._splits = True
        try:
            logits = self.logits(_given_to(self._head, self.model, inputs)[0])
        except Exception:
            # Whatever an unknown architecture stumbles over here, its plain forward pass decides.
            return False
        return logits.shape == expected[0].shape and bool(torch.allclose(logits, expected[0].float(), 1e-3, 1e-4))

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(row) for row in rows)
        ids = torch.tensor([[*row, *[self.pad_token] * (width - len(row))] for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.device)
        return ids, mask


class _Caught(BaseException):
    """Ends a forward pass at the head. No model's own error handling takes it for an error."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def _given_to(head: Any, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """What a module of a model is given when the model runs; nothing behind that point is computed."""

    def catch(_: Any, args: tuple[torch.Tensor, ...]) -> None:
        raise _Caught(args[0])

    handle = head.register_forward_pre_hook(catch)
    try:
        model(**inputs)
    except _Caught as caught:
        return caught.hidden
    finally:
        handle.remove()
    raise RuntimeError("the model does not call its output embedding")


def _longest(group: Group) -> int:
    """Tokens that a group takes: its context once, and its longest answer for each of its sequences."""
    answer = max(len(sequence.scored) for sequence in group)
    return group[0].start + answer * len(group)
