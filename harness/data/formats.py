"""Reads files of rows: JSON, CSV, TSV, Parquet, SQuAD, text, each also gzipped or inside a zip.

    read_rows(DataFile(Path("test.csv")), FileOptions())

The format comes from the file's name or from `format:`. Values are what the file says they are: cells of CSV and TSV
stay strings ("007", "NA" and "" included), and only JSON and Parquet have numbers. `types: inferred` reads cells as
`datasets` does.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from harness.data.data_file import (
    LARGEST_UNPACKED,
    DataFile,
    opened,
    refuse_pointer,
    text_of,
    unpacking,
    zip_members,
)
from harness.errors import DataError, suggest
from harness.quick import dataclass
from harness.spool import Spool
from harness.types import JSON, UNREADABLE

if TYPE_CHECKING:
    from _csv import Reader

Row = dict[str, JSON]
FORMATS = ("json", "jsonl", "csv", "tsv", "parquet", "squad", "text", "conll")
TYPES = ("text", "inferred")
FILE_NAME = re.compile(r".\.(squad\.json|jsonl|ndjson|json|csv|tsv|parquet|txt)(\.gz|\.zip)?$", re.IGNORECASE)
_FORMAT_OF = {"squad.json": "squad", "ndjson": "jsonl", "txt": "text"}
LARGE_TEXT = 2**20
"""Bytes. A larger file of JSON lines, or of a table, is read line by line."""
_SPACE = re.compile(r"[ \t\r\n]*")
_ALIASES = {"sep": "delimiter", "names": "column_names"}


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How a file is read, where its name does not say.

    format: one of FORMATS. field: the key that holds the rows of a JSON object. encoding: a Python codec.
    delimiter, quotechar, header, column_names: of CSV and TSV. `column_names` alone means that there is no header line;
    with `header: true` they replace the header's names. TSV has no quoting unless `quotechar` says so. `column_names`
    also name the items of JSON rows that are arrays.
    keyed_by: the rows are the values of a JSON object; the column of this name gets their keys.
    broken: the column that holds a line of JSON lines that is none, so that a task's `where` can leave out what its
    authors have broken; without it such a line is an error.
    block: the name of each line of a text file's blocks; an empty name skips its line. skip_lines: of a text file.
    record_start: a pattern; in a text file that has it, a row is the lines from one that matches to the next.
    side_by_side: the files of a split are texts of equal length, one beside another; each gets its line a column of
    these names (parallel corpora).
    join_by: the first file of a split has the rows; each other is an object whose keys are values of this column, or
    rows that have it, and adds its columns (answers that are kept apart). `COLUMN=THEIRS` where they call it otherwise.
    history: a column; a row gets a list `history` of it, from the rows before that have the same `history_by`.
    A file in the format conll has a token and its tag a line and a blank line between sentences; its rows are
    `{tokens: [...], tags: [...]}`.
    explode: a list in each row of JSON, of which each item becomes a row: its own keys (or, where it is no object,
    itself under the list's name) beside the row's others. Several names are parallel lists, which are taken together.
    types: of CSV and TSV. `text`: a cell is what it says. `inferred`: a column of numbers or booleans is one, and an
    empty cell, NA, null and the like are null, as `datasets` (and so lm-eval) reads such files.
    """

    format: str | None = None
    field: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quotechar: str | None = None
    header: bool | None = None
    column_names: tuple[str, ...] | None = None
    block: tuple[str, ...] | None = None
    skip_lines: int = 0
    record_start: str | None = None
    keyed_by: str | None = None
    broken: str | None = None
    side_by_side: tuple[str, ...] = ()
    join_by: str | None = None
    history: str | None = None
    history_by: str | None = None
    explode: tuple[str, ...] = ()
    types: str = "text"

    @classmethod
    def of(cls, settings: Mapping[str, JSON], where: str, ignore: Sequence[str] = ()) -> FileOptions:
        """Build from a mapping, which may also hold the keys in `ignore`. DataError on any other key or a bad value.

        `sep` and `names`, as pandas and lm-eval's files say, are understood.
        """
        known = [field.name for field in fields(cls)]
        values: dict[str, JSON] = {}
        for key, value in settings.items():
            name = _ALIASES.get(key, key)
            if name in known:
                values[name] = _checked(name, value, where)
            elif key not in ignore:
                raise DataError(f"{where}: unknown key '{key}'{suggest(key, [*known, *ignore])}")
        return cls(**values)


