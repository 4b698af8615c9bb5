"""Frames of videos, by PyAV, or of folders of pictures: chosen by their times, and decoded one by one, so that an hour
takes no more memory than a second.

    video = with_frames(video, FrameRule(count=8))    # .frames, or .problem
    [open_frame(frame) for frame in frame_images(video)]

Frames are counted in the order in which they are seen. Their times are read off the packets of the file, without
decoding any.
"""

from __future__ import annotations

import bisect
import functools
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.frame_sampling import FrameRule, by_change, within
from harness.data.media_files import file_sha256, media_file, pictures_in
from harness.errors import DataError, UsageError, one_line
from harness.quick import dataclass
from harness.still_images import open_picture, picture_size
from harness.types import Frames, Media, Prompt

if TYPE_CHECKING:
    from PIL.Image import Image

# The side of the small grey pictures by which changes are measured.
_SMALL = 32
_PICTURES_DECODER = "pictures of a folder"


def decoder_name() -> str:
    """The decoder and its version, as logs hold it. Raises UsageError where it is not installed."""
    return f"pyav {_av().__version__}"


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise UsageError("videos need the package av: pip install 'harness-eval[video]'") from None
    return av


@dataclass(frozen=True, slots=True)
class _Clip:
    """What is known of a video before any frame is decoded.

    stamps: the time stamp of each frame in units of the stream, ascending; empty where the file has none. times: the
    same in seconds from the first. keys: stamps of the frames that can be decoded alone.
    """

    stamps: Sequence[int]
    times: Sequence[float]
    keys: Sequence[int]
    size: tuple[int, int]


def with_frames(video: Media, rule: FrameRule) -> Media:
    """The video with the frames that the rule chooses of its part; with a `problem` where there are none to choose.

    Raises UsageError where there is no decoder.
    """
    decoder = _PICTURES_DECODER if _is_folder(video) else decoder_name()
    try:
        clip = _clip(video)
        part = within(clip.times, video.start, video.end)
        times = [clip.times[index] for index in part]
        chosen = _by_change(video, part, rule) if rule.scenes else rule.choose(times)
    except DataError as error:
        text = str(error)
        return replace(video, problem=text if text.startswith(video.place) else f"{video.place}: {text}")
    total = len(clip.times)
    seconds = clip.times[-1] - clip.times[0]
    return replace(
        video,
        frames=Frames(
            indices=tuple(part[0] + index for index in chosen),
            times=tuple(round(times[index], 6) for index in chosen),
            total=total,
            fps=round((total - 1) / seconds, 6) if seconds > 0 else 0.0,
            size=clip.size,
            rule=rule.name,
            decoder=decoder,
        ),
    )


def frame_images(video: Media) -> tuple[Media, ...]:
    """The chosen frames of a video, each an image that `open_frame` opens."""
    indices = video.frames.indices if video.frames is not None else ()
    return tuple(replace(video, kind="image", mime="", frame=index) for index in indices)


def frames_as_images(prompt: Prompt) -> Prompt:
    """The prompt with the chosen frames of each video in its place: for models that see images."""
    if not any(media.kind == "video" for media in prompt.shown_media):
        return prompt

    def expanded(parts: tuple[Any, ...]) -> tuple[Any, ...]:
        is_video = [isinstance(part, Media) and part.kind == "video" for part in parts]
        pairs = zip(parts, is_video, strict=True)
        return tuple(each for part, video in pairs for each in (frame_images(part) if video else (part,)))

    messages = tuple(
        message if isinstance(message.content, str) else replace(message, content=expanded(message.content))
        for message in prompt.messages
    )
    return replace(prompt, messages=messages, media=expanded(prompt.media))


def open_frame(frame: Media) -> Image:
    """The frame, upright, in RGB. Raises DataError, one line, for one that cannot be decoded."""
    if frame.frame is None or frame.frames is None:
        raise DataError(f"{frame.place}: is no frame of a video")
    reader = _reader(replace(frame, kind="video", frame=None))
    try:
        image = reader.frame(frame.frame)
    except DataError:
        _reader.cache_clear()
        raise
    return image if image.size == frame.frames.size else image.resize(frame.frames.size)


