"""`harness data pull`: a mirror that gives the very rows that a hub gives."""

from __future__ import annotations

import datetime
import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hub_server import CSV, HubServer

from harness import DataError, DatasetSpec, Rows, SaveError, UsageError
from harness.data import make_rows
from harness.data.mirror import pull
from harness.data.open import open_dataset
from harness.registry import Registry
from harness.types import JSON


def say(_: str) -> None:
    """Nobody listens."""


def from_modelscope(name: str, **changes: Any) -> DatasetSpec:
    return DatasetSpec(name, "law", sources={"modelscope": name}, hub="modelscope", **changes)


def from_github(file: str, split: str = "test") -> DatasetSpec:
    return DatasetSpec(None, sources={"github": {"repo": "org/set", "files": {split: file}}})


def copied(spec: DatasetSpec, to: Path) -> DatasetSpec:
    return DatasetSpec(spec.path, spec.name, kwargs=spec.kwargs, sources=spec.sources, mirrors=(str(to),), offline=True)


def source_of(rows: list[dict[str, JSON]], registry: Registry) -> Any:
    """A hook whose hub holds these rows, behind the real mirror source."""

    def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
        found: Rows | None = registry.hook.harness_open_dataset(spec=spec, split=split) if spec.mirrors else None
        return found or make_rows(rows, "made for a test")

    return SimpleNamespace(harness_open_dataset=harness_open_dataset)


@pytest.mark.parametrize("spec", [from_modelscope("org/set"), from_github("law/val.csv")], ids=["hub", "repository"])
def test_a_pulled_split_gives_the_same_rows_without_network(
    hub: HubServer, registry: Registry, tmp_path: Path, spec: DatasetSpec
) -> None:
    split = "val" if spec.path else "test"
    first = open_dataset(spec, split, registry.hook)
    files = pull([(spec, split, True)], tmp_path / "copy", registry.hook, say)
    asked = len(hub.asked)
    again = open_dataset(copied(spec, tmp_path / "copy"), split, registry.hook)
    assert (again.fingerprint, [dict(row) for row in again.rows]) == (
        first.fingerprint,
        [dict(row) for row in first.rows],
    )
    assert str(files[0]) in again.origin
    assert len(hub.asked) == asked


def test_what_is_fetched_is_told_before_it_comes(hub: HubServer, registry: Registry, tmp_path: Path) -> None:
    told: list[str] = []
    wanted = [(from_github("law/val.csv"), "test", True)]
    pull(wanted, tmp_path, registry.hook, told.append, lambda stage: told.append(str(stage)))
    assert told[0] == "fetching dataset 'org/set', split 'test'"
    assert "rows, sha256" in told[1]


def test_files_of_one_repository_keep_apart(hub: HubServer, registry: Registry, tmp_path: Path) -> None:
    hub.files["org/set"]["law/other.csv"] = b"id\n1\n"
    specs = [from_github("law/val.csv"), from_github("law/other.csv")]
    pull([(spec, "test", True) for spec in specs], tmp_path, registry.hook, say)
    rows = [open_dataset(copied(spec, tmp_path), "test", registry.hook).rows for spec in specs]
    assert (len(rows[0]), rows[1][0]) == (2, {"id": "1"})


