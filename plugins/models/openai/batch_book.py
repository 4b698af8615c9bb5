"""What a run has asked by batches, on disk: which questions are in which batch, and what came back.

A batch is written down before it is begun, with the file that it is made of, so that no kill can have it sent twice:
`0001.json` says what is in it, `0001.jsonl` holds the lines of its output and its errors, once it is done. A question
is named by a hash of what is sent and by its repeat, and so is found again by whoever asks it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from harness import SaveError, UsageError

from .errors import short

_UNFINISHED = ".tmp"
"""How the names of files end that are being written."""
_FIELDS = ("server", "endpoint", "ids", "file", "batch", "is_over")


@dataclass
class SentBatch:
    """Questions that go to a server together.

    server: its address. endpoint: the API that they are for. ids: of the questions, in the order of their lines. file:
    that they were uploaded in. batch: its id at the server, once that is known. is_over: its results are here.
    """

    path: Path
    server: str
    endpoint: str
    ids: list[str]
    file: str
    batch: str = ""
    is_over: bool = False
    known: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        self.known = set(self.ids)

    def save(self) -> None:
        """Raises SaveError."""
        with _replacing(self.path) as file:
            file.write(json.dumps({name: getattr(self, name) for name in _FIELDS}, indent=1).encode())

    @property
    def results(self) -> Path:
        return self.path.with_suffix(".jsonl")


@dataclass(frozen=True, slots=True)
class LineReply:
    """What came back for a question: the status of its reply, 0 where there was none, and the reply or an error."""

    status: int
    body: Any
    error: str


def question_id(route: str, body: Mapping[str, Any], repeat: int) -> str:
    """The name of a question: of what is sent, and which repetition of it."""
    content = json.dumps([route, body], sort_keys=True).encode()
    return f"{hashlib.sha256(content).hexdigest()[:40]}-{repeat}"


class BatchBook:
    """The folder of a run's batches. `sent` are all of them; `problems` collects what could not be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent: list[SentBatch] = []
        self.problems: list[str] = []
        self.has_answers = False
        """Whether any question was answered, as far as the status of its reply says."""
        self._places: dict[str, tuple[Path, int, int]] = {}
        for path in sorted(folder.glob("*.json")):
            batch = _read(path)
            self.sent.append(batch)
            if batch.is_over:
                self._index(batch)

    def clear_unfinished(self) -> None:
        """Take away the files that a killed command had not written to their end: one at a time asks for a run."""
        for path in self.folder.glob(f".*{_UNFINISHED}"):
            with contextlib.suppress(OSError):
                path.unlink()

    @property
    def under_way(self) -> list[SentBatch]:
        return [batch for batch in self.sent if not batch.is_over]

    def outcome(self, name: str) -> LineReply | None:
        """What came back for a question; None where nothing did."""
        if name not in self._places:
            return None
        path, offset, length = self._places[name]
        with path.open("rb") as file:
            file.seek(offset)
            found = _outcome(file.read(length))
        return found[1] if found else None

    def has(self, name: str) -> bool:
        """Whether anything came back for a question."""
        return name in self._places

    def take_problems(self) -> list[str]:
        """The problems that came since they were last taken."""
        taken, self.problems = self.problems, []
        return taken

    def forget(self, name: str) -> None:
        """The question is to be asked anew, whatever came back."""
        self._places.pop(name, None)

    def forget_failures(self) -> None:
        """Ask anew what failed, as every command does with the samples that failed."""
        for name in list(self._places):
            outcome = self.outcome(name)
            if outcome is None or outcome.status != 200:
                self.forget(name)

    def add(self, server: str, endpoint: str, ids: Sequence[str], file: str) -> SentBatch:
        """Write down a batch that is about to be begun. Raises SaveError."""
        number = max((int(batch.path.stem) for batch in self.sent), default=0) + 1
        batch = SentBatch(self.folder / f"{number:04}.json", server, endpoint, list(ids), file)
        batch.save()
        self.sent.append(batch)
        return batch

    def drop(self, batch: SentBatch) -> None:
        """Forget a batch that was never begun."""
        batch.path.unlink(missing_ok=True)
        self.sent.remove(batch)

    @contextlib.contextmanager
    def results(self, batch: SentBatch) -> Iterator[IO[bytes]]:
        """Where the lines of a batch that is done are to be written; at the end of the block it is over.

        Raises SaveError.
        """
        with _replacing(batch.results) as file:
            yield file
        batch.is_over = True
        batch.save()
        self._index(batch)

    def _index(self, batch: SentBatch) -> None:
        """Learn where each answer is. The first that came for a question counts."""
        known, odd = set(batch.ids), 0
        try:
            with batch.results.open("rb") as file:
                offset = 0
                for line in file:
                    found = _outcome(line) if line.strip() else None
                    if found is None or found[0] not in known:
                        odd += bool(line.strip())
                    elif found[1].status:
                        known.discard(found[0])
                        self._places[found[0]] = (batch.results, offset, len(line))
                        self.has_answers = self.has_answers or found[1].status == 200
                    offset += len(line)
        except OSError as error:
            self.problems.append(f"{batch.results}: cannot be read ({error.strerror}); its questions are asked anew")
        if odd:
            self.problems.append(f"batch {batch.batch}: {odd:,} lines of its results answer nothing that was asked")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path`, whole and on disk, at the end of the block. Raises SaveError."""
    try:
        path.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=_UNFINISHED, delete=False) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise SaveError(f"{path}: cannot be written: {error.strerror or error}") from error


def _read(path: Path) -> SentBatch:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        batch = SentBatch(path, **{name: fields[name] for name in _FIELDS})
        int(path.stem)
        right = all(isinstance(name, str) for name in batch.ids)
    except (OSError, ValueError, KeyError, TypeError):
        right = False
    if not right:
        raise UsageError(f"{path}: cannot be read: what it says was sent may be asked twice; remove it to ask anew")
    return batch


def _outcome(line: bytes) -> tuple[str, LineReply] | None:
    """(question, outcome) of a line of results; None for what is no such line."""
    try:
        value = json.loads(line)
        name, reply, error = str(value["custom_id"]), value.get("response"), value.get("error")
        status = int(reply.get("status_code") or 0) if isinstance(reply, dict) else 0
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    why = error.get("message") or error.get("code") if isinstance(error, dict) else error
    return name, LineReply(status, reply.get("body") if isinstance(reply, dict) else None, short(str(why or "")))
