"""Local files and mirror folders: every format, and every way in which a file can be wrong."""

from __future__ import annotations

import gzip
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import DataError, DatasetSpec
from harness.data.mirror import pull
from harness.data.open import open_dataset
from harness.registry import Registry

MIRROR = Path(__file__).parents[2].parent / "shared" / "mirror"
ROWS = [{"id": "007", "q": "问题😀\r\n第二行"}, {"id": "NA", "q": ""}]


def rows_of(registry: Registry, path: Path, split: str = "test", **kwargs: Any) -> list[dict[str, Any]]:
    spec = DatasetSpec(str(path), kwargs=kwargs, base=str(path.parent))
    return [dict(row) for row in open_dataset(spec, split, registry.hook).rows]


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CSV = 'id,q\r\n007,"问题😀\r\n第二行"\r\nNA,\r\n'


@pytest.mark.parametrize(
    ("name", "data", "kwargs"),
    [
        ("a.jsonl", LINES, {}),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0), {}),
        ("a.json", json.dumps(ROWS), {}),
        ("b.json", json.dumps({"keywords": "x", "example": ROWS}), {"field": "example"}),
        ("c.json", "".join(json.dumps(row, indent=1) for row in ROWS), {}),
        ("a.csv", CSV, {}),
        ("b.csv", "\ufeff" + CSV, {}),
        ("c.csv", CSV.encode("gb18030"), {"encoding": "gb18030"}),
        ("a.tsv", CSV.replace(",", "\t"), {"quotechar": '"'}),
        ("excel.csv", "sep=;\r\n" + CSV.replace(",", ";"), {}),
    ],
)
def test_the_same_rows_come_from_every_format(
    registry: Registry, tmp_path: Path, name: str, data: str | bytes, kwargs: dict[str, Any]
) -> None:
    assert rows_of(registry, write(tmp_path / name, data), **kwargs) == ROWS


ODD_CSV = """\
n,big,float,with_gap,flag,mixed,code,null,text,date
1,9223372036854775807,0.50,3,True,1,007,,"a, ""b""\nc",2024-01-01
2,3,1e3,,False,x,012,NA,"",2024-01-02
-3,4, 7,5,True,2.5,000,null,n/a,2024-01-03
"""


