"""The folder of a live set: the files of its stages, and `live.json`, which says what they were made by."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from harness import files
from harness.errors import DataError, ExitCode, HarnessError, UsageError
from harness.quick import dataclass
from harness.record.codec import jsonable
from harness.record.lock import FolderLock
from harness.types import JSON

MANIFEST = "live.json"
PAGES, QUESTIONS, CHECKS, REVIEWS = "pages.jsonl", "questions.jsonl", "checks.jsonl", "reviews.jsonl"
MEASURES = "measures.jsonl"
IMAGES, ASKED, TASK = "images", "asked", "task"
MADE_BY = {PAGES: "capture", QUESTIONS: "write", CHECKS: "check", REVIEWS: "review", MEASURES: "measure"}
"""File -> the stage that writes it."""


class NothingLeft(HarnessError):
    """A stage came to its end, and all that it had was left out. Its file says why."""

    exit_code = ExitCode.SAMPLES_FAILED

    def __init__(self, what: str, reasons: Iterable[str | None]) -> None:
        left = [reason for reason in reasons if reason]
        listed = "; ".join(f"{reason}: {count:,}" for reason, count in counted(left).items())
        super().__init__(f"{what} ({listed}; the first: {left[0]})" if left else f"{what} (there was none)")


@dataclass(frozen=True, slots=True)
class Page:
    """One page, or why it was left out.

    source: its address, or its file below the folder that was given. date: when it was published (`2026-06-30`, or less
    exactly), and date_from: who says so (`page`, `feed`, `name` of the file, `given` on the command line). text: its
    text without what stands around it. image: its screenshot, below the folder of the set. captured: the day.
    again: of a page that was left out, whether the next capture tries it again.
    """

    id: str
    source: str
    title: str = ""
    date: str | None = None
    date_from: str = ""
    text: str = ""
    image: str | None = None
    digest: str = ""
    captured: str = ""
    left_out: str | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class LiveQuestion:
    """One question on a page, or why it was dropped. by: `text` or `screenshot`, what it was asked of. criteria: what a
    good answer has."""

    id: str
    page: str
    language: str
    by: str
    kind: str = ""
    question: str = ""
    answer: str = ""
    criteria: tuple[str, ...] = ()
    dropped: str | None = None


class LiveFolder:
    """Reads and writes the files of a live set. Raises `SaveError` where the disk does not take them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, path: Path) -> Self:
        """A folder in which something was captured. Raises `UsageError`."""
        if not (path / MANIFEST).is_file():
            raise UsageError(f"{path}: no live set is here; begin with: harness live capture SOURCE --to {path}")
        return cls(path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands out while one writes. Raises `UsageError` where one is at work."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(self.path)
        try:
            yield
        finally:
            lock.release()

    def lines(self, name: str) -> list[dict[str, JSON]]:
        """The lines of a file, of several with one id the last. Raises `UsageError` where its stage has not run, and
        `DataError` for a line that is none."""
        path = self.path / name
        if not path.is_file():
            raise UsageError(f"{path}: is not there yet: harness live {MADE_BY[name]} {self.path}")
        known: dict[str, dict[str, JSON]] = {}
        for number, _, line in files.lines(path):
            try:
                entry = json.loads(line)
                known[str(entry["id"])] = entry
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}:{number}: is no line of a live set: {type(error).__name__}: {error}") from None
        return list(known.values())

    def pages(self) -> list[Page]:
        return [_made(Page, entry, self.path / PAGES) for entry in self.lines(PAGES)]

    def questions(self) -> list[LiveQuestion]:
        made = (_made(LiveQuestion, entry, self.path / QUESTIONS) for entry in self.lines(QUESTIONS))
        return list(made)

    def append(self, name: str, entry: Mapping[str, JSON]) -> None:
        """Add a line, whole or not at all."""
        files.append(self.path / name, _line(entry))

    def replace(self, name: str, entries: Iterable[Mapping[str, JSON]]) -> None:
        files.replace(self.path / name, (_line(entry) for entry in entries))

    def repair(self, name: str, say: files.Say) -> None:
        """Take off what a kill has left half written."""
        if (self.path / name).is_file():
            files.repair(self.path / name, say, self.path / f"{name}.torn")

    @property
    def manifest(self) -> dict[str, JSON]:
        """What `live.json` holds; nothing where there is none. Raises `DataError`."""
        path = self.path / MANIFEST
        try:
            known = json.loads(files.read_text(path)) if path.exists() else {}
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
        return known if isinstance(known, dict) else {}

    def note(self, stage: str, **told: JSON) -> None:
        """Keep what a stage did in `live.json`, in the place of what it did before."""
        files.replace_json(self.path / MANIFEST, {**self.manifest, stage: jsonable(told)})


def as_line(entry: Page | LiveQuestion) -> dict[str, JSON]:
    """The fields that say something."""
    return {name: value for name, value in asdict(entry).items() if value not in (None, "", (), False)}


def counted(reasons: Iterable[str | None]) -> dict[str, int]:
    """Reason -> how often, the most frequent first. What follows a colon is of the single case."""
    found = Counter(reason.partition(": ")[0] for reason in reasons if reason)
    return dict(found.most_common())


def _line(entry: Mapping[str, JSON]) -> bytes:
    value = jsonable(dict(entry))
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a character, as broken pages have it
        return json.dumps(value, allow_nan=False).encode() + b"\n"


def _made(kind: type[Any], entry: Mapping[str, JSON], path: Path) -> Any:
    """A line as its type. Raises `DataError` for keys that it does not know."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise DataError(f"{path}: line '{entry.get('id')}': {str(error).partition(') ')[2] or error}") from None
