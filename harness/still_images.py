"""Opens images as a model sees them: still, upright, eight bits of red, green and blue, nothing see-through.

The rule is part of a model's identity (`RULE`): what is not RGB is converted as Pillow does; 16 bits a channel become
8; see-through pixels lie on white, as a page shows them; a camera's note on how it was held is obeyed.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import DataError, UsageError, one_line
from harness.types import Media

if TYPE_CHECKING:
    from PIL.Image import Image

RULE = "rgb, upright, on white, 8 bits: 1"
_ANIMATED = frozenset({"GIF", "WEBP", "PNG", "AVIF"})
_SIDEWAYS = frozenset({5, 6, 7, 8})
_ORIENTATION = 274
_WHITE = (255, 255, 255, 255)


def picture_size(media: Media) -> tuple[int, int]:
    """Width and height, read off the head of the file. Raises DataError, one line, for what is no still image."""
    with _opened(media) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(_ORIENTATION) in _SIDEWAYS else (width, height)


def is_plain_picture(media: Media) -> bool:
    """Whether whoever decodes the file sees what `open_picture` shows: upright RGB or grey of 8 bits, and opaque.

    Read off the head of the file. Raises DataError for what is no still image.
    """
    with _opened(media) as image:
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        return upright and image.mode in ("RGB", "L") and "transparency" not in image.info


def open_picture(media: Media) -> Image:
    """The image, in RGB. Raises DataError, one line, for what cannot be decoded or is no still image."""
    from PIL import Image, ImageOps

    with _opened(media) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers, of which nothing says what is white")
        if image.mode.startswith("I"):
            return _eight_bits(image)
        if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
            layers = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", layers.size, _WHITE), layers).convert("RGB")
        return image.convert("RGB")


def _eight_bits(image: Image) -> Image:
    """16 bits a pixel as 8: Pillow itself would cut off all that is brighter than 255."""
    import numpy
    import PIL.Image

    values = numpy.asarray(image, dtype=numpy.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError("its pixels have 32 bits, of which nothing says what is white")
    return PIL.Image.fromarray((values // 257).astype(numpy.uint8)).convert("RGB")


def _pages(image: Image, frames: int) -> int:
    """How many of a TIFF's images are pages, and no smaller copies of one (tag 254, NewSubfileType)."""
    pages = 0
    for frame in range(frames):
        image.seek(frame)
        pages += not image.tag_v2.get(254, 0) & 1  # type: ignore[attr-defined]
    image.seek(0)
    return pages


@contextmanager
def _opened(media: Media) -> Iterator[Image]:
    try:
        from PIL import Image
    except ImportError:
        raise UsageError("images need the package pillow: pip install pillow") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, and of notes in them that nobody reads
            with Image.open(io.BytesIO(media.read())) as image:
                frames = int(getattr(image, "n_frames", 1))
                if frames > 1 and image.format in _ANIMATED:
                    raise ValueError(f"it is animated ({frames} frames): give one frame of it, or the clip as a video")
                if frames > 1 and image.format == "TIFF" and (pages := _pages(image, frames)) > 1:
                    raise ValueError(f"it has {pages} pages: give one of them")
                if min(image.size) < 1:
                    raise ValueError("it has no pixels")
                yield image
    except (DataError, UsageError):
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        reason = one_line(error)
        if "cannot identify image" in reason:
            reason = "it is damaged, or no image"
        raise DataError(f"{media.place}: the image cannot be shown: {reason}") from error
