"""Captured decode steps give the answers of plain ones; what a card would not capture is not in them.

A tape stands in for a CUDA graph. It keeps the operations of one step with the very tensors they had, and does them
again when it is asked: so whatever Python decided while it was captured, stays decided. As a graph it takes no
operation in which the processor waits for a number or brings one along.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness import GenerationParams, ModelOptions, Prompt, Request, Response
from harness.engine import cuda_graphs, elementwise, execute, kernels, varlen
from harness.engine.generate import SharedGenerator
from harness.engine.limits import EngineLimits, GraphLimits, PlanLimits
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

SHOTS = "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n答案是：A\n\n" * 6
SLOTS = 4
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "gemma2": {"sliding_window": 24, "attn_logit_softcapping": 5.0},
    "gpt_neox": {"rotary_pct": 0.5},
    "mixtral": {"num_local_experts": 4, "sliding_window": 40},
}
# To read a number, to count hits, and to make a tensor of Python's numbers, a capture would have to stop.
REFUSED = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_nonzero")


class Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(operation) for name in REFUSED):
            raise RuntimeError(f"operation not permitted when stream is capturing: {operation}")
        result = operation(*args, **(kwargs or {}))
        self.done.append((operation, args, kwargs or {}, result))
        return result

    def again(self) -> None:
        for operation, args, kwargs, result in self.done:
            found = operation(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(found), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def capture(step: cuda_graphs.Step) -> cuda_graphs.Step:
    step()
    with Tape() as tape:
        result = step()

    def replay() -> torch.Tensor:
        tape.again()
        return result

    return replay


@pytest.fixture(autouse=True)
def operators_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a card there are no compiled functions of a processor, and a tape would not see them."""
    monkeypatch.setattr(kernels, "_kernels", lambda *_: None)
    monkeypatch.setattr(elementwise, "library", lambda _: None)


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> list[SharedGenerator]:
    """Steps are captured, however long that takes; the generators that did so."""
    made: list[SharedGenerator] = []
    make = execute.Executor.shared_generator

    def remembered(self: execute.Executor, rows: Any, of: int | None = None) -> SharedGenerator:
        made.append(make(self, rows, of))
        return made[-1]

    monkeypatch.setattr(execute.Executor, "shared_generator", remembered)
    monkeypatch.setattr(execute, "graph_capture", lambda model, device: capture)
    return made


def make_model(path: Path, batch_size: int | str = SLOTS, most: float = float("inf")) -> HuggingFace:
    args = {"pretrained": str(path), "dtype": "float32"}
    model = HuggingFace.create(args, ModelOptions(device="cpu", batch_size=batch_size))
    model.limits = EngineLimits(PlanLimits(leaf=8, long_leaf=8, gain=16), GraphLimits(steps_before=3, most=most))
    model.prepare()
    model.load()
    assert model.executor.attention is not None
    model.executor.attention.fast = False  # a processor's own kernels look at numbers, which is free there
    return model


def requests(prefix: str = SHOTS) -> list[Request]:
    """More than there are slots, some of them short, so that rows leave and others take their places."""
    return [
        Request("generate", Prompt(f"{number} + {number} =", prefix), generation=params)
        for number in range(6)
        for params in (
            GenerationParams(max_new_tokens=18 + 3 * number),
            GenerationParams(max_new_tokens=12, do_sample=True, temperature=1.2, seed=number),
        )
    ]


def answers(model: HuggingFace, asked: list[Request]) -> list[Response]:
    found = dict(model.respond(asked))
    return [found[index] for index in range(len(asked))]


def texts(responses: list[Response]) -> list[tuple[str | None, str | None, str | None]]:
    return [(response.text, response.finish_reason, response.error) for response in responses]


