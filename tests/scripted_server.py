"""A server on this machine that answers as a test says, and can fail in every way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request as it came in. `number` counts the POST requests from 0."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Reply:
    """What is sent back. `cut`: close the connection after so many bytes. `wait`: set it to let the reply go.
    `drip`: seconds between single bytes. `pieces`: in the place of a body, parts of a stream, each after so many
    seconds; where one is None the connection breaks off."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    wait: threading.Event | None = None
    drip: float = 0.0
    pieces: tuple[tuple[float, bytes | None], ...] = ()


def streamed(*words: str, first: float = 0.0, each: float = 0.0, usage: bool = True, breaks: bool = False) -> Reply:
    """A reply of the chat API in pieces, a token a word. breaks: the connection does, in the place of the end."""
    deltas = [{"choices": [{"delta": {"content": word}, "finish_reason": None}]} for word in words]
    events = [(each if number else first, _event(delta)) for number, delta in enumerate(deltas)]
    end = [(0.0, _event({"choices": [{"delta": {}, "finish_reason": "stop"}]}))]
    end += [(0.0, _event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": len(words)}}))] * usage
    return Reply(pieces=(*events, *([(0.0, None)] if breaks else [*end, (0.0, b"data: [DONE]\n\n")])))


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chat(text: str | None, finish_reason: str = "stop", **message: Any) -> Reply:
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    return Reply({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


def completion(text: str, finish_reason: str = "stop", **choice: Any) -> Reply:
    return Reply({"choices": [{"text": text, "finish_reason": finish_reason, **choice}]})


def error(status: int, message: str = "went wrong", **headers: str) -> Reply:
    return Reply({"error": {"message": message}}, status, {name.replace("_", "-"): v for name, v in headers.items()})


class ScriptedServer:
    """`answer` maps what was asked to a reply; `models` is the reply to GET /v1/models."""

    def __init__(self) -> None:
        self.answer: Callable[[Asked], Reply] = lambda asked: chat("yes")
        self.models = Reply({"data": [{"id": "small"}]})
        self.asked: list[Asked] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(server.models)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                asked = server.note(self.path, dict(self.headers), json.loads(self.rfile.read(length)))
                try:
                    self.reply(server.answer(asked))
                finally:
                    server.leave()

            def reply(self, reply: Reply) -> None:
                if reply.wait is not None:
                    reply.wait.wait(10)
                if reply.pieces:
                    return self.stream(reply)
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.send(body, reply)
                except OSError:
                    self.close_connection = True

            def stream(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}.items():
                    self.send_header(name, value)
                self.end_headers()
                for pause, piece in (*reply.pieces, (0.0, b"")):
                    threading.Event().wait(pause)
                    if piece is None:
                        self.close_connection = True
                        return
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

            def send(self, body: bytes, reply: Reply) -> None:
                for at in range(len(body) if reply.drip else 0):
                    self.wfile.write(body[at : at + 1])
                    threading.Event().wait(reply.drip)
                if not reply.drip:
                    self.wfile.write(body[: reply.cut])
                if reply.cut is not None:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        # A client that is killed in the middle is part of some tests, and no news.
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def note(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Asked:
        with self._lock:
            asked = Asked(len(self.asked), path, headers, body)
            self.asked.append(asked)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            return asked

    def leave(self) -> None:
        with self._lock:
            self.at_once -= 1

    def script(self, *replies: Reply) -> None:
        """Answer with these, one after another; the last one for ever."""
        self.answer = lambda asked: replies[min(asked.number, len(replies) - 1)]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
