"""Reads what was recorded: runs, JSON lines and tables piece by piece, `.json` and `.xlsx` as a whole."""

from __future__ import annotations

import collections
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import Response, UsageError, View

from .books import Book, Entries, Entry

if TYPE_CHECKING:
    from harness.data import Spool

# As harness, lm-eval, lmms-eval, VLMEvalKit (`index`, `prediction`), LLaVA and the authors of benchmarks name them.
ID_FIELDS = ("id", "doc_id", "index", "question_id", "questionId", "pid", "qid")
TEXT_FIELDS = (
    "text",
    "response",
    "output",
    "resps",
    "prediction",
    "model_output",
    "model_answer",
    "generated_text",
    "filtered_resps",
)
FILE_TYPES = (".json", ".jsonl", ".tsv", ".csv", ".xlsx")
_ROWS_AT_ONCE = 5000
"""Of a table."""
_PIECE = 1 << 20
"""Characters of a list in JSON."""
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class RecordFields:
    """Which fields of a record hold what. None: the usual names are tried."""

    records: str | None
    id: str | None
    text: str | None
    logprobs: str
    task: str | None
    subset: str | None


def _row(fields: Mapping[str, Any], without: Sequence[str | None] = ()) -> dict[str, int]:
    """Hashes of the texts of a row, by field."""
    return {
        name: hash(value.strip()) for name, value in fields.items() if isinstance(value, str) and name not in without
    }


def view_words(view: View | None) -> str:
    """How a row was shown, where it was not as it is."""
    if view is None or view.is_plain:
        return ""
    shown = replace(view, index=0, count=1, fixed="")  # how many views there are changes none of them
    return "@" + ";".join(f"{each.name}={getattr(shown, each.name)!r}" for each in fields(shown))


def books_of_run(path: Path, kept: Spool[Entry]) -> list[Book]:
    """The answers of a run of the harness, one book for each task and subset. kept: where they lie."""
    from harness import load_run

    books: dict[tuple[str, str], Book] = {}
    for record in load_run(path).records():
        place = record.task, record.subset
        if place not in books:
            source = "/".join(part for part in (path.name, *place) if part)
            books[place] = Book(source, Entries(kept), *place, by_repeat=False)
        responses = tuple(replace(response, seconds=None) for response in record.responses)
        books[place].entries.add(Entry(f"{record.id}{view_words(record.view)}", responses, _row(record.doc)))
    for book in books.values():
        book.entries.settle(last_counts=True)
    return list(books.values())


def books_of_file(file: Path, root: Path, layout: RecordFields, kept: Spool[Entry]) -> list[Book]:
    """The answers of one file, one book for each task and subset that its records name. kept: where they lie."""
    source = file.relative_to(root).as_posix() if file != root else file.name
    content = _parsed(file)
    records = _records(content, file, layout)
    if records is None:
        return []  # another file of the folder, without records: a summary of scores, a configuration
    folders = file.relative_to(root).parts[:-1] if file != root else ()
    # Some files say at their top what they are about: `"keyword": "2010-2022_..."`.
    texts = [value for value in content.values() if isinstance(value, str)] if isinstance(content, dict) else []
    names = frozenset({file.stem, *folders, *texts}) if file != root else frozenset()
    books: dict[tuple[str | None, str | None], Book] = {}
    for position, record in enumerate(_checked(records, file)):
        task, subset = (None if name is None else str(record.get(name, "")) for name in (layout.task, layout.subset))
        place = (task, subset)
        if place not in books:
            books[place] = Book(source, Entries(kept), task, subset, frozenset() if layout.subset else names)
        _enter(books[place], position, record, file, layout)
    for book in books.values():
        # lm-eval's sample files hold a line for each filter, with the same answer in each.
        if (name := book.entries.settle()) is not None:
            raise UsageError(f"{file}: two different answers for id {name} (is id_field= unique within a subset?)")
    return list(books.values())


def _parsed(file: Path) -> Any:
    """What a `.json` file holds, or the records of any other file, which are read as they are asked for."""
    if file.suffix in (".tsv", ".csv", ".xlsx"):
        return _table(file)
    if file.suffix != ".json":
        return _lines(file)
    with file.open(encoding="utf-8-sig") as handle:
        if handle.read(_PIECE).lstrip().startswith("["):
            return _items(file)
    return _whole(file)


