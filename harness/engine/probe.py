"""Foresees how long a model takes on a processor: some of a run's own prompts go through a model of the same shape
whose weights are random, which takes as long.

    probe(encoded, config, dtype, tokenizer, limits).seconds
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from harness.engine import memory
from harness.engine.cpu import threads
from harness.engine.execute import Executor
from harness.engine.generate import longest_slot
from harness.engine.libraries import import_model_classes
from harness.engine.limits import EngineLimits
from harness.engine.plain import GenerateRow
from harness.engine.planned_scores import plan_scores
from harness.engine.prompt_queue import plan_generations
from harness.engine.sampling import sampling_rule
from harness.engine.stops import StopRule
from harness.engine.tokens import Encoded, GenerateSequence, ScoreSequence
from harness.quick import dataclass
from harness.stopwatch import Seconds, peak_memory
from harness.types import GenerationParams
from harness.words import Phrase, phrase

_TOKENS = 2048
"""That a probe of scoring computes, so that batches are as full as in the run."""
_WHOLE = 200_000_000
"""Weights up to which the whole model is made; of a larger one some layers are, from which the others follow."""
_DEPTHS = (1, 3)
_PROMPTS, _STEPS = 16, 7
"""Of a probe of generation: distinct prompts up to their first token, and tokens of each answer."""
_GROWN_TOKENS = 16_384
"""Of distinct prompts, about, with which steps are timed."""


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


def probe(
    encoded: Encoded, config: Any, dtype: torch.dtype, tokenizer: Any, limits: EngineLimits, rows: int | None = None
) -> StandInTimes:
    """Time a part of what is to be computed, on the processor. The random streams of torch stay as they are.

    rows: the most of a batch; None for as many as fit.
    """
    depth = int(getattr(config, "num_hidden_layers", 1))
    whole = memory.parameters(config) <= _WHOLE or depth <= _DEPTHS[-1]
    found: list[Seconds] = []
    tokens, opening, beside = 0, Seconds(), 0
    for layers in [depth] if whole else _DEPTHS:
        began = Seconds.now()
        import_model_classes()
        executor = _stand_in(config, layers, dtype, limits, rows)
        opening = opening if found else Seconds.now().since(began)
        scoring, passed, lanes = _scoring(executor, encoded.scores)
        generating, stepped, slots = _generating(executor, tokenizer, encoded.generations, config)
        found.append(scoring + generating)
        tokens += passed + stepped
        beside = max(beside, lanes)  # a second stand-in passes through memory that the first has left
    unmade = beside + slots
    if whole:
        return StandInTimes(found[0], tokens, (), opening, unmade)
    per_layer = found[1].since(found[0]) * (1 / (_DEPTHS[1] - _DEPTHS[0]))
    missing = memory.parameters(config) - memory.parameters(_shape(config, _DEPTHS[-1]))
    unmade += missing * dtype.itemsize
    return StandInTimes(found[0] + per_layer * (depth - _DEPTHS[0]), tokens, _DEPTHS, opening, unmade)


def _stand_in(config: Any, layers: int, dtype: torch.dtype, limits: EngineLimits, rows: int | None) -> Executor:
    from transformers import AutoModelForCausalLM

    shape = _shape(config, layers)
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(shape, dtype=dtype).eval()
    return Executor(model, "cpu", str(dtype).removeprefix("torch."), 0, rows, limits)


def _shape(config: Any, layers: int) -> Any:
    shape = copy.deepcopy(config)
    shape.num_hidden_layers = layers
    if getattr(shape, "layer_types", None):
        shape.layer_types = list(shape.layer_types)[:layers]
    return shape


def _scoring(executor: Executor, sequences: Sequence[ScoreSequence]) -> tuple[Seconds, int, int]:
    """(what all take, tokens that were computed to know it, bytes that the run's other lanes take beside this one)."""
    if not sequences:
        return Seconds(), 0, 0
    limits = executor.limits.plan
    ordered = sorted(sequences, key=lambda sequence: sequence.tokens)
    planned = plan_scores(ordered, limits)[1].planned_tokens
    count = max(1, min(len(ordered), round(len(ordered) * _TOKENS / max(1, planned))))
    start = (len(ordered) - count) // 2
    part = ordered[start : start + count]
    computed = plan_scores(part, limits)[1].planned_tokens
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
    all_of_it = planned / max(1, computed)
    return Seconds(took.clock * all_of_it / lanes, took.processor * all_of_it), computed, beside


def _generating(
    executor: Executor, tokenizer: Any, sequences: Sequence[GenerateSequence], config: Any
) -> tuple[Seconds, int, int]:
    """The same: a few prompts up to their first token, and then steps of as many rows as are generated at a time, each
    with a prompt as long as it will be in the middle of its answer. Then bytes that the run's slots take beyond these.

    config: of the whole model, of which the executor's may have fewer layers.
    """
    if not sequences:
        return Seconds(), 0, 0
    ordered = sorted(sequences, key=lambda sequence: sequence.tokens)
    rows = [_row(sequence, tokenizer, 1) for sequence in ordered]
    slots = min(len(rows), executor.shared_generator(rows).slots)
    first = max(0, len(rows) - _PROMPTS) // 2
    part = rows[first : first + _PROMPTS]
    plans = [plan_generations(each, executor.limits.plan) for each in (rows, part)]
    planned, computed = (plan.planned_tokens for _, plan in plans)
    _generate(executor, part[:1], 1)  # what is done once is not of the rate
    prompts, _, _ = _generate(executor, part, len(rows))
    # Where a prompt stands in several slots these share it, which the prompts of the run do not.
    distinct = min(slots, max(_PROMPTS, _GROWN_TOKENS * len(rows) // max(1, planned)))
    begin = (len(ordered) - min(distinct, len(ordered))) // 2
    grown = [_grown(ordered[begin + index % min(distinct, len(ordered))], index, tokenizer) for index in range(slots)]
    _, steps, number = _generate(executor, grown, len(rows))
    full_steps = sum(sequence.max_new_tokens - 1 for sequence in ordered) / slots
    passed = computed + slots * (number + 1)
    longest = longest_slot(*plans[0]) - 1 + max(sequence.max_new_tokens for sequence in ordered)
    had = longest_slot(*plan_generations(grown, executor.limits.plan)) * executor.cost.cache
    takes = longest * memory.TokenCost.of(config, executor.model.dtype.itemsize).cache
    unmade = slots * max(0, takes - had)
    return prompts * (planned / max(1, computed)) + steps * (full_steps / max(1, number)), passed, unmade


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


def _grown(sequence: GenerateSequence, request: int, tokenizer: Any) -> GenerateRow:
    """A row whose prompt goes on with half of an answer, of tokens that stand in it already."""
    half = (sequence.tokens * (1 + sequence.max_new_tokens // max(1, len(sequence.tokens))))[
        : sequence.max_new_tokens // 2
    ]
    return _row(replace(sequence, tokens=(*sequence.tokens, *half), request=request), tokenizer, _STEPS)


def _row(sequence: GenerateSequence, tokenizer: Any, tokens: int) -> GenerateRow:
    """The row of a prompt that ends after so many tokens and nowhere else."""
    shorter = replace(sequence, max_new_tokens=tokens, params=GenerationParams(max_new_tokens=tokens))
    rule = StopRule(tokenizer, (), frozenset(), tokens)
    return GenerateRow(shorter, rule, sampling_rule(shorter.params, None))
