"""An index of a run's samples in one SQLite file, so that a page of a million records needs only the lines it shows.

    with SampleIndex.of(Path("runs/2026-08-01-demo-0f3a9c")) as index:
        index.update(print)
        page = index.page(Filters(task="cmmlu", kind="wrong", text="网络"), after=0)
        record = index.record(page[0].n)

It lies in the folder `.view` of the run, or among the user's cached files where that cannot be written. A run that goes
on is followed: lines that were added since are read; where a file was written anew, all is read again. What the index
holds of a sample is what lists and filters need; all else is read from the record's line, whose place it knows.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.codec import key_in, parse_line, row_digest
from harness.record.conversation import conversation_in, last_words
from harness.record.failures import cause_of
from harness.record.html import KINDS, chance_of, first_line, gold_words, option_shares, sample_kind
from harness.record.journal import UNREADABLE
from harness.record.manifest import read_report
from harness.record.prompts import PROMPTS_FILE
from harness.record.record_fields import RecordLine
from harness.record.run import REPORT_FILE
from harness.types import JSON
from harness.view.filters import Filters, phrases_of, separated, signs_in, signs_of
from harness.view.search import TERMS, WORDS, Search, nearest

if TYPE_CHECKING:
    from harness.view.columns import Columns, Places

FOLDER = ".view"
PAGE = 50
_BATCH = 4_000
_SEARCHED = 20_000  # characters of a prompt and of an answer
_SHOWN = 160  # characters of a question in a list
_MOST_CAUSES = 8
_SHORT = 12  # characters of answers that are counted by what was right
MOST_COUNTED = 10_000
_TRIGGER = "CREATE TRIGGER replaces AFTER DELETE ON samples BEGIN INSERT INTO replaced VALUES(old.n); END"
_SCHEMA = f"""
CREATE TABLE files(name TEXT PRIMARY KEY, identity TEXT, size INTEGER, headlines TEXT);
CREATE TABLE samples(
    n INTEGER PRIMARY KEY, file TEXT, start INTEGER, length INTEGER,
    task TEXT, subset TEXT, id INTEGER, view INTEGER, kind TEXT, score REAL,
    answer TEXT, gold TEXT, confidence REAL, question TEXT, size INTEGER, tokens INTEGER, cut INTEGER, error TEXT
);
CREATE UNIQUE INDEX by_key ON samples(task, subset, id, view);
CREATE INDEX by_failure ON samples(task) WHERE kind = 'failed';
CREATE TABLE replaced(n INTEGER PRIMARY KEY);
{_TRIGGER};
CREATE TABLE names(kind TEXT, code INTEGER, name TEXT, PRIMARY KEY(kind, name));
CREATE TABLE columns(name TEXT, start INTEGER, data BLOB);
CREATE UNIQUE INDEX by_column ON columns(name, start);
{WORDS};
"""
_VERSION = zlib.crc32(_SCHEMA.encode()) & 0x7FFFFFFF  # an index of another form is made anew
ORDERS: Mapping[str, tuple[str, bool]] = {
    "file": ("", False),
    "least sure": ("confidence", False),
    "surest": ("confidence", True),
    "longest": ("size", True),
    "shortest": ("size", False),
}
"""Name -> the column by which samples stand, and whether from its largest value on."""


@dataclass(frozen=True, slots=True)
class IndexedSample:
    """What a list says of a sample. confidence: probability of the chosen option among the options, in [0, 1].

    size: characters of the reply. tokens: those that the model wrote, where it said so.
    """

    n: int
    task: str
    subset: str
    id: int
    view: int
    kind: str
    score: float | None
    answer: str
    gold: str
    confidence: float | None
    question: str
    size: int
    tokens: int | None
    cut: bool
    error: str | None


_COLUMNS = ", ".join(IndexedSample.__dataclass_fields__)


class SampleIndex:
    """The index of one run folder. A context manager; reading needs `update` at least once."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.connection = connection
        self._searches: dict[Filters, Search] = {}

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Open the index of a run folder, empty where there is none yet."""
        for path in (folder / FOLDER / "index.sqlite", _cached(folder)):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                return cls(folder, _connect(path))
            except (OSError, sqlite3.OperationalError):
                continue
        raise UsageError(f"{folder}: neither beside the run nor in {_cached(folder).parent} can an index be written")

    @classmethod
    def snapshot(cls, folder: Path) -> Self:
        """The index as it is at the first look into it: another one may be reading on beside it, and a page that saw
        some columns before a batch of samples was added and some behind it would hold what never was."""
        index = cls.of(folder)
        index.connection.execute("BEGIN")
        return index

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Read what the record files hold beyond what is known of them. progress: bytes that were read, of how many."""
        headlines = _headlines(self.folder)
        starts = self._starts(headlines)
        if starts is None:
            self._clear()
            starts = dict.fromkeys(_record_files(self.folder), 0)
        seen = _text_of(headlines)
        work = [(path, start) for path, start in starts.items() if path.stat().st_size > start]
        total, done = sum(path.stat().st_size - start for path, start in work), 0
        for path, start in work:
            for read in self._read(path, start, seen, headlines):
                done += read
                progress(done, total)
        self.connection.commit()
        self.__dict__.pop("columns", None)
        self._searches.clear()

    def is_current(self) -> bool:
        """Whether the index says all that the record files hold."""
        starts = self._starts(_headlines(self.folder))
        return starts is not None and all(path.stat().st_size == start for path, start in starts.items())

    @functools.cached_property
    def columns(self) -> Columns:
        """What is known of all samples at once, as it was when this was first asked for."""
        from harness.view.columns import Columns

        return Columns(self.connection)

    def _starts(self, headlines: Mapping[str, str]) -> dict[Path, int] | None:
        """From which byte on each file is not known; None where what is known of one holds no longer."""
        known = {name: rest for name, *rest in self.connection.execute("SELECT * FROM files")}
        starts = {}
        for path in _record_files(self.folder):
            state = [_identity(path), _text_of(headlines)]
            identity, size, seen = known.pop(path.name, (state[0], 0, state[1]))
            if [identity, seen] != state or path.stat().st_size < size:
                return None
            starts[path] = size
        return None if known else starts

    def __len__(self) -> int:
        return int(self.columns.live.sum())

    def tasks(self) -> list[str]:
        """The tasks that have samples."""
        return sorted(self.columns.names("task"))

    def kinds(self, filters: Filters) -> dict[str, int]:
        """Kind -> how many samples the other filters leave; where words are searched, of the first 10,000 of them."""
        return self.columns.kinds(self._places(replace(filters, kind=""), MOST_COUNTED))

    def page(self, filters: Filters, start: int = 0, order: str = "file") -> list[IndexedSample]:
        """The samples from place `start` on, at most `PAGE`. order: one of `ORDERS`."""
        column, descending = ORDERS[order]
        if column:
            places = self.columns.ordered(self._places(filters), column, start + PAGE, descending=descending)
        else:
            places = self._places(filters, start + PAGE)
        numbers = (places[start : start + PAGE] + 1).tolist()
        query = f"SELECT {_COLUMNS} FROM samples WHERE n IN ({', '.join('?' * len(numbers))})"
        found = {row[0]: IndexedSample(*row) for row in self.connection.execute(query, numbers)}
        return [found[n] for n in numbers if n in found]

    def _places(self, filters: Filters, most: int | None = None) -> Places:
        """The places of the samples that the filters leave, ascending; no more than `most`."""
        if not _has_words(filters.text):
            return self.columns.matching(filters)[:most]
        import numpy as np

        mask = self.columns.mask(filters)
        parts, n = [np.zeros(0, np.int64)], 0
        for places in self._search(replace(filters, kind="")).parts(whole=most is None):
            parts.append(places[mask[places]])
            n += len(parts[-1])
            if most is not None and n >= most:
                break
        return np.concatenate(parts)[:most]

    def _search(self, filters: Filters) -> Search:
        """The search for the words of some filters: a page and its counts look at the same one."""
        if filters not in self._searches:
            here = self.columns.matching(filters)
            first, last = (int(here[0]), int(here[-1]) + 1) if len(here) else (0, 0)
            self._searches[filters] = Search(self.connection, filters.text, first, last)
        return self._searches[filters]

    def sample(self, n: int) -> IndexedSample | None:
        """One sample by its number in this index."""
        row = self.connection.execute(f"SELECT {_COLUMNS} FROM samples WHERE n = ?", [n]).fetchone()
        return IndexedSample(*row) if row else None

    def find(self, task: str, subset: str, number: int, view: int = 0) -> IndexedSample | None:
        """One sample by its key."""
        row = self.connection.execute(
            f"SELECT {_COLUMNS} FROM samples WHERE task = ? AND subset = ? AND id = ? AND view = ?",
            [task, subset, number, view],
        ).fetchone()
        return IndexedSample(*row) if row else None

    def neighbours(self, n: int, filters: Filters) -> tuple[int | None, int | None]:
        """The samples before and after one, within the filters and in the order of the file."""
        mask = self.columns.mask(filters)
        if not _has_words(filters.text):
            back, forth = mask[: n - 1][::-1], mask[n:]
            return n - 1 - int(back.argmax()) if back.any() else None, (
                n + 1 + int(forth.argmax()) if forth.any() else None
            )
        before, after = (nearest(self.connection, filters.text, mask, n, before=side) for side in (True, False))
        return before, after

    def line(self, n: int) -> RecordLine:
        """The record of a sample as it lies on disk. Raises UsageError where the file was changed meanwhile."""
        row = self.connection.execute("SELECT file, start, length FROM samples WHERE n = ?", [n]).fetchone()
        if row is None:
            raise UsageError(f"{self.folder}: there is no sample {n}")
        path = self.folder / row[0]
        try:
            with path.open("rb") as handle:
                handle.seek(row[1])
                return parse_line(handle.read(row[2]))
        except (OSError, *UNREADABLE) as error:
            raise UsageError(f"{path}: was changed since it was indexed ({error}); load the page again") from None

    def causes(self, task: str) -> list[tuple[str, int]]:
        """(one of the messages, how many samples) of the causes of failures, the most frequent first."""
        found: dict[str, tuple[str, int]] = {}
        query = (
            "SELECT error, count(*) FROM samples WHERE task = ? AND kind = 'failed' GROUP BY 1"
            " ORDER BY 2 DESC, min(n) LIMIT ?"
        )
        for message, n in self.connection.execute(query, [task, MOST_COUNTED]):
            first, before = found.get(cause_of(message or ""), (message, 0))
            found[cause_of(message or "")] = (first, before + n)
        return sorted(found.values(), key=lambda each: -each[1])[:_MOST_CAUSES]

    def letters(self, task: str) -> list[tuple[str, str, int]]:
        """(answer, gold, how many samples) of wrong samples whose answers are short, the most frequent first."""
        query = "SELECT answer, gold FROM samples WHERE n = ?"
        return [(*self.connection.execute(query, [number]).fetchone(), n) for number, n in self.columns.letters(task)]

    def _read(self, path: Path, start: int, seen: str, headlines: Mapping[str, str]) -> Iterator[int]:
        """Index the lines of a file from a byte on; yields how many bytes were read, from time to time."""
        found: list[_Found] = []
        number = int(self.connection.execute("SELECT coalesce(max(n), 0) FROM samples").fetchone()[0])
        identity, offset, known = _identity(path), start, start

        def write() -> int:
            nonlocal known
            self._write(found)
            self.connection.execute(
                "INSERT OR REPLACE INTO files VALUES(?, ?, ?, ?)", [path.name, identity, offset, seen]
            )
            self.connection.commit()  # one that is stopped here goes on from here
            found.clear()
            read, known = offset - known, offset
            return read

        with path.open("rb") as handle:
            handle.seek(start)
            for line in handle:
                if not line.endswith(b"\n"):  # half written: a run is at work
                    break
                with contextlib.suppress(*UNREADABLE):  # such lines are no samples, here as in a report
                    fields = parse_line(line)
                    found.append(_found(fields, headlines, (number + 1, path.name, offset, len(line))))
                    number += 1
                offset += len(line)
                if len(found) >= _BATCH:
                    yield write()
        yield write()

    def _write(self, found: Sequence[_Found]) -> None:
        """Keep a batch of samples that follows those which are known."""
        from harness.view.columns import write_piece

        if not found:
            return
        # The last line of a sample wins, as in the record itself.
        found = [_storable(each) for each in found]
        marks = ", ".join("?" * len(found[0].row))
        self.connection.executemany(f"INSERT OR REPLACE INTO samples VALUES({marks})", (each.row for each in found))
        self.connection.executemany(
            "INSERT INTO words(rowid, text) VALUES(?, ?)", ((each.row[0], each.words) for each in found)
        )
        codes = {name: self._codes(name, (getattr(each, name) for each in found)) for name in ("task", "subset")}
        pieces = [(codes["task"][each.task], codes["subset"][each.subset], *each.values) for each in found]
        write_piece(self.connection, found[0].row[0] - 1, pieces)

    def _codes(self, kind: str, names: Iterable[str]) -> dict[str, int]:
        """Name -> its number; those that are new get the next ones."""
        known = dict(self.connection.execute("SELECT name, code FROM names WHERE kind = ?", [kind]).fetchall())
        for name in dict.fromkeys(names):
            if name not in known:
                known[name] = len(known)
                self.connection.execute("INSERT INTO names VALUES(?, ?, ?)", [kind, known[name], name])
        return known

    def _clear(self) -> None:
        self.connection.execute("DROP TRIGGER replaces")
        for table in ("samples", "files", "replaced", "names", "columns"):
            self.connection.execute(f"DELETE FROM {table}")
        self.connection.execute(_TRIGGER)
        self.connection.execute("INSERT INTO words(words) VALUES('delete-all')")


