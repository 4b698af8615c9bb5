"""Brings files from a server into a cache folder: whole or not at all, tried again only where that can help."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError

if TYPE_CHECKING:
    import requests

ATTEMPTS = 4
TIMEOUT = (10, 60)
"""Seconds to connect, and seconds of silence while reading."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Server:
    """A server, as errors call it, and what every request to it carries.

    permission: what a user must do where the server says 401 or 403. delay: seconds before the second attempt; it
    doubles from then on.
    """

    title: str
    permission: str
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 1.0

    def json(self, url: str, what: str, params: Mapping[str, Any] | None = None) -> Any:
        """GET a JSON document. Raises DataError."""

        def read(reply: requests.Response) -> Any:
            try:
                return reply.json()
            except ValueError as error:
                raise ConnectionError(f"the reply is not JSON: {error}") from error

        return self._get(url, what, read, params)

    def fetch(self, url: str, to: Path, what: str, size: int | None = None, sha256: str | None = None) -> Path:
        """Put the file at `url` at `to`, unless it is there already. Raises DataError; `to` is then not there.

        size, sha256: what the server's listing says the file is; a file that differs is fetched again.
        """
        if to.is_file():
            return to

        def save(reply: requests.Response) -> Path:
            return _save(reply, to, size, sha256)

        saved: Path = self._get(url, what, save)
        return saved

    def _get(self, url: str, what: str, use: Any, params: Mapping[str, Any] | None = None) -> Any:
        import requests
        from urllib3.exceptions import HTTPError

        cause = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(self.delay * 2 ** (attempt - 1))
            try:
                with requests.get(url, params=params, headers=self.headers, timeout=TIMEOUT, stream=True) as reply:
                    if reply.status_code < 400:
                        return use(reply)
                    cause = self._refused(reply.status_code, what)
            except (requests.RequestException, HTTPError, ConnectionError) as error:
                if "NameResolutionError" in repr(error):
                    raise DataError(f"{what}: {self.title} cannot be reached: this machine has no network") from error
                cause = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise DataError(f"{what}: {self.title} could not be reached after {ATTEMPTS} attempts ({cause})")

    def _refused(self, status: int, what: str) -> str:
        """Raise for an answer that is final; return the cause where another attempt can help."""
        if status in (401, 403):
            raise DataError(f"{what}: {self.title} says {status}, no permission: {self.permission}")
        if status in (404, 410):
            raise DataError(f"{what}: is not on {self.title} ({status})")
        if status < 500 and status not in (408, 429):
            raise DataError(f"{what}: {self.title} says {status}")
        return f"it says {status}"


def cache_folder(*parts: str) -> Path:
    """A folder below `$XDG_CACHE_HOME/harness` (or `~/.cache/harness`). What no file name may hold becomes `_`."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = (Path(base) if base else Path.home() / ".cache") / "harness"
    safe = ["".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in part) for part in parts]
    return root.joinpath(*(part.strip(".") or "_" for part in safe))


def _save(reply: requests.Response, to: Path, size: int | None, sha256: str | None) -> Path:
    digest, length = hashlib.sha256(), 0
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=to.parent, suffix=".part")
    except OSError as error:
        raise DataError(f"{to}: cannot be written: {error.strerror}") from error
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            for chunk in reply.iter_content(_CHUNK):
                digest.update(chunk)
                length += len(chunk)
                _write(handle, chunk, to)
        expected = int(reply.headers.get("Content-Length", -1)) if size is None else size
        # A compressed reply is longer once it is unpacked, so its own length says nothing.
        if "Content-Encoding" not in reply.headers and expected not in (-1, length):
            raise ConnectionError(f"{length} of {expected} bytes came")
        if sha256 and digest.hexdigest() != sha256.lower():
            raise ConnectionError("the file that came is not the one that the server lists (its SHA-256 differs)")
        partial.replace(to)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    return to


def _write(handle: Any, chunk: bytes, to: Path) -> None:
    try:
        handle.write(chunk)
    except OSError as error:
        raise DataError(f"{to}: cannot be written: {error.strerror}") from error
