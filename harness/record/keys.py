"""The key of a request: a hash of all that decides its answer, and of nothing else.

One key serves resume, the cache and re-scoring. Where a prompt is cut into prefix and suffix, in which batch it runs,
in which order, and under which `--limit`, leaves the key as it is.

    make = KeyMaker(model.identity)
    keys = [make.key(request) for request in sample.requests]
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from harness.errors import PluginError
from harness.types import GenerationParams, Media, Message, Request

# Part of every key. A new number is needed when the same fields would no longer mean the same request.
KEY_FORMAT = "harness-request-1"
KEY_LENGTH = 32
_CACHE_SIZE = 256
_ENCODE = json.JSONEncoder(check_circular=False).encode


def request_key(request: Request, identity: Mapping[str, Any]) -> str:
    """The key of one request to the model of this identity: 32 hexadecimal digits (128 bits of SHA-256)."""
    return KeyMaker(identity).key(request)


class KeyMaker:
    """Makes the keys of many requests to one model; a prefix that they share is hashed once.

    The caches hold state of speed only: the same request gives the same key from any `KeyMaker` of the identity.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        digest = canonical_json(identity, "the model's identity")
        self._base = hashlib.sha256(f"{KEY_FORMAT}\n{hashlib.sha256(digest).hexdigest()}\n".encode())
        self._prefix = functools.lru_cache(_CACHE_SIZE)(self._hash_prefix)
        self._text_message = functools.lru_cache(_CACHE_SIZE)(_message_json)
        self._generation: tuple[GenerationParams | None, str] = (None, "null")

    def key(self, request: Request) -> str:
        """Hash prompt, then everything else, then the prompt's length, which makes the cut between the two certain."""
        prompt = request.prompt
        if prompt.is_chat:
            raw = b"".join(map(self._message, prompt.messages))
            hasher, length = self._base.copy(), len(raw)
            hasher.update(raw)
        else:
            shared, length = self._prefix(prompt.prefix)
            suffix = prompt.suffix.encode("utf-8", "surrogatepass")
            hasher = shared.copy()
            hasher.update(suffix)
            length += len(suffix)
        hasher.update(self._tail(request))
        hasher.update(length.to_bytes(8, "big"))
        return str(hasher.hexdigest()[:KEY_LENGTH])

    def _hash_prefix(self, prefix: str) -> tuple[Any, int]:
        raw = prefix.encode("utf-8", "surrogatepass")
        hasher = self._base.copy()
        hasher.update(raw)
        return hasher, len(raw)

    def _message(self, message: Message) -> bytes:
        # One with media is not remembered: it would hold the bytes of its images in memory.
        if isinstance(message.content, str):
            return self._text_message(message.role, message.content)
        return _message_json(message.role, *message.content)

    def _tail(self, request: Request) -> bytes:
        """All but the prompt's text. `unconditional` is left out: the empty prompt says it already."""
        prompt, generation = request.prompt, request.generation
        # One object usually serves a whole task, so that the last one is enough of a cache.
        if self._generation[0] is not generation:
            self._generation = generation, _generation_json(generation)
        media = [_part(item) for item in prompt.media]
        fields = [request.kind, prompt.is_chat, prompt.prefill, media, request.continuations, request.repeat]
        fields += [prompt.tools] if prompt.tools else []
        return f"{_ENCODE(fields)}{self._generation[1]}".encode()


def _message_json(role: str, *content: str | Media) -> bytes:
    return json.dumps([role, *map(_part, content)]).encode() + b"\n"


def canonical_json(value: Any, what: str) -> bytes:
    """JSON that is equal for equal values: sorted keys, ASCII. `what` names the value in the error."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError) as error:
        raise PluginError(f"{what} must be plain JSON values: {error}") from error


def _generation_json(generation: GenerationParams | None) -> str:
    if generation is None:
        return "null"
    fields = {
        "until": generation.until,
        "max_new_tokens": generation.max_new_tokens,
        "do_sample": generation.do_sample,
        # 1 and 1.0 are the same temperature.
        "temperature": None if generation.temperature is None else float(generation.temperature),
        "top_p": None if generation.top_p is None else float(generation.top_p),
        "top_k": generation.top_k,
        "seed": generation.seed,
        "extra": dict(generation.extra),
    }
    return canonical_json(fields, "generation parameters").decode("ascii")


def _part(part: str | Media) -> str | list[Any]:
    if isinstance(part, str):
        return part
    if part.problem:  # it has no hash, and is answered by what is wrong with it
        return [part.kind, part.sha256, part.problem]
    shown = [part.start, part.end, part.frames and part.frames.indices]
    return [part.kind, part.sha256, *(shown if any(each is not None for each in shown) else ())]
