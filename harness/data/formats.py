"""Reads files of rows: JSON, CSV, TSV, Parquet, SQuAD, text, each also gzipped or inside a zip.

    read_rows(DataFile(Path("test.csv")), FileOptions())

The format comes from the file's name or from `format:`. Values are what the file says they are: cells of CSV and TSV
stay strings ("007", "NA" and "" included), and only JSON and Parquet have numbers. `types: inferred` reads cells as
`datasets` does.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from harness.data.data_file import (
    LARGEST_UNPACKED,
    DataFile,
    opened,
    refuse_page,
    refuse_pointer,
    text_of,
    unpacking,
    zip_members,
)
from harness.data.file_options import FORMATS, FileOptions, Row
from harness.data.json_rows import json_rows, parse, row_of_line, squad_rows
from harness.data.text_rows import conll_rows, csv_rows, text_rows
from harness.errors import DataError, suggest
from harness.spool import Spool
from harness.types import JSON, UNREADABLE

FILE_NAME = re.compile(r".\.(squad\.json|jsonl|ndjson|json|csv|tsv|parquet|txt)(\.gz|\.zip)?$", re.IGNORECASE)
_PACKED = re.compile(r"\.(tar\.gz|tgz|tar|zst|xz|bz2|7z|rar|lz4|br)$", re.IGNORECASE)
_FORMAT_OF = {"squad.json": "squad", "ndjson": "jsonl", "txt": "text"}
LARGE_TEXT = 2**20
"""Bytes. A larger file of JSON lines, or of a table, is read line by line."""


def is_data_file(name: str) -> bool:
    """Whether a file's name says that it holds rows."""
    return FILE_NAME.search(name) is not None


def read_rows(file: DataFile, options: FileOptions) -> Sequence[Row]:
    """Read every row of a file. A large Parquet file stays an Arrow table, whose rows are made when asked for.

    Raises DataError, with `file:line` where a row is bad.
    """
    file = _the_member(file)
    kind = options.format or _format_of(file)
    if kind == "parquet":
        from harness.data.arrow import read_parquet

        with opened(file) as stream:
            refuse_pointer(stream.read(1000), f"{file}:")
            stream.seek(0)
            return read_parquet(stream, str(file))
    if kind in ("jsonl", "csv", "tsv") and (streamed := _streamed(file, kind, options)) is not None:
        return streamed
    text = text_of(file, options.encoding)
    if kind not in ("text", "conll"):
        refuse_page(text, file)
    if kind in ("csv", "tsv"):
        rows = list(csv_rows(io.StringIO(text, newline=""), file, kind, options))
        if options.types == "text":
            return rows
        from harness.data.arrow import infer_types

        return infer_types(rows)
    if kind == "text":
        return list(text_rows(text, file, options))
    if kind == "conll":
        return list(conll_rows(text, file))
    if kind == "squad":
        return list(squad_rows(parse(text, file), file))
    return json_rows(text, file, kind, options)


def read_all(files: Sequence[DataFile], options: FileOptions) -> Sequence[Row]:
    """Read the files of one split, one after another, or side by side where `options` say so."""
    rows = _read_files(files, replace(options, history=None))
    return rows if options.history is None else list(_with_history(rows, options.history, options.history_by or ""))


def _with_history(rows: Sequence[Row], column: str, key: str) -> Iterator[Row]:
    """The rows, each with what earlier ones of the same key had in a column."""
    earlier: dict[str, list[JSON]] = {}
    for number, row in enumerate(rows, 1):
        for name in (column, key):
            if name not in row:
                raise DataError(f"history: row {number} has no column '{name}'{suggest(name, row)}")
        before = earlier.setdefault(str(row[key]), [])
        yield {**row, "history": list(before)}
        before.append(row[column])


def _read_files(files: Sequence[DataFile], options: FileOptions) -> Sequence[Row]:
    if options.side_by_side:
        return _side_by_side(files, options)
    if options.join_by and len(files) > 1:
        return _joined(files, replace(options, join_by=None), options.join_by)
    if _are_large_parquet(files, options):
        from harness.data.arrow import ParquetRows

        return ParquetRows([file.path for file in files])
    if len(files) == 1:
        return read_rows(files[0], options)
    return _one_after_another([read_rows(file, options) for file in files])


def _one_after_another(parts: Sequence[Sequence[Row]]) -> Sequence[Row]:
    """The rows of several files; they keep types that all of the files name."""
    from harness.data.arrow import ListedRows

    types = getattr(parts[0], "features", None) if parts else None
    alike = all(getattr(part, "features", None) == types for part in parts)
    return ListedRows((row for part in parts for row in part), types if alike else None)


