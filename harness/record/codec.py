"""One record as one line of JSON, and back, exactly.

JSON has no infinity, no NaN and no bytes, and a line must stay valid JSON for every other tool. So a log-probability
or a score that is not finite is the string "Infinity", "-Infinity" or "NaN" (which `float` reads back), the same inside
a row is {"$float": "NaN"}, and bytes are left out: {"$sha256": "...", "$bytes": 1234} stands in their place. A row that
has such keys of its own is told apart by {"$escaped": {...}} around them.

The order of the keys is part of the format: task, subset, id and view (where there is one, its index first) come
first, so that an index needs no JSON parser, and `seconds` comes last, because it alone differs between two runs of the
same work.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from harness.record.file_types import FORMAT, Number, problem_of
from harness.record.record_fields import MediaFields, MessageFields, PromptFields, RecordLine, ResponseFields
from harness.types import JSON, Frames, Media, Message, Prompt, Record, Response, Role, SampleKey, ScoredBy, View

Resolve = Callable[[str], str | tuple[Message, ...]]
"""Finds the shared part of a prompt by its reference. Raises ValueError for an unknown one."""

_HEAD = re.compile(
    rb'\{"task": ("(?:[^"\\]|\\.)*"), "subset": ("(?:[^"\\]|\\.)*"), "id": (-?\d+), '
    rb'(?:"view": \{"index": (\d+)[,}])?'
)
_MARKED = b'{"$'
# How a mapping begins that is one of our markers, or could be taken for one.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MARKERS = ({"$float"}, {"$sha256", "$bytes"}, {"$escaped"})
_TOKEN_COUNTS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
_RESPONSE_FIELDS = ("text", "reasoning", "finish_reason", *_TOKEN_COUNTS, "truncated", "error")
# Valid inside JSON strings, but taken for line ends by many readers.
_LINE_ENDS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class OmittedBytes(dict[str, JSON]):
    """Stands in a row for bytes that were left out: their SHA-256 and their number."""


def encode_record(record: Record, reference: str | None) -> bytes:
    """The line of a record, line end included. `reference` stands for the shared part of its prompt."""
    scored_by = {
        name: {"fingerprint": scored.fingerprint, "truncated": scored.truncated}
        for name, scored in record.scored_by.items()
    }
    fields = {
        "task": record.task,
        "subset": record.subset,
        "id": record.id,
        **({"view": _encode_view(record.view)} if record.view is not None else {}),
        "kind": "judgement" if record.judge else "sample",
        "format": FORMAT,
        "target": record.target,
        "choices": record.choices,
        "prompt": _encode_prompt(record.prompt, reference),
        **(_encode_contexts(record, reference) if record.contexts else {}),
        "responses": [encode_response(response) for response in record.responses],
        "scores": dict(record.scores),
        "answers": dict(record.answers),
        "cluster": record.cluster,
        "unparsed": record.unparsed,
        "error": record.error,
        "request_keys": record.request_keys,
        **({"rules": record.rules} if record.rules else {}),
        **({"scored_by": scored_by} if record.scored_by else {}),
        **({"judge": dict(record.judge)} if record.judge else {}),
        "doc": record.doc,
        "seconds": [response.seconds for response in record.responses],
    }
    try:
        line = encode_line(fields)
        if _MARKED not in line:
            return line
    except (TypeError, ValueError, RecursionError):
        pass
    return encode_line(
        {name: _mark_row(value) if name == "doc" else _name_numbers(value) for name, value in fields.items()}
    )


def row_digest(doc: Mapping[str, JSON], target: JSON, choices: Sequence[str], cluster: str | None) -> bytes:
    """A hash of what a row says: the same for the row of a sample, for that of its record, and for the record's line.

    The order of its columns is no part of it.
    """
    try:
        text = _ENCODE_ROW([doc, target, choices, cluster])
    except (TypeError, ValueError, RecursionError):
        text = _MARKED.decode()
    if _MARKED.decode() in text:
        plain = json.loads(json.dumps(_mark_row(doc), default=_plain))  # keys of any kind are texts from here on
        text = json.dumps([plain, target, choices, cluster], sort_keys=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).digest()


def encode_line(fields: Mapping[str, JSON]) -> bytes:
    """One line of UTF-8 JSON. Raises ValueError for NaN and infinities."""
    text = _ENCODE_LINE(fields)
    for character, escape in _LINE_ENDS.items():
        if character in text:
            text = text.replace(character, escape)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # A lone surrogate has no UTF-8; as an escape it survives.
        return json.dumps(fields, allow_nan=False, default=_plain).encode("ascii") + b"\n"


def jsonable(value: Any) -> Any:
    """The value as JSON can hold it: numbers that are not finite by their names, all else as `encode_record` does.

    Loops and no comprehensions: rows may be deep.
    """
    if isinstance(value, Mapping):
        named = {}
        for name, item in value.items():
            named[str(name)] = jsonable(item)
        return named
    if isinstance(value, list | tuple):
        items = []
        for item in value:
            items.append(jsonable(item))
        return items
    return _name_numbers(value) if isinstance(value, float) else _each(value, jsonable)


def line_key(line: bytes) -> SampleKey | None:
    """What a line is about, read from its beginning alone; None where it does not look like a line of ours."""
    head = _HEAD.match(line)
    if head is None or not line.rstrip().endswith(b"}"):
        return None
    try:
        return SampleKey(json.loads(head[1]), json.loads(head[2]), int(head[3]), int(head[4] or 0))
    except ValueError:
        return None


def without_seconds(line: bytes) -> bytes:
    """The line without the one field that differs between two runs of the same work."""
    return line[: line.rfind(b', "seconds": ')]


def parse_line(line: bytes, *, is_known: bool = False) -> RecordLine:
    """The fields of a line, each of its type. Raises ValueError where it is no line of a record, naming the field.

    is_known: whether this process has written the line, or looked at it already.
    """
    fields = json.loads(line.decode())
    if not isinstance(fields, dict) or not {"task", "subset", "id", "responses"} <= fields.keys():
        raise ValueError("not a record")
    if not is_known and (problem := problem_of(fields, RecordLine)):
        raise ValueError(problem)
    return cast(RecordLine, fields)


def line_digest(fields: RecordLine) -> bytes:
    """`row_digest` of the row that a line is about."""
    row = [fields["doc"], fields["target"], fields["choices"], fields["cluster"]]
    return hashlib.blake2b(json.dumps(row, sort_keys=True).encode("ascii"), digest_size=8).digest()


def decode_record(fields: RecordLine, resolve: Resolve) -> Record:
    """The record of a line's fields, as `parse_line` gives them."""
    target: Any = fields["target"]
    view: Mapping[str, JSON] | None = fields.get("view")
    return Record(
        task=fields["task"],
        subset=fields["subset"],
        id=fields["id"],
        doc=_decode_row(fields["doc"]),
        prompt=_decode_prompt(fields["prompt"], resolve),
        target=tuple(target) if isinstance(target, list) else target,
        choices=tuple(fields["choices"]),
        responses=decode_responses(fields),
        request_keys=tuple(fields["request_keys"]),
        scores={
            name: tuple(map(_number, value)) if isinstance(value, list) else None if value is None else _number(value)
            for name, value in fields["scores"].items()
        },
        answers={name: tuple(values) for name, values in fields["answers"].items()},
        cluster=fields["cluster"],
        unparsed=fields["unparsed"],
        error=fields["error"],
        view=_decode_view(view) if view else None,
        scored_by={name: ScoredBy(**value) for name, value in fields.get("scored_by", {}).items()},
        judge=fields.get("judge", {}),
        rules=fields.get("rules", ""),
        contexts=tuple(_decode_prompt(context, resolve) for context in fields.get("contexts", ())),
        continuation=fields.get("continuation", ""),
    )


