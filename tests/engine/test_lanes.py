"""Two passes at once give what one after the other gives, and leave nothing behind when they are stopped."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import GenerationParams, ModelOptions, Prompt, Request, Response
from harness.engine import execute, memory
from harness.engine.attention import SharedAttention
from harness.engine.execute import SharingDiffersError
from harness.engine.lanes import Common, Lanes, lanes_for
from harness.engine.limits import EngineLimits, PlanLimits
from harness.engine.plain import BatchLimits
from harness.engine.plan import PlanItem, in_time, make_plan
from harness.stopwatch import Stopwatch
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

SHOTS = "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n答案是：A\n\n" * 6
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "gemma2": {"sliding_window": 24, "attn_logit_softcapping": 5.0},
    "gpt2": {},
    "mixtral": {"num_local_experts": 4, "sliding_window": 40},
}


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch has two threads; batches and groups of rows are so small that there are many."""
    monkeypatch.setattr(memory, "_CPU_BATCH_TOKENS", 96)
    monkeypatch.setattr(execute, "_ROWS_A_THREAD", {"float32": 1})
    monkeypatch.setattr(execute, "_GENERATED_ROWS", {"cpu": 4})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def make_model(path: Path) -> HuggingFace:
    model = HuggingFace.create({"pretrained": str(path), "dtype": "float32"}, ModelOptions(device="cpu"))
    model.limits = EngineLimits(PlanLimits(leaf=48, long_leaf=96, gain=16))
    model.prepare()
    model.load()
    return model


def requests() -> list[Request]:
    """Below three shared prefixes, and below none."""
    asked = []
    for subject in ("", SHOTS, f"历史。{SHOTS}", f"地理。{SHOTS}"):
        for number in range(5):
            prompt = Prompt(f"{number} + {number} =", subject)
            asked.append(Request("loglikelihood", prompt, ("A", " B", "是")))
            params = GenerationParams(max_new_tokens=3 + 2 * number, do_sample=number == 2, temperature=1.2, seed=5)
            asked.append(Request("generate", prompt, generation=params))
    return asked


def answers(model: HuggingFace, asked: list[Request]) -> list[Response]:
    found = dict(model.respond(asked))
    assert len(found) == len(asked)
    return [found[index] for index in range(len(asked))]


def lane_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("harness-lane")]


@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=() if name == "qwen2" else pytest.mark.slow) for name in ARCHITECTURES]
)
def test_two_passes_at_once_answer_as_one_after_the_other(
    architecture: str, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_causal_lm(tmp_path, architecture=architecture, **ARCHITECTURES[architecture])
    seen: set[str] = set()
    attend = SharedAttention._forward

    def noted(self: SharedAttention, *args: Any, **kwargs: Any) -> Any:
        seen.add(threading.current_thread().name)
        return attend(self, *args, **kwargs)

    monkeypatch.setattr(SharedAttention, "_forward", noted)
    model = make_model(path)
    together = answers(model, requests())
    assert {name for name in seen if name.startswith("harness-lane")} == {"harness-lane_0", "harness-lane_1"}
    assert model.executor.notes == [] and model.executor.attention is not None and model.executor.attention.fast
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(execute, "lanes_for", lambda model, device: 1)
    alone = answers(make_model(path), requests())
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.finish_reason, one.error) == (other.text, other.finish_reason, other.error)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_time_of_attention_in_lanes_is_told_apart(tmp_path: Path, two_threads: None) -> None:
    model = make_model(tiny_causal_lm(tmp_path))
    model.clock = Stopwatch()
    with model.clock.phase("model"):
        answers(model, requests())
    spent = model.clock.so_far().phases
    assert spent["attention"] > 0 and spent["model"] > 0
    assert all(seconds >= 0 for seconds in spent.values())


