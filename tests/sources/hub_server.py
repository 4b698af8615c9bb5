"""A server on this machine that speaks as much of each hub as the sources use, and fails on request.

The name of a set says what happens: `org/set` is well, `org/gated` wants permission, `org/flaky` answers 503 at first,
`org/torn` breaks the first connection of each file half way, `org/cdn` sends downloads on to another host, `org/dead`
never gives a file, `org/script` is made by a script and has the hub's Parquet copy, `org/plain` has several shapes of
files and no card, `org/pictures` has media. Everything else is not there.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
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
LAW = {"README.md": README, "law/val.csv": CSV, "law/dev.csv": CSV}
LINES = '{"id": "007", "question": "问题？", "answer": "A"}\n{"id": "008", "question": "第二题😀", "answer": "B"}\n'
COMMIT = "a" * 40
CONVERTED = "c" * 40


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def parquet(rows: list[dict[str, Any]], features: dict[str, Any] | None = None) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, buffer)
    return buffer.getvalue()


def pictures() -> dict[str, bytes]:
    """A set with a picture that no library could decode."""
    features = {"image": {"_type": "Image"}, "q": {"dtype": "string", "_type": "Value"}}
    rows = [{"image": {"bytes": b"\x89PNG and no more", "path": "a.png"}, "q": "?"}]
    return {"data/test-00000-of-00001.parquet": parquet(rows, features)}


PLAIN = {
    "all.zip": zipped({"val/law_val.csv": CSV}),
    "data/法 #1 & 2.csv": CSV,
    "law/val-00000-of-00002.jsonl": LINES.splitlines(keepends=True)[0].encode(),
    "law/val-00001-of-00002.jsonl": LINES.splitlines(keepends=True)[1].encode(),
}
SETS: dict[str, dict[str, bytes]] = {
    **{f"org/{name}": LAW for name in ("set", "gated", "flaky", "torn", "cdn", "dead")},
    "org/script": {"script.py": b"print('never run')"},
    "org/plain": PLAIN,
    "org/pictures": {},
}


class HubServer(ThreadingHTTPServer):
    """`asked` lists all requests, as (method, path); `trusted` those that carried credentials, as (host, path).

    `files` may be changed while it runs, as a hub's do. A file in `swapped` arrives as zeros.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.trusted: list[tuple[str, str]] = []
        self.swapped: set[str] = set()
        self.sent: list[tuple[str, int]] = []
        self.failures: Counter[str] = Counter()
        self.files = {name: dict(files) for name, files in SETS.items()}
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def sent_of(self, file: str) -> list[int]:
        """How many bytes of a file went out, request by request."""
        return [length for path, length in self.sent if path.endswith(file)]

    @property
    def other_host(self) -> str:
        """The same server by another name, as a hub's downloads come from another host."""
        return f"http://localhost:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_GET(self) -> None:
        # A branch may have slashes in its name, so it is told apart before they are unquoted.
        path = unquote(urlsplit(self.path).path.replace("refs%2Fconvert%2Fparquet", CONVERTED))
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.server.asked.append((self.command, path))
        if "Authorization" in self.headers or "Cookie" in self.headers:
            self.server.trusted.append((self.headers["Host"], path))
        name = next((name for name in SETS if f"/{name}/" in f"{path}/"), None)
        if name is None:
            self._json({"error": "not found"}, 404)
        elif name == "org/flaky" and self._fails(name, 2):
            self._json({"error": "busy"}, 503)
        elif path.startswith("/api/v1/datasets/"):
            self._modelscope(name, path, query)
        elif path.startswith("/api/datasets/"):
            self._hugging_face_api(name, path)
        elif "/resolve/" in path:
            revision, _, file = path.split("/resolve/")[1].partition("/")
            self._file(name, file, self._files(name, revision), path)
        else:
            self._file(name, path.partition(f"/{name}/")[2].partition("/")[2], self.server.files[name], path)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _fails(self, key: str, times: int) -> bool:
        self.server.failures[key] += 1
        return self.server.failures[key] <= times

    def _files(self, name: str, revision: str) -> dict[str, bytes]:
        if name == "org/script" and revision == CONVERTED:
            return {"law/val/0000.parquet": parquet([json.loads(line) for line in LINES.splitlines()])}
        return pictures() if name == "org/pictures" else self.server.files[name]

    def _hugging_face_api(self, name: str, path: str) -> None:
        if "/tree/" in path:
            revision, _, folder = path.partition("/tree/")[2].partition("/")
            files = self._files(name, revision)
            everything = "recursive=true" in self.path.lower()
            self._json(_tree(files, folder, everything))
            return
        revision = path.partition("/revision/")[2] or "main"
        known = ("main", COMMIT) if name != "org/script" else ("main", COMMIT, CONVERTED)
        if revision not in known:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        commit = CONVERTED if revision == CONVERTED else COMMIT
        siblings = [{"rfilename": file} for file in self._files(name, revision)]
        self._json({"_id": "1", "id": name, "sha": commit, "private": False, "tags": [], "siblings": siblings})

    def _modelscope(self, name: str, path: str, query: dict[str, str]) -> None:
        if not path.endswith("/repo/tree"):
            self._file(name, query["FilePath"], self.server.files[name], path)
            return
        files: list[dict[str, Any]] = [
            {"Path": file, "Type": "blob", "Size": len(body), "Sha256": hashlib.sha256(body).hexdigest()}
            for file, body in self.server.files[name].items()
        ]
        files.insert(0, {"Path": "law", "Type": "tree"})
        size, page = int(query["PageSize"]), int(query["PageNumber"])
        self._json({"Code": 200, "Success": True, "Data": {"Files": files[(page - 1) * size : page * size]}})

    def _file(self, name: str, file: str, files: dict[str, bytes], path: str) -> None:
        body = files.get(file)
        if name == "org/gated":
            self._answer(401, b"", {"X-Error-Code": "GatedRepo"})
        elif body is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif name == "org/dead" and self.command == "GET" and file.endswith(".csv"):
            self._json({"error": "busy"}, 503)
        elif name == "org/cdn" and not path.startswith("/cdn/"):
            place = {"Location": f"{self.server.other_host}/cdn/{name}/x/{file}", "X-Repo-Commit": COMMIT}
            self._answer(302, b"", {**place, "X-Linked-Size": str(len(body)), "X-Linked-Etag": f'"{_etag(body)}"'})
        else:
            torn = name == "org/torn" and self.command == "GET" and file.endswith(".csv") and self._fails(file, 1)
            self._body(bytes(len(body)) if file in self.server.swapped else body, torn)

    def _body(self, body: bytes, torn: bool) -> None:
        headers = {"ETag": f'"{_etag(body)}"', "X-Repo-Commit": CONVERTED if CONVERTED in self.path else COMMIT}
        begin = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if self.headers.get("If-None-Match") == headers["ETag"]:
            self._answer(304, b"", headers)
        elif begin and self.headers.get("If-Range", headers["ETag"]) == headers["ETag"]:
            start = int(begin[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self._answer(206, body[start:], headers, torn)
        else:
            self._answer(200, body, headers, torn)

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], torn: bool = False) -> None:
        sent = body[: len(body) // 2] if torn else body
        # Noted before it goes out: a client may look as soon as it has the headers.
        if self.command != "HEAD":
            self.server.sent.append((unquote(self.path), len(sent)))
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)
        if torn:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _tree(files: dict[str, bytes], folder: str, everything: bool) -> list[dict[str, Any]]:
    """The entries of a folder, or all below it, as the Hugging Face hub lists them."""
    folders = {str(parent) for file in files for parent in PurePosixPath(file).parents if str(parent) != "."}
    entries: list[dict[str, Any]] = [
        {"type": "directory", "oid": "d" * 40, "size": 0, "path": name} for name in folders
    ]
    entries += [{"type": "file", "oid": "b" * 40, "size": len(body), "path": file} for file, body in files.items()]
    below = [entry for entry in entries if not folder or entry["path"].startswith(f"{folder}/")]
    return [entry for entry in below if everything or str(PurePosixPath(entry["path"]).parent) == (folder or ".")]


def _etag(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


def data_requests(server: HubServer) -> list[str]:
    """The files that were really sent for."""
    return [path for method, path in server.asked if method == "GET" and re.search(r"\.csv|FilePath", path)]
