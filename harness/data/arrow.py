"""Rows of Arrow tables (Parquet files, hub datasets), without a second copy of what is large."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

from harness import spool
from harness.data.folders import inside, missing
from harness.errors import DataError
from harness.types import JSON

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

Row = dict[str, JSON]
SMALL = 64 * 2**20
"""Bytes. A table below this, of few rows, becomes plain dicts; others are made when asked for (images stay in one
place)."""
_BATCH = 256
_PIECE, _PIECE_WITHOUT_BYTES = 64, 2048


class ListedRows(list[Row]):
    """Rows that are made already. features: the types of their columns, as `datasets` writes them; None if unknown."""

    def __init__(self, rows: Iterable[Row], features: JSON) -> None:
        super().__init__(rows)
        self.features = features


class TableRows(Sequence[Row]):
    """The rows of an Arrow table, each made anew when it is asked for."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def table(self) -> pa.Table:
        return self._table

    @property
    def features(self) -> JSON:
        return features_in(self._table.schema)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return self._chosen(range(*index.indices(len(self))))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(index)
        return self._at(position)

    def _at(self, position: int) -> Row:
        return _rows(self._table.slice(position, 1))[0]

    def _chosen(self, positions: range) -> list[Row]:
        return [self._at(position) for position in positions]

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _BATCH):
            yield from _rows(self._table.slice(start, _BATCH))


class ParquetRows(TableRows):
    """The rows of large Parquet files, one after another, read a piece at a time: memory holds no more than that.

    Images lie in such files. Raises DataError where one cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        self._paths = list(paths)
        self._piece_size = _PIECE if holds_bytes(self._paths[0]) else _PIECE_WITHOUT_BYTES
        self._count = 0
        self._groups: dict[Path, int] = {}
        for path in self._paths:
            with _readable(path):
                metadata = pq.read_metadata(path)
                _refuse_twins(metadata.schema.to_arrow_schema(), path)
            self._count += metadata.num_rows
            self._groups[path] = metadata.num_row_groups
        self._piece: tuple[int, list[Row]] = (0, [])

    @property
    def table(self) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        return pa.concat_tables([pq.read_table(path) for path in self._paths], promote_options="default")

    @property
    def features(self) -> JSON:
        import pyarrow.parquet as pq

        return features_in(pq.read_schema(self._paths[0]))

    def __len__(self) -> int:
        return self._count

    def _at(self, position: int) -> Row:
        start, rows = self._piece
        if not start <= position < start + len(rows):
            for start, rows in self._pieces():
                if position < start + len(rows):
                    break
            self._piece = (start, rows)
        return rows[position - start]

    def _chosen(self, positions: range) -> list[Row]:
        found = {at: row for at, row in enumerate(self._until(max(positions, default=-1) + 1)) if at in positions}
        return [found[at] for at in positions]

    def __iter__(self) -> Iterator[Row]:
        return self._until(len(self))

    def _until(self, end: int) -> Iterator[Row]:
        for start, rows in self._pieces() if end else ():
            yield from rows[: end - start]
            if start + len(rows) >= end:
                return

    def _pieces(self) -> Iterator[tuple[int, list[Row]]]:
        """(number of the first row, rows) of each piece, in their order."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        start = 0
        for path in self._paths:
            for group in range(self._groups[path]):
                # A reader keeps what it has read until it is closed: one for each row group.
                with _readable(path), pq.ParquetFile(path) as stored:
                    for batch in stored.iter_batches(batch_size=self._piece_size, row_groups=[group]):
                        rows = _rows(pa.Table.from_batches([batch]))
                        yield start, rows
                        start += len(rows)


def _refuse_twins(schema: pa.Schema, name: Path | str) -> None:
    """Raise DataError where two columns share a name: a row would have the last of them, without a word."""
    twin = next((column for column in schema.names if schema.names.count(column) > 1), None)
    if twin is not None:
        raise DataError(f"{name}: two columns are called '{twin}'; rename one of them")


