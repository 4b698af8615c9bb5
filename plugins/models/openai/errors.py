"""What a server says when it does not answer: the text, the cause, and what a user can do about it.

Interpreted here before any of it is masked or shortened for people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

SHOWN_CHARACTERS = 300
# As OpenAI, vLLM, SGLang, llama.cpp, Ollama, LMDeploy, TensorRT-LLM, TGI, Anthropic, Gemini, Moonshot, DashScope and
# Zhipu say it.
_OVERFLOW = re.compile(
    r"context.?(length|window|size)|maximum (input|sequence|model) length|maximum number of tokens|too many tokens"
    r"|too long|session_len|model token limit|range of input length|`max_new_tokens` must be <=|超长|长度超过"
    r"|prompt length.{0,80}should not exceed|exceeds? (the )?(available )?(kv|context) (cache |memory |limit)"
    r"|input length.{0,40}exceeds the maximum allowed length|`inputs` must have less than|exceed max message tokens"
    r"|must be less than max_seq_len|prompt exceeds max length|session.{0,5}length"
    r"|(input|prompt) tokens? (?!per)[^.]{0,60}exceed|tokens in (the )?prompt exceed"
    r"|reduce the length of (the|your) (messages|prompt|input)|max_total_tokens",
    re.I,
)
# Moderation, as OpenAI, Azure, Alibaba Cloud, Zhipu, Baidu and Tencent name it.
_WITHHELD = re.compile(
    r"content.?(filter|policy|management)|responsibleaipolicy|data.?inspection|moderation|flagged"
    r"|sensitive (content|word)|inappropriate content|敏感|违规|不安全",
    re.I,
)
_STREAM_ONLY = re.compile(
    r"non-?stream|only (support|work|allow)\w* .{0,20}stream|stream(ing)? (mode )?(is required|must|only)"
    r"|(set|requires?|need\w*) .{0,12}stream",
    re.I,
)
_NOT_HERE = re.compile(
    r"\b(un|not |isn't |doesn't |does not |no longer )(support|recogni[sz]|allow|permit|accept|know|expect)\w*"
    r"|unexpected|unknown|unrecogni[sz]ed|extra (fields|inputs)|not a valid|invalid (parameter|argument|field|value)"
    r"|only .{0,30}(default|is supported)|deprecated|不支持",
    re.I,
)
_NO_MODEL = re.compile(
    r"model.{0,80}(does not exist|not found|not exist|unknown|no access|not available|不存在)"
    r"|(unknown|invalid|no such) model",
    re.I,
)
# As vLLM, llama.cpp's server, Ollama and OpenAI's API say it.
_NO_TOOLS = re.compile(
    r"tool.?call.?parser|\btools? param\w* requires|(not|n't) support (tool|function)|不支持.{0,8}(tools|工具|函数)"
    r"|(un(known|expected|recogni[sz]ed|supported)|not (allow|permit)ted).{0,40}\b(tools|tool_choice)\b"
    # Not of a part of one function, which other prompts may do without.
    r"|\b(tools|tool_choice)\b(?![.\[]|['\"]?, ?\d).{0,40}(unsupported|not (supported|permitted|allowed))",
    re.I,
)
# An account without money or quota, as OpenAI, Alibaba Cloud, Moonshot, Zhipu and DeepSeek name it. That a quota "is
# exceeded" is no such name: Gemini says so of its limits a minute.
_UNPAID = re.compile(
    r"insufficient.?(quota|balance|funds|credits?)|billing.?hard.?limit|arrear|exceeded_current_quota_error"
    r"|欠费|余额不足|accountoverdue|freetieronly|setlimitexceeded|exhausted its free trial quota",
    re.I,
)
# As SiliconFlow and Anthropic begin, whose codes say nothing of it.
_BALANCE = re.compile(r"(sorry, )?your (account|credit) balance is (insufficient|too low)", re.I)
_OVERLOADED = re.compile(r"overloaded|rate.?limit|too.?many.?requests", re.I)
_PAGE = re.compile(r"\s*(<!doctype html|<html)", re.I)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.I | re.DOTALL)
_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.I | re.DOTALL)
# Fields that a run can do without. Those that carry the question are not among them.
_KEPT = ("model", "messages", "prompt", "tools", "echo", "logprobs", "prompt_logprobs")


class RequestError(Exception):
    """One request has no answer. `status` is the server's, 0 where there was none.

    withheld: the server's moderation refused it. taken: tokens that it took all the same, by the names of a response.
    cause: what it has in common with other requests that fail alike, and
    `remedy` what to do; empty where the cause may lie in this one prompt.
    """

    withheld = False
    taken: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, message: str, status: int = 0, *, cause: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.cause = cause
        self.remedy = remedy


class RetryableError(RequestError):
    """It may pass. `pause`: for how long the server asks to wait, in seconds. `throttled`: the server works, and wants
    fewer requests."""

    def __init__(
        self, message: str, status: int = 0, *, pause: float | None = None, throttled: bool = False, gone: bool = False
    ) -> None:
        super().__init__(message, status)
        self.pause = pause
        self.throttled = throttled
        self.gone = gone


class UnpaidError(RequestError):
    """The account has no money or quota left, which every other request will meet too."""


class WithheldError(RequestError):
    """The server's moderation, or the model itself, declined."""

    withheld = True

    def __init__(self, message: str, status: int = 0, *, taken: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, status)
        self.taken = taken or {}


