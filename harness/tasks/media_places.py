"""Where the media of a row lie: in itself, in a file beside the task and its rows, in a mirror, or in a zip there."""

from __future__ import annotations

import base64
import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.data.audio import wav_of_samples
from harness.encodings import opened_zip
from harness.errors import DataError
from harness.types import UNREADABLE, DatasetSpec

# RFC 2397: in capitals or not, with parameters between the kind and the word base64.
_DATA_URI = re.compile(r"data:(?P<mime>[\w/+.-]*)(?:;[^;,]*)*;base64,(?P<data>.*)", re.DOTALL | re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")
# A folder with more is no place into which archives were unpacked.
_MOST_FOLDERS = 64
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_MAGIC: Mapping[bytes, str] = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
}


def roots_of(spec: DatasetSpec) -> list[Path]:
    """The folders in which a row may name a file: beside the task file and its rows, and in the mirrors."""
    base, path = Path(spec.base), spec.path or ""
    places = [base, base / path]
    for mirror in spec.mirrors:
        places += [Path(mirror, path), Path(mirror, path, spec.name or ""), Path(mirror, "url")]
        if isinstance(github := spec.sources.get("github"), Mapping):
            places.append(Path(mirror, "github", str(github.get("repo"))))
    places = [place.parent if place.is_file() else place for place in places]
    return list(dict.fromkeys(place.resolve() for place in places if place.is_dir()))


def bytes_in_row(what: str, kind: str, value: Any) -> bytes | None:
    """The bytes where the row holds them; None where it names a file. what: names the column, for errors."""
    if isinstance(value, Mapping):
        if kind == "audio" and value.get("array") is not None and value.get("bytes") is None:
            try:
                return wav_of_samples(value["array"], value.get("sampling_rate"))
            except DataError as error:
                raise DataError(f"{what} {error}") from None
        if value.get("bytes") is None and value.get("path") is None:
            raise DataError(f"{what} has neither 'bytes' nor a 'path'")
        return None if value.get("bytes") is None else bytes_in_row(what, kind, value["bytes"])
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if kind == "image" and hasattr(value, "save") and hasattr(value, "mode"):  # PIL
        stream = io.BytesIO()
        value.save(stream, "TIFF" if value.mode in ("CMYK", "F", "YCbCr", "LAB") else "PNG")
        return stream.getvalue()
    if not isinstance(value, str):
        article = "a" if kind == "video" else "an"
        raise DataError(f"{what} should hold {article} {kind}, found {type(value).__name__}")
    uri = _DATA_URI.fullmatch(value)
    if not uri and not _BASE64.fullmatch(value):
        return None
    try:
        return base64.b64decode(uri["data"] if uri else value)
    except ValueError as error:  # not in its letters, or not even in ASCII
        raise DataError(f"{what} is not base64: {error}") from error


def find_file(what: str, named: str, roots: Sequence[Path]) -> tuple[str, str]:
    """(file, member of it where it is a zip) of what a row names by a path or an address. Raises DataError."""
    ways = _ways(named)
    for root in roots:
        for way, folder in (
            (way, folder) for folder in ("", *_folders(str(root), root.stat().st_mtime_ns)) for way in ways
        ):
            if file := _below(root, f"{folder}/{way}" if folder else way, Path.is_file):
                return file, ""
    archives = [archive for root in roots for archive in sorted([*root.glob("*.zip"), *root.glob("*/*.zip")])]
    members = {str(archive): _members(str(archive), archive.stat().st_mtime_ns) for archive in archives}
    for way in ways:
        for archive, (whole, _) in members.items():
            name = way.removeprefix(f"{PurePosixPath(archive).name}/")
            if name in whole:
                return archive, whole[name]
    is_address = bool(_URL.match(named))
    for way, is_end in ((way, is_end) for is_end in ((True,) if is_address else (True, False)) for way in ways):
        found = {
            (archive, member)
            for archive, (_, by_name) in members.items()
            for member in by_name.get(PurePosixPath(way).name, ())
            if not is_end or member.replace("\\", "/").endswith(f"/{way}")
        }
        if len(found) == 1:
            return found.pop()
        if found:
            names = " and ".join(sorted(f"{PurePosixPath(archive).name}/{member}" for archive, member in found)[:3])
            raise DataError(f"{what} names {named[:80]!r}, which may be {names}: give more of its path")
    places = ", ".join(map(str, roots)) or "no folder"
    missing = f"is not below {places}"
    if is_address:
        place = f" (as url/{ways[0][:80]}, for example)" if ways else ""
        missing = f"is an address, of which no mirror holds the file{place}"
    raise DataError(f"{what} names {named[:80]!r}, which {missing}")


def find_folder(named: str, roots: Sequence[Path]) -> str | None:
    """The folder that a row names by a path; None where there is none, as for names of files."""
    for root in roots:
        for folder in ("", *_folders(str(root), root.stat().st_mtime_ns)):
            for way in _ways(named):
                if found := _below(root, f"{folder}/{way}" if folder else way, Path.is_dir):
                    return found
    return None


def _below(root: Path, way: str, is_one: Callable[[Path], bool]) -> str | None:
    try:
        place = (root / way).resolve()
        # Rows come from anywhere: they may not name files elsewhere on this machine.
        return str(place) if place.is_relative_to(root) and place != root and is_one(place) else None
    except (OSError, ValueError, RuntimeError):  # no file has such a name: too long, a NUL in it, links in a circle
        return None


def _ways(named: str) -> list[str]:
    """The paths under which a file that a row names may lie.

    Of an address they are host and path, and the path where it has folders: many addresses share a file name, by which
    another picture would be found.
    """
    if not _URL.match(named):
        # Scripts name files from their own folder, what is above which is the root; and some were written on Windows.
        slashed = named.replace("\\", "/")
        return list(dict.fromkeys([named, slashed, re.sub(r"\A(?:\.\.?/)+", "", slashed)]))
    try:
        parts = urlsplit(named)
    except ValueError:  # `https://[a/b.png`
        return []
    path = unquote(parts.path).lstrip("/")
    return [f"{parts.netloc}/{path}", *([path] if "/" in path else [])]


@functools.lru_cache(maxsize=64)
def _folders(root: str, changed: int) -> tuple[str, ...]:
    """The folders in a root, where they are few: archives are unpacked into some."""
    del changed
    names = sorted(path.name for path in Path(root).iterdir() if path.is_dir() and not path.name.startswith("."))
    return tuple(names) if len(names) <= _MOST_FOLDERS else ()


@functools.lru_cache(maxsize=64)
def _members(archive: str, changed: int) -> tuple[Mapping[str, str], Mapping[str, tuple[str, ...]]]:
    """The members of a zip by their path, with slashes for backslashes, too, and by their file name."""
    del changed
    try:
        with opened_zip(archive) as opened:
            names = [name for name in opened.namelist() if not name.endswith("/")]
    except UNREADABLE:
        return {}, {}
    by_name: dict[str, tuple[str, ...]] = {}
    for name in names:
        last = PurePosixPath(name.replace("\\", "/")).name
        by_name[last] = (*by_name.get(last, ()), name)
    return {form: name for name in reversed(names) for form in (name.replace("\\", "/"), name)}, by_name


def image_mime(what: str, data: bytes) -> str:
    """The kind of an image file, by how it begins. Raises DataError for what is none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "image/avif"
    for magic, mime in _MAGIC.items():
        if data.startswith(magic):
            return mime
    raise DataError(f"{what} holds no PNG, JPEG, GIF, WebP, BMP, TIFF or AVIF image")
