"""Sharing changes how often a token is computed, and no answer, in every architecture."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import GenerationParams, Message, ModelOptions, Prompt, Request, Response
from harness.engine import cpu, decoder, elementwise, kernels, varlen
from harness.engine.batches import KeyValues
from harness.engine.decode_cache import DecodeCache, better_order
from harness.engine.execute import Executor
from harness.engine.limits import EngineLimits, PlanLimits
from harness.engine.score import SharedScorer
from harness.stopwatch import Stopwatch
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

SHOTS = "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n答案是：A\n\n" * 14
ROOM = 460
# Plans are cut as finely as long prompts would be cut, so that short ones have shared prefixes too.
SMALL = EngineLimits(PlanLimits(leaf=48, long_leaf=96, gain=16))
QUESTIONS = ["1 + 1 =", "The quick brown fox", "The quick red fox", "下列哪一项", "0", "42 " * 30 + "="]
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "qwen3": {},
    "llama": {"bos_token_id": 1},
    "gemma2": {"sliding_window": 24, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gemma3_text": {"sliding_window": 24},
    # Its layers of two kinds have heads of two sizes.
    "gemma4_text": {
        "sliding_window": 24,
        "global_head_dim": 16,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 403,
    },
    "gpt2": {},
    "gpt_neox": {"rotary_pct": 0.5},
    "mixtral": {"num_local_experts": 4, "sliding_window": 40},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
}


def make_model(path: Path, batch_size: int | str = "auto") -> HuggingFace:
    args = {"pretrained": str(path), "dtype": "float32"}
    model = HuggingFace.create(args, ModelOptions(device="cpu", batch_size=batch_size))
    model.limits = SMALL
    model.prepare()
    model.load()
    return model


def requests(generated: int = 3) -> list[Request]:
    """Letters, options and a text to score, and the first `generated` questions to continue."""
    letters = [Request("loglikelihood", Prompt(q + "\n答案是：", SHOTS), ("A", "B", "C")) for q in QUESTIONS]
    options = [
        Request("loglikelihood", Prompt(q, SHOTS), (" 42", " jumps over", " jumps under", " 是正确的选项。"))
        for q in QUESTIONS
    ]
    settings = [
        GenerationParams(max_new_tokens=14),
        GenerationParams(max_new_tokens=9, until=("a", "是")),
        GenerationParams(max_new_tokens=14, do_sample=True, temperature=1.2, top_k=40, seed=5),
    ]
    continued = [
        Request("generate", Prompt(q, SHOTS), generation=params, repeat=repeat)
        for q in QUESTIONS[:generated]
        for params in settings
        for repeat in range(2 if params.do_sample else 1)
    ]
    whole = Request("generate", Prompt(SHOTS), generation=settings[0])
    return [*letters, *options, *continued, whole, Request("rolling", Prompt(SHOTS + QUESTIONS[-1]))]


def answers(model: HuggingFace, asked: list[Request]) -> list[Response]:
    found = dict(model.respond(asked))
    return [found[index] for index in range(len(asked))]


def run_plain(path: Path, asked: list[Request]) -> list[Response]:
    model = make_model(path)
    model.executor.attention = None
    return answers(model, asked)


def assert_same(shared: list[Response], plain: list[Response]) -> None:
    for one, other in zip(shared, plain, strict=True):
        assert one.error is None
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4, rel=1e-5)
        assert one.is_greedy == other.is_greedy
        assert (one.text, one.finish_reason, one.completion_tokens) == (
            other.text,
            other.finish_reason,
            other.completion_tokens,
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_shared_answers_are_plain_answers(architecture: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tiny_causal_lm(tmp_path / "model", architecture, **ARCHITECTURES[architecture])

    with caplog.at_level(logging.WARNING, logger="harness"):
        shared = answers(make_model(path), requests())

    assert not [record for record in caplog.records if record.name.startswith("harness")]
    assert_same(shared, run_plain(path, requests()))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_few_rows_at_a_time_give_the_same_answers(batch_size: int, tmp_path: Path) -> None:
    path = tiny_causal_lm(tmp_path / "model")

    assert_same(answers(make_model(path, batch_size), requests()), answers(make_model(path), requests()))


def test_attention_without_fused_kernels_gives_the_same_answers(tmp_path: Path) -> None:
    path = tiny_causal_lm(tmp_path / "model", "gemma3_text", sliding_window=24)
    model = make_model(path)
    assert model.executor.attention is not None
    model.executor.attention.fast = False

    assert_same(answers(model, requests()), run_plain(path, requests()))
    assert model.executor.attention is not None


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3_text", "gpt_neox"])
def test_torchs_operators_and_compiled_functions_give_the_same_answers(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Heads of sixteen values are the smallest that are compiled.
    path = tiny_causal_lm(tmp_path / "model", architecture, hidden=64, **ARCHITECTURES.get(architecture, {}))
    usual = answers(make_model(path), requests())
    assert_same(usual, run_plain(path, requests()))
    monkeypatch.setattr(kernels, "_kernels", lambda *_: None)
    monkeypatch.setattr(elementwise, "library", lambda _: None)

    assert_same(answers(make_model(path), requests()), usual)


def attends_as_documented(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_ends: torch.Tensor,
    key_ends: torch.Tensor,
    longest_query: int,
    longest_key: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What torch says of its kernel for sequences that lie end to end, computed one query at a time."""
    out, lse = torch.empty_like(query), torch.empty(query.shape[1], query.shape[0])
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert max(query_ends.diff()) == longest_query
    assert max(key_ends.diff()) == longest_key
    for number in range(len(query_ends) - 1):
        first, last = int(query_ends[number]), int(query_ends[number + 1])
        keys_from, keys_to = int(key_ends[number]), int(key_ends[number + 1])
        if seqused_k is not None:
            keys_to = keys_from + int(seqused_k[number])
        for at in range(first, last):
            end = keys_to if window_size[1] < 0 else keys_to - (last - 1 - at)
            start = keys_from if window_size[0] < 0 else max(keys_from, end - 1 - window_size[0])
            groups = query.shape[1] // key.shape[1]
            own_key, own_value = (tensor[start:end].repeat_interleave(groups, dim=1) for tensor in (key, value))
            scores = torch.einsum("hd,khd->hk", query[at], own_key) * scale
            out[at] = torch.einsum("hk,khd->hd", scores.softmax(-1), own_value)
            lse[:, at] = scores.logsumexp(-1)
    return out, lse