@dataclass(frozen=True, slots=True)
class ServerError:
    """The error of a reply in one form: what it says, and the names that some servers give: a code, which may be a
    number, and a kind beside it."""

    message: str
    code: str = ""
    param: str = ""
    kind: str = ""

    @property
    def names(self) -> str:
        return f"{self.code} {self.kind}"


def parse_error(content: bytes) -> ServerError:
    """The error that a reply's body tells of, in whichever of the usual forms."""
    try:
        value: Any = json.loads(content)
    except (ValueError, RecursionError):
        return ServerError(_of_text(content[:20_000].decode("utf-8", "replace")))
    return _error_of(value)


def _of_text(text: str) -> str:
    """What a body says that is no JSON: that it is empty, or no text, or a page's title, as proxies write them, or the
    text."""
    if not text.strip():
        return "(empty)"
    if 4 * sum(each == "\ufffd" or not (each.isprintable() or each.isspace()) for each in text) > len(text):
        return "(bytes that are no text)"
    if not _PAGE.match(text):
        return short(text)
    title = _TITLE.search(text)
    return f"a web page: {short(_TAG.sub(' ', title[1] if title else text)) or '(empty)'}"


def _error_of(value: Any) -> ServerError:
    code = param = kind = ""
    for name in ("error", "message", "detail"):
        if isinstance(value, dict):
            code = str(value.get("code") or code)
            kind = str(value.get("type") or kind)
            param = str(value.get("param") or param)
            value = value.get(name) or value
    return ServerError(short(value if isinstance(value, str) else _as_json(value)), code, param, kind)


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "(an error that cannot be read)"


def message_of(content: bytes) -> str:
    return parse_error(content).message


def error_in_reply(value: Any, what: str) -> RequestError:
    """The error inside a reply of status 200, of a choice or in the place of the choices."""
    error = _error_of(value)
    status = int(error.code) if re.fullmatch("[45][0-9][0-9]", error.code) else 0
    message = f"{what}: {error.message}"
    if is_unpaid(error, status or 400):
        return UnpaidError(error.message, status)
    if is_withheld(error):
        return WithheldError(f"refused by the server: {error.message}", status)
    if is_overflow(error):
        return RequestError(message, 400)
    if status in (429, 529) or is_overload(error):
        return RetryableError(message, status or 429, throttled=True)
    return RetryableError(message, status)


def is_overflow(error: ServerError) -> bool:
    """Whether the prompt is longer than the model, by the error's name (`context_length_exceeded`) or its message."""
    return _OVERFLOW.search(error.names) is not None or _OVERFLOW.search(error.message) is not None


def is_unpaid(error: ServerError, status: int) -> bool:
    """Whether an account has no money or quota left, which no waiting mends. A message may repeat the prompt: it counts
    only where the status is not about that."""
    if status == 402:
        return True
    said = f"{error.names} {error.message}" if status == 429 else error.names
    return status in (400, 403, 429) and bool(_UNPAID.search(said) or _BALANCE.match(error.message))


def is_overload(error: ServerError) -> bool:
    """Whether an error's name, under whichever status, says that there are too many requests."""
    return _OVERLOADED.search(error.names) is not None


def is_withheld(error: ServerError) -> bool:
    return bool(_WITHHELD.search(error.names) or _WITHHELD.search(error.message))


def wants_stream(message: str) -> bool:
    """Whether a server says that it answers in pieces only."""
    return bool(_STREAM_ONLY.search(message))


def refusal(
    error: ServerError, status: int, body: Mapping[str, Any], omitted: Iterable[str], models: Iterable[str]
) -> RequestError:
    """A status that will be the same at every try; with a remedy, where the cause lies in how all requests are sent."""
    message = f"status {status}: {error.message}"
    if is_overflow(error) and status in (400, 413, 422):
        return RequestError(f"the prompt does not fit the model's window: {message}", status)
    if is_withheld(error):
        return WithheldError(message, status)
    if error.param == "model" or _NO_MODEL.search(error.message):
        there = ", ".join(list(models)[:5])
        remedy = "--model_args model=NAME names the model" + (f"; the server has {there}" if there else "")
        return RequestError(message, status, cause=message, remedy=remedy)
    if "tools" in body and (error.param == "tools" or _NO_TOOLS.search(error.message)):
        remedy = "start the server so that it takes `tools`; vLLM: --enable-auto-tool-choice --tool-call-parser NAME"
        return RequestError(message, status, cause=f"{status} tools", remedy=remedy)
    if field := _refused_field(error, body):
        remedy = f"--model_args omit={'+'.join([*omitted, field])}"
        return RequestError(message, status, cause=f"{status} {field}", remedy=remedy)
    return RequestError(message, status, cause=message)


def _refused_field(error: ServerError, body: Mapping[str, Any]) -> str:
    """The field of the body that a server does not take, if its error is about one."""
    fields = [name for name in body if name not in _KEPT]
    if error.param in fields:
        return error.param
    if not _NOT_HERE.search(error.message):
        return ""
    quoted = (rf"['\"`]{re.escape(name)}['\"`]" for name in fields)
    named = [name for name, pattern in zip(fields, quoted, strict=True) if re.search(pattern, error.message)]
    bare = [name for name in fields if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", error.message)]
    return (named or [name for name in bare if "_" in name or name in ("temperature", "seed", "stop")] or [""])[0]


def short(text: str) -> str:
    """One line, of a length that people read, with nothing in it that a terminal would obey."""
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "�" for character in line)
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."
