"""How one request is answered: which route it takes, the fields of its body, what its reply says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from harness import DataError, GenerationParams, Prompt, Request, Response

from .batch_asking import BatchSeat
from .client import Client
from .errors import RequestError, wants_stream
from .first_failures import FirstFailures
from .flavours import PLAIN
from .labels import label_fields, label_response
from .pace import Pace, Places, rested
from .replies import ChatReply, CompletionReply, Whole, read_reply
from .settings import OpenAISettings
from .thinking import Obedience, ToolUse, thinking_fields
from .timing import TimedSeat
from .wire import (
    chat_messages,
    chat_response,
    completion_response,
    finish,
    has_media,
    sampling_fields,
    stopped_in_reasoning,
)

if TYPE_CHECKING:
    from .scoring import Dialects
    from .tokens import LocalTokenizer

Made = TypeVar("Made")

DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Seat:
    """One sample's request on its way: its number among the others, and its place, which it leaves while it waits."""

    index: int
    places: Places
    client: Client

    async def post(self, route: str, body: Mapping[str, Any], read: Callable[[bytes, str], Made]) -> Made:
        """What `read` makes of the server's reply to a body. Raises RequestError, ModelError."""
        return await self.client.post(route, body, read, self._rest)

    async def _rest(self, most: float, least: float, pace: Pace) -> float:
        self.places.give()
        seconds = await rested(most, least, pace)
        await self.places.take(self.index)
        return seconds


Way = Seat | BatchSeat | TimedSeat
"""How a question gets to the server: at once, by a batch, or once and timed."""


