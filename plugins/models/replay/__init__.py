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
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from harness import Model, Request, Response, Sample, UsageError, hookimpl

from .books import Book, Entry
from .recorded import FILE_TYPES, RecordFields, books_of_file, books_of_run, hash_of, id_words, view_words

MISSING = ("sample", "error")
_FIELD = "row."
"""Stands before a field of the row, whose name may be `id`, in what recorded ids are compared with."""


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
        """Read all that was recorded, into a file of this process: what becomes of the original later changes nothing.
        Memory holds 20 bytes of each answer."""
        from harness.data import Spool

        if not self.path.exists():
            raise UsageError(f"--model_args path={self.path}: there is no such file or folder")
        kept = Spool[Entry](block=1)
        is_run = (self.path / "manifest.json").is_file()
        files = self._files(is_run)
        before = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        for file in files:
            self._digest.update(hash_of(file))
        if is_run:
            self._books = books_of_run(self.path, kept)
        else:
            self._books = [book for file in files for book in books_of_file(file, self.path, self.layout, kept)]
        for file, known in zip(files, before, strict=True):
            if known != (file.stat().st_size, file.stat().st_mtime_ns):
                raise UsageError(f"{file}: was changed while it was read; run the same command again")
        if not any(book.entries for book in self._books):
            kinds = ", ".join(FILE_TYPES)
            raise UsageError(f"--model_args path={self.path}: no recorded answers ({kinds} files) are there")

    def _files(self, is_run: bool) -> list[Path]:
        if is_run:
            return sorted(self.path.glob("*.jsonl"))
        if self.path.is_file():
            return [self.path]
        below = (file for file in self.path.rglob("*") if file.suffix in FILE_TYPES)
        return sorted(file for file in below if not file.name.startswith("."))

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
            number = request.repeat if book.by_repeat else place
            yield index, _pick(book.entries.get(_key(sample, match)), number, request, where)

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
        return f"{sample.id}{view_words(sample.view)}"
    name = match.removeprefix(_FIELD)
    if name not in sample.doc:
        raise UsageError(
            f"--model_args match={name}: the rows of task '{sample.task}' have no such field "
            f"(they have: {', '.join(map(str, sample.doc))})"
        )
    return f"{id_words(sample.doc[name])}{view_words(sample.view)}"


def _described(sample: Sample, match: str) -> str:
    place = f"{sample.task}/{sample.subset}" if sample.subset else sample.task
    named = replace(sample, view=None)
    shown = " as its modifier shows it" if view_words(sample.view) else ""
    return f"{place} {match.removeprefix(_FIELD)} {_key(named, match)}{shown}"


def _pick(entry: Entry | None, number: int, request: Request, where: str) -> Response:
    """The recorded answer of this number to a request, or an error that says what is missing."""
    if entry is None:
        return Response(error=f"no recorded answer ({where})")
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


@hookimpl
def harness_models() -> list[type[Model]]:
    return [ReplayModel]
