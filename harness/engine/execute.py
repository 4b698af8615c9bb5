"""Runs the encoded requests of a run on one model: shared where that is right, plain where it is not.

Sharing is checked on the first batches: a few sequences go through the model a second time, alone and by its own
attention. Where the two differ, or the shared pass fails, the rest runs plainly and the log says so.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.engine import memory
from harness.engine.attention import SharedAttention
from harness.engine.beams import BeamGenerator
from harness.engine.cpu import keep_freed_memory, speed_up_linear_layers
from harness.engine.cuda_graphs import DecodeSteps, graph_capture
from harness.engine.decoder import Decoder
from harness.engine.elementwise import thin_out
from harness.engine.encoder_decoder import EncoderDecoderScorer
from harness.engine.generate import SharedGenerator
from harness.engine.lanes import lanes_for
from harness.engine.limits import EngineLimits
from harness.engine.outcomes import Scored
from harness.engine.plain import BatchLimits, GenerateRow, Piece, PlainGenerator, PlainScorer
from harness.engine.processor import ImageProcessor
from harness.engine.rate import product_sizes
from harness.engine.score import SharedScorer
from harness.engine.sounds import SoundProcessor
from harness.engine.tokens import ScoreSequence
from harness.stopwatch import Stopwatch

log = logging.getLogger(__name__)

_SHAREABLE_LAYERS = {"full_attention", "sliding_attention"}
# Settings of a checkpoint that only transformers' own `generate` obeys.
_FOREIGN_GENERATION = (
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "sequence_bias",
    "exponential_decay_length_penalty",
    "min_length",
    "min_new_tokens",
)
_GENERATED_ROWS = {"cpu": 128, "cuda": 384}
# Each of several lanes reads all weights in each step: with fewer rows for each thread it would wait for memory. Types
# that processors multiply faster need more.
_ROWS_A_THREAD = {"float32": 32}
_MORE_ROWS_A_THREAD = 64


class SharingDiffersError(Exception):
    """A shared pass and a plain pass of the same tokens disagree."""


class _Asked:
    """Sequences that come a portion at a time, and may be wanted once more where a pass over them was given up.

    problem: what ended the portions before their end; it is no fault of a pass.
    """

    def __init__(self, portions: Iterable[Sequence[ScoreSequence]]) -> None:
        self.problem: Exception | None = None
        self._portions = iter(portions)
        self._taken: list[ScoreSequence] = []

    def left(self, done: set[tuple[int, int]]) -> Iterator[Sequence[ScoreSequence]]:
        """What is not done of the portions that were taken before, and then the others."""
        if again := [each for each in self._taken if (each.request, each.part) not in done]:
            yield again
        while self.problem is None:
            try:
                portion = next(self._portions)
            except StopIteration:
                return
            except Exception as error:
                self.problem = error
                return
            self._taken += portion
            yield portion

    def all_left(self, done: set[tuple[int, int]]) -> list[ScoreSequence]:
        """The same in one."""
        return [sequence for portion in self.left(done) for sequence in portion]


@dataclass
class Executor:
    """One model on one device. `notes` says, in words, where it could not share.

    rows: the most rows of a batch, as the command line allows; None for as many as fit. limits: how work is cut.
    processor: of a model that sees or hears.
    """

    model: Any
    device: str
    dtype: str
    pad_token: int
    rows: int | None = None
    limits: EngineLimits = field(default_factory=EngineLimits)
    share: bool = True
    processor: ImageProcessor | SoundProcessor | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cost = memory.TokenCost.of(self.model.config, 4 if self.dtype == "float32" else 2)
        self.is_encoder_decoder = bool(self.model.config.is_encoder_decoder)
        self.decoder: Decoder | None = None
        if isinstance(self.processor, SoundProcessor):
            from harness.engine.hearing import HearingDecoder

            self.decoder = HearingDecoder(self.model, self.device, self.dtype, self.processor)
        elif self.processor is not None:
            from harness.engine.vision import VisionDecoder

            self.decoder = VisionDecoder(self.model, self.device, self.dtype, self.processor)
        elif not self.is_encoder_decoder:
            self.decoder = Decoder(self.model, self.device, self.dtype)
        if self.device == "cpu":
            keep_freed_memory()
            speed_up_linear_layers(self.model)
            thin_out(self.model)
        reason = why_not_shared(self.model, self.model.config)
        self.attention = None
        if self.share and reason is None:
            self.attention = SharedAttention(self.model)
        elif self.share:
            self.notes.append(f"prefixes are not shared: {reason}")

    def time_by(self, clock: Stopwatch) -> None:
        """Tell this clock what the time goes to."""
        if self.attention is not None:
            self.attention.clock = clock

    @functools.cached_property
    def _product_sizes(self) -> tuple[int, int] | None:
        """Weights in the layers and in the head; None where they do not tell what a pass takes: packed, or of a model
        that sees or hears."""
        plain = self.decoder is not None and self.processor is None and not getattr(self.model, "hf_quantizer", None)
        if not plain or self.decoder is None or self.decoder.layers is None:
            return None
        return product_sizes(self.model, self.decoder.layers)

    @property
    def operations(self) -> float | None:
        """Of floating point, in products of matrices so far, attention left out; None where that is not known."""
        if self.decoder is None or self._product_sizes is None or not self.decoder.passed:
            return None
        layers, head = self._product_sizes
        return 2.0 * (layers * self.decoder.passed + head * self.decoder.read)

    def score(self, portions: Iterable[Sequence[ScoreSequence]]) -> Iterator[Piece]:
        """Outcomes of all sequences, which come a portion at a time, each as soon as it is known."""
        asked = _Asked(portions)
        decoder = self.decoder
        if decoder is None:
            limits = self._batch_limits(keeps_cache=False)
            scorer = EncoderDecoderScorer(self.model, limits, self.device, self.dtype, self.pad_token)
            yield from scorer.run(asked.all_left(set()))
        else:
            yield from self._with_fallback(
                lambda done: self.shared_scorer().run(asked.left(done)),
                lambda done: PlainScorer(decoder, self._batch_limits(keeps_cache=False)).run(asked.all_left(done)),
            )
        if asked.problem is not None:
            raise asked.problem

    def generate(self, rows: Sequence[GenerateRow]) -> Iterator[Piece]:
        """Outcomes of all rows, each as soon as it is finished."""
        if beams := [row for row in rows if row.rule.num_beams > 1]:
            yield from self.beam_generator().run(beams)
            rows = [row for row in rows if row.rule.num_beams == 1]
        if not rows:
            return

        def left(done: set[tuple[int, int]]) -> list[GenerateRow]:
            return [row for row in rows if (row.sequence.request, 0) not in done]

        plain = self.plain_generator()
        own = getattr(self.model, "generation_config", None)
        if foreign := [name for name in _FOREIGN_GENERATION if getattr(own, name, None)]:
            self._note(f"prompts are not shared: the checkpoint's generation config sets {', '.join(foreign)}")
            yield from plain.run(rows)
            return
        yield from self._with_fallback(
            lambda done: self.shared_generator(rows).run(left(done)), lambda done: plain.run(left(done))
        )

    def _with_fallback(
        self,
        shared: Callable[[set[tuple[int, int]]], Iterator[Piece]],
        plain: Callable[[set[tuple[int, int]]], Iterator[Piece]],
    ) -> Iterator[Piece]:
        """Run shared, with fused kernels, then without; and plainly when both go wrong before they are checked."""
        done: set[tuple[int, int]] = set()
        while self.attention is not None:
            try:
                for piece in shared(done):
                    done.add(piece[:2])
                    yield piece
                return
            except Exception as error:
                # An unknown architecture may stumble anywhere. Once a batch has come through, an error is real.
                if done and not isinstance(error, SharingDiffersError):
                    raise
                self._fall_back(error)
        yield from plain(done)

    def _fall_back(self, error: Exception) -> None:
        assert self.attention is not None
        reason = " ".join(str(error).split()) or type(error).__name__
        if self.attention.fast:
            self.attention.fast = False
            log.warning("sharing prefixes with fused kernels went wrong, trying without them: %s", reason)
        else:
            self.attention = None
            self._note(f"prefixes are not shared, which is slower: {reason}")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        log.warning(text)

    def shared_scorer(self, lanes: int | None = None) -> SharedScorer:
        """What scores where prefixes are shared. lanes: how many batches at once; None: as many as may be."""
        assert self.decoder is not None
        assert self.attention is not None
        lanes = lanes or self._lanes
        scorer = SharedScorer(self.decoder, self.attention, self._batch_limits(keeps_cache=True, at_once=lanes), lanes)
        scorer.plan_limits = self.limits.plan
        scorer.verify = self._verify_score
        return scorer

    def beam_generator(self) -> BeamGenerator:
        """What searches with beams."""
        room = BatchLimits(self.rows, memory.cached_tokens(self.device, self.cost))
        return BeamGenerator(self.model, room, self.device, self.pad_token)

    def plain_generator(self) -> PlainGenerator:
        """What generates where prefixes are not shared."""
        most = self.rows or _GENERATED_ROWS.get(self.device.split(":")[0], 64)
        room = BatchLimits(most, memory.cached_tokens(self.device, self.cost))
        return PlainGenerator(self.model, self.decoder, room, self.device, self.dtype, self.pad_token)

    def shared_generator(self, rows: Sequence[GenerateRow], of: int | None = None) -> SharedGenerator:
        """What generates where prefixes are shared. of: of how many rows these are a part."""
        assert self.decoder is not None
        assert self.attention is not None
        longest = max(len(row.sequence.tokens) + row.sequence.max_new_tokens for row in rows)
        room = memory.cached_tokens(self.device, self.cost) // longest
        slots = self.rows or max(1, min(room, _GENERATED_ROWS.get(self.device.split(":")[0], 64)))
        enough = _ROWS_A_THREAD.get(self.dtype, _MORE_ROWS_A_THREAD) * torch.get_num_threads()
        lanes = self._lanes if min(slots, of or len(rows)) >= enough else 1
        limits = self._batch_limits(keeps_cache=True, at_once=lanes)
        generator = SharedGenerator(self.decoder, self.attention, limits, slots, lanes)
        generator.plan_limits = self.limits.plan
        capture = graph_capture(self.model, self.device)
        generator.steps = functools.partial(
            DecodeSteps, self.decoder, self.attention, capture, self._tolerance(), self.limits.graphs
        )
        generator.verify = self._verify_logits
        return generator

    def _verify_score(self, sequence: ScoreSequence, found: Scored) -> None:
        """Raise SharingDiffersError when a plain pass scores a sequence otherwise."""
        assert self.decoder is not None
        for _, _, expected, _ in PlainScorer(self.decoder, BatchLimits(1, 1)).run([sequence]):
            if isinstance(expected, Scored):
                allowed = self._tolerance() * max(1.0, abs(expected.logprob))
                if not abs(found.logprob - expected.logprob) <= allowed:
                    raise SharingDiffersError(
                        f"a shared pass gave log-likelihood {found.logprob:.4f} where a plain one gives "
                        f"{expected.logprob:.4f}"
                    )

    @torch.inference_mode()
    def _verify_logits(self, tokens: Sequence[int], logits: torch.Tensor) -> None:
        """Raise SharingDiffersError when a plain pass predicts otherwise what follows `tokens`."""
        assert self.decoder is not None
        plain = self.decoder.logits(self.decoder.hidden(**self.decoder.padded([tokens]))[0, -1:])[0].float()
        apart = float((logits - plain).norm() / plain.norm().clamp(min=1e-6))
        if not apart <= self._tolerance():
            raise SharingDiffersError(f"a shared step's logits are {apart:.1%} away from those of a plain pass")

    def _tolerance(self) -> float:
        # Kernels of quantised layers round by how many rows there are, and by what stands in them.
        quantised = getattr(self.model, "hf_quantizer", None) is not None
        return 1e-3 if self.dtype == "float32" and not quantised else 0.1

    def _batch_limits(self, *, keeps_cache: bool, at_once: int = 1) -> BatchLimits:
        """A number of rows that the user chose is the most that a batch holds; long rows make it hold fewer."""
        rows = None if self.rows is None else self.rows // at_once
        return BatchLimits(rows, memory.batch_tokens(self.device, self.cost, keeps_cache, at_once))

    @property
    def _lanes(self) -> int:
        """How many passes are computed at once. A decoder of one's own places positions pass by pass."""
        several = type(self.decoder) is Decoder and self.rows != 1
        return lanes_for(self.model, self.device) if several else 1


def why_not_shared(model: Any, config: Any) -> str | None:
    """Why a model's prefixes cannot be shared, in words; None where they can, as far as its class tells.

    model: the model or its class. config: its configuration.
    """
    text = getattr(config, "text_config", None) or config
    if config.is_encoder_decoder:
        return "an encoder-decoder model reads each prompt as a whole"
    if getattr(model, "_is_stateful", False):
        return "the model carries a recurrent state"
    if not getattr(model, "_supports_attention_backend", False):
        return "the model does not use transformers' attention interface"
    strange = set(getattr(text, "layer_types", None) or ()) - _SHAREABLE_LAYERS
    return f"the model has layers of type {', '.join(sorted(strange))}" if strange else None