@contextlib.contextmanager
def _readable(name: Path | str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: is not a readable Parquet file: {' '.join(str(error).split())}") from error


def rows_of_table(table: pa.Table) -> Sequence[Row]:
    """The rows of a table: plain dicts when it is small, made on demand when it is not. NaN becomes None."""
    is_small = table.nbytes <= SMALL and table.num_rows <= spool.FEW
    return ListedRows(_rows(table), features_in(table.schema)) if is_small else TableRows(table)


def holds_bytes(path: Path) -> bool:
    """Whether a Parquet file has columns of bytes, which are images or sounds."""
    import pyarrow.parquet as pq

    with _readable(path):
        return any(_has(field.type, "is_binary", "is_large_binary") for field in pq.read_schema(path))


def are_many(paths: Sequence[Path]) -> bool:
    """Whether Parquet files have so many rows that these are not kept in memory."""
    import pyarrow.parquet as pq

    count = 0
    for path in paths:
        with _readable(path):
            count += pq.read_metadata(path).num_rows
    return count > spool.FEW


def features_in(schema: pa.Schema) -> JSON:
    """The types of the columns that `datasets` wrote into a file (its `Features`, by column), or None.

    A ClassLabel has its names there, which the numbers in the column do not say.
    """
    with contextlib.suppress(ValueError, KeyError, TypeError):
        written = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return written if isinstance(written, dict) and set(written) <= set(schema.names) else None
    return None


def read_parquet(stream: IO[bytes], name: str) -> Sequence[Row]:
    """Read a Parquet file. DataError when it is not one."""
    import pyarrow.parquet as pq

    with _readable(name):
        _refuse_twins(pq.read_schema(stream), name)
        stream.seek(0)
        return rows_of_table(pq.read_table(stream))


def infer_types(rows: Sequence[Row]) -> Sequence[Row]:
    """Rows of texts with the types that `datasets` infers for a CSV file, which are pandas': column by column."""
    import pandas  # type: ignore[import-untyped]
    import pyarrow as pa

    if not rows:
        return rows
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    text.seek(0)
    return rows_of_table(pa.Table.from_pandas(pandas.read_csv(text), preserve_index=False))


def read_saved(folder: Path, split: str) -> Sequence[Row]:
    """Read what `datasets` wrote by `save_to_disk`: a split, or a folder of splits. Memory-mapped.

    A single saved split says itself which one it is, in its `state.json`.
    """
    import pyarrow as pa

    try:
        if (folder / "dataset_dict.json").is_file():
            splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
            if split not in splits:
                raise missing("split", split, splits, str(folder))
            folder = folder / split
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state.get("_split") not in (None, split):
            raise missing("split", split, [state["_split"]], str(folder))
        files = [inside(folder, folder / item["filename"]) for item in state["_data_files"]]
        tables = [pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files]
        return rows_of_table(pa.concat_tables(tables))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise DataError(
            f"{folder}: is not a folder that `save_to_disk` wrote: {type(error).__name__}: {error}"
        ) from error


def _rows(table: pa.Table) -> list[Row]:
    try:
        rows: list[Row] = table.to_pylist()
    except UnicodeDecodeError as error:  # writers do not look at what they are given
        raise DataError(f"a column of text holds bytes that are no UTF-8: {error.object[:40]!r}") from error
    loose = [field.name for field in table.schema if _has(field.type, "is_floating")]
    if loose:
        for row in rows:
            for name in loose:
                row[name] = _without_nan(row[name])
    return rows


def _has(kind: pa.DataType, *checks: str) -> bool:
    """Whether a type is, or holds, one of those that `pyarrow.types` tells by these functions."""
    import pyarrow.types as kinds  # type: ignore[import-untyped]

    if any(getattr(kinds, check)(kind) for check in checks):
        return True
    return any(_has(kind.field(place).type, *checks) for place in range(kind.num_fields))


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return value
