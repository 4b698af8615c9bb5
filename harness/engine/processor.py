"""What a model's processor makes of images: the text that stands for one in a prompt, and the tensors of its pixels.

How many tokens an image takes depends on its size alone, so that prompts are made without decoding any.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import DataError, UsageError, one_line, suggest

if TYPE_CHECKING:
    from PIL.Image import Image

# What a processor returns for the text, and not for the image.
_TEXT_KEYS = frozenset(
    {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "text_replacement_offsets"}
)


@dataclass(frozen=True, slots=True)
class Expansion:
    """What stands for an image of one size: `text` in the place of its mark, of which `count` tokens take its features.

    grid: (time, height, width) in patches, where the processor says so.
    """

    text: str
    count: int
    grid: tuple[int, int, int] | None = None


class ImageProcessor:
    """A transformers processor, asked for one image at a time.

    options: settings of its image processor that differ from the stored ones (`min_pixels`, `size`, ...). image_token:
    the id of the token whose embeddings an image's features take the place of.
    """

    def __init__(self, processor: Any, image_token: int, options: Mapping[str, Any], where: str) -> None:
        self.processor = processor
        self.image_token = image_token
        self.options = dict(options)
        self.where = where
        self._expansions: dict[tuple[int, int], Expansion | str] = {}
        mark = getattr(processor, "image_token", None)
        if not isinstance(mark, str) or not hasattr(processor, "image_processor"):
            raise UsageError(
                f"{where}: its processor has no mark for images in a text, so that none can be shown to it"
            )
        self.mark = mark
        self._check_options()

    @property
    def identity(self) -> dict[str, Any]:
        """The settings by which images are cut, scaled and normalised, those that were given included."""
        stored = self.processor.image_processor.to_dict()
        kept = {name: value for name, value in stored.items() if _is_json(value) and not name.startswith("_")}
        return {**kept, **self.options}

    def expansion(self, size: tuple[int, int]) -> Expansion:
        """What stands for an image of so many pixels (width, height). Raises DataError where it cannot be taken."""
        if size not in self._expansions:
            from PIL import Image

            try:
                self._expansions[size] = self._expand(Image.new("RGB", size))
            except DataError as error:
                self._expansions[size] = str(error)
        found = self._expansions[size]
        if isinstance(found, str):
            raise DataError(found)
        return found

    def tensors(self, image: Image) -> dict[str, Any]:
        """The tensors of an image, as the model's own forward pass takes them. Raises DataError."""
        found = self._process(self.mark, image)
        return {name: value for name, value in found.items() if name not in _TEXT_KEYS}

    def inputs(self, text: str, image: Image) -> dict[str, Any]:
        """All that the processor makes of a text with one mark, and its image."""
        return {name: value for name, value in self._process(text, image).items() if name != "text_replacement_offsets"}

    def _expand(self, image: Image) -> Expansion:
        found = self._process(self.mark, image, return_text_replacement_offsets=True)
        replaced = found.get("text_replacement_offsets")
        if not replaced or len(replaced[0]) != 1:
            raise UsageError(f"{self.where}: its processor does not say what it writes in the place of an image")
        grid = found.get("image_grid_thw")
        shape = tuple(int(side) for side in grid[0]) if grid is not None and len(grid) == 1 else None
        count = int((found["input_ids"] == self.image_token).sum())
        return Expansion(replaced[0][0]["replacement"], count, shape)  # type: ignore[arg-type]

    def _process(self, text: str, image: Image, **more: Any) -> dict[str, Any]:
        try:
            found = self.processor(
                text=[text], images=[[image]], return_tensors="pt", images_kwargs=dict(self.options), **more
            )
        except Exception as error:  # processors raise whatever they stumble over
            width, height = image.size
            what = f"an image of {width} x {height} pixels cannot be taken by the model's processor"
            raise DataError(f"{what}: {one_line(error) or type(error).__name__}") from error
        return dict(found)

    def _check_options(self) -> None:
        """Processors take any setting, and leave out what they do not know: that would be a wrong number."""
        kind = type(self.processor.image_processor)
        known = {*getattr(getattr(kind, "valid_kwargs", None), "__annotations__", {}), *_all_annotations(kind)}
        known |= set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}
        for name in self.options:
            if name not in known:
                raise UsageError(
                    f"--model_args: {self.where}: the image processor {kind.__name__} knows no setting "
                    f"'{name}'{suggest(name, known)}"
                )


def _all_annotations(kind: type) -> set[str]:
    valid = getattr(kind, "valid_kwargs", None)
    return {name for base in getattr(valid, "__orig_bases__", ()) for name in getattr(base, "__annotations__", {})}


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return isinstance(value, str | int | float | bool | None)
