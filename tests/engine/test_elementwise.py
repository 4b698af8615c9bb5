"""Norms, rotary positions, gates and last layers in fewer passes: the same values, and only where they are the same."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.activations import ACT2FN
from transformers.models.convnext.modeling_convnext import ConvNextLayerNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb as rotate_a_part
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm, apply_rotary_pos_emb
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3MLP

from harness.engine import elementwise
from harness.engine.attention import SharedAttention
from harness.engine.batches import PackLayout
from harness.engine.decoder import Decoder
from harness.engine.elementwise import greatest, log_sums, thin_out
from harness.engine.limits import PlanLimits
from harness.engine.plan import PlanItem, make_plan
from harness.engine.rotary import thin_rotary
from harness.testing import tiny_causal_lm

TOKENS = torch.tensor([[5, 9, 2, 7, 7, 11]])
HALF = torch.bfloat16
needs_compiler = pytest.mark.skipif(elementwise.library(HALF) is None, reason="needs gcc on Linux")


def load(path: Path, architecture: str, **config: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_causal_lm(path, architecture, **config)).eval()


def random(*size: int, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    """Values of bfloat16, some of them of the kinds that are easily forgotten."""
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed)).mul_(spread).flatten()
    for number, odd in enumerate((float("inf"), float("-inf"), float("nan"), 0.0, -0.0, 1e-39, 3e38)):
        values[11 * number + 5 :: 101] = odd
    return values.view(size).to(HALF)


def same_bits(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two tensors are equal to the bit; NaN is NaN."""
    numbers = ~expected.isnan()
    equal = torch.equal(found.view(torch.int16)[numbers], expected.view(torch.int16)[numbers])
    return equal and torch.equal(found.isnan(), ~numbers)


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "qwen3", "gemma2", "olmo2", "phi3", "gpt_neox", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
@torch.inference_mode()
def test_a_thinned_model_gives_the_same(tmp_path: Path, architecture: str, dtype: torch.dtype) -> None:
    model = load(tmp_path, architecture).to(dtype)
    expected = model(TOKENS).logits
    changed = thin_out(model)
    assert changed == thinned(architecture, dtype)
    # The sum in a norm is taken in another order, which rarely shows in bfloat16.
    torch.testing.assert_close(model(TOKENS).logits, expected, atol=1e-5 if dtype == torch.float32 else 0.05, rtol=0.01)
    assert thin_out(model) == 0


def thinned(architecture: str, dtype: torch.dtype) -> int:
    """Norms, feed-forward blocks and activations of two layers that can be replaced."""
    if elementwise.library(dtype) is None:
        return {"qwen2": 7, "llama": 7, "qwen3": 11, "olmo2": 11, "phi3": 7}.get(architecture, 0)
    norms = {"qwen2": 5, "llama": 5, "qwen3": 9, "olmo2": 9, "phi3": 5, "gemma2": 9}.get(architecture, 0)
    if dtype == torch.float32:
        return norms + 2 * (norms > 0 and architecture != "gemma2")
    return norms + 2 * (norms > 0) + 2  # each layer's activation, which a gate's block does not call


@needs_compiler
@torch.inference_mode()
def test_activations_of_bfloat16_are_torchs_to_the_bit() -> None:
    for name in ("silu", "gelu_new", "gelu_pytorch_tanh", "relu2"):
        act = ACT2FN[name]
        values = random(3, 1003)
        expected = act(values)
        assert thin_out(one_of(act)) == 1
        assert same_bits(act(values), expected)
        assert same_bits(act(values.t()), expected.t())


@needs_compiler
def test_what_only_looks_like_a_norm_or_an_activation_is_left_alone() -> None:
    channels_first = ConvNextLayerNorm(8, data_format="channels_first").to(HALF)
    assert thin_out(one_of(channels_first)) == 0
    assert thin_out(one_of(torch.nn.Softmax(dim=1))) == 0
    assert thin_out(one_of(torch.nn.Softmax(dim=0))) == 0


