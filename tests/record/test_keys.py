"""The key of a request: what changes it, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import GenerationParams, Media, Message, PluginError, Prompt, Request
from harness.record.keys import KeyMaker, request_key

IDENTITY = {"weights": "abc", "dtype": "float32"}
SAMPLED = GenerationParams(until=("\n",), max_new_tokens=8, do_sample=True, temperature=0.7, seed=1)
CHAT = Prompt(messages=(Message("system", "你好"), Message("user", "1+1=")), shared_messages=1, prefill="答:")
ASKED = Request("generate", Prompt(prefix="shots ", suffix="1+1="), generation=SAMPLED)
CHOSEN = Request("loglikelihood", Prompt(suffix="1+1="), continuations=(" 2", " 3"))


def image(name: str) -> Media:
    return Media("image", sha256=name * 64, data=b"...")


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, kind="rolling"),
        replace(ASKED, prompt=Prompt(suffix="shots 1+2=")),
        replace(ASKED, prompt=Prompt(suffix="shots 1+1=", media=(image("a"),))),
        replace(ASKED, prompt=Prompt(messages=(Message("user", "shots 1+1="),))),
        replace(ASKED, continuations=("2",)),
        replace(ASKED, repeat=1),
        replace(ASKED, generation=None),
        replace(ASKED, generation=replace(SAMPLED, seed=2)),
        replace(ASKED, generation=replace(SAMPLED, until=("\n\n",))),
        replace(ASKED, generation=replace(SAMPLED, max_new_tokens=9)),
        replace(ASKED, generation=replace(SAMPLED, temperature=0.8)),
        replace(ASKED, generation=replace(SAMPLED, extra=(("min_p", 0.1),))),
    ],
)
def test_whatever_decides_the_answer_changes_the_key(other: Request) -> None:
    assert request_key(other, IDENTITY) != request_key(ASKED, IDENTITY)


@pytest.mark.parametrize(
    "other",
    [
        replace(CHAT, prefill=""),
        replace(CHAT, messages=CHAT.messages[1:], shared_messages=0),
        replace(CHAT, messages=(Message("user", "你好"), CHAT.messages[1])),
        replace(CHAT, messages=(CHAT.messages[0], Message("user", ("1+1=", image("a"))))),
    ],
)
def test_whatever_decides_the_answer_to_a_chat_changes_the_key(other: Prompt) -> None:
    assert request_key(Request("generate", other), IDENTITY) != request_key(Request("generate", CHAT), IDENTITY)


def test_another_model_has_other_keys() -> None:
    assert request_key(ASKED, IDENTITY) != request_key(ASKED, {**IDENTITY, "weights": "abd"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ASKED, replace(ASKED, prompt=Prompt(prefix="", suffix="shots 1+1="))),
        (Request("generate", CHAT), Request("generate", replace(CHAT, shared_messages=2))),
        (CHOSEN, replace(CHOSEN, unconditional=True)),
        (
            replace(ASKED, generation=replace(SAMPLED, temperature=1.0)),
            replace(ASKED, generation=replace(SAMPLED, temperature=1)),
        ),
        (
            replace(ASKED, generation=replace(SAMPLED, extra=(("a", 1), ("b", [2])))),
            replace(ASKED, generation=replace(SAMPLED, extra=(("b", [2]), ("a", 1)))),
        ),
    ],
)
def test_what_does_not_decide_the_answer_leaves_the_key(one: Request, other: Request) -> None:
    assert request_key(one, IDENTITY) == request_key(other, IDENTITY)


def test_the_order_of_the_identity_leaves_the_key() -> None:
    assert request_key(ASKED, IDENTITY) == request_key(ASKED, dict(reversed(IDENTITY.items())))


def test_the_same_image_in_other_bytes_of_memory_has_the_same_key() -> None:
    keys = {request_key(Request("generate", Prompt(suffix="?", media=(image("a"),))), IDENTITY) for _ in range(2)}
    assert len(keys) == 1


def test_text_cannot_pass_for_another_field() -> None:
    """A prompt that ends in what a key holds after the prompt has a key of its own."""
    tail = KeyMaker(IDENTITY)._tail(Request("generate", Prompt(suffix="x"))).decode()
    requests = [Request("generate", Prompt(suffix="x" + tail * times)) for times in range(3)]
    assert len({request_key(request, IDENTITY) for request in requests}) == 3


@given(st.text(), st.text(), st.text(), st.text())
def test_one_key_for_one_text_and_another_for_another(a: str, b: str, c: str, d: str) -> None:
    maker = KeyMaker(IDENTITY)
    one, other = (maker.key(Request("generate", Prompt(prefix=p, suffix=s))) for p, s in ((a, b), (c, d)))
    assert (one == other) == (a + b == c + d)


def test_a_maker_that_has_seen_much_gives_the_keys_of_a_fresh_one() -> None:
    maker = KeyMaker(IDENTITY)
    requests = [Request("generate", Prompt(prefix=f"{n % 400}", suffix=f"{n}")) for n in range(1000)]
    requests += [Request("generate", Prompt(messages=(Message("user", f"{n}"),))) for n in range(600)]
    assert [maker.key(request) for request in requests] == [request_key(request, IDENTITY) for request in requests]


def test_lone_surrogates_have_keys_of_their_own() -> None:
    keys = {request_key(Request("generate", Prompt(suffix=text)), IDENTITY) for text in ("\ud800", "\udc00", "?")}
    assert len(keys) == 3


def test_an_identity_that_is_no_json_is_named() -> None:
    with pytest.raises(PluginError, match="the model's identity must be plain JSON values"):
        KeyMaker({"weights": object()})
