"""Beam search by transformers' own `generate`: its results to the token. Prompts are not shared.

--gen_kwargs num_beams=4,length_penalty=1.2,early_stopping=true
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from harness.engine.plain import BatchLimits, GenerateRow, Piece, cut_batches, failed_row, padded_ids, run_halving
from harness.stopwatch import Seconds


def _longest(row: GenerateRow) -> int:
    return len(row.sequence.tokens) + row.sequence.max_new_tokens


class BeamGenerator:
    """Continues prompts of any decoder or encoder-decoder with the likeliest of `num_beams` beams.

    Rows of one batch have the same beams, limits and ends. A stop string cuts the answer; it ends no beam.
    begun: when the latest batch had been through its prompts.
    """

    def __init__(self, model: Any, limits: BatchLimits, device: str, pad_token: int) -> None:
        self.model = model
        self.limits = limits
        self.device = device
        self.pad_token = pad_token
        self.begun: Seconds | None = None

    def run(self, rows: Sequence[GenerateRow]) -> Iterator[Piece]:
        for batch in self.batches(rows):
            yield from run_halving(batch, self._run_batch, failed_row, self.device)

    def batches(self, rows: Sequence[GenerateRow]) -> Iterator[list[GenerateRow]]:
        """Rows that are continued together, the longest first."""
        alike: dict[Any, list[GenerateRow]] = {}
        for row in sorted(rows, key=lambda row: -len(row.sequence.tokens)):
            # A model with a recurrent state would carry padding along.
            length = len(row.sequence.tokens) if getattr(self.model, "_is_stateful", False) else 0
            key = (row.rule, row.sequence.max_new_tokens, row.stop.eos_ids, length)
            alike.setdefault(key, []).append(row)
        for (rule, *_), group in alike.items():
            beams = BatchLimits(
                None if self.limits.rows is None else max(1, self.limits.rows // rule.num_beams),
                self.limits.tokens // rule.num_beams,
            )
            yield from cut_batches(group, _longest, beams)

    @torch.inference_mode()
    def _run_batch(self, batch: list[GenerateRow]) -> Iterator[Piece]:
        import transformers

        new_config: Any = transformers.GenerationConfig
        began, first = time.perf_counter(), batch[0]
        decodes_apart = bool(self.model.config.is_encoder_decoder)
        ids, mask = padded_ids([row.sequence.tokens for row in batch], self.pad_token, left=not decodes_apart)
        config = new_config(
            max_new_tokens=first.sequence.max_new_tokens,
            do_sample=False,
            num_beams=first.rule.num_beams,
            length_penalty=first.rule.length_penalty,
            early_stopping=first.rule.early_stopping,
            repetition_penalty=first.rule.repetition_penalty,
            pad_token_id=self.pad_token,
            eos_token_id=sorted(first.stop.eos_ids) or None,
        )
        inputs = {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}
        self.begun = None
        made = self.model.generate(**inputs, generation_config=config, logits_processor=[self._note_begin])
        share = (time.perf_counter() - began) / len(batch)
        start = 1 if decodes_apart else ids.shape[1]
        pieces: list[Piece] = []
        for row, tokens in zip(batch, made[:, start:].tolist(), strict=True):
            end = next((at + 1 for at, token in enumerate(tokens) if token in row.stop.eos_ids), len(tokens))
            pieces.append((row.sequence.request, 0, row.stop.finish(tokens[:end]), share))
        return iter(pieces)

    def _note_begin(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Called by transformers with the scores of each next token, which stay as they are."""
        self.begun = self.begun or Seconds.now()
        return scores