def key_in(fields: RecordLine) -> SampleKey:
    """What a line's fields are about."""
    view = fields["view"]["index"] if "view" in fields else 0
    return SampleKey(fields["task"], fields["subset"], fields["id"], view)


def decode_responses(fields: RecordLine) -> tuple[Response, ...]:
    responses = fields["responses"]
    seconds = fields.get("seconds") or [None] * len(responses)  # it may be that nothing was timed
    return tuple(decode_response(item, value) for item, value in zip(responses, seconds, strict=True))


def encode_messages(messages: Sequence[Message]) -> list[MessageFields]:
    encoded: list[MessageFields] = []
    for message in messages:
        content = message.content
        if not isinstance(content, str):
            parts = [part if isinstance(part, str) else _encode_media(part) for part in content]
        shown = None if message.is_own else content if isinstance(content, str) else parts
        encoded.append({"role": message.role, "content": shown})
    return encoded


def decode_messages(values: Sequence[MessageFields]) -> tuple[Message, ...]:
    messages = []
    for value in values:
        role, content = cast(Role, value["role"]), value["content"]
        if content is None:
            messages.append(Message(role, "", is_own=True))
            continue
        if not isinstance(content, str):
            parts = tuple(part if isinstance(part, str) else _decode_media(part) for part in content)
        messages.append(Message(role, content if isinstance(content, str) else parts))
    return tuple(messages)


