"""`hf` gives the numbers that transformers itself gives, whatever shares its batch."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import (
    GenerationParams,
    ModelError,
    ModelOptions,
    Prompt,
    Request,
    RequestKind,
    Response,
    Sample,
    UsageError,
)
from harness.engine import probe, stand_in
from harness.engine.memory import TokenCost
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

SHOTS = "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n答案是：A\n\n" * 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("models") / "base")


def loaded(folder: Path, batch_size: int | str = "auto", **args: Any) -> HuggingFace:
    options = ModelOptions(device="cpu", batch_size=batch_size, offline=True)
    model = HuggingFace.create({"pretrained": str(folder), **args}, options)
    model.prepare()
    model.load()
    return model


def answers(model: HuggingFace, requests: Sequence[Request]) -> list[Response]:
    found = dict(model.respond(requests))
    assert sorted(found) == list(range(len(requests)))
    return [found[index] for index in range(len(requests))]


def choices() -> list[Request]:
    questions = ["1 + 1 =", "The quick brown fox", "下列哪一项", "0", "42 " * 20 + "="]
    letters = [Request("loglikelihood", Prompt(q + "\n答案是：", SHOTS), ("A", "B", "C")) for q in questions]
    options = [Request("loglikelihood", Prompt(q, SHOTS), (" 42", " jumps over", " 是正确的选项。")) for q in questions]
    return [*letters, *options, Request("loglikelihood", Prompt(""), ("hello",))]


def reference(folder: Path, request: Request) -> tuple[list[float], list[bool]]:
    """Each continuation alone, through the whole model, with a plain log-softmax."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    values, greedy = [], []
    for continuation in request.continuations:
        context = tokenizer.encode(request.prompt.text) or [0]
        target = tokenizer.encode(continuation)
        with torch.no_grad():
            logits = model(torch.tensor([context + target])).logits[0, len(context) - 1 : -1]
        picked = logits.log_softmax(-1)[range(len(target)), target]
        values.append(float(picked.sum()))
        greedy.append(logits.argmax(-1).tolist() == target)
    return values, greedy


def test_log_likelihoods_are_those_of_the_model(folder: Path) -> None:
    requests = choices()

    for request, response in zip(requests, answers(loaded(folder), requests), strict=True):
        values, greedy = reference(folder, request)
        assert response.logprobs == pytest.approx(values, abs=1e-4)
        assert list(response.is_greedy) == greedy
        assert response.prompt_tokens is not None
        assert response.error is None


def test_batch_sizes_give_the_same_answers(folder: Path) -> None:
    requests = [*choices(), *generations()]

    first = answers(loaded(folder, batch_size=1), requests)
    for batch_size in (4, 64, "auto"):
        for one, other in zip(first, answers(loaded(folder, batch_size=batch_size), requests), strict=True):
            assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)
            assert (other.text, other.finish_reason) == (one.text, one.finish_reason)


def generations(**params: Any) -> list[Request]:
    prompts = ["The quick", "Question: How many apples", "1 + 1 = 2\n2 + 2 =", "题目："]
    settings = GenerationParams(**{"max_new_tokens": 12, **params})
    return [Request("generate", Prompt(text, SHOTS), generation=settings) for text in prompts]


