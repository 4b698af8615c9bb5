"""Brings files from a server into a cache folder: whole or not at all, tried again only where that can help."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from io import BufferedRandom
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness import files
from harness.errors import DataError, SaveError
from harness.quick import dataclass
from harness.retry import RetriesExhausted, Retryable, RetryPolicy, asked_pause, is_throttling, may_pass

if TYPE_CHECKING:
    import requests

TIMEOUT = (10, 60)
"""Seconds to connect, and seconds of silence while reading."""
SLOWEST = 500.0
"""Bytes a second, on the average of a transfer that has taken a minute: what drips has no end."""
PATIENCE = 60.0
"""Seconds before a transfer is held against `SLOWEST`."""
LARGEST_DOCUMENT = 256 << 20
"""Bytes of a JSON document; files of rows may be larger."""
_WORTH_KEEPING = 1 << 20
"""Bytes from which on the next command goes on from what came."""
_CHUNK = 1 << 16
"""Bytes. What a broken connection left of the last one is asked for again."""
_Answer = TypeVar("_Answer")


class Unreachable(DataError):
    """A server that could not be asked. What was fetched before may still serve."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server, as errors call it, and what every request to it carries.

    permission: what a user must do where the server says 401 or 403. policy: how often it is asked again.
    """

    title: str
    permission: str
    headers: Mapping[str, str] = field(default_factory=dict)
    policy: RetryPolicy = field(default_factory=RetryPolicy.for_data)

    def json(self, url: str, what: str, params: Mapping[str, Any] | None = None) -> Any:
        """GET a JSON document. Raises DataError, and Unreachable after the last attempt."""

        def read(reply: requests.Response) -> Any:
            try:
                return json.loads(b"".join(steadily(reply, what, LARGEST_DOCUMENT)))
            except ValueError as error:
                raise ConnectionError(f"the reply is not JSON: {error}") from error

        return self._get(url, what, read, dict, params)

    def fetch(self, url: str, to: Path, what: str, size: int | None = None, sha256: str | None = None) -> Path:
        """Bring the file at `url` to `to`. Raises DataError, SaveError, and Unreachable after the last attempt.

        size, sha256: what the server's listing says the file is. A file that is there and fits is not asked for again;
        without them the server is asked whether it has a newer one, by the ETag. What came is moved to `to` when it is
        whole; a connection that breaks is taken up where it broke, with a SHA-256 also by the next command.
        """
        if _fits(to, size, sha256):
            return to
        partial = _Partial(to, size, sha256)
        try:
            if partial.is_whole():
                return partial.put_in_place()
            return self._get(url, what, partial.receive, partial.headers)
        except (Unreachable, KeyboardInterrupt):
            partial.keep()
            raise
        finally:
            partial.close()

    def _get(
        self,
        url: str,
        what: str,
        use: Callable[[requests.Response], _Answer],
        headers: Callable[[], Mapping[str, str]],
        params: Mapping[str, Any] | None = None,
    ) -> _Answer:
        import requests
        from urllib3.exceptions import HTTPError, NameResolutionError

        def ask() -> _Answer:
            sent = {"Accept-Encoding": "identity", **self.headers, **headers()}
            try:
                with requests.get(url, params=params, headers=sent, timeout=TIMEOUT, stream=True) as reply:
                    if reply.status_code < 400:
                        return use(reply)
                    raise self._refusal(reply, what)
            except (requests.RequestException, HTTPError, ConnectionError) as error:
                if isinstance(getattr(next(iter(error.args), None), "reason", None), NameResolutionError):
                    raise Unreachable(f"{what}: {self.title} cannot be reached: its name is not known here") from error
                raise Retryable(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error

        try:
            return self.policy.call(ask)
        except RetriesExhausted as error:
            times = "1 attempt" if error.attempts == 1 else f"{error.attempts} attempts"
            raise Unreachable(f"{what}: {self.title} could not be reached after {times} ({error})") from error

    def _refusal(self, reply: requests.Response, what: str) -> DataError | Retryable:
        """The error that a status stands for: final, or of a kind that may pass."""
        status = reply.status_code
        if status in (401, 403):
            return DataError(f"{what}: {self.title} says {status}, no permission: {self.permission}")
        if status in (404, 410):
            return DataError(f"{what}: is not on {self.title} ({status})")
        if not may_pass(status) and status != 416:  # a range of a file that has changed meanwhile
            return DataError(f"{what}: {self.title} says {status}")
        pause = asked_pause(reply.headers, "")
        return Retryable(f"it says {status}", pause=pause, throttled=is_throttling(status, pause))


def steadily(reply: requests.Response, what: str, most: float = math.inf) -> Iterator[bytes]:
    """The body of a reply, chunk by chunk. Raises `DataError` where it drips, or is larger than `most` bytes."""
    began, size = time.monotonic(), 0
    # `read1` gives what has come; `iter_content` waits for a whole chunk, and so for ever where bytes drip.
    while chunk := reply.raw.read1(_CHUNK, decode_content=True):
        size += len(chunk)
        seconds = time.monotonic() - began
        if size > most:
            raise DataError(f"{what}: the reply is larger than {most / (1 << 20):,.0f} MB")
        if seconds > PATIENCE and size / seconds < SLOWEST:
            raise DataError(f"{what}: the server gives {size / seconds:.0f} bytes a second, which comes to no end")
        yield chunk


def cache_folder(*parts: str) -> Path:
    """A path below `$XDG_CACHE_HOME/harness` (or `~/.cache/harness`), one name for each part.

    A part with letters that no file name should hold gets a hash in their place, so that no two parts share a name.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    root = (Path(base) if base else Path.home() / ".cache") / "harness"
    for part in parts:
        safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in part).lstrip(".")[-80:]
        root /= part if safe == part else f"{hashlib.sha256(part.encode()).hexdigest()[:8]}-{safe}"
    return root


