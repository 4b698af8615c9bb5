"""A reply in pieces (server-sent events, WHATWG's HTML standard, 9.2) as the whole one that it stands for.

    for event in events(content): event.kind, event.data
    joined(content)["choices"][0]["message"]["content"]

Read as the standard says, and as servers write it who do not: an empty line that is missing between two events, an end
that is missing behind the last one, a line `error: {...}` (llama.cpp before September 2025).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import RetryableError, message_of, short

END = "[DONE]"
_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry|error)?:")
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|\Z)")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UNNAMED = ("", "message")
_LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset", "content", "refusal")
"""Of log-probabilities, which come with the tokens that they are of."""


@dataclass(frozen=True, slots=True)
class Event:
    """kind: its name, if it has one. data: its lines. ends: so many bytes of the stream were there with the last."""

    kind: str
    data: str
    ends: int


def is_stream(content: bytes, content_type: str) -> bool:
    """Whether a reply came in pieces; one that is JSON is whole, whatever its type says."""
    if content.lstrip()[:1] == b"{":
        return False
    return content_type.startswith("text/event-stream") or _BEGINS.match(content) is not None


def events(content: bytes) -> Iterator[Event]:
    """Each event that has data. Lines end in CR, LF or both, and those of one event are joined by line breaks."""
    kind = ""
    lines: list[tuple[str, int]] = []
    start = len(_BYTE_ORDER_MARK) if content.startswith(_BYTE_ORDER_MARK) else 0
    for found in _LINE.finditer(content, start):
        name, _, value = found[1].partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            lines.append((value.decode("utf-8", "replace"), found.end()))
        elif name == b"event":
            kind = value.decode("utf-8", "replace")
        elif name == b"error":
            yield Event("error", value.decode("utf-8", "replace"), found.end())
        elif not found[1]:
            if lines:
                yield from _separate(kind, lines)
            kind, lines = "", []
    if lines:  # nothing stands behind the last one
        yield from _separate(kind, lines)


def _separate(kind: str, lines: list[tuple[str, int]]) -> Iterator[Event]:
    """One event, or one a line where that is what they are: each line is JSON, or the end, and all together are not."""
    if len(lines) > 1:
        text = "\n".join(line for line, _ in lines)
        if _is_json(text) or not all(line.strip() == END or _is_json(line) for line, _ in lines if line):
            lines = [(text, lines[-1][1])]
    for line, ends in lines:
        if line.strip():
            yield Event(kind, line.strip(), ends)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def joined(content: bytes) -> dict[str, Any]:
    """The pieces of a streamed reply as one reply, or as its error. Raises RetryableError where it broke off."""
    whole: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    ended = False
    for event in events(content):
        if event.data == END:
            ended = True
            break
        fields = _fields(event)
        if "error" in fields:
            return fields
        if fields.get("usage"):
            whole["usage"] = fields["usage"]
        pieces = fields.get("choices")
        for piece in pieces if isinstance(pieces, list) else ():
            if not isinstance(piece, dict):
                raise unusable("an event's choice is not an object")
            number = piece.get("index")
            choices.setdefault(number if isinstance(number, int) else 0, _Choice()).add(piece)
    if not choices:
        raise unusable("the stream holds no answer" if ended else "the stream has no end")
    choice = choices[min(choices)]
    if not ended and not choice.ended:
        raise RetryableError("the server's reply broke off: the stream has no end")
    return {**whole, "choices": [choice.whole()]}


def _fields(event: Event) -> dict[str, Any]:
    """What an event says; of an error, in whichever shape it comes, `error` alone. Empty for what is no piece."""
    if event.kind not in (*_UNNAMED, "error") and not _is_json(event.data):
        return {}  # `event: ping`, say
    if event.kind == "error" and not _is_json(event.data):
        return {"error": event.data}
    value = read_json(event.data.encode("utf-8", "surrogatepass"))
    if event.kind == "error":
        inner = value.get("error") if isinstance(value, dict) else None
        return {"error": inner or value or "an error without words"}
    if not isinstance(value, dict):
        raise unusable(short(event.data))
    if value.get("error"):
        return {"error": value["error"]}
    # As vLLM and LMDeploy wrote errors for long: without anything around them.
    said = isinstance(value.get("message") or value.get("detail"), str) and not value.get("choices")
    if said or "error" in (value.get("object"), value.get("type")):
        return {"error": {name: value.get(name) for name in ("code", "type", "param", "message", "detail")}}
    return {name: item for name, item in value.items() if name != "error"}


class _Choice:
    """One choice, and its message, as far as its pieces have come."""

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._logprobs: dict[str, Any] = {}
        self._calls: list[dict[str, Any]] = []
        self._call_at: dict[int, dict[str, Any]] = {}

    @property
    def ended(self) -> bool:
        return bool(self._said.get("finish_reason") or self._said.get("error"))

    def add(self, piece: Mapping[str, Any]) -> None:
        """Raises RetryableError where it is no piece of an answer."""
        delta = piece.get("delta") or piece.get("message") or {}
        if not isinstance(delta, Mapping):
            raise unusable("an event's delta is not an object")
        for name, value in delta.items():
            if name == "tool_calls" and isinstance(value, list):
                for call in value:
                    self._add_call(call)
            elif name == "function_call" and isinstance(value, Mapping):
                _append(self._message.setdefault(name, {}), value)
            elif name != "tool_calls":
                _append(self._message, {name: value})
        _append(self._said, {name: piece[name] for name in ("text",) if name in piece})
        self._said |= {name: piece[name] for name in ("finish_reason", "error") if piece.get(name)}
        logprobs = piece.get("logprobs")
        for name, values in logprobs.items() if isinstance(logprobs, Mapping) else ():
            if name in _LISTS and isinstance(values, list):
                self._logprobs.setdefault(name, []).extend(values)

    def whole(self) -> dict[str, Any]:
        message = {**self._message, **({"tool_calls": self._calls} if self._calls else {})}
        logprobs = {"logprobs": self._logprobs} if self._logprobs else {}
        return {**self._said, **logprobs, **({"message": message} if message or "text" not in self._said else {})}

    def _add_call(self, piece: Any) -> None:
        """Append a piece of a call: it names its call by `index`, and the text of its arguments comes in parts.

        Gemini gives whole calls, without an index or all with the same one; older vLLM an id to every piece.
        """
        if not isinstance(piece, Mapping):
            raise unusable("a piece of a tool call is not an object")
        function, index = piece.get("function") or {}, piece.get("index")
        if not isinstance(function, Mapping) or not isinstance(index, int | None):
            raise unusable("a piece of a tool call has no place")
        call = self._call_at.get(index) if index is not None else self._calls[-1] if self._calls else None
        if call is None or _begins_another(piece, function, call):
            call = {"id": piece.get("id"), "function": {}}
            self._calls.append(call)
            if index is not None:
                self._call_at[index] = call
        repeated = function.get("name") == call["function"].get("name")
        _append(call["function"], {name: value for name, value in function.items() if name != "name" or not repeated})


def _begins_another(piece: Mapping[str, Any], function: Mapping[str, Any], call: Mapping[str, Any]) -> bool:
    """Whether a piece that should go on with a call is the beginning of the next one."""
    known = call["function"].get("name")
    if not function.get("name") or not known:
        return False
    if piece.get("id") and call["id"]:
        return bool(piece["id"] != call["id"])
    return piece.get("index") is None or (function["name"] != known and bool(call["function"].get("arguments")))


def _append(to: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Append texts, and lists of a content's parts; what is neither stands as it is, and is judged with the whole."""
    for name, value in piece.items():
        had = to.get(name)
        if isinstance(value, str) and isinstance(had, str | None) and name != "role":
            to[name] = (had or "") + value
        elif name == "content" and isinstance(value, str | list) and isinstance(had, str | list | None):
            if not isinstance(had, list):
                had = to[name] = _parts(had)
            had += _parts(value)
        elif value is not None:
            to[name] = value


def _parts(content: str | list[Any] | None) -> list[Any]:
    """A content as its parts."""
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def read_json(content: bytes) -> Any:
    """Raises RetryableError where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError
        raise unusable(message_of(content)) from None


def unusable(what: str) -> RetryableError:
    return RetryableError(f"the server's reply is not usable: {what}")
