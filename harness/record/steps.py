"""What was answered within conversations that are under way: a line an answer, so that a kill loses none of it.

A conversation is one record once it is over; until then its steps are here, by the keys of their requests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from harness import files
from harness.record.codec import decode_response, encode_line, encode_response
from harness.types import Response

STEPS_FILE = Path("conversations") / "steps.jsonl"


class Steps:
    """The file of steps of a run folder. It is read when it is first asked for."""

    def __init__(self, folder: Path, say: files.Say) -> None:
        self._path, self._say = folder / STEPS_FILE, say
        self._known: dict[str, Response] | None = None
        self._size = 0

    @property
    def known(self) -> Mapping[str, Response]:
        """Key -> answer, of all steps that have one."""
        return MappingProxyType(self._read())

    def add(self, key: str, response: Response) -> None:
        """Put an answer on disk. Raises `SaveError`."""
        known = self._read()
        data = encode_line({"key": key, "response": encode_response(response), "seconds": response.seconds})
        if not known:
            try:
                self._path.parent.mkdir(exist_ok=True)
            except OSError as error:
                raise files.save_error(self._path, error) from error
        self._size = files.append(self._path, data, self._size) + len(data)
        known[key] = response

    def _read(self) -> dict[str, Response]:
        if self._known is None:
            self._known = {}
            if self._path.is_file():
                files.repair(self._path, self._say, self._path.with_suffix(".unreadable"))
            for number, offset, line in files.lines(self._path):
                self._size = offset + len(line)
                try:
                    fields = json.loads(line)
                    self._known[str(fields["key"])] = decode_response(fields["response"], fields["seconds"])
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    self._say(f"{self._path}:{number}: is no step of a conversation ({error}); it is asked again")
        return self._known
