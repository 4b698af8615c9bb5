"""The key of a request: a hash of all that decides its answer, and of nothing else.

One key serves resume, the cache and re-scoring. Where a prompt is cut into prefix and suffix, in which batch it runs,
in which order, and under which `--limit`, leaves the key as it is.

    make = KeyMaker(model.identity)
    keys = [make.key(request) for request in sample.requests]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from harness.errors import PluginError
from harness.types import GenerationParams, Media, Message, Prompt, Request

# Part of every key. A new number is needed when the same fields would no longer mean the same request.
KEY_FORMAT = "harness-request-1"
KEY_LENGTH = 32
_CACHE_SIZE = 256


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
        self._prefixes: dict[str, tuple[Any, int]] = {}
        self._messages: dict[Message, bytes] = {}
        self._generation: tuple[GenerationParams | None, str] = (None, "null")

    def key(self, request: Request) -> str:
        """Hash prompt, then everything else, then the prompt's length, which makes the cut between the two certain."""
        prompt = request.prompt
        hasher, length = self._hash_messages(prompt) if prompt.is_chat else self._hash_text(prompt)
        hasher.update(self._tail(request))
        hasher.update(length.to_bytes(8, "big"))
        return str(hasher.hexdigest()[:KEY_LENGTH])

    def _hash_text(self, prompt: Prompt) -> tuple[Any, int]:
        known = self._prefixes.get(prompt.prefix)
        if known is None:
            raw = prompt.prefix.encode("utf-8", "surrogatepass")
            hasher = self._base.copy()
            hasher.update(raw)
            known = hasher, len(raw)
            _remember(self._prefixes, prompt.prefix, known)
        suffix = prompt.suffix.encode("utf-8", "surrogatepass")
        hasher = known[0].copy()
        hasher.update(suffix)
        return hasher, known[1] + len(suffix)

    def _hash_messages(self, prompt: Prompt) -> tuple[Any, int]:
        raw = b"".join(map(self._message, prompt.messages))
        hasher = self._base.copy()
        hasher.update(raw)
        return hasher, len(raw)

    def _message(self, message: Message) -> bytes:
        known = self._messages.get(message)
        if known is None:
            parts = (message.content,) if isinstance(message.content, str) else message.content
            known = json.dumps([message.role, *(_part(part) for part in parts)]).encode() + b"\n"
            # A message with media is not remembered: it would hold the bytes of its images in memory.
            if isinstance(message.content, str):
                _remember(self._messages, message, known)
        return known

    def _tail(self, request: Request) -> bytes:
        """All but the prompt's text. `unconditional` is left out: the empty prompt says it already."""
        prompt = request.prompt
        media = [_part(item) for item in prompt.media]
        fields = [request.kind, prompt.is_chat, prompt.prefill, media, request.continuations, request.repeat]
        return f"{json.dumps(fields)}{self._generation_json(request.generation)}".encode()

    def _generation_json(self, generation: GenerationParams | None) -> str:
        # One object usually serves a whole task, so that the last one is enough of a cache.
        if self._generation[0] is not generation:
            self._generation = generation, _generation_json(generation)
        return self._generation[1]


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


def _part(part: str | Media) -> str | list[str]:
    return part if isinstance(part, str) else [part.kind, part.sha256]


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _CACHE_SIZE:
        cache.clear()
    cache[key] = value
