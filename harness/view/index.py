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
import hashlib
import itertools
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from harness.errors import UsageError
from harness.record.codec import key_in, parse_line, row_digest
from harness.record.file_types import RecordLine
from harness.record.html import chance_of, gold_words, option_shares, sample_kind
from harness.record.journal import UNREADABLE
from harness.record.manifest import read_report
from harness.record.prompts import PROMPTS_FILE
from harness.record.run import REPORT_FILE
from harness.types import JSON
from harness.view.filters import Filters, place_of, rows_of, separated, where_of

FOLDER = ".view"
PAGE = 50
_BATCH = 10_000
_SEARCHED = 20_000  # characters of a prompt and of an answer
_SHOWN = 160  # characters of a question in a list
_SHORT = 12  # characters of answers that are counted by what was right
MOST_COUNTED = 10_000
_SCHEMA = """
CREATE TABLE files(name TEXT PRIMARY KEY, identity TEXT, size INTEGER, headlines TEXT);
CREATE TABLE samples(
    n INTEGER PRIMARY KEY, file TEXT, start INTEGER, length INTEGER,
    task TEXT, subset TEXT, id INTEGER, view INTEGER, kind TEXT, score REAL, cluster TEXT, row BLOB,
    answer TEXT, gold TEXT, confidence REAL, chance REAL, question TEXT, size INTEGER, tokens INTEGER, cut INTEGER,
    error TEXT
);
CREATE UNIQUE INDEX by_key ON samples(task, subset, id, view);
CREATE INDEX by_task ON samples(task, n);
CREATE INDEX by_answer ON samples(task, answer, n);
CREATE INDEX by_cut ON samples(n) WHERE cut;
CREATE INDEX by_kind ON samples(task, kind, n);
CREATE INDEX by_subset ON samples(task, subset, kind, n);
CREATE INDEX by_confidence ON samples(task, confidence);
CREATE INDEX by_size ON samples(task, size);
CREATE TABLE totals(task TEXT, subset TEXT, kind TEXT, n INTEGER, chance REAL, chances INTEGER);
CREATE TABLE calibration(task TEXT, confidence REAL, share REAL, n INTEGER);
CREATE TABLE lengths(task TEXT, start INTEGER, n INTEGER, hits INTEGER);
CREATE TABLE letters(task TEXT, answer TEXT, gold TEXT, n INTEGER);
CREATE TABLE counted(upto INTEGER);
CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='unicode61');
"""
_VERSION = zlib.crc32(_SCHEMA.encode()) & 0x7FFFFFFF  # an index of another form is made anew
ORDERS: Mapping[str, str] = {
    "file": "n",
    "least sure": "confidence, n",
    "surest": "confidence DESC, n DESC",
    "longest": "size DESC, n DESC",
    "shortest": "size, n",
}


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


class IndexedPair(NamedTuple):
    """A sample in two runs: its scores there, and whether both had the same row and gold."""

    subset: str
    id: int
    view: int
    first: float | None
    second: float | None
    cluster: str | None
    is_same: bool


_PAIRS = """
SELECT a.subset, a.id, a.view, a.score, b.score, a.cluster, a.row = b.row
FROM main.samples a
JOIN other.samples b ON b.task = a.task AND b.subset = a.subset AND b.id = a.id AND b.view = a.view
WHERE a.task = ? ORDER BY a.subset, a.id, a.view
"""
_COLUMNS = ", ".join(IndexedSample.__dataclass_fields__)


