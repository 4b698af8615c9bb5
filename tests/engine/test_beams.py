"""Beam search gives transformers' own results to the token, and penalties are those of the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import GenerationParams, ModelOptions, Prompt, Request, Sample, UsageError
from harness.engine.sampling import RowChoice, SamplingRule, choose_tokens, random_stream, sampling_rule
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

TEXTS = ["The quick brown", "Question: 苹果有几个？", "1 + 1 = 2\n2 + 2 =", "A"]


@pytest.mark.parametrize("architecture", ["qwen2", pytest.param("t5", marks=pytest.mark.slow)])
def test_beams_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    folder = tiny_causal_lm(tmp_path / "model", architecture)
    model: Any = HuggingFace.create({"pretrained": str(folder), "dtype": "float32"}, ModelOptions(device="cpu"))
    model.prepare()
    model.load()
    for beams in (
        {"num_beams": 3},
        {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True},
        {"num_beams": 2, "repetition_penalty": 1.3, "length_penalty": -1.0},
    ):
        params = GenerationParams(max_new_tokens=12, extra=tuple(sorted(beams.items())))
        requests = [Request("generate", Prompt(text), generation=params) for text in TEXTS]
        model.inspect_samples([Sample("t", "", 0, {}, (each,), "") for each in requests])
        given = dict(model.respond(requests))
        for index, text in enumerate(TEXTS):
            ids = model.tokenizer(text, return_tensors="pt")
            inputs = {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}
            made = model.module.generate(**inputs, max_new_tokens=12, do_sample=False, **beams)[0].tolist()
            answer = made[1:] if architecture == "t5" else made[ids["input_ids"].shape[1] :]
            assert given[index].text == model.tokenizer.decode(answer, skip_special_tokens=True), (beams, text)
    model.close()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"extra": (("num_beams", 0),)}, "at least 1"),
        ({"extra": (("length_penalty", 2.0),)}, "belongs to beam search"),
        ({"extra": (("num_beams", 2),), "do_sample": True, "temperature": 0.6}, "draws nothing"),
        ({"extra": (("early_stopping", "maybe"), ("num_beams", 2))}, "true, false or never"),
        ({"extra": (("presence_penalty", 3),)}, "from -2 to 2"),
        ({"extra": (("presense_penalty", 1),)}, "did you mean 'presence_penalty'"),
    ],
)
def test_what_makes_no_sense_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        sampling_rule(GenerationParams(**params), None)


def test_presence_and_frequency_are_of_the_answer_alone() -> None:
    import torch

    logits = torch.tensor([[2.0, 1.5, 1.0, 0.0]])

    def chosen(history: list[int], **rule: float) -> int:
        row = RowChoice(SamplingRule(**rule), random_stream(1, 0), history, prompt=2)  # type: ignore[arg-type]
        return choose_tokens(logits.clone(), [row], "float32")[0]

    assert chosen([0, 0], presence_penalty=1.0) == 0  # the prompt does not count
    assert chosen([0, 0, 0], presence_penalty=1.0) == 1
    assert chosen([0, 0, 0], frequency_penalty=0.4) == 0
    assert chosen([0, 0, 0, 0], frequency_penalty=0.4) == 1
