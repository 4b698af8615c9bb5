"""Servers and files without end: one clear line, within seconds."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness import DataError
from harness.data import FileOptions, Server, data_file, download, read_rows
from harness.data.data_file import DataFile


class Dripping(BaseHTTPRequestHandler):
    """One byte every few milliseconds, as long as somebody listens."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" ")
                time.sleep(0.02)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/rows"
    server.shutdown()
    server.server_close()


def test_a_server_that_drips_is_given_up(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    server = Server("the test server", "")
    began = time.monotonic()
    with pytest.raises(DataError, match=r"the server gives \d+ bytes a second, which comes to no end"):
        server.fetch(address, tmp_path / "rows.jsonl", "rows")
    with pytest.raises(DataError, match="bytes a second"):
        server.json(address, "the listing")
    assert time.monotonic() - began < 30
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_file, "LARGEST_UNPACKED", 8 << 20)
    bomb = tmp_path / "rows.jsonl.gz"
    bomb.write_bytes(gzip.compress(b" " * (32 << 20)))
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz: unpacks to more than"):
        list(read_rows(DataFile(bomb), FileOptions()))