def test_greedy_answers_are_those_of_generate(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    requests = generations()
    for request, response in zip(requests, answers(loaded(folder), requests), strict=True):
        ids = tokenizer(request.prompt.text, return_tensors="pt")
        made = model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert response.text == tokenizer.decode(made, skip_special_tokens=True)
        assert response.completion_tokens == len(made)


def test_a_stop_string_cuts_each_row_for_itself(folder: Path) -> None:
    model = loaded(folder)
    whole = [response.text or "" for response in answers(model, generations())]
    stop = whole[0][3:5]

    for text, response in zip(whole, answers(model, generations(until=(stop,))), strict=True):
        assert response.text == text.split(stop)[0]
        assert response.finish_reason == ("stop" if stop in text else "length")


def test_a_sample_depends_on_its_seed_and_on_nothing_else(folder: Path) -> None:
    params = {"do_sample": True, "temperature": 1.5, "top_p": 0.95, "top_k": 50}
    model = loaded(folder)

    together = answers(model, [*generations(**params, seed=3), *generations()])[:4]
    alone = [answers(model, [request])[0] for request in generations(**params, seed=3)]
    other = answers(model, generations(**params, seed=4))

    assert [response.text for response in together] == [response.text for response in alone]
    assert [response.text for response in together] != [response.text for response in other]
    assert answers(model, generations())[0].text != together[0].text


def test_a_seed_s_repetitions_differ(folder: Path) -> None:
    params = GenerationParams(max_new_tokens=12, do_sample=True, temperature=1.5, seed=1)
    requests = [Request("generate", Prompt("The quick"), generation=params, repeat=repeat) for repeat in range(3)]

    assert len({response.text for response in answers(loaded(folder), requests)}) == 3


def test_an_unknown_generation_parameter_is_refused_before_weights_load(folder: Path) -> None:
    model = HuggingFace.create({"pretrained": str(folder)}, ModelOptions(device="cpu"))
    model.prepare()
    requests = tuple(generations(extra=(("temprature", 1),)))
    sample = Sample("task", "", 0, {}, requests, None)

    with pytest.raises(UsageError, match="'temprature=1' is not known to this model; did you mean 'temperature'"):
        model.inspect_samples([sample])


def test_requests_that_are_too_long_are_refused_before_weights_load(folder: Path) -> None:
    args = {"pretrained": str(folder), "max_length": 16, "on_overflow": "error"}
    model = HuggingFace.create(args, ModelOptions(device="cpu"))
    model.prepare()

    with pytest.raises(UsageError, match="10 requests are longer than the model's window, by up to"):
        model.inspect_samples([Sample("task", "", 0, {}, tuple(choices()), None)])


def test_perplexity_of_a_text_longer_than_the_window(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    text = "The quick brown fox jumps over the lazy dog. " * 6
    model = loaded(folder, max_length=32)
    ids = model.tokenizer.encode(text)
    (response,) = answers(model, [Request("rolling", Prompt(text))])

    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total, done = 0.0, 0
    while done < len(ids):
        end = min(len(ids), done + 32)
        window = [0, *ids][max(0, end - 32) : end + 1]
        with torch.no_grad():
            logprobs = module(torch.tensor([window[:-1]])).logits[0].log_softmax(-1)
        total += sum(float(logprobs[i, window[i + 1]]) for i in range(len(window) - 1)[-(end - done) :])
        done = end
    assert response.logprobs == pytest.approx((total,), abs=1e-3)
    assert response.token_counts == (len(ids),)


def test_truncation_is_counted(folder: Path) -> None:
    request = Request("loglikelihood", Prompt("42 " * 100 + "="), ("A",))

    (response,) = answers(loaded(folder, max_length=16), [request])

    assert response.truncated > 0
    assert response.prompt_tokens == 16


def test_reasoning_is_taken_off_the_text(folder: Path) -> None:
    model = loaded(folder)
    whole = answers(model, generations())[0].text or ""
    mark = whole[4:6]

    found = answers(loaded(folder, think_end_token=mark), generations())[0]

    assert found.reasoning == whole.rpartition(mark)[0]
    assert found.text == whole.rpartition(mark)[2].lstrip()


def test_nan_is_an_error_that_names_the_dtype(folder: Path) -> None:
    import torch

    model = loaded(folder, dtype="float16")
    with torch.no_grad():
        model.module.model.norm.weight.fill_(float("nan"))

    for requests in (choices(), generations()):
        with pytest.raises(ModelError, match="returned NaN in float16: try dtype=bfloat16"):
            answers(model, requests)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_an_adapter_changes_the_answers(folder: Path, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(folder)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(module, config).save_pretrained(tmp_path / "adapter")
    requests = choices()[:1]

    plain = answers(loaded(folder), requests)[0]
    adapted = answers(loaded(folder, peft=str(tmp_path / "adapter")), requests)[0]

    assert adapted.logprobs != pytest.approx(plain.logprobs, abs=1e-3)
    assert loaded(folder).identity != loaded(folder, peft=str(tmp_path / "adapter")).identity


def test_a_forecast_needs_no_weights(folder: Path) -> None:
    model = HuggingFace.create({"pretrained": str(folder)}, ModelOptions(device="cpu"))
    model.prepare()
    requests = [*choices(), *generations()]

    forecast = model.forecast(requests)

    assert forecast.requests == len(requests)
    assert forecast.new_tokens == 4 * 12
    assert forecast.unique_tokens <= forecast.planned_tokens <= 1.1 * forecast.unique_tokens < 0.5 * forecast.tokens
    assert f"{forecast.planned_tokens:,} to compute" in forecast.text
    assert "of these prompts took in a model of this shape with random weights" in forecast.text
    assert min(forecast.seconds, forecast.processor or 0, forecast.peak_memory or 0) > 0
    assert min(forecast.opening.clock, forecast.opening.processor) > 0


@pytest.mark.parametrize("architecture", ["qwen2", "t5"])
def test_a_large_model_is_foreseen_from_some_of_its_layers(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "_WHOLE", 0)
    path = tiny_causal_lm(tmp_path / "model", architecture, layers=5)
    model = HuggingFace.create({"pretrained": str(path)}, ModelOptions(device="cpu"))
    model.prepare()
    state = torch.get_rng_state()

    forecast = model.forecast([*choices(), *generations()])

    assert "with 1 and 3 of its layers" in forecast.text
    assert torch.equal(torch.get_rng_state(), state)


def test_a_prompt_that_shares_nothing_takes_its_slots_in_a_forecast(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each slot has room for the longest, which the prompts in the middle, that are timed, are not."""
    made = []
    real = probe.probe
    monkeypatch.setattr(probe, "_GROWN_TOKENS", 0)
    monkeypatch.setattr(probe, "probe", lambda *args: made.append(real(*args)) or made[-1])
    model = HuggingFace.create({"pretrained": str(folder)}, ModelOptions(device="cpu"))
    model.prepare()
    params = GenerationParams(max_new_tokens=4)
    usual = [
        Request("generate", Prompt(f"{'How many apples? ' * 12}{n} + {n} ="), generation=params) for n in range(40)
    ]
    long = Request("generate", Prompt("Zebras are striped. " * 20), generation=params)

    for requests in (usual, [*usual, long]):
        model.forecast(requests)

    alone = len(model.tokenizer.encode(long.prompt.text))
    cached = TokenCost.of(model.checkpoint.config, 4).cache
    assert made[1].unmade - made[0].unmade > 0.5 * 41 * alone * cached


@pytest.mark.parametrize("architecture", ["mamba", "t5"])
def test_a_forecast_knows_what_cannot_share(architecture: str, tmp_path: Path) -> None:
    path = tiny_causal_lm(tmp_path / "model", architecture)
    model = HuggingFace.create({"pretrained": str(path)}, ModelOptions(device="cpu"))
    model.prepare()
    requests = [*choices(), *generations()]

    forecast = model.forecast(requests)
    model.load()

    # What is said before is what the loaded model says, and each of the five questions with letters counts in full.
    assert [f"prefixes are not shared: {forecast.unshared}"] == model.executor.notes
    alone = sum(len(model.tokenizer.encode(request.prompt.text)) for request in [*choices()[:5], *generations()])
    assert max(2 * forecast.unique_tokens, alone) < forecast.planned_tokens <= 1.3 * forecast.tokens
    assert f"(prefixes are not shared: {forecast.unshared})" in forecast.text
    assert "of these prompts took in a model of this shape with random weights" in forecast.text
    assert min(forecast.seconds, forecast.processor or 0, forecast.peak_memory or 0) > 0


@pytest.mark.parametrize("kind", ["loglikelihood", "generate"])
def test_the_largest_batch_of_what_cannot_share_is_in_the_memory_of_a_forecast(
    kind: RequestKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch in the middle is timed; one that holds four times its tokens takes four times what it took."""
    made, taken = [], itertools.count(0, 1 << 20)
    real = probe.probe
    monkeypatch.setattr(probe, "peak_memory", lambda: next(taken))
    monkeypatch.setattr(probe, "_TOKENS", 1)
    monkeypatch.setattr(probe, "probe", lambda *args: made.append(real(*args)) or made[-1])
    path = tiny_causal_lm(tmp_path / "model", "mamba")
    model = HuggingFace.create({"pretrained": str(path)}, ModelOptions(device="cpu", batch_size=1))
    model.prepare()
    params = GenerationParams(max_new_tokens=2) if kind == "generate" else None
    options = () if kind == "generate" else (" 42",)
    usual = [Request(kind, Prompt(f"{n} apples and pears"), options, generation=params) for n in range(20)]
    long = Request(kind, Prompt("1 apples and pears " * 8), options, generation=params)

    for requests in (usual, [*usual, long]):
        model.forecast(requests)

    assert made[0].unmade < 1 << 20
    assert made[1].unmade > 3 << 20


def test_beam_search_is_timed_for_a_forecast(folder: Path) -> None:
    model = HuggingFace.create({"pretrained": str(folder)}, ModelOptions(device="cpu"))
    model.prepare()
    requests = [
        replace(request, generation=replace(request.generation, extra=(("num_beams", 2),)))
        for request in generations()
        if request.generation is not None
    ]

    for asked in (requests, [*requests, *generations(), *choices()]):
        forecast = model.forecast(asked)
        assert "of these prompts took in a model of this shape with random weights" in forecast.text
        assert min(forecast.seconds, forecast.processor or 0, forecast.peak_memory or 0) > 0


def test_a_folder_that_lacks_some_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, broken / "model.safetensors", {"format": "pt"})

    with pytest.raises(ModelError, match=r"lacks 1 of its weights \(model.norm.weight, ...\)"):
        loaded(broken)


@pytest.mark.slow
def test_a_large_vocabulary_is_never_spread_over_a_batch(folder: Path) -> None:
    vocabulary = 150_000
    model = loaded(folder, batch_size=64)
    model.module.resize_token_embeddings(vocabulary, mean_resizing=False)
    model.executor = model._make_executor()
    largest = 0

    def note(_: Any, __: Any, logits: Any) -> None:
        nonlocal largest
        largest = max(largest, logits.numel())

    model.module.lm_head.register_forward_hook(note)
    long = [Request("rolling", Prompt(f"{i} The quick brown fox " * 40)) for i in range(8)]
    found = answers(model, [*long, *choices(), *generations()])

    assert not [response for response in found if response.error]
    assert sum(response.token_counts[0] for response in found[:8]) > 2000
    assert largest <= 64 * vocabulary