class _Reader:
    """An open video, and where in it decoding has come to."""

    def __init__(self, video: Media) -> None:
        self._stack = ExitStack()
        self._clip, self._video = _clip(video), video
        self._container = self._stack.enter_context(_opened(video))
        self._frames: Iterator[Any] = iter(())
        self._last: tuple[int, Any] | None = None
        """The stamp (or number) of the frame that was decoded last, and the frame."""

    def __del__(self) -> None:
        self._stack.close()

    def frame(self, index: int) -> Image:
        """The frame of this index. Raises DataError."""
        wanted = self._clip.stamps[index] if self._clip.stamps else index
        with _decoding(self._video, f"frame {index}"):
            for _ in self._places(wanted):
                if (frame := self._decoded(wanted)) is not None:
                    return _upright(frame)
        raise DataError(f"{self._video.place}: frame {index} cannot be decoded: the file is damaged or cut off")

    def _places(self, wanted: int) -> Iterator[None]:
        """Go where the frame can be decoded from: stay, where it is near ahead; to the last frame before it that stands
        alone; to one before that, as not all formats can be placed exactly; to the beginning."""
        clip = self._clip
        at = bisect.bisect_right(clip.keys, wanted) - 1
        last = self._last[0] if self._last is not None else None
        if last is not None and last <= wanted and (at < 0 or clip.keys[at] <= last or last == wanted):
            yield
        for key in [clip.keys[before] for before in (at, at - 2) if before >= 0] if clip.stamps else ():
            self._container.seek(key, stream=self._container.streams.video[0], backward=True)
            self._begin()
            first = next(self._frames, None)
            if first is not None and first.key_frame and self._stamp(first) <= wanted:
                self._last = (self._stamp(first), first)
                yield
        self._stack.close()
        self._container = self._stack.enter_context(_opened(self._video))
        self._begin()
        yield

    def _begin(self) -> None:
        self._frames, self._last = self._container.decode(self._container.streams.video[0]), None

    def _decoded(self, wanted: int) -> Any:
        """The frame that is on screen at a stamp, decoded from where the video has been placed; None where decoding
        does not come to it."""
        if self._last is not None and self._last[0] == wanted:
            return self._last[1]
        after = bisect.bisect_right(self._clip.stamps, wanted)
        bound = self._clip.stamps[after] if after < len(self._clip.stamps) else wanted
        for frame in self._frames:
            at = self._stamp(frame)
            self._last = (at, frame)
            if at >= wanted:
                # A packet may give no frame of its own (hidden reference frames of VP8): the next one is on screen.
                return frame if at <= bound else None
        return None

    def _stamp(self, frame: Any) -> int:
        """The frame's time stamp; where the file has none, its number."""
        if self._clip.stamps:
            return -1 if frame.pts is None else int(frame.pts)
        return 0 if self._last is None else self._last[0] + 1


class _Pictures:
    """A clip that is a folder of pictures."""

    def __init__(self, video: Media) -> None:
        self._video, self._pictures = video, _pictures(video)

    def frame(self, index: int) -> Image:
        """The picture of this index, as a model sees it. Raises DataError."""
        if index >= len(self._pictures):
            raise DataError(f"{self._video.place}: has no picture {index} any more: run the command again")
        return open_picture(_picture(self._pictures[index]))


@functools.lru_cache(maxsize=1)
def _reader(video: Media) -> _Reader | _Pictures:
    return _Pictures(video) if _is_folder(video) else _Reader(video)


def _is_folder(video: Media) -> bool:
    return not video.member and bool(video.path) and Path(video.path).is_dir()


def _pictures(video: Media) -> list[Path]:
    """The pictures of a folder, which are those that the video's hash is of. Raises DataError."""
    if file_sha256(video.path) != video.sha256:
        raise DataError(f"{video.place}: the video has changed since the rows were read: run the command again")
    pictures = pictures_in(video.path)
    if not pictures:
        raise DataError(f"{video.place}: is a folder without pictures")
    return pictures


