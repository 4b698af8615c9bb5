"""Rows from JSON: arrays, lines, objects that hold them, and SQuAD."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from harness.data.data_file import DataFile
from harness.data.file_options import FileOptions, Row
from harness.errors import DataError, suggest
from harness.types import JSON

_SPACE = re.compile(r"[ \t\r\n]*")


def _constant(name: str) -> None:
    """Literal NaN is how pandas writes "no value"; an infinity means nothing in a row."""
    if name != "NaN":
        raise ValueError(f"{name} is not a JSON value")


def _object(pairs: list[tuple[str, JSON]]) -> Row:
    """An object, in which no key may stand twice: Python would take the last value without a word."""
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key '{twice}' is given twice in one object")
    return value


_DECODER = json.JSONDecoder(parse_constant=_constant, object_pairs_hook=_object)


def row_of_line(line: str) -> Row:
    """The row of one of JSON lines. Raises ValueError and RecursionError."""
    row = _DECODER.decode(line)
    if not isinstance(row, dict):
        raise ValueError("no object")
    return row


def parse(text: str, file: DataFile) -> JSON:
    """The one JSON value of a file."""
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
        except RecursionError as error:
            raise DataError(f"{file}:{_line(text, position)}: is nested too deeply") from error
        except ValueError as error:
            what = "a number has more than 4,300 digits" if "integer string conversion" in str(error) else error
            raise DataError(f"{file}:{_line(text, position)}: is not valid JSON: {what}") from error
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


def json_rows(text: str, file: DataFile, kind: str, options: FileOptions) -> list[Row]:
    """The rows of a file of JSON (kind `json`) or of JSON lines (`jsonl`)."""
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
            if problem := _no_row(value):
                raise DataError(f"{file}: is one object, {problem}")
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


def _no_row(value: Row) -> str:
    """Why an object is not a row: it holds columns, or rows by their keys; empty where it may be one."""
    items = list(value.values())
    columns = "which holds columns and no rows; write it row by row (pandas: orient='records')"
    if len(items) < 2:
        return ""
    if all(isinstance(item, list) for item in items):
        return columns if len(set(map(len, items))) == 1 and len(items[0]) > 1 else ""
    if not all(isinstance(item, dict) and item for item in items):
        return ""
    if all(list(item) == list(map(str, range(len(item)))) for item in items):
        return columns
    alike = len(set(map(frozenset, items))) == 1
    return "whose values seem to be its rows: say `keyed_by: id` (in dataset_kwargs)" if alike else ""


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


def _kind(value: JSON) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def squad_rows(value: JSON, file: DataFile) -> Iterator[Row]:
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
