"""Norms, rotary positions, gates and last layers in fewer passes: the same values, and only where they are the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.engine.attention import SharedAttention
from harness.engine.batches import PackLayout
from harness.engine.decoder import Decoder
from harness.engine.elementwise import greatest, thin_out
from harness.engine.limits import PlanLimits
from harness.engine.plan import PlanItem, make_plan
from harness.testing import tiny_causal_lm

TOKENS = torch.tensor([[5, 9, 2, 7, 7, 11]])


def load(path: Path, architecture: str, **config: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_causal_lm(path, architecture, **config)).eval()


@pytest.mark.parametrize(
    ("architecture", "changed"),
    [("qwen2", 2 + 5), ("llama", 2 + 5), ("gemma2", 0), ("gpt2", 0)],  # blocks and norms of two layers
)
@torch.inference_mode()
def test_a_thinned_model_gives_the_same(tmp_path: Path, architecture: str, changed: int) -> None:
    model = load(tmp_path, architecture)
    expected = model(TOKENS).logits
    assert thin_out(model) == changed
    assert torch.allclose(model(TOKENS).logits, expected, atol=1e-5)
    assert thin_out(model) == 0


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


def test_the_greatest_of_a_row_is_the_first_of_equals_and_nan_where_there_is_one() -> None:
    generator = torch.Generator().manual_seed(4)
    for width in (*range(1, 40), 70, 4099):
        values = torch.randn(6, width, generator=generator).round(decimals=1)
        values[1], values[2] = values[1].round(), float("-inf")
        values[3, width // 2], values[4, width // 3] = float("inf"), float("nan")

        tops, places = greatest(values)

        assert tops.isnan().tolist() == [False] * 4 + [True, False]
        numbers = [0, 1, 2, 3, 5]
        assert torch.equal(tops[numbers], values[numbers].amax(dim=-1))
        firsts = [row.tolist().index(top) for row, top in zip(values[numbers], tops[numbers].tolist(), strict=True)]
        assert places[numbers].tolist() == firsts