def _has_words(text: str) -> bool:
    """Whether the index of words has to be asked; also for what it cannot hold, so that it finds nothing."""
    return bool(text) and (bool(phrases_of(text)) or not signs_of(text))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA recursive_triggers = ON")  # without it, what is replaced is deleted unnoticed
    connection.execute("PRAGMA synchronous = OFF")  # it can be made again from the records
    connection.execute("PRAGMA cache_size = -4000")
    if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if not name.startswith(("sqlite_", "words_")):
                connection.execute(f"DROP TABLE IF EXISTS {name}")
        connection.executescript(_SCHEMA + f"PRAGMA user_version = {_VERSION};")
    connection.execute(TERMS)
    return connection


def _cached(folder: Path) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "harness" / "view" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.sqlite"


def _identity(path: Path) -> str:
    """Tells a file that was written anew from one that grew."""
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}"


def _record_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.jsonl")) if path.name != PROMPTS_FILE and path.is_file()]


def _text_of(headlines: Mapping[str, str]) -> str:
    return json.dumps({task: headlines[task] for task in sorted(headlines)})


def _headlines(folder: Path) -> dict[str, str]:
    """Task -> the metric by which its samples are right or wrong, as the report has it first."""
    try:
        report = read_report(folder / REPORT_FILE)
    except UsageError:  # the page of the run says it; its samples can be seen all the same
        report = None
    tasks = report["tasks"] if report else []
    return {task["task"]: task["metrics"][0]["metric"] for task in tasks if task["metrics"]}


