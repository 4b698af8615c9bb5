"""Attention by compiled functions is that of the definition, and what cannot be compiled is done without."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness.engine import compiled, kernels
from harness.engine.attention import AttentionRule
from harness.engine.kernels import Jobs, Kernels

needs_compiler = pytest.mark.skipif(kernels._kernels(64, 3, torch.float32) is None, reason="needs gcc on Linux")
SHAPES = [(16, 1), (48, 4), (64, 3), (64, 7), (80, 1), (128, 13), (256, 2)]


def made(dim: int, group: int, dtype: torch.dtype = torch.float32) -> Kernels:
    found = kernels._kernels(dim, group, dtype)
    assert found is not None
    return found


def some(heads: int, tokens: int, dim: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[heads, tokens, dim], laid out token by token as a model has it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, heads, dim, generator=generator).mul(1.5).to(dtype).transpose(0, 1)


def defined(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention in float64: out [tokens, heads, dim], lse [tokens, heads]."""
    group = len(query) // len(key)
    scores = query.double() @ key.double().repeat_interleave(group, 0).transpose(1, 2) * scale
    scores = scores if mask is None else scores + mask
    out = scores.softmax(-1).nan_to_num() @ value.double().repeat_interleave(group, 0)
    return out.transpose(0, 1), scores.logsumexp(-1).T


