"""`--model openai`: any server that speaks OpenAI's API (vLLM, SGLang, llama.cpp, `transformers serve`, a provider).

    harness --model openai --model_args base_url=http://localhost:8000/v1,model=Qwen/Qwen3-8B --tasks gsm8k

The key is taken from OPENAI_API_KEY or `api_key=`, and is written down nowhere. Log-likelihoods need the completions
API and a server that gives log-probabilities of the prompt; the chat API has none, and is refused for such tasks.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from harness import ChatTemplateError, GenerationParams, Model, Prompt, Request, Response, Sample, UsageError, hookimpl

from .client import Client, Patience, RequestError
from .wire import (
    chat_messages,
    finish,
    has_media,
    read_chat,
    read_completion,
    sampling_fields,
)
from .workers import answer_all

if TYPE_CHECKING:
    from .scoring import PromptScorer
    from .tokens import LocalTokenizer

OPENAI = "https://api.openai.com/v1"
APIS = ("auto", "chat", "completions")
DIALECTS = ("auto", "echo", "prompt_logprobs")
DEFAULT_MAX_TOKENS = 256
_OVERFLOW = re.compile(r"context.?(length|window|size)|maximum (input|sequence) length|too many tokens|too long", re.I)
_ROUTES = {"/chat/completions": "chat", "/completions": "completions"}


class OpenAIModel(Model):
    """`--model openai --model_args model=NAME,base_url=URL`.

    model, base_url  what the server calls the model, and the server's address up to `/v1`
    api_key          default: the environment's OPENAI_API_KEY
    api              `chat`, `completions`, or `auto`: chat for chat prompts and images, completions for the rest
    num_concurrent   requests under way at once
    timeout          seconds for one reply; `total_timeout`: for one sample with all its retries
    max_retries      on 429, 5xx, timeouts and broken connections; `retry_delay`: seconds before the first
    max_gen_toks     tokens of an answer where the task says nothing (default: 256 by completions, the server's by chat)
    extra_body       further fields of every request, as JSON; `omit`: fields that this server refuses, `+` between them
    headers          further headers, as JSON
    tokenizer        the model's tokenizer, a folder or an id: needed for chat prompts by completions, for texts without
                     context, and to cut prompts to `max_length` tokens
    logprobs         `echo`, `prompt_logprobs`, or `auto`: how the server gives log-probabilities of a prompt
    think_end_token  the text that ends a reasoning block, which then does not count as answer
    continue_final_message  ask the server to go on with a prefilled answer (vLLM, SGLang) instead of answering it
    """

    name = "openai"
    supports: ClassVar = frozenset({"loglikelihood", "rolling", "generate"})
    modalities: ClassVar = frozenset({"text", "image"})
    aliases: ClassVar = {
        "local-chat-completions": {"api": "chat"},
        "openai-chat-completions": {"api": "chat"},
        "local-completions": {"api": "completions"},
        "openai-completions": {"api": "completions"},
    }
    without_effect: ClassVar = frozenset({"tokenized_requests", "tokenizer_backend", "eos_string", "trust_remote_code"})
    secrets: ClassVar = frozenset({"api_key", "headers"})

    def __init__(
        self,
        model: str,
        base_url: str = OPENAI,
        api_key: str | None = None,
        api: str = "auto",
        num_concurrent: int = 8,
        timeout: float = 300.0,
        total_timeout: float = 900.0,
        max_retries: int = 5,
        retry_delay: float = 1.0,
        max_gen_toks: int | None = None,
        extra_body: Mapping[str, Any] | str | None = None,
        omit: str | Sequence[str] = (),
        headers: Mapping[str, str] | str | None = None,
        tokenizer: str | None = None,
        max_length: int | None = None,
        logprobs: str = "auto",
        think_end_token: str | None = None,
        continue_final_message: bool = True,
    ) -> None:
        self.model = str(model)
        self.base_url, implied = _split_url(str(base_url))
        self.api = _one_of("api", implied if api == "auto" and implied else api, APIS)
        self.dialect = _one_of("logprobs", logprobs, DIALECTS)
        self.num_concurrent = int(_number("num_concurrent", num_concurrent, 1, whole=True))
        self.patience = Patience(
            _number("timeout", timeout, 0.001),
            _number("total_timeout", total_timeout, 0.001),
            int(_number("max_retries", max_retries, 0, whole=True)),
            _number("retry_delay", retry_delay, 0),
        )
        self.max_gen_toks = None if max_gen_toks is None else int(_number("max_gen_toks", max_gen_toks, 1, whole=True))
        self.max_length = None if max_length is None else int(_number("max_length", max_length, 2, whole=True))
        if self.max_length is not None and tokenizer is None:
            raise UsageError("--model_args: max_length counts tokens, so it needs tokenizer=DIR too")
        self.extra_body = _json_object("extra_body", extra_body)
        self.headers = {name: str(value) for name, value in _json_object("headers", headers).items()}
        self.omit = tuple(omit.split("+")) if isinstance(omit, str) else tuple(omit)
        self.tokenizer_path = None if tokenizer is None else str(tokenizer)
        self.think_end_token = think_end_token
        self.continue_final_message = continue_final_message
        if self.api == "chat":
            self.supports = frozenset({"generate"})  # type: ignore[misc]
        self._key = str(api_key) if api_key is not None else os.environ.get("OPENAI_API_KEY")
        self._length_field = "max_tokens"
        self._tokenizer: LocalTokenizer | None = None
        self._client = Client(self.base_url, self._key, self.headers, self.patience, self.num_concurrent)

    def prepare(self) -> None:
        """Read the tokenizer, if one was given."""
        if self.tokenizer_path is not None:
            from .tokens import LocalTokenizer

            self._tokenizer = LocalTokenizer(self.tokenizer_path, self.max_length, self.options.offline)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which model, asked how. Not the key, the headers, or how many requests run at once."""
        return {
            "base_url": self.base_url,
            "model": self.model,
            "api": self.api,
            "extra_body": self.extra_body,
            "omit": list(self.omit),
            "max_gen_toks": self.max_gen_toks,
            "tokenizer": self.tokenizer_path,
            "max_length": self.max_length,
            "think_end_token": self.think_end_token,
            "continue_final_message": self.continue_final_message,
        }

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        """Refuse what the API in use cannot answer, before anything runs."""
        for sample in samples:
            for request in sample.requests:
                self._refuse_impossible(request, sample.task)

    def load(self) -> None:
        """See whether the server is there."""
        if self.base_url == OPENAI and not self._key:
            raise UsageError("no key for api.openai.com: set OPENAI_API_KEY, or name a server of your own by base_url=")
        self._client.check()

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        self._client.resume()
        self._scorer = self._make_scorer()
        try:
            yield from answer_all(self._answer, requests, self.num_concurrent)
        finally:
            self._client.stop()

    def render(self, prompt: Prompt) -> str:
        if self._tokenizer is not None and self._tokenizer.has_chat_template:
            return self._tokenizer.render(prompt)
        return super().render(prompt)

    def count_tokens(self, text: str) -> int | None:
        return None if self._tokenizer is None else self._tokenizer.count(text)

    def describe(self) -> Mapping[str, Any]:
        return {"base_url": self.base_url, "served_models": list(self._client.known_models[:20])}

    def _refuse_impossible(self, request: Request, task: str) -> None:
        scores, prompt = request.kind != "generate", request.prompt
        if scores and self.api == "chat":
            raise UsageError(
                f"task '{task}' needs log-likelihoods, which the chat API does not give: "
                "use --model_args api=completions, or a variant of the task that generates"
            )
        if self._by_chat(request):
            return
        if has_media(prompt):
            raise UsageError(f"task '{task}' shows images, which the completions API does not take: use api=chat")
        if prompt.is_chat and (self._tokenizer is None or not self._tokenizer.has_chat_template):
            raise ChatTemplateError(
                f"task '{task}' has chat prompts, which the completions API takes only as text: give the model's "
                "tokenizer and chat template (--model_args tokenizer=DIR), or run without --apply_chat_template"
            )

    def _by_chat(self, request: Request) -> bool:
        if self.api != "auto" or request.kind != "generate":
            return self.api == "chat"
        return request.prompt.is_chat or has_media(request.prompt)

    def _answer(self, request: Request) -> Response:
        started = time.monotonic()
        try:
            response = self._generate(request) if request.kind == "generate" else self._scorer.score(request)
        except RequestError as error:
            message = str(error)
            if error.status in (400, 413, 422) and _OVERFLOW.search(message):
                message = f"the prompt does not fit the model's window: {message}"
            response = Response(error=message)
        return replace(response, seconds=time.monotonic() - started)

    def _generate(self, request: Request) -> Response:
        params = request.generation or GenerationParams()
        # Stop sequences are about the answer; a reasoning block may hold any of them.
        body = sampling_fields(params, send_stops=self.think_end_token is None)
        ask = self._ask_chat if self._by_chat(request) else self._ask_completions
        response = ask(request, body, params.max_new_tokens or self.max_gen_toks)
        return response if response.error else finish(response, params.until, self.think_end_token)

    def _ask_chat(self, request: Request, body: dict[str, Any], length: int | None) -> Response:
        body["messages"] = chat_messages(request.prompt)
        if request.prompt.prefill and self.continue_final_message:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        field = self._length_field
        try:
            return read_chat(self._post("chat/completions", {**body, field: length} if length else body))
        except RequestError as error:
            # Newer models of OpenAI know the limit by another name; all later requests use it.
            if error.status != 400 or field != "max_tokens" or "max_completion_tokens" not in str(error):
                raise
        self._length_field = "max_completion_tokens"
        return read_chat(self._post("chat/completions", {**body, self._length_field: length}))

    def _ask_completions(self, request: Request, body: dict[str, Any], length: int | None) -> Response:
        body["max_tokens"] = length or DEFAULT_MAX_TOKENS
        body["prompt"] = request.prompt.text
        truncated = 0
        if self._tokenizer is not None and (self.max_length is not None or request.prompt.is_chat):
            params = replace(request.generation or GenerationParams(), max_new_tokens=body["max_tokens"])
            encoded = self._tokenizer.encode(replace(request, generation=params))
            if encoded.errors:
                return Response(error=encoded.errors[0])
            truncated = encoded.truncated.get(0, 0)
            # A rendered chat holds its BOS already: to ids, the server adds no second one.
            if truncated or request.prompt.is_chat:
                body["prompt"] = list(encoded.generations[0].tokens)
        return replace(read_completion(self._post("completions", body)), truncated=truncated)

    def _make_scorer(self) -> PromptScorer:
        from .scoring import PromptScorer

        return PromptScorer(lambda body: self._post("completions", body), self._tokenizer, self.dialect)

    def _post(self, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        fields = {"model": self.model, **body, **self.extra_body}
        return self._client.post(route, {name: value for name, value in fields.items() if name not in self.omit})


def _split_url(url: str) -> tuple[str, str]:
    """The address up to `/v1`, and the API that a full address names."""
    url = url.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--model_args base_url={url}: expected http://HOST:PORT/v1 or https://...")
    for route, api in _ROUTES.items():
        if url.endswith(route):
            return url.removesuffix(route), api
    return url, ""


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise UsageError(f"--model_args: {name} must be one of {', '.join(known)}, not '{value}'")
    return value


def _number(name: str, value: Any, least: float, *, whole: bool = False) -> float:
    right = isinstance(value, int) or (isinstance(value, float) and not whole)
    if not right or isinstance(value, bool) or value < least:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"--model_args: {name} must be {kind} of at least {least:g}, not {value!r}")
    return float(value)


def _json_object(name: str, value: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UsageError(f"--model_args: {name} must be a JSON object: {error}") from None
    if value is not None and not isinstance(value, Mapping):
        raise UsageError(f"--model_args: {name} must be a JSON object, not {value!r}")
    return dict(value or {})


@hookimpl
def harness_models() -> list[type[Model]]:
    return [OpenAIModel]
