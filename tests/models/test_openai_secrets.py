"""Keys and headers go to the server, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai_asking import answer, answers, ask, make
from scripted_server import ScriptedServer, chat, error


def test_the_key_goes_to_the_server_and_nowhere_else(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    model = make(server, headers={"X-Project": "p"})
    server.script(chat("yes"), error(400, "your key sk-secret is odd"))
    fine, refused = answers(model, [ask(), ask()])
    assert server.asked[0].headers["Authorization"] == "Bearer sk-secret"
    assert server.asked[0].headers["X-Project"] == "p"
    assert refused.error is not None and "***" in refused.error
    said = json.dumps([dict(model.identity), dict(model.describe()), fine.text, refused.error])
    assert "sk-secret" not in said
    assert "api_key" in model.secrets


def test_the_key_is_taken_from_the_environment(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    answer(make(server, api_key=None), ask())
    assert server.asked[0].headers["Authorization"] == "Bearer sk-env"


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert answer(make(server), ask()).text == "yes"
