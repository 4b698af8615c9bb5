"""The pictures, frames and sounds of samples, found again by what their records say of them, and made anew for a page.

Only what a record of the run names is opened, and only where its bytes have the hash that the record gives. What a page
gets are the pixels or the sound alone, written anew: nothing else that the file holds (a camera's notes, markup) leaves
it.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from harness.errors import DataError, HarnessError, one_line
from harness.quick import dataclass
from harness.record.manifest_fields import Manifest
from harness.types import UNREADABLE, Media, SampleKey

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 64 * 1024 * 1024
MOST_CLIP_BYTES = 1024 * 1024 * 1024
MOST_FRAMES = 32
MOST_SECONDS = 600.0
MOST_PIXELS = 40_000_000
_EDGE = 1600  # pixels of the longer edge on a page
_FRAME_EDGE = 320
_RATE = 16_000  # samples a second, as most models hear them
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF")
_MOST_SEARCHES = 64
_MOST_KEPT = 16 * 1024 * 1024  # bytes of pictures that were shown last
_PATIENCE = 1.5  # seconds that a page waits for rows to be opened
_LOCK = threading.RLock()  # one picture at a time: decoding takes much memory


@dataclass(frozen=True, slots=True)
class Picture:
    """An image, a frame or a sound as a page has it, an image's size in pixels, or why it is not shown.

    index, time: of a frame, its place in the video and its second. seconds: how much of a long sound is there.
    is_awaited: the rows of the task are being opened to find it.
    """

    kind: str = ""
    data: bytes = field(default=b"", repr=False)
    width: int = 0
    height: int = 0
    problem: str = ""
    is_awaited: bool = False
    index: int | None = None
    time: float = 0.0
    seconds: float | None = None


class MediaFinder:
    """Finds the media of runs: where the record says, in the cache, or in the rows of the task as they are now.

    mirrors: folders in which rows are looked for, before those of the run itself.
    """

    def __init__(self, mirrors: Sequence[Path] = ()) -> None:
        self._mirrors = tuple(str(mirror.resolve()) for mirror in mirrors)
        self._searches: dict[tuple[Path, str, str], _Search] = {}
        self._shown: dict[Media, Picture] = {}
        self._lock = threading.Lock()

    def pictures(self, run: Path, manifest: Manifest, key: SampleKey, media: Media) -> list[Picture]:
        """The parts of an image, a sound or a video (see `parts_of`) as a page shows them; or one that says why not."""
        pictures: list[Picture] = []
        for part in parts_of(media):
            pictures.append(self.picture(run, manifest, key, part))
            if not pictures[-1].data:
                return pictures[-1:]  # the others of the file would say the same
        return pictures or [Picture(problem="its record names no frames: the model was not shown any that are known")]

    def picture(self, run: Path, manifest: Manifest, key: SampleKey, media: Media) -> Picture:
        """An image, a frame or a sound of a sample as a page has it, or why it is not shown."""
        with self._lock:
            known = self._shown.get(media)
        if known is None:
            try:
                place = self._place(run, manifest, key, media)
                known = Picture(is_awaited=True) if place is None else _made_anew(place)
            except HarnessError as error:
                known = Picture(problem=str(error))
            with self._lock:
                self._keep(media, known)
        return known

    def _keep(self, media: Media, picture: Picture) -> None:
        """A page asks for a picture at once after it was told of it."""
        if picture.data:
            self._shown[media] = picture
        while sum(len(each.data) for each in self._shown.values()) > _MOST_KEPT:
            del self._shown[next(iter(self._shown))]

    def _place(self, run: Path, manifest: Manifest, key: SampleKey, media: Media) -> Media | None:
        """The media where its bytes are now; None while the rows of the task are being opened."""
        from harness.data.download import cache_folder

        kept = replace(media, path=str(cache_folder("media", media.sha256[:2], media.sha256)), member="")
        problem: DataError | None = None
        for place in (media, kept):
            try:
                _check_place(place)
                return place
            except DataError as error:
                problem = problem or error
        search = self._search(run, manifest, key)
        if search.is_alive():
            return None
        if media.sha256 not in search.shown:
            raise DataError(f"{problem}; {search.problem or 'no row of the task shows it any more'}")
        now = search.shown[media.sha256]
        place = replace(media, path=now.path, member=now.member, data=now.data)
        if place.path:
            _check_place(place)
        return place

    def _search(self, run: Path, manifest: Manifest, key: SampleKey) -> _Search:
        with self._lock:
            name = (run, key.task, key.subset)
            search = self._searches.get(name)
            if search is None:
                while len(self._searches) >= _MOST_SEARCHES:
                    del self._searches[next(iter(self._searches))]
                search = self._searches[name] = _Search(self._mirrors, manifest, key)
                search.start()
        search.join(_PATIENCE)
        return search


class _Search(threading.Thread):
    """Opens the rows of a subset once. shown: hash -> where it is; problem: why rows cannot be opened."""

    def __init__(self, mirrors: Sequence[str], manifest: Manifest, key: SampleKey) -> None:
        super().__init__(daemon=True)
        self.shown: dict[str, Media] = {}
        self.problem = ""
        self._mirrors, self._manifest, self._key = mirrors, manifest, key

    def run(self) -> None:
        # What runs a task takes a while to import, and most pages need none of it.
        from harness.registry import load_plugins
        from harness.run.row_media import media_of_rows
        from harness.run.spec import RunSpec

        try:
            spec = RunSpec.from_json(self._manifest["spec"])
            spec = replace(spec, data=(*self._mirrors, *spec.data))
            self.shown = media_of_rows(spec, self._key.task, self._key.subset, load_plugins())
        except Exception as error:  # whatever it was: the page that waits for the image says it
            known = isinstance(error, HarnessError)
            self.problem = f"nor can the rows be opened: {one_line(error) if known else type(error).__name__}"


def parts_of(media: Media) -> tuple[Media, ...]:
    """An image or a sound itself; of a video its chosen frames, evenly thinned to as many as a page shows, none where
    the record names none."""
    from harness.data.frame_sampling import uniform
    from harness.data.video import frame_images

    if media.kind != "video":
        return (media,)
    frames = frame_images(media)
    if len(frames) <= MOST_FRAMES:
        return frames
    return tuple(frames[place] for place in uniform(len(frames), MOST_FRAMES))


def name_of(media: Media) -> str:
    """What an image, a frame or a sound is called in an address: its hash, and which frame or part of it."""
    part = [f"{at:g}" for at in (media.start, media.end) if at is not None]
    frame = [] if media.frame is None else [f"f{media.frame}"]
    return "-".join((media.sha256, *part, *frame))


def _check_place(media: Media) -> None:
    """Raises DataError, one line, where no file of a bounded size is there whose bytes have the hash."""
    from harness.data.media_files import file_sha256

    path = Path(media.path)
    is_clip = media.kind == "audio" or media.frame is not None
    most = MOST_CLIP_BYTES if is_clip else MOST_BYTES
    is_folder = media.frame is not None and path.is_dir()
    try:
        if not media.path or not (path.is_file() or is_folder):  # a pipe or a device would never end
            raise DataError(f"{media.place}: there is no such file any more")
        if media.member:
            with ZipFile(path) as archive:
                size = archive.getinfo(media.member).file_size
        else:
            size = 0 if is_folder else path.stat().st_size
    except UNREADABLE as error:
        raise DataError(f"{media.place}: cannot be read: {one_line(error)}") from None
    if size > most:
        raise DataError(f"{media.place}: is larger than {most >> 20} MiB")
    if file_sha256(media.path, media.member) != media.sha256:
        raise DataError(f"{media.place}: has changed since the run")


def _made_anew(media: Media) -> Picture:
    if media.kind == "audio":
        return _sound(media)
    return painted(media.read()) if media.frame is None else _frame(media)


def _sound(media: Media) -> Picture:
    """What is heard of a sound, as WAV: one channel, at most ten minutes. Raises HarnessError."""
    from harness.data.audio import sound_length, wav_bytes

    with _LOCK:
        is_long = sound_length(media, 1000) > 1000 * MOST_SECONDS
        heard = replace(media, end=(media.start or 0.0) + MOST_SECONDS) if is_long else media
        return Picture("audio/wav", wav_bytes(heard, _RATE), seconds=MOST_SECONDS if is_long else None)


def _frame(media: Media) -> Picture:
    """A frame of a video as a small JPEG. Raises HarnessError."""
    from harness.data.video import open_frame

    frames, index = media.frames, media.frame
    assert frames is not None and index is not None
    try:
        width, height = frames.size
        if width * height > MOST_PIXELS:
            raise DataError(f"it has {width:,} x {height:,} pixels, which is too many for a page")
        with _LOCK:
            image = open_frame(media)
        image.thumbnail((_FRAME_EDGE, _FRAME_EDGE))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=85)
        time = frames.times[frames.indices.index(index)]
    except HarnessError:
        raise
    except Exception as error:  # a record that names frames or sizes that cannot be
        raise DataError(f"{media.place}: frame {index} cannot be shown: {one_line(error)}") from None
    return Picture("image/jpeg", stream.getvalue(), *image.size, index=index, time=time)


def painted(data: bytes) -> Picture:
    """The image on new paper, upright, at most 1,600 pixels wide and high: JPEG where it was one, else PNG.

    Raises DataError, one line, for what cannot be decoded or is too large for a page.
    """
    from PIL import Image, ImageOps

    with _opened(data) as image:
        form = "JPEG" if image.format in ("JPEG", "MPO") else "PNG"
        image.draft("RGB", (_EDGE, _EDGE))
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits a pixel: Pillow would cut off all that is brighter than 255
            upright = upright.convert("I").point(lambda value: value * (1 / 257)).convert("L")
        see_through = form == "PNG" and ("A" in upright.getbands() or "transparency" in upright.info)
        upright = upright.convert("RGBA" if see_through else "L" if upright.mode in ("1", "L") else "RGB")
        upright.thumbnail((_EDGE, _EDGE))
        paper = Image.new(upright.mode, upright.size)
        paper.paste(upright)
        stream = io.BytesIO()
        paper.save(stream, form, **({"quality": 88} if form == "JPEG" else {}))
        return Picture(f"image/{form.lower()}", stream.getvalue(), *paper.size)


@contextmanager
def _opened(data: bytes) -> Iterator[Image]:
    """The image, its pixels not yet read. Raises DataError, one line, for what is none or is too large to be shown."""
    from PIL import Image

    try:
        with _LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which are refused below
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise DataError(f"it has {width:,} x {height:,} pixels, which is too many for a page")
                yield image
    except DataError:
        raise
    except Exception as error:  # decoders raise anything for a damaged file
        raise DataError(f"it cannot be decoded: {one_line(error)}") from None
