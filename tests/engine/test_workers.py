"""Several processes take work from one queue; one that dies gives its work back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import GenerationParams, ModelError, ModelOptions, Prompt, Request, Response
from harness.engine import tokens
from harness.engine.limits import EngineLimits
from harness.engine.tokens import Encoded, GenerateSequence, ScoreSequence
from harness.engine.workers import WorkerPool, cut_work
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

pytestmark = pytest.mark.slow

SHOTS = "Question: How many apples are left? Answer: 42\n" * 6


def requests() -> list[Request]:
    scored = [Request("loglikelihood", Prompt(f"{i} + 1 =", SHOTS), (" 1", " 2", " 42")) for i in range(40)]
    params = GenerationParams(max_new_tokens=8)
    return [*scored, *(Request("generate", Prompt(f"{i} * 2 =", SHOTS), generation=params) for i in range(20))]


def make_model(path: Path, device: str) -> HuggingFace:
    model = HuggingFace.create({"pretrained": str(path), "dtype": "float32"}, ModelOptions(device=device))
    model.limits = EngineLimits(work_item=64)  # small pieces of work, so that each worker gets several
    model.prepare()
    model.load()
    return model


def answers(model: HuggingFace) -> list[Response]:
    found = dict(model.respond(requests()))
    return [found[index] for index in range(len(requests()))]


def assert_same(found: list[Response], expected: list[Response]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.error is None
        # Other batches, and so another order of sums; nothing else.
        assert one.logprobs == pytest.approx(other.logprobs, rel=2e-5, abs=2e-5)
        assert (one.text, one.is_greedy, one.token_counts) == (other.text, other.is_greedy, other.token_counts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[Response]:
    return answers(make_model(folder, "cpu"))


@pytest.fixture
def pair(folder: Path) -> Iterator[HuggingFace]:
    model = make_model(folder, "cpu:0,1")
    yield model
    model.close()


def test_workers_share_the_work_and_survive_each_other(pair: HuggingFace, alone: list[Response]) -> None:
    assert pair.describe()["workers"] == 2
    assert_same(answers(pair), alone)

    stream = pair.respond(requests())
    first = next(stream)
    pool = pair._pool
    assert isinstance(pool, WorkerPool)
    victim = pool._workers[0]
    victim.process.kill()
    found = dict([first, *stream])

    assert_same([found[index] for index in range(len(requests()))], alone)
    (lost,) = pool.lost
    assert (lost.pid, lost.status, lost.failed) == (victim.process.pid, -9, 0)


def test_workers_begin_before_the_last_prompt_is_tokenised(
    pair: HuggingFace, alone: list[Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_FIRST_PORTION", (4, 4))
    monkeypatch.setattr(tokens, "_OTHER_PORTIONS", (4, 4))
    scored = requests()[:40]
    made: list[int] = []
    encode = tokens._encode_choices

    def counted(encoder: Any, asked: Any, texts: Any, encoded: Encoded) -> None:
        made.append(len(texts))
        encode(encoder, asked, texts, encoded)

    monkeypatch.setattr(tokens, "_encode_choices", counted)

    stream = pair.respond(scored)
    first = next(stream)
    assert sum(made) < 40, "some prompts are not tokenised yet"
    pool = pair._pool
    assert isinstance(pool, WorkerPool)
    pool._workers[0].process.kill()
    found = dict([first, *stream])

    assert_same([found[index] for index in range(40)], alone[:40])
    assert sum(made) == 40


def test_a_model_that_no_worker_can_load_is_one_error(folder: Path, tmp_path: Path) -> None:
    model = HuggingFace.create({"pretrained": str(folder)}, ModelOptions(device="cpu:0,1"))
    model.prepare()
    model.checkpoint.pretrained = str(tmp_path / "gone")

    with pytest.raises(ModelError, match="gone"):
        model.load()


def test_jobs_keep_together_what_shares_an_input() -> None:
    prefix = tuple(range(3000))
    encoded = Encoded(
        scores=[ScoreSequence(i, part, (*prefix, 5000 + i), (part,)) for i in range(50) for part in range(4)],
        generations=[GenerateSequence(100 + i, (i, 2, 3), 600, GenerationParams()) for i in range(10)],
    )

    items = cut_work(encoded, 4, 2048)

    assert sorted(s.request for item in items for s in item.scores) == sorted([*range(50)] * 4)
    assert sorted(s.request for item in items for s in item.generations) == list(range(100, 110))
    for item in items:
        inputs = [sequence.tokens[:-1] for sequence in item.scores]
        assert all(inputs.count(each) == 4 for each in inputs)
