"""ModelScope's hub, and plain files of a GitHub repository, against a server that also fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_server import HubServer, data_requests

from harness import DataError, DatasetSpec, Rows
from harness.registry import Registry
from harness.tasks.data import open_dataset


def modelscope(name: str, config: str | None = "law", **changes: object) -> DatasetSpec:
    return DatasetSpec(name, config, sources={"modelscope": name}, hub="modelscope", **changes)  # type: ignore[arg-type]


def check_rows(rows: Rows) -> None:
    assert [(row["id"], row["question"]) for row in rows.rows] == [("007", "问题？"), ("008", "第二题😀")]


@pytest.mark.parametrize("name", ["org/set", "org/flaky", "org/torn"])
def test_rows_come_through_whatever_the_network_does_for_a_while(hub: HubServer, registry: Registry, name: str) -> None:
    check_rows(open_dataset(modelscope(name), "val", registry.hook))


def test_a_file_is_fetched_once(hub: HubServer, registry: Registry) -> None:
    open_dataset(modelscope("org/set"), "val", registry.hook)
    asked = len(hub.asked)
    again = open_dataset(modelscope("org/set", revision=None, kwargs={"delimiter": ","}), "val", registry.hook)
    check_rows(again)
    assert len(hub.asked) == asked + 1, "only the list of files is asked for again"


def test_offline_reads_the_cache_and_asks_nothing(hub: HubServer, registry: Registry) -> None:
    open_dataset(modelscope("org/set"), "val", registry.hook)
    asked = len(hub.asked)
    check_rows(open_dataset(modelscope("org/set", offline=True), "val", registry.hook))
    with pytest.raises(DataError, match="not in the cache, and --offline forbids the network"):
        open_dataset(modelscope("org/flaky", offline=True), "val", registry.hook)
    assert len(hub.asked) == asked


@pytest.mark.parametrize(
    ("name", "config", "split", "message"),
    [
        ("org/absent", "law", "val", r"dataset 'org/absent': is not on ModelScope \(404\).*--data DIR.*data pull"),
        ("org/gated", "law", "val", r"no permission: accept the terms .* MODELSCOPE_API_TOKEN"),
        ("org/set", "lwa", "val", r"has no config 'lwa'; did you mean 'law'\?"),
        ("org/set", "law", "test", r"has no split 'test' \(it has: dev, val\)"),
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
    with pytest.raises(DataError, match="cannot be written"):
        open_dataset(modelscope("org/set"), "val", registry.hook)