def one_of(module: torch.nn.Module) -> torch.nn.Module:
    """A model of one module."""
    model = torch.nn.ModuleList([module])
    model.dtype = HALF  # type: ignore[assignment]  # as models of transformers have it
    return model


@needs_compiler
@pytest.mark.parametrize("block", [LlamaMLP, Phi3MLP])
@pytest.mark.parametrize(("hidden", "inner"), [(8, 5), (16, 32), (24, 4099)])
@torch.inference_mode()
def test_gated_blocks_of_bfloat16_are_the_architectures_to_the_bit(block: Any, hidden: int, inner: int) -> None:
    config = SimpleNamespace(hidden_size=hidden, intermediate_size=inner, hidden_act="silu", mlp_bias=False)
    own = block(config).to(HALF)
    for shape in ((1, 7, hidden), (2, 3, hidden), (5, hidden)):
        values = random(*shape)
        expected = own(values)
        changed = block(config).to(HALF)
        changed.load_state_dict(own.state_dict())
        assert thin_out(one_of(changed)) == 2
        assert same_bits(changed(values), expected)


@needs_compiler
@pytest.mark.parametrize("norm", [LlamaRMSNorm, Olmo2RMSNorm, Gemma2RMSNorm])
@pytest.mark.parametrize("width", [1, 7, 16, 37, 128, 1000])
@torch.inference_mode()
def test_norms_of_bfloat16_round_where_the_architectures_do(norm: Any, width: int) -> None:
    own = norm(width).to(HALF)
    torch.nn.init.normal_(own.weight, generator=torch.Generator().manual_seed(1))
    # Sums of such squares are the same in any order.
    exact = torch.randint(-16, 17, (2, 9, width), generator=torch.Generator().manual_seed(2)).div(8).to(HALF)
    odd = random(2, 9, width)
    expected, expected_odd = own(exact), own(odd)
    assert thin_out(one_of(own)) == 1
    assert same_bits(own(exact), expected)
    assert same_bits(own(exact.transpose(0, 1)), expected.transpose(0, 1))
    torch.testing.assert_close(own(odd), expected_odd, equal_nan=True, atol=0.0, rtol=0.01)


@needs_compiler
@pytest.mark.parametrize("dim", [2, 6, 32, 34, 128])
@pytest.mark.parametrize("own", [apply_rotary_pos_emb, rotate_a_part])
@torch.inference_mode()
def test_rotary_positions_of_bfloat16_are_the_architectures_to_the_bit(own: Any, dim: int) -> None:
    whole = dim if own is apply_rotary_pos_emb else 2 * dim
    query, key = random(1, 5, 6, whole).transpose(1, 2), random(1, 2, 5, whole, seed=1)
    angles = torch.linspace(0, 99, 5 * dim).view(1, 5, dim)
    cos, sin = angles.cos().to(HALF), angles.sin().to(HALF)

    found = elementwise_rotated(own, query, key, cos, sin)

    for one, expected in zip(found, own(query, key, cos, sin), strict=True):
        assert same_bits(one, expected)


def elementwise_rotated(own: Any, *given: torch.Tensor) -> Any:
    """What takes an architecture's place does; it does not ask the architecture."""
    source = sys.modules[own.__module__]
    module = next(kind for name, kind in vars(source).items() if name.endswith("Attention"))
    with thin_rotary(module.__new__(module)):
        replaced = source.apply_rotary_pos_emb
        assert replaced is not own
        return replaced(*given)


