"""Where images lie that no file of their own holds: a folder of the cache, each under the hash of its bytes."""

from __future__ import annotations

from pathlib import Path

from harness.data.download import cache_folder
from harness.errors import DataError
from harness.files import beside


def kept_file(data: bytes, sha256: str) -> Path:
    """The file that holds these bytes; it is written where it is not there yet. Raises DataError."""
    path = cache_folder("media", sha256[:2], sha256)
    try:
        if not path.is_file() or path.stat().st_size != len(data):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = beside(path)
            partial.write_bytes(data)
            partial.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path
