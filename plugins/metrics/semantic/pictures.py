"""The picture that belongs to a sample: what its prompt shows, or what a column of its row names."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import Media, Prompt, Sample

_DATA_URI = re.compile(r"data:[\w/+.-]*;base64,(.*)", re.DOTALL)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class NotInLog(ValueError):
    """The picture is not here: a log names pictures by their hashes and does not hold them."""


def picture_of(sample: Sample, column: str | None, base: Path) -> bytes:
    """The bytes of the one picture of a sample.

    column: a column of the row; what its prompt shows where None. base: the folder that paths in rows are relative to,
    and may not leave. Raises `NotInLog`, and `ValueError` for what is no single picture.
    """
    if column is None:
        return _shown(sample)
    if column not in sample.doc:
        raise ValueError(f"the row has no column '{column}' (it has: {', '.join(sample.doc)})")
    return _read(sample.doc[column], column, sample, base)


def opened(data: bytes) -> Any:
    """The picture as PIL has it, in RGB. Raises `ValueError` for what PIL cannot read."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.convert("RGB")
    except Exception as error:
        cause = " ".join(str(error).split())
        raise ValueError(f"the picture cannot be read: {cause}") from error


def _shown(sample: Sample) -> bytes:
    if not sample.requests:
        raise NotInLog("the log does not hold the prompt's picture; the same command again scores from the rows")
    shown = {media.sha256: media for media in _media(sample.requests[0].prompt)}
    if len(shown) != 1:
        raise ValueError(f"the prompt shows {len(shown)} pictures and not one; `image:` can name a column of the row")
    (media,) = shown.values()
    return media.read()


def _media(prompt: Prompt) -> Iterator[Media]:
    parts = [*prompt.media, *(part for message in prompt.messages for part in message.content)]
    yield from (part for part in parts if isinstance(part, Media) and part.kind == "image")


def _read(value: Any, column: str, sample: Sample, base: Path) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Mapping) and (value.get("bytes") or value.get("path")):
        return _read(value.get("bytes") or value["path"], column, sample, base)
    if isinstance(value, Mapping) and "sha256" in value:
        return _by_hash(str(value["sha256"]), column, sample)
    if not isinstance(value, str) or not value:
        raise ValueError(f"column '{column}' holds no picture but {type(value).__name__}")
    if uri := _DATA_URI.fullmatch(value):
        try:
            return base64.b64decode(uri[1], validate=True)
        except binascii.Error as error:
            raise ValueError(f"column '{column}' is no base64: {error}") from error
    return _file(value, column, base)


def _by_hash(sha256: str, column: str, sample: Sample) -> bytes:
    """What the row only has the hash of stands in the prompt, where the task shows that column."""
    for request in sample.requests:
        for media in _media(request.prompt):
            if media.sha256 == sha256:
                return media.read()
    if sample.requests:
        raise ValueError(f"column '{column}' holds bytes that are not shown: name it in the task's `doc_to_image`")
    raise NotInLog(
        f"the log does not hold the picture of column '{column}'; the same command again scores from the rows"
    )


def _file(named: str, column: str, base: Path) -> bytes:
    if _ADDRESS.match(named):
        raise ValueError(f"column '{column}' is an address ({named[:80]}); nothing is downloaded")
    root = base.resolve()
    file = (root / named).resolve()
    # Rows come from anywhere: they may not name files elsewhere on this machine.
    if not file.is_relative_to(root) or not file.is_file():
        raise ValueError(f"column '{column}' names '{named[:80]}', which is not below {root}")
    return file.read_bytes()
