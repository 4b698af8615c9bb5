"""All ways to attend give what the definition gives, and two sets of keys join to one."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.engine import cpu, varlen
from harness.engine.attention import AttentionRule, additive, attend, join


def tensors(length: int, keys: int, strided: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def make(heads: int, tokens: int) -> torch.Tensor:
        if strided:
            return torch.randn(1, tokens, heads, 16, generator=generator).transpose(1, 2)
        return torch.randn(1, heads, tokens, 16, generator=generator)

    return make(6, length), make(2, keys), make(2, keys)


RULE = AttentionRule(scale=0.25)
MATH = AttentionRule(scale=0.25, fast=False)


@pytest.mark.parametrize("strided", [False, True])
def test_attention_to_a_prefix_is_that_of_the_definition(strided: bool) -> None:
    query, key, value = tensors(70, 300, strided)

    expected, expected_lse = attend(query, key, value, MATH)

    for out, lse in (attend(query, key, value, RULE), cpu.attend_to_all(query[0], key[0], value[0], 0.25)):
        torch.testing.assert_close(out.view_as(expected), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(lse.view_as(expected_lse), expected_lse, atol=1e-5, rtol=1e-5)


def test_masks_and_order_are_those_of_the_definition() -> None:
    query, key, value = tensors(40, 40)
    hidden = torch.rand(40, 40, generator=torch.Generator().manual_seed(2)) < 0.5
    hidden[:, 0] = False
    for options in ({"causal": True}, {"mask": additive(hidden, torch.float32)[None, None]}):
        out, lse = attend(query, key, value, RULE, **options)  # type: ignore[arg-type]
        expected, expected_lse = attend(query, key, value, MATH, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(lse, expected_lse, atol=1e-5, rtol=1e-5)


def test_two_sets_of_keys_join_to_one() -> None:
    query, key, value = tensors(5, 200)
    expected, expected_lse = attend(query, key, value, MATH)
    one = attend(query, key[:, :, :150], value[:, :, :150], RULE)
    other = attend(query, key[:, :, 150:], value[:, :, 150:], RULE)

    out, lse = join(*one, *other)

    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lse, expected_lse, atol=1e-5, rtol=1e-5)


def test_a_query_that_sees_no_key_adds_nothing() -> None:
    query, key, value = tensors(3, 10)
    mask = additive(torch.tensor([[False] * 10, [True] * 10, [False] * 10]), torch.float32)[None, None]
    seen = attend(query, key, value, RULE)

    for rule in (RULE, MATH):
        out, lse = join(seen[0].clone(), seen[1], *attend(query, key, value, rule, mask=mask))
        torch.testing.assert_close(out[:, :, 1], seen[0][:, :, 1])
        torch.testing.assert_close(lse[:, :, 1], seen[1][:, :, 1])
        assert torch.isfinite(out).all()


@pytest.mark.parametrize("products", [True, False])
def test_one_query_attends_alike_by_either_kernel(products: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "products_are_faster", lambda *shape: products)
    generator = torch.Generator().manual_seed(3)
    query, key, value = (
        torch.randn(3, heads, length, 64, generator=generator) for heads, length in ((6, 1), (2, 9), (2, 9))
    )
    hidden = torch.arange(9) > torch.tensor([[4], [8], [-1]])  # the last row sees nothing
    mask = additive(hidden[:, None, None], torch.float32)

    out, lse = attend(query, key, value, RULE, mask=mask)

    expected, expected_lse = attend(query, key, value, MATH, mask=mask)
    torch.testing.assert_close(out[:2], expected[:2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lse, expected_lse, atol=1e-5, rtol=1e-5)
    assert not out[2].any()


@pytest.mark.parametrize(("slow", "products"), [("_by_products", False), ("_by_flash", True)])
def test_the_slower_kernel_is_not_taken(slow: str, products: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = getattr(cpu, slow)

    def busy(*tensors: Any) -> Any:
        for _ in range(9):
            quick(*tensors)
        return quick(*tensors)

    monkeypatch.setattr(cpu, slow, busy)
    monkeypatch.setattr(cpu, "_TRIED_BYTES", 1 << 20)
    assert cpu.products_are_faster.__wrapped__(2, 3, 64) == products


@pytest.mark.parametrize("gain", [2.0, 1.0])
def test_wide_processors_multiply_by_the_faster_library(gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def best_times(*ways: Any, turns: int) -> list[float]:
        tried.append(turns)
        return [gain, 1.0]

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(cpu, "best_times", best_times)
    monkeypatch.setattr(cpu, "_pays", functools.cache(cpu._pays.__wrapped__))
    model = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(3)))
    assert cpu.speed_up_linear_layers(model) == (3 if gain > 1 else 0)
    assert len(tried) == 1, "tried once"
    assert cpu.pays_to_attend(*torch.ones(2, 1, 6, 200, 64)) == (gain > 1)


def test_kernels_are_tried_by_one_thread() -> None:
    before, seen = torch.get_num_threads(), set()
    cpu.best_times(lambda: seen.add(torch.get_num_threads()), turns=2)
    assert seen == {1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("gain", [2.0, 1.0])
def test_few_rows_meet_a_large_weight_by_the_faster_library(gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_pays", lambda dtype: False)
    monkeypatch.setattr(cpu, "best_times", lambda *ways, turns: [gain, 1.0])
    monkeypatch.setattr(cpu, "_pays_for_few_rows", cpu._pays_for_few_rows.__wrapped__)
    monkeypatch.setattr(cpu, "_LARGE_BYTES", 4 * 100 * 64)
    calls: list[int] = []
    quick = cpu._by_onednn
    monkeypatch.setattr(cpu, "_by_onednn", lambda values, *more: calls.append(len(values)) or quick(values, *more))
    model = torch.nn.Sequential(torch.nn.Linear(64, 100), torch.nn.Linear(64, 99))

    assert cpu.speed_up_linear_layers(model) == (1 if gain > 1 else 0)
    layer = model[0]
    for rows in (1, 40, 256, 257):
        values = torch.randn(rows, 64, generator=torch.Generator().manual_seed(rows))
        torch.testing.assert_close(layer(values), torch.nn.functional.linear(values, layer.weight, layer.bias))
    assert calls == ([40, 256] if gain > 1 else [])


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("filled", [False, True])
def test_a_gpus_kernel_takes_what_it_is_given(window: int | None, filled: bool) -> None:
    """Tensors without values, on a GPU that need not be there: torch checks them as it would, and says the shapes."""
    with FakeTensorMode():
        query = torch.empty(10, 8, 64, dtype=torch.bfloat16, device="cuda")
        key = torch.empty(30, 2, 64, dtype=torch.bfloat16, device="cuda")
        queries, keys = (varlen.Spans(torch.empty(4, dtype=torch.int32, device="cuda"), most) for most in (5, 12))
        used = torch.empty(3, dtype=torch.int32, device="cuda") if filled else None
        rule = AttentionRule(0.125, window=window)
        out, lse = varlen.attend_spans(query, key, key, rule, queries, keys, causal=True, used=used)

    assert (out.shape, out.dtype, out.device.type) == (query.shape, torch.bfloat16, "cuda")
    assert (lse.shape, lse.dtype) == ((10, 8), torch.float32)