def _checked(name: str, value: JSON, where: str) -> JSON:
    if value is None:
        # pandas' `header: null` says that there is none; elsewhere null is as good as nothing.
        return {
            "encoding": "utf-8",
            "header": False,
            "types": "text",
            "explode": (),
            "side_by_side": (),
            "skip_lines": 0,
        }.get(name)
    if name in ("column_names", "block", "explode", "side_by_side"):
        value = (value,) if name == "explode" and isinstance(value, str) else value
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise DataError(f"{where}: '{name}' must be a list of names")
    if name == "skip_lines":
        if isinstance(value, str) and value.isdecimal():  # a template's
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise DataError(f"{where}: 'skip_lines' must be a number of lines")
    if name == "header":
        # pandas' spelling, which lm-eval's `dataset_kwargs` pass on: 0 is the first line.
        if isinstance(value, bool) or value == 0:
            return value is not False
        raise DataError(f"{where}: 'header' must be true or false")
    if name == "record_start":
        try:
            return re.compile(value).pattern
        except (re.error, TypeError) as error:
            raise DataError(f"{where}: 'record_start' must be a pattern ({error})") from None
    if not isinstance(value, str) or (name in ("delimiter", "quotechar") and len(value) != 1):
        kind = "character" if name in ("delimiter", "quotechar") else "string"
        raise DataError(f"{where}: '{name}' must be a {kind}")
    known = {"format": FORMATS, "types": TYPES}.get(name)
    if known and value not in known:
        raise DataError(f"{where}: unknown {name} '{value}'{suggest(value, known)} (known: {', '.join(known)})")
    return value


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
            refuse_pointer(stream.read(1000), file)
            stream.seek(0)
            return read_parquet(stream, str(file))
    if kind in ("jsonl", "csv", "tsv") and (streamed := _streamed(file, kind, options)) is not None:
        return streamed
    text = text_of(file, options.encoding)
    if kind in ("csv", "tsv"):
        rows = list(_csv_rows(io.StringIO(text, newline=""), file, kind, options))
        if options.types == "text":
            return rows
        from harness.data.arrow import infer_types

        return infer_types(rows)
    if kind == "text":
        return list(_text_rows(text, file, options))
    if kind == "conll":
        return list(_conll_rows(text, file))
    if kind == "squad":
        return list(_squad_rows(_parse(text, file), file))
    return _json_rows(text, file, kind, options)


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
            refuse_pointer(stream.read(1000), file)
    return sum(path.stat().st_size for path in paths) > SMALL or (are_many(paths) and not holds_bytes(paths[0]))


def _side_by_side(files: Sequence[DataFile], options: FileOptions) -> list[Row]:
    """One row for the lines with the same number of several texts."""
    names = options.side_by_side
    if len(files) != len(names):
        listed = ", ".join(map(str, files))
        raise DataError(f"side_by_side: {len(names)} columns ({', '.join(names)}), but {len(files)} files: {listed}")
    columns = [list(_text_rows(text_of(file, options.encoding), file, replace(options, block=None))) for file in files]
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
        value = _parse(text_of(file, options.encoding), file) if kind == "json" else None
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


def _constant(name: str) -> None:
    """Literal NaN is how pandas writes "no value"; an infinity means nothing in a row."""
    if name != "NaN":
        raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_constant)


def _parse(text: str, file: DataFile) -> JSON:
    values = _values(text, file)
    if len(values) != 1:
        raise DataError(f"{file}: holds {len(values)} JSON values where one is wanted")
    return values[0]


def _values(text: str, file: DataFile) -> list[JSON]:
    """Every JSON value of a text, one after another: an array, lines, or objects without anything between them."""
    values = []
    position = _end_of_space(text, 0)
    while position < len(text):
        try:
            value, position = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            # A value that runs on to a later line was torn where it began, as far as a reader can tell.
            line = min(error.lineno, _line(text, position)) if "jsonl" in file.name else error.lineno
            raise DataError(f"{file}:{line}: is not valid JSON: {error.msg}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}:{_line(text, position)}: is not valid JSON: {error}") from error
        values.append(value)
        position = _end_of_space(text, position)
    return values


def _lines_of(text: str, file: DataFile, broken: str) -> list[JSON]:
    """Every line's value; a line that is no JSON is a row of the column `broken`."""
    values: list[JSON] = []
    for line in filter(str.strip, text.split("\n")):
        try:
            values += _values(line, file)
        except DataError:
            values.append({broken: line})
    return values


def _end_of_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _json_rows(text: str, file: DataFile, kind: str, options: FileOptions) -> list[Row]:
    values = _values(text, file) if options.broken is None else _lines_of(text, file, options.broken)
    if kind == "json" and len(values) == 1 and isinstance(values[0], dict):
        values = _rows_of_object(values[0], file, options)
    elif len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    names = options.column_names
    for number, row in enumerate(values, 1):
        if names and isinstance(row, list):
            if len(row) != len(names):
                raise DataError(f"{file}: row {number} has {len(row)} items, but there are {len(names)} columns")
            values[number - 1] = dict(zip(names, row, strict=True))
        elif not isinstance(row, dict):
            raise DataError(f"{file}: row {number} is not an object but {_kind(row)}: {json.dumps(row)[:60]}")
    return list(_exploded(values, file, options.explode)) if options.explode else values


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
                return Spool(_csv_rows(lines, file, kind, options), block=1)
            return Spool((_object(line) for line in lines if line.strip(" \t\r\n")), block=1)
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


