"""Log-probabilities of a prompt that a server cannot have computed are no scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_asking import make
from scripted_server import Asked, Reply, ScriptedServer, completion

from harness import ModelError, Prompt, Request, Response
from harness_plugins.models.openai import OpenAIModel

Logprobs = dict[str, Any]
GOOD = Request("loglikelihood", Prompt("the good question"), (" A", " B", " C"))
ODD = Request("loglikelihood", Prompt("the odd question"), (" A", " B", " C"))


def words(prompt: str) -> list[str]:
    """One token a word, the space before it included."""
    first, *rest = prompt.split(" ")
    return [first, *(f" {word}" for word in rest)]


def echo(asked: Asked) -> Logprobs:
    tokens = [*words(asked.body["prompt"]), " so"]
    values = [None, *(-0.1 - sum(map(ord, token)) % 37 / 10 for token in tokens[1:])]
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": None}


def answers(server: ScriptedServer, change: Callable[[Logprobs], Any], *requests: Request) -> list[Response]:
    def reply(asked: Asked) -> Reply:
        found = echo(asked)
        return completion("", logprobs=change(found) if "odd" in asked.body["prompt"] else found)

    server.answer = reply
    model: OpenAIModel = make(server, api="completions", max_retries=0)
    try:
        return [response for _, response in sorted(model.respond(requests), key=lambda pair: pair[0])]
    finally:
        model.close()


def constant(value: Any) -> Callable[[Logprobs], Logprobs]:
    return lambda found: {**found, "token_logprobs": [None] + [value] * (len(found["tokens"]) - 1)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (constant(0.0), "every token of the prompt has the log-probability 0"),
        (constant(-1.0), "every token of the prompt has the log-probability -1"),
        (constant(float("-inf")), "-inf"),
        (constant(float("nan")), "nan"),
        (constant(2.5), "2.5"),
        (constant("-1.0"), "token_logprobs"),
        (lambda found: {**found, "token_logprobs": found["token_logprobs"][:-1]}, "tokens and"),
        (lambda found: {**found, "tokens": [found["tokens"][0], *["", "other", "words", "in", "there"]]}, "tokens"),
        (lambda found: {**found, "tokens": ["the", " odd", " quest", *found["tokens"][3:]]}, "not the prompt's"),
        (lambda found: {**found, "tokens": 5}, "tokens"),
        (lambda found: [found], "logprobs"),
    ],
)
def test_values_without_information_fail_their_request_alone(
    server: ScriptedServer, change: Callable[[Logprobs], Any], named: str
) -> None:
    before, odd, after = answers(server, change, GOOD, ODD, GOOD)
    assert before.logprobs == after.logprobs and len(set(before.logprobs)) == 3 and not before.error
    assert odd.logprobs == () and odd.error is not None and named in odd.error and "\n" not in odd.error


@pytest.mark.parametrize("value", [0.0, -1.0, float("-inf")])
def test_a_server_that_knows_nothing_ends_the_run_with_a_remedy(server: ScriptedServer, value: float) -> None:
    with pytest.raises(ModelError, match=r"first 3 requests all fail alike.*variant of the task that generates"):
        answers(server, constant(value), ODD, ODD, ODD, ODD)


def test_a_server_that_gives_only_what_it_wrote_gives_nothing(server: ScriptedServer) -> None:
    written = {"tokens": [" A", "."], "token_logprobs": [0.0, 0.0], "top_logprobs": None}
    with pytest.raises(ModelError, match="gives no log-probabilities"):
        answers(server, lambda found: written, ODD)


def test_three_continuations_that_are_all_alike_tell_nothing(server: ScriptedServer) -> None:
    def change(found: Logprobs) -> Logprobs:
        values = found["token_logprobs"]
        return {**found, "token_logprobs": [*values[:3], *(-2.0 for _ in values[3:])]}

    (odd,) = answers(server, change, ODD)
    assert odd.error is not None and "tells nothing" in odd.error


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "words": words,
    "with a BOS": lambda text: ["<s>", *words(text)],
    "sentencepiece": lambda text: [("\u2581" + word) for word in text.split(" ")],
    "byte-level marks": lambda text: [token.replace(" ", "\u0120") for token in words(text)],
    "letters": list,
    "bytes of characters": lambda text: [
        token for letter in text for token in ([letter] if letter.isascii() else ["\ufffd", "\ufffd"])
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ab 题😀é.", min_size=1, max_size=12))
def test_however_tokens_are_spelt_a_right_echo_is_believed(server: ScriptedServer, kind: str, text: str) -> None:
    def reply(asked: Asked) -> Reply:
        tokens = [*TOKENIZERS[kind](asked.body["prompt"]), "!"]
        values = [None, *(-0.1 - at / 7 for at in range(1, len(tokens)))]
        return completion("", logprobs={"tokens": tokens, "token_logprobs": values, "top_logprobs": None})

    server.answer = reply
    model = make(server, api="completions", max_retries=0, logprobs="echo")
    request = Request("loglikelihood", Prompt(f"Q {text} ok"), (" A", " B B"))
    response = dict(model.respond([request]))[0]
    model.close()
    assert response.error is None and len(response.logprobs) == 2
