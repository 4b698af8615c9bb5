"""Numbers that are none, and requests that are too long: each kind of request, each kind of model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import GenerationParams, ModelError, ModelOptions, Prompt, Request, Response, Sample, UsageError
from harness.testing import run_harness, tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

LAST_NORM = {
    "qwen2": "model.norm.weight",
    "mamba": "backbone.norm_f.weight",
    "t5": "decoder.final_layer_norm.weight",
}
LONG = "42 " * 60 + "="
GREEDY = GenerationParams(max_new_tokens=6)
KINDS = {
    "scoring": Request("loglikelihood", Prompt(LONG), (" 是正确的",)),
    "rolling": Request("rolling", Prompt(LONG)),
    "generation": Request("generate", Prompt(LONG), generation=GREEDY),
    "sampling": Request(
        "generate", Prompt(LONG), generation=GenerationParams(max_new_tokens=6, do_sample=True, seed=1)
    ),
}
WINDOW = 24


@pytest.fixture(scope="module", params=LAST_NORM)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp(architecture) / "model", architecture)


def prepared(folder: Path, **args: Any) -> HuggingFace:
    options = ModelOptions(device="cpu", offline=True)
    model = HuggingFace.create({"pretrained": str(folder), "dtype": "float32", **args}, options)
    model.prepare()
    return model


def loaded(folder: Path, **args: Any) -> HuggingFace:
    model = prepared(folder, **args)
    model.load()
    return model


def answers(model: HuggingFace, requests: Sequence[Request]) -> list[Response]:
    found = dict(model.respond(requests))
    return [found[index] for index in range(len(requests))]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_returns_no_numbers(folder: Path, architecture: str, kind: str, value: float) -> None:
    import torch

    model = loaded(folder)
    with torch.no_grad():
        dict(model.module.named_parameters())[LAST_NORM[architecture]].fill_(value)

    with pytest.raises(ModelError) as error:
        answers(model, [KINDS[kind]])

    assert str(error.value) == "the model returned NaN in float32: its weights are damaged, or not of this architecture"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_long_is_cut_from_the_left_and_counted(folder: Path, architecture: str, kind: str) -> None:
    (cut,) = answers(loaded(folder, max_length=WINDOW), [KINDS[kind]])
    (whole,) = answers(loaded(folder), [KINDS[kind]])

    assert (cut.error, whole.error, whole.truncated) == (None, None, 0)
    if kind == "rolling":  # a text is cut into windows, and nothing of it off
        assert cut.truncated == 0
        assert cut.token_counts == whole.token_counts
        return
    assert cut.truncated == (whole.prompt_tokens or 0) - (cut.prompt_tokens or 0) > 0
    # What is scored or generated needs room too, except where a decoder of its own reads it.
    added = 0 if architecture == "t5" else sum(cut.token_counts) - 1 if kind == "scoring" else 6
    assert cut.prompt_tokens == WINDOW - added


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_long_fails_alone(folder: Path, kind: str) -> None:
    short = Request("loglikelihood", Prompt("1 +"), (" 1", " 2"))

    found, other = answers(loaded(folder, max_length=WINDOW, on_overflow="skip"), [KINDS[kind], short])

    assert other.error is None and len(other.logprobs) == 2
    if kind == "rolling":
        assert found.error is None
    else:
        assert "tokens longer than the model's window of 24 (on_overflow=skip)" in str(found.error)
        assert found.logprobs == () and found.text is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_long_is_refused_before_weights_load(folder: Path, kind: str) -> None:
    model = prepared(folder, max_length=WINDOW, on_overflow="error")
    sample = Sample("task", "", 0, {}, (KINDS[kind],), None)

    if kind == "rolling":
        model.inspect_samples([sample])
        return
    with pytest.raises(UsageError, match=r"1 request is longer than the model's window, by up to \d+ tokens"):
        model.inspect_samples([sample])


@pytest.mark.slow
def test_the_flag_says_it_to_the_model(tmp_path: Path) -> None:
    path = tiny_causal_lm(tmp_path / "model")
    model = ("--model", "hf", "--model_args", f"pretrained={path},max_length=16", "--device", "cpu")
    start = ("--tasks", "demo_choice_en", "--limit", "1", "--output", str(tmp_path / "runs"), *model)

    cut, skipped, refused = (run_harness(*start, "--on_overflow", how) for how in ("truncate", "skip", "error"))

    assert cut.exit_code == 0 and "truncated" in cut.stdout
    assert skipped.exit_code == 1 and "5 samples failed" in skipped.stderr
    assert refused.exit_code == 4 and "5 requests are longer than the model's window" in refused.stderr
    assert "'cut' is not one of" in run_harness(*start, "--on_overflow", "cut").stderr