def _whole(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UsageError(f"{file}: not valid JSON: {error}") from error


def _items(file: Path) -> Iterator[Any]:
    """The items of a file that is a list. What is no valid JSON is read as a whole, to say what is wrong."""
    decode, text, at = json.JSONDecoder().raw_decode, "", 0
    with file.open(encoding="utf-8-sig") as handle:
        number, more = 0, True
        while True:
            start = _after_space(text, at)
            try:
                if text[start] != ("," if number else "["):
                    break
                start = _after_space(text, start + 1)
                if not number and text[start] == "]":
                    break
                item, end = decode(text, start)
                if text[_after_space(text, end)] not in ",]":  # a number may go on in the next piece
                    raise ValueError
            except (ValueError, IndexError):
                if not more:
                    _whole(file)
                    raise UsageError(f"{file}: was changed while it was read; run the same command again") from None
                piece = handle.read(max(_PIECE, len(text) - at))
                text, at, more = text[at:] + piece, 0, bool(piece)
                continue
            at, number = end, number + 1
            yield item
        rest = text[start:] + handle.read(_PIECE)
    if rest.strip() != "]":
        _whole(file)


def _lines(file: Path) -> Iterator[Any]:
    with file.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                if line.strip():
                    yield json.loads(line)
            except ValueError as error:
                raise UsageError(f"{file}:{number}: not valid JSON: {error}") from error


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _table(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a table, every cell a text. An empty cell is an empty text: an empty answer is an answer."""
    import pandas  # type: ignore[import-untyped]

    how: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    try:
        if file.suffix == ".xlsx":
            parts = iter([pandas.read_excel(file, **how)])
        else:
            parts = pandas.read_csv(file, sep="\t" if file.suffix == ".tsv" else ",", chunksize=_ROWS_AT_ONCE, **how)
        for part in parts:
            yield from ({str(name): value for name, value in row.items()} for row in part.to_dict("records"))
    except ImportError as error:
        raise UsageError(f"{file}: reading a spreadsheet needs a package: pip install 'harness-eval[excel]'") from error
    except Exception as error:
        raise UsageError(f"{file}: cannot be read as a table: {' '.join(str(error).split())}") from error


def _records(content: Any, file: Path, layout: RecordFields) -> Iterable[Any] | None:
    """The records of a file; None for a file of a folder that has no `records_field`."""
    if layout.records is not None and isinstance(content, dict):
        if layout.records not in content:
            return None
        content = content[layout.records]
    if isinstance(content, dict):
        lists = [name for name, value in content.items() if isinstance(value, list)]
        if lists and not all(isinstance(value, list) for value in content.values()):
            raise UsageError(f"{file}: which field holds the records? (--model_args records_field={lists[0]})")
        # From id to record, or from id to text.
        return (
            {"id": key, **(value if isinstance(value, dict) else {"text": value})} for key, value in content.items()
        )
    if not isinstance(content, list | Iterator):
        raise UsageError(f"{file}: expected a list of records, found {type(content).__name__}")
    return content


def _checked(records: Iterable[Any], file: Path) -> Iterator[dict[str, Any]]:
    rest = iter(records)
    for position, record in enumerate(rest):
        if not isinstance(record, dict):
            collections.deque(rest, maxlen=0)  # that a file is no valid JSON is said first
            raise UsageError(f"{file}: record {position + 1} is {type(record).__name__}, not an object")
        if "request_keys" in record:
            raise UsageError(f"{file}: this belongs to a run folder: give the folder, --model_args path={file.parent}")
        yield record


def _enter(book: Book, position: int, record: Mapping[str, Any], file: Path, layout: RecordFields) -> None:
    key = _field(record, layout.id, ID_FIELDS, file, "id_field", needed=False)
    # A mapping from id to record: where the record says that id too, its field has the name that the rows know.
    book.id_field = next(
        (field for field in ID_FIELDS if field != key and key and record.get(field) == record[key]), key
    )
    name = id_words(record[key]) if key is not None else str(position)
    text = layout.text or next((name for name in TEXT_FIELDS if name in record), None)
    row = record["doc"] if isinstance(record.get("doc"), dict) else record
    book.entries.add(Entry(name, _responses(record, file, layout), _row(row, without=(key, text))))


def _responses(record: Mapping[str, Any], file: Path, layout: RecordFields) -> tuple[Response, ...]:
    logprobs = record.get(layout.logprobs)
    scores = tuple(map(float, logprobs)) if isinstance(logprobs, list) else ()
    key = _field(record, layout.text, TEXT_FIELDS, file, "text_field", needed=not scores)
    texts = _flat(record[key]) if key is not None else [None]
    return tuple(Response(text=text, logprobs=scores) for text in texts)


def _flat(value: Any) -> list[str | None]:
    if isinstance(value, list):
        return [text for item in value for text in _flat(item)]
    return [value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)]


def _field(
    record: Mapping[str, Any], given: str | None, usual: Sequence[str], file: Path, argument: str, *, needed: bool
) -> str | None:
    names = usual if given is None else (given,)
    for name in names:
        if name in record:
            return name
    if needed or given is not None:
        wanted, there = "' or '".join(names), ", ".join(record)
        raise UsageError(
            f"{file}: a record has no field '{wanted}': say which, --model_args {argument}=... (it has: {there})"
        )
    return None


def id_words(value: Any) -> str:
    """An id as a text; a table with a gap in a column of numbers has them as 3.0."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def hash_of(file: Path) -> bytes:
    """SHA-256 of the content of a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()