def _fits(path: Path, size: int | None, sha256: str | None) -> bool:
    if not path.is_file() or (size is None and sha256 is None):
        return False
    if size is not None and path.stat().st_size != size:
        return False
    if sha256 is None:
        return True
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == sha256.lower()


def _unwritable(path: Path, error: OSError) -> SaveError:
    help = f"{files.remedy(error, path)}, or name another cache folder by XDG_CACHE_HOME"
    return SaveError(f"{path}: cannot be written: {error.strerror or error}; {help}")


class _Partial:
    """A file on its way: what came so far stays over several attempts. Where its hash is known, it goes on from what a
    killed process has left of it."""

    def __init__(self, to: Path, size: int | None, sha256: str | None) -> None:
        self._to, self._size, self._sha256 = to, size, sha256
        self._etag_file = to.with_name(f"{to.name}.etag")
        self._etag = ""
        self._is_kept = False
        mark = sha256[:16].lower() if sha256 else ""
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            self._path = files.beside(to, mark)
            for left in files.left_behind(to.parent, mark) if mark else ():
                with suppress(OSError):  # somebody else was faster
                    left.replace(self._path)
                    break
            files.clear_left(to.parent)
            self._file: BufferedRandom = self._path.open("r+b" if self._path.exists() else "x+b")
        except OSError as error:
            raise _unwritable(to, error) from error

    def headers(self) -> Mapping[str, str]:
        """What the next request asks: the rest of what broke off, or only a file newer than the one that is there."""
        length = self._file.seek(0, os.SEEK_END)
        if length and (self._etag or self._sha256):
            return {"Range": f"bytes={length}-"} | ({"If-Range": self._etag} if self._etag else {})
        if not self._sha256 and self._to.is_file() and self._etag_file.is_file():
            return {"If-None-Match": self._etag_file.read_text(encoding="ascii")}
        return {}

    def receive(self, reply: requests.Response) -> Path:
        if reply.status_code == 304:
            return self._to
        if reply.status_code != 206:
            self._truncate()
        etag = reply.headers.get("ETag", "")
        self._etag = etag if etag.isascii() and not etag.startswith("W/") else ""
        for chunk in steadily(reply, self._to.name):
            try:
                self._file.write(chunk)
            except OSError as error:
                raise _unwritable(self._to, error) from error
        self._check(reply)
        return self.put_in_place(etag)

    def put_in_place(self, etag: str = "") -> Path:
        try:
            self._file.close()
            self._path.replace(self._to)
            if etag.isascii() and self._size is None and self._sha256 is None:
                self._etag_file.write_text(etag, encoding="ascii")
        except OSError as error:
            raise _unwritable(self._to, error) from error
        return self._to

    def is_whole(self) -> bool:
        """Whether all of it is there already, of an earlier process. What is as long and other bytes is emptied."""
        length = self._file.seek(0, os.SEEK_END)
        if self._sha256 is None or not length:
            return False
        if self._has_hash():
            return True
        if self._size is not None and length >= self._size:
            self._truncate()
        return False

    def _has_hash(self) -> bool:
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest() == str(self._sha256).lower()

    def _check(self, reply: requests.Response) -> None:
        length = self._file.seek(0, os.SEEK_END)
        plain = reply.status_code == 200 and "Content-Encoding" not in reply.headers
        said = int(reply.headers.get("Content-Length", -1)) if plain and self._size is None else self._size
        if said not in (None, -1, length):
            if length > int(said or 0):
                self._truncate()
            raise ConnectionError(f"{length} of {said} bytes came")
        if self._sha256 and not self._has_hash():
            self._truncate()
            raise ConnectionError("the file that came is not the one that the server lists (its SHA-256 differs)")

    def _truncate(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    def keep(self) -> None:
        """Leave what came to the next process, where it can know whether it is the same file."""
        with suppress(OSError):
            self._is_kept = self._sha256 is not None and self._file.seek(0, os.SEEK_END) >= _WORTH_KEEPING

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()
        if not self._is_kept:
            with suppress(FileNotFoundError):
                self._path.unlink()
