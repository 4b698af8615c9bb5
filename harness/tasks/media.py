"""The images of a row: found in its columns, named by their hash, and put where the prompt speaks of them.

While a prompt is joined from examples and question, an image in it is a short mark that no text holds; `with_images`
turns the marks of the whole prompt into images. Bytes are read once, for their hash, and let go.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from harness.data.media_files import kept_file
from harness.errors import DataError
from harness.still_images import picture_size
from harness.tasks.render import Rendered
from harness.types import JSON, DatasetSpec, Media, Message, Prompt

# A prompt speaks of the first column's image as <image 1>; <image> is the next one that was not spoken of.
_SPOKEN = re.compile(r"<image(?: (\d+))?>")
# Two letters of the private use area, which no alphabet has, around the place of the image in `Marks`.
_MARK = re.compile("\ue0f7(\\d+)\ue0f8")
_DATA_URI = re.compile(r"data:(?P<mime>[\w/+.-]*);base64,(?P<data>.*)", re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_MAGIC: Mapping[bytes, str] = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
}
Images = tuple[Media | None, ...]
"""One an image column, in their order; None where the row has none there."""


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


def images_of(row: Mapping[str, Any], columns: Sequence[str], roots: Sequence[Path]) -> Images:
    """Find the images of a row as the data source gave it. A column with a list has several.

    An image is one of PIL, bytes, `{bytes, path}` as `datasets` has it, a data URI, base64, or the path or address of a
    file below one of `roots`, or in a zip there. What is none of these is an image with a `problem`.
    """
    return tuple(image for column in columns for image in _of_column(column, row.get(column), roots))


def without_bytes(
    row: Mapping[str, Any], columns: Sequence[str], images: Images, *, sized: bool = False
) -> dict[str, Any]:
    """The row with the hashes of its images in their columns: a log holds no picture. sized: their sizes, too."""
    changed = dict(row)
    left = iter(images)
    for column in columns:
        value = row.get(column)
        count = len(value) if isinstance(value, list | tuple) else 1
        found: list[JSON] = [_in_the_log(next(left), sized) for _ in range(count)]
        if column in row:
            changed[column] = found if isinstance(value, list | tuple) else found[0]
    return changed


class Marks:
    """The images of one subset, and the marks that stand for them in texts while prompts are joined.

    place: puts in front of a problem which file and split it is about.
    """

    def __init__(self, place: Callable[[str], str]) -> None:
        self._place = place
        self._images: list[Media] = []
        self._places: dict[Media, int] = {}

    def mark(self, image: Media) -> str:
        """The mark of an image; the same one for the same image."""
        if image.problem:  # these are alike and are not
            self._images.append(replace(image, problem=self._place(image.problem)))
            return f"\ue0f7{len(self._images) - 1}\ue0f8"
        if image not in self._places:
            self._places[image] = len(self._images)
            self._images.append(image)
        return f"\ue0f7{self._places[image]}\ue0f8"

    def marked(self, rendered: Rendered, images: Images) -> Rendered:
        """The row with each image where it is spoken of; those that are not spoken of come first.

        In a conversation they come first in the last turn. An image that the text speaks of and the row does not have
        is one with a `problem`.
        """
        if not any(images):
            return rendered
        turns = rendered.turns
        if turns:
            whole = "\0".join(message.text for message in turns)
            texts = self._interleaved(whole, images, first=whole.rfind("\0") + 1).split("\0")
            turns = tuple(replace(turn, content=text) for turn, text in zip(turns, texts, strict=True))
        return replace(
            rendered,
            text=self._interleaved(rendered.text, images),
            contexts=tuple(self._interleaved(text, images) for text in rendered.contexts),
            turns=turns,
        )

    def with_images(self, prompt: Prompt) -> Prompt:
        """The prompt with its images in the place of their marks: then it is a chat, since all models that see are
        asked by turns."""
        texts = [prompt.text, *(message.text for message in prompt.messages)]
        if not any("\ue0f7" in text for text in texts):
            return prompt
        messages = prompt.messages or (Message("user", prompt.text),)
        shown = tuple(replace(message, content=self._content(message.text)) for message in messages)
        return Prompt(messages=shown, shared_messages=prompt.shared_messages, prefill=prompt.prefill)

    def _interleaved(self, text: str, images: Images, first: int = 0) -> str:
        spoken: list[int] = []

        def marked(found: re.Match[str]) -> str:
            number = int(found[1]) - 1 if found[1] else len(spoken)
            image = images[number] if 0 <= number < len(images) else None
            spoken.append(number)
            if image is None:
                problem = f"doc_to_image: the prompt says {found[0]}, and the row has no image {number + 1}"
                return self.mark(Media("image", "", problem=problem))
            return self.mark(image)

        head, tail = _SPOKEN.sub(marked, text[:first]), _SPOKEN.sub(marked, text[first:])
        others = [self.mark(image) for number, image in enumerate(images) if image and number not in spoken]
        return head + "".join(others) + tail

    def _content(self, text: str) -> str | tuple[str | Media, ...]:
        pieces = _MARK.split(text)
        if len(pieces) == 1:
            return text
        parts = [self._images[int(piece)] if at % 2 else piece for at, piece in enumerate(pieces)]
        return tuple(part for part in parts if part != "")


def unmarked(prompt: Prompt) -> Prompt:
    """The prompt without the images that are marked in it."""
    messages = tuple(replace(message, content=_MARK.sub("", message.text)) for message in prompt.messages)
    prefix, suffix = _MARK.sub("", prompt.prefix), _MARK.sub("", prompt.suffix)
    return replace(prompt, prefix=prefix, suffix=suffix, messages=messages)


def _in_the_log(image: Media | None, sized: bool) -> JSON:
    if image is None:
        return None
    if image.problem:
        return {"problem": image.problem}
    if sized:
        try:
            width, height = picture_size(image)
        except DataError:  # it is the sample's error where the image is shown
            return {"sha256": image.sha256}
        return {"sha256": image.sha256, "width": width, "height": height}
    return {"sha256": image.sha256}


def _of_column(column: str, value: Any, roots: Sequence[Path]) -> Iterator[Media | None]:
    for item in value if isinstance(value, list | tuple) else [value]:
        if item is None or item == "":
            yield None
            continue
        try:
            yield _opened(column, item, roots)
        except DataError as error:
            yield Media("image", "", problem=str(error))


def _opened(column: str, value: Any, roots: Sequence[Path]) -> Media:
    data = _bytes_of(column, value)
    path, member = "", ""
    if data is None:
        named = value["path"] if isinstance(value, Mapping) else value
        path, member, data = _file(column, str(named), roots)
    sha256, mime = hashlib.sha256(data).hexdigest(), _mime(column, data)
    return Media("image", sha256, mime=mime, path=path or str(kept_file(data, sha256)), member=member)


def _bytes_of(column: str, value: Any) -> bytes | None:
    """The bytes where the row holds them; None where it names a file."""
    if isinstance(value, Mapping):
        if value.get("bytes") is None and value.get("path") is None:
            raise DataError(f"doc_to_image: column '{column}' has neither 'bytes' nor a 'path'")
        return None if value.get("bytes") is None else _bytes_of(column, value["bytes"])
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if hasattr(value, "save") and hasattr(value, "mode"):  # PIL
        stream = io.BytesIO()
        value.save(stream, "TIFF" if value.mode in ("CMYK", "F", "YCbCr", "LAB") else "PNG")
        return stream.getvalue()
    if not isinstance(value, str):
        raise DataError(f"doc_to_image: column '{column}' should hold an image, found {type(value).__name__}")
    uri = _DATA_URI.fullmatch(value)
    if not uri and not _BASE64.fullmatch(value):
        return None
    try:
        return base64.b64decode(uri["data"] if uri else value)
    except binascii.Error as error:
        raise DataError(f"doc_to_image: column '{column}' is not base64: {error}") from error


def _file(column: str, named: str, roots: Sequence[Path]) -> tuple[str, str, bytes]:
    """(file, member of it where it is a zip, bytes) of what a row names by a path or an address."""
    ways = _ways(named)
    for root in roots:
        for way in ways:
            file = (root / way).resolve()
            # Rows come from anywhere: they may not name files elsewhere on this machine.
            if file.is_relative_to(root) and file.is_file():
                return str(file), "", file.read_bytes()
    for root in roots:
        for archive in sorted(root.glob("*.zip")):
            names = _members(str(archive), archive.stat().st_mtime_ns)
            for way in ways:
                if member := names.get(way.removeprefix(f"{archive.name}/")) or names.get(PurePosixPath(way).name):
                    with zipfile.ZipFile(archive) as opened:
                        return str(archive), member, opened.read(member)
    places = ", ".join(map(str, roots)) or "no folder"
    what = "is an address, of which no mirror holds the file" if _URL.match(named) else f"is not below {places}"
    raise DataError(f"doc_to_image: column '{column}' names '{named[:80]}', which {what}")


def _ways(named: str) -> list[str]:
    """The paths under which a file that a row names may lie. An address may be taken along as host and path."""
    if not _URL.match(named):
        # Scripts name files from their own folder: what is above it is the root.
        return list(dict.fromkeys([named, re.sub(r"\A(?:\.\.?/)+", "", named)]))
    parts = urlsplit(named)
    path = unquote(parts.path).lstrip("/")
    return [f"{parts.netloc}/{path}", path, PurePosixPath(path).name]


@functools.lru_cache(maxsize=64)
def _members(archive: str, changed: int) -> Mapping[str, str]:
    """Members of a zip by their whole name, and by their file name where only one has it."""
    del changed
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile):
        return {}
    short: dict[str, list[str]] = {}
    for name in names:
        short.setdefault(PurePosixPath(name).name, []).append(name)
    return {**{name: found[0] for name, found in short.items() if len(found) == 1}, **{name: name for name in names}}


def _mime(column: str, data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "image/avif"
    for magic, mime in _MAGIC.items():
        if data.startswith(magic):
            return mime
    raise DataError(f"doc_to_image: column '{column}' holds no PNG, JPEG, GIF, WebP, BMP, TIFF or AVIF image")
