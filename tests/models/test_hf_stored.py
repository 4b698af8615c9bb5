"""Published weights, packed here by hand from each format's definition, answer as the floats that they stand for.

What reads a format is not always installed; then its test is skipped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import GenerationParams, ModelError, ModelOptions, Prompt, Request, Response, UsageError
from harness.engine.limits import EngineLimits, PlanLimits
from harness.testing import run_harness, tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

if TYPE_CHECKING:
    import torch

SHOTS = "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n答案是：A\n\n" * 14
# Plans are cut as finely as long prompts would be cut, so that short ones have shared prefixes too.
SMALL = EngineLimits(PlanLimits(leaf=48, gain=16))
QUESTIONS = ("1 + 1 =", "The quick brown fox", "下列哪一项", "0", "42 " * 30 + "=")
GROUP = 32
# The package deprecates what it calls, and itself calls what transformers deprecates.
READERS_WARN = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("stored") / "base", hidden=128)


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """Compiling layers of this size takes longer than all they will ever compute."""
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield


Tensors = dict[str, Any]
# Weight [outputs, inputs] -> what is stored in its place, and the floats that this stands for.
Pack = Callable[[Any], tuple[Tensors, Any]]


def published(base: Path, target: Path, settings: Mapping[str, Any], pack: Pack, dtype: str = "float16") -> Path:
    """Write `target` with the projections of `base` packed, and `target`-whole with the floats that they stand for."""
    import torch
    from safetensors.torch import load_file, save_file

    whole = target.with_name(target.name + "-whole")
    for folder in (target, whole):
        shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    stored = {**config, "dtype": dtype, "quantization_config": settings}
    (target / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    packed: Tensors = {}
    floats: Tensors = {}
    for name, tensor in load_file(base / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            parts, floats[name] = pack(tensor)
            packed |= {f"{name.removesuffix('weight')}{part}": value.contiguous() for part, value in parts.items()}
        else:
            packed[name] = tensor.to(getattr(torch, dtype))
            floats[name] = packed[name].float()
    save_file(packed, target / "model.safetensors", metadata={"format": "pt"})
    save_file({name: tensor.contiguous() for name, tensor in floats.items()}, whole / "model.safetensors")
    return target


def codes_of(weight: torch.Tensor, bits: int = 4) -> tuple[Any, Any, Any, Any]:
    """Asymmetric codes [outputs, inputs], scales and zero points [outputs, groups], and the floats they stand for."""
    import torch

    grouped = weight.reshape(len(weight), -1, GROUP)
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
    scales = ((high - low) / (2**bits - 1)).half().float()
    zeros = torch.round(-low / scales)
    codes = (torch.round(grouped / scales[..., None]) + zeros[..., None]).clamp(0, 2**bits - 1)
    floats = (codes - zeros[..., None]) * scales[..., None]
    return codes.reshape(weight.shape).long(), scales, zeros.long(), floats.reshape(weight.shape)


def in_words(codes: torch.Tensor, bits: int = 4, order: tuple[int, ...] | None = None) -> torch.Tensor:
    """Codes next to each other in the last dimension share an int32, the first in its lowest bits."""
    import torch

    a_word = 32 // bits
    split = codes.reshape(*codes.shape[:-1], -1, a_word)
    words = sum(split[..., place] << (bits * slot) for slot, place in enumerate(order or range(a_word)))
    return torch.as_tensor(words).to(torch.int64).where(words < 2**31, words - 2**32).to(torch.int32)


def gptq(bits: int, shuffled: bool) -> Pack:
    """GPTQ (Frantar et al. 2022) as AutoGPTQ writes it: qweight [inputs / 8, outputs], zero points less one, and the
    group of each input, which are out of order where large activations were quantised first (`desc_act`)."""
    import torch

    def pack(weight: Any) -> tuple[Tensors, Any]:
        inputs = weight.shape[1]
        order = torch.randperm(inputs, generator=torch.Generator().manual_seed(1)) if shuffled else torch.arange(inputs)
        back = order.argsort()
        codes, scales, zeros, floats = codes_of(weight[:, order], bits)
        parts = {
            "qweight": in_words(codes[:, back], bits).t(),
            "qzeros": in_words((zeros - 1).t() & (2**bits - 1), bits),
            "scales": scales.t().half(),
            "g_idx": (torch.arange(inputs) // GROUP)[back].int(),
        }
        return parts, floats[:, back]

    return pack


def awq(weight: Any) -> tuple[Tensors, Any]:
    """AWQ (Lin et al. 2023), `gemm`: [inputs, outputs / 8], eight outputs a word in the order of its kernel."""
    codes, scales, zeros, floats = codes_of(weight)
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    parts = {
        "qweight": in_words(codes.t(), order=order),
        "qzeros": in_words(zeros.t(), order=order),
        "scales": scales.t().half(),
    }
    return parts, floats


def pack_quantized(symmetric: bool) -> Pack:
    """compressed-tensors, `pack-quantized`: words of codes along the inputs, of zero points along the outputs."""
    import torch

    def pack(weight: Any) -> tuple[Tensors, Any]:
        codes, scales, zeros, floats = codes_of(weight)
        if symmetric:
            codes = (torch.round(weight.reshape(len(weight), -1, GROUP) / scales[..., None]) + 8).clamp(0, 15)
            floats = ((codes - 8) * scales[..., None]).reshape(weight.shape)
            codes = codes.reshape(weight.shape).long()
        parts = {
            "weight_packed": in_words(codes),
            "weight_scale": scales,
            "weight_shape": torch.tensor(weight.shape),
        }
        return parts if symmetric else {**parts, "weight_zero_point": in_words(zeros.t()).t()}, floats

    return pack


def int_quantized(weight: Any) -> tuple[Tensors, Any]:
    """compressed-tensors, `int-quantized`: a byte a weight, a scale an output."""
    import torch

    scales = weight.abs().amax(1, keepdim=True) / 127
    codes = torch.round(weight / scales)
    return {"weight": codes.to(torch.int8), "weight_scale": scales}, codes * scales


def fp8(weight: Any) -> tuple[Tensors, Any]:
    """Blocks of 64 x 64 float8 with a scale each, as DeepSeek-V3 was published."""
    import torch

    rows, columns = weight.shape
    blocks = weight.reshape(rows // 64, 64, columns // 64, 64)
    scales = blocks.abs().amax((1, 3)) / 448
    codes = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn)
    floats = (codes.float() * scales[:, None, :, None]).reshape(weight.shape)
    return {"weight": codes.reshape(weight.shape), "weight_scale_inv": scales}, floats


def settings_of_ct(layout: str, weights: Mapping[str, Any], **group: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"type": "int", "symmetric": True, **weights}, **group}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False, "backend": "torch"}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [64, 64]}
GROUPS = {"num_bits": 4, "strategy": "group", "group_size": GROUP}
DYNAMIC = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True, "symmetric": True}


def prepared(folder: Path, batch_size: int | str = "auto", **args: Any) -> HuggingFace:
    options = ModelOptions(device="cpu", batch_size=batch_size, offline=True)
    model = HuggingFace.create({"pretrained": str(folder), **args}, options)
    model.limits = SMALL
    model.prepare()
    return model


def loaded(folder: Path, batch_size: int | str = "auto", **args: Any) -> HuggingFace:
    model = prepared(folder, batch_size, **args)
    model.load()
    return model


def answers(model: HuggingFace) -> list[Response]:
    params = GenerationParams(max_new_tokens=6)
    requests = [Request("loglikelihood", Prompt(q, SHOTS), ("A", " 42", " 是正确的")) for q in QUESTIONS]
    requests += [Request("generate", Prompt(q, SHOTS), generation=params) for q in QUESTIONS]
    found = dict(model.respond(requests))
    assert all(response.error is None for response in found.values())
    return [found[index] for index in range(len(requests))]


def apart(found: list[Response], expected: list[Response]) -> float:
    """The largest difference of two log-likelihoods."""
    pairs = zip(found[: len(QUESTIONS)], expected, strict=False)
    return max(abs(a - b) for one, other in pairs for a, b in zip(one.logprobs, other.logprobs, strict=True))


def by_transformers(model: HuggingFace) -> list[Response]:
    """Log-likelihoods from a forward pass of the loaded model over each text alone."""
    import torch

    found = []
    for question in QUESTIONS:
        context = model.tokenizer.encode(SHOTS + question)
        sums = []
        for continuation in ("A", " 42", " 是正确的"):
            target = model.tokenizer.encode(continuation)
            with torch.no_grad():
                logits = model.module(torch.tensor([context + target]), use_cache=False).logits
            picked = logits[0, len(context) - 1 : -1].float().log_softmax(-1)[range(len(target)), target]
            sums.append(float(picked.sum()))
        found.append(Response(logprobs=tuple(sums)))
    return found


def check(folder: Path, said: str, *, near: float, error: float = 1e-4, dtype: str = "auto") -> HuggingFace:
    """What holds of every format: `near` is how far its answers may be from those of the floats it stands for."""
    model = loaded(folder, dtype=dtype)
    found = answers(model)

    assert model.executor.attention is not None
    assert model.executor.notes == []
    assert apart(found, by_transformers(model)) < error
    assert apart(found, answers(loaded(folder.with_name(folder.name + "-whole"), dtype="float32"))) < near
    for rows in (1, 16):
        again = answers(loaded(folder, rows, dtype=dtype))
        assert apart(again, found) < error
        assert [response.text for response in again] == [response.text for response in found]
    assert model.identity == prepared(folder, dtype=dtype).identity
    assert model.identity["quantization"] == model.describe()["quantization"] == said
    assert prepared(folder, dtype=dtype).bytes_to_load() == pytest.approx(model.describe()["weight_bytes"], rel=0.01)
    return model


@READERS_WARN
@pytest.mark.parametrize(("bits", "shuffled"), [(4, True), (2, False)])
def test_gptq(
    base: Path, tmp_path: Path, bits: int, shuffled: bool, capfd: pytest.CaptureFixture[str], uncompiled: None
) -> None:
    pytest.importorskip("optimum")
    pytest.importorskip("gptqmodel")
    settings = {**GPTQ, "bits": bits, "desc_act": shuffled}
    folder = published(base, tmp_path / "packed", settings, gptq(bits, shuffled))
    capfd.readouterr()

    model = check(folder, f"gptq {bits} bit, groups of {GROUP}", near=3e-3)

    assert capfd.readouterr().out == ""
    described = model.describe()
    assert described["parameters"] == loaded(base).describe()["parameters"]
    assert set(described["read_by"]) == {"optimum", "gptqmodel"}
    assert described["weight_bytes"] < 0.5 * loaded(base).describe()["weight_bytes"]


@READERS_WARN
def test_awq(base: Path, tmp_path: Path, uncompiled: None) -> None:
    pytest.importorskip("gptqmodel")
    folder = published(base, tmp_path / "packed", {**AWQ, "backend": "torch_awq"}, awq)

    check(folder, f"awq 4 bit, groups of {GROUP}, gemm", near=3e-3, error=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [True, False])
def test_compressed_tensors_of_weights_alone(base: Path, tmp_path: Path, symmetric: bool) -> None:
    pytest.importorskip("compressed_tensors")
    settings = settings_of_ct("pack-quantized", {**GROUPS, "symmetric": symmetric})
    folder = published(base, tmp_path / "packed", settings, pack_quantized(symmetric), "float32")

    model = check(folder, f"compressed-tensors 4 bit, groups of {GROUP}, pack-quantized", near=1e-4)

    assert model.describe()["weight_bytes"] == loaded(base).describe()["weight_bytes"]


@pytest.mark.slow
def test_compressed_tensors_that_round_activations_too(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    settings = settings_of_ct("int-quantized", {"num_bits": 8, "strategy": "channel"}, input_activations=DYNAMIC)
    folder = published(base, tmp_path / "packed", settings, int_quantized, "float32")

    # A last digit can tip an activation over to the next step.
    model = check(folder, "compressed-tensors 8 bit, int-quantized", near=0.1, error=0.05)

    assert apart(answers(model), answers(loaded(tmp_path / "packed-whole"))) > 1e-3


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_an_adapter_on_stored_weights(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    settings = settings_of_ct("int-quantized", {"num_bits": 8, "strategy": "channel"}, input_activations=DYNAMIC)
    folder = published(base, tmp_path / "packed", settings, int_quantized, "float32")
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(tmp_path / "adapter")

    adapted = loaded(folder, peft=str(tmp_path / "adapter"), allow_other_base=True)
    found = answers(adapted)

    assert apart(found, by_transformers(adapted)) < 0.05
    assert apart(found, answers(loaded(folder))) > 0.1


def test_fp8_needs_no_package(base: Path, tmp_path: Path) -> None:
    folder = published(base, tmp_path / "packed", FP8, fp8, "bfloat16")

    check(folder, "fp8, groups of [64, 64]", near=1e-5, dtype="float32")
    assert loaded(folder).describe()["dtype"] == "bfloat16"


@READERS_WARN
def test_torchao(base: Path, tmp_path: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    from transformers import AutoModelForCausalLM, TorchAoConfig

    for name, config in (("int8", "Int8WeightOnlyConfig"), ("fp8", "Float8WeightOnlyConfig")):
        shutil.copytree(base, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
        settings = TorchAoConfig(getattr(quantization, config)())
        model = AutoModelForCausalLM.from_pretrained(base, quantization_config=settings, dtype="bfloat16")
        model.save_pretrained(tmp_path / name)
    shutil.copytree(base, tmp_path / "int8-whole")

    model = check(tmp_path / "int8", "torchao, Int8WeightOnlyConfig", near=0.1, dtype="float32")
    assert model.describe()["weight_bytes"] < 0.5 * loaded(base).describe()["weight_bytes"]
    with pytest.raises(ModelError, match=r"the format torchao, which cannot be computed with in float32 .*=bfloat16$"):
        loaded(tmp_path / "fp8", dtype="float32")


def test_a_dry_run_counts_what_the_weights_become(base: Path, tmp_path: Path) -> None:
    folder = published(base, tmp_path / "packed", FP8, fp8, "bfloat16")
    whole = loaded(base, dtype="bfloat16").describe()["parameters"]

    done = run_harness(
        *("--model", "hf", "--model_args", f"pretrained={folder}", "--tasks", "demo_choice_en", "--limit", "2"),
        *("--dry_run", "--output", str(tmp_path / "runs")),
    )

    assert done.exit_code == 0, done.stderr
    assert f"{2 * whole / 1e3:.1f} kB of weights in bfloat16" in done.stdout + done.stderr


def test_formats_that_nobody_here_knows(base: Path, tmp_path: Path) -> None:
    from torch import int8

    unread = r"has weights in the format 'nextbit', which transformers \S+ did not read here: 14 tensors \(.*_scale_inv"
    folder = published(base, tmp_path / "next", {"quant_method": "nextbit"}, fp8, "float32")
    with pytest.raises(ModelError, match=unread):
        loaded(folder)

    silent = tmp_path / "silent"
    shutil.copytree(folder, silent)
    shutil.copy(base / "config.json", silent)
    with pytest.raises(ModelError, match=r"a format that config\.json does not name"):
        loaded(silent)

    unknown = {"quant_method": "hqq-next", "nbits": 4}
    codes = published(base, tmp_path / "codes", unknown, lambda it: ({"W_q": it.to(int8), "scale": it}, it), "float32")
    with pytest.raises(ModelError, match=r"has weights in the format 'hqq-next'.* 28 tensors \(\S+W_q"):
        loaded(codes)

    # Plain weights are weights, whatever stands beside them.
    plain = published(base, tmp_path / "plain", {"quant_method": "nextbit"}, lambda it: ({"weight": it}, it), "float32")
    assert apart(answers(loaded(plain)), answers(loaded(base))) == 0


def test_what_transformers_refuses_is_one_line(base: Path, tmp_path: Path) -> None:
    nameless = published(base, tmp_path / "nameless", {"bits": 4, "group_size": 64}, fp8, "float32")
    with pytest.raises(ModelError) as error:
        loaded(nameless)
    assert f"pretrained={nameless}: The model's quantization config" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        ("aqlm", "pip install 'aqlm[cpu,gpu]' 'harness-eval[accelerate]'"),
        ("auto-round", "the package auto-round"),
        ("quanto", "the packages optimum-quanto and accelerate"),
        ("hqq", "pip install hqq"),
        ("vptq", "has weights in the format vptq, which transformers computes with on GPUs only"),
        ("mxfp8", "pip install 'harness-eval[accelerate]'"),
        ("compressed-tensors", "pip install 'harness-eval[compressed-tensors]'"),
    ],
)
def test_every_reader_is_named(
    base: Path, tmp_path: Path, method: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness_plugins.models.hf.stored.find_spec", lambda _: None)
    folder = published(base, tmp_path / "packed", {"quant_method": method}, fp8, "float32")

    with pytest.raises(UsageError) as error:
        prepared(folder)

    assert needed in str(error.value)
    assert "\n" not in str(error.value)
