"""The pictures of samples, found again by what their records say of them, and painted anew for a page.

Only what a record of the run names is opened, and only where its bytes have the hash that the record gives. What a page
gets are the pixels alone, written anew: nothing else that the file holds (a camera's notes, markup) leaves it.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from harness.data.download import cache_folder
from harness.errors import DataError, HarnessError, one_line
from harness.record.file_types import Manifest
from harness.types import Media, SampleKey

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES = 64 * 1024 * 1024
MOST_PIXELS = 40_000_000
_EDGE = 1600  # pixels of the longer edge on a page
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF")
_MOST_SEARCHES = 64
_MOST_KEPT = 16 * 1024 * 1024  # bytes of pictures that were shown last
_PATIENCE = 1.5  # seconds that a page waits for rows to be opened
_LOCK = threading.RLock()  # one picture at a time: decoding takes much memory


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a page shows it, its size in pixels, or why it is not shown.

    is_awaited: the rows of the task are being opened to find it.
    """

    kind: str = ""
    data: bytes = field(default=b"", repr=False)
    width: int = 0
    height: int = 0
    problem: str = ""
    is_awaited: bool = False


class MediaFinder:
    """Finds the media of runs: where the record says, in the cache, or in the rows of the task as they are now.

    mirrors: folders in which rows are looked for, before those of the run itself.
    """

    def __init__(self, mirrors: Sequence[Path] = ()) -> None:
        self._mirrors = tuple(str(mirror.resolve()) for mirror in mirrors)
        self._searches: dict[tuple[Path, str, str], _Search] = {}
        self._painted: dict[str, Picture] = {}
        self._lock = threading.Lock()

    def picture(self, run: Path, manifest: Manifest, key: SampleKey, media: Media) -> Picture:
        """An image of a sample as a page shows it, or why it does not."""
        with self._lock:
            known = self._painted.get(media.sha256)
        if known is None:
            try:
                data = self._bytes(run, manifest, key, media)
                known = Picture(is_awaited=True) if data is None else painted(data)
            except DataError as error:
                known = Picture(problem=str(error))
            with self._lock:
                self._keep(media.sha256, known)
        return known

    def _keep(self, sha256: str, picture: Picture) -> None:
        """A page asks for a picture at once after it was told of it."""
        if picture.data:
            self._painted[sha256] = picture
        while sum(len(each.data) for each in self._painted.values()) > _MOST_KEPT:
            del self._painted[next(iter(self._painted))]

    def _bytes(self, run: Path, manifest: Manifest, key: SampleKey, media: Media) -> bytes | None:
        """None while the rows of the task are being opened."""
        if media.kind != "image":
            raise DataError(f"{media.kind} is not shown here")
        kept = replace(media, path=str(cache_folder("media", media.sha256[:2], media.sha256)), member="")
        problem: DataError | None = None
        for place in (media, kept):
            try:
                return _read(place)
            except DataError as error:
                problem = problem or error
        search = self._search(run, manifest, key)
        if search.is_alive():
            return None
        if media.sha256 in search.shown:
            return _read(search.shown[media.sha256])
        raise DataError(f"{problem}; {search.problem or 'no row of the task shows it any more'}")

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


def _read(media: Media) -> bytes:
    """The bytes, where they are of a bounded number and have the hash. Raises DataError, one line."""
    path = Path(media.path)
    try:
        if not media.path or not path.is_file():  # a pipe or a device would never end
            raise DataError(f"{media.place}: there is no such file any more")
        if media.member:
            with ZipFile(path) as archive:
                size = archive.getinfo(media.member).file_size
        else:
            size = path.stat().st_size
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DataError(f"{media.place}: cannot be read: {one_line(error)}") from None
    if size > MOST_BYTES:
        raise DataError(f"{media.place}: is larger than {MOST_BYTES >> 20} MiB")
    return media.read()


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
