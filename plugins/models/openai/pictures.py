"""Images as a server takes them: PNG, JPEG, GIF or WebP in a data URL, not larger than it allows.

The rule (`PictureRule`) is part of the model's identity. An image within the limits goes as it is, byte for byte, where
every reader of its format sees the same: upright RGB or grey of 8 bits, and opaque. What is otherwise (a camera's note
on how it was held, CMYK, 16 bits, a palette, see-through pixels, another format) is made what a local model sees, and
what is larger scaled to fit, with both sides by the same factor, and sent as PNG; where that takes too many bytes as
JPEG of falling quality, and then smaller. Frames of videos are many: they have limits of their
own, and are sent as JPEG.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness import Media, UsageError
from harness.engine import is_plain_picture, open_picture, picture_size

if TYPE_CHECKING:
    from PIL.Image import Image

TAKEN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
MOST_PIXELS, MOST_BYTES = 2048, 5_000_000
"""What servers commonly take without scaling by themselves, and without a refusal."""
MOST_FRAME_PIXELS, MOST_FRAME_BYTES = 768, 500_000
AS_IT_IS = "rgb or grey, upright, opaque, 8 bits: 1"
"""What is sent byte for byte."""
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
# How a picture is written, the best first.
_ENCODINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("image/png", {"format": "PNG"}),
    *(("image/jpeg", {"format": "JPEG", "quality": quality, "subsampling": 0}) for quality in (95, 85, 75)),
)
_STEP = 0.8


@dataclass(frozen=True, slots=True)
class PictureRule:
    """most_pixels: the longest side; most_bytes: of the file, before it is written as base64."""

    most_pixels: int = MOST_PIXELS
    most_bytes: int = MOST_BYTES

    def __post_init__(self) -> None:
        for name, value, least in (("pixels", self.most_pixels, 28), ("bytes", self.most_bytes, 1000)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UsageError(f"--model_args: max_image_{name}={value} is no whole number of at least {least}")

    @property
    def identity(self) -> dict[str, Any]:
        return {"most_pixels": self.most_pixels, "most_bytes": self.most_bytes, "as_it_is": AS_IT_IS}

    def data_url(self, media: Media) -> str:
        """The image as a data URL within the limits. Raises DataError for what cannot be shown."""
        if media.frame is not None:
            mime, data = self._fitted(open_picture(media), _ENCODINGS[1:])
            return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"
        size = picture_size(media)
        data = media.read()
        mime = media.mime or next((name for magic, name in _MAGIC.items() if data.startswith(magic)), "")
        picture = open_picture(media)  # also where the file is sent: servers make something of one that was cut
        is_taken = mime in TAKEN and is_plain_picture(media)
        if not is_taken or max(size) > self.most_pixels or len(data) > self.most_bytes:
            mime, data = self._fitted(picture)
        return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"

    def _fitted(self, image: Image, encodings: Sequence[tuple[str, dict[str, Any]]] = _ENCODINGS) -> tuple[str, bytes]:
        from PIL.Image import Resampling

        scale = min(1.0, self.most_pixels / max(image.size))
        while True:
            width, height = (max(1, round(side * scale)) for side in image.size)
            scaled = image if (width, height) == image.size else image.resize((width, height), Resampling.LANCZOS)
            for mime, options in encodings:
                stream = io.BytesIO()
                scaled.save(stream, **options)
                if stream.tell() <= self.most_bytes:
                    return mime, stream.getvalue()
            scale *= _STEP
