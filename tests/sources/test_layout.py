"""Which files are a split: folders as users, hubs and repositories lay them out. And the door that all rows come by."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import DataError, DatasetSpec, Rows
from harness.data import DataFile, FileOptions, fingerprint, make_rows, open_dataset, read_rows
from harness.registry import Registry

MIRROR = Path(__file__).parents[2].parent / "shared" / "mirror"
real_rows = pytest.mark.skipif(not MIRROR.is_dir(), reason="runs where real rows lie beside the project")


def lay(root: Path, **files: str) -> Path:
    """Write files whose one row says which file it is: `lay(root, a="test.jsonl")` gives the row `{"a": 1}`."""
    for key, name in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({key: 1}) + "\n", encoding="utf-8")
    return root


def keys(registry: Registry, mirror: Path, config: str | None, split: str, **spec: Any) -> list[str]:
    path = spec.pop("path", "org/set")
    asked = DatasetSpec(path, config, mirrors=(str(mirror),), offline=True, **spec)
    return [key for row in open_dataset(asked, split, registry.hook).rows for key in row]


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ("law", {"a": "law/test.jsonl", "b": "art/test.jsonl"}),
        ("law", {"a": "test.jsonl", "b": "dev.jsonl"}),
        (None, {"a": "test.jsonl"}),
        (None, {"a": "main/test.jsonl"}),
        (None, {"a": "default/test.jsonl", "b": "law/test.jsonl"}),
        (None, {"a": "data/test-00000-of-00001.jsonl"}),
        ("law", {"a": "law/test-00000-of-00001.jsonl"}),
    ],
)
def test_a_split_is_found_where_people_put_it(
    registry: Registry, tmp_path: Path, config: str | None, files: dict[str, str]
) -> None:
    lay(tmp_path / "org" / "set", **files)
    assert keys(registry, tmp_path, config, "test") == ["a"]


def test_shards_are_read_in_their_order_and_must_all_be_there(registry: Registry, tmp_path: Path) -> None:
    lay(tmp_path / "org" / "set", b="test-00001-of-00003.jsonl", a="test-00000-of-00003.jsonl")
    with pytest.raises(DataError, match="split 'test' has 2 of its 3 shards"):
        keys(registry, tmp_path, None, "test")
    lay(tmp_path / "org" / "set", c="test-00002-of-00003.jsonl")
    assert keys(registry, tmp_path, None, "test") == ["a", "b", "c"]


def test_a_split_that_is_there_twice_is_refused(registry: Registry, tmp_path: Path) -> None:
    lay(tmp_path / "org" / "set", a="test.jsonl", b="test.json")
    with pytest.raises(DataError, match=r"there more than once \(test.json, test.jsonl\)"):
        keys(registry, tmp_path, None, "test")


def test_dev_stands_for_validation_and_never_for_val(registry: Registry, tmp_path: Path) -> None:
    lay(tmp_path / "org" / "set", a="dev.jsonl")
    assert keys(registry, tmp_path, None, "validation") == ["a"]
    with pytest.raises(DataError, match=r"has no split 'val' \(it has: dev\)"):
        keys(registry, tmp_path, None, "val")
    lay(tmp_path / "org" / "set", b="val.jsonl")
    with pytest.raises(DataError, match=r"has no split 'validation' \(it has: dev, val\)"):
        keys(registry, tmp_path, None, "validation", revision="asked anew")


def test_several_configs_want_a_name(registry: Registry, tmp_path: Path) -> None:
    lay(tmp_path / "org" / "set", a="law/test.jsonl", b="art/test.jsonl")
    with pytest.raises(DataError, match=r"has several configs, say `dataset_name:` \(it has: art, law\)"):
        keys(registry, tmp_path, None, "test")


CARD = """---
license: mit
configs:
- config_name: law
  data_files: [{split: test, path: "files/law-*.jsonl"}]
- config_name: art
  data_files: {test: files/art.jsonl}