class _Found(NamedTuple):
    """What is kept of a sample: its row, its values in the columns behind task and subset, and words to search."""

    task: str
    subset: str
    row: tuple[Any, ...]
    values: tuple[Any, ...]
    words: str


def _storable(found: _Found) -> _Found:
    """The same with a mark in the place of each half of a character, which no database takes."""

    def whole(value: Any) -> Any:
        return value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value

    row = tuple(map(whole, found.row))
    return _Found(whole(found.task), whole(found.subset), row, found.values, whole(found.words))


def _found(fields: RecordLine, headlines: Mapping[str, str], place: tuple[int, str, int, int]) -> _Found:
    """What is kept of a record's line. place: its number, its file, and where it stands there."""
    from harness.scoring.statistics.clusters import cluster_number
    from harness.view.columns import text_number

    key = key_in(fields)
    scores = fields["scores"]
    given = scores.get(headlines.get(key.task, ""), next(iter(scores.values()), None))
    score = float(given) if isinstance(given, int | float) else None
    answer, confidence = _answer(fields)
    gold = gold_words(fields["target"], fields["choices"])[:_SHOWN]
    judge: Mapping[str, JSON] = fields.get("judge") or {}
    kind = sample_kind(fields["error"], fields["unparsed"], given, judge.get("scale"))
    replies = fields["responses"]
    size = sum(len(reply.get("text") or "") for reply in replies)
    tokens = [reply["completion_tokens"] for reply in replies if isinstance(reply.get("completion_tokens"), int)]
    cut = any(reply.get("finish_reason") == "length" for reply in replies)
    cluster, digest = (
        fields["cluster"],
        row_digest(fields["doc"], fields["target"], fields["choices"], fields["cluster"]),
    )
    clustered = cluster is not None or "view" in fields
    chance = chance_of(fields["target"], fields["choices"])
    words = searched(fields)
    listed = (answer, gold, confidence, question_of(fields), size, sum(tokens) if tokens else None, cut)
    values = (
        key.id,
        key.view,
        KINDS.index(kind),
        math.nan if score is None else score,
        cluster_number(cluster, key.subset, key.id) if clustered else 0,
        clustered,
        int.from_bytes(digest, "little"),
        text_number(answer),
        text_number(gold),
        max(len(answer), len(gold)) <= _SHORT,
        math.nan if confidence is None else confidence,
        math.nan if chance is None else chance,
        size,
        cut,
        signs_in(words),
    )
    row = (*place, *key, kind, score, *listed, fields["error"])
    return _Found(key.task, key.subset, row, values, separated(words))


