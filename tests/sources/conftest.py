"""A hub on this machine, and a cache that no other test sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer

from harness.registry import Registry, load_plugins


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    for name in ("MODELSCOPE_ENDPOINT", "HARNESS_GITHUB_RAW", "HF_ENDPOINT"):
        monkeypatch.setenv(name, server.url)
    monkeypatch.setenv("HARNESS_RETRY_DELAY", "0.001")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def registry() -> Registry:
    return load_plugins()
