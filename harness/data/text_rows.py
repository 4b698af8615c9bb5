"""Rows from texts: CSV and TSV, lines and blocks of lines, and tokens with their tags (CoNLL)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from harness.data.data_file import DataFile
from harness.data.file_options import FileOptions, Row
from harness.errors import DataError, one_line

if TYPE_CHECKING:
    from _csv import Reader


def csv_rows(text: Iterable[str], file: DataFile, kind: str, options: FileOptions) -> Iterator[Row]:
    """One row a line of a table. kind: csv or tsv."""
    lines = iter(text)
    first = next(lines, "")
    # Excel reads a first line `sep=;` as its separator, and no row.
    said = re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE) if kind == "csv" else None
    if said:
        options = replace(options, delimiter=options.delimiter or said[1])
    reader = _reader(lines if said else chain([first], lines), kind, options)
    skipped = 1 if said else 0
    columns = list(options.column_names) if options.column_names else None
    skip_header = options.header if options.header is not None else columns is None
    line = 1 + skipped
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1 + skipped  # a row that cannot be read is named by where it begins
            if not cells:
                continue
            if skip_header:
                skip_header = False
                columns = columns or cells
            elif columns is None:
                raise DataError(f"{file}: with `header: false` say `column_names:` (in dataset_kwargs)")
            elif len(cells) != len(columns):
                raise DataError(f"{file}:{begins}: has {len(cells)} cells, but there are {len(columns)} columns")
            else:
                yield _row(columns, cells, file)
    except csv.Error as error:
        raise DataError(f"{file}:{line}: {_csv_problem(error, columns)}") from error


def _csv_problem(error: csv.Error, columns: list[str] | None) -> str:
    """What the reader says of a row, and what is to be done about it."""
    if columns and len(columns) == 1 and (mark := likely_delimiter(columns[0])):
        return f"{one_line(error)}; is it separated by {mark!r}? Say `delimiter:` (in dataset_kwargs)"
    if "unexpected end of data" in str(error):
        return "a quote that opens in this row is never closed"
    if "expected after" in str(error):
        return f'{one_line(error)}; a quote within a quoted cell is written twice ("")'
    return one_line(error)


def likely_delimiter(header: str) -> str | None:
    """What seems to separate names in a line that was taken for one name; None where nothing does."""
    return max((mark for mark in ";\t|," if mark in header), key=header.count, default=None)


def _row(columns: list[str], cells: list[str], file: DataFile) -> Row:
    row: Row = dict(zip(columns, cells, strict=True))
    if len(row) != len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        fix = "say `column_names:` with `header: true` (in dataset_kwargs)"
        raise DataError(f"{file}:1: two columns are called '{twice}'; {fix}")
    if columns[0] == "":
        # pandas writes its row index as a first column without a name. It is no part of the row.
        del row[""]
    return row


def _reader(text: Iterable[str], kind: str, options: FileOptions) -> Reader:
    # A passage may be longer than the 128 KiB that the csv module allows a cell by default.
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 30))
    quoted = options.quotechar or ('"' if kind == "csv" else None)
    return csv.reader(
        text,
        delimiter=options.delimiter or ("," if kind == "csv" else "\t"),
        quotechar=quoted,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )


def text_rows(text: str, file: DataFile, options: FileOptions) -> Iterator[Row]:
    """One row `{text: line}` a line; or, with `block`, one row for every `len(block)` lines."""
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")[options.skip_lines :] if text else []
    block = options.block
    if block is None:
        # Lines that match `record_start` begin a record each; where there are none, every line is one.
        pattern = options.record_start
        starts = [number for number, line in enumerate(lines) if pattern and re.match(pattern, line)]
        begins = [0, *starts[1:]] if starts else range(len(lines))
        ends = [*begins[1:], len(lines)]
        yield from ({"text": "\n".join(lines[begin:end])} for begin, end in zip(begins, ends, strict=False))
        return
    if len(lines) % len(block):
        raise DataError(f"{file}: has {len(lines)} lines, which are no blocks of {len(block)} lines")
    for start in range(0, len(lines), len(block)):
        yield {name: line for name, line in zip(block, lines[start : start + len(block)], strict=True) if name}


def conll_rows(text: str, file: DataFile) -> Iterator[Row]:
    """A token and its tag a line, a blank line between sentences. The tag is what stands last in a line."""
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.strip():
            cells = line.split()
            if len(cells) < 2:
                raise DataError(f"{file}:{number}: has no token and tag")
            tokens.append(cells[0])
            tags.append(cells[-1])
        elif tokens:
            yield {"tokens": tokens, "tags": tags}
            tokens, tags = [], []
