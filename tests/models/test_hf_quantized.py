"""Quantised models score and generate through the same engine: smaller, close to the whole model, and shared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import GenerationParams, ModelOptions, Prompt, Request, Response, UsageError
from harness.engine.limits import EngineLimits, PlanLimits
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

SHOTS = "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n答案是：A\n\n" * 14
# Plans are cut as finely as long prompts would be cut, so that short ones have shared prefixes too.
SMALL = EngineLimits(PlanLimits(leaf=48, gain=16))
QUESTIONS = ("1 + 1 =", "The quick brown fox", "下列哪一项", "0", "42 " * 30 + "=")


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp(request.param) / "base", request.param, hidden=128)


def prepared(folder: Path, **args: Any) -> HuggingFace:
    model = HuggingFace.create({"pretrained": str(folder), **args}, ModelOptions(device="cpu", offline=True))
    model.limits = SMALL
    model.prepare()
    return model


def loaded(folder: Path, **args: Any) -> HuggingFace:
    model = prepared(folder, dtype="float32", **args)
    model.load()
    return model


def requests() -> list[Request]:
    params = GenerationParams(max_new_tokens=6)
    scored = [Request("loglikelihood", Prompt(q, SHOTS), ("A", " 42", " 是正确的")) for q in QUESTIONS]
    return [*scored, *(Request("generate", Prompt(q, SHOTS), generation=params) for q in QUESTIONS)]


def answers(model: HuggingFace) -> list[Response]:
    found = dict(model.respond(requests()))
    return [found[index] for index in range(len(requests()))]


def assert_close(found: list[Response], expected: list[Response], apart: float) -> None:
    for one, other in zip(found[: len(QUESTIONS)], expected, strict=False):
        assert one.error is None
        assert one.logprobs == pytest.approx(other.logprobs, abs=apart)


@pytest.mark.parametrize(
    ("args", "share", "apart"),
    [
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, 0.4, 3.0),
        ({"load_in_4bit": True, "bnb_4bit_use_double_quant": True}, 0.4, 3.0),
        ({"load_in_8bit": True}, 0.5, 0.5),
    ],
    ids=["4bit-nf4", "4bit-fp4", "8bit"],
)
def test_a_model_of_fewer_bits(folder: Path, args: dict[str, Any], share: float, apart: float) -> None:
    pytest.importorskip("bitsandbytes")
    whole, model = loaded(folder), loaded(folder, **args)
    alone = loaded(folder, **args)
    alone.executor.attention = None

    found = answers(model)

    assert_close(found, answers(whole), apart)
    assert_close(found, answers(alone), 0.1)
    assert all(response.error is None and response.completion_tokens for response in found[len(QUESTIONS) :])
    assert model.executor.notes == []
    assert model.describe()["weight_bytes"] < share * whole.describe()["weight_bytes"]
    assert model.identity != whole.identity
    # The faster matrix products for whole layers leave these alone; norms hold whole weights.
    changed = [type(part).__name__ for part in model.module.modules() if "forward" in vars(part)]
    assert [name for name in changed if not name.endswith("RMSNorm")] in ([], ["Linear"])


def test_a_folder_that_was_saved_quantised_needs_no_flag(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    stored = shutil.copytree(folder, tmp_path / "stored", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    settings = BitsAndBytesConfig(load_in_4bit=True)
    AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings).save_pretrained(stored)

    model, again = loaded(folder, load_in_4bit=True), loaded(stored)

    assert_close(answers(again), answers(model), 1e-3)
    assert again.describe()["weight_bytes"] == model.describe()["weight_bytes"]
    before = again.identity
    assert prepared(stored, dtype="float32").identity == before
    with pytest.raises(UsageError, match="is quantised already, by bitsandbytes: leave load_in_8bit out"):
        prepared(stored, load_in_8bit=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(("flag", "kept"), [("load_in_8bit", True), ("load_in_4bit", False)])
def test_adapters_take_turns_on_a_quantised_base(folder: Path, tmp_path: Path, flag: str, kept: bool) -> None:
    pytest.importorskip("bitsandbytes")
    import peft
    from transformers import AutoModelForCausalLM

    for name, targets in (("a", ["q_proj"]), ("b", ["up_proj", "k_proj"])):
        config = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
        whole = AutoModelForCausalLM.from_pretrained(folder)
        peft.get_peft_model(whole, config).save_pretrained(tmp_path / name)
    args: dict[str, Any] = {flag: True}
    expected = answers(loaded(folder, **args, peft=str(tmp_path / "b")))
    first = loaded(folder, **args, peft=str(tmp_path / "a"))
    answers(first)

    second = prepared(folder, dtype="float32", **args, peft=str(tmp_path / "b"))
    second.take_over(first)
    # On a processor, 4-bit layers do not survive what peft does: they are loaded again.
    assert (second._base is not None) is kept
    first.close()
    second.load()

    assert_close(answers(second), expected, 1e-6)


def stored_as(folder: Path, target: Path, **quantization: Any) -> Path:
    """A folder whose configuration says that its weights are of some format."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}), encoding="utf-8")
    return target


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "the packages optimum and gptqmodel"),
        ({"quant_method": "awq", "bits": 4, "group_size": 32}, "the packages gptqmodel and accelerate"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "the package compressed-tensors"),
        ({"load_in_4bit": True}, "pip install 'harness-eval[bitsandbytes]'"),
    ],
    ids=["gptq", "awq", "compressed-tensors", "bitsandbytes"],
)
def test_what_reads_a_format_is_named_where_it_is_missing(
    folder: Path, tmp_path: Path, settings: dict[str, Any], needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness_plugins.models.hf.stored.find_spec", lambda _: None)
    stored = stored_as(folder, tmp_path / "stored", **settings)

    with pytest.raises(UsageError) as error:
        prepared(stored)

    assert f"pretrained={stored} has weights in the format" in str(error.value)
    assert needed in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_that_contradict_each_other(folder: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        prepared(folder, load_in_4bit=True, load_in_8bit=True)
    with pytest.raises(UsageError, match=r"unknown bnb_4bit_quant_type 'nf5' \(one of fp4, nf4\)"):
        prepared(folder, load_in_4bit=True, bnb_4bit_quant_type="nf5")
    with pytest.raises(UsageError, match="unknown dtype 'int4'"):
        prepared(folder, load_in_4bit=True, bnb_4bit_compute_dtype="int4")


def test_weights_that_do_not_look_like_weights_are_not_sped_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from harness.engine import cpu

    class Packed(torch.nn.Parameter):
        """Stands for the tensor subclasses of quantisation packages, which say float32 and hold something else."""

    plain, packed, wrapped, bare = (torch.nn.Linear(8, 8) for _ in range(4))
    packed.weight = Packed(torch.zeros(8, 8))
    wrapped.forward = lambda values: values  # type: ignore[method-assign]
    del bare.weight
    monkeypatch.setattr(cpu, "_pays", lambda dtype: True)
    model = torch.nn.ModuleList([plain, packed, wrapped, bare])

    assert cpu.speed_up_linear_layers(model) == 1
    # A second time, for another run on the same weights, nothing is wrapped twice.
    assert cpu.speed_up_linear_layers(model) == 1
