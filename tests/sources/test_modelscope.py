"""ModelScope's hub, and plain files of a GitHub repository, against a server that also fails."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hub_server import CSV, LINES, HubServer, data_requests

from harness import DataError, DatasetSpec, Rows, SaveError
from harness.data import cache_folder
from harness.data.open import open_dataset
from harness.registry import Registry


def modelscope(name: str, config: str | None = "law", **changes: object) -> DatasetSpec:
    return DatasetSpec(name, config, sources={"modelscope": name}, hub="modelscope", **changes)  # type: ignore[arg-type]


def forget(registry: Registry) -> None:
    """Let five minutes pass: what a hub listed is believed for that long."""
    module: Any = registry.manager.get_plugin("sources.modelscope")
    module._listing.cache_clear()


def check_rows(rows: Rows) -> None:
    assert [(row["id"], row["question"]) for row in rows.rows] == [("007", "问题？"), ("008", "第二题😀")]


@pytest.mark.parametrize("name", ["org/set", "org/flaky", "org/torn", "org/cdn"])
def test_rows_come_through_whatever_the_network_does_for_a_while(hub: HubServer, registry: Registry, name: str) -> None:
    check_rows(open_dataset(modelscope(name), "val", registry.hook))


def test_a_file_is_fetched_once(hub: HubServer, registry: Registry) -> None:
    open_dataset(modelscope("org/set"), "val", registry.hook)
    asked = len(hub.asked)
    again = open_dataset(modelscope("org/set", revision=None, kwargs={"delimiter": ","}), "val", registry.hook)
    check_rows(again)
    assert len(hub.asked) == asked


def test_offline_reads_the_cache_and_asks_nothing(hub: HubServer, registry: Registry) -> None:
    open_dataset(modelscope("org/set"), "val", registry.hook)
    asked = len(hub.asked)
    check_rows(open_dataset(modelscope("org/set", offline=True), "val", registry.hook))
    with pytest.raises(DataError, match="--offline forbids the network, and the set is not in the cache"):
        open_dataset(modelscope("org/flaky", offline=True), "val", registry.hook)
    assert len(hub.asked) == asked


def test_a_file_that_changed_on_the_hub_is_fetched_again(hub: HubServer, registry: Registry) -> None:
    open_dataset(modelscope("org/set"), "val", registry.hook)
    hub.files["org/set"]["law/val.csv"] = b"id,question\n009,new\n"
    forget(registry)
    rows = open_dataset(modelscope("org/set", kwargs={"delimiter": ","}), "val", registry.hook)
    assert [dict(row) for row in rows.rows] == [{"id": "009", "question": "new"}]


def test_a_file_that_left_the_hub_is_no_split_any_more(hub: HubServer, registry: Registry) -> None:
    hub.files["org/plain"]["law/dev.jsonl"] = LINES.encode()
    check_rows(open_dataset(modelscope("org/plain"), "dev", registry.hook))
    del hub.files["org/plain"]["law/dev.jsonl"]
    forget(registry)
    with pytest.raises(DataError, match=r"has no split 'dev' \(it has: val\)"):
        open_dataset(modelscope("org/plain", kwargs={"delimiter": ","}), "dev", registry.hook)


def test_a_hub_that_is_away_leaves_the_cache(hub: HubServer, registry: Registry) -> None:
    open_dataset(modelscope("org/set"), "val", registry.hook)
    hub.shutdown()
    hub.server_close()
    forget(registry)
    check_rows(open_dataset(modelscope("org/set", kwargs={"delimiter": ","}), "val", registry.hook))


def test_a_download_that_breaks_is_taken_up_where_it_broke(hub: HubServer, registry: Registry) -> None:
    body = CSV + b"009,q,a,b,A\n" * 100_000
    hub.files["org/torn"]["law/val.csv"] = body
    assert len(open_dataset(modelscope("org/torn"), "val", registry.hook).rows) == 100_002
    first, second = hub.sent_of("law/val.csv")
    assert first == len(body) // 2
    assert second < len(body) * 0.6


LONG = b"id,answer\n" + b"".join(b"%07d,A\n" % number for number in range(20_000))


def left_by_a_kill(data: bytes) -> None:
    """A process that is gone has left so much of `LONG` in the cache."""
    folder = cache_folder("modelscope", "org", "set", "master", "law")
    folder.mkdir(parents=True)
    code = "import sys, pathlib, harness.files; print(harness.files.beside(pathlib.Path('x'), sys.argv[1]))"
    mark = hashlib.sha256(LONG).hexdigest()[:16]
    done = subprocess.run([sys.executable, "-c", code, mark], capture_output=True, text=True, check=True, timeout=60)
    (folder / done.stdout.strip()).write_bytes(data)


@pytest.mark.parametrize(
    ("left", "sent"),
    [
        (LONG[:100_000], [len(LONG) - 100_000]),
        (LONG, []),
        (bytes(100_000), [len(LONG) - 100_000, len(LONG)]),  # a disk that lost its power has gaps
        (bytes(len(LONG)), [len(LONG)]),
        (LONG + b"more", [len(LONG)]),
    ],
    ids=["half", "all", "gaps", "as long", "longer"],
)
def test_a_download_that_was_killed_goes_on(hub: HubServer, registry: Registry, left: bytes, sent: list[int]) -> None:
    hub.files["org/set"]["law/val.csv"] = LONG
    left_by_a_kill(left)
    rows = open_dataset(modelscope("org/set"), "val", registry.hook).rows
    assert (len(rows), dict(rows[-1])) == (20_000, {"id": "0019999", "answer": "A"})
    assert hub.sent_of("law/val.csv") == sent
    assert not list(cache_folder("modelscope").rglob("*.tmp"))


def test_a_file_that_is_not_what_the_hub_lists_is_refused(hub: HubServer, registry: Registry) -> None:
    hub.swapped.add("law/val.csv")
    with pytest.raises(DataError, match="is not the one that the server lists"):
        open_dataset(modelscope("org/set"), "val", registry.hook)


def test_files_that_a_task_names_are_read_whatever_the_layout(hub: HubServer, registry: Registry) -> None:
    for pattern in ("zip://val/law_*.csv::all.zip", "data/法 #1 & 2.csv", "law/val-*.jsonl"):
        source = {"path": "org/plain", "files": {"val": pattern}}
        check_rows(
            open_dataset(DatasetSpec("x/y", sources={"modelscope": source}, hub="modelscope"), "val", registry.hook)
        )


def test_a_long_list_of_files_is_read_to_its_end(hub: HubServer, registry: Registry) -> None:
    hub.files["org/plain"] |= {f"extra/{number:03}.bin": b"" for number in range(450)} | {"zoo/val.csv": CSV}
    check_rows(open_dataset(modelscope("org/plain", "zoo"), "val", registry.hook))


def test_a_token_goes_to_the_hub_and_not_where_it_sends_us(
    hub: HubServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    check_rows(open_dataset(modelscope("org/cdn"), "val", registry.hook))
    assert {host for host, _ in hub.trusted} == {hub.url.removeprefix("http://")}
    assert [path for _, path in hub.asked if path.startswith("/cdn/")]


@pytest.mark.parametrize(
    ("name", "config", "split", "message"),
    [
        ("org/absent", "law", "val", r"dataset 'org/absent': is not on ModelScope \(404\).*--data DIR.*data pull"),
        ("org/gated", "law", "val", r"no permission: accept the terms .* MODELSCOPE_API_TOKEN"),
        ("org/set", "lwa", "val", r"has no config 'lwa'; did you mean 'law'\?"),
        ("org/set", "law", "test", r"has no split 'test' \(it has: dev, val\)"),
        ("org/dead", "law", "val", r"ModelScope could not be reached after 4 attempts \(it says 503\)"),
    ],
)
def test_each_refusal_is_one_line_with_a_remedy(
    hub: HubServer, registry: Registry, name: str, config: str, split: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as refused:
        open_dataset(modelscope(name, config), split, registry.hook)
    assert "\n" not in str(refused.value)


def test_a_server_that_stays_away_is_named_after_a_few_attempts(
    hub: HubServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="ModelScope could not be reached after 4 attempts"):
        open_dataset(modelscope("org/set"), "val", registry.hook)


def test_a_task_without_an_id_on_the_hub_says_which_hub_has_one(hub: HubServer, registry: Registry) -> None:
    spec = DatasetSpec("org/set", "law", hub="modelscope")
    with pytest.raises(DataError, match=r"has no id on ModelScope .*--hub hf"):
        open_dataset(spec, "val", registry.hook)


def github(name: str, file: str) -> DatasetSpec:
    return DatasetSpec(None, sources={"github": {"repo": name, "revision": "main", "files": {"test": file}}})


@pytest.mark.parametrize("name", ["org/set", "org/flaky", "org/torn"])
def test_files_of_a_repository_come_through(hub: HubServer, registry: Registry, name: str) -> None:
    check_rows(open_dataset(github(name, "law/val.csv"), "test", registry.hook))
    assert data_requests(hub)[-1] == f"/{name}/main/law/val.csv"


def test_a_repository_file_that_is_not_there_is_one_line(hub: HubServer, registry: Registry) -> None:
    with pytest.raises(DataError, match=r"org/set, law/absent.csv: is not on the server \(404\).*--data DIR"):
        open_dataset(github("org/set", "law/absent.csv"), "test", registry.hook)


def test_a_pattern_needs_a_mirror(hub: HubServer, registry: Registry) -> None:
    with pytest.raises(DataError, match="a pattern can only be read from a mirror folder"):
        open_dataset(github("org/set", "law/*.csv"), "test", registry.hook)


def test_a_full_disk_is_one_line(hub: HubServer, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(SaveError, match=r"cannot be written: .*, or name another cache folder by XDG_CACHE_HOME$"):
        open_dataset(modelscope("org/set"), "val", registry.hook)


def test_a_repository_file_is_asked_for_again_and_sent_only_when_it_changed(hub: HubServer, registry: Registry) -> None:
    spec = github("org/set", "law/val.csv")
    check_rows(open_dataset(spec, "test", registry.hook))
    check_rows(open_dataset(replace(spec, name="again"), "test", registry.hook))
    assert hub.sent_of("law/val.csv") == [len(CSV), 0]
    hub.files["org/set"]["law/val.csv"] = b"id,question\n009,new\n"
    rows = open_dataset(replace(spec, name="third"), "test", registry.hook)
    assert [dict(row) for row in rows.rows] == [{"id": "009", "question": "new"}]


def test_names_that_differ_only_in_odd_letters_do_not_share_a_cache_entry(hub: HubServer, registry: Registry) -> None:
    hub.files["org/set"] |= {"a b.csv": b"x\n1\n", "a_b.csv": b"x\n2\n", "a#b.csv": b"x\n3\n"}
    for name, value in (("a b.csv", "1"), ("a_b.csv", "2"), ("a#b.csv", "3")):
        assert open_dataset(github("org/set", name), "test", registry.hook).rows[0] == {"x": value}


def test_a_plain_address_and_a_file_in_an_archive_are_read(hub: HubServer, registry: Registry) -> None:
    files = {"val": f"{hub.url}/org/set/main/law/val.csv", "zip": f"zip://val/*.csv::{hub.url}/org/plain/main/all.zip"}
    for split in files:
        check_rows(open_dataset(DatasetSpec(None, sources={"url": {"files": files}}), split, registry.hook))
