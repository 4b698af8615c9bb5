"""Where media lie that no file of their own holds: a folder of the cache, each under the hash of its bytes.

A video may be larger than memory: its file is hashed in pieces, and a member of a zip is unpacked while it is open.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from harness.data.download import cache_folder
from harness.encodings import opened_zip
from harness.errors import DataError
from harness.files import replacing
from harness.types import UNREADABLE, Media

_PIECE = 1 << 20
# Bytes from which on the hash of a file is remembered: to read a folder of long videos takes minutes.
_REMEMBERED = 64 << 20
_PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def kept_file(data: bytes, sha256: str) -> Path:
    """The file that holds these bytes; it is written where it is not there yet. Raises DataError."""
    path = cache_folder("media", sha256[:2], sha256)
    try:
        if not path.is_file() or path.stat().st_size != len(data):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                partial.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def file_sha256(path: str, member: str = "") -> str:
    """The hash of a file, of a folder of pictures, or of a member of a zip; once while it stays as it is.

    Raises DataError.
    """
    try:
        status = Path(path).stat()
        return _sha256(path, member, status.st_size, status.st_mtime_ns)
    except UNREADABLE as error:
        raise DataError(f"{path}{'/' if member else ''}{member}: cannot be read: {error}") from error


def file_head(path: str, member: str = "") -> bytes:
    """The first bytes of a file, or of a member of a zip, by which its kind is told. Raises DataError."""
    try:
        with opened_file(path, member) as stream:
            return stream.read(1000)
    except UNREADABLE as error:
        raise DataError(f"{path}{'/' if member else ''}{member}: cannot be read: {error}") from error


@functools.lru_cache(maxsize=1 << 14)
def _sha256(path: str, member: str, size: int, changed: int) -> str:
    """The hash, read from a file of the cache where it was computed before while the file was as it is."""
    if size < _REMEMBERED:
        return _computed_sha256(path, member)
    name = hashlib.sha256(f"{path}\0{member}\0{size}\0{changed}".encode("utf-8", "surrogateescape")).hexdigest()
    remembered = cache_folder("hashes", name[:2], name)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        known = remembered.read_text(encoding="ascii")
        if re.fullmatch("[0-9a-f]{64}", known):
            return known
    computed = _computed_sha256(path, member)
    with contextlib.suppress(OSError):  # then it is computed again the next time
        remembered.parent.mkdir(parents=True, exist_ok=True)
        with replacing(remembered) as partial:
            partial.write_text(computed, encoding="ascii")
    return computed


def pictures_in(folder: str) -> list[Path]:
    """The pictures of a folder that is a clip, in the order of their names; numbers in them count as numbers."""

    def by_numbers(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    found = [path for path in Path(folder).iterdir() if path.suffix.casefold() in _PICTURES and path.is_file()]
    return sorted(found, key=by_numbers)


def _computed_sha256(path: str, member: str) -> str:
    """The hash of a file's bytes; of a folder, that of the names and the bytes of its pictures."""
    digest = hashlib.sha256()
    if not member and Path(path).is_dir():
        for picture in pictures_in(path):
            digest.update(f"{picture.name}\0{_computed_sha256(str(picture), '')}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    with opened_file(path, member) as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def opened_file(path: str, member: str = "") -> Iterator[BinaryIO]:
    """A file, or a member of a zip, to be read from its beginning."""
    if not member:
        with Path(path).open("rb") as file:
            yield file
        return
    with opened_zip(path) as archive, archive.open(member) as unpacked:
        yield unpacked  # type: ignore[misc]


@contextmanager
def media_file(media: Media) -> Iterator[str]:
    """A file with the media's bytes, while the block runs. Raises DataError where it is gone or has changed."""
    if not media.path:
        yield str(kept_file(media.data, media.sha256))
        return
    if file_sha256(media.path, media.member) != media.sha256:
        raise DataError(f"{media.place}: the {media.kind} has changed since the rows were read: run the command again")
    if not media.member:
        yield media.path
        return
    try:
        with tempfile.NamedTemporaryFile(suffix=Path(media.member).suffix) as copy:
            with opened_file(media.path, media.member) as unpacked:
                shutil.copyfileobj(unpacked, copy, _PIECE)
            copy.flush()
            yield copy.name
    except OSError as error:
        raise DataError(f"{media.place}: cannot be unpacked: {error.strerror or error}") from error