class SampleIndex:
    """The index of one run folder. A context manager; reading needs `update` at least once."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.connection = connection

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
        if not self._is_counted():
            self._count()
        self.connection.commit()

    def is_current(self) -> bool:
        """Whether the index says all that the record files hold."""
        starts = self._starts(_headlines(self.folder))
        whole = starts is not None and all(path.stat().st_size == start for path, start in starts.items())
        return whole and self._is_counted()

    def _is_counted(self) -> bool:
        last, counted = "SELECT coalesce(max(n), 0) FROM samples", "SELECT coalesce(max(upto), 0) FROM counted"
        return bool(self.connection.execute(f"SELECT ({last}) = ({counted})").fetchone()[0])

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
        return int(self.connection.execute("SELECT coalesce(sum(n), 0) FROM totals").fetchone()[0])

    def tasks(self) -> list[str]:
        """The tasks that have samples."""
        return [task for (task,) in self.connection.execute("SELECT DISTINCT task FROM totals ORDER BY task")]

    def totals(self, task: str = "") -> dict[str, dict[str, int]]:
        """Subset -> kind -> how many samples; of a task, or of all together."""
        found: dict[str, dict[str, int]] = {}
        where, values = ("WHERE task = ?", [task]) if task else ("", [])
        for subset, kind, n in self.connection.execute(
            f"SELECT subset, kind, sum(n) FROM totals {where} GROUP BY subset, kind", values
        ):
            found.setdefault(subset, {})[kind] = n
        return found

    def kinds(self, filters: Filters) -> dict[str, int]:
        """Kind -> how many samples the other filters leave; at most 10,000 are looked at where words are searched."""
        if filters.is_counted:
            where, values = where_of(replace(filters, kind=""))
            counted = self.connection.execute(f"SELECT kind, sum(n) FROM totals {where} GROUP BY kind", values)
            return dict(counted.fetchall())
        rows, values = rows_of(replace(filters, kind=""))
        inner = f"SELECT kind FROM {rows} LIMIT {MOST_COUNTED}"
        return dict(self.connection.execute(f"SELECT kind, count(*) FROM ({inner}) GROUP BY kind", values).fetchall())

    def page(self, filters: Filters, start: int = 0, order: str = "file") -> list[IndexedSample]:
        """The samples from place `start` on, at most `PAGE`. order: one of `ORDERS`."""
        rows, values = rows_of(filters)
        by = place_of(filters) if order == "file" else ORDERS[order]
        # The inner query needs an index alone, so that the rows before the page are not read.
        wanted = f"SELECT samples.n FROM {rows} ORDER BY {by} LIMIT {PAGE} OFFSET ?"
        found = self.connection.execute(
            f"SELECT {_COLUMNS} FROM samples WHERE n IN ({wanted}) ORDER BY {ORDERS[order]}", [*values, start]
        )
        return [IndexedSample(*row) for row in found]

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
        place = place_of(filters)
        found: list[int | None] = []
        for side, way in (("<", "DESC"), (">", "ASC")):
            rows, values = rows_of(filters, more=f"{place} {side} ?")
            query = f"SELECT {place} FROM {rows} ORDER BY {place} {way} LIMIT 1"
            row = self.connection.execute(query, [*values, n]).fetchone()
            found.append(row[0] if row else None)
        return found[0], found[1]

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

    def pairs(self, other: SampleIndex, task: str) -> Iterator[IndexedPair]:
        """The samples of a task that this run and another one hold, one at a time, by subset and id."""
        ((_, _, file), *_) = other.connection.execute("PRAGMA database_list").fetchall()
        self.connection.execute("ATTACH DATABASE ? AS other", [file])
        try:
            yield from itertools.starmap(IndexedPair, self.connection.execute(_PAIRS, [task]))
        finally:
            self.connection.execute("DETACH DATABASE other")

    def causes(self, task: str) -> list[tuple[str, int]]:
        """(error, how many samples) of what failed, the most frequent first."""
        return self.connection.execute(
            "SELECT error, count(*) FROM samples WHERE task = ? AND kind = 'failed' GROUP BY 1 ORDER BY 2 DESC LIMIT 8",
            [task],
        ).fetchall()

    def letters(self, task: str) -> list[tuple[str, str, int]]:
        """(answer, gold, how many samples) of wrong samples whose answers are short, the most frequent first."""
        return self.connection.execute(
            "SELECT answer, gold, n FROM letters WHERE task = ? ORDER BY n DESC LIMIT 400", [task]
        ).fetchall()

    def chances(self, task: str) -> dict[str, tuple[float, int]]:
        """Subset -> the sum over its samples of what a guess among the options would score, and of how many."""
        return {
            subset: (total, n)
            for subset, total, n in self.connection.execute(
                "SELECT subset, sum(chance), sum(chances) FROM totals WHERE task = ? GROUP BY 1", [task]
            )
            if n
        }

    def calibration(self, task: str) -> list[tuple[float, float, int]]:
        """(mean confidence, share right, how many) in tenths of confidence, of samples that have one."""
        return self.connection.execute(
            "SELECT confidence, share, n FROM calibration WHERE task = ? ORDER BY 1", [task]
        ).fetchall()

    def lengths(self, task: str) -> list[tuple[int, int, int]]:
        """(characters from, how many samples, how many of them right): replies by length, in powers of two."""
        return self.connection.execute(
            "SELECT start, n, hits FROM lengths WHERE task = ? ORDER BY 1", [task]
        ).fetchall()

    def _read(self, path: Path, start: int, seen: str, headlines: Mapping[str, str]) -> Iterator[int]:
        """Index the lines of a file from a byte on; yields how many bytes were read, from time to time."""
        rows: list[tuple[Any, ...]] = []
        words: list[tuple[int, str]] = []
        number = int(self.connection.execute("SELECT coalesce(max(n), 0) FROM samples").fetchone()[0])
        identity, offset, known = _identity(path), start, start

        def write() -> int:
            nonlocal known
            self._write(rows, words)
            self.connection.execute(
                "INSERT OR REPLACE INTO files VALUES(?, ?, ?, ?)", [path.name, identity, offset, seen]
            )
            self.connection.commit()  # one that is stopped here goes on from here
            rows.clear()
            words.clear()
            read, known = offset - known, offset
            return read

        with path.open("rb") as handle:
            handle.seek(start)
            for line in handle:
                if not line.endswith(b"\n"):  # half written: a run is at work
                    break
                with contextlib.suppress(*UNREADABLE):  # such lines are no samples, here as in a report
                    fields = parse_line(line)
                    row = (number + 1, path.name, offset, len(line), *_columns(fields, headlines))
                    number += 1
                    rows.append(row)
                    words.append((number, searched(fields)))
                offset += len(line)
                if len(rows) >= _BATCH:
                    yield write()
        yield write()

    def _write(self, rows: Sequence[Sequence[Any]], words: Iterable[tuple[int, str]]) -> None:
        if not rows:
            return
        # The last line of a sample wins, as in the record itself.
        marks = ", ".join("?" * len(rows[0]))
        self.connection.executemany(f"INSERT OR REPLACE INTO samples VALUES({marks})", rows)
        self.connection.executemany("INSERT INTO words(rowid, text) VALUES(?, ?)", words)

    def _clear(self) -> None:
        for table in ("samples", "files", "counted", *_COUNTED):
            self.connection.execute(f"DELETE FROM {table}")
        self.connection.execute("INSERT INTO words(words) VALUES('delete-all')")

    def _count(self) -> None:
        for table, rows in _COUNTED.items():
            self.connection.execute(f"DELETE FROM {table}")
            self.connection.execute(f"INSERT INTO {table} {rows}")
        self.connection.execute("DELETE FROM counted")
        self.connection.execute("INSERT INTO counted SELECT coalesce(max(n), 0) FROM samples")


_LENGTH = f"""CASE WHEN size = 0 THEN 0
{" ".join(f"WHEN size < {2**k} THEN {2 ** (k - 1)}" for k in range(1, 20))}
ELSE {2**19} END"""
_COUNTED = {
    "totals": "SELECT task, subset, kind, count(*), total(chance), count(chance) FROM samples GROUP BY 1, 2, 3",
    "letters": f"""
        SELECT task, answer, gold, count(*) FROM samples
        WHERE kind = 'wrong' AND length(answer) <= {_SHORT} AND length(gold) <= {_SHORT} GROUP BY 1, 2, 3""",
    "calibration": """
        SELECT task, avg(confidence), avg(kind = 'right'), count(*) FROM samples
        WHERE confidence IS NOT NULL AND kind IN ('right', 'wrong')
        GROUP BY task, min(cast(confidence * 10 AS INTEGER), 9)""",
    "lengths": f"SELECT task, {_LENGTH}, count(*), sum(kind = 'right') FROM samples GROUP BY 1, 2",
}
"""What pages say of all samples of a task, counted once."""


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")  # it can be made again from the records
    connection.execute("PRAGMA cache_size = -16000")
    if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if not name.startswith(("sqlite_", "words_")):
                connection.execute(f"DROP TABLE IF EXISTS {name}")
        connection.executescript(_SCHEMA + f"PRAGMA user_version = {_VERSION};")
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


def _columns(fields: RecordLine, headlines: Mapping[str, str]) -> tuple[Any, ...]:
    key = key_in(fields)
    scores = fields["scores"]
    score = scores.get(headlines.get(key.task, ""), next(iter(scores.values()), None))
    answer, confidence = _answer(fields)
    judge: Mapping[str, JSON] = fields.get("judge") or {}
    replies = fields["responses"]
    texts = [reply.get("text") or "" for reply in replies]
    tokens = [reply["completion_tokens"] for reply in replies if isinstance(reply.get("completion_tokens"), int)]
    return (
        *key,
        sample_kind(fields["error"], fields["unparsed"], score, judge.get("scale")),
        float(score) if isinstance(score, int | float) else None,
        fields["cluster"],
        row_digest(fields["doc"], fields["target"], fields["choices"], fields["cluster"]),
        answer,
        gold_words(fields["target"], fields["choices"])[:_SHOWN],
        confidence,
        chance_of(fields["target"], fields["choices"]),
        question_of(fields),
        sum(map(len, texts)),
        sum(tokens) if tokens else None,
        any(reply.get("finish_reason") == "length" for reply in replies),
        fields["error"],
    )


def _answer(fields: RecordLine) -> tuple[str, float | None]:
    """What was read from the reply, or the likeliest option and its probability among the options."""
    for found in fields["answers"].values():
        return (str(found[0])[:_SHOWN] if found and found[0] is not None else "", None)
    logprobs = [float(value) for reply in fields["responses"] for value in reply.get("logprobs") or ()]
    if shares := option_shares(fields["choices"], logprobs):
        best = max(range(len(shares)), key=shares.__getitem__)
        return fields["choices"][best][:_SHOWN], shares[best]
    text = next((reply.get("text") for reply in fields["responses"] if reply.get("text")), "") or ""
    return " ".join(text.split())[:_SHOWN], None


def question_of(fields: RecordLine) -> str:
    """The first line of what was asked, without what samples share."""
    text = _own_text(fields).strip()
    return " ".join(text[: 4 * _SHOWN].split())[:_SHOWN]


def _own_text(fields: RecordLine) -> str:
    prompt = fields["prompt"]
    if prompt.get("messages"):
        content: JSON = prompt["messages"][-1]["content"]
        return content if isinstance(content, str) else "".join(part for part in content if isinstance(part, str))
    return prompt.get("suffix", "")


def searched(fields: RecordLine) -> str:
    """What a search looks through: the sample's own prompt and its replies, each character of Chinese a word."""
    texts = [_own_text(fields)[:_SEARCHED], *fields["choices"]]
    texts += [(reply.get("text") or "")[:_SEARCHED] for reply in fields["responses"]]
    return separated("\n".join(texts))
