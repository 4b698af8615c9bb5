"""The file of a task's records: lines are only ever added, the last one of a sample wins, and an index knows where."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from harness import files
from harness.record.codec import key_in, line_key, parse_line, without_seconds
from harness.record.line_positions import DIGEST_BYTES, Knowledge, LinePosition, LinePositions
from harness.record.record_fields import RecordLine
from harness.spool import FEW
from harness.types import SampleKey

# What a line that is valid JSON, but no record, can raise while it is read.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_BLOCK = 1 << 20
_NAMED = 5
"""So many unreadable lines of a file are named each by itself."""
UNREADABLE_FOLDER = "unreadable"
"""The folder of a run folder that keeps lines which cannot be read. Nothing that a run holds is ever deleted."""


class FileBeginning(NamedTuple):
    """The first bytes of a file: how many, and their SHA-256."""

    size: int
    sha256: str


def _hash_of_beginning(path: Path, size: int) -> Any:
    """The SHA-256 of the first bytes of a file, which goes on behind them; None where it has fewer. Raises OSError."""
    digest, left = hashlib.sha256(), size
    with path.open("rb") as handle:
        while left and (data := handle.read(min(left, _BLOCK))):
            digest.update(data)
            left -= len(data)
    return None if left else digest


@dataclass(slots=True)
class NotedLines:
    """The first lines of a file as they were noted, and still are. hash: of them; as_found: of `_as_found`."""

    size: int
    hash: Any
    as_found: tuple[int, ...]
    places: LinePositions = field(default_factory=LinePositions)

    @classmethod
    def of(cls, path: Path, beginning: FileBeginning) -> Self | None:
        """None where the file begins otherwise. Raises OSError."""
        as_found, digest = _as_found(path), _hash_of_beginning(path, beginning.size)
        is_same = digest is not None and digest.hexdigest() == beginning.sha256
        return cls(beginning.size, digest, as_found) if is_same else None


def _as_found(path: Path) -> tuple[int, ...]:
    """What tells whether somebody has written to a file since."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


class EncodedRecord(NamedTuple):
    """An encoded record on its way to the file, made by `of`. digest: of `LinePosition`."""

    key: SampleKey
    data: bytes
    digest: bytes
    prefix: str | None

    @classmethod
    def of(cls, key: SampleKey, data: bytes, prefix: str | None) -> Self:
        return cls(key, data, _digest(data), prefix)

    def at(self, offset: int) -> LinePosition:
        return LinePosition(offset, len(self.data), self.digest, None, self.prefix)


