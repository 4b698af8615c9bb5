"""How far a large run has come, noted now and then: after a kill the next command looks at nothing of that again.

`.begun.index` is a line of JSON for some thousand records: where each is, and which requests it answers. Between such
lines stand others with what the records add up to. `.begun.json` says how much of it and of the records holds, with the
SHA-256 of both. What is behind that in the files is looked at as ever, and where they are not as they were noted, all
is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from harness import files
from harness.record.journal import FileBeginning, NotedLines
from harness.record.known_answers import KnownAnswers
from harness.record.line_positions import LinePosition
from harness.record.manifest_fields import BegunFields
from harness.record.prompts import PROMPTS_FILE, SharedPrompts
from harness.record.sample_keys import SampleKeys
from harness.types import JSON, SampleKey

BEGUN_FILE, INDEX_FILE = ".begun.json", ".begun.index"
AT_ONCE = 5000
"""Records of one line of the index."""


class NotedSums:
    """What sessions have noted that their records add up to, in its order.

    It is read from the index whenever it is asked for: together it takes more memory than what it is added to.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._offsets = path, array("q")

    def add(self, offset: int) -> None:
        """Take the line that begins there."""
        self._offsets.append(offset)

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        if self._path is not None and self._offsets:
            with self._path.open("rb") as handle:
                for offset in self._offsets:
                    handle.seek(offset)
                    yield json.loads(handle.readline())["sums"]


@dataclass(slots=True)
class Begun:
    """What was noted of a run that did not come to its end.

    done: samples that need no second look. lines: those of each file. sums: what was noted of them.
    remarks: what the run said before it asked. index: the file that this was read from.
    """

    remarks: Sequence[str]
    index: Any
    size: int
    done: SampleKeys = field(default_factory=SampleKeys)
    lines: dict[str, NotedLines] = field(default_factory=dict)
    answers: KnownAnswers = field(default_factory=KnownAnswers)
    sums: NotedSums = field(default_factory=NotedSums)

    @classmethod
    def of(cls, folder: Path, fields: BegunFields) -> Self | None:
        """What is noted in a folder; None where a file is not as it was, or the shared prompts of its records are not
        all there. Raises OSError and ValueError."""
        known = {name: FileBeginning(*noted) for name, noted in fields["files"].items()}
        index = known.pop(INDEX_FILE)
        begun = cls(fields["remarks"], hashlib.sha256(), index.size, sums=NotedSums(folder / INDEX_FILE))
        for name, beginning in known.items():
            noted = NotedLines.of(folder / name, beginning)
            if noted is None:
                return None
            begun.lines[name] = noted
        for _, offset, line in files.lines(folder / INDEX_FILE):
            if offset >= index.size:
                break
            begun.index.update(line)
            begun._take(folder, json.loads(line), offset)
        prompts = SharedPrompts(folder / PROMPTS_FILE)
        prompts.load(lambda text: None, repair=False)
        are_there = all(prefix in prompts for noted in begun.lines.values() for prefix in noted.places.prefixes())
        return begun if are_there and begun.index.hexdigest() == index.sha256 else None

    def _take(self, folder: Path, noted: Mapping[str, Any], offset: int) -> None:
        if "sums" in noted:
            self.sums.add(offset)
            return
        file, groups = folder / noted["file"], noted["groups"]
        places = self.lines[noted["file"]].places
        for group, number, offset, length, digest, prefix, failed, answers in noted["records"]:
            task, subset, view = groups[group]
            key = SampleKey(task, subset, number, view)
            places.put(key, LinePosition(offset, length, digest.to_bytes(8, "big"), None, prefix))
            self.answers.learn_hashes(file, answers, offset)
            if failed:
                self.done.discard(key)
            else:
                self.done.add(key)


class BegunIndex:
    """The index of a run that goes on, as it grows. A session that goes on with it begins at its end."""

    def __init__(self, folder: Path, begun: Begun | None) -> None:
        self._path, self._file = folder / INDEX_FILE, files.GrowingFile()
        self._hash = hashlib.sha256() if begun is None else begun.index
        self._size = 0 if begun is None else begun.size
        self._records: list[tuple[JSON, ...]] = []
        self._groups: dict[tuple[str, str, int], int] = {}
        self._name = ""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb+") as handle:
            handle.truncate(self._size)

    def add(self, name: str, key: SampleKey, place: LinePosition, answers: Sequence[int], *, failed: bool) -> None:
        """Take a record of the file of this name. answers: hashes of the requests that it answers. Raises SaveError."""
        if name != self._name or len(self._records) >= AT_ONCE:
            self._write_records()
        self._name = name
        group = self._groups.setdefault((key.task, key.subset, key.view), len(self._groups))
        digest = int.from_bytes(place.digest, "big")
        record = group, key.id, place.offset, place.length, digest, place.prefix, int(failed), list(answers)
        self._records.append(record)

    def note(self, sums: Mapping[str, Any]) -> FileBeginning:
        """Write all that was taken, and what it adds up to. Returns the file as it is now. Raises SaveError."""
        self._write_records()
        self._write({"sums": sums})
        return FileBeginning(self._size, self._hash.hexdigest())

    def close(self) -> None:
        self._file.close()

    def _write_records(self) -> None:
        if self._records:
            self._write({"file": self._name, "groups": list(self._groups), "records": self._records})
        self._records, self._groups = [], {}

    def _write(self, fields: Mapping[str, Any]) -> None:
        line = json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"
        self._file.append(self._path, line, self._size)
        self._hash.update(line)
        self._size += len(line)


def read_begun(path: Path) -> BegunFields | None:
    """What `RunFolder.note_begun` wrote; None where nothing is there that can be read."""
    try:
        fields = json.loads(files.read_text(path / BEGUN_FILE))
    except (OSError, ValueError, RecursionError):
        return None
    return cast(BegunFields, fields) if isinstance(fields, dict) else None


def forget_begun(path: Path) -> None:
    """Take away what was noted in a folder: first what says that it holds."""
    for name in (BEGUN_FILE, INDEX_FILE):
        with contextlib.suppress(OSError):
            (path / name).unlink(missing_ok=True)
