"""Hashes of pictures that stay the same when a picture is scaled, compressed anew or turned grey.

    hashed = picture_hash(data)                 # 255 bits, as +1 and -1
    distances(hashed, others)                   # how many bits differ

A picture's grey values, 64 by 64, are transformed by a discrete cosine transform; a bit says whether one of the 255
slowest waves is above their median (pHash: C. Zauner, Implementation and Benchmarking of Perceptual Image Hash
Functions, 2010, with more bits, because charts and diagrams resemble one another).
"""

from __future__ import annotations

import functools
import io
import math
import warnings

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.float32]

SIDE, WAVES = 64, 16
ALIKE = 28
"""So many of the 255 bits may differ between two copies of one picture."""
PLAIN = 2.0
"""Standard deviation of grey values (0 to 255) below which a picture shows nothing that could be told from another."""


def picture_hash(data: bytes) -> Bits | None:
    """255 bits of a picture, each +1 or -1; None for one of a single colour. Raises `ValueError` for no picture."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                opened.draft("L", (4 * SIDE, 4 * SIDE))  # a JPEG is decoded no larger than needed
                picture: Image.Image = opened
                if "A" in picture.getbands() or "transparency" in picture.info:  # as pages show it, on white
                    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
                grey = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.float32)
    except Exception as error:  # whatever decoders raise for broken files
        raise ValueError(f"no picture that can be read ({type(error).__name__})") from error
    if grey.std() < PLAIN:
        return None
    waves = (_cosines() @ grey @ _cosines().T).ravel()[1:]  # the first is the mean brightness
    return np.where(waves > np.median(waves), 1, -1).astype(np.float32)


def distances(hashed: Bits, others: Bits) -> npt.NDArray[np.int64]:
    """How many bits of `others`, shape [n, 255], differ from those of one picture."""
    return np.asarray(np.rint((hashed.shape[0] - others @ hashed) / 2), dtype=np.int64)


@functools.cache
def _cosines() -> npt.NDArray[np.float32]:
    """The slowest waves of the discrete cosine transform, shape [waves, side]."""
    places = (np.arange(SIDE) + 0.5) * math.pi / SIDE
    return np.asarray(np.cos(np.outer(np.arange(WAVES), places)), dtype=np.float32)