def _encode_view(view: View) -> dict[str, JSON]:
    """Index and count, and whatever is not as it is by default."""
    plain = View(view.index, view.count)
    names = [each.name for each in dataclasses.fields(View)]
    rest = {name: getattr(view, name) for name in names if getattr(view, name) != getattr(plain, name)}
    return {"index": view.index, "count": view.count, **rest}


def _decode_view(fields: Mapping[str, JSON]) -> View:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return View(**values)


def _encode_prompt(prompt: Prompt, reference: str | None) -> PromptFields:
    fields: PromptFields = {"prefix": reference} if reference else {}
    if prompt.is_chat:
        fields["messages"] = encode_messages(prompt.messages[prompt.shared_messages :])
    else:
        fields["suffix"] = prompt.suffix
    if prompt.prefill:
        fields["prefill"] = prompt.prefill
    if prompt.media:
        fields["media"] = [_encode_media(media) for media in prompt.media]
    if prompt.tools:
        fields["tools"] = prompt.tools
    return fields


def _encode_contexts(record: Record, reference: str | None) -> dict[str, JSON]:
    """The contexts of a sample begin alike; one that does not is written in full."""
    first = record.prompt
    alike = first.messages[: first.shared_messages] if first.is_chat else first.prefix
    encoded = []
    for context in record.contexts:
        begins = context.messages[: context.shared_messages] if context.is_chat else context.prefix
        whole = Prompt(suffix=context.text, messages=context.messages, prefill=context.prefill, media=context.media)
        encoded.append(_encode_prompt(context, reference) if begins == alike else _encode_prompt(whole, None))
    return {"contexts": encoded, "continuation": record.continuation}


def _decode_prompt(fields: PromptFields, resolve: Resolve) -> Prompt:
    shared = resolve(fields["prefix"]) if "prefix" in fields else ""
    prefill, media = fields.get("prefill", ""), tuple(map(_decode_media, fields.get("media", ())))
    if "messages" not in fields:
        return Prompt(fields["suffix"], str(shared), prefill=prefill, media=media)
    first = shared if isinstance(shared, tuple) else ()
    messages = (*first, *decode_messages(fields["messages"]))
    tools = fields.get("tools", "")
    return Prompt(messages=messages, shared_messages=len(first), prefill=prefill, media=media, tools=tools)


def _encode_media(media: Media) -> MediaFields:
    """Hash and place: never the bytes."""
    named = {name: getattr(media, name) for name in ("path", "member", "problem")}
    fields: dict[str, JSON] = {"kind": media.kind, "sha256": media.sha256, "mime": media.mime}
    fields |= {name: value for name, value in named.items() if value}
    part = {"start": media.start, "end": media.end, "frames": media.frames and dataclasses.asdict(media.frames)}
    return cast(MediaFields, fields | {name: value for name, value in part.items() if value is not None})


def _decode_media(fields: MediaFields) -> Media:
    if "frames" not in fields:
        return Media(**cast(Any, fields))
    shown = {name: tuple(value) if isinstance(value, list) else value for name, value in fields["frames"].items()}
    return Media(**{**cast(Any, fields), "frames": Frames(**cast(Any, shown))})


def encode_response(response: Response) -> dict[str, JSON]:
    """Only what was said: a missing field is the field's default."""
    fields: dict[str, JSON] = {}
    if response.logprobs:
        fields["logprobs"] = response.logprobs
    if response.is_greedy:
        fields["is_greedy"] = response.is_greedy
    if response.token_counts:
        fields["token_counts"] = response.token_counts
    for name in _RESPONSE_FIELDS:
        value = getattr(response, name)
        if value is not None and not (name == "truncated" and value == 0):
            fields[name] = value
    if response.by_batch:
        fields["by_batch"] = True
    if response.user is not None:
        fields["user"] = encode_response(response.user)
    return fields


