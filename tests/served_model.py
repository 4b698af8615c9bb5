"""A real server, `transformers serve`, with a small random model: what the tests with real HTTP share.

It runs where the server's packages are installed: `pip install "transformers[serving]"`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.testing import tiny_causal_lm

NEEDED = ("uvicorn", "fastapi", "openai")
needs_server = pytest.mark.skipif(
    not all(map(find_spec, NEEDED)), reason=f"runs where {', '.join(NEEDED)} are installed (transformers[serving])"
)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Make a model in `folder` and serve it; gives the address up to `/v1`. The server calls it by its path."""
    tiny_causal_lm(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            assert process.poll() is None, "transformers serve ended before it answered"
            time.sleep(0.1)
    pytest.fail("transformers serve did not answer within a minute")
