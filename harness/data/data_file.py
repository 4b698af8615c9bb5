"""A file of rows as it lies on the disk: alone, gzipped or in a zip; its bytes and its text.

Files are opened for reading only.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

from harness.encodings import likely_encoding, opened_zip, wide_encoding
from harness.errors import DataError, one_line
from harness.quick import dataclass
from harness.types import UNREADABLE

LARGEST_UNPACKED = 2 << 30
"""Bytes that one packed file of rows may come to. A bomb of some megabytes comes to as much within seconds."""
_POINTERS = (b"version https://git-lfs.github.com/spec/", b"/annex/objects/")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows, or one member of a zip. Prints as the user would name it."""

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        return self.member or self.path.name

    def __str__(self) -> str:
        return f"{self.path}::{self.member}" if self.member else str(self.path)


def zip_members(path: Path) -> list[str]:
    """The names of the files in a zip, folders and macOS' resource forks left out."""
    try:
        with opened_zip(path) as archive:
            names = [item.filename for item in archive.infolist() if not item.is_dir()]
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read as a zip: {one_line(error)}") from error
    return sorted(name for name in names if not name.startswith("__MACOSX/"))


@contextmanager
def opened(file: DataFile) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked. What goes wrong on the way is a DataError that names the file."""
    try:
        if file.member:
            with opened_zip(file.path) as archive, archive.open(file.member) as stream:
                yield io.BytesIO(_unpacked(stream, file.member))
        elif file.path.suffix.lower() == ".gz":
            with file.path.open("rb") as stream:
                yield io.BytesIO(_unpacked(stream, file.path.name))
        else:
            with file.path.open("rb") as stream:
                yield stream
    except KeyError as error:
        raise DataError(f"{file}: there is no such file in the zip") from error
    except UNREADABLE as error:
        raise DataError(f"{file}: cannot be read: {one_line(error)}") from error


@contextmanager
def unpacking(file: DataFile) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked while they are read. Raises what reading raises."""
    with ExitStack() as stack:
        if file.member:
            archive = stack.enter_context(opened_zip(file.path))
            stream: IO[bytes] = stack.enter_context(archive.open(file.member))
        else:
            stream = stack.enter_context(file.path.open("rb"))
        if file.name.lower().endswith(".gz"):
            stream = cast(IO[bytes], stack.enter_context(gzip.open(stream)))
        yield stream


def _unpacked(stream: IO[bytes], name: str) -> bytes:
    if not name.lower().endswith(".gz"):
        return _limited(stream, name)
    with gzip.open(stream) as unpacked:
        return _limited(unpacked, name)


def _limited(stream: IO[bytes] | gzip.GzipFile, name: str) -> bytes:
    data = bytearray()
    while chunk := stream.read(1 << 22):
        data += chunk
        if len(data) > LARGEST_UNPACKED:
            size = LARGEST_UNPACKED / (1 << 30)
            raise DataError(f"{name}: unpacks to more than {size:g} GB; unpack it, and name the file that it holds")
    return bytes(data)


def text_of(file: DataFile, encoding: str) -> str:
    """The file's text. DataError where it is a pointer alone, or not in this encoding."""
    with opened(file) as stream:
        data = stream.read()
    refuse_pointer(data[:1000], f"{file}:")
    try:
        # A byte order mark is no part of the first row, whoever wrote it.
        text = data.decode(encoding).removeprefix("\ufeff")
        if "\0" in text[:1000] and (other := wide_encoding(data)):  # ASCII in UTF-16 is UTF-8, too
            raise DataError(f"{file}:1: is not {encoding}; {_encoding_remedy(other)}")
        return text
    except LookupError as error:
        raise DataError(f"{file}: unknown encoding '{encoding}'") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file}:{line}: is not {encoding}; {_encoding_remedy(likely_encoding(data))}") from error
    except ValueError as error:  # of codecs that are for other things than files: punycode
        raise DataError(f"{file}: is not {encoding}: {one_line(error)}") from error


def _encoding_remedy(other: str | None) -> str:
    if other is None:
        return "save it as UTF-8, or say its `encoding:`, such as cp1252 (in dataset_kwargs)"
    return f"it reads as {other}: say `encoding: {other}` (in dataset_kwargs)"


def refuse_page(text: str, file: DataFile) -> None:
    """Raise DataError where a download left a web page in the place of rows."""
    if text[:200].lstrip().lower().startswith(("<!doctype html", "<html")):
        raise DataError(f"{file}: is a web page and holds no rows; download the file again")


def refuse_pointer(head: bytes, what: str) -> None:
    """Raise DataError where a file's first 1,000 bytes are a pointer's, which stands for data left elsewhere."""
    if head.startswith(_POINTERS[0]) or (len(head) < 1000 and _POINTERS[1] in head):
        raise DataError(f"{what} is only a pointer to the data (Git LFS or git-annex); fetch the file itself")
