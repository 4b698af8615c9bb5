"""Foresees how long a model takes on a processor: some of a run's own prompts go through a model of the same shape
whose weights are random, which takes as long.

    probe(encoded, original).seconds
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from typing import Any

import torch

from harness.engine import memory
from harness.engine.beams import BeamGenerator
from harness.engine.cpu import threads
from harness.engine.execute import Executor
from harness.engine.generate import longest_slot
from harness.engine.hearing import HearingDecoder
from harness.engine.image_prompts import FIRST_ID
from harness.engine.libraries import import_model_classes
from harness.engine.plain import BatchLimits, GenerateRow, PlainGenerator, lengths_alone, padded_batches
from harness.engine.planned_scores import plan_scores
from harness.engine.prompt_queue import plan_generations
from harness.engine.sampling import sampling_rule
from harness.engine.stand_in import Original
from harness.engine.stops import StopRule
from harness.engine.tokens import Encoded, GenerateSequence, PlacedImage, ScoreSequence
from harness.engine.vision import VisionDecoder
from harness.errors import DataError
from harness.quick import dataclass
from harness.stopwatch import Seconds, peak_memory
from harness.types import GenerationParams
from harness.words import Phrase, phrase

_TOKENS = 2048
"""That a probe of scoring computes, so that batches are as full as in the run."""
_PROMPTS, _STEPS = 16, 7
"""Of a probe of generation: distinct prompts up to their first token, and tokens of each answer."""
_GROWN_TOKENS = 16_384
"""Of distinct prompts, about, with which steps are timed."""
_SHOWN = 4
"""Images or sounds that go through the tower of a stand-in."""


@dataclass(frozen=True, slots=True)
class StandInTimes:
    """seconds: that scoring and generating take, if each answer has all its tokens. tokens: that went through the
    stand-in. layers: that it had, where it had not all of them. opening: seconds until a model of the shape was made.
    unmade: bytes that the run takes beyond those of the stand-in: weights and caches of layers that it had not, slots
    for the longest answer of all, and what a pass takes once more for each lane beside the first."""

    seconds: Seconds
    tokens: int
    layers: tuple[int, ...]
    opening: Seconds
    unmade: int

    @property
    def text(self) -> Phrase:
        """How the seconds are known, as the end of a sentence."""
        if not self.layers:
            what = "as {n} tokens of these prompts took in a model of this shape with random weights"
            return phrase(what, n=f"{self.tokens:,}")
        few, more = self.layers
        return phrase(
            "as {n} tokens of these prompts took in a model of this shape with {few} and {more} of its layers with "
            "random weights",
            n=f"{self.tokens:,}",
            few=few,
            more=more,
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """Some of what is to be computed: seconds that all of it takes, tokens that were computed to know it, and bytes
    that the run takes beyond those."""

    seconds: Seconds = Seconds()
    tokens: int = 0
    unmade: int = 0

    def __add__(self, other: _Part) -> _Part:
        """Of both, one after the other."""
        return _Part(self.seconds + other.seconds, self.tokens + other.tokens, max(self.unmade, other.unmade))


def probe(encoded: Encoded, original: Original) -> StandInTimes:
    """Time a part of what is to be computed, on the processor."""
    found: list[Seconds] = []
    weights: list[int] = []
    tokens, opening, beside = 0, Seconds(), 0
    shown, slots = Seconds(), 0
    for layers in original.depths:
        began = Seconds.now()
        import_model_classes()
        executor = original.stand_in(layers)
        opening = opening if found else Seconds.now().since(began)
        shown = _showing(executor, encoded)
        shared = executor.attention is not None
        scoring = (_scoring if shared else _scoring_alone)(executor, encoded.scores)
        searched, asked = _searched(encoded.generations)
        generating = _Part()
        if asked and shared:
            generating = _generating(executor, original, asked)
        elif asked:
            generating = _in_batches(executor, executor.plain_generator(), original, asked)
        if searched:
            generating += _in_batches(executor, executor.beam_generator(), original, searched)
        found.append(scoring.seconds + generating.seconds)
        weights.append(sum(each.numel() * each.element_size() for each in executor.model.parameters()))
        tokens += scoring.tokens + generating.tokens
        beside = max(beside, scoring.unmade)  # a second stand-in passes through memory that the first has left
        slots = generating.unmade
    if len(found) == 1:
        return StandInTimes(found[0] + shown, tokens, (), opening, beside + slots)
    few, more = (int(layers or 0) for layers in original.depths)
    missing = (original.depth - more) / (more - few)
    whole = found[1] + found[1].since(found[0]) * missing + shown
    unmade = beside + slots + int((weights[1] - weights[0]) * missing)
    return StandInTimes(whole, tokens, (few, more), opening, unmade)


@torch.inference_mode()
def _showing(executor: Executor, encoded: Encoded) -> Seconds:
    """What it takes to send all images or sounds through their tower, once each: as long for each of its tokens as a
    few of them took."""
    decoder = executor.decoder
    everything = _images([*encoded.scores, *encoded.generations])
    if not isinstance(decoder, VisionDecoder | HearingDecoder) or not everything:
        return Seconds()
    ordered = sorted(everything, key=lambda image: image.count)
    some = ordered[len(ordered) // (2 * _SHOWN) :: max(1, len(ordered) // _SHOWN)][:_SHOWN]
    took, tokens = Seconds(), 0
    for turn, image in enumerate((some[0], *some)):
        began = Seconds.now()
        try:
            decoder.encode(image)
        except DataError:  # the error of its samples
            continue
        if turn:  # what is done once is not of the rate
            took += Seconds.now().since(began)
            tokens += image.count
    return took * (sum(image.count for image in ordered) / max(1, tokens))


def _images(sequences: Iterable[ScoreSequence | GenerateSequence]) -> list[PlacedImage]:
    """Each image or sound of these, once."""
    return list({image.first: image for sequence in sequences for image in sequence.images}.values())


def _leave_blank(executor: Executor, sequences: Iterable[ScoreSequence | GenerateSequence]) -> None:
    """Have the images of these take their places without going through their tower, which is timed by itself."""
    if isinstance(executor.decoder, VisionDecoder | HearingDecoder):
        executor.decoder.leave_blank(_images(sequences))


def _scoring(executor: Executor, sequences: Sequence[ScoreSequence]) -> _Part:
    if not sequences:
        return _Part()
    limits = executor.limits.plan
    ordered = sorted(sequences, key=lambda sequence: sequence.tokens)
    planned = plan_scores(ordered, limits)[1].planned_tokens
    count = max(1, min(len(ordered), round(len(ordered) * _TOKENS / max(1, planned))))
    start = (len(ordered) - count) // 2
    part = ordered[start : start + count]
    computed = plan_scores(part, limits)[1].planned_tokens
    _leave_blank(executor, part)
    lanes = executor.shared_scorer().lanes
    scorer = executor.shared_scorer(lanes=1)
    scorer.verify = None
    held = peak_memory()
    with threads(torch.get_num_threads() // lanes):  # as one of the run's lanes has them
        list(scorer.run([part[:1]]))  # what is done once is not of the rate
        began = Seconds.now()
        list(scorer.run([part]))
        took = Seconds.now().since(began)
    beside = (peak_memory() - held) * (lanes - 1)
    times = planned / max(1, computed)
    return _Part(Seconds(took.clock * times / lanes, took.processor * times), computed, beside)


def _scoring_alone(executor: Executor, sequences: Sequence[ScoreSequence]) -> _Part:
    """The same of a model that computes each input alone."""
    if not sequences:
        return _Part()
    is_apart = executor.is_encoder_decoder
    limits = BatchLimits(executor.rows, memory.batch_tokens("cpu", executor.cost, keeps_cache=False))
    planned = padded_batches(lengths_alone(sequences, is_apart), limits)
    part = _middle(sequences, is_apart)
    computed = padded_batches(lengths_alone(part, is_apart), limits)
    _leave_blank(executor, part)
    held = peak_memory()
    list(executor.score([part[:1]]))  # what is done once is not of the rate
    began = Seconds.now()
    list(executor.score([part]))
    took = Seconds.now().since(began)
    unmade = _of_larger_batch(peak_memory() - held, max(computed), max(planned))
    return _Part(took * (sum(planned) / max(1, sum(computed))), sum(computed), unmade)


def _of_larger_batch(bytes_taken: int, tokens: int, most: int) -> int:
    """What the largest batch, of `most` tokens, takes beyond one that took so many bytes for so many tokens."""
    return int(bytes_taken * max(0.0, most / max(1, tokens) - 1))


def _middle(sequences: Sequence[ScoreSequence], is_apart: bool) -> list[ScoreSequence]:
    """About as many tokens of these as are probed, of the length that half of all tokens stand in longer ones of."""
    by_context = groupby(sorted(sequences, key=lambda s: s.context), key=lambda s: s.context)
    groups = sorted((list(group) for _, group in by_context), key=lambda group: -len(group[0].context))
    sizes = [sum(lengths_alone(group, is_apart)) for group in groups]
    half = sum(sizes) / 2
    start = next(at for at, so_far in enumerate(accumulate(sizes)) if so_far >= half)
    part, tokens = groups[start], sizes[start]
    for group, size in zip(groups[start + 1 :], sizes[start + 1 :], strict=True):
        if tokens + size > _TOKENS:
            break
        part, tokens = [*part, *group], tokens + size
    return part


def _generating(executor: Executor, original: Original, sequences: Sequence[GenerateSequence]) -> _Part:
    """A few prompts up to their first token, and then steps of as many rows as are generated at a time, each with a
    prompt as long as it will be in the middle of its answer."""
    tokenizer = original.tokenizer
    ordered = sorted(sequences, key=lambda sequence: sequence.tokens)
    rows = [_row(sequence, tokenizer, 1) for sequence in ordered]
    slots = min(len(rows), executor.shared_generator(rows).slots)
    first = max(0, len(rows) - _PROMPTS) // 2
    part = rows[first : first + _PROMPTS]
    plans = [plan_generations(each, executor.limits.plan) for each in (rows, part)]
    planned, computed = (plan.planned_tokens for _, plan in plans)
    _leave_blank(executor, (row.sequence for row in part))
    _generate(executor, part[:1], 1)  # what is done once is not of the rate
    prompts, _, _ = _generate(executor, part, len(rows))
    # Where a prompt stands in several slots these share it, which the prompts of the run do not.
    distinct = min(slots, max(_PROMPTS, _GROWN_TOKENS * len(rows) // max(1, planned)))
    begin = (len(ordered) - min(distinct, len(ordered))) // 2
    drawn = [ordered[begin + index % min(distinct, len(ordered))] for index in range(slots)]
    grown = [_row(_longer(sequence, index), tokenizer, _STEPS) for index, sequence in enumerate(drawn)]
    _leave_blank(executor, (row.sequence for row in grown))
    _, steps, number = _generate(executor, grown, len(rows))
    full_steps = sum(sequence.max_new_tokens - 1 for sequence in ordered) / slots
    passed = computed + slots * (number + 1)
    longest = longest_slot(*plans[0]) - 1 + max(sequence.max_new_tokens for sequence in ordered)
    had = longest_slot(*plan_generations(grown, executor.limits.plan)) * executor.cost.cache
    takes = longest * memory.TokenCost.of(original.config, executor.model.dtype.itemsize).cache
    unmade = slots * max(0, takes - had)
    return _Part(prompts * (planned / max(1, computed)) + steps * (full_steps / max(1, number)), passed, int(unmade))


def _in_batches(
    executor: Executor,
    generator: PlainGenerator | BeamGenerator,
    original: Original,
    sequences: Sequence[GenerateSequence],
) -> _Part:
    """The same where prompts are continued in batches, each until the last of them ends: one of middle size, its
    prompts as long as in the middle of their answers, if a prompt is what grows."""
    tokenizer = original.tokenizer
    rows = [_row(sequence, tokenizer, sequence.max_new_tokens) for sequence in sequences]
    batches = sorted(generator.batches(rows), key=_padded)
    middle = [row.sequence for row in batches[len(batches) // 2]]
    batch = middle if executor.is_encoder_decoder else [_longer(sequence, sequence.request) for sequence in middle]
    _leave_blank(executor, batch)
    held = peak_memory()
    list(generator.run([_row(batch[0], tokenizer, 1)]))  # what is done once is not of the rate
    timed = [_row(sequence, tokenizer, 1 + _STEPS) for sequence in batch]
    began = Seconds.now()
    list(generator.run(timed))
    ended = Seconds.now()
    stepping = generator.begun or ended
    computed = _padded(timed)
    prompts = stepping.since(began) * (sum(map(_padded, batches)) / max(1, computed))
    steps = sum(max(row.sequence.max_new_tokens for row in each) - 1 for each in batches)
    unmade = _of_larger_batch(peak_memory() - held, computed, _padded(batches[-1]))
    return _Part(prompts + ended.since(stepping) * (steps / _STEPS), computed + len(batch) * _STEPS, unmade)


def _searched(sequences: Sequence[GenerateSequence]) -> tuple[list[GenerateSequence], list[GenerateSequence]]:
    """Those that are answered by beam search, and the others."""
    apart: tuple[list[GenerateSequence], list[GenerateSequence]] = ([], [])
    for sequence in sequences:
        apart[sampling_rule(sequence.params, None).num_beams == 1].append(sequence)
    return apart


def _padded(batch: Sequence[GenerateRow]) -> int:
    """Tokens of the prompts of a batch, the longest first, padding included."""
    return len(batch) * len(batch[0].sequence.tokens)


def _generate(executor: Executor, rows: list[GenerateRow], of: int) -> tuple[Seconds, Seconds, int]:
    """What prompts with their first token take, what all steps after it take, and how many steps those are.

    of: how many rows the run has.
    """
    generator = executor.shared_generator(rows, of)
    generator.verify = None
    began = Seconds.now()
    list(generator.run(rows))
    ended = Seconds.now()
    stepping = max((lane.begun for lane in generator.lanes if lane.begun), key=lambda at: at.clock, default=ended)
    return stepping.since(began), ended.since(stepping), max(lane.taken for lane in generator.lanes)


def _longer(sequence: GenerateSequence, request: int) -> GenerateSequence:
    """A prompt that goes on with half of an answer, of words that stand in it already."""
    words = tuple(token for token in sequence.tokens if token < FIRST_ID) or sequence.tokens
    half = (words * (1 + sequence.max_new_tokens // max(1, len(words))))[: sequence.max_new_tokens // 2]
    return replace(sequence, tokens=(*sequence.tokens, *half), request=request)


def _row(sequence: GenerateSequence, tokenizer: Any, tokens: int) -> GenerateRow:
    """The row of a prompt that ends after so many tokens and nowhere else, by as many beams as it has."""
    extra = sequence.params.extra if sampling_rule(sequence.params, None).num_beams > 1 else ()
    shorter = replace(sequence, max_new_tokens=tokens, params=GenerationParams(max_new_tokens=tokens, extra=extra))
    rule = StopRule(tokenizer, (), frozenset(), tokens)
    return GenerateRow(shorter, rule, sampling_rule(shorter.params, None))
