"""What a server sends back, typed at the door: a reply that is not what the API promises fails its request alone.

Both APIs are described in OpenAI's API reference; where servers differ (reasoning, finish reasons, errors inside a
reply of status 200), all spellings are read. A reply in pieces (server-sent events) is joined to a whole one first.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from .errors import RequestError, RetryableError, error_in_reply, message_of, short
from .streams import is_stream, joined, read_json, unusable

Finish = Literal["stop", "length"]
Whole = TypeVar("Whole", "ChatReply", "CompletionReply")


class _OrUnknown:
    """What a reply says there is taken as unsaid where it is not of the right type: no answer is lost over a count."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(handler(source), default=None, on_error="default")


Count = Annotated[int | None, Field(ge=0, le=2**53), _OrUnknown()]

_FINISHED: dict[str, Finish] = {
    **dict.fromkeys(
        ("stop", "eos", "eos_token", "stop_sequence", "stop_token", "stop_str", "end_turn", "complete", "completed"),
        "stop",
    ),
    **dict.fromkeys(
        ("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"), "length"
    ),
}
# A call of a tool that nobody offered is what the model said, if not a text.
_ODD_BUT_FINISHED = ("tool_calls", "function_call", "tool_use")
_WITHHELD = ("content_filter", "content-filter", "contentfilter", "safety", "refusal")


class _Typed(BaseModel):
    """Fields of the right types, or none: the text "12" is no number of tokens."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class PromptDetails(_Typed):
    cached_tokens: Count = None


class CompletionDetails(_Typed):
    reasoning_tokens: Count = None


class ReplyUsage(_Typed):
    """What a reply took, as far as that can be read. Tokens of cache and reasoning stand in details or beside the
    totals (DeepSeek, Moonshot)."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: Annotated[PromptDetails | None, _OrUnknown()] = None
    completion_tokens_details: Annotated[CompletionDetails | None, _OrUnknown()] = None
    prompt_cache_hit_tokens: Count = None
    cached_tokens: Count = None
    reasoning_tokens: Count = None

    @property
    def prompted(self) -> int | None:
        """Tokens of the prompt: some servers (as Anthropic's API does) leave those from the cache out of theirs."""
        return self._with(self.prompt_tokens, self.cached, self.completion_tokens)

    @property
    def completed(self) -> int | None:
        """Tokens that were generated: some servers (xAI) leave those of the reasoning out of theirs."""
        return self._with(self.completion_tokens, self.reasoned, self.prompt_tokens)

    def _with(self, counted: int | None, part: int | None, other: int | None) -> int | None:
        """A count, and what should be a part of it where it stands beside it: more than the whole, or in the total."""
        if counted is None or not part:
            return counted
        beside = part > counted or (other is not None and self.total_tokens == counted + part + other)
        return counted + part if beside else counted

    @property
    def cached(self) -> int | None:
        inside = self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None
        return next((n for n in (inside, self.prompt_cache_hit_tokens, self.cached_tokens) if n is not None), None)

    @property
    def reasoned(self) -> int | None:
        inside = self.completion_tokens_details.reasoning_tokens if self.completion_tokens_details else None
        return self.reasoning_tokens if inside is None else inside


class CalledFunction(_Typed):
    name: str
    arguments: str | dict[str, Any] | None = None


class ReplyCall(_Typed):
    """A call of a function that the server has read from what the model wrote."""

    function: CalledFunction


class ReplyMessage(_Typed):
    """What the assistant says. `function_call` is the older name of a single call, which some servers still write."""

    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[ReplyCall] | None = None
    function_call: CalledFunction | None = None
    reasoning_content: Annotated[str | None, _OrUnknown()] = None
    reasoning: Annotated[str | None, _OrUnknown()] = None
    thinking: Annotated[str | None, _OrUnknown()] = None
    refusal: str | None = None

    @property
    def thoughts(self) -> str:
        """The reasoning, by whichever name it has; empty where none is shown."""
        return self.reasoning_content or self.reasoning or self.thinking or ""


