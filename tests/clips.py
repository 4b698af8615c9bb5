"""Small videos and sounds that tests make for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy

av: Any = __import__("av")


def shade(number: int) -> int:
    """The grey of a clip's frame: far enough from that of its neighbours to tell them apart after compression."""
    return (number * 37) % 200 + 20


def write_clip(
    path: Path,
    frames: int = 20,
    *,
    codec: str = "mpeg4",
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    ticks: Sequence[int] | None = None,
    shades: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    pixels: str = "yuv420p",
) -> Path:
    """A clip whose frame n is grey of `shade(n)`. ticks: when each is seen, in frames of `fps`; shades: other greys."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
        for number in range(frames):
            grey = shade(number) if shades is None else shades[number]
            picture = numpy.full((size[1], size[0], 3), grey, dtype=numpy.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if ticks is None else ticks[number]
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def grey_of(image: Any) -> float:
    """The mean grey of a decoded frame."""
    return float(numpy.asarray(image, dtype=float).mean())
