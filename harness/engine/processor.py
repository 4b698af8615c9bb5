"""What a model's processor makes of images: the text that stands for one in a prompt, and the tensors of its pixels.

How many tokens an image takes depends on its size alone, so that prompts are made without decoding any.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from harness.data.shown_images import picture_size
from harness.errors import DataError, UsageError, one_line, suggest
from harness.quick import dataclass
from harness.still_images import RULE
from harness.types import Media

if TYPE_CHECKING:
    from PIL.Image import Image

# What a processor returns for the text, and not for the image.
_TEXT_KEYS = frozenset(
    {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "text_replacement_offsets"}
)


def load_processor(pretrained: str, config: Any, **source: Any) -> Any:
    """The processor of a checkpoint, as `AutoProcessor` reads it. Raises UsageError, one line.

    transformers makes no processor of a family that also takes videos where torchvision is missing, not even for
    images: then it is made without its part for videos.
    """
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    reader: Any = transformers.AutoProcessor
    try:
        kind: Any = PROCESSOR_MAPPING.get(type(config), None)
        if not find_spec("torchvision") and kind and any("video" in name for name in kind.get_attributes()):
            reader = _without_video(kind)
        return reader.from_pretrained(pretrained, **source)
    except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
        what = f"--model_args: pretrained={pretrained}: its processor cannot be read: {one_line(error)}"
        raise UsageError(what) from None


def _without_video(kind: Any) -> Any:
    """A class of processors that has no part for videos: None stands in its place, which is the last."""
    from transformers import ProcessorMixin

    parts = [name for name in kind.get_attributes() if "video" not in name]
    read = kind._get_arguments_from_pretrained.__func__

    def keep_parts(self: Any, *args: Any, video_processor: None = None, **more: Any) -> None:
        ProcessorMixin.__init__(self, *args, **more)

    # Between a family and the mixin: some families hand the part for videos on by its name, which the mixin refuses.
    between = type("WithoutVideo", (ProcessorMixin,), {"__init__": keep_parts})
    own = {
        "get_attributes": classmethod(lambda _: list(parts)),
        "_get_arguments_from_pretrained": classmethod(lambda cls, *args, **more: [*read(cls, *args, **more), None]),
    }
    return type(kind.__name__, (kind, between), own)


def image_options(
    min_pixels: int | None = None, max_pixels: int | None = None, processor: Mapping[str, Any] | str | None = None
) -> dict[str, Any]:
    """The settings of an image processor that `--model_args` give; `processor` may be JSON. Raises UsageError."""
    if isinstance(processor, str):
        try:
            processor = json.loads(processor)
        except ValueError:
            processor = None
        if not isinstance(processor, Mapping):
            raise UsageError(
                '--model_args: processor takes settings of the image processor as JSON, such as {"size": 336}'
            )
    options = dict(processor or {})
    for name, value in (("min_pixels", min_pixels), ("max_pixels", max_pixels)):
        if value is not None:
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"--model_args: {name}={value} is no number of pixels")
            options[name] = value
    return options


@dataclass(frozen=True, slots=True)
class Expansion:
    """What stands for an image of one size: `text` in the place of its mark, of which `count` tokens take its features.

    grid: (time, height, width) in patches, where the processor says so.
    """

    text: str
    count: int
    grid: tuple[int, int, int] | None = None


class ImageProcessor:
    """The processor of a checkpoint, asked for one image at a time.

    options: settings of its image processor that differ from the stored ones (`min_pixels`, `size`, ...); `settings`
    are they as transformers takes them. source: for transformers' `from_pretrained`. media_token: the id of the token
    whose embeddings an image's features take the place of.
    """

    def __init__(self, pretrained: str, config: Any, options: Mapping[str, Any], **source: Any) -> None:
        self.where = f"pretrained={pretrained}"
        self._read = (pretrained, config, source)
        self.processor = processor = load_processor(pretrained, config, **source)
        image_token = getattr(config, "image_token_id", None)
        if not isinstance(image_token, int):
            raise UsageError(
                f"--model_args: {self.where}: is no model that sees images; `--model hf` runs models of text"
            )
        self.media_token = image_token
        self.options = dict(options)
        self._expansions: dict[tuple[tuple[int, int], bool], Expansion | str] = {}
        mark = getattr(processor, "image_token", None)
        if not isinstance(mark, str) or not hasattr(processor, "image_processor"):
            raise UsageError(f"--model_args: {self.where}: its processor has no mark for images in a text")
        self.mark = mark
        self._check_options()
        self.settings = self._with_bounds()

    def __getstate__(self) -> dict[str, Any]:
        """Without the processor: its class may be made here, and is found by no name elsewhere."""
        return {name: value for name, value in self.__dict__.items() if name != "processor"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        pretrained, config, source = self._read
        self.processor = load_processor(pretrained, config, **source)

    @property
    def identity(self) -> dict[str, Any]:
        """The settings by which images are cut, scaled and normalised, those that were given included."""
        stored = self.processor.image_processor.to_dict()
        kept = {name: value for name, value in stored.items() if _is_json(value) and not name.startswith("_")}
        # torchvision scales images otherwise than PIL, under the same name of a processor: answers of one are not those
        # of the other.
        kinds = {kind.__name__ for kind in type(self.processor.image_processor).__mro__}
        backend = {"backend": "torchvision"} if "TorchvisionBackend" in kinds else {}
        return {**kept, **backend, **self.options}

    @property
    def rules(self) -> dict[str, Any]:
        """What decides how a model sees: a part of its identity."""
        return {"images": {"rule": RULE, **self.identity}}

    def expand(self, media: Media, *, alone: bool = True) -> Expansion:
        """What stands for an image, or a frame of a video. Raises DataError where it cannot be taken. alone: see
        `expansion`."""
        if media.kind != "image":
            raise DataError(f"the model is shown a {media.kind}, and sees images and videos only")
        return self.expansion(picture_size(media), alone=alone)

    @property
    def minds_company(self) -> bool:
        """Whether an image is cut into pieces only where a prompt shows no other (LLaVA-OneVision)."""
        return "batch_num_images" in (getattr(self.processor.image_processor, "model_input_names", None) or ())

    def expansion(self, size: tuple[int, int], *, alone: bool = True) -> Expansion:
        """What stands for an image of so many pixels (width, height). Raises DataError where it cannot be taken.

        alone: whether the prompt shows no other image, or the processor does not mind.
        """
        key = (size, alone)
        if key not in self._expansions:
            from PIL import Image

            try:
                self._expansions[key] = self._expand(Image.new("RGB", size), 1 if alone else 2)
            except DataError as error:
                self._expansions[key] = str(error)
        found = self._expansions[key]
        if isinstance(found, str):
            raise DataError(found)
        return found

    def tensors(self, image: Image, times: int = 1) -> dict[str, Any]:
        """The tensors of an image, shown so often, as the model's own forward pass takes them. Raises DataError."""
        found = self._process(self.mark * times, image, times)
        return {name: value for name, value in found.items() if name not in _TEXT_KEYS}

    def inputs(self, text: str, image: Image, times: int = 1) -> dict[str, Any]:
        """All that the processor makes of a text with so many marks, and the image for each of them."""
        found = self._process(text, image, times)
        return {name: value for name, value in found.items() if name != "text_replacement_offsets"}

    def _expand(self, image: Image, times: int) -> Expansion:
        found = self._process(self.mark * times, image, times, return_text_replacement_offsets=True)
        replaced = found.get("text_replacement_offsets")
        if not replaced or len(replaced[0]) != times:
            raise UsageError(f"{self.where}: its processor does not say what it writes in the place of an image")
        grid = found.get("image_grid_thw")
        shape = tuple(int(side) for side in grid[0]) if grid is not None and len(grid) == 1 else None
        count = int((found["input_ids"] == self.media_token).sum()) // times
        return Expansion(replaced[0][0]["replacement"], count, shape)  # type: ignore[arg-type]

    def _process(self, text: str, image: Image, times: int = 1, **more: Any) -> dict[str, Any]:
        settings = dict(self.settings)
        try:
            found = self.processor(
                text=[text], images=[[image] * times], return_tensors="pt", images_kwargs=settings, **more
            )
        except Exception as error:  # processors raise whatever they stumble over
            width, height = image.size
            what = f"an image of {width} x {height} pixels cannot be taken by the model's processor"
            raise DataError(f"{what}: {one_line(error) or type(error).__name__}") from error
        return dict(found)

    def _check_options(self) -> None:
        """Processors take any setting, and leave out what they do not know: that would be a wrong number."""
        kind = type(self.processor.image_processor)
        valid = getattr(kind, "valid_kwargs", None)
        bases = getattr(valid, "__orig_bases__", ())
        known = {name for each in (valid, *bases) for name in getattr(each, "__annotations__", {})}
        known |= set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}
        for name in self.options:
            if name not in known:
                raise UsageError(
                    f"--model_args: {self.where}: the image processor {kind.__name__} knows no setting "
                    f"'{name}'{suggest(name, known)}"
                )

    def _with_bounds(self) -> dict[str, Any]:
        """The options, with `min_pixels` and `max_pixels` as the bounds of `size`, as transformers now has them."""
        settings = dict(self.options)
        bounds = {"shortest_edge": settings.pop("min_pixels", None), "longest_edge": settings.pop("max_pixels", None)}
        if any(bounds.values()):
            size = settings.get("size") or getattr(self.processor.image_processor, "size", None) or {}
            settings["size"] = {**dict(size), **{edge: value for edge, value in bounds.items() if value}}
        return settings


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    return isinstance(value, str | int | float | bool | None)
