"""A server on this machine that speaks the batch API: files of questions, batches made of them, files of answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Line = dict[str, Any]


def chat_body(text: str, **message: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


class BatchApi:
    """`answer` maps the body of a question to (status, body), or None where it gets no line at all.

    looks: how often a batch is looked at until it is done. ends: what becomes of the batches, one after another, the
    last for ever: `completed`, `expired`, `cancelled` (their second half has no answer), `failed`, or a list of errors.
    held: nothing ends until it is set. lost_replies: so many batches are begun without a word. lists: whether batches
    can be listed; has_files: whether there is a route for files at all. busy: so many requests are answered with 503.
    """

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda body: (200, chat_body("7"))
        self.looks = 1
        self.ends: list[Any] = ["completed"]
        self.released = threading.Event()
        self.released.set()
        self.lost_replies = self.busy = 0
        self.lists = self.has_files = True
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.posted = 0
        self._lock = threading.Lock()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.give(*api.get(self.path.split("?")[0].removeprefix("/v1/")))

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                status, body = api.post(self.path.removeprefix("/v1/"), content, self.headers["Content-Type"])
                if status:
                    self.give(status, body)
                else:
                    self.close_connection = True

            def give(self, status: int, body: Any) -> None:
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def lines(self, number: int) -> list[Line]:
        """The questions of a batch, from 0."""
        file_id = list(self.batches.values())[number]["input_file_id"]
        return [json.loads(line) for line in self.files[file_id].splitlines()]

    def get(self, path: str) -> tuple[int, Any]:
        with self._lock:
            self.requests.append(f"GET {path}")
            if path == "models":
                return 200, {"data": [{"id": "small"}]}
            if path == "batches":
                listed = [self._shown(batch) for batch in reversed(self.batches.values())]
                return (200, {"object": "list", "data": listed, "has_more": False}) if self.lists else (404, {})
            if found := re.fullmatch(r"batches/(\w+)", path):
                if found[1] not in self.batches:
                    return 404, {"error": {"message": f"No batch found with id '{found[1]}'."}}
                return 200, self._looked_at(self.batches[found[1]])
            if found := re.fullmatch(r"files/(\w+)/content", path):
                return (200, self.files[found[1]]) if found[1] in self.files else (404, {})
            return 404, {"error": {"message": "no such route"}}

    def post(self, path: str, content: bytes, kind: str) -> tuple[int, Any]:
        with self._lock:
            self.requests.append(f"POST {path}")
            if self.busy:
                self.busy -= 1
                return 503, {"error": {"message": "come back later"}}
            if path == "files" and not self.has_files:
                return 404, {"error": {"message": "no such route"}}
            if path == "files":
                mark = b"--" + kind.split("boundary=")[1].strip('"').encode()
                parts = [part.split(b"\r\n\r\n", 1) for part in content.split(mark)[1:-1]]
                given = {re.search(rb'name="(\w+)"', head)[1]: body.removesuffix(b"\r\n") for head, body in parts}  # type: ignore[index]
                assert given[b"purpose"] == b"batch"
                return 200, {"id": self._file(given[b"file"]), "object": "file", "purpose": "batch"}
            assert path == "batches"
            asked = json.loads(content)
            assert asked["completion_window"] == "24h" and asked["input_file_id"] in self.files
            name = f"batch_{len(self.batches)}"
            end = self.ends[min(len(self.batches), len(self.ends) - 1)]
            batch = {**asked, "id": name, "object": "batch", "status": "validating", "looked": 0, "end": end}
            self.batches[name] = batch
            if self.lost_replies:
                self.lost_replies -= 1
                return 0, None
            return 200, self._shown(batch)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _file(self, content: bytes) -> str:
        name = f"file_{len(self.files)}"
        self.files[name] = content
        return name

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in batch.items() if name not in ("looked", "end")}

    def _looked_at(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["looked"] += 1
        if batch["status"] in ("validating", "in_progress"):
            batch["status"] = "in_progress"
            if batch["looked"] >= self.looks and self.released.is_set():
                self._end(batch)
        return self._shown(batch)

    def _end(self, batch: dict[str, Any]) -> None:
        end = batch["end"]
        if isinstance(end, list):
            batch |= {"status": "failed", "errors": {"object": "list", "data": end}}
            return
        batch["status"] = end
        if end == "failed":
            return
        asked = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        output, errors = [], []
        for number, line in enumerate(asked):
            assert line["method"] == "POST" and line["url"] == batch["endpoint"]
            if end != "completed" and number >= len(asked) // 2:
                code = f"batch_{end}"
                error = {"code": code, "message": "This request was not executed."}
                errors.append({"id": "x", "custom_id": line["custom_id"], "response": None, "error": error})
                continue
            answered = self.answer(line["body"])
            if answered is not None:
                self.posted += 1
                response = {"status_code": answered[0], "request_id": "r", "body": answered[1]}
                given = {"id": "x", "custom_id": line["custom_id"], "response": response, "error": None}
                (output if answered[0] == 200 else errors).append(given)
        for name, lines in (("output_file_id", output), ("error_file_id", errors)):
            batch[name] = self._file("\n".join(map(json.dumps, lines)).encode()) if lines else None
        batch["request_counts"] = {"total": len(asked), "completed": len(output), "failed": len(errors)}
