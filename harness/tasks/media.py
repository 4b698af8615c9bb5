"""The images, videos and sounds of a row: found in its columns, named by hash, put where the prompt speaks of them.

While a prompt is joined from examples and question, an image in it is a short mark that no text holds; `with_media`
turns the marks of the whole prompt into images. Bytes are read once, for their hash, and let go.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from harness.data.data_file import refuse_pointer
from harness.data.media_files import file_head, file_sha256, kept_file
from harness.errors import DataError
from harness.quick import dataclass
from harness.still_images import picture_size
from harness.tasks.media_places import bytes_in_row, find_file, find_folder, image_mime
from harness.tasks.render import Rendered
from harness.tasks.templates import Context, Template
from harness.types import JSON, Media, Message, Prompt

Kind = Literal["image", "video", "audio"]
# A prompt speaks of the first column's image as <image 1>; <image> is the next one that was not spoken of.
_SPOKEN = re.compile(r"<(image|video|audio)(?: (\d+))?>")
# Two letters of the private use area, which no alphabet has, around the place of the image in `Marks`.
_MARK = re.compile("\ue0f7(\\d+)\ue0f8")
RowMedia = Mapping[str, tuple[Media | None, ...]]
"""By kind, one a column, in their order; None where the row has none there."""
Images = tuple[Media | None, ...]
"""Those of one kind."""


@dataclass(frozen=True, slots=True)
class MediaColumn:
    """Where a row has its media of a kind: `name`, a column; or `template`, which gives a file's name.

    start, end: give the part that is shown, in seconds. subtitles: gives the file of what is said in it. rate: how many
    pictures are a second, where clips are folders of them.
    """

    kind: Kind
    name: str
    template: Template | None = None
    start: Template | None = None
    end: Template | None = None
    subtitles: Template | None = None
    rate: float | None = None

    @property
    def what(self) -> str:
        """The column as errors name it."""
        return f"doc_to_{self.kind}: column '{self.name}'" if self.template is None else f"doc_to_{self.kind}: it"

    @property
    def templates(self) -> tuple[Template, ...]:
        return tuple(each for each in (self.template, self.start, self.end, self.subtitles) if each is not None)


def media_of(
    row: Mapping[str, Any], context: Context, columns: Sequence[MediaColumn], roots: Sequence[Path]
) -> RowMedia:
    """Find the media of a row as the data source gave it. A column with a list has several.

    One is PIL (images), bytes, `{bytes, path}` as `datasets` has it, a data URI, base64, or the path or address of a
    file below one of `roots`, or in a zip there. What is none of these has a `problem`. context: what templates see.
    """
    several: dict[str, list[Media | None]] = {}
    for column in columns:
        several.setdefault(column.kind, []).extend(_of_column(column, row, context, roots))
    return {kind: tuple(media) for kind, media in several.items()}


def shows_any(media: RowMedia) -> bool:
    """Whether a row has any media at all."""
    return any(each for of_kind in media.values() for each in of_kind)


def files_in(row: Mapping[str, Any]) -> Iterator[MediaColumn]:
    """The columns in which a row holds media themselves: files with their bytes, pictures of PIL, decoded sounds."""
    for name, value in row.items():
        items = value if isinstance(value, list | tuple) else [value]
        kinds = {_kind_of(item) for item in items}
        if len(kinds) == 1 and (kind := kinds.pop()) is not None:
            yield MediaColumn(kind, name)


def _kind_of(value: Any) -> Kind | None:
    if hasattr(value, "save") and hasattr(value, "mode"):
        return "image"
    if not isinstance(value, Mapping):
        return None
    if set(value) <= {"bytes", "path"} and isinstance(value.get("bytes"), bytes | bytearray | memoryview):
        with suppress(DataError):
            image_mime("it", bytes(value["bytes"][:16]))
            return "image"
        return "audio"
    return "audio" if {"array", "sampling_rate"} <= set(value) <= {"array", "sampling_rate", "path"} else None


def without_bytes(
    row: Mapping[str, Any], columns: Sequence[MediaColumn], media: RowMedia, *, sized: bool = False
) -> dict[str, Any]:
    """The row with the hashes of its media in their columns: a log holds no picture. A path of a video or a sound stays
    what it is. sized: the sizes of images, too."""
    changed = dict(row)
    left = {kind: iter(of_kind) for kind, of_kind in media.items()}
    for column in columns:
        value = row.get(column.name) if column.template is None else None
        items = value if isinstance(value, list | tuple) else [value]
        logged = [_in_the_log(item, next(left[column.kind]), sized) for item in items]
        if column.template is None and column.name in row:
            changed[column.name] = logged if isinstance(value, list | tuple) else logged[0]
    return changed


class Marks:
    """The media of one subset, and the marks that stand for them in texts while prompts are joined.

    place: puts in front of a problem which file and split it is about.
    """

    def __init__(self, place: Callable[[str], str]) -> None:
        self._place = place
        self._media: list[Media] = []
        self._places: dict[Media, int] = {}

    def mark(self, media: Media) -> str:
        """The mark of an image; the same one for the same image."""
        if media.problem:  # these are alike and are not
            self._media.append(replace(media, problem=self._place(media.problem)))
            return f"\ue0f7{len(self._media) - 1}\ue0f8"
        if media not in self._places:
            self._places[media] = len(self._media)
            self._media.append(media)
        return f"\ue0f7{self._places[media]}\ue0f8"

    def marked(self, rendered: Rendered, media: RowMedia) -> Rendered:
        """The row with each image where it is spoken of; those that are not spoken of come first.

        In a conversation they come first in the last turn. An image that the text speaks of and the row does not have
        is one with a `problem`.
        """
        if not media:
            return rendered
        turns = rendered.turns
        if turns:
            whole = "\0".join(message.text for message in turns)
            texts = self._interleaved(whole, media, first=whole.rfind("\0") + 1).split("\0")
            turns = tuple(replace(turn, content=text) for turn, text in zip(turns, texts, strict=True))
        return replace(
            rendered,
            text=self._interleaved(rendered.text, media),
            contexts=tuple(self._interleaved(text, media) for text in rendered.contexts),
            turns=turns,
        )

    def with_media(self, prompt: Prompt) -> Prompt:
        """The prompt with its media in the place of their marks: then it is a chat, since all models that see are
        asked by turns."""
        texts = [prompt.text, *(message.text for message in prompt.messages)]
        if not any("\ue0f7" in text for text in texts):
            return prompt
        messages = prompt.messages or (Message("user", prompt.text),)
        shown = tuple(replace(message, content=self._content(message.text)) for message in messages)
        return replace(prompt, messages=shown, prefix="", suffix="")

    def _interleaved(self, text: str, media: RowMedia, first: int = 0) -> str:
        spoken: dict[str, list[int]] = {kind: [] for kind in media}

        def marked(found: re.Match[str]) -> str:
            kind = found[1]
            if kind not in media:  # a word of the question's own
                return found[0]
            number = int(found[2]) - 1 if found[2] else len(spoken[kind])
            one = media[kind][number] if 0 <= number < len(media[kind]) else None
            spoken[kind].append(number)
            if one is None:
                problem = f"doc_to_{kind}: the prompt says {found[0]}, and the row has no {kind} {number + 1}"
                return self.mark(Media(kind, "", problem=problem))  # type: ignore[arg-type]
            return self.mark(one)

        head, tail = _SPOKEN.sub(marked, text[:first]), _SPOKEN.sub(marked, text[first:])
        others = [
            self.mark(one)
            for kind, of_kind in media.items()
            for number, one in enumerate(of_kind)
            if one and number not in spoken[kind]
        ]
        return head + "".join(others) + tail

    def _content(self, text: str) -> str | tuple[str | Media, ...]:
        pieces = _MARK.split(text)
        if len(pieces) == 1:
            return text
        parts = [self._media[int(piece)] if at % 2 else piece for at, piece in enumerate(pieces)]
        return tuple(part for part in parts if part != "")


def unmarked(prompt: Prompt) -> Prompt:
    """The prompt without the media that are marked in it."""
    messages = tuple(replace(message, content=_MARK.sub("", message.text)) for message in prompt.messages)
    prefix, suffix = _MARK.sub("", prompt.prefix), _MARK.sub("", prompt.suffix)
    return replace(prompt, prefix=prefix, suffix=suffix, messages=messages)


def _in_the_log(value: Any, media: Media | None, sized: bool) -> JSON:
    if media is None:
        return None
    is_name = isinstance(value, str) and len(value) < 4096 and value[:5].casefold() != "data:"
    if is_name and media.kind != "image":
        return value
    if media.problem:
        return {"problem": media.problem}
    if sized and media.kind == "image":
        try:
            width, height = picture_size(media)
        except DataError:  # it is the sample's error where the image is shown
            return {"sha256": media.sha256}
        return {"sha256": media.sha256, "width": width, "height": height}
    return {"sha256": media.sha256}


def _of_column(
    column: MediaColumn, row: Mapping[str, Any], context: Context, roots: Sequence[Path]
) -> Iterator[Media | None]:
    value = row.get(column.name) if column.template is None else column.template.text(context).strip()
    for item in value if isinstance(value, list | tuple) else [value]:
        if item is None or item == "":
            yield None
            continue
        try:
            start, end = (_seconds(column, key, context) for key in ("start", "end"))
            said = _subtitles(column, context, roots)
            yield replace(_opened(column, item, roots), start=start, end=end, subtitles=said)
        except DataError as error:
            yield Media(column.kind, "", problem=str(error))


def _seconds(column: MediaColumn, key: Literal["start", "end"], context: Context) -> float | None:
    """A moment of a clip, in seconds; None where the row says none. Raises DataError."""
    template = column.start if key == "start" else column.end
    if template is None:
        return None
    value = context.get(template.source) if template.source in context else template.value(context)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise DataError(f"doc_to_{column.kind}: {key} should be a number of seconds, found {value!r}")
    return seconds


def _subtitles(column: MediaColumn, context: Context, roots: Sequence[Path]) -> tuple[str, str] | None:
    """The file of a video's subtitles; none where it has none, which many videos do not."""
    if column.subtitles is None:
        return None
    try:
        return find_file("subtitles", column.subtitles.text(context), roots)
    except DataError:
        return ("", "")


def _opened(column: MediaColumn, value: Any, roots: Sequence[Path]) -> Media:
    data = bytes_in_row(column.what, column.kind, value)
    if data is not None:
        sha256 = hashlib.sha256(data).hexdigest()
        own_name = value.get("path") if isinstance(value, Mapping) else None
        what = f"{column.what} ('{str(own_name)[:80]}')" if own_name else column.what
        mime = image_mime(what, data) if column.kind == "image" else ""
        return Media(column.kind, sha256, mime=mime, path=str(kept_file(data, sha256)))
    named = str(value["path"] if isinstance(value, Mapping) else value)
    if column.rate is not None and (folder := find_folder(named, roots)):
        return Media(column.kind, file_sha256(folder), path=folder, rate=column.rate)
    path, member = find_file(column.what, named, roots)
    what = f"{column.what} names {named[:80]!r}, which"
    head = file_head(path, member)
    refuse_pointer(head, what)
    mime = image_mime(what, head) if column.kind == "image" else ""
    return Media(column.kind, file_sha256(path, member), mime=mime, path=path, member=member)
