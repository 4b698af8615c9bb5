"""The images of a row in a view of it: in another order, grey ones of the same size, or those of another row.

What is drawn comes from a hash of seed, task, subset and row, so that no limit and no order of rows changes it.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence

from harness.data.media_files import kept_file
from harness.errors import DataError
from harness.still_images import picture_size
from harness.tasks.fewshot import Row
from harness.tasks.media import Images
from harness.types import Media, View

GREY = (128, 128, 128)
_DRAWS = 64


def shown_hashes(images: Images) -> list[str]:
    """Hashes of the images that can be shown, in their order."""
    return [image.sha256 for image in images if image and not image.problem]


class OtherImages:
    """Draws images of other rows. images_of: reads those of a row."""

    def __init__(self, rows: Sequence[Row], images_of: Callable[[Row], Images]) -> None:
        self._rows = rows
        self._images_of = images_of

    def draw(self, salt: str, refused: set[str]) -> tuple[Media, int]:
        """An image that is none of `refused` (hashes), and the number of its row. Raises DataError where all are."""
        for number in self._numbers(salt):
            images = [image for image in self._images_of(self._rows[number]) if image and not image.problem]
            other = [image for image in images if image.sha256 not in refused]
            if other:
                return other[_drawn(f"{salt}\0image", len(other))], number
        raise DataError("wrong_image: no other row of these has another image")

    def _numbers(self, salt: str) -> Iterator[int]:
        """Rows by chance, and then all of them, from one by chance on: few may have an image."""
        count = len(self._rows)
        yield from (_drawn(f"{salt}\0{draw}", count) for draw in range(_DRAWS))
        first = _drawn(salt, count)
        yield from (number % count for number in range(first, first + count))


def images_in(view: View, images: Images, others: OtherImages, salt: str) -> tuple[Images, tuple[int, ...]]:
    """The images that a view shows in the places of the row's own, and where they are others, the rows that have them.

    An image that cannot be shown stays, with its problem. Of what cannot be made of an image, its problem says why.
    """
    places = [place for place, image in enumerate(images) if image and not image.problem]
    if view.shows_own_images or not view.images or not places:
        return images, ()
    own = [image for image in images if image and not image.problem]
    rows: list[int] = []
    if view.image_order:
        placed = [own[number] for number in view.image_order]
    elif view.stand_in == "blank":
        placed = [_blank(image) for image in own]
    else:
        refused = {image.sha256 for image in own}
        placed = []
        for number in range(len(own)):
            try:
                other, row = others.draw(f"{salt}\0{number}", refused)
            except DataError as error:
                other, row = Media("image", "", problem=str(error)), -1
            refused.add(other.sha256)
            placed.append(other)
            rows += [row] if row >= 0 else []
    by_place = dict(zip(places, placed, strict=True))
    return tuple(by_place.get(place, image) for place, image in enumerate(images)), tuple(rows)


def _drawn(text: str, count: int) -> int:
    """A number below `count`, from a hash of the text."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") % count


def _blank(image: Media) -> Media:
    try:
        return _grey(picture_size(image))
    except DataError as error:
        return Media("image", "", problem=str(error))


@functools.lru_cache(maxsize=1024)
def _grey(size: tuple[int, int]) -> Media:
    """A grey image of so many pixels (width, height), in a file of the cache."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", size, GREY).save(stream, "PNG")
    sha256 = hashlib.sha256(stream.getvalue()).hexdigest()
    return Media("image", sha256, mime="image/png", path=str(kept_file(stream.getvalue(), sha256)))
