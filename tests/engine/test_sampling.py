"""Which token is drawn: from transformers' own distribution, and by rules that make sense."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness import GenerationParams, UsageError
from harness.engine.sampling import RowChoice, SamplingRule, choose_tokens, random_stream, sampling_rule

DRAWS = 4000
RULES = [
    SamplingRule(temperature=0.5),
    SamplingRule(temperature=2.0, top_k=5),
    SamplingRule(temperature=1.0, top_p=0.6),
    SamplingRule(temperature=1.5, top_p=0.8, top_k=7),
    SamplingRule(temperature=1.0, min_p=0.3),
    SamplingRule(temperature=1.0, top_p=0.8, min_p=0.15),
    SamplingRule(temperature=0.7, repetition_penalty=1.4),
    SamplingRule(temperature=1.3, top_p=0.9, top_k=9, min_p=0.05, repetition_penalty=0.8),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_draws_follow_the_distribution_of_transformers(rule: SamplingRule) -> None:
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(4)) * 2
    history = [3, 3, 11, 20]
    stream = random_stream(1, 0)

    rows = [RowChoice(rule, stream, history)] * DRAWS
    drawn = torch.tensor(choose_tokens(logits.repeat(DRAWS, 1), rows, "float32"))

    expected = warped(logits, rule, history).softmax(-1)[0]
    found = torch.bincount(drawn, minlength=30) / DRAWS
    assert not found[expected == 0].any()
    assert float((found - expected).abs().max()) < 4 * (0.25 / DRAWS) ** 0.5


def warped(logits: torch.Tensor, rule: SamplingRule, history: list[int]) -> torch.Tensor:
    import transformers

    steps: list[Any] = [transformers.TemperatureLogitsWarper(rule.temperature)]
    if rule.repetition_penalty != 1.0:
        steps.insert(0, transformers.RepetitionPenaltyLogitsProcessor(rule.repetition_penalty))
    if rule.top_k:
        steps.append(transformers.TopKLogitsWarper(rule.top_k))
    if rule.top_p < 1.0:
        steps.append(transformers.TopPLogitsWarper(rule.top_p))
    if rule.min_p:
        steps.append(transformers.MinPLogitsWarper(rule.min_p))
    for step in steps:
        logits = step(torch.tensor([history]), logits.clone())
    return logits


@pytest.mark.parametrize(
    "given, message",
    [
        ({"top_k": -3}, "top_k=-3 is not a number of tokens (0 or -1: all)"),
        ({"extra": (("min_p", 2),)}, "min_p=2 is not a share from 0 to 1"),
        ({"extra": (("min_p", "half"),)}, "min_p=half is not a share from 0 to 1"),
        ({"extra": (("repetition_penalty", 0),)}, "repetition_penalty=0 is not a number above 0"),
        ({"extra": (("repetition_penalty", float("nan")),)}, "repetition_penalty=nan is not a number above 0"),
    ],
)
def test_values_of_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        sampling_rule(GenerationParams(do_sample=True, **given), None)

    assert str(error.value) == f"generation_kwargs: {message}"


def test_a_top_k_of_minus_one_keeps_all_tokens() -> None:
    assert sampling_rule(GenerationParams(do_sample=True, top_k=-1), None).top_k == 0


def test_rounding_hardly_ever_changes_a_draw() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 400, generator=generator)
    rounded = logits + 3e-5 * torch.randn(4000, 400, generator=generator)
    rule = SamplingRule(temperature=1.0, top_p=0.95)

    one, other = (
        choose_tokens(values.clone(), [RowChoice(rule, random_stream(seed, 0), []) for seed in range(4000)], "float32")
        for values in (logits, rounded)
    )

    assert sum(a != b for a, b in zip(one, other, strict=True)) <= 1


def test_steps_seeds_and_repeats_draw_independently() -> None:
    logits = torch.zeros(1, 2)
    rule = SamplingRule(temperature=1.0)
    streams = [random_stream(seed, repeat) for seed in range(40) for repeat in range(10)]
    drawn = torch.tensor(
        [
            [choose_tokens(logits.clone(), [RowChoice(rule, stream, [])], "float32")[0] for _ in range(10)]
            for stream in streams
        ]
    ).float()

    # Of 400 fair coins in a row, the mean is within 0.1 of a half; of any two columns, the share that agrees too.
    assert float((drawn.mean(dim=0) - 0.5).abs().max()) < 0.1
    agree = (drawn[:, 1:] == drawn[:, :-1]).float().mean(dim=0)
    assert float((agree - 0.5).abs().max()) < 0.1
    assert abs(float((drawn[1:] == drawn[:-1]).float().mean()) - 0.5) < 0.05
