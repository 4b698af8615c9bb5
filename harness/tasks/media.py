"""The images of a row: found in its columns, named by their hash, and put where the prompt speaks of them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.types import JSON, DatasetSpec, Media

# A prompt speaks of the first column's image as <image 1>; <image> is the next one that was not spoken of.
_MARK = re.compile(r"<image(?: (\d+))?>")
_DATA_URI = re.compile(r"data:(?P<mime>[\w/+.-]*);base64,(?P<data>.*)", re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")
_MAGIC: Mapping[bytes, str] = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}
Images = tuple[Media | None, ...]
"""One an image column, in their order; None where the row has none there."""


def roots_of(spec: DatasetSpec) -> list[Path]:
    """The folders in which a row may name a file: beside the task file and its rows, and in the mirrors."""
    base, path = Path(spec.base), spec.path or ""
    places = [base, base / path]
    for mirror in spec.mirrors:
        places += [Path(mirror, path), Path(mirror, path, spec.name or "")]
    places = [place.parent if place.is_file() else place for place in places]
    return list(dict.fromkeys(place.resolve() for place in places if place.is_dir()))


def images_of(row: Mapping[str, Any], columns: Sequence[str], roots: Sequence[Path]) -> Images:
    """Read the images of a row as the data source gave it. A column with a list has several.

    An image is bytes, `{bytes, path}` as `datasets` has it, a data URI, base64, or the path of a file below one of
    `roots`. Raises `DataError` for what is none of these.
    """
    return tuple(image for column in columns for image in _of_column(column, row.get(column), roots))


def without_bytes(row: Mapping[str, Any], columns: Sequence[str], images: Images) -> dict[str, Any]:
    """The row with the hashes of its images in their columns: a log holds no picture."""
    changed = dict(row)
    left = iter(images)
    for column in columns:
        value = row.get(column)
        count = len(value) if isinstance(value, list | tuple) else 1
        found: list[JSON] = [image and {"sha256": image.sha256} for image in (next(left) for _ in range(count))]
        if column in row:
            changed[column] = found if isinstance(value, list | tuple) else found[0]
    return changed


def interleaved(text: str, images: Images) -> tuple[str | Media, ...]:
    """The text with each image where it is spoken of; those that are not spoken of come first.

    Raises `DataError` where the text speaks of an image that the row does not have.
    """
    parts: list[str | Media] = []
    spoken: list[int] = []
    end = 0
    for mark in _MARK.finditer(text):
        number = int(mark[1]) - 1 if mark[1] else len(spoken)
        image = images[number] if 0 <= number < len(images) else None
        if image is None:
            raise DataError(f"doc_to_image: the prompt says {mark[0]}, and the row has no image {number + 1}")
        spoken.append(number)
        parts += [text[end : mark.start()], image]
        end = mark.end()
    parts.append(text[end:])
    first = [image for number, image in enumerate(images) if image is not None and number not in spoken]
    return tuple(part for part in (*first, *parts) if part != "")


def without_marks(text: str) -> str:
    """The text as it is without images."""
    return _MARK.sub("", text)


def _of_column(column: str, value: Any, roots: Sequence[Path]) -> Iterator[Media | None]:
    for item in value if isinstance(value, list | tuple) else [value]:
        if item is None or item == "":
            yield None
            continue
        data = _bytes_of(column, item, roots)
        yield Media("image", hashlib.sha256(data).hexdigest(), data, _mime(column, data))


def _bytes_of(column: str, value: Any, roots: Sequence[Path]) -> bytes:
    if isinstance(value, Mapping):
        inner = value.get("bytes") or value.get("path")
        if inner is None:
            raise DataError(f"doc_to_image: column '{column}' has neither 'bytes' nor a 'path'")
        value = inner
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise DataError(f"doc_to_image: column '{column}' should hold an image, found {type(value).__name__}")
    uri = _DATA_URI.fullmatch(value)
    if uri or _BASE64.fullmatch(value):
        try:
            return base64.b64decode(uri["data"] if uri else value)
        except binascii.Error as error:
            raise DataError(f"doc_to_image: column '{column}' is not base64: {error}") from error
    return _file(column, value, roots)


def _file(column: str, path: str, roots: Sequence[Path]) -> bytes:
    for root in roots:
        file = (root / path).resolve()
        # Rows come from anywhere: they may not name files elsewhere on this machine.
        if file.is_relative_to(root) and file.is_file():
            return file.read_bytes()
    places = ", ".join(map(str, roots)) or "no folder"
    raise DataError(f"doc_to_image: column '{column}' names '{path[:80]}', which is not below {places}")


def _mime(column: str, data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    for magic, mime in _MAGIC.items():
        if data.startswith(magic):
            return mime
    raise DataError(f"doc_to_image: column '{column}' holds no PNG, JPEG, GIF, WebP or BMP image")
