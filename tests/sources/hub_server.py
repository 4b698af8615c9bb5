"""A server on this machine that speaks as much of each hub as the sources use, and fails on request.

The name of a set says what happens: `org/set` is well, `org/gated` wants permission, `org/flaky` answers 503 at first,
`org/torn` breaks the first connection of each file half way. Everything else is not there.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

CSV = "id,question,A,B,answer\n007,问题？,甲,乙,A\n008,第二题😀,丙,丁,B\n".encode()
README = b"""---
configs:
- config_name: law
  data_files:
  - {split: val, path: law/val.csv}
  - {split: dev, path: law/dev.csv}
---
"""
FILES = {"README.md": README, "law/val.csv": CSV, "law/dev.csv": CSV}
SETS = ("org/set", "org/gated", "org/flaky", "org/torn")
COMMIT = "a" * 40


class HubServer(ThreadingHTTPServer):
    """`asked` lists all requests, as (method, path)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.failures: Counter[str] = Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.server.asked.append((self.command, path))
        name = next((name for name in SETS if f"/{name}" in path), None)
        if name is None:
            self._json({"error": "not found"}, 404)
        elif name == "org/flaky" and self._fails(name, 2):
            self._json({"error": "busy"}, 503)
        elif path.startswith("/api/v1/datasets/"):
            self._modelscope(name, path, query)
        elif path.startswith("/api/datasets/"):
            self._hugging_face_api(name, path)
        elif "/resolve/" in path:
            self._file(name, path.split("/resolve/")[1].partition("/")[2])
        else:
            self._file(name, path.removeprefix(f"/{name}/").partition("/")[2])

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _fails(self, key: str, times: int) -> bool:
        self.server.failures[key] += 1
        return self.server.failures[key] <= times

    def _hugging_face_api(self, name: str, path: str) -> None:
        if "/tree/" in path:
            folder = path.partition("/tree/")[2].partition("/")[2]
            self._json([self._entry(file) for file in FILES if file.startswith(folder)])
        else:
            siblings = [{"rfilename": file} for file in FILES]
            self._json({"_id": "1", "id": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})

    def _entry(self, file: str) -> dict[str, Any]:
        return {"type": "file", "oid": "b" * 40, "size": len(FILES[file]), "path": file}

    def _modelscope(self, name: str, path: str, query: dict[str, str]) -> None:
        if path.endswith("/repo/tree"):
            files = [
                {"Path": file, "Type": "blob", "Size": len(body), "Sha256": hashlib.sha256(body).hexdigest()}
                for file, body in FILES.items()
            ]
            self._json({"Code": 200, "Success": True, "Data": {"Files": files}})
        else:
            self._file(name, query["FilePath"])

    def _file(self, name: str, file: str) -> None:
        body = FILES.get(file)
        if name == "org/gated":
            self._answer(401, b"", {"X-Error-Code": "GatedRepo"})
        elif body is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            torn = name == "org/torn" and self.command == "GET" and file.endswith(".csv") and self._fails(file, 1)
            etag = hashlib.sha1(file.encode() + body).hexdigest()
            self._answer(200, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, torn)

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], torn: bool = False) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if torn else body)
        if torn:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def data_requests(server: HubServer) -> list[str]:
    """The files that were really sent for."""
    return [path for method, path in server.asked if method == "GET" and re.search(r"\.csv|FilePath", path)]