def _answer(fields: RecordLine) -> tuple[str, float | None]:
    """What was read from the reply, or the likeliest option and its probability among the options."""
    for found in fields["answers"].values():
        return (last_words(str(found[0]))[:_SHOWN] if found and found[0] is not None else "", None)
    logprobs = [float(value) for reply in fields["responses"] for value in reply.get("logprobs") or ()]
    if shares := option_shares(fields["choices"], logprobs):
        best = max(range(len(shares)), key=shares.__getitem__)
        return fields["choices"][best][:_SHOWN], shares[best]
    text = next((reply.get("text") for reply in fields["responses"] if reply.get("text")), "") or ""
    return " ".join(last_words(text).split())[:_SHOWN], None


def question_of(fields: RecordLine) -> str:
    """The first line of what was asked, without what samples share; of a conversation, what its user began with."""
    talks = [conversation_in(reply.get("text") or "") for reply in fields["responses"][:1]]
    asked = next((talk.first_words for talk in talks if talk), "") or _own_text(fields)
    return first_line(asked.strip(), _SHOWN)


def _own_text(fields: RecordLine) -> str:
    prompt = fields["prompt"]
    if prompt.get("messages"):
        content: JSON = prompt["messages"][-1]["content"]
        return content if isinstance(content, str) else "".join(part for part in content if isinstance(part, str))
    return prompt.get("suffix", "")


def searched(fields: RecordLine) -> str:
    """What a search looks through: the sample's own prompt and its replies."""
    texts = [_own_text(fields)[:_SEARCHED], *fields["choices"]]
    for reply in fields["responses"]:
        text = reply.get("text") or ""
        talk = conversation_in(text)
        texts.append((talk.text() if talk else text)[:_SEARCHED])
    return "\n".join(texts)