def test_csv_is_read_with_the_types_that_datasets_infers_where_a_task_asks_for_them(
    registry: Registry, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    path = write(tmp_path / "odd.csv", ODD_CSV)
    theirs = datasets.load_dataset("csv", data_files=str(path), cache_dir=str(tmp_path / "cache"))["train"]
    plain = rows_of(registry, path)
    assert {type(value) for row in plain for value in row.values()} == {str}
    assert rows_of(registry, path, types="inferred") == theirs.to_list()
    spec = DatasetSpec("csv", kwargs={"data_files": {"test": "odd.csv"}}, base=str(tmp_path))
    assert list(open_dataset(spec, "test", registry.hook).rows) == theirs.to_list()
    spec = replace(spec, kwargs={**spec.kwargs, "types": "text"})
    assert list(open_dataset(spec, "test", registry.hook).rows) == plain
    tsv = write(tmp_path / "odd.tsv", 'n\tq\n1\t"x\n\tNA\n')
    assert rows_of(registry, tsv, types="inferred") == [{"n": 1.0, "q": '"x'}, {"n": None, "q": None}]
    with pytest.raises(DataError, match="is empty"):
        rows_of(registry, write(tmp_path / "empty.csv", "n,q\n"), types="inferred")
    with pytest.raises(DataError, match=r"unknown types 'infered'; did you mean 'inferred'\?"):
        rows_of(registry, path, types="infered")


def test_a_zip_of_one_file_is_that_file(registry: Registry, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("inner/rows.jsonl", LINES)
    assert rows_of(registry, tmp_path / "rows.zip") == ROWS


def test_the_names_in_a_zip_are_those_that_its_writer_meant(registry: Registry, tmp_path: Path) -> None:
    for encoding in ("gb18030", "utf-8", "cp437"):
        path = tmp_path / f"{encoding}.zip"
        name = "café.jsonl" if encoding == "cp437" else "试题.jsonl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("-" * len(name.encode(encoding)), LINES)
        # An archiver of Windows writes names in its own encoding, without the flag that says UTF-8.
        path.write_bytes(path.read_bytes().replace(b"-" * len(name.encode(encoding)), name.encode(encoding)))
        assert rows_of(registry, tmp_path, data_files={"test": f"zip://{name}::{path.name}"}) == ROWS


def test_an_object_that_holds_columns_or_keyed_rows_is_no_row(registry: Registry, tmp_path: Path) -> None:
    columns = "which holds columns and no rows; write it row by row"
    for value, said in (
        ({"q": ["a", "b"], "gold": ["A", "B"]}, columns),
        ({"q": {"0": "a", "1": "b"}, "gold": {"0": "A", "1": "B"}}, columns),
        ({"7": {"q": "a", "gold": "A"}, "9": {"q": "b", "gold": "B"}}, "say `keyed_by: id`"),
    ):
        with pytest.raises(DataError, match=said):
            rows_of(registry, write(tmp_path / "a.json", json.dumps(value)))
    one = {"q": "a", "choices": ["x", "y"], "labels": ["A", "B"]}
    assert rows_of(registry, write(tmp_path / "a.json", json.dumps(one))) == [one]


def test_texts_that_are_no_utf8_and_archives_of_another_kind_are_one_line(registry: Registry, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    spoilt = pa.array([b"\xa0 spoilt"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"q": spoilt}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a column of text holds bytes that are no UTF-8: .*spoilt"):
        rows_of(registry, tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("rows.jsonl", LINES)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 99  # the version that is needed to unpack it
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip: cannot be read as a zip: zip file version 9.9"):
        rows_of(registry, tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"a\.csv: is not punycode"):
        rows_of(registry, write(tmp_path / "a.csv", "a,b\n-1,2\n"), encoding="punycode")
    with pytest.raises(DataError, match=r"a\.csv:2: .* expected after") as told:
        rows_of(registry, write(tmp_path / "a.csv", 'a\n"b"c\n'), delimiter="\n")
    assert "\n" not in str(told.value)


def test_two_columns_of_one_name_are_refused(registry: Registry, tmp_path: Path, monkeypatch: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(["a"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["q", "q"]), tmp_path / "a.parquet")
    for small in (1 << 20, 0):
        monkeypatch.setattr("harness.data.arrow.SMALL", small)
        with pytest.raises(DataError, match=r"a\.parquet: two columns are called 'q'; rename one of them"):
            rows_of(registry, tmp_path / "a.parquet")


def test_arrays_get_names_and_lists_become_rows(registry: Registry, tmp_path: Path) -> None:
    triples = [
        [["句一。", "句二。"], [{"question": "问一", "answer": "甲"}, {"question": "问二", "answer": "乙"}], "7"]
    ]
    file = write(tmp_path / "a.json", json.dumps(triples))
    names = ["context", "asked", "id"]
    assert rows_of(registry, file, column_names=names, explode="asked") == [
        {"context": ["句一。", "句二。"], "id": "7", "question": "问一", "answer": "甲"},
        {"context": ["句一。", "句二。"], "id": "7", "question": "问二", "answer": "乙"},
    ]
    parallel = write(tmp_path / "b.json", json.dumps({"data": [{"id": 1, "q": ["a", "b"], "gold": ["A", "D"]}]}))
    assert rows_of(registry, parallel, field="data", explode=["q", "gold"]) == [
        {"id": 1, "q": "a", "gold": "A"},
        {"id": 1, "q": "b", "gold": "D"},
    ]
    with pytest.raises(DataError, match="row 1 has 3 items, but there are 2 columns"):
        rows_of(registry, file, column_names=names[:2])
    with pytest.raises(DataError, match=r"row 1: 'explode: golds' is not there; did you mean 'gold'"):
        rows_of(registry, parallel, field="data", explode="golds")
    uneven = write(tmp_path / "c.jsonl", json.dumps({"q": ["a", "b"], "gold": ["A"]}))
    with pytest.raises(DataError, match=r"differ in length \(q 2, gold 1\)"):
        rows_of(registry, uneven, explode=["q", "gold"])


def test_objects_by_key_and_texts_side_by_side_become_rows(registry: Registry, tmp_path: Path) -> None:
    keyed = write(tmp_path / "a.json", json.dumps({"h1": {"sentence": "一"}, "h2": {"sentence": "二"}}))
    assert rows_of(registry, keyed, keyed_by="id") == [{"id": "h1", "sentence": "一"}, {"id": "h2", "sentence": "二"}]
    with pytest.raises(DataError, match="'sentence' is not an object but a string"):
        rows_of(registry, write(tmp_path / "b.json", json.dumps({"sentence": "一"})), keyed_by="id")
    write(tmp_path / "t.zh.txt", "你好\r\n再见\r\n")
    write(tmp_path / "t.en.txt", "Hello\nBye\n")
    files = {"data_files": {"test": ["t.zh.txt", "t.en.txt"]}}
    assert rows_of(registry, tmp_path, side_by_side=["zh", "en"], **files) == [
        {"zh": "你好", "en": "Hello"},
        {"zh": "再见", "en": "Bye"},
    ]
    write(tmp_path / "short.en.txt", "Hello\n")
    files = {"data_files": {"test": ["t.zh.txt", "short.en.txt"]}}
    with pytest.raises(DataError, match=r"differ in their number of lines \(.*zh.txt 2, .*en.txt 1\)"):
        rows_of(registry, tmp_path, side_by_side=["zh", "en"], **files)
    with pytest.raises(DataError, match="1 columns"):
        rows_of(registry, tmp_path, side_by_side=["zh"], **files)


def test_a_broken_line_is_an_error_or_a_row_of_its_own(registry: Registry, tmp_path: Path) -> None:
    file = write(tmp_path / "test.jsonl", '{"a": 1}\n{"a": "x"y"}\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"test\.jsonl:2: is not valid JSON"):
        rows_of(registry, file)
    assert rows_of(registry, file, broken="line") == [{"a": 1}, {"line": '{"a": "x"y"}'}, {"a": 2}]


def test_answers_that_are_kept_apart_are_joined(registry: Registry, tmp_path: Path) -> None:
    write(tmp_path / "asked.json", json.dumps([{"id": 2, "q": "a"}, {"id": 5, "q": "b"}]))
    write(tmp_path / "gold.json", json.dumps({"2": {"answer": 1}, "5": {"answer": 0}, "7": {"answer": 1}}))
    write(tmp_path / "rows.json", json.dumps([{"id": 5, "answer": 0}]))
    both = {"data_files": {"test": ["asked.json", "gold.json"]}}
    assert rows_of(registry, tmp_path, join_by="id", **both) == [
        {"id": 2, "q": "a", "answer": 1},
        {"id": 5, "q": "b", "answer": 0},
    ]
    with pytest.raises(DataError, match=r"rows\.json: has nothing for id 2 \(1 rows of .*asked\.json\)"):
        rows_of(registry, tmp_path, join_by="id", data_files={"test": ["asked.json", "rows.json"]})


def test_what_is_joined_may_call_its_key_otherwise(registry: Registry, tmp_path: Path) -> None:
    write(tmp_path / "asked.jsonl", '{"idx": "1", "rule_id": "7"}\n{"idx": "2", "rule_id": "7"}\n')
    write(tmp_path / "rules.jsonl", '{"idx": "7", "rule": "a"}\n{"idx": "1", "rule": "b"}\n')
    files = {"data_files": {"test": ["asked.jsonl", "rules.jsonl"]}}
    assert rows_of(registry, tmp_path, join_by="rule_id=idx", **files) == [
        {"idx": "1", "rule": "a", "rule_id": "7"},
        {"idx": "2", "rule": "a", "rule_id": "7"},
    ]


def test_a_row_may_know_the_earlier_ones_of_its_key(registry: Registry, tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", json.dumps([{"id": 1, "q": "a"}, {"id": 2, "q": "b"}, {"id": 1, "q": "c"}]))
    rows = rows_of(registry, file, history="q", history_by="id")
    assert [row["history"] for row in rows] == [[], [], ["a"]]
    with pytest.raises(DataError, match=r"history: row 1 has no column 'idx'"):
        rows_of(registry, file, history="q", history_by="idx")


def test_tagged_sentences_and_lines_after_a_head_become_rows(registry: Registry, tmp_path: Path) -> None:
    tagged = write(tmp_path / "test.char.bmes", "高 B-NAME\n勇 E-NAME\n\n\n男 O\n")
    assert rows_of(registry, tagged, format="conll") == [
        {"tokens": ["高", "勇"], "tags": ["B-NAME", "E-NAME"]},
        {"tokens": ["男"], "tags": ["O"]},
    ]
    with pytest.raises(DataError, match=r"bad\.bmes:2: has no token and tag"):
        rows_of(registry, write(tmp_path / "bad.bmes", "高 B-NAME\n勇\n"), format="conll")
    pairs = write(tmp_path / "pairs.txt", "head\n好\n坏\n")
    assert rows_of(registry, pairs, skip_lines=1, block=["good", "bad"]) == [{"good": "好", "bad": "坏"}]


def test_records_of_a_text_begin_where_a_line_says_so(registry: Registry, tmp_path: Path) -> None:
    passages = write(tmp_path / "a.txt", "1 | 甲\n2 | 乙\n<q> | 谁\n1 | 丙\n<q> | 何\n")
    records = [{"text": "1 | 甲\n2 | 乙\n<q> | 谁"}, {"text": "1 | 丙\n<q> | 何"}]
    assert rows_of(registry, passages, record_start=r"1 \|") == records
    # A text beside it may have a line a record.
    write(tmp_path / "b.txt", "A\nB\n")
    spec = DatasetSpec(
        "json",
        kwargs={
            "data_files": {"test": [str(passages), str(tmp_path / "b.txt")]},
            "side_by_side": ["text", "answer"],
            "record_start": r"1 \|",
        },
        base=str(tmp_path),
    )
    found = [dict(row) for row in open_dataset(spec, "test", registry.hook).rows]
    assert found == [{**records[0], "answer": "A"}, {**records[1], "answer": "B"}]
    with pytest.raises(DataError, match="'record_start' must be a pattern"):
        rows_of(registry, passages, record_start="(")


def test_squad_becomes_one_row_a_question(registry: Registry, tmp_path: Path) -> None:
    question = {"id": "q1", "question": "谁？", "answers": [{"text": "我", "answer_start": 0}]}
    squad = {"data": [{"title": "t", "paragraphs": [{"id": "p1", "context": "我们", "qas": [question]}]}]}
    (row,) = rows_of(registry, write(tmp_path / "x.squad.json", json.dumps(squad)))
    assert (row["id"], row["question"], row["context"]) == ("q1", "谁？", "我们")
    assert row["answers"] == {"text": ["我"], "answer_start": [0]}


def test_what_is_not_a_number_is_null(registry: Registry, tmp_path: Path) -> None:
    assert rows_of(registry, write(tmp_path / "a.jsonl", '{"x": NaN, "y": 1}\n')) == [{"x": None, "y": 1}]


@pytest.mark.parametrize(
    ("name", "data", "where"),
    [
        ("a.jsonl", '{"x": 1}\n{"x": 2\n', "a.jsonl:2"),
        ("a.jsonl", '{"x": 1}\n[1, 2]\n', "a.jsonl: row 2"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "a.csv:3"),
        ("a.jsonl", b'{"x": "\xff"}\n', "a.jsonl"),
        ("a.parquet", b"PAR1 but not really", "a.parquet"),
        ("a.csv", 'a,b\n1,2\n"1,2\n3,4\n', "a.csv:3: a quote that opens in this row is never closed"),
        ("a.csv", 'a,b\n"1\n2",3\n"x "y"",2\n', r'a.csv:4: .* a quote within a quoted cell is written twice \(""\)'),
        ("a.csv", 'a;b\n1;"2"\n"1";2\n', "a.csv:3: .* is it separated by ';'"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16-le"), "a.csv:1: .* say `encoding: utf-16-le`"),
        ("a.csv", "a,b\n1,2\n".encode("utf-32"), "a.csv:1: .* say `encoding: utf-32`"),
        ("a.csv", "a,b\n台灣的首都是哪裡,2\n".encode("big5"), "a.csv:2: .* say `encoding: big5`"),
        ("a.csv", "a,b\n日本の首都はどこですか,2\n".encode("shift_jis"), "a.csv:2: .* say `encoding: shift_jis`"),
        (
            "a.csv",
            "a,b\nÀ quelle année ?,2\n".encode("cp1252"),
            "a.csv:2: .* save it as UTF-8, or say its `encoding:`, such as cp1252",
        ),
        ("a.jsonl", '{"x": 1}\n{"y": {"x": 1, "z": 2, "x": 3}}', "a.jsonl:2: .* the key 'x' is given twice"),
        ("a.jsonl", '{"x": ' + "9" * 5000 + "}", "a.jsonl:1: .* a number has more than 4,300 digits"),
        ("a.jsonl", " <!DOCTYPE html><title>404</title>", "a.jsonl: is a web page and holds no rows"),
        ("a.csv", "<html>\n<title>404</title>", "a.csv: is a web page and holds no rows"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd", "a.jsonl.zst: is packed as .zst, which is not read; unpack it"),
        ("a.tar.gz", b"\x1f\x8b", "a.tar.gz: is packed as .tar.gz, which is not read"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    registry: Registry, tmp_path: Path, name: str, data: str | bytes, where: str
) -> None:
    with pytest.raises(DataError, match=where) as refused:
        rows_of(registry, write(tmp_path / name, data))
    assert "\n" not in str(refused.value)


def test_an_absent_file_is_one_line(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.jsonl: there is no such file"):
        rows_of(registry, tmp_path / "absent.jsonl")


def mirror_of(folder: Path) -> Path:
    for split in ("dev", "test"):
        place = folder / "org" / "set" / "law"
        place.mkdir(parents=True, exist_ok=True)
        write(place / f"{split}.jsonl", LINES)
    return folder


def in_mirror(folder: Path, config: str | None = "law", path: str = "org/set") -> DatasetSpec:
    return DatasetSpec(path, config, mirrors=(str(folder),), offline=True)


def test_a_mirror_is_asked_before_any_hub(registry: Registry, tmp_path: Path) -> None:
    rows = open_dataset(in_mirror(mirror_of(tmp_path)), "test", registry.hook)
    assert [dict(row) for row in rows.rows] == ROWS
    assert str(tmp_path) in rows.origin


@pytest.mark.parametrize(
    ("config", "split", "message"),
    [("law", "tset", r"has no split 'tset'; did you mean 'test'\?"), ("lwa", "test", r"did you mean 'law'\?")],
)
def test_what_a_mirror_lacks_is_named_with_what_it_has(
    registry: Registry, tmp_path: Path, config: str, split: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(in_mirror(mirror_of(tmp_path), config), split, registry.hook)


def test_a_mirror_that_is_no_folder_is_named(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a folder \(--data or HARNESS_DATA"):
        open_dataset(in_mirror(tmp_path / "absent"), "test", registry.hook)


def test_nothing_outside_a_mirror_is_read(registry: Registry, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    mirror_of(secret)
    mirror = tmp_path / "mirror"
    (mirror / "org").mkdir(parents=True)
    (mirror / "org" / "set").symlink_to(secret / "org" / "set")
    with pytest.raises(DataError, match="leads out of the folder"):
        open_dataset(in_mirror(mirror), "test", registry.hook)


def test_what_is_pulled_reads_back_as_the_same_rows(registry: Registry, tmp_path: Path) -> None:
    source = in_mirror(mirror_of(tmp_path / "source"))
    said: list[str] = []
    (file,) = pull([(source, "test", True)], tmp_path / "copy", registry.hook, said.append)
    first = open_dataset(source, "test", registry.hook)
    copy = open_dataset(in_mirror(tmp_path / "copy"), "test", registry.hook)
    assert copy.fingerprint == first.fingerprint
    assert file == tmp_path / "copy" / "org" / "set" / "law" / "test.jsonl"
    assert first.fingerprint in said[0]
    assert said[0] in (tmp_path / "copy" / "ORIGIN.md").read_text(encoding="utf-8")


def test_bytes_are_pulled_as_parquet_and_read_back(registry: Registry, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = tmp_path / "source" / "org" / "pictures"
    place.mkdir(parents=True)
    pq.write_table(
        pa.table({"id": [1, 2], "image": [{"bytes": b"\x89PNG\x00"}, {"bytes": b"\xff"}]}), place / "test.parquet"
    )
    source = in_mirror(tmp_path / "source", None, "org/pictures")
    (file,) = pull([(source, "test", True)], tmp_path / "copy", registry.hook, lambda _: None)
    assert file.suffix == ".parquet"
    copy = open_dataset(in_mirror(tmp_path / "copy", None, "org/pictures"), "test", registry.hook)
    assert copy.rows[0]["image"]["bytes"] == b"\x89PNG\x00"
    assert copy.fingerprint == open_dataset(source, "test", registry.hook).fingerprint


@pytest.mark.skipif(not MIRROR.is_dir(), reason="runs where real rows lie beside the project")
@pytest.mark.parametrize(
    ("path", "split", "subsets", "rows"),
    [
        ("ceval/ceval-exam", "val", 52, 1346),
        ("ceval/ceval-exam", "dev", 52, 260),
        ("haonan-li/cmmlu", "test", 67, 11582),
    ],
)
def test_real_sets_have_all_their_rows(registry: Registry, path: str, split: str, subsets: int, rows: int) -> None:
    names = sorted(folder.name for folder in (MIRROR / path).iterdir() if folder.is_dir())
    counts = [len(open_dataset(in_mirror(MIRROR, name, path), split, registry.hook).rows) for name in names]
    assert (len(names), sum(counts)) == (subsets, rows)


@pytest.mark.skipif(not MIRROR.is_dir(), reason="runs where real rows lie beside the project")
def test_cmrc_has_all_its_questions(registry: Registry) -> None:
    assert len(open_dataset(in_mirror(MIRROR, None, "hfl/cmrc2018"), "dev", registry.hook).rows) == 3219