def assert_near(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Outputs in bfloat16 are rounded, once for each of two sets of keys; log-sum-exps are float32 in either case."""
    near = 1e-5 if found[0].dtype == torch.float32 else 2**-7
    torch.testing.assert_close(found[0].double(), expected[0], atol=near, rtol=near)
    torch.testing.assert_close(found[1].double(), expected[1], atol=1e-5, rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize(("dim", "group"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_a_pack_attend_to_themselves_then_to_what_they_share(dim: int, group: int, dtype: torch.dtype) -> None:
    lengths, above, scale = [1, 3, 350, 41], 290, dim**-0.5
    tokens = sum(lengths)
    query, key, value = (some(heads, tokens, dim, seed, dtype) for seed, heads in enumerate((2 * group, 2, 2)))
    prefix, held = some(2, above, dim, 5, dtype), some(2, above, dim, 6, dtype)
    out, lse = torch.empty(tokens, 2 * group, dim, dtype=dtype), torch.empty(tokens, 2 * group)
    starts = [sum(lengths[:row]) for row in range(len(lengths))]
    jobs = [(start, length, start, length, -1) for start, length in zip(starts, lengths, strict=True)]

    made(dim, group, dtype).attend(query, key, value, scale, out, lse, Jobs.of(jobs), causal=True)
    # Of the tokens only some are read; the others keep what they had.
    places = torch.tensor([0, 4, *range(10, tokens, 3)])
    before = out.clone(), lse.clone()
    shared = Jobs.of([(0, len(places), 0, above, -1)])
    made(dim, group, dtype).attend(query, prefix, held, scale, out, lse, shared, join=True, places=places)

    for start, length in zip(starts, lengths, strict=True):
        own = slice(start, start + length)
        hidden = torch.full((length, length), float("-inf")).triu_(1)
        alone = defined(query[:, own], key[:, own], value[:, own], scale, hidden)
        assert_near((before[0][own], before[1][own]), alone)
        both = defined(
            query[:, own],
            torch.cat((key[:, own], prefix), 1),
            torch.cat((value[:, own], held), 1),
            scale,
            torch.cat((hidden, torch.zeros(length, above)), 1),
        )
        read = [place for place in range(start, start + length) if place in places]
        at = [place - start for place in read]
        assert_near((out[read], lse[read]), (both[0][at], both[1][at]))
    others = [place for place in range(tokens) if place not in places]
    assert torch.equal(out[others], before[0][others])
    assert torch.equal(lse[others], before[1][others])


@needs_compiler
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_are_added_and_a_token_that_sees_nothing_gives_nothing(causal: bool, dtype: torch.dtype) -> None:
    lengths = [9, 200]
    query, key, value = (some(heads, sum(lengths), 64, seed, dtype) for seed, heads in enumerate((6, 2, 2)))
    masks = [torch.rand(length, length, generator=torch.Generator().manual_seed(3)) < 0.5 for length in lengths]
    masks[1][17] = True
    added = [torch.zeros(mask.shape).masked_fill_(mask, float("-inf")) for mask in masks]
    out, lse = torch.empty(209, 6, 64, dtype=dtype), torch.empty(209, 6)
    jobs = Jobs.of([(0, 9, 0, 9, 0), (9, 200, 9, 200, 81)], torch.cat([mask.flatten() for mask in added]))

    made(64, 3, dtype).attend(query, key, value, 0.125, out, lse, jobs, causal=causal)

    for start, mask in ((0, added[0]), (9, added[1])):
        own = slice(start, start + len(mask))
        later = torch.full(mask.shape, float("-inf")).triu_(1) if causal else 0.0
        assert_near((out[own], lse[own]), defined(query[:, own], key[:, own], value[:, own], 0.125, mask + later))
    assert out[9 + 17].eq(0).all()
    assert lse[9 + 17].isneginf().all()


@needs_compiler
@pytest.mark.parametrize(("dim", "group"), SHAPES)
@pytest.mark.parametrize("window", [None, 5])
def test_a_step_puts_a_token_into_each_slot_and_attends_to_it(dim: int, group: int, window: int | None) -> None:
    lengths = torch.tensor([0, 1, 7, 129, 36])
    query, key, value = (some(heads, 5, dim, seed) for seed, heads in enumerate((2 * group, 2, 2)))
    keys, values = (some(10, 130, dim, seed).reshape(5, 2, 130, dim).contiguous() for seed in (7, 8))
    kept = keys.clone()

    found = made(dim, group).attend_slots(query, key, value, keys, values, lengths, AttentionRule(0.2, window=window))

    for row, length in enumerate(lengths.tolist()):
        first = 0 if window is None else max(0, length + 1 - window)
        assert torch.equal(keys[row, :, length], key[:, row])
        assert torch.equal(keys[row, :, :length], kept[row, :, :length])
        seen = slice(first, length + 1)
        expected = defined(query[:, row : row + 1], keys[row, :, seen], values[row, :, seen], 0.2)
        assert_near((found[0][row : row + 1], found[1][row : row + 1]), expected)


@needs_compiler
def test_bfloat16_is_rounded_once() -> None:
    query, key, value = (some(heads, 70, 64, seed, torch.bfloat16) for seed, heads in enumerate((6, 2, 2)))
    out, lse = torch.empty(70, 6, 64, dtype=torch.bfloat16), torch.empty(70, 6)

    made(64, 3, torch.bfloat16).attend(query, key, value, 0.125, out, lse, Jobs.of([(0, 70, 0, 70, -1)]))

    expected, expected_lse = defined(query, key, value, 0.125)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=2**-8)
    torch.testing.assert_close(lse.double(), expected_lse, atol=1e-5, rtol=1e-5)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_is_never_hidden(dtype: torch.dtype) -> None:
    query, key, value = (some(heads, 8, 64, seed, dtype) for seed, heads in enumerate((6, 2, 2)))
    key[0, 3, 2] = float("nan")
    out, lse = torch.empty(8, 6, 64, dtype=dtype), torch.empty(8, 6)

    made(64, 3, dtype).attend(query, key, value, 0.125, out, lse, Jobs.of([(0, 8, 0, 8, -1)]), causal=True)

    assert out[:3].isfinite().all()
    assert out[3:, :3].isnan().all()
    assert lse[3:, :3].isnan().all()
    assert out[:, 3:].isfinite().all()


@pytest.fixture
def nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No function is known yet, and the folder of compiled ones is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kernels._kernels.cache_clear()
    yield
    kernels._kernels.cache_clear()


@pytest.mark.usefixtures("nothing_compiled")
def test_without_a_compiler_torch_attends(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("PATH", "")

    assert kernels._kernels(64, 3, torch.float32) is None
    assert "no C compiler" in caplog.text


@pytest.mark.usefixtures("nothing_compiled")
def test_who_forbids_compiling_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.SWITCH, "0")

    assert kernels._kernels(64, 3, torch.float32) is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("nothing_compiled")
def test_a_compiler_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "gcc").write_text("#!/bin/sh\necho 'cannot\nbe done' >&2\nexit 1\n")
    (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert kernels._kernels(64, 3, torch.float32) is None
    assert "attention.c was not compiled, torch's operators are used: cannot be done" in caplog.text


@needs_compiler
@pytest.mark.usefixtures("nothing_compiled")
def test_a_folder_that_cannot_be_written_is_survived(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")

    assert kernels._kernels(64, 3, torch.float32) is None


@needs_compiler
@pytest.mark.usefixtures("nothing_compiled")
def test_a_library_that_is_not_whole_is_compiled_again(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    assert compiler is not None
    library = compiled._library(compiler, "attention.c", ("-DDIM=32", "-DGROUP=5", "-DHALF=0"))
    whole = library.stat().st_size
    library.write_bytes(library.read_bytes()[:100])

    assert kernels._kernels(32, 5, torch.float32) is not None
    assert library.stat().st_size == whole
