"""The parts of prompts that many samples share, once each: `prompts.jsonl`.

The file is only added to, and always before the records that refer to it, so that a kill at any moment leaves no record
whose prompt is lost. Texts are read back when they are needed; in memory are only their places.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from harness import files
from harness.record.codec import decode_messages, encode_line, encode_messages
from harness.record.file_types import problem_of
from harness.record.journal import UNREADABLE_FOLDER
from harness.record.record_fields import SharedPromptFields
from harness.types import JSON, Message, Prompt

PROMPTS_FILE = "prompts.jsonl"
_CACHE_SIZE = 256
Shared = str | tuple[Message, ...]


class SharedPrompts:
    """Gives each shared part a reference (16 hexadecimal digits of the SHA-256 of its line) and finds it again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        self._size = 0
        self._unreadable: list[bytes] = []
        self._pending: dict[str, bytes] = {}
        self._reference = functools.lru_cache(_CACHE_SIZE)(_reference)
        self._text = functools.lru_cache(_CACHE_SIZE)(self._read_text)

    def load(self, say: files.Say, *, repair: bool) -> None:
        """Index the file. A line that cannot be read is named; the records that need it are left out later."""
        if repair and self.path.exists():
            files.repair(self.path, say, self._aside)
        for number, offset, line in files.lines(self.path):
            self._size = offset + len(line)
            if line.isspace():
                continue
            try:
                fields = json.loads(line)
                if problem_of(fields, SharedPromptFields) is not None:
                    raise ValueError("not a shared prompt")
                self._places[fields["hash"]] = (offset, len(line))
            except (ValueError, KeyError, TypeError, RecursionError):
                self._unreadable.append(line)
                if repair or line.endswith(b"\n"):
                    say(f"{self.path}:{number}: not a readable prompt; the line is left out")

    @property
    def _aside(self) -> Path:
        return self.path.parent / UNREADABLE_FOLDER / self.path.name

    def __contains__(self, reference: str) -> bool:
        return reference in self._places or reference in self._pending

    def refer(self, prompt: Prompt) -> str | None:
        """The reference to a prompt's shared part, which is kept for the next `flush`; None where nothing is shared."""
        shared: Shared = prompt.messages[: prompt.shared_messages] if prompt.is_chat else prompt.prefix
        if not shared:
            return None
        reference = self._reference(shared)
        if reference not in self:
            self._pending[reference] = encode_line({"hash": reference, **_content(shared)})
        return reference

    def resolve(self, reference: str) -> Shared:
        """The shared part itself; one object for all who ask. Raises ValueError for an unknown reference."""
        return self._text(reference)

    def _read_text(self, reference: str) -> Shared:
        fields: SharedPromptFields = json.loads(self._line(reference))
        return fields["text"] if "text" in fields else decode_messages(fields["messages"])

    def flush(self) -> None:
        """Write the parts that are new. Raises SaveError; they then stay for the next try."""
        if not self._pending:
            return
        offset = files.append(self.path, b"".join(self._pending.values()), self._size)
        for reference, line in self._pending.items():
            self._places[reference] = (offset, len(line))
            offset += len(line)
        self._size = offset
        self._pending.clear()

    def compact(self, used: Iterable[str]) -> None:
        """Leave the parts that are used, in the order of their first use."""
        wanted = list(dict.fromkeys(used))
        if wanted == list(self._places):
            return
        data = [self._line(reference) for reference in wanted]
        files.set_aside(self._aside, self._unreadable)
        self._unreadable = []
        files.replace(self.path, data)
        self._places, offset = {}, 0
        for reference, line in zip(wanted, data, strict=True):
            self._places[reference] = (offset, len(line))
            offset += len(line)
        self._size = offset

    def _line(self, reference: str) -> bytes:
        if reference in self._pending:
            return self._pending[reference]
        if reference not in self._places:
            raise ValueError(f"its shared prompt {reference} is not in {PROMPTS_FILE}")
        offset, length = self._places[reference]
        try:
            with self.path.open("rb") as handle:
                handle.seek(offset)
                line = handle.read(length)
        except FileNotFoundError:
            raise files.disturbed(self.path) from None
        if reference.encode() not in line:
            raise files.disturbed(self.path)
        return line


def _content(shared: Shared) -> dict[str, JSON]:
    return {"text": shared} if isinstance(shared, str) else {"messages": encode_messages(shared)}


def _reference(shared: Shared) -> str:
    return hashlib.sha256(encode_line(_content(shared))).hexdigest()[:16]
