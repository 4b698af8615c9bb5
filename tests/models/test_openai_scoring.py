"""Log-likelihoods from servers: a small language model that speaks the completions API in several dialects."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Asked, Reply, ScriptedServer, completion, error

from harness import GenerationParams, Message, ModelError, ModelOptions, Prompt, Request, Response, Sample
from harness.testing import check_model, tiny_tokenizer
from harness_plugins.models.openai import OpenAIModel

Token = tuple[str, float | None, bool]


def tokenize(text: str) -> list[str]:
    """Two characters a token, from the left, so that what follows changes the last token of a text of odd length."""
    return [text[at : at + 2] for at in range(0, len(text), 2)]


def logprob(before: Sequence[str], token: str) -> float:
    """Log-probability of a token after the tokens before it: any fixed function will do."""
    return -0.5 - (sum(map(ord, "".join(before))) * 31 + sum(map(ord, token))) % 97 / 10


def is_greedy(before: Sequence[str], token: str) -> bool:
    return (sum(map(ord, token)) + len(before)) % 2 == 0


class Server(ScriptedServer):
    """A language model over the two-character tokens. `bos` stands before every text prompt."""

    def __init__(self, bos: str = "", vocabulary: Sequence[str] = ()) -> None:
        super().__init__()
        self.bos = bos
        self.vocabulary = list(vocabulary)
        self.answer = self.echo

    def tokens(self, prompt: str | list[int]) -> list[str]:
        if isinstance(prompt, list):
            return [f"<{number}>" for number in prompt]
        return ([self.bos] if self.bos else []) + tokenize(prompt)

    def echo(self, asked: Asked) -> Reply:
        tokens = [*self.tokens(asked.body["prompt"]), "!!"]
        if not asked.body.get("echo"):
            return completion("!!")
        values = [None, *(logprob(tokens[:n], tokens[n]) for n in range(1, len(tokens)))]
        tops = [
            None if value is None else {token: value, **({} if is_greedy(tokens[:n], token) else {"other": -0.01})}
            for n, (token, value) in enumerate(zip(tokens, values, strict=True))
        ]
        reply = completion("", logprobs={"tokens": tokens, "token_logprobs": values, "top_logprobs": tops})
        reply.body["usage"] = {"prompt_tokens": len(tokens) - 1, "completion_tokens": 1}
        return reply

    def vllm(self, asked: Asked) -> Reply:
        if "prompt_logprobs" not in asked.body:
            return completion("!!")
        tokens = self.tokens(asked.body["prompt"])
        entries: list[Any] = [None]
        for n in range(1, len(tokens)):
            rank = 1 if is_greedy(tokens[:n], tokens[n]) else 7
            entries.append({f"id{tokens[n]}": {"logprob": logprob(tokens[:n], tokens[n]), "rank": rank}})
        return completion("!!", prompt_logprobs=entries)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def build(**options: Any) -> Server:
        servers.append(Server(**options))
        return servers[-1]

    yield build
    for server in servers:
        server.close()


def make(server: ScriptedServer, **args: Any) -> OpenAIModel:
    usual = {"model": "m", "base_url": server.url, "api": "completions", "retry_delay": 0.001, "num_concurrent": 2}
    return OpenAIModel.create({**usual, **args}, ModelOptions())


def answer(model: OpenAIModel, request: Request) -> Response:
    model.prepare()
    model.inspect_samples([Sample("task", "", 0, {}, (request,), 0)])
    model.load()
    return dict(model.respond([request]))[0]


def expected(context: Sequence[str], scored: Sequence[str]) -> tuple[float, bool]:
    whole = [*context, *scored]
    places = range(len(context), len(whole))
    total = math.fsum(logprob(whole[:n], whole[n]) for n in places)
    return total, all(is_greedy(whole[:n], whole[n]) for n in places)


def choices(context: str, *continuations: str) -> Request:
    return Request("loglikelihood", Prompt(context), continuations)


@pytest.mark.parametrize("dialect", ["auto", "echo"])
def test_continuations_are_scored_apart_from_their_context(start: Callable[..., Server], dialect: str) -> None:
    server = start()
    response = answer(make(server, logprobs=dialect), choices("问题是?", "甲乙", "丙丁戊己"))
    first = expected(["问题", "是?"], ["甲乙"])
    second = expected(["问题", "是?"], ["丙丁", "戊己"])
    assert response.logprobs == pytest.approx((first[0], second[0]))
    assert response.is_greedy == (first[1], second[1])
    assert response.token_counts == (1, 2) and response.prompt_tokens == 2
    assert [asked.body["prompt"] for asked in server.asked] == ["问题是?", "问题是?甲乙", "问题是?丙丁戊己"]


def test_a_token_across_the_join_belongs_to_the_continuation(start: Callable[..., Server]) -> None:
    response = answer(make(start()), choices("abc", "de"))
    value, _ = expected(["ab"], ["cd", "e"])
    assert response.logprobs == pytest.approx((value,)) and response.token_counts == (2,)


def test_white_space_at_the_end_of_a_context_goes_with_the_continuation(start: Callable[..., Server]) -> None:
    server = start()
    response = answer(make(server), choices("ab:  ", "cd"))
    assert [asked.body["prompt"] for asked in server.asked] == ["ab:", "ab:  cd"]
    assert response.logprobs == pytest.approx((expected(["ab"], [": ", " c", "d"])[0],))


def test_a_bos_of_the_server_changes_nothing_but_the_first_token(start: Callable[..., Server]) -> None:
    response = answer(make(start(bos="<s>")), choices("ab", "cd"))
    assert response.logprobs == pytest.approx((expected(["<s>", "ab"], ["cd"])[0],))


@pytest.mark.parametrize("dialect", ["auto", "prompt_logprobs"])
def test_vllm_s_own_dialect(start: Callable[..., Server], dialect: str) -> None:
    server = start()
    server.answer = server.vllm
    response = answer(make(server, logprobs=dialect), choices("abcd", "ef", "ghij"))
    first, second = expected(["ab", "cd"], ["ef"]), expected(["ab", "cd"], ["gh", "ij"])
    assert response.logprobs == pytest.approx((first[0], second[0]))
    assert response.is_greedy == (first[1], second[1])
    tries = sum("echo" in asked.body for asked in server.asked)
    assert tries == (1 if dialect == "auto" else 0)


def test_a_server_that_says_nothing_about_the_best_token_leaves_greedy_open(start: Callable[..., Server]) -> None:
    server = start()

    def reply(asked: Asked) -> Reply:
        told = server.echo(asked)
        told.body["choices"][0]["logprobs"]["top_logprobs"] = None
        return told

    server.answer = reply
    response = answer(make(server), choices("ab", "cd"))
    assert response.is_greedy == () and len(response.logprobs) == 1


@pytest.mark.parametrize("refusal", [completion("!!"), error(422, "Unexpected fields: prompt_logprobs")])
def test_a_server_without_log_probabilities_ends_the_run_with_a_remedy(
    start: Callable[..., Server], refusal: Reply
) -> None:
    server = start()
    server.answer = lambda asked: refusal if "prompt_logprobs" in asked.body else completion("!!")
    with pytest.raises(ModelError, match=r"gives no log-probabilities.*variant of the task that generates"):
        answer(make(server), choices("ab", "cd"))


def test_without_context_the_server_s_bos_is_needed(start: Callable[..., Server]) -> None:
    request = Request("loglikelihood", Prompt(""), ("cd",), unconditional=True)
    response = answer(make(start(bos="<s>")), request)
    assert response.logprobs == pytest.approx((expected(["<s>"], ["cd"])[0],))
    refused = answer(make(start()), request)
    assert refused.error is not None and "tokenizer=" in refused.error


def test_a_whole_text_is_scored_from_its_first_token_or_not_at_all(start: Callable[..., Server]) -> None:
    request = Request("rolling", Prompt("abcdef"))
    response = answer(make(start(bos="<|begin_of_text|>")), request)
    value, _ = expected(["<|begin_of_text|>"], ["ab", "cd", "ef"])
    assert response.logprobs == pytest.approx((value,)) and response.token_counts == (3,)
    refused = answer(make(start()), request)
    assert refused.error is not None and "first token" in refused.error


def test_a_reply_that_lacks_a_value_is_an_error_and_no_number(start: Callable[..., Server]) -> None:
    server = start()

    def reply(asked: Asked) -> Reply:
        told = server.echo(asked)
        told.body["choices"][0]["logprobs"]["token_logprobs"][1] = None
        return told

    server.answer = reply
    response = answer(make(server), choices("ab", "cd"))
    assert response.error is not None and response.logprobs == ()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save_pretrained(path)
    return path


def names(ids: Sequence[int]) -> list[str]:
    return [f"<{number}>" for number in ids]


def test_with_a_tokenizer_ids_are_sent_and_the_context_is_not_asked_for(
    start: Callable[..., Server], tokenizer: Path
) -> None:
    from transformers import AutoTokenizer

    encode = AutoTokenizer.from_pretrained(tokenizer).encode
    server = start()
    model = make(server, tokenizer=str(tokenizer))
    response = answer(model, choices("题目：下列哪一项", "甲", "一个长的答案"))
    context = encode("题目：下列哪一项")
    wholes = [encode("题目：下列哪一项" + text) for text in ("甲", "一个长的答案")]
    values = [expected(names(context), names(whole[len(context) :]))[0] for whole in wholes]
    assert [asked.body["prompt"] for asked in server.asked] == wholes
    assert response.logprobs == pytest.approx(values)
    assert model.count_tokens("题目：下列哪一项") == response.prompt_tokens == len(context)


def test_with_a_tokenizer_a_text_needs_no_bos_of_the_server(start: Callable[..., Server], tokenizer: Path) -> None:
    response = answer(make(start(), tokenizer=str(tokenizer)), Request("rolling", Prompt("hello")))
    assert response.error is None and response.token_counts[0] >= 1


def test_with_a_tokenizer_long_prompts_are_cut_from_the_left_and_counted(
    start: Callable[..., Server], tokenizer: Path
) -> None:
    server = start()
    model = make(server, tokenizer=str(tokenizer), max_length=20)
    scored = answer(model, choices("0 1 2 3 4 5 6 7 8 9 " * 5, "甲"))
    assert scored.truncated > 0 and len(server.asked[-1].body["prompt"]) <= 19
    params = GenerationParams(max_new_tokens=8)
    written = answer(model, Request("generate", Prompt("0 1 2 3 4 5 6 7 8 9 " * 5), generation=params))
    assert written.truncated > 0 and len(server.asked[-1].body["prompt"]) + 8 <= 20


def test_with_a_tokenizer_chat_prompts_go_by_completions(start: Callable[..., Server], tokenizer: Path) -> None:
    from transformers import AutoTokenizer

    server = start()
    turns = Prompt(messages=(Message("user", "Hi"),), prefill="Well")
    model = make(server, tokenizer=str(tokenizer), api="auto")
    response = answer(model, Request("loglikelihood", turns, (" A", " B")))
    assert len(response.logprobs) == 2
    sent = AutoTokenizer.from_pretrained(tokenizer).decode(server.asked[0].body["prompt"])
    assert sent == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nWell A" == model.render(turns) + " A"


def test_a_tokenizer_serves_many_threads(start: Callable[..., Server], tokenizer: Path) -> None:
    model = make(start(), tokenizer=str(tokenizer), num_concurrent=8)
    model.prepare()
    requests = [choices(f"题目 {number}：", " A", " B") for number in range(60)]
    given = dict(model.respond(requests))
    assert len(given) == 60 and not [response.error for response in given.values() if response.error]


def test_the_contract_of_models_is_kept(start: Callable[..., Server], tokenizer: Path) -> None:
    assert check_model(make(start(), tokenizer=str(tokenizer))) == []
