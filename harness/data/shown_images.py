"""Images, and frames of videos, as a model sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import still_images
from harness.data.video import open_frame
from harness.types import Media

if TYPE_CHECKING:
    from PIL.Image import Image


def picture_size(media: Media) -> tuple[int, int]:
    """Width and height in pixels, without decoding anything. Raises DataError, one line, for what is no still image."""
    if media.frame is not None and media.frames is not None:
        return media.frames.size
    return still_images.picture_size(media)


def open_picture(media: Media) -> Image:
    """The picture, in RGB. Raises DataError, one line, for what cannot be decoded or is no still image."""
    return still_images.open_picture(media) if media.frame is None else open_frame(media)