@pytest.mark.parametrize("architecture", ["qwen2", "mixtral", "gpt_neox"])
def test_sequences_end_to_end_and_batches_ahead_give_the_same_answers(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The way of a GPU, on a processor: the kernel is replaced by its documentation."""
    path = tiny_causal_lm(tmp_path / "model", architecture, **ARCHITECTURES[architecture])
    plain = run_plain(path, requests())
    calls = []
    monkeypatch.setattr(varlen, "serves", lambda query, value, rule: calls.append(rule) or rule.fast)
    monkeypatch.setattr(varlen, "_kernel", lambda: attends_as_documented)
    model = make_model(path, batch_size=4)
    scorer = model.executor.shared_scorer

    def with_batches_ahead() -> SharedScorer:
        found = scorer()
        found.ahead = 2
        return found

    monkeypatch.setattr(model.executor, "shared_scorer", with_batches_ahead)

    assert_same(answers(model, requests()), plain)
    assert not [record for record in caplog.records if record.name.startswith("harness")]
    assert calls


def test_memory_that_runs_out_while_batches_wait_halves_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_causal_lm(tmp_path / "model")
    plain = run_plain(path, requests(0))
    model = make_model(path)
    scorer, hidden = model.executor.shared_scorer, model.executor.decoder.hidden
    passes = []

    def short_of_memory(**inputs: torch.Tensor) -> torch.Tensor:
        passes.append(inputs["input_ids"].shape[1])
        if passes[-1] > ROOM:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return hidden(**inputs)

    def with_batches_ahead() -> SharedScorer:
        found = scorer()
        found.ahead = 1
        return found

    monkeypatch.setattr(model.executor, "shared_scorer", with_batches_ahead)
    monkeypatch.setattr(model.executor.decoder, "hidden", short_of_memory)

    found = answers(model, requests(0))

    assert max(passes) > ROOM
    assert sum(size <= ROOM for size in passes) > 1
    assert_same(found, plain)


def test_a_model_with_recurrent_state_runs_unshared(tmp_path: Path) -> None:
    path = tiny_causal_lm(tmp_path / "model", "mamba", state_size=4)
    model = make_model(path)
    alone = answers(make_model(path, batch_size=1), requests())

    assert model.executor.notes == ["prefixes are not shared: the model carries a recurrent state"]
    assert_same(answers(model, requests()), alone)


@pytest.mark.slow
def test_a_model_with_chunked_attention_runs_unshared(tmp_path: Path) -> None:
    # Its layers are not where its class says.
    small = {"num_local_experts": 2, "intermediate_size_mlp": 64, "attention_chunk_size": 32}
    path = tiny_causal_lm(tmp_path / "model", "llama4_text", layers=4, **small)
    model = make_model(path)
    alone = answers(make_model(path, batch_size=1), requests())

    assert model.executor.notes == ["prefixes are not shared: the model has layers of type chunked_attention"]
    assert_same(answers(model, requests()), alone)


@pytest.mark.slow
def test_an_encoder_decoder_scores_and_generates(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    path = tiny_causal_lm(tmp_path / "model", "t5")
    model = make_model(path)
    asked = requests()
    found = answers(model, asked)

    module = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32)
    request, response = asked[7], found[7]
    context = torch.tensor([model.tokenizer.encode(request.prompt.text)])
    for continuation, value in zip(request.continuations, response.logprobs, strict=True):
        labels = torch.tensor([model.tokenizer.encode(continuation)])
        with torch.no_grad():
            logprobs = module(input_ids=context, labels=labels).logits.log_softmax(-1)
        assert value == pytest.approx(float(logprobs.gather(-1, labels.unsqueeze(-1)).sum()), abs=1e-4)
    with torch.no_grad():
        made = module.generate(context, max_new_tokens=14, do_sample=False)[0, 1:]
    generated = next(i for i, r in enumerate(asked) if r.kind == "generate" and r.prompt == request.prompt)
    assert found[generated].text == model.tokenizer.decode(made, skip_special_tokens=True)
    assert_same(found, answers(make_model(path, batch_size=1), asked))


def test_a_pass_that_differs_falls_back_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_causal_lm(tmp_path / "model")
    expected = run_plain(path, requests())
    # An attention that forgets the shared prefix.
    monkeypatch.setattr("harness.engine.batches.PackLayout._attend_above", lambda *_: None)

    with caplog.at_level(logging.WARNING, logger="harness"):
        found = answers(make_model(path), requests())

    assert_same(found, expected)
    assert "prefixes are not shared, which is slower: a shared pass gave log-likelihood" in caplog.text


def test_a_step_that_differs_falls_back_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_causal_lm(tmp_path / "model")
    asked = [request for request in requests(generated=6) if request.kind == "generate"]
    expected = run_plain(path, asked)
    monkeypatch.setattr("harness.engine.decode_cache.DecodeLayout._attend_above", lambda *args: (args[-2], args[-1]))

    with caplog.at_level(logging.WARNING, logger="harness"):
        found = answers(make_model(path), asked)

    assert_same(found, expected)
    assert "away from those of a plain pass" in caplog.text


@pytest.mark.slow
def test_running_out_of_memory_while_generating_keeps_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.engine import generation_lane

    path = tiny_causal_lm(tmp_path / "model")
    expected = run_plain(path, requests(generated=6))
    whole_step = generation_lane.GenerationLane._decode

    def small_step(self: Any) -> None:
        if len(self._active) > 5:
            raise RuntimeError("out of memory")
        whole_step(self)

    monkeypatch.setattr(generation_lane.GenerationLane, "_decode", small_step)

    assert_same(answers(make_model(path), requests(generated=6)), expected)


def test_a_checkpoint_with_settings_of_its_own_generates_as_transformers_does(tmp_path: Path) -> None:
    path = tiny_causal_lm(tmp_path / "model")
    model = make_model(path)
    model.module.generation_config.no_repeat_ngram_size = 2
    asked = [request for request in requests() if request.kind == "generate"]

    executor = model.executor
    rows = [model._generate_row(sequence) for sequence in model_sequences(model, asked)]
    list(executor.generate(rows))

    assert executor.notes == ["prompts are not shared: the checkpoint's generation config sets no_repeat_ngram_size"]


def model_sequences(model: HuggingFace, asked: list[Request]) -> Any:

    return model.prompts.encode(asked).generations


def test_chat_prompts_are_scored_and_continued(tmp_path: Path) -> None:
    model = make_model(tiny_causal_lm(tmp_path / "model"))
    prompt = Prompt(messages=(Message("user", "1 + 1 ="),))
    scored = Request("loglikelihood", prompt, ("2", "3"))
    written_out = Request("loglikelihood", Prompt(model.render(prompt)), ("2", "3"))

    one, other = answers(model, [scored, written_out])

    assert one.logprobs == pytest.approx(other.logprobs)


def test_a_clock_is_told_what_the_engine_does(tmp_path: Path) -> None:
    tiny_causal_lm(tmp_path, "qwen2")
    model = make_model(tmp_path)
    model.clock = clock = Stopwatch()
    for _ in clock.over("model", model.respond(requests(1))):
        pass
    assert {"tokens", "plan", "attention", "model"} <= set(clock.so_far().phases)


def test_slots_are_put_in_order_where_empty_places_would_be_looked_at() -> None:
    """A slot is looked at up to the longest that attends with it."""
    mixed = [400, 10] * 8
    order = better_order(mixed)
    assert order is not None
    assert [mixed[slot] for slot in order] == [400] * 8 + [10] * 8
    assert better_order([mixed[slot] for slot in order]) is None
    assert better_order([20, 30, 25, 22]) is None  # little to spare


def test_a_slot_takes_its_keys_and_values_with_it() -> None:
    cache = DecodeCache(3, 4)
    for slot in range(3):
        held = torch.full((1, 2, 1), float(slot))
        cache.put(slot, KeyValues({0: held}, {0: -held}), 2)
    cache.reorder([2, 0, 1], 2)
    assert cache.keys[0][:, 0, :2, 0].tolist() == [[2, 2], [0, 0], [1, 1]]
    assert cache.values[0][:, 0, :2, 0].tolist() == [[-2, -2], [0, 0], [-1, -1]]


def test_what_fills_up_a_pass_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_causal_lm(tmp_path, architecture="gemma2", **ARCHITECTURES["gemma2"])
    monkeypatch.setattr(decoder, "padded_size", lambda tokens, dtype: tokens)
    expected = answers(make_model(path), requests())
    monkeypatch.setattr(decoder, "padded_size", lambda tokens, dtype: tokens + 7)
    model = make_model(path)
    found = answers(model, requests())
    assert model.executor.attention is not None and model.executor.attention.fast and model.executor.notes == []
    for one, other in zip(found, expected, strict=True):
        assert one.text == other.text
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("compiles_for_each", [True, False])
def test_few_sizes_of_passes_where_each_is_compiled_for(
    compiles_for_each: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_pays", lambda dtype: compiles_for_each)
    sizes = [cpu.padded_size(tokens, torch.float32) for tokens in range(1, 2049)]
    assert all(tokens <= size <= tokens + tokens // 16 for tokens, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 256 if compiles_for_each else sizes == list(range(1, 2049))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_any_type_of_weights_has_its_prefixes_shared(dtype: str, tmp_path: Path) -> None:
    path = tiny_causal_lm(tmp_path)
    model = HuggingFace.create({"pretrained": str(path), "dtype": "float32"}, ModelOptions(device="cpu"))
    model.limits = SMALL
    model.prepare()
    model.load()
    model.module.to(getattr(torch, dtype))
    executor = Executor(model.module, "cpu", dtype, 0, None, SMALL)
    asked = [request for request in requests() if request.kind == "generate"]
    rows = [model._generate_row(sequence) for sequence in model_sequences(model, asked)]
    assert len(list(executor.generate(rows))) == len(rows)
    assert executor.notes == [] and executor.attention is not None
