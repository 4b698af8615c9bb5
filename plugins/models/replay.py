"""A model that answers with what was recorded: by an earlier run, or in files of outputs that somebody published.

    harness --model replay --model_args path=runs/2026-01-05-qwen-1f3c --tasks cmmlu
    harness --model replay --model_args path=outputs.jsonl,id_field=qid,text_field=answer --tasks gsm8k
    harness --model replay --model_args path=gpt-4-0314,records_field=example,id_field=index,text_field=model_output \\
        --tasks gaokao_bench
    harness --model replay --model_args path=Qwen2-VL_MMStar.xlsx --tasks mmstar

So a new metric, filter or variant is tried on old answers, and official scores are reproduced on official outputs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from harness import Model, Request, Response, Sample, UsageError, View, hookimpl

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
MISSING = ("sample", "error")
_FIELD = "row."
"""Stands before a field of the row, whose name may be `id`, in what recorded ids are compared with."""


@dataclass(slots=True)
class Entry:
    """What was recorded for one row. `row` holds hashes of the row's plain fields, to notice another row."""

    responses: tuple[Response, ...]
    row: Mapping[str, int]
    by_repeat: bool = True


@dataclass(slots=True)
class Book:
    """The answers of one file, or of one subset in a run folder, by the recorded id.

    `names` are the names under which a subset may ask for it; empty where it serves all. `id_field` is the field of the
    records that named them; None where they are numbered.
    """

    source: str
    task: str | None = None
    subset: str | None = None
    names: frozenset[str] = frozenset()
    id_field: str | None = None
    entries: dict[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordFields:
    """Which fields of a record hold what. None: the usual names are tried."""

    records: str | None
    id: str | None
    text: str | None
    logprobs: str
    task: str | None
    subset: str | None


class ReplayModel(Model):
    """`--model replay --model_args path=...`.

    path           a run folder of the harness (answers are matched by task, subset, id and repeat, whichever model gave
                   them), a file of records (.json, .jsonl, .tsv, .csv, .xlsx), or a folder of such files with one file
                   a subset, which its name or its folder's names
    records_field  the field that holds the list of records, in a .json file that is an object
    id_field       the field that names the row (default: `id`, `doc_id`, `index`, `question_id`, `pid` or the like;
                   without any, the position in the file)
    text_field     the field with the answer (default: `text`, `response`, `output`, `resps`, `prediction` or the like);
                   a list is one answer a repeat
    logprobs_field the field with one log-probability a choice (default: `logprobs`)
    match          what `id_field` is compared with: `id`, the number of the row in its split, or a field of the row
                   (default: the row's field of the same name where that finds any row, and the number otherwise)
    task_field     the field that names the task, where one file holds several
    subset_field   the field that names the subset, where one file holds several
    file           the file of a subset below `path`, where its name does not tell: `out_{subset}.json`; also `{task}`
    missing        `sample`: a row without recorded answer fails alone; `error`: nothing runs then
    """

    name = "replay"
    supports: ClassVar = frozenset({"loglikelihood", "rolling", "generate"})
    modalities: ClassVar = frozenset({"text", "image", "video", "audio"})
    answers_samples = True
    sees_prompts = False

    def __init__(
        self,
        path: str,
        records_field: str | None = None,
        id_field: str | None = None,
        text_field: str | None = None,
        logprobs_field: str = "logprobs",
        match: str | None = None,
        task_field: str | None = None,
        subset_field: str | None = None,
        file: str | None = None,
        missing: str = "sample",
    ) -> None:
        if missing not in MISSING:
            raise UsageError(f"--model_args: missing must be one of {', '.join(MISSING)}, not '{missing}'")
        self.path = Path(path).expanduser()
        self.layout = RecordFields(records_field, id_field, text_field, logprobs_field, task_field, subset_field)
        self.match, self.file, self.missing = match, file, missing
        self._books: list[Book] = []
        self._digest = hashlib.sha256()
        self._places: dict[tuple[str, str], tuple[Book, str]] = {}
        """(task, subset) -> the book that answers it, and what its ids are compared with."""
        self._asked: dict[int, tuple[Sample, int]] = {}

    def prepare(self) -> None:
        """Read all that was recorded."""
        if not self.path.exists():
            raise UsageError(f"--model_args path={self.path}: there is no such file or folder")
        if (self.path / "manifest.json").is_file():
            self._books = _books_of_run(self.path)
            files = sorted(self.path.glob("*.jsonl"))
        else:
            files = [self.path]
            if not self.path.is_file():
                below = (file for file in self.path.rglob("*") if file.suffix in FILE_TYPES)
                files = sorted(file for file in below if not file.name.startswith("."))
            self._books = [book for file in files for book in _books_of_file(file, self.path, self.layout)]
        for file in files:
            self._digest.update(hashlib.sha256(file.read_bytes()).digest())
        if not any(book.entries for book in self._books):
            kinds = ", ".join(FILE_TYPES)
            raise UsageError(f"--model_args path={self.path}: no recorded answers ({kinds} files) are there")

    @property
    def identity(self) -> Mapping[str, Any]:
        layout = {name: getattr(self.layout, name) for name in RecordFields.__dataclass_fields__}
        return {"recorded": self._digest.hexdigest(), "match": self.match, "file": self.file, "layout": layout}

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        """Find the book of every sample, and refuse records that are not about these rows."""
        groups: dict[tuple[str, str], list[range]] = {}
        start = 0
        for place, alike in itertools.groupby(samples, key=lambda sample: (sample.task, sample.subset)):
            stretch = range(start, start + sum(1 for _ in alike))
            groups.setdefault(place, []).append(stretch)
            start = stretch.stop
        missing, first = 0, ""
        for place, stretches in groups.items():
            members = _Members(samples, stretches)
            book = self._book_for(*place, members, alone=len(groups) == 1)
            match = self.match or _match_of(book, members)
            self._places[place] = book, match
            texts = _SameTexts()
            for sample in members:
                entry = book.entries.get(_key(sample, match))
                if entry is None:
                    missing, first = missing + 1, first or _described(sample, match)
                else:
                    texts.compare(sample, entry)
            texts.refuse_other_rows(book)
        self._refuse_missing(missing, start, first)

    def take_samples(self, samples: Sequence[Sample]) -> None:
        """Remember which sample asks, and which of its requests, by the identity of its requests."""
        asked = ((sample, place, request) for sample in samples for place, request in enumerate(sample.requests))
        self._asked = {id(request): (sample, place) for sample, place, request in asked}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            sample, place = self._asked.get(id(request), (None, 0))
            if sample is None:
                yield index, Response(error="replay has not seen the sample of this request")
                continue
            book, match = self._places[sample.task, sample.subset]
            where = f"{book.source}, {_described(sample, match)}"
            yield index, _pick(book.entries.get(_key(sample, match)), place, request, where)

    def close(self) -> None:
        self._asked = {}

    def _refuse_missing(self, missing: int, n: int, first: str) -> None:
        if missing and (self.missing == "error" or missing == n):
            raise UsageError(
                f"{self.path}: {missing} of {n} samples have no recorded answer, the first is {first} "
                "(see match= and id_field= of --model_args)"
            )

    def _book_for(self, task: str, subset: str, members: Iterable[Sample], *, alone: bool) -> Book:
        """The answers to one subset. Never a guess: two candidates are an error, and so is none."""
        wanted = subset or task.partition(":")[0]
        books = [book for book in self._books if book.task in (None, task) and book.subset in (None, subset)]
        if self.file is not None and self.path.is_dir():
            name = self.file.replace("{subset}", subset).replace("{task}", task.partition(":")[0])
            books = [book for book in books if book.source == name]
        elif any(book.names for book in books):
            exact = [book for book in books if wanted in book.names]
            # The subset's name as a whole: `gpt4_law` holds `law`, `outlaws` does not.
            named = re.compile(rf"(?<![^\W_]){re.escape(wanted)}(?![^\W_])")
            books = exact or [book for book in books if any(map(named.search, book.names))]
        elif not alone and any(
            book.subset is None and book.task is None and self._numbers(book, members) for book in books
        ):
            raise UsageError(
                f"{self.path}: one file cannot tell the rows of several subsets apart by number: name the field that "
                "holds the subset (--model_args subset_field=...), or one that is unique (match=...,id_field=...)"
            )
        if len(books) == 1:
            return books[0]
        place = f"task '{task}', subset '{subset}'" if subset else f"task '{task}'"
        if books:
            names = ", ".join(book.source for book in books[:4])
            raise UsageError(f"{self.path}: more than one file could hold {place}: {names} (say which, file=...)")
        labels = {"/".join(filter(None, (book.task, book.subset))) or book.source for book in self._books}
        known = ", ".join(sorted(labels)[:6])
        raise UsageError(f"{self.path}: nothing recorded for {place} (there is: {known}; see file= of --model_args)")

    def _numbers(self, book: Book, members: Iterable[Sample]) -> bool:
        """Whether the book's answers are found by the number of a row, which several subsets may share."""
        return (self.match or _match_of(book, members)) == "id"


def _match_of(book: Book, members: Iterable[Sample]) -> str:
    """What recorded ids are compared with where nobody says: the rows' own field of that name, or their number."""
    name = book.id_field
    if name is None or not any(name in sample.doc for sample in members):
        return "id"
    own = _FIELD + name
    return own if any(_key(sample, own) in book.entries for sample in members if name in sample.doc) else "id"


def _key(sample: Sample, match: str) -> str:
    """What names the sample in a book. An answer to a row as it is never answers one that was changed."""
    if match == "id":
        return f"{sample.id}{_view(sample.view)}"
    name = match.removeprefix(_FIELD)
    if name not in sample.doc:
        raise UsageError(
            f"--model_args match={name}: the rows of task '{sample.task}' have no such field "
            f"(they have: {', '.join(map(str, sample.doc))})"
        )
    return f"{_id(sample.doc[name])}{_view(sample.view)}"


def _id(value: Any) -> str:
    """An id as a text; a table with a gap in a column of numbers has them as 3.0."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _described(sample: Sample, match: str) -> str:
    place = f"{sample.task}/{sample.subset}" if sample.subset else sample.task
    named = replace(sample, view=None)
    shown = " as its modifier shows it" if _view(sample.view) else ""
    return f"{place} {match.removeprefix(_FIELD)} {_key(named, match)}{shown}"


def _pick(entry: Entry | None, place: int, request: Request, where: str) -> Response:
    """The recorded answer to one request, or an error that says what is missing."""
    if entry is None:
        return Response(error=f"no recorded answer ({where})")
    number = request.repeat if entry.by_repeat else place
    if number >= len(entry.responses):
        return Response(error=f"{len(entry.responses)} recorded answers, number {number + 1} is asked for ({where})")
    response = entry.responses[number]
    if response.error is not None:
        return Response(error=f"the recorded answer is an error: {response.error} ({where})")
    expected = 1 if request.kind == "rolling" else len(request.continuations)
    if request.kind == "generate" and response.text is None:
        return Response(error=f"the recorded answer holds no text ({where})")
    if request.kind != "generate" and len(response.logprobs) != expected:
        return Response(
            error=f"{len(response.logprobs)} recorded log-probabilities, {expected} are asked for ({where})"
        )
    return response


class _SameTexts:
    """How many rows agree with what was recorded for them, by field."""

    def __init__(self) -> None:
        self._same: Counter[str] = Counter()
        self._other: Counter[str] = Counter()
        self._length: Counter[str] = Counter()

    def compare(self, sample: Sample, entry: Entry) -> None:
        for name, value in entry.row.items():
            text = sample.doc.get(name)
            if isinstance(text, str):
                self._length[name] += len(text)
                (self._same if hash(text.strip()) == value else self._other)[name] += 1

    def refuse_other_rows(self, book: Book) -> None:
        """Refuse answers to other rows than these: the longest text that both sides have differs in most rows.

        A few differences are let pass: published outputs often quote an earlier edition of the data.
        """
        for name, _ in self._length.most_common(1):
            same, other = self._same[name], self._other[name]
            if other > same:
                raise UsageError(
                    f"{book.source}: these answers belong to other rows: '{name}' differs in {other} of "
                    f"{other + same} (is this the right task, subset, split and match=?)"
                )


class _Members:
    """The samples of one subset among all, gone through as often as wanted."""

    def __init__(self, samples: Sequence[Sample], stretches: Sequence[range]) -> None:
        self._samples, self._stretches = samples, stretches

    def __iter__(self) -> Iterator[Sample]:
        return (self._samples[place] for stretch in self._stretches for place in stretch)


def _row(fields: Mapping[str, Any], without: Sequence[str | None] = ()) -> dict[str, int]:
    """Hashes of the texts of a row, by field."""
    return {
        name: hash(value.strip()) for name, value in fields.items() if isinstance(value, str) and name not in without
    }


def _view(view: View | None) -> str:
    """How a row was shown, where it was not as it is."""
    if view is None or view.is_plain:
        return ""
    shown = replace(view, index=0, count=1, fixed="")  # how many views there are changes none of them
    return "@" + ";".join(f"{each.name}={getattr(shown, each.name)!r}" for each in fields(shown))


def _books_of_run(path: Path) -> list[Book]:
    from harness import load_run

    books: dict[tuple[str, str], Book] = {}
    for record in load_run(path).records():
        place = record.task, record.subset
        if place not in books:
            books[place] = Book("/".join(part for part in (path.name, *place) if part), *place)
        responses = tuple(replace(response, seconds=None) for response in record.responses)
        books[place].entries[f"{record.id}{_view(record.view)}"] = Entry(responses, _row(record.doc), by_repeat=False)
    return list(books.values())


def _books_of_file(file: Path, root: Path, layout: RecordFields) -> list[Book]:
    """The answers of one file, one book for each task and subset that its records name."""
    source = file.relative_to(root).as_posix() if file != root else file.name
    content = _parse(file)
    records = _records(content, file, layout)
    if records is None:
        return []  # another file of the folder, without records: a summary of scores, a configuration
    folders = file.relative_to(root).parts[:-1] if file != root else ()
    # Some files say at their top what they are about: `"keyword": "2010-2022_..."`.
    texts = [value for value in content.values() if isinstance(value, str)] if isinstance(content, dict) else []
    names = frozenset({file.stem, *folders, *texts}) if file != root else frozenset()
    books: dict[tuple[str | None, str | None], Book] = {}
    for position, record in enumerate(records):
        task, subset = (None if name is None else str(record.get(name, "")) for name in (layout.task, layout.subset))
        place = (task, subset)
        if place not in books:
            books[place] = Book(source, task, subset, frozenset() if layout.subset else names)
        _enter(books[place], position, record, file, layout)
    return list(books.values())


def _parse(file: Path) -> Any:
    if file.suffix in (".tsv", ".csv", ".xlsx"):
        return _parse_table(file)
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(f"{file}: not valid JSON: {error}") from error
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if line.strip():
                rows.append(json.loads(line))
        except ValueError as error:
            raise UsageError(f"{file}:{number}: not valid JSON: {error}") from error
    return rows


def _parse_table(file: Path) -> list[dict[str, str]]:
    """The rows of a table, every cell a text. An empty cell is an empty text: an empty answer is an answer."""
    import pandas  # type: ignore[import-untyped]

    try:
        if file.suffix == ".xlsx":
            table = pandas.read_excel(file, dtype=str, keep_default_na=False)
        else:
            table = pandas.read_csv(file, sep="\t" if file.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except ImportError as error:
        raise UsageError(f"{file}: reading a spreadsheet needs a package: pip install 'harness-eval[excel]'") from error
    except Exception as error:
        raise UsageError(f"{file}: cannot be read as a table: {' '.join(str(error).split())}") from error
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _records(content: Any, file: Path, layout: RecordFields) -> list[dict[str, Any]] | None:
    """The records of a parsed file; None for a file of a folder that has no `records_field`."""
    if layout.records is not None and isinstance(content, dict):
        if layout.records not in content:
            return None
        content = content[layout.records]
    if isinstance(content, dict):
        lists = [name for name, value in content.items() if isinstance(value, list)]
        if lists and not all(isinstance(value, list) for value in content.values()):
            raise UsageError(f"{file}: which field holds the records? (--model_args records_field={lists[0]})")
        # From id to record, or from id to text.
        content = [
            {"id": key, **(value if isinstance(value, dict) else {"text": value})} for key, value in content.items()
        ]
    if not isinstance(content, list):
        raise UsageError(f"{file}: expected a list of records, found {type(content).__name__}")
    for position, record in enumerate(content):
        if not isinstance(record, dict):
            raise UsageError(f"{file}: record {position + 1} is {type(record).__name__}, not an object")
        if "request_keys" in record:
            raise UsageError(f"{file}: this belongs to a run folder: give the folder, --model_args path={file.parent}")
    return content


def _enter(book: Book, position: int, record: Mapping[str, Any], file: Path, layout: RecordFields) -> None:
    key = _field(record, layout.id, ID_FIELDS, file, "id_field", needed=False)
    # A mapping from id to record: where the record says that id too, its field has the name that the rows know.
    book.id_field = next(
        (field for field in ID_FIELDS if field != key and key and record.get(field) == record[key]), key
    )
    name = _id(record[key]) if key is not None else str(position)
    text = layout.text or next((name for name in TEXT_FIELDS if name in record), None)
    row = record["doc"] if isinstance(record.get("doc"), dict) else record
    entry = Entry(_responses(record, file, layout), _row(row, without=(key, text)))
    known = book.entries.setdefault(name, entry)
    # lm-eval's sample files hold a line for each filter, with the same answer in each.
    if known.responses != entry.responses:
        raise UsageError(f"{file}: two different answers for id {name} (is id_field= unique within a subset?)")


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


@hookimpl
def harness_models() -> list[type[Model]]:
    return [ReplayModel]