class Journal:
    """One `<task>.jsonl`. Opened for writing by `recover`, for reading by `survey`."""

    def __init__(
        self, path: Path, say: files.Say, file: files.GrowingFile, know: Callable[[RecordLine], Knowledge]
    ) -> None:
        """file: what adds lines for all journals of a folder, so that one of them is open. know: what a line says."""
        self.path = path
        self._say = say
        self._file = file
        self._know = know
        self._places = LinePositions()
        self._hash: Any = hashlib.sha256()
        """Of all of the file; None once it was written anew."""
        self._surveyed: array[int] | None = None
        """Where the winning lines begin, of a file that is only read: a million places take 8 MB so."""
        self._size = 0
        self._unreadable: list[tuple[int, int]] = []
        """(offset, length) of the lines that are no records; they leave the file when it is written anew."""
        self._complained: set[int] = set()
        """The numbers of the lines that were found unreadable."""
        self._untold = 0

    def __len__(self) -> int:
        return len(self._places) if self._surveyed is None else len(self._surveyed)

    @property
    def aside(self) -> Path:
        """Where lines are kept that cannot be read."""
        return self.path.parent / UNREADABLE_FOLDER / self.path.name

    @property
    def is_looked_at(self) -> bool:
        """Whether every line that is read from it was written by this process, or looked at by `recover`."""
        return self._surveyed is None

    @property
    def unreadable(self) -> int:
        """How many lines of the file are no records."""
        return len(self._unreadable)

    def recover(
        self,
        accept: Callable[[RecordLine, LinePosition], LinePosition],
        noted: NotedLines | None = None,
    ) -> None:
        """Repair the file and index it. `accept` sees the fields of every line, and where it is, adds what is known of
        it, and refuses one by raising.

        What cannot be read is named, with its line, and left out; its sample runs again. noted: the first lines, which
        are not looked at. Raises SaveError where somebody has written to the file since these were noted.
        """
        if noted is not None:
            if noted.as_found != _as_found(self.path):
                raise files.disturbed(self.path)
            self._places, self._size, self._hash = noted.places, noted.size, noted.hash
        files.repair(self.path, self._say, self.aside)
        for number, offset, line in files.lines(self.path, self._size, len(self._places) + 1):
            self._size = offset + len(line)
            self._hash.update(line)
            if line.isspace():  # an editor's, and it says nothing
                continue
            try:
                fields = parse_line(line)
                key = key_in(fields)
                prefix = fields["prompt"].get("prefix")
                self._places.put(key, accept(fields, EncodedRecord.of(key, line, prefix).at(offset)))
            except UNREADABLE as error:
                self._unreadable.append((offset, len(line)))
                self.complain(number, error)

    def survey(self) -> None:
        """Index the file as it is, without changing it and without reading more of a line than its beginning."""
        hashes, offsets = array("Q"), array("q")  # a hash of a key is smaller than the key
        for number, offset, line in files.lines(self.path):
            if line.isspace():
                continue
            whole = line.endswith(b"\n") or files.is_whole(line)
            key = line_key(line) if whole else None
            if key is None:
                self.complain(number, ValueError("not a record" if whole else "half written"))
                continue
            text = "\0".join(map(str, key)).encode("utf-8", "surrogatepass")
            hashes.append(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big"))
            offsets.append(offset)
        self._surveyed = _last_of_each(hashes, offsets)

    def known(self, key: SampleKey) -> Knowledge | None:
        """What is known of a sample; None where it is not in the file."""
        place = self._places.get(key)
        if place is None or place.known is not None:
            return place and place.known
        (line,) = self._pick([place])
        try:
            return self._know(parse_line(line))
        except UNREADABLE:
            return None

    def line(self, key: SampleKey) -> bytes:
        """The line of a sample that the file has. Raises SaveError where it is not as it was."""
        place = self._places.get(key)
        assert place is not None
        (line,) = self._pick([place])
        return line

    def says(self, line: EncodedRecord) -> bool:
        """Whether the file says already what the line says."""
        place = self._places.get(line.key)
        return place is not None and place.digest == line.digest

    def add(self, line: EncodedRecord) -> LinePosition:
        """Write a line. Returns where it is. Raises SaveError; the file is then as before."""
        place = line.at(self._file.append(self.path, line.data, self._size))
        self._places.put(line.key, place)
        self._size = place.offset + place.length
        if self._hash is not None:
            self._hash.update(line.data)
        return place

    @property
    def beginning(self) -> FileBeginning | None:
        """The file until now; None where it was written anew, or has lines that cannot be read."""
        is_whole = self._hash is not None and not self._unreadable
        return FileBeginning(self._size, self._hash.hexdigest()) if is_whole else None

    @property
    def is_as_written(self) -> bool:
        """Whether the file holds what this process has written or looked at, byte by byte, and nothing else."""
        beginning = self.beginning
        if beginning is None or not self.path.is_file() or self.path.stat().st_size != beginning.size:
            return False
        digest = _hash_of_beginning(self.path, beginning.size)
        return digest is not None and bool(digest.hexdigest() == beginning.sha256)

    def rewrite(self, task: str, lines: Iterable[EncodedRecord]) -> None:
        """Put new lines in the place of all lines of a task, at one stroke. Raises SaveError; all is then as before."""
        places = LinePositions()

        def chunks() -> Iterator[bytes]:
            offset = 0
            for key, place in self._places.items():
                if key[0] != task:  # Another task's lines in this file: see `RunFolder._journal`.
                    places.put(key, place._replace(offset=offset))
                    offset += place.length
                    yield from self._pick([place])
            for line in lines:
                places.put(line.key, line.at(offset))
                offset += len(line.data)
                yield line.data

        self._set_aside()
        self._file.close()
        if all(key.task == task for key in self._places.groups()):
            # The lines are still read, for the new ones are made from them; that takes their places and no more.
            self._surveyed, self._places = self._places.offsets(), LinePositions()
        files.replace(self.path, chunks())
        self._places, self._surveyed, self._hash = places, None, None
        self._size = places.size()

    def read(self, skip: int = 0) -> Iterator[tuple[int, bytes]]:
        """(line number, line) of the winning lines but the first `skip`, in the order of the file."""
        winners = self._places.offsets() if self._surveyed is None else self._surveyed
        wanted = iter(winners[skip:])
        next_winner = next(wanted, None)
        begin = (next_winner or 0, skip + 1) if skip else (0, 1)
        for number, offset, line in files.lines(self.path, *begin):
            if next_winner is None:
                break
            if offset == next_winner:
                next_winner = next(wanted, None)
                yield number, line

    def compact(self, rank: Callable[[SampleKey], tuple[int, ...]]) -> None:
        """Leave one line a sample, in the order (rank, subset, id, view). A file that is so already is not touched."""
        self._file.close()
        length = self._places.size()
        if self._size and not (self.path.is_file() and self.path.stat().st_size == self._size):
            raise files.disturbed(self.path)
        order = self._places.order(rank)
        if order is not None or length != self._size:
            self._set_aside()
            self._hash = None
            wanted = range(len(self._places)) if order is None else order
            files.replace(self.path, self._pick(self._places.at(wanted)))
            if order is not None:
                self._places.reorder(order)
        self._size = length

    def rank(self, rank: Callable[[SampleKey], tuple[int, ...]]) -> tuple[tuple[int, ...], str]:
        """Where this file stands among the files of the run."""
        return min(map(rank, self._places.groups()), default=()), self.path.name

    def prefixes(self) -> Iterator[str]:
        """References to the shared prompts that the winning lines use, each once, in the order of the index."""
        return self._places.prefixes()

    def complain(self, number: int, error: Exception) -> None:
        """Name a line that cannot be read; of many, the first ones, and the others are counted."""
        if number in self._complained:
            return
        self._complained.add(number)
        if len(self._complained) > _NAMED:
            self._untold += 1
            return
        cause = " ".join(str(error).split()) or type(error).__name__
        self._say(f"{self.path}:{number}: not a readable record ({cause}); the line is left out")

    def take_untold(self) -> str:
        """How many lines more cannot be read than were named since this was last asked; empty where there are none."""
        untold, self._untold = self._untold, 0
        what = (
            "1 more line is no readable record and is"
            if untold == 1
            else (f"{untold} more lines are no readable records and are")
        )
        return f"{self.path}: {what} left out" if untold else ""

    def _pick(self, places: Iterable[LinePosition]) -> Iterator[bytes]:
        """The lines of some samples, each as it was written. Raises SaveError where one is not."""
        with self.path.open("rb") as handle:
            for place in places:
                handle.seek(place.offset)
                line = handle.read(place.length)
                if _digest(line) != place.digest:
                    raise files.disturbed(self.path)
                yield line

    def _set_aside(self) -> None:
        """Keep the lines that cannot be read, which the file is about to lose."""
        if not self._unreadable:
            return
        with self.path.open("rb") as handle:
            lines = []
            for offset, length in self._unreadable:
                handle.seek(offset)
                lines.append(handle.read(length))
        files.set_aside(self.aside, lines)
        n = len(lines)
        what = "1 line that is no readable record is" if n == 1 else f"{n} lines that are no readable records are"
        self._say(f"{self.path}: {what} kept in {self.aside}")
        self._unreadable = []


def _last_of_each(hashes: array[int], offsets: array[int]) -> array[int]:
    """The offset of the last line of each hash, in the order of the file; offsets rise."""
    if len(offsets) <= FEW:
        return array("q", sorted(dict(zip(hashes, offsets, strict=True)).values()))
    import numpy as np

    order = np.argsort(np.frombuffer(hashes, dtype=np.uint64), kind="stable").astype(np.uint32)
    by_hash = np.frombuffer(hashes, dtype=np.uint64)[order]
    is_last = np.append(by_hash[1:] != by_hash[:-1], True)
    del by_hash
    kept = np.sort(order[is_last])
    return array("q", np.frombuffer(offsets, dtype=np.int64)[kept].tobytes())


def keys_digest(keys: Iterable[str]) -> bytes:
    """What `Knowledge.answered` holds for a sample with these request keys."""
    return hashlib.blake2b("\n".join(keys).encode(), digest_size=DIGEST_BYTES).digest()


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(without_seconds(line), digest_size=DIGEST_BYTES).digest()