@pytest.mark.parametrize("kind", ["loglikelihood", "generate"])
def test_what_goes_wrong_in_a_lane_is_raised_once_and_answers_nothing(
    kind: str, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(tiny_causal_lm(tmp_path))
    asked = [request for request in requests() if request.kind == kind]
    answers(model, asked)
    attend, calls = SharedAttention._forward, iter(range(1_000_000))

    def failing(self: SharedAttention, *args: Any, **kwargs: Any) -> Any:
        if next(calls) == 20:
            raise ValueError("这一步错了")
        return attend(self, *args, **kwargs)

    monkeypatch.setattr(SharedAttention, "_forward", failing)
    monkeypatch.setattr(execute.Executor, "_fall_back", lambda self, error: pytest.fail(str(error)))
    given = []
    with pytest.raises((ValueError, pytest.fail.Exception), match="这一步错了"):
        for _, response in model.respond(asked):
            given.append(response)
    assert all(response.error is None for response in given)
    assert lane_threads() == [] and torch.get_num_threads() == 2


@pytest.mark.parametrize("kind", ["loglikelihood", "generate"])
def test_memory_that_runs_out_in_a_lane_halves_its_batch(
    kind: str, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_causal_lm(tmp_path)
    asked = [request for request in requests() if request.kind == kind]
    expected = answers(make_model(path), asked)
    attend = SharedAttention._forward

    def crowded(self: SharedAttention, *args: Any, **kwargs: Any) -> Any:
        if len(getattr(self._here.layout, "rows", ())) > 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory")
        return attend(self, *args, **kwargs)

    monkeypatch.setattr(SharedAttention, "_forward", crowded)
    found = answers(make_model(path), asked)
    assert [response.error for response in found] == [None] * len(asked)
    assert [response.text for response in found] == [response.text for response in expected]


@pytest.mark.parametrize("kind", ["loglikelihood", "generate"])
def test_no_answer_is_given_before_sharing_was_checked(
    kind: str, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(*_: Any) -> None:
        raise SharingDiffersError("it differs")

    path = tiny_causal_lm(tmp_path)
    asked = [request for request in requests() if request.kind == kind]
    expected = answers(make_model(path), asked)
    for name in ("_verify_score", "_verify_logits"):
        monkeypatch.setattr(execute.Executor, name, differs)
    model = make_model(path)
    found = answers(model, asked)
    assert model.executor.attention is None and "it differs" in model.executor.notes[0]
    assert [response.text for response in found] == [response.text for response in expected]


@pytest.mark.parametrize("kind", ["loglikelihood", "generate"])
def test_who_leaves_early_leaves_no_pass_behind(kind: str, tmp_path: Path, two_threads: None) -> None:
    model = make_model(tiny_causal_lm(tmp_path))
    asked = [request for request in requests() if request.kind == kind]
    given = model.respond(asked)
    next(given)
    given.close()
    assert lane_threads() == [] and torch.get_num_threads() == 2
    assert model.executor.attention is not None and not model.executor.attention.halted
    assert all(response.error is None for response in answers(model, asked))


@pytest.mark.parametrize("kind", ["loglikelihood", "generate"])
def test_a_model_goes_with_its_last_reference(
    kind: str, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for garbage that holds it takes tenths of a second at the end of each run."""
    model = make_model(tiny_causal_lm(tmp_path))
    gc.disable()
    try:
        answers(model, [request for request in requests() if request.kind == kind])
        monkeypatch.setattr(gc, "collect", lambda: pytest.fail("it was looked for"))
        module = weakref.ref(model.module)
        model.close()
        assert module() is None
    finally:
        gc.enable()


def test_the_first_rows_are_alone_and_the_last_batches_small(tmp_path: Path, two_threads: None) -> None:
    model = make_model(tiny_causal_lm(tmp_path))
    scorer = model.executor.shared_scorer()
    scorer.limits = BatchLimits(None, 800)
    encoded = model.prompts.encode([request for request in requests() if request.kind == "loglikelihood"])
    portions = [encoded.scores[:20], encoded.scores[20:]]
    chains = list(scorer._chains(portions))

    alone = sum(chain.is_alone for chain in chains)
    assert alone and all(chain.is_alone for chain in chains[:alone])
    last = [chain for chain in chains if chain.planned is chains[-1].planned]
    sizes = [sum(len(row.tokens) for row in chain.rows) for chain in last]
    assert max(sizes) > 400 and sizes[-1] <= 200
    for planned in {id(chain.planned): chain.planned for chain in chains}.values():
        batches = [batch for chain in chains if chain.planned is planned for batch in chain.batches]
        places = {row.index: place for place, batch in enumerate(batches) for row in batch}
        assert sorted(places) == sorted(row.index for row in planned.rows)
        assert sum(map(len, batches)) == len(planned.rows)
        assert all(row.parent is None or places[row.parent] < places[row.index] for row in planned.rows)


def test_the_last_lane_takes_all_threads() -> None:
    attention: Any = type("Attention", (), {"clock": Stopwatch(), "time_here": lambda self, clock: None})()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    ended = threading.Event()
    try:
        with Lanes(2, attention) as lanes:

            def long() -> tuple[int, int]:
                first = torch.get_num_threads()
                ended.wait(20)
                for _ in range(200):
                    lanes.widen()
                    if torch.get_num_threads() == 3:
                        break
                    time.sleep(0.01)
                return first, torch.get_num_threads()

            one = lanes.begin(long)
            other = lanes.begin(torch.get_num_threads)
            assert other.result() in (1, 2)
            ended.set()
            first, last = one.result()
            assert first + other.result() == 3
            assert last == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_common_change_is_made_once_and_undone_for_who_asks() -> None:
    state: list[str] = []

    @contextmanager
    def change() -> Iterator[None]:
        state.append("made")
        yield
        state.append("undone")

    common = Common()
    inside, leave, seen = threading.Barrier(3), threading.Event(), threading.Event()

    def enter() -> None:
        with common.within(change):
            inside.wait(20)
            leave.wait(20)

    def alone() -> None:
        with common.undone():
            seen.set()
            assert state == ["made", "undone"]

    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(20)
    assert state == ["made"]
    threads.append(threading.Thread(target=alone))
    threads[-1].start()
    assert not seen.wait(0.05)
    leave.set()
    for thread in threads:
        thread.join(20)
    assert seen.is_set()
    with common.within(change), common.within(change):
        assert state[2:] == ["made"]
    assert state[2:] == ["made", "undone"]


def test_shared_prefixes_stand_earlier_and_never_behind_what_continues_them() -> None:
    stream = random.Random(4)
    for _ in range(60):
        heads = [tuple(stream.choices(range(50), k=stream.randrange(1, 30))) for _ in range(4)]
        texts = {
            (*stream.choice(heads), *stream.choice(heads), *stream.choices(range(50), k=stream.randrange(1, 12)))
            for _ in range(stream.randrange(1, 40))
        }
        plan = make_plan([PlanItem(text, 0) for text in texts], PlanLimits(leaf=16, long_leaf=32, gain=8))
        ordered = in_time(plan.rows, stream.randrange(0, 80))
        places = {row.index: place for place, row in enumerate(ordered)}
        assert sorted(places) == list(range(len(plan.rows)))
        for row in plan.rows:
            assert row.parent is None or places[row.parent] < places[row.index]
            if row.children:
                assert places[row.index] <= row.index


def test_one_lane_where_two_would_not_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    module = make_model(tiny_causal_lm(tmp_path)).module
    assert lanes_for(module, "cpu") == 2
    assert lanes_for(module, "cuda:0") == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert lanes_for(module, "cpu") == 1
    with monkeypatch.context() as patched:
        patched.setenv("OMP_PROC_BIND", "true")
        assert lanes_for(module, "cpu") == 1
    with monkeypatch.context() as patched:
        patched.setattr(module.model.rotary_emb, "rope_type", "longrope")
        assert lanes_for(module, "cpu") == 1
    handle = module.model.layers[0].register_forward_pre_hook(lambda *_: None)
    assert lanes_for(module, "cpu") == 1
    handle.remove()
    monkeypatch.setattr(type(module), "__module__", "modeling_own")
    assert lanes_for(module, "cpu") == 1
    monkeypatch.undo()
    torch.set_num_threads(1)
    assert lanes_for(module, "cpu") == 1
