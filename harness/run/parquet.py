"""Samples as a Parquet file, written as they are read: `write_parquet(load_run("runs/A"), Path("samples.parquet"))`.

The columns are those of `samples_frame`. Golds and columns of the row are texts where they are not all of one type, so
that every file of a run has one schema; it is found by a first pass over the records.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from harness.record.run import RunFolder
from harness.run.frames import sample_row
from harness.types import Record

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

BATCH = 4_000
"""Records that are in memory at once, and the rows of a row group."""
_FIXED = {
    "task": "text", "subset": "text", "id": "whole", "view": "whole", "prompt": "text", "choices": "texts",
    "target": "text", "text": "text", "texts": "texts", "logprobs": "numbers", "answer": "text", "error": "text",
    "unparsed": "flag", "seconds": "number",
}  # fmt: skip


def write_parquet(folder: RunFolder, path: Path, task: str | None = None) -> int:
    """Write the records of a task, or of all, and return how many. Raises SaveError; no part of a file is left."""
    import pyarrow
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    kinds = column_kinds(folder.records(task))
    schema = pyarrow.schema([(name, _types()[kind]) for name, kind in kinds.items()])
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            records = folder.records(task)
            while batch := list(itertools.islice(records, BATCH)):
                writer.write_batch(_record_batch(batch, kinds, schema))
                count += len(batch)
    except OSError as error:
        raise files.save_error(path, error) from error
    return count


def samples_table(records: Iterable[Record]) -> pyarrow.Table:
    """The records as a table of Arrow, with the columns and types of the file."""
    import pyarrow

    held = list(records)
    kinds = column_kinds(held)
    schema = pyarrow.schema([(name, _types()[kind]) for name, kind in kinds.items()])
    return pyarrow.Table.from_batches([_record_batch(held, kinds, schema)], schema=schema)


def column_kinds(records: Iterable[Record]) -> dict[str, str]:
    """Column -> what its cells are, in the order of the columns: the fixed ones, scores, columns of the rows."""
    scores: dict[str, str] = {}
    rows: dict[str, str] = {}
    for record in records:
        for name, value in record.scores.items():
            kind = "numbers" if isinstance(value, tuple) else "number"
            if value is not None or name not in scores:
                scores[name] = "numbers" if "numbers" in (kind, scores.get(name)) else kind
        for name, value in record.doc.items():
            if (kind_of_cell := _kind(value)) is not None:
                rows[name] = _joined(rows.get(name, kind_of_cell), kind_of_cell)
    return {
        **_FIXED,
        **{f"score.{name}": kind for name, kind in scores.items()},
        **{f"doc.{name}": kind for name, kind in rows.items()},
    }


def _kind(value: object) -> str | None:
    """None for what has no column of its own: lists and mappings."""
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int):
        return "whole" if -(2**63) <= value < 2**63 else "text"
    return "number" if isinstance(value, float) else "text" if isinstance(value, str) else None


def _joined(one: str, other: str) -> str:
    """What holds both kinds."""
    return one if one == other else "number" if {one, other} == {"whole", "number"} else "text"


def _types() -> Mapping[str, Any]:
    import pyarrow

    return {
        "text": pyarrow.string(), "texts": pyarrow.list_(pyarrow.string()), "whole": pyarrow.int64(),
        "number": pyarrow.float64(), "numbers": pyarrow.list_(pyarrow.float64()), "flag": pyarrow.bool_(),
    }  # fmt: skip


def _record_batch(records: Sequence[Record], kinds: Mapping[str, str], schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    import pyarrow

    rows = [sample_row(record) for record in records]
    columns = [
        pyarrow.array([_cell(row.get(name), kind) for row in rows], schema.field(name).type)
        for name, kind in kinds.items()
    ]
    return pyarrow.RecordBatch.from_arrays(columns, schema=schema)


def _cell(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "text":
        return _text(value)
    if kind == "texts":
        return [None if item is None else _text(item) for item in value]
    if kind == "numbers":
        return [float(item) for item in value] if isinstance(value, list | tuple) else [float(value)]
    return float(value) if kind == "number" else value


def _text(value: Any) -> str:
    """A text without halves of characters, which Arrow refuses; JSON for anything else."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()