def _picture(path: Path) -> Media:
    return Media("image", file_sha256(str(path)), path=str(path))


@contextmanager
def _opened(video: Media) -> Iterator[Any]:
    av = _av()
    with _decoding(video, "the video"), media_file(video) as path, av.open(path, metadata_errors="ignore") as container:
        if not any(_is_moving(stream) for stream in container.streams.video):
            raise DataError(f"{video.place}: holds no video" + (", only sound" if container.streams.audio else ""))
        container.streams.video[0].thread_type = "AUTO"
        yield container


def _is_moving(stream: Any) -> bool:
    """Whether a stream is a video, and no cover picture of a song."""
    return "ATTACHED_PIC" not in str(stream.disposition).upper()


@contextmanager
def _decoding(video: Media, what: str) -> Iterator[None]:
    """Say of whatever a decoder stumbles over which video it is."""
    try:
        yield
    except (DataError, UsageError):
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        reason = one_line(error)
        raise DataError(f"{video.place}: {what} cannot be decoded: {reason}") from error


def _clip(video: Media) -> _Clip:
    return _scanned(replace(video, start=None, end=None, frames=None, frame=None))


@functools.lru_cache(maxsize=16)
def _scanned(video: Media) -> _Clip:
    """Read a file once from end to end, and decode only its first frame. Raises DataError."""
    if _is_folder(video):
        pictures = _pictures(video)
        seconds = [index / (video.rate or 1.0) for index in range(len(pictures))]
        return _Clip((), seconds, (), picture_size(_picture(pictures[0])))
    with _opened(video) as container:
        stream = container.streams.video[0]
        stamps, keys, is_whole = array("q"), array("q"), True
        try:
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                is_whole = is_whole and packet.pts is not None
                if packet.pts is not None:
                    stamps.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
        except _av().FFmpegError:
            if not stamps:
                raise
        # Packets of AVI come in the order of decoding, and say no other.
        is_whole = is_whole and not (container.format.name == "avi" and stream.codec_context.has_b_frames)
        base = float(stream.time_base)
        rate = float(stream.average_rate or stream.guessed_rate or 25)
    first = _first_frame(video)
    if not is_whole or not stamps:
        count = _decoded_count(video)
        return _Clip((), [index / rate for index in range(count)], (), first)
    ordered = array("q", sorted(set(stamps)))
    times = array("d", ((stamp - ordered[0]) * base for stamp in ordered))
    return _Clip(ordered, times, array("q", sorted(keys)), first)


def _first_frame(video: Media) -> tuple[int, int]:
    """(width, height) of the first frame, upright."""
    with _opened(video) as container:
        for frame in container.decode(container.streams.video[0]):
            upright = (frame.width, frame.height)
            return (upright[1], upright[0]) if frame.rotation % 180 else upright
    raise DataError(f"{video.place}: has no frame that can be decoded")


def _decoded_count(video: Media) -> int:
    """How many frames a file has whose packets do not say."""
    count = 0
    with _opened(video) as container:
        try:
            for _ in container.decode(container.streams.video[0]):
                count += 1
        except _av().FFmpegError:
            if not count:
                raise
    return count


def _upright(frame: Any) -> Image:
    """A decoded frame as it is to be seen: a camera's note on how it was held is obeyed."""
    image: Image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation % 360 else image


def _by_change(video: Media, part: range, rule: FrameRule) -> tuple[int, ...]:
    """Positions in a part of a clip, spaced by how much small grey pictures of it change."""
    import numpy

    looked_at = rule.candidates(len(part))
    reader = _reader(replace(video, frames=None))
    before: Any = None
    changes = []
    for index in looked_at:
        small = reader.frame(part[index]).convert("L").resize((_SMALL, _SMALL))
        pixels = numpy.asarray(small, dtype=numpy.float64)
        changes.append(0.0 if before is None else float(numpy.abs(pixels - before).mean()))
        before = pixels
    return tuple(looked_at[place] for place in by_change(changes, rule.count or len(changes)))
