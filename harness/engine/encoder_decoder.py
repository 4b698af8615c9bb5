"""Scoring with encoder-decoder models: a context is encoded once for all its continuations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from harness.engine.outcomes import Failed, Outcome, Scored
from harness.engine.plain import Limits, Piece, cut_batches, run_halving
from harness.engine.sampling import check_finite
from harness.engine.tokens import ScoreSequence

_HEAD_BYTES = 128 << 20


class EncoderDecoderScorer:
    """Scores `tokens[start:]` on the decoder's side, given `tokens[:start]` on the encoder's."""

    def __init__(self, model: Any, limits: Limits, device: str, dtype: str, pad_token: int) -> None:
        self.model = model
        self.limits = limits
        self.device = device
        self.dtype = dtype
        self.pad_token = pad_token
        starts = [getattr(c, "decoder_start_token_id", None) for c in (model.generation_config, model.config)]
        self.start_token = next((int(start) for start in starts if start is not None), pad_token)

    def run(self, sequences: Sequence[ScoreSequence]) -> Iterator[Piece]:
        ordered = sorted(sequences, key=lambda sequence: (-len(sequence.tokens), sequence.tokens))
        for batch in cut_batches(ordered, self._weight, self.limits):
            yield from run_halving(batch, self._run_batch, _fail, self.device)

    def _weight(self, sequence: ScoreSequence) -> int:
        """Tokens, and what the logits of the scored ones take, counted as tokens."""
        vocabulary = int(self.model.config.vocab_size)
        scored = len(sequence.tokens) - sequence.start
        return len(sequence.tokens) + scored * vocabulary * 8 * self.limits.tokens // _HEAD_BYTES

    @torch.inference_mode()
    def _run_batch(self, batch: list[ScoreSequence]) -> Iterator[Piece]:
        began = time.perf_counter()
        contexts = list(dict.fromkeys(sequence.tokens[: sequence.start] for sequence in batch))
        ids, mask = self._padded(contexts)
        states = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        owners = torch.tensor([contexts.index(s.tokens[: s.start]) for s in batch], device=self.device)
        answers = [sequence.tokens[sequence.start :] for sequence in batch]
        inputs, _ = self._padded([(self.start_token, *answer[:-1]) for answer in answers])
        logits = self.model(
            encoder_outputs=(states[owners],), attention_mask=mask[owners], decoder_input_ids=inputs, use_cache=False
        ).logits.float()
        targets, real = self._padded(answers)
        values = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(logits, dim=-1)
        check_finite(values[real.bool()], self.dtype)
        sums = (values.double() * real).sum(dim=-1).tolist()
        greedy = ((logits.argmax(dim=-1) == targets) | ~real.bool()).all(dim=-1).tolist()
        share = (time.perf_counter() - began) / len(batch)
        outcomes: list[Outcome] = [
            Scored(total, hit, len(answer)) for total, hit, answer in zip(sums, greedy, answers, strict=True)
        ]
        return iter([(s.request, s.part, outcome, share) for s, outcome in zip(batch, outcomes, strict=True)])

    def _padded(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(row) for row in rows)
        ids = torch.tensor([[*row, *[self.pad_token] * (width - len(row))] for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.device)
        return ids, mask


def _fail(sequence: ScoreSequence, reason: str) -> Iterator[Piece]:
    yield sequence.request, sequence.part, Failed(reason), 0.0