class Asking:
    """Asks for answers, as the settings say and as far as the server has shown what it takes.

    model: what the server calls it. tokenizer: the model's, where one was given; cuts_prompts: whether to a length.
    thinking_fields: how the server is told whether to reason. labels, bounded: options that were scored by the chat
    API, and those of them of which only a bound is known.
    """

    def __init__(
        self, settings: OpenAISettings, first_failures: FirstFailures, render: Callable[[Prompt], str]
    ) -> None:
        self.settings, self.first_failures, self._render = settings, first_failures, render
        self.model = settings.model
        self.flavour = settings.flavour or PLAIN
        self.thinking_fields = thinking_fields(settings.thinking, settings.thinking_dialect)
        self.stream = settings.stream
        self.tokenizer: LocalTokenizer | None = None
        self.cuts_prompts = False
        self.obedience, self.tool_use = Obedience(settings.thinking), ToolUse()
        self.labels = self.bounded = 0
        self._length_field = "max_tokens"
        self._send_stops = True
        self._dialects: Dialects | None = None

    def by_chat(self, request: Request) -> bool:
        """Whether the chat API answers a request, and not that of completions."""
        if self.settings.api != "auto" or request.kind != "generate":
            return self.settings.api == "chat"
        return request.prompt.is_chat or has_media(request.prompt)

    def most_tokens(self, request: Request) -> int | None:
        """Tokens that one reply may have; None where nothing bounds them. A score takes one."""
        if request.kind != "generate":
            return 1
        asked = request.generation.max_new_tokens if request.generation else None
        return asked or self.settings.max_gen_toks or (None if self.by_chat(request) else DEFAULT_MAX_TOKENS)

    async def answer(self, request: Request, asked: Way, questions: int) -> Response:
        """A request's answer, or why it has none; one of so many. Raises ModelError where no other has one either."""
        started = time.monotonic()
        try:
            answer = self._generate if request.kind == "generate" else self._score
            response = await answer(request, asked)
            self.first_failures.answered()
        except RequestError as error:
            self.first_failures.failed(error, questions)
            remedy = f" ({error.remedy})" if error.remedy else ""
            response = Response(
                error=f"{error}{remedy}", finish_reason="refused" if error.withheld else None, **error.taken
            )
        return replace(response, seconds=time.monotonic() - started)

    async def _score_labels(self, request: Request, asked: Way) -> Response:
        messages = await self._messages(request.prompt)
        fields = {**self.thinking_fields, **label_fields(self.settings.top_logprobs)}
        body = {**fields, "messages": messages, **self._continuing(request.prompt)}
        has_given = self.labels > 0
        response, missing = await self._post_chat(
            body, 1, asked, lambda reply: label_response(reply, request.continuations, has_given=has_given)
        )
        self.bounded += missing
        self.labels += len(request.continuations)
        return response

    def _score(self, request: Request, asked: Way) -> Awaitable[Response]:
        if self.settings.scores_labels:
            return self._score_labels(request, asked)
        from .scoring import Dialects, PromptScorer

        self._dialects = self._dialects or Dialects(self.settings.dialect, self.flavour.scores)

        async def post(body: Mapping[str, Any]) -> CompletionReply:
            return await self._post("completions", body, asked, CompletionReply, lambda reply: reply)

        return PromptScorer(post, self.tokenizer, self._dialects).score(request)

    async def _generate(self, request: Request, asked: Way) -> Response:
        """An answer. A stop sequence that fell within the reasoning ended no answer: then it is asked for without."""
        params = request.generation or GenerationParams()
        sends = self._send_stops and self.settings.think_end_token is None
        response = await self.ask(request, asked, send_stops=sends)
        if sends and any(params.until) and stopped_in_reasoning(response):
            first, response = response, await self.ask(request, asked, send_stops=False)
            response = _with_cost_of(first, response)
            reasons = response.reasoning or stopped_in_reasoning(replace(response, text=(response.text or "")[:200]))
            # What lies in batches by now was asked with them, and is found by what was sent.
            if reasons and not self.settings.batch_api:
                self._send_stops = False
        if response.error:
            return response
        finished = finish(response, params.until, self.settings.think_end_token, opened=self._opens_reasoning(request))
        self.obedience.saw(finished)
        if request.prompt.tools:
            self.tool_use.saw(request.prompt.tools, finished)
        return finished

    def _opens_reasoning(self, request: Request) -> bool:
        """Whether the answer begins within reasoning: as the run asks, or as the chat template shows."""
        if self.settings.thinking.mode == "on":
            return True
        if self.tokenizer is None or not request.prompt.is_chat:
            return False
        return self._render(request.prompt).rstrip().endswith(("<think>", "<thinking>", "[THINK]", "<thought>"))

    def ask(self, request: Request, asked: Way, *, send_stops: bool) -> Awaitable[Response]:
        """What the model says, as it stands in the reply. Raises RequestError."""
        params = request.generation or GenerationParams()
        body = self.flavour.sampling(sampling_fields(params, send_stops=send_stops), drawn=params.do_sample)
        ask = self._ask_chat if self.by_chat(request) else self._ask_completions
        return ask(request, body, params.max_new_tokens or self.settings.max_gen_toks, asked)

    async def _messages(self, prompt: Prompt) -> list[dict[str, Any]]:
        if not has_media(prompt):
            return chat_messages(prompt)
        try:  # to read and to scale images takes its time, in which replies come
            return await asyncio.to_thread(chat_messages, prompt, self.settings.media)
        except DataError as error:
            raise RequestError(str(error)) from error

    async def _ask_chat(self, request: Request, body: dict[str, Any], length: int | None, asked: Way) -> Response:
        body = {**self.thinking_fields, **body, "messages": await self._messages(request.prompt)}
        if request.prompt.tools:
            body["tools"] = json.loads(request.prompt.tools)
        body |= self._continuing(request.prompt)
        return await self._post_chat(body, length, asked, chat_response)

    def _continuing(self, prompt: Prompt) -> dict[str, Any]:
        """Fields to have a prefilled answer gone on with, where the server takes any."""
        if not (prompt.prefill and self.settings.continue_final_message and self.flavour.continues):
            return {}
        return {"continue_final_message": True, "add_generation_prompt": False}

    async def _post_chat(
        self, body: Mapping[str, Any], length: int | None, asked: Way, make: Callable[[ChatReply], Made]
    ) -> Made:
        """Ask for an answer of at most `length` tokens, by the name that the server has for that."""
        field = self._length_field
        try:
            limited = {**body, field: length} if length else body
            return await self._post("chat/completions", limited, asked, ChatReply, make)
        except RequestError as error:
            # Newer models of OpenAI know the limit by another name; all later requests use it.
            if error.status != 400 or field != "max_tokens" or "max_completion_tokens" not in str(error):
                raise
        self._length_field = "max_completion_tokens"
        return await self._post("chat/completions", {**body, self._length_field: length}, asked, ChatReply, make)

    async def _ask_completions(
        self, request: Request, body: dict[str, Any], length: int | None, asked: Way
    ) -> Response:
        body["max_tokens"] = length or DEFAULT_MAX_TOKENS
        body["prompt"] = request.prompt.text
        truncated = 0
        if self.tokenizer is not None and (self.cuts_prompts or request.prompt.is_chat):
            params = replace(request.generation or GenerationParams(), max_new_tokens=body["max_tokens"])
            encoded = await asyncio.to_thread(self.tokenizer.encode, replace(request, generation=params))
            if encoded.errors:
                return Response(error=encoded.errors[0])
            truncated = encoded.truncated.get(0, 0)
            if truncated and not self.flavour.takes_ids:
                window = f"the prompt has {truncated:,} tokens more than max_length leaves for it"
                return Response(error=f"{window}, and {self.flavour.title} takes none that is cut, as token ids")
            # A rendered chat holds its BOS already: to ids, the server adds no second one.
            if truncated or request.prompt.is_chat:
                body["prompt"] = list(encoded.generations[0].tokens)
        response = await self._post("completions", body, asked, CompletionReply, completion_response)
        return replace(response, truncated=truncated)

    async def _post(
        self,
        route: str,
        body: Mapping[str, Any],
        asked: Way,
        kind: type[Whole],
        make: Callable[[Whole], Made],
    ) -> Made:
        """Ask, and read the reply as `kind`; in pieces where the server gives no others, which all later ones are."""

        def read(content: bytes, content_type: str) -> Made:
            return make(read_reply(kind, content, content_type))

        streams = self.stream
        try:
            return await asked.post(route, self._fields(body, streams=streams), read)
        except RequestError as error:
            if streams or self.settings.batch_api or error.status != 400 or not wants_stream(str(error)):
                raise
        self.stream = True
        return await asked.post(route, self._fields(body, streams=True), read)

    def _fields(self, body: Mapping[str, Any], *, streams: bool) -> dict[str, Any]:
        stream = {"stream": True, "stream_options": {"include_usage": True}} if streams else {}
        fields = {"model": self.model, **body, **stream}
        for name, value in self.settings.extra_body.items():
            # Variables of the chat template stand beside those that switch reasoning, and do not replace them.
            ours = fields.get(name)
            fields[name] = {**ours, **value} if isinstance(ours, Mapping) and isinstance(value, Mapping) else value
        return {name: value for name, value in fields.items() if name not in self.settings.omit}


def _with_cost_of(first: Response, response: Response) -> Response:
    """The answer, with the tokens that a reply before it took, which was thrown away."""
    names = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
    both = {name: (getattr(first, name), getattr(response, name)) for name in names}
    sums: dict[str, Any] = {name: None if None in counts else sum(counts) for name, counts in both.items()}
    return replace(response, **sums)
