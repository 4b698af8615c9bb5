"""Encoder-decoder models give the model's own numbers, encode a context once, and hold few logits at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import ModelOptions, Prompt, Request, Response
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

SIZES = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "t5": {},
    "mt5": {"tie_word_embeddings": True},
    "bart": {**SIZES, **HEADS},
}
QUESTIONS = ("1 + 1 =", "The quick brown fox", "下列哪一项", "42 " * 30 + "=")
CHOICES = ("A", " 42", " 是正确的选项。", " jumps over the lazy dog")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "model"
    return tiny_causal_lm(path, request.param, **ARCHITECTURES[request.param])


def loaded(folder: Path, batch_size: int | str = "auto") -> HuggingFace:
    options = ModelOptions(device="cpu", batch_size=batch_size, offline=True)
    model = HuggingFace.create({"pretrained": str(folder), "dtype": "float32"}, options)
    model.prepare()
    model.load()
    bias = getattr(model.module, "final_logits_bias", None)
    if bias is not None:  # what some heads add must not be forgotten
        bias.copy_((bias + 1).cumsum(-1) % 3)
    return model


def answers(model: HuggingFace, requests: list[Request]) -> list[Response]:
    found = dict(model.respond(requests))
    return [found[index] for index in range(len(requests))]


def reference(model: HuggingFace, context: list[int], target: list[int]) -> tuple[float, bool]:
    import torch

    start = model.module.config.decoder_start_token_id
    with torch.no_grad():
        logits = model.module(
            input_ids=torch.tensor([context]), decoder_input_ids=torch.tensor([[start, *target[:-1]]])
        ).logits[0]
    value = logits.log_softmax(-1)[range(len(target)), target].sum()
    return float(value), logits.argmax(-1).tolist() == target


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
def test_log_likelihoods_are_those_of_the_model(folder: Path, batch_size: int | str) -> None:
    model = loaded(folder, batch_size)
    requests = [Request("loglikelihood", Prompt(question), CHOICES) for question in QUESTIONS]

    for request, response in zip(requests, answers(model, requests), strict=True):
        context = model.tokenizer.encode(request.prompt.text)
        for choice, value, greedy in zip(CHOICES, response.logprobs, response.is_greedy, strict=True):
            expected = reference(model, context, model.tokenizer.encode(choice))
            assert (pytest.approx(expected[0], abs=1e-4), expected[1]) == (value, greedy)


def test_a_context_is_encoded_once_for_all_its_continuations(folder: Path) -> None:
    model = loaded(folder)
    rows: list[int] = []  # of the inputs that are longer than those by which the head is checked
    model.module.get_encoder().register_forward_pre_hook(
        lambda _, __, given: rows.append(len(given["input_ids"])) if given["input_ids"].shape[1] > 3 else None,
        with_kwargs=True,
    )
    long = [Request("loglikelihood", Prompt(f"{number} " + "1 2 3 " * 70), CHOICES) for number in range(4)]

    found = answers(model, long)

    assert [len(response.logprobs) for response in found] == [4] * 4
    assert sum(rows) == len(long)


def test_a_large_vocabulary_is_never_spread_over_a_text(folder: Path) -> None:
    vocabulary = 150_000
    model = loaded(folder)
    expected = answers(model, [Request("rolling", Prompt("1 2 3 4 5 " * 80))])[0].token_counts
    model.module.resize_token_embeddings(vocabulary, mean_resizing=False)
    largest = 0

    def note(_: Any, __: Any, logits: Any) -> None:
        nonlocal largest
        largest = max(largest, logits.numel())

    model.module.get_output_embeddings().register_forward_hook(note)
    (found,) = answers(model, [Request("rolling", Prompt("1 2 3 4 5 " * 80))])

    assert found.error is None and found.token_counts == expected and expected[0] > 400
    assert 0 < largest <= 64 * vocabulary