def test_a_thinned_model_can_still_be_trained(tmp_path: Path) -> None:
    model = load(tmp_path, "qwen2")
    model(TOKENS).logits.square().sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    thin_out(model)
    model(TOKENS).logits.square().sum().backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "kept"), [("qwen2", False), ("gemma2", False), ("gpt_neox", False), ("glm4", True)]
)
@torch.inference_mode()
def test_rotary_positions_are_the_architectures_own(tmp_path: Path, architecture: str, kept: bool) -> None:
    """GLM's pairs are neighbours, and not halves: it keeps its own function. GPT-NeoX rotates a part of a head."""
    model = load(tmp_path, architecture)
    source = sys.modules[type(model).__module__]
    own = source.apply_rotary_pos_emb
    plan = make_plan([PlanItem(tuple(TOKENS[0].tolist()), 0)], PlanLimits())
    layout = PackLayout(plan.rows, {}, "cpu")
    with SharedAttention(model).active(layout):
        assert (source.apply_rotary_pos_emb is own) == kept
        found = model(**layout.inputs(), use_cache=False).logits
    assert source.apply_rotary_pos_emb is own
    assert torch.allclose(found, model(TOKENS).logits, atol=1e-5)


@pytest.mark.parametrize(("architecture", "cut"), [("qwen2", True), ("mixtral", True), ("gemma2", False)])
@torch.inference_mode()
def test_the_last_layer_is_computed_where_it_is_read(tmp_path: Path, architecture: str, cut: bool) -> None:
    model = load(tmp_path, architecture)
    decoder, attention = Decoder(model, "cpu", "float32"), SharedAttention(model)
    blocks: list[int] = []
    feed_forward = model.model.layers[-1].mlp
    feed_forward.register_forward_pre_hook(lambda _, given: blocks.append(given[0].shape[1]))
    prefix, ends = tuple(range(3, 60)), [(61, 62, 63), (64,), (65, 66)]
    plan = make_plan([PlanItem((*prefix, *end), 0) for end in ends], PlanLimits(leaf=4, gain=8))
    cached: dict[int, Any] = {}
    for row in plan.rows:
        layout = PackLayout([row], cached, "cpu", keep_all=True)
        with attention.active(layout):
            whole = decoder.hidden(**layout.inputs())[0]
        for places in ([len(row.tokens) - 1, 0], []):
            layout = PackLayout([row], cached, "cpu", keep_all=True)
            blocks.clear()
            with attention.active(layout):
                found = decoder.hidden_at(torch.tensor(places, dtype=torch.long), layout, **layout.inputs())
            # Of no token not even an empty product is made: 4-bit layers divide by how many rows it has.
            assert blocks == ([len(row.tokens)] if not cut else [len(places)] if places else [])
            assert torch.allclose(found, whole[places], atol=1e-5)
        cached[row.index] = layout.cached[row.index]


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_the_greatest_of_a_row_is_the_first_of_equals_and_nan_where_there_is_one(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(4)
    for width in (*range(1, 40), 70, 4099):
        values = torch.randn(6, width, generator=generator).round(decimals=1).to(dtype)
        values[1], values[2] = values[1].round(), float("-inf")
        values[3, width // 2], values[4, width // 3] = float("inf"), float("nan")

        tops, places = greatest(values)

        assert tops.isnan().tolist() == [False] * 4 + [True, False]
        numbers = [0, 1, 2, 3, 5]
        assert torch.equal(tops[numbers], values[numbers].float().amax(dim=-1))
        firsts = [row.tolist().index(top) for row, top in zip(values[numbers], tops[numbers].tolist(), strict=True)]
        assert places[numbers].tolist() == firsts


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_logarithms_of_sums_are_those_of_double_precision(dtype: torch.dtype) -> None:
    for width in (1, 15, 16, 37, 4096, 4099, 40000):
        logits = torch.randn(4, width, generator=torch.Generator().manual_seed(5)).mul_(4).to(dtype)
        logits[1] = float("-inf")
        logits[1, width // 2] = 2.0
        logits[2, width // 3] = float("nan")
        found = log_sums(logits)
        assert found is not None
        tops, places, sums = found
        assert sums.isnan().tolist() == [False, False, True, False] == tops.isnan().tolist()
        for row in (0, 1, 3):
            assert tops[row] == logits[row].float().max() == logits[row, places[row]]
            assert float(sums[row]) == pytest.approx(float(logits[row].double().logsumexp(-1)), rel=1e-6, abs=1e-6)