def decode_response(fields: ResponseFields, seconds: Number | None) -> Response:
    logprobs = fields.get("logprobs", ())
    are_floats = {*map(type, logprobs)} == {float}
    return Response(
        text=fields.get("text"),
        logprobs=cast("tuple[float, ...]", tuple(logprobs)) if are_floats else tuple(map(_number, logprobs)),
        is_greedy=tuple(fields.get("is_greedy", ())),
        token_counts=tuple(fields.get("token_counts", ())),
        reasoning=fields.get("reasoning"),
        finish_reason=cast(Any, fields.get("finish_reason")),
        prompt_tokens=_count(fields.get("prompt_tokens")),
        completion_tokens=_count(fields.get("completion_tokens")),
        reasoning_tokens=_count(fields.get("reasoning_tokens")),
        cached_tokens=_count(fields.get("cached_tokens")),
        truncated=_count(fields.get("truncated")) or 0,
        seconds=None if seconds is None else _number(seconds),
        error=fields.get("error"),
        by_batch=fields.get("by_batch") is True,
        user=decode_response(fields["user"], None) if "user" in fields else None,
    )


def _count(value: JSON) -> int | None:
    """A number of tokens; None for what is none. A server may have said anything, and the answer is no worse for it."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def _number(value: Number) -> float:
    return float(value) if isinstance(value, str) else value


def _each(value: JSON, change: Callable[[JSON], JSON]) -> JSON:
    if isinstance(value, Mapping):
        return {name: change(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [change(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else change(_plain(value))


def _name_numbers(value: JSON) -> JSON:
    if isinstance(value, float) and not math.isfinite(value):
        return _name_of(value)
    return _each(value, _name_numbers)


def _mark_row(row: Mapping[Any, JSON]) -> dict[Any, JSON]:
    marked = {}
    for name, item in row.items():
        marked[name if name is None or isinstance(name, str | int | float) else str(name)] = _mark(item)
    return marked


def _mark(value: JSON) -> JSON:
    """A value of a row with markers for what JSON does not know. Loops and no comprehensions: rows may be deep."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": _name_of(value)}
    if isinstance(value, OmittedBytes):
        return dict(value)
    if isinstance(value, Mapping):
        marked = _mark_row(value)
        return {"$escaped": marked} if marked.keys() in _MARKERS else marked
    if isinstance(value, list | tuple):
        items = []
        for item in value:
            items.append(_mark(item))
        return items
    if value is None or isinstance(value, str | int | float):
        return value
    plain = _plain(value)
    return plain if isinstance(value, bytes | bytearray | memoryview) else _mark(plain)


def _decode_row(row: dict[str, JSON]) -> dict[str, JSON]:
    read = {}
    for name, value in row.items():
        read[name] = _unmark(value) if isinstance(value, dict | list) else value
    return read


def _unmark(value: JSON) -> JSON:
    if isinstance(value, list):
        items = []
        for item in value:
            items.append(_unmark(item) if isinstance(item, dict | list) else item)
        return items
    if len(value) == 1 and "$escaped" in value and isinstance(value["$escaped"], dict):
        return _decode_row(value["$escaped"])
    # Version 1 escaped nothing: what is none of our names was the row's own.
    if len(value) == 1 and isinstance(value.get("$float"), str) and value["$float"] in _NOT_FINITE:
        return _NOT_FINITE[value["$float"]]
    read = _decode_row(value)
    return OmittedBytes(read) if read.keys() == {"$sha256", "$bytes"} else read


def _name_of(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _plain(value: Any) -> JSON:
    """What JSON does not know: bytes by their hash, array values and dates as plain ones, all else by its text."""
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$sha256": hashlib.sha256(value).hexdigest(), "$bytes": len(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    for method in ("tolist", "isoformat"):  # numpy arrays and scalars; dates and times
        if callable(getattr(value, method, None)):
            return getattr(value, method)()
    if callable(getattr(value, "tobytes", None)):  # a decoded image
        return _plain(value.tobytes())
    return str(value)


# Made once: `json.dumps` makes an encoder for each call that has options. What holds itself, which hardly any value
# does, is found by the depth of the recursion: to look for it takes two fifths of the time.
_ENCODE_ROW = json.JSONEncoder(check_circular=False, sort_keys=True, allow_nan=False, default=_plain).encode
_ENCODE_LINE = json.JSONEncoder(check_circular=False, ensure_ascii=False, allow_nan=False, default=_plain).encode
