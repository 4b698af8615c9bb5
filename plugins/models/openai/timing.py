"""Times the pieces of a streamed reply as they come over the wire: `harness bench`."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from harness import ModelError, Response, TimedReply

from .client import Client
from .servers import ModelServer
from .streams import events

Made = TypeVar("Made")
_TEXTS = ("content", "reasoning_content", "reasoning", "thinking", "text", "tool_calls")


class TimedSeat:
    """One request that is sent once, for a reply in pieces. The clock starts when it is sent, and is that of
    `time.perf_counter`."""

    def __init__(self, client: Client, server: ModelServer) -> None:
        self._client, self._server = client, server
        self._sent = self._ended = time.perf_counter()
        self._pieces: tuple[float, ...] = ()

    async def post(self, route: str, body: Mapping[str, Any], read: Callable[[bytes, str], Made]) -> Made:
        """What `read` makes of the reply. Raises RequestError, and ModelError where the server streams nothing."""
        arrivals: list[tuple[float, int]] = []

        def whole(content: bytes, content_type: str) -> Made:
            self._ended = time.perf_counter()
            made = read(content, content_type)
            self._pieces = tuple(piece_times(content, arrivals))
            if not content_type.startswith("text/event-stream") and not self._pieces:
                kind = content_type.split(";")[0] or "no content type"
                raise ModelError(
                    f"{self._server.address.shown} does not stream: asked for a reply in pieces, it sent a whole one "
                    f"({kind}), of which no time to the first token can be measured"
                )
            return made

        self._sent = time.perf_counter()
        try:
            return await self._client.post_once(self._server, route, body, whole, arrivals)
        finally:
            if not self._pieces:
                self._ended = time.perf_counter()

    def reply(self, response: Response, count: Callable[[str], int | None]) -> TimedReply:
        """What became of the request; `count` counts the tokens of a text, where the server does not say them."""
        if response.error:
            return TimedReply(self._sent, max(self._sent, self._ended), error=response.error)
        tokens = response.completion_tokens
        if tokens is None:
            tokens = count("".join(text for text in (response.reasoning, response.text) if text))
        return TimedReply(self._sent, self._ended, self._pieces, tokens, response.prompt_tokens)


def piece_times(content: bytes, arrivals: Sequence[tuple[float, int]]) -> Iterator[float]:
    """When each event of a stream was there that holds a token: text, reasoning or a call.

    An event that only names the role, the end or the usage holds none. arrivals: (time, bytes so far), as they came.
    """
    ends = [size for _, size in arrivals]
    for event in events(content):
        if _holds_token(event.data):
            yield arrivals[bisect_left(ends, event.ends)][0]


def _holds_token(data: str) -> bool:
    try:
        choice = json.loads(data)["choices"][0]
        parts = choice.get("delta") or choice.get("message") or choice
        return any(parts.get(name) for name in _TEXTS)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return False  # `[DONE]`, the usage; what is broken fails the whole reply