def test_a_second_pull_leaves_what_is_unchanged(hub: HubServer, registry: Registry, tmp_path: Path) -> None:
    (file,) = pull([(from_github("law/val.csv"), "test", True)], tmp_path, registry.hook, say)
    os.utime(file, (1, 1))
    pull([(from_github("law/val.csv"), "test", True)], tmp_path, registry.hook, say)
    assert file.stat().st_mtime == 1
    hub.files["org/set"]["law/val.csv"] = CSV.replace(b"007", b"700")
    pull([(from_github("law/val.csv"), "test", True)], tmp_path, registry.hook, say)
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[0])["id"] == "700"
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_mirror_is_not_pulled_from_itself(hub: HubServer, registry: Registry, tmp_path: Path) -> None:
    pull([(from_modelscope("org/set"), "val", True)], tmp_path, registry.hook, say)
    said: list[str] = []
    pull([(from_modelscope("org/set", mirrors=(str(tmp_path),)), "val", True)], tmp_path, registry.hook, said.append)
    assert "from ModelScope org/set" in said[0]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_fetched(
    hub: HubServer, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--to .*file' is a file; name a folder"):
        pull([(from_modelscope("org/set"), "val", True)], tmp_path / "file" / "copy", registry.hook, say)
    assert hub.asked == []


def test_what_a_pull_that_failed_had_written_is_noted(hub: HubServer, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        pull([(from_modelscope("org/set"), "val", True), (from_modelscope("org/none"), "val", True)], tmp_path,
             registry.hook, say)  # fmt: skip
    assert "- org/set/law/val.jsonl: 2 rows" in (tmp_path / "ORIGIN.md").read_text(encoding="utf-8")


def test_rows_that_the_folder_hides_are_refused(hub: HubServer, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "org" / "set" / "law").mkdir(parents=True)
    (tmp_path / "org" / "set" / "law" / "val.csv").write_text("id\n1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"split 'val' is there more than once \(val.csv, val.jsonl\); keep one"):
        pull([(from_modelscope("org/set"), "val", True)], tmp_path, registry.hook, say)
    assert [file.name for file in (tmp_path / "org").rglob("val.*")] == ["val.csv"]


def test_times_bytes_and_lone_surrogates_read_back(registry: Registry, tmp_path: Path) -> None:
    hard: dict[str, JSON] = {"when": datetime.datetime(2026, 1, 2, 3), "text": "\u2028 \x00 é", "none": None}
    for name, row in (("a/lines", hard), ("a/bytes", hard | {"image": {"bytes": b"\x00\xff", "path": None}})):
        hook = source_of([row], registry)
        (file,) = pull([(DatasetSpec(name), "test", True)], tmp_path, hook, say)
        assert file.suffix == (".parquet" if "image" in row else ".jsonl")


def test_rows_that_would_lose_a_column_are_refused(registry: Registry, tmp_path: Path) -> None:
    hook = source_of([{"image": b"1"}, {"image": b"2", "late": "x"}], registry)
    with pytest.raises(DataError, match="gives other rows than made for a test"):
        pull([(DatasetSpec("a/ragged"), "test", True)], tmp_path, hook, say)


def test_the_users_own_readme_stays(hub: HubServer, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    pull([(from_github("law/val.csv"), "test", True)], tmp_path, registry.hook, say)
    pull([(from_modelscope("org/set"), "val", True)], tmp_path, registry.hook, say)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "mine"
    note = (tmp_path / "ORIGIN.md").read_text(encoding="utf-8")
    assert "from org/set law/val.csv" in note
    assert "from ModelScope org/set at master" in note


def test_what_is_optional_is_left_out_aloud(hub: HubServer, registry: Registry, tmp_path: Path) -> None:
    said: list[str] = []
    wanted = [(from_github("law/absent.csv"), "test", False), (from_github("law/val.csv"), "test", True)]
    assert len(pull(wanted, tmp_path, registry.hook, said.append)) == 1
    assert said[0].startswith("left out: org/set, law/absent.csv: is not on the server (404)")


def test_local_files_are_not_pulled(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"x": 1}\n', encoding="utf-8")
    said: list[str] = []
    assert (
        pull([(DatasetSpec("rows.jsonl", base=str(tmp_path)), "test", True)], tmp_path / "to", None, said.append) == []
    )
    assert "is a local file" in said[0]


def test_a_folder_without_room_is_one_line(
    hub: HubServer, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("harness.files.os.fsync", no_space)
    with pytest.raises(SaveError, match="could not be written: No space left on device"):
        pull([(from_github("law/val.csv"), "test", True)], tmp_path / "to", registry.hook, say)
    assert not [file for file in (tmp_path / "to").rglob("*") if file.is_file()]