@pytest.mark.parametrize("prefix", [SHOTS, ""])
@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=() if name == "qwen2" else pytest.mark.slow) for name in ARCHITECTURES]
)
def test_captured_steps_give_the_same_answers(
    architecture: str, prefix: str, tmp_path: Path, generators: list[SharedGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_causal_lm(tmp_path / "model", architecture, **ARCHITECTURES[architecture])
    found = texts(answers(make_model(path), requests(prefix)))
    assert generators[0].lanes[0].steps.replayed > 30
    assert any(row.children for row in generators[0].plan.rows) == bool(prefix)

    monkeypatch.setattr(execute, "graph_capture", lambda model, device: None)
    assert found == texts(answers(make_model(path), requests(prefix)))
    assert generators[1].lanes[0].steps.replayed == 0


def test_a_window_that_leaves_the_shared_prefix_behind_after_the_capture(
    tmp_path: Path, generators: list[SharedGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests(SHOTS[: len(SHOTS) // 3])
    tokens = make_model(tiny_causal_lm(tmp_path / "any")).count_tokens(asked[0].prompt.text)
    assert tokens is not None
    path = tiny_causal_lm(tmp_path / "model", "gemma3_text", sliding_window=tokens + 5)
    found = texts(answers(make_model(path), asked))
    assert generators[0].lanes[0].steps.replayed > 30

    monkeypatch.setattr(execute, "graph_capture", lambda model, device: None)
    assert found == texts(answers(make_model(path), asked))


@torch.library.custom_op("harness_tests::varlen", mutates_args=())
def attend_filled(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, used: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One query a sequence, which sees the keys that are used. To a capture this is one operation."""
    out, lse = torch.empty_like(query), torch.empty(query.shape[1], query.shape[0])
    for number, (first, count) in enumerate(zip(ends.tolist()[:-1], used.tolist(), strict=True)):
        scores = torch.einsum("hd,kd->hk", query[number], key[first : first + count, 0]) * scale
        out[number] = scores.softmax(-1) @ value[first : first + count, 0]
        lse[:, number] = scores.logsumexp(-1)
    return out, lse


@pytest.mark.slow
def test_steps_with_a_gpus_kernel_are_captured_too(
    tmp_path: Path, generators: list[SharedGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_causal_lm(tmp_path / "model")
    plain = texts(answers(make_model(path), requests()))

    def kernel(query: Any, key: Any, value: Any, ends: Any, key_ends: Any, *_: int, **rest: Any) -> Any:
        return attend_filled(query, key, value, key_ends, rest["seqused_k"], rest["scale"])

    monkeypatch.setattr(varlen, "_kernel", lambda: kernel)
    # Of steps alone: prompts hold more than one query.
    monkeypatch.setattr(varlen, "serves", lambda query, value, rule: query.shape[1] == SLOTS)

    assert texts(answers(make_model(path), requests())) == plain
    assert generators[-1].lanes[0].steps.replayed > 30


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["values", "refused", "memory", "slower"])
def test_a_capture_that_is_not_right_or_not_faster_is_not_used(
    wrong: str,
    tmp_path: Path,
    generators: list[SharedGenerator],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def bad(step: cuda_graphs.Step) -> cuda_graphs.Step:
        if wrong == "refused":
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        if wrong == "memory":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        replay = capture(step)
        return replay if wrong == "slower" else lambda: replay() * 1.2

    monkeypatch.setattr(execute, "graph_capture", lambda model, device: bad)
    path = tiny_causal_lm(tmp_path / "model")
    with caplog.at_level(logging.INFO, logger="harness"):
        model = make_model(path, most=0.0 if wrong == "slower" else float("inf"))
        found = texts(answers(model, requests()))

    assert generators[0].lanes[0].steps.replayed == 0
    said = {"values": "20.0% away", "refused": "capturing", "memory": "out of memory", "slower": "takes"}[wrong]
    assert said in caplog.text
    monkeypatch.setattr(execute, "graph_capture", lambda model, device: None)
    assert found == texts(answers(make_model(path), requests()))


def test_only_a_model_on_one_gpu_is_captured() -> None:
    model = torch.nn.Linear(1, 1)
    assert cuda_graphs.graph_capture(model, "cpu") is None
    assert cuda_graphs.graph_capture(model, "cuda:0") is not None
    model.hf_device_map = {"": 0}  # type: ignore[assignment]
    assert cuda_graphs.graph_capture(model, "cuda:0") is not None
    model.hf_device_map = {"model": 0, "lm_head": "cpu"}  # type: ignore[assignment]
    assert cuda_graphs.graph_capture(model, "cuda:0") is None
