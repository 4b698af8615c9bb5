"""A model larger than its device answers the same spread over memory and disk; else one line says what is missing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from harness import GenerationParams, ModelError, ModelOptions, Prompt, Request, Response, UsageError
from harness.engine import memory
from harness.engine.limits import EngineLimits, PlanLimits
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

SHOTS = "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n答案是：A\n\n" * 14
# Plans are cut as finely as long prompts would be cut, so that short ones have shared prefixes too.
SMALL = EngineLimits(PlanLimits(leaf=48, gain=16))
QUESTIONS = ("1 + 1 =", "The quick brown fox", "The quick red fox", "下列哪一项", "42 " * 30 + "=")


def prepared(folder: Path, **args: Any) -> HuggingFace:
    options = ModelOptions(device="cpu", offline=True)
    model = HuggingFace.create({"pretrained": str(folder), "dtype": "float32", **args}, options)
    model.limits = SMALL
    model.prepare()
    return model


def loaded(folder: Path, **args: Any) -> HuggingFace:
    model = prepared(folder, **args)
    model.load()
    return model


def answers(model: HuggingFace) -> list[Response]:
    params = GenerationParams(max_new_tokens=8)
    requests = [Request("loglikelihood", Prompt(q, SHOTS), ("A", " 42", " 是正确的")) for q in QUESTIONS]
    requests += [Request("generate", Prompt(q, SHOTS), generation=params) for q in QUESTIONS]
    requests += [Request("rolling", Prompt(SHOTS))]
    found = dict(model.respond(requests))
    return [found[index] for index in range(len(requests))]


def assert_same(found: list[Response], expected: list[Response]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.error is None
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert (one.text, one.is_greedy) == (other.text, other.is_greedy)


@pytest.mark.parametrize("architecture", ["qwen2", "gemma2", "t5"])
def test_what_lies_on_disk_answers_as_what_lies_in_memory(
    architecture: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny_causal_lm(tmp_path / "model", architecture, layers=4)
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))

    with caplog.at_level(logging.WARNING, logger="harness"):
        spread = loaded(path, max_memory={"cpu": size // 2}, offload_folder=str(tmp_path / "offload"))
        found = answers(spread)

    places = set(spread.module.hf_device_map.values())
    assert places == {"cpu", "disk"}
    assert not [record for record in caplog.records if record.name.startswith("harness")]
    assert_same(found, answers(loaded(path)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("memory") / "base", layers=4)


@pytest.mark.slow
def test_the_names_that_others_use_for_it(folder: Path) -> None:
    expected = answers(loaded(folder))

    for args in ({"parallelize": True}, {"device_map": "auto"}, {"max_cpu_memory": "200KB"}):
        model = loaded(folder, **args)
        assert_same(answers(model), expected)
        own = model.spread and model.spread._own
        model.close()
        assert own is not None and not Path(own).exists()


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"device_map": "everywhere"}, "unknown device_map 'everywhere'"),
        ({"max_memory": "20GiB"}, "is not of the form"),
        ({"max_memory": {"cpu": "a lot"}}, "max_memory of cpu: 'a lot' is no amount of memory"),
        ({"max_cpu_memory": -5}, "'-5' is no amount of memory"),
        ({"max_memory": {"cpu": 5}, "max_cpu_memory": 5}, "not both"),
    ],
)
def test_limits_of_no_sense(folder: Path, args: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError) as error:
        prepared(folder, **args)
    assert reason in str(error.value)


def test_too_little_memory_says_how_much_is_needed_and_what_to_try(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(parameter.numel() for parameter in loaded(folder).module.parameters()) * 4
    model = prepared(folder)
    assert model.bytes_to_load() == size
    monkeypatch.setattr(memory, "free_memory", lambda device: size - 1)
    monkeypatch.setattr(model, "open_model", lambda *_: pytest.fail("weights were loaded"))

    with pytest.raises(ModelError) as error:
        model.load()

    # Keys and values of the window: 4 layers, 2 heads of 8 values, 4 bytes, for 512 tokens.
    cache = 2 * 4 * 2 * 8 * 4 * 512
    assert str(error.value) == (
        f"{folder}: cpu has {(size - 1) / 1e3:.1f} kB free, but {(size + cache) / 1e3:.1f} kB are needed: "
        f"{size / 1e3:.1f} kB for the weights and {cache / 1e3:.1f} kB for the keys and values of 512 tokens. "
        "Try dtype=bfloat16 or load_in_4bit=True in --model_args, another --device, or parallelize=True, which spreads "
        "the model over GPUs, main memory and disk"
    )
    # Half the bytes fit, and so does what is not on one device.
    assert (prepared(folder, dtype="bfloat16").bytes_to_load() or 0) < size
    loaded(folder, parallelize=True)


def test_a_dry_run_says_what_the_model_takes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 5 << 30)
    model = prepared(folder)

    said = str(model.forecast([Request("loglikelihood", Prompt("1 + 1 ="), ("A", "B"))]).memory)

    # Of each of 4 layers, 2 heads of 8 keys and 8 values in 4 bytes.
    weights = (model.bytes_to_load() or 0) / 1e3
    assert said == f"{weights:.1f} kB of weights in float32 and 0.5 kB of keys and values a token; cpu has 5.4 GB free"


def test_a_device_that_runs_out_while_loading_says_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepared(folder, dtype="bfloat16")

    def run_out(*_: Any) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(model, "open_model", run_out)
    with pytest.raises(ModelError, match=r"kB are needed: .* Try load_in_4bit=True in --model_args"):
        model.load()


def test_weights_of_fewer_bits_are_counted_as_such(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny_causal_lm(tmp_path / "wide", hidden=128)
    for flag in ("load_in_4bit", "load_in_8bit"):
        model = prepared(folder, **{flag: True})
        counted = model.bytes_to_load()
        model.load()
        assert counted == pytest.approx(model.describe()["weight_bytes"], rel=0.1)
