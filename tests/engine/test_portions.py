"""Requests are encoded and planned a portion at a time, while those before them are computed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_lanes import make_model

from harness import Prompt, Request, Response
from harness.engine import memory, tokens
from harness.engine.execute import SharingDiffersError
from harness.engine.prefetch import prefetched
from harness.engine.tokens import Encoded, encode_in_portions
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

SHOTS = "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n答案是：A\n\n" * 6


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_FIRST_PORTION", (4, 9))
    monkeypatch.setattr(tokens, "_OTHER_PORTIONS", (4, 9))
    monkeypatch.setattr(tokens, "_ALIKE", 40)
    monkeypatch.setattr(memory, "_CPU_BATCH_TOKENS", 96)


def requests() -> list[Request]:
    """Of four subjects, five, eleven, six and two, with a text and prompts to continue among them."""
    asked = []
    for subject, count in ((f"历史。{SHOTS}", 5), (f"地理。{SHOTS}", 11), ("", 6), ("语文。" * 20, 2)):
        asked += [Request("loglikelihood", Prompt(f"{n} + {n} =", subject), ("A", " B", "是")) for n in range(count)]
        asked += [Request("rolling", Prompt(f"{subject}{count}")), Request("generate", Prompt(f"{count} =", subject))]
    return asked


def answers(model: HuggingFace, asked: list[Request]) -> list[Response]:
    found = list(model.respond(asked))
    assert len({index for index, _ in found}) == len(found) == len(asked), "each is answered once"
    return [response for _, response in sorted(found, key=lambda pair: pair[0])]


def assert_same(found: list[Response], expected: list[Response]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert (one.text, one.error, one.prompt_tokens) == (other.text, other.error, other.prompt_tokens)


def portions(model: HuggingFace, asked: list[Request]) -> list[Encoded]:
    return list(model.prompts.portions(asked))


@pytest.mark.usefixtures("small_portions")
def test_what_begins_alike_is_in_one_portion(tmp_path: Path) -> None:
    model, asked = make_model(tiny_causal_lm(tmp_path)), requests()
    found = portions(model, asked)

    scored = [[index for index in portion.parts if asked[index].kind == "loglikelihood"] for portion in found]
    # The first subject; of the second as many as may be; the rest, and what begins otherwise each time.
    assert [len(each) for each in scored] == [5, 9, 2 + 2, 4, 2]
    others = [index for portion in found for index in portion.parts if asked[index].kind != "loglikelihood"]
    assert sorted(others) == sorted(set(found[-1].parts) - set(scored[-1]))
    whole = model.prompts.encode(asked)
    assert Encoded.joined(found) == whole


@pytest.mark.usefixtures("small_portions")
def test_portions_change_no_answer(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_causal_lm(tmp_path)
    found = answers(make_model(path), requests())
    monkeypatch.setattr(tokens, "_FIRST_PORTION", (1000, 1000))
    monkeypatch.setattr(tokens, "_OTHER_PORTIONS", (1000, 1000))
    expected_model = make_model(path)
    assert len(portions(expected_model, requests())) == 1
    assert_same(found, answers(expected_model, requests()))
    expected_model.executor.attention = None
    assert_same(found, answers(expected_model, requests()))


@pytest.mark.usefixtures("small_portions", "threads")
def test_an_answer_comes_before_the_last_request_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = make_model(tiny_causal_lm(tmp_path)), requests()
    answered = threading.Event()
    encode_choices = tokens._encode_choices

    def waiting(encoder: Any, requests: Any, texts: Any, encoded: Encoded) -> None:
        if max(texts, default=0) > 15:
            assert answered.wait(60)
        encode_choices(encoder, requests, texts, encoded)

    monkeypatch.setattr(tokens, "_encode_choices", waiting)
    found = []
    for pair in model.respond(asked):
        found.append(pair)
        answered.set()
    assert len(found) == len(asked)


@pytest.mark.usefixtures("small_portions", "threads")
def test_sharing_that_goes_wrong_in_a_later_portion_answers_each_request_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked = make_model(tiny_causal_lm(tmp_path)), requests()
    expected = answers(make_model(tmp_path), asked)
    passes = []
    hidden_at = model.executor.decoder.hidden_at

    def differs_later(*given: Any, **inputs: Any) -> Any:
        passes.append(threading.current_thread())
        if len(passes) == 12:
            raise SharingDiffersError("a shared pass gave something else")
        return hidden_at(*given, **inputs)

    monkeypatch.setattr(model.executor.decoder, "hidden_at", differs_later)
    assert_same(answers(model, asked), expected)
    assert len(passes) > 12
    assert not model.executor.attention.fast, "the rest went without fused kernels"


@pytest.mark.usefixtures("small_portions", "threads")
def test_a_tokenizer_that_fails_later_is_not_taken_for_a_pass_that_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, asked = make_model(tiny_causal_lm(tmp_path)), requests()
    encode_choices = tokens._encode_choices

    def fails(encoder: Any, requests: Any, texts: Any, encoded: Encoded) -> None:
        if max(texts, default=0) > 15:
            raise ValueError("no such word")
        encode_choices(encoder, requests, texts, encoded)

    monkeypatch.setattr(tokens, "_encode_choices", fails)
    found = []
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="no such word"):
        for pair in model.respond(asked):
            found.append(pair)
    assert len(found) >= 5, "what was encoded before is answered"
    assert not caplog.records
    assert model.executor.attention.fast


def test_prompts_without_an_answer_are_told_in_each_portion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_FIRST_PORTION", (2, 2))
    monkeypatch.setattr(tokens, "_OTHER_PORTIONS", (2, 2))
    model = make_model(tiny_causal_lm(tmp_path))
    asked = [Request("loglikelihood", Prompt(f"{n} ="), ("A", "" if n % 3 == 0 else "B")) for n in range(8)]
    asked.append(Request("rolling", Prompt("")))
    found = answers(model, asked)
    assert [response.error is not None for response in found] == [n % 3 == 0 for n in range(8)] + [False]
    assert found[-1].logprobs == (0.0,)


def test_items_are_made_one_ahead_in_order() -> None:
    made: list[int] = []
    seen = threading.Event()

    def items() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            if number == 1:
                seen.set()
            yield number

    begun = threading.Event()
    taken = prefetched(items(), begun)
    assert next(taken) == 0
    assert not seen.wait(0.02), "nothing was begun with the first"
    begun.set()
    assert seen.wait(60), "the second is made while the first is used"
    assert list(taken) == [1, 2, 3]
    assert made == [0, 1, 2, 3]


@pytest.mark.parametrize("bad", [0, 2])
def test_what_making_an_item_raises_comes_in_its_place(bad: int) -> None:
    def items() -> Iterator[int]:
        for number in range(4):
            if number == bad:
                raise OSError("gone")
            yield number

    taken: list[int] = []
    with pytest.raises(OSError, match="gone"):
        taken.extend(prefetched(items(), threading.Event()))
    assert taken == list(range(bad))


def test_nothing_is_left_behind_when_items_are_no_longer_wanted() -> None:
    taken = prefetched(iter(range(1000)), threading.Event())
    assert next(taken) == 0
    taken.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("harness-prefetch"):
            thread.join(60)
            assert not thread.is_alive()


def test_none_of_several_kinds_is_forgotten(tmp_path: Path) -> None:
    model = make_model(tiny_causal_lm(tmp_path))
    for kinds in (("generate",), ("rolling",), ("loglikelihood",), ()):
        asked = [request for request in requests() if request.kind in kinds]
        assert len(answers(model, asked)) == len(asked)


def test_encoding_is_the_same_from_any_sequence(tmp_path: Path) -> None:
    model = make_model(tiny_causal_lm(tmp_path))
    several: Sequence[Request] = tuple(requests())
    assert Encoded.joined(encode_in_portions(model.prompts.encoder, several, model.render)) == model.prompts.encode(
        several
    )
