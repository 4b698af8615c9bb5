from __future__ import annotations

import errno
import gzip
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness import Prompt, Request, Sample
from harness.data.data_file import DataFile
from harness.data.file_options import FileOptions
from harness.data.formats import read_rows
from harness.errors import DataError, SaveError
from harness.record.run import RunFolder
from harness.record.sample_keys import SampleKeys
from harness.spool import Spool
from harness.testing import run_harness
from harness.types import SampleKey

ROWS = '{"question": "问题 %d", "choices": ["a", "b", "长江", "😀"], "answer": 2}\n'
TASK = """\
task: many
dataset_path: rows.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}]
"""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four values are many, and files are read line by line."""
    monkeypatch.setattr("harness.spool.FEW", 4)
    monkeypatch.setattr("harness.spool.BLOCK", 3)
    monkeypatch.setattr("harness.data.formats.LARGE_TEXT", 0)
    monkeypatch.setattr("harness.run.runner.PART_OF_NO_MODEL", 3)
    monkeypatch.setattr("harness.record.journal.FEW", 4)


@pytest.mark.parametrize("count", [0, 3, 4, 5, 11])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_values_come_back_in_their_order_and_by_their_places(few: None, count: int, block: int) -> None:
    spool = Spool((str(number) for number in range(count)), block=block)
    wanted = [str(number) for number in range(count)]
    assert (len(spool), [*spool], [*spool], [spool[at] for at in range(count)]) == (count, wanted, wanted, wanted)
    assert spool[1:7:2] == wanted[1:7:2]
    assert [spool[at - count] for at in range(count)] == wanted
    with pytest.raises(IndexError):
        spool[count]


def test_what_was_one_object_in_a_block_stays_one(few: None) -> None:
    prompt = Prompt(prefix="examples")
    samples = [
        Sample("t", "", n, {"n": float("inf")}, (Request("generate", prompt, repeat=n),), None) for n in range(6)
    ]
    back = [*Spool(samples, block=2)]
    assert back == samples
    assert back[0].requests[0].prompt is back[1].requests[0].prompt


def test_a_full_disk_is_one_line_that_says_what_to_do(few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def close(self) -> None:
            pass

        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(SaveError, match=r"No space left on device; free some space, or name another folder in TMPDIR"):
        Spool(range(9), block=2)


def test_keys_are_a_set_whatever_their_numbers() -> None:
    keys = [SampleKey("t", "a", n, view) for view in (0, 1) for n in (0, 7, 8, 600, 1 << 40)]
    held = SampleKeys([*keys, *keys])
    assert (len(held), {*held}) == (10, {*keys})
    assert all(key in held for key in keys)
    assert not any(key._replace(id=key.id + 1, subset="b") in held for key in keys)
    assert SampleKey("t", "a", 9) not in held
    for key in (*keys[::2], keys[0], SampleKey("t", "c", 3)):
        held.discard(key)
    assert (len(held), {*held}) == (5, {*keys[1::2]})


@pytest.mark.parametrize("model", ["dummy,mode=gold", "dummy,seed=3"])
def test_a_run_of_many_samples_leaves_the_files_of_a_run_of_few(
    tmp_path: Path, model: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many.yaml").write_text(TASK, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text("".join(ROWS % n for n in range(20)), encoding="utf-8")
    name, _, args = model.partition(",")

    def lines(output: str) -> tuple[int, str, bytes]:
        done = run_harness("--tasks", "many.yaml", "--model", name, "--model_args", args, "--output", output)
        (file,) = (tmp_path / output).glob("*/many.jsonl")
        return done.exit_code, done.stdout.splitlines()[1], file.read_bytes()

    in_memory = lines("few")
    request.getfixturevalue("few")
    assert lines("many") == in_memory
    assert lines("many") == in_memory  # all is found
    (file,) = (tmp_path / "many").glob("*/many.jsonl")
    kept = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*kept[:5], *kept[9:], kept[6][:40]]))  # as after a kill
    assert lines("many") == in_memory
    (run,) = (tmp_path / "many").iterdir()
    with file.open("ab") as handle:
        handle.write(kept[3] + kept[0])  # the last line of a sample wins
    assert [record.id for record in RunFolder.read(run).records()] == [1, 2, *range(4, 20), 3, 0]
    file.write_bytes(b"".join(kept))
    again = run_harness("--tasks", "many.yaml", "--model", "replay", "--model_args", f"path={run}", "--output", "again")
    assert (again.exit_code, again.stdout.splitlines()[1]) == in_memory[:2]


CSV = '\ufeffquestion,note\r\n1?,"two\nlines"\r\n\r\n中文?,"a ""b"", c"\r\n3?,\r\n4?,d\r\n5?,e\r\n'
LINES = '\ufeff{"n": 1}\n\n{"n": "中文", "x": [1.5, null]}\r\n{"n": 3}\n{"n": 4}\n{"n": NaN}'


@pytest.mark.parametrize(
    "name", ["rows.csv", "rows.csv.gz", "rows.jsonl", "rows.jsonl.gz", "rows.csv.zip", "rows.ndjson"]
)
def test_a_large_file_packed_or_not_has_the_rows_of_a_small_one(
    tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    data = (CSV if ".csv" in name else LINES).encode()
    path = tmp_path / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inside.csv", data)
    else:
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    small = read_rows(DataFile(path), FileOptions())
    request.getfixturevalue("few")
    large = read_rows(DataFile(path), FileOptions())
    assert (type(small), type(large)) == (list, Spool)
    assert [*large] == small and len(small) == 5


def test_a_large_table_that_is_torn_is_told_as_a_small_one(few: None, tmp_path: Path) -> None:
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n3\n"))
    with pytest.raises(DataError, match=r"rows\.csv\.gz:3: has 1 cells, but there are 2 columns"):
        read_rows(DataFile(tmp_path / "rows.csv.gz"), FileOptions())
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(CSV.encode())[:-20])
    with pytest.raises(DataError, match=r"torn\.csv\.gz: cannot be read"):
        read_rows(DataFile(tmp_path / "torn.csv.gz"), FileOptions())


def test_lines_that_are_no_objects_are_told_as_of_a_small_file(few: None, tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text(TASK, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(ROWS % 1 + '{"torn": \n', encoding="utf-8")
    done = run_harness("--tasks", tmp_path / "many.yaml", "--model", "dummy", "--output", tmp_path / "out")
    assert done.exit_code == 4
    assert "rows.jsonl:2: is not valid JSON" in done.stderr


@pytest.mark.parametrize("compression", ["snappy", "none"])
def test_rows_of_parquet_are_those_of_json_lines(few: None, tmp_path: Path, compression: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from harness.data.arrow import ParquetRows
    from harness.data.data_file import DataFile
    from harness.data.formats import read_all

    rows = [{"n": n, "x": float("nan") if n == 3 else n / 2, "l": ["长", str(n)]} for n in range(9)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", compression=compression, row_group_size=4)
    read = read_all([DataFile(tmp_path / "rows.parquet")], FileOptions())
    assert isinstance(read, ParquetRows)
    assert [*read] == [{**row, "x": None if row["n"] == 3 else row["x"]} for row in rows]
    assert read[8] == rows[8]
