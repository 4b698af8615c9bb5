"""A server of OpenAI's API whose speed is known: it streams tokens at a set pace, with so many places and a queue.

    python tests/bench/streaming_server.py --port 8123 --places 16

A reply waits for one of the places, then `first` seconds for its first token and `each` seconds for every further one,
each stretched by (1 + slower * replies under way), as a batch on an accelerator is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

WORDS = ("one ", "two ", "three ", "four ")


@dataclass
class Pace:
    first: float
    each: float
    slower: float
    under_way: int = 0
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    def stretched(self, seconds: float) -> float:
        return seconds * (1 + self.slower * (self.under_way - 1))


def application(pace: Pace) -> web.Application:
    async def chat(request: web.Request) -> web.StreamResponse:
        return await stream(request, lambda word: {"delta": {"content": word}})

    async def completions(request: web.Request) -> web.StreamResponse:
        return await stream(request, lambda word: {"text": word})

    async def stream(request: web.Request, piece: Callable[[str], dict[str, object]]) -> web.StreamResponse:
        body = await request.json()
        tokens = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        async with pace.places:
            pace.under_way += 1
            try:
                await asyncio.sleep(pace.stretched(pace.first))
                for number in range(tokens):
                    if number:
                        await asyncio.sleep(pace.stretched(pace.each))
                    last = {"finish_reason": "length"} if number == tokens - 1 else {"finish_reason": None}
                    await reply.write(event({"choices": [{"index": 0, **piece(WORDS[number % len(WORDS)]), **last}]}))
            finally:
                pace.under_way -= 1
        usage = {"prompt_tokens": len(json.dumps(body)) // 4, "completion_tokens": tokens}
        await reply.write(event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n")
        return reply

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "paced", "object": "model"}]})

    made = web.Application()
    made.router.add_get("/v1/models", models)
    made.router.add_post("/v1/chat/completions", chat)
    made.router.add_post("/v1/completions", completions)
    return made


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--first", type=float, default=0.1)
    parser.add_argument("--each", type=float, default=0.02)
    parser.add_argument("--slower", type=float, default=0.0)
    args = parser.parse_args()
    pace = Pace(args.first, args.each, args.slower, places=asyncio.Semaphore(args.places))
    web.run_app(application(pace), host="127.0.0.1", port=args.port, print=None)


if __name__ == "__main__":
    main()