---
# A set
"""


def test_the_card_of_a_set_says_which_files_are_a_config(registry: Registry, tmp_path: Path) -> None:
    folder = lay(tmp_path / "org" / "set", a="files/law-1.jsonl", b="files/law-2.jsonl", c="files/art.jsonl")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    assert keys(registry, tmp_path, "law", "test") == ["a", "b"]
    assert keys(registry, tmp_path, "art", "test") == ["c"]
    with pytest.raises(DataError, match=r"has no config 'lwa'; did you mean 'law'\?"):
        keys(registry, tmp_path, "lwa", "test")
    with pytest.raises(DataError, match=r"has no split 'train' \(it has: test\)"):
        keys(registry, tmp_path, "law", "train")


def test_a_card_does_not_lead_out_of_the_set(registry: Registry, tmp_path: Path) -> None:
    folder = lay(tmp_path / "org" / "set", a="test.jsonl")
    (folder / "README.md").write_text(CARD.replace("files/law-*", "../../secret"), encoding="utf-8")
    with pytest.raises(DataError, match="leads out of the folder"):
        keys(registry, tmp_path, "law", "test")


def test_the_names_of_another_hub_find_its_copy(registry: Registry, tmp_path: Path) -> None:
    lay(tmp_path / "scope" / "theirs", a="main/trial.jsonl")
    sources = {"modelscope": {"path": "scope/theirs", "name": "main", "splits": {"test": "trial"}}}
    assert keys(registry, tmp_path, None, "test", sources=sources) == ["a"]


def test_files_of_a_repository_are_read_from_its_copy(registry: Registry, tmp_path: Path) -> None:
    lay(tmp_path / "github" / "me" / "quiz", a="data/1.json", b="data/2.json", c="other.json")
    source = {"repo": "me/quiz", "files": {"test": "data/*.json", "dev": ["other.json", "data/2.json"]}}
    assert keys(registry, tmp_path, None, "test", path=None, sources={"github": source}) == ["a", "b"]
    assert keys(registry, tmp_path, None, "dev", path=None, sources={"github": source}) == ["c", "b"]
    with pytest.raises(DataError, match=r"sources: github: has no split 'tset'; did you mean 'test'\?"):
        keys(registry, tmp_path, None, "tset", path=None, sources={"github": source})
    source["files"]["test"] = ["data/1.json", "data/gold.json"]
    with pytest.raises(DataError, match=r"has no data/gold\.json, which split 'test' needs beside 1\.json"):
        keys(registry, tmp_path, None, "test", path=None, sources={"github": source})


def test_rows_that_people_were_given_lie_as_they_were_given(registry: Registry, tmp_path: Path) -> None:
    sources = {"local": {"path": "Given", "files": {"validation": "QIC/QIC_dev.json"}}}
    lay(tmp_path, a="Given/QIC/QIC_dev.json", b="Given/validation.jsonl")
    assert keys(registry, tmp_path, None, "validation", path=None, sources=sources) == ["a"]
    sources["local"]["files"] = {"validation": "QTR/QTR_dev.json"}
    with pytest.raises(DataError, match=r"no source has it; give --data DIR .* with DIR/Given/QTR/QTR_dev\.json$"):
        keys(registry, tmp_path, None, "validation", path=None, sources=sources)


@pytest.mark.parametrize("name", ["../secret.jsonl", "/etc/passwd", "a/../../secret.jsonl"])
def test_a_repository_is_not_left(registry: Registry, tmp_path: Path, name: str) -> None:
    lay(tmp_path / "github" / "me", x="secret.jsonl", y="quiz/test.jsonl")
    source = {"repo": "me/quiz", "files": {"test": name}}
    with pytest.raises(DataError, match="leads out of the folder"):
        keys(registry, tmp_path, None, "test", path=None, sources={"github": source})


def test_links_out_of_a_mirror_and_in_circles_are_refused(registry: Registry, tmp_path: Path) -> None:
    secret = lay(tmp_path / "secret", x="test.jsonl")
    mirror = lay(tmp_path / "mirror", y="org/other/test.jsonl")
    (mirror / "org" / "set").mkdir()
    (mirror / "org" / "set" / "test.jsonl").symlink_to(secret / "test.jsonl")
    (mirror / "org" / "circle").symlink_to(mirror / "org" / "circle")
    with pytest.raises(DataError, match="leads out of the folder"):
        keys(registry, mirror, None, "test")
    with pytest.raises(DataError, match="cannot be followed"):
        keys(registry, mirror, None, "test", path="org/circle")


def test_mirrors_are_asked_in_their_order(registry: Registry, tmp_path: Path) -> None:
    lay(tmp_path / "one", a="org/set/dev.jsonl")
    lay(tmp_path / "two", b="org/set/dev.jsonl", c="org/set/test.jsonl")
    spec = DatasetSpec("org/set", mirrors=(str(tmp_path / "one"), str(tmp_path / "two")))
    found = [[*row] for split in ("dev", "test") for row in open_dataset(spec, split, registry.hook).rows]
    assert found == [["a"], ["c"]]


def test_files_that_a_task_names_lie_beside_it(registry: Registry, tmp_path: Path) -> None:
    lay(tmp_path, a="rows/1.jsonl", b="rows/2.jsonl")
    kwargs = {"data_files": {"test": "rows/*.jsonl", "dev": str(tmp_path / "rows" / "2.jsonl")}}
    spec = DatasetSpec("json", kwargs=kwargs, base=str(tmp_path))
    found = {
        split: [key for row in open_dataset(spec, split, registry.hook).rows for key in row]
        for split in kwargs["data_files"]
    }
    assert found == {"test": ["a", "b"], "dev": ["b"]}
    with pytest.raises(DataError, match=r"data_files: there is no file no.jsonl \(looked in "):
        open_dataset(DatasetSpec("json", kwargs={"data_files": "no.jsonl"}, base=str(tmp_path)), "train", registry.hook)


def test_a_file_that_is_one_split_is_not_another(registry: Registry, tmp_path: Path) -> None:
    lay(tmp_path, a="dev.jsonl")
    with pytest.raises(DataError, match="is the split 'dev', and 'test' is asked for"):
        open_dataset(DatasetSpec("dev.jsonl", base=str(tmp_path)), "test", registry.hook)


def test_a_folder_that_datasets_saved_is_read_without_it(registry: Registry, tmp_path: Path) -> None:
    import pyarrow as pa

    rows = [{"q": "问", "score": 0.5}, {"q": "题", "score": float("nan")}]
    folder = tmp_path / "saved" / "test"
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "test"}')
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    found = open_dataset(DatasetSpec(str(tmp_path / "saved")), "test", registry.hook).rows
    assert [dict(row) for row in found] == [rows[0], {"q": "题", "score": None}]
    with pytest.raises(DataError, match=r"has no split 'train' \(it has: test\)"):
        open_dataset(DatasetSpec(str(tmp_path / "saved")), "train", registry.hook)


class Hook(SimpleNamespace):
    """Hashable, as pluggy's is."""

    __hash__ = object.__hash__