def _are_large_parquet(files: Sequence[DataFile], options: FileOptions) -> bool:
    """Whether all of a split lies in Parquet files as they are, which together are too large to be read at once."""
    from harness.data.arrow import SMALL, are_many, holds_bytes

    named, paths = options.format or "parquet", [file.path for file in files]
    plain = all(not file.member and file.path.suffix.lower() == ".parquet" for file in files) and named == "parquet"
    if not files or not plain or not all(path.is_file() for path in paths):
        return False
    for file in files:
        with opened(file) as stream:
            refuse_pointer(stream.read(1000), f"{file}:")
    return sum(path.stat().st_size for path in paths) > SMALL or (are_many(paths) and not holds_bytes(paths[0]))


def _side_by_side(files: Sequence[DataFile], options: FileOptions) -> list[Row]:
    """One row for the lines with the same number of several texts."""
    names = options.side_by_side
    if len(files) != len(names):
        listed = ", ".join(map(str, files))
        raise DataError(f"side_by_side: {len(names)} columns ({', '.join(names)}), but {len(files)} files: {listed}")
    columns = [list(text_rows(text_of(file, options.encoding), file, replace(options, block=None))) for file in files]
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{file} {len(column)}" for file, column in zip(files, columns, strict=True))
        raise DataError(f"side_by_side: the texts differ in their number of lines ({lengths})")
    return [
        {name: line["text"] for name, line in zip(names, lines, strict=True)} for lines in zip(*columns, strict=True)
    ]


def _joined(files: Sequence[DataFile], options: FileOptions, column: str) -> list[Row]:
    """The rows of the first file, each with the columns that the others have for it."""
    column, _, theirs = column.partition("=")
    rows = [dict(row) for row in read_rows(files[0], options)]
    for file in files[1:]:
        kind = options.format or _format_of(file)
        value = parse(text_of(file, options.encoding), file) if kind == "json" else None
        if isinstance(value, dict):
            others = {str(key): row for key, row in value.items() if isinstance(row, dict)}
        else:
            others = {str(row.get(theirs or column)): row for row in read_rows(file, options)}
        lost = [str(row.get(column)) for row in rows if str(row.get(column)) not in others]
        if lost:
            raise DataError(f"{file}: has nothing for {column} {', '.join(lost[:3])} ({len(lost)} rows of {files[0]})")
        rows = [{**others[str(row[column])], **row} for row in rows]
    return rows


def _format_of(file: DataFile) -> str:
    match = FILE_NAME.search(file.name)
    if match is None:
        if file.name.lower().endswith((".xlsx", ".xls", ".ods")):
            raise DataError(f"{file}: is a spreadsheet; save it as CSV (UTF-8)")
        if packed := _PACKED.search(file.name):
            raise DataError(f"{file}: is packed as {packed[0]}, which is not read; unpack it (.gz and .zip are read)")
        known = ", ".join(FORMATS)
        raise DataError(f"{file}: cannot tell the format from the name; say `format:` in dataset_kwargs ({known})")
    extension = match[1].lower()
    return _FORMAT_OF.get(extension, extension)


def _the_member(file: DataFile) -> DataFile:
    """Turn a zip into the one file of rows that it holds."""
    if file.member or file.path.suffix.lower() != ".zip":
        return file
    members = [name for name in zip_members(file.path) if is_data_file(name)]
    if len(members) != 1:
        held = ", ".join(members[:5]) or "none"
        raise DataError(
            f"{file}: holds {len(members)} files of rows ({held}); name one as zip://FILE::{file.path.name}"
        )
    return DataFile(file.path, members[0])


def _streamed(file: DataFile, kind: str, options: FileOptions) -> Spool[Row] | None:
    """The rows of a large file of JSON lines or of a table, packed or not, read piece by piece; None for others."""
    changed = options.broken is not None or options.explode or (options.column_names and kind == "jsonl")
    if changed or (kind != "jsonl" and options.types != "text") or not file.path.is_file():
        return None
    if file.path.stat().st_size < LARGE_TEXT:
        return None
    try:
        ends = "\n" if kind == "jsonl" else ""
        with unpacking(file) as stream, io.TextIOWrapper(stream, options.encoding, newline=ends) as text:
            lines = _lines(text)
            if kind != "jsonl":
                return Spool(csv_rows(lines, file, kind, options), block=1)
            return Spool((row_of_line(line) for line in lines if line.strip(" \t\r\n")), block=1)
    except (*UNREADABLE, DataError, LookupError, RecursionError):  # what is wrong is said when the whole is read
        return None


def _lines(stream: Iterable[str]) -> Iterator[str]:
    """The lines of a stream without its byte order mark. Raises ValueError where they are too long together."""
    size = 0
    for number, line in enumerate(stream):
        size += len(line)
        if size > LARGEST_UNPACKED:
            raise ValueError("unpacks to too much")
        yield line if number else line.removeprefix("\ufeff")
