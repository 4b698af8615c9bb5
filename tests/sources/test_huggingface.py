"""The Hugging Face hub through the real `datasets` library, against a server on this machine.

`datasets` reads its settings when it is imported, so all of it runs in one process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer

CASES = {
    "well": ("org/set", "law", "val", {}),
    "flaky": ("org/flaky", "law", "val", {}),
    "torn": ("org/torn", "law", "val", {}),
    "pinned": ("org/set", "law", "dev", {"revision": "a" * 40}),
    "absent": ("org/absent", "law", "val", {}),
    "gated": ("org/gated", "law", "val", {}),
    "config": ("org/set", "lwa", "val", {}),
    "split": ("org/set", "law", "test", {}),
    "cdn": ("org/cdn", "law", "val", {}),
    "dead": ("org/dead", "law", "val", {}),
    "revision": ("org/set", "law", "val", {"revision": "v9"}),
    "script": ("org/script", "law", "val", {}),
    "script config": ("org/script", "lwa", "val", {}),
    "script revision": ("org/script", "law", "val", {"revision": "a" * 40}),
    "pictures": ("org/pictures", None, "test", {}),
    "named files": ("org/plain", "law", "val", {"sources": {"hf": {"files": {"val": "law/val-*.jsonl"}}}}),
    "zip": ("org/plain", "law", "val", {"sources": {"hf": {"files": {"val": "zip://val/law_*.csv::all.zip"}}}}),
}
OFFLINE = {
    "cached": ("org/set", "law", "val", {"offline": True}),
    "cached pinned": ("org/set", "law", "val", {"offline": True, "revision": "a" * 40}),
    "cached zip": (*CASES["zip"][:3], {**CASES["zip"][3], "offline": True}),
    "cached files": (*CASES["named files"][:3], {**CASES["named files"][3], "offline": True}),
    "cached script": ("org/script", "law", "val", {"offline": True}),
    "other revision": ("org/set", "law", "val", {"offline": True, "revision": "b" * 40}),
    "cached config": ("org/set", "lwa", "val", {"offline": True}),
    "not cached": ("org/other", "law", "val", {"offline": True}),
}
ROWS_COME = {"well", "flaky", "torn", "pinned", "cdn", "script", "named files", "zip"}
ROWS_COME |= {"cached", "cached pinned", "cached zip", "cached files", "cached script"}
ROWS = [("问题？", "A"), ("第二题😀", "B")]
SCRIPT = """
import json, os, socket, sys
from harness import DataError, DatasetSpec
from harness.registry import load_plugins
from harness.data.open import open_dataset
hook, found = load_plugins().hook, {}
if "NO_SOCKETS" in os.environ:
    def refuse(*_, **__):
        raise SystemExit("a socket was opened")
    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
for case, (path, name, split, more) in json.load(sys.stdin).items():
    try:
        found[case] = [dict(row) for row in open_dataset(DatasetSpec(path, name, **more), split, hook).rows]
    except DataError as error:
        found[case] = str(error)
print(json.dumps(found, default=repr))
"""


def open_all(cases: dict[str, Any], home: Path, endpoint: str, **more: str) -> dict[str, Any]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HARNESS_RETRY_DELAY": "0.001", **more}
    environment |= {"HF_TOKEN": "hf_secret", "XDG_CACHE_HOME": str(home), "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(cases), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    server, home = HubServer(), tmp_path_factory.mktemp("hub")
    found = open_all(CASES, home, server.url)
    asked = len(server.asked)
    found |= open_all(OFFLINE, home, server.url, NO_SOCKETS="1")
    found["asked while offline"] = server.asked[asked:]
    found["trusted"] = server.trusted
    found["our host"] = server.url.removeprefix("http://")
    found["home"] = home
    server.shutdown()
    server.server_close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(ROWS_COME))
def test_rows_come_through(answers: dict[str, Any], case: str) -> None:
    assert [(row["question"], row["answer"]) for row in answers[case]] == ROWS


@pytest.mark.slow
def test_rows_come_from_the_cache_where_no_hub_answers(answers: dict[str, Any]) -> None:
    away = open_all({"away": ("org/set", "law", "dev", {})}, answers["home"], "http://127.0.0.1:9")
    assert [(row["question"], row["answer"]) for row in away["away"]] == ROWS


@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ("absent", ["dataset 'org/absent'", "is not on the Hugging Face hub (404)", "--data DIR", "harness data pull"]),
        ("gated", ["needs permission: accept the terms on the page of the set, then set HF_TOKEN"]),
        ("config", ["has no config 'lwa'; did you mean 'law'?"]),
        ("split", ["has no split 'test' (it has: dev, val)"]),
        ("dead", ["the Hugging Face hub cannot be reached (", "503", "--data DIR"]),
        ("revision", ["the Hugging Face hub has no such revision"]),
        ("script config", ["has no config 'lwa'; did you mean 'law'?"]),
        ("script revision", ["is made by a script of its own, and such code is never run"]),
        ("other revision", ["the cache holds revision aaaaaaaaaaaa, and bbbbbbbbbbbb is asked for"]),
        ("cached config", ["has no config 'lwa'; did you mean 'law'?"]),
        ("not cached", ["--offline forbids the network, and the cache does not hold it"]),
    ],
)
def test_each_refusal_is_one_line_with_a_remedy(answers: dict[str, Any], case: str, parts: list[str]) -> None:
    assert isinstance(answers[case], str)
    assert "\n" not in answers[case]
    for part in parts:
        assert part in answers[case]


def test_offline_means_no_network_call_at_all(answers: dict[str, Any]) -> None:
    assert answers["asked while offline"] == []


def test_a_token_goes_to_the_hub_and_not_where_it_sends_us(answers: dict[str, Any]) -> None:
    assert answers["trusted"]
    assert {host for host, _ in answers["trusted"]} == {answers["our host"]}


def test_what_datasets_knows_of_types_stays(answers: dict[str, Any]) -> None:
    assert [row["id"] for row in answers["named files"]] == ["007", "008"]


def test_media_stay_the_bytes_that_they_are(answers: dict[str, Any]) -> None:
    assert answers["pictures"] == [{"image": {"bytes": repr(b"\x89PNG and no more"), "path": "a.png"}, "q": "?"}]