def test_a_split_is_loaded_once_however_many_ask() -> None:
    loads: list[str] = []
    begin = threading.Barrier(4)

    def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows:
        loads.append(split)
        return make_rows([{"split": split}], "made for a test")

    hook = Hook(harness_open_dataset=harness_open_dataset)

    def ask() -> None:
        begin.wait()
        open_dataset(DatasetSpec("org/set"), "test", hook)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    open_dataset(DatasetSpec("org/set"), "dev", hook)
    assert loads == ["test", "dev"]


def test_a_split_without_rows_is_an_error() -> None:
    hook = Hook(harness_open_dataset=lambda spec, split: make_rows([], "nowhere"))
    with pytest.raises(DataError, match=r"dataset 'org/set' \(law\), split 'test': is empty \(nowhere\)"):
        open_dataset(DatasetSpec("org/set", "law"), "test", hook)


def test_a_fingerprint_is_of_the_values_and_their_order() -> None:
    one = fingerprint([{"a": 1, "b": "x"}, {"a": 2, "b": b"y"}])
    assert fingerprint([{"b": "x", "a": 1}, {"b": b"y", "a": 2}]) == one
    others = [
        [{"a": 2, "b": b"y"}, {"a": 1, "b": "x"}],
        [{"a": "1", "b": "x"}, {"a": 2, "b": b"y"}],
        [{"a": 1, "b": "x"}, {"a": 2, "b": b"z"}],
        [{"a": 1, "b": "x"}],
    ]
    assert len({one, *map(fingerprint, others)}) == 5


CELLS = st.text(st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"id": CELLS, "问": CELLS}), min_size=1, max_size=5))
def test_any_strings_are_the_same_rows_from_csv_and_json_lines(rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", "问"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    found = [read_text("a.csv", text.getvalue()), read_text("a.jsonl", lines)]
    assert found == [rows, rows]


def read_text(name: str, text: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(text.encode())
        return list(read_rows(DataFile(path), FileOptions()))


@real_rows
def test_every_subject_is_read_without_a_heavy_library() -> None:
    code = f"""
import sys
from harness import DatasetSpec
from harness.registry import load_plugins
from harness.data import open_dataset
hook, root = load_plugins().hook, __import__("pathlib").Path({str(MIRROR)!r})
for path, splits in (("ceval/ceval-exam", ("dev", "val")), ("haonan-li/cmmlu", ("dev", "test"))):
    specs = [DatasetSpec(path, folder.name, mirrors=(str(root),)) for folder in (root / path).iterdir()]
    print(len(specs), [sum(len(open_dataset(spec, split, hook).rows) for spec in specs) for split in splits])
print([name for name in ("datasets", "torch", "pyarrow", "pandas", "requests") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["52 [260, 1346]", "67 [335, 11582]", "[]"]


@real_rows
def test_gaokao_bench_has_all_its_objective_questions(registry: Registry) -> None:
    files = {"test": "Data/Objective_Questions/*.json"}
    sources = {"github": {"repo": "OpenLMLab/GAOKAO-Bench", "files": files, "field": "example"}}
    rows = open_dataset(DatasetSpec(None, sources=sources, mirrors=(str(MIRROR),)), "test", registry.hook).rows
    assert (len(rows), {"question", "answer", "score"} - set(rows[0])) == (1781, set())


@real_rows
def test_logiqa_is_read_by_its_lines(registry: Registry) -> None:
    block = ["", "label", "context", "question", "A", "B", "C", "D"]
    source = {"repo": "lgw863/LogiQA-dataset", "files": {"test": "zh_test.txt"}, "block": block}
    rows = open_dataset(
        DatasetSpec(None, sources={"github": source}, mirrors=(str(MIRROR),)), "test", registry.hook
    ).rows
    assert (len(rows), {row["label"] for row in rows}) == (651, {"a", "b", "c", "d"})
    assert all(row["A"].startswith("A") and row["D"].startswith("D") for row in rows)