def _object(line: str) -> Row:
    row = _DECODER.decode(line)
    if not isinstance(row, dict):
        raise ValueError("no object")
    return row


def _exploded(rows: list[Row], file: DataFile, lists: tuple[str, ...]) -> Iterator[Row]:
    """One row for each item of one list, or of several parallel ones."""
    for number, row in enumerate(rows, 1):
        for name in lists:
            if not isinstance(row.get(name), list):
                has = f"no list but {_kind(row[name])}" if name in row else f"not there{suggest(name, row)}"
                raise DataError(f"{file}: row {number}: 'explode: {name}' is {has}")
        lengths = {name: len(row[name]) for name in lists}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise DataError(f"{file}: row {number}: the lists of `explode` differ in length ({listed})")
        kept = {key: value for key, value in row.items() if key not in lists}
        for items in zip(*(row[name] for name in lists), strict=True):
            own: Row = {}
            for name, item in zip(lists, items, strict=True):
                own.update(item if isinstance(item, dict) else {name: item})
            yield {**kept, **own}


def _rows_of_object(value: Row, file: DataFile, options: FileOptions) -> list[JSON]:
    field = options.field
    if options.keyed_by:
        strange = next((key for key, row in value.items() if not isinstance(row, dict)), None)
        if strange is not None:
            raise DataError(f"{file}: '{strange}' is not an object but {_kind(value[strange])} (keyed_by)")
        return [{options.keyed_by: key, **row} for key, row in value.items()]
    tables = [key for key, item in value.items() if isinstance(item, list) and item and isinstance(item[0], dict)]
    if field is None:
        if not tables:
            return [value]
        if "data" in tables and "paragraphs" in value["data"][0]:
            raise DataError(f"{file}: looks like SQuAD; say `format: squad` (in dataset_kwargs)")
        fix = f"say `field: {tables[0]}` (in dataset_kwargs)"
        raise DataError(f"{file}: is one object; its rows seem to be under '{tables[0]}': {fix}")
    if field not in value:
        raise DataError(f"{file}: has no field '{field}'{suggest(field, value)} (it has: {', '.join(value)})")
    rows = value[field]
    if not isinstance(rows, list):
        raise DataError(f"{file}: field '{field}' is not a list of rows but {_kind(rows)}")
    return rows


def _kind(value: JSON) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _csv_rows(text: Iterable[str], file: DataFile, kind: str, options: FileOptions) -> Iterator[Row]:
    reader = _reader(text, kind, options)
    columns = list(options.column_names) if options.column_names else None
    skip_header = options.header if options.header is not None else columns is None
    try:
        for cells in reader:
            if not cells:
                continue
            if skip_header:
                skip_header = False
                columns = columns or cells
            elif columns is None:
                raise DataError(f"{file}: with `header: false` say `column_names:` (in dataset_kwargs)")
            elif len(cells) != len(columns):
                raise DataError(
                    f"{file}:{reader.line_num}: has {len(cells)} cells, but there are {len(columns)} columns"
                )
            else:
                yield _row(columns, cells, file)
    except csv.Error as error:
        raise DataError(f"{file}:{reader.line_num}: {error}") from error


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


def _text_rows(text: str, file: DataFile, options: FileOptions) -> Iterator[Row]:
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


def _conll_rows(text: str, file: DataFile) -> Iterator[Row]:
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


def _squad_rows(value: JSON, file: DataFile) -> Iterator[Row]:
    """Flatten SQuAD's articles, paragraphs and questions into one row a question, as the hubs serve them.

    What else an article or a paragraph says (`domain`, `casename`) is in each of its rows; ids are the questions'.
    """
    articles = value.get("data") if isinstance(value, dict) else value
    if not isinstance(articles, list):
        raise DataError(f"{file}: is not SQuAD: it has no list 'data'")
    for number, article in enumerate(articles, 1):
        try:
            about = {key: value for key, value in article.items() if key not in ("id", "paragraphs")}
            for paragraph in article["paragraphs"]:
                own = {key: value for key, value in paragraph.items() if key not in ("id", "context", "qas")}
                context = paragraph["context"]
                yield from (_question({**about, **own}, context, question) for question in paragraph["qas"])
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{file}: article {number} is not SQuAD: {type(error).__name__}: {error}") from error


def _question(about: Row, context: str, question: Row) -> Row:
    answers = question.get("answers") or []
    starts = [answer["answer_start"] for answer in answers if "answer_start" in answer]
    flat = {"text": [answer["text"] for answer in answers], "answer_start": starts}
    kept = {key: value for key, value in question.items() if key not in ("id", "question", "answers")}
    return {
        "id": question["id"],
        **about,
        "context": context,
        "question": question["question"],
        "answers": flat,
        **kept,
    }