class EchoLogprobs(_Typed):
    """Log-probabilities of the completions API, one a token. `top_logprobs` differs between servers: read with care."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: Any = None


class PromptToken(_Typed):
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


class TopToken(_Typed):
    token: str
    logprob: float


class ChatToken(TopToken):
    top_logprobs: list[TopToken] = Field(default_factory=list)


class ChatLogprobs(_Typed):
    """Log-probabilities of the chat API, one entry a token of the answer."""

    content: list[ChatToken] | None = None


class _Choice(_Typed):
    index: Annotated[int | None, _OrUnknown()] = None
    finish_reason: str | None = None
    error: Any = None


class ChatChoice(_Choice):
    message: ReplyMessage | None = None
    logprobs: Annotated[ChatLogprobs | None, _OrUnknown()] = None


class CompletionChoice(_Choice):
    text: str | None = None
    logprobs: EchoLogprobs | None = None
    prompt_logprobs: list[dict[str, PromptToken] | None] | None = None


def _number(choice: _Choice) -> int:
    """Of several choices, which nobody asked for, the one with the least number is the answer."""
    return choice.index or 0


class _Reply(_Typed):
    usage: Annotated[ReplyUsage | None, _OrUnknown()] = None
    error: Any = None


class ChatReply(_Reply):
    choices: list[ChatChoice] = Field(min_length=1)

    @property
    def choice(self) -> ChatChoice:
        return min(self.choices, key=_number)


class CompletionReply(_Reply):
    choices: list[CompletionChoice] = Field(min_length=1)
    prompt_logprobs: list[dict[str, PromptToken] | None] | None = None

    @property
    def choice(self) -> CompletionChoice:
        return min(self.choices, key=_number)


def read_reply(kind: type[Whole], content: bytes, content_type: str = "") -> Whole:
    """A reply of status 200. Raises RequestError, of the retryable kind where another try may bring a whole one."""
    streamed = is_stream(content, content_type)
    reply = None if streamed else _whole_at_once(kind, content)
    if reply is None:
        reply = _whole(kind, joined(content) if streamed else read_json(content), content)
    choice = reply.choice
    if choice.error:
        raise error_in_reply(choice.error, "the server failed while it answered")
    return reply


def _whole_at_once(kind: type[Whole], content: bytes) -> Whole | None:
    """A reply as it should be, read in one step. None where anything is odd about it, which `_whole` tells in words."""
    try:
        reply = kind.model_validate_json(content)
    except ValidationError:
        return None
    return None if reply.error else reply


def _whole(kind: type[Whole], fields: Any, content: bytes) -> Whole:
    """The reply that these fields are. Raises RequestError."""
    if not isinstance(fields, dict):
        raise unusable(short(json.dumps(fields, ensure_ascii=False)))
    if fields.get("error"):
        raise error_in_reply(fields["error"], "the server's reply is an error")
    if not fields.get("choices"):
        if isinstance(fields.get("message") or fields.get("detail"), str):
            said = {name: fields.get(name) for name in ("code", "type", "message", "detail")}
            raise error_in_reply(said, "the server's reply is not usable")
        raise unusable(message_of(content))
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        # `usage.prompt_tokens: input should be a valid integer`; of a union's branches, the first.
        first = error.errors(include_url=False, include_input=False)[0]
        where = [str(step) for step in first["loc"] if not str(step).endswith("]") and str(step) not in ("str", "int")]
        problem = f"{'.'.join(where)}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        raise RequestError(f"the server's reply is not what the API promises: {problem}") from None


def finish_of(choice: ChatChoice | CompletionChoice) -> Finish | Literal["withheld"] | None:
    """How the answer ended; None where the server does not say. Raises RetryableError where it ended in a failure."""
    reason = (choice.finish_reason or "").strip().lower().removeprefix("finish_reason_")
    if reason in _WITHHELD:
        return "withheld"
    if not reason or reason in _ODD_BUT_FINISHED:
        return None
    if reason in _FINISHED:
        return _FINISHED[reason]
    raise RetryableError(f"the server broke off the answer: its finish_reason is '{short(reason)}'")
