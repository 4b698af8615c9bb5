"""A decoder that is shown images: each image goes through the vision tower once, whichever prompts hold it.

Token ids from `FIRST_ID` on are places of images (`image_prompts`). Where a pass holds some, the model is given its own
token for images there, and their features as what its vision tower has said (`mm_encoder_outputs` of transformers).
"""

from __future__ import annotations

import bisect
import inspect
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.data.shown_images import open_picture
from harness.engine import memory
from harness.engine.batches import PackLayout
from harness.engine.decoder import Decoder
from harness.engine.devices import upload
from harness.engine.image_prompts import FIRST_ID
from harness.engine.plan import PlanRow
from harness.engine.processor import ImageProcessor
from harness.engine.tokens import PlacedImage
from harness.errors import DataError, ModelError, one_line

_FEATURE_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
_SHARE_OF_FREE = 0.1
# float32 sums in another order, and twice as deep as one layer.
_TOLERANCE = {"float32": 1e-3}


@dataclass(slots=True)
class _Features:
    """What a vision tower makes of images: [tokens, hidden] for the input, and for each deeper layer that gets some.

    pooler_output: a list of tensors or, [1, tokens, hidden], a tensor, as the family's own tower says it.
    """

    pooler_output: Any
    deepstack_features: list[list[torch.Tensor]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        tensors = [self.pooler_output[0], *(part for layer in self.deepstack_features for part in layer)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class VisionDecoder(Decoder):
    """Runs an image-text-to-text model of transformers. `encoded` counts images that went through its vision tower.

    broken: images that could not be shown, by their first id, with the reason. What is computed with one is void.
    """

    def __init__(self, model: Any, device: str, dtype: str, processor: ImageProcessor) -> None:
        super().__init__(model, device, dtype)
        self.processor = processor
        self.encoded = 0
        self._checked = False
        self._as_tensor = False
        self.broken: dict[int, str] = {}
        self._images: dict[int, PlacedImage] = {}
        self._firsts: list[int] = []
        self._kept: OrderedDict[int, _Features] = OrderedDict()
        self._kept_bytes = 0
        self._places: dict[tuple[int, int, int], tuple[torch.Tensor, int]] = {}
        body = self.layers
        if body is None or "mm_encoder_outputs" not in inspect.signature(body.forward).parameters:
            raise ModelError(
                f"{type(model).__name__} takes no features of images from outside (mm_encoder_outputs), which the "
                "engine needs: update transformers, or use a server: --model openai"
            )
        self._arguments = set(inspect.signature(body.forward).parameters)
        self._feature_arguments = set(inspect.signature(body.get_image_features).parameters) - {"kwargs"}
        self._turns_by_image = hasattr(body, "get_rope_index")
        text = getattr(model.config, "text_config", None)
        both = getattr(text, "use_bidirectional_attention", None) in ("vision", "all")
        self._sees_both_ways = "token_type_ids" in self._arguments or both

    def register(self, images: Iterable[PlacedImage]) -> None:
        """Know these images, so that their ids can be computed."""
        for image in images:
            if image.first not in self._images:
                self._images[image.first] = image
                bisect.insort(self._firsts, image.first)

    def place(self, rows: Sequence[PlanRow]) -> None:
        """Give the tokens of a plan's rows, parents first, the positions of a model that turns by where in an image a
        token is, and say which of them see each other; most models count tokens, and see what is before them."""
        if self._sees_both_ways:
            for row in rows:
                for start, end, _ in row.segments:
                    row.blocks += _blocks(row.tokens, start, end)
        if not self._turns_by_image or not self._images:
            return
        ends: dict[int, int] = {}
        for row in rows:
            start = 0 if row.parent is None else ends[row.parent]
            after: list[int] = []
            for first, last, parent in row.segments:
                above = after[parent] if parent >= 0 else start
                places, end = self._rotary(row.tokens[first:last], above)
                row.rotary += places
                after.append(end)
                row.shifts.append(end - (row.positions[last - 1] + 1))
            ends[row.index] = after[-1]

    def packed(self, layout: PackLayout) -> dict[str, Any]:
        tokens = [token for row in layout.rows for token in row.tokens]
        inputs = {**layout.inputs(), **self._with_images([tokens])}
        if any(row.rotary for row in layout.rows):
            places = [place for row in layout.rows for place in row.rotary]
            inputs["position_ids"] = upload(places, self.device).t().unsqueeze(1)
        return inputs

    def padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        inputs = self._with_images(rows)
        if self._turns_by_image and any(token >= FIRST_ID for row in rows for token in row):
            places = [self._rotary(row, 0)[0] for row in rows]
            inputs["position_ids"] = upload(places, self.device).permute(2, 0, 1)
        return inputs

    def generated(self, rows: Sequence[Sequence[int]], mask: torch.Tensor) -> dict[str, Any]:
        inputs = {**self._with_images(rows), "attention_mask": mask.to(self.device)}
        if "mm_encoder_outputs" in inputs and self._turns_by_image:
            grids = [self._images[token].grid for row in rows for token in row if token in self._images]
            inputs["image_grid_thw"] = torch.tensor(grids, device=self.device)
        return inputs

    def leave_blank(self, images: Iterable[PlacedImage]) -> None:
        """Have nothing in the place of these images, which takes a decoder as long."""
        for image in images:
            self.register([image])
            if image.first not in self._kept:
                self._keep(image, self._blank(image))

    def check_first(self, images: Iterable[PlacedImage]) -> None:
        """Check the model on the first image that can be opened, once."""
        for image in () if self._checked else images:
            try:
                self.check(image)
            except DataError:  # the error of its samples
                continue
            self._checked = True
            return

    def forget(self) -> None:
        """Drop the features of all images."""
        self._kept.clear()
        self._kept_bytes = 0

    @torch.inference_mode()
    def check(self, image: PlacedImage) -> None:
        """Compare with the model's own forward pass over what its processor makes of a text and this image. Raises
        ModelError where they differ: a family that needs more than is known here would give wrong numbers."""
        self.register([image])
        times = 1 if image.alone else 2
        own = self.processor.inputs(f"{self.processor.mark * times}\nA B C", open_picture(image.media), times)
        ids = own["input_ids"][0].tolist()
        places = iter([*range(image.first, image.first + image.count)] * times)
        tokens = [next(places) if token == self.processor.media_token else token for token in ids]
        inputs = {name: self._moved(value) for name, value in own.items()}
        expected = self.model(**inputs, use_cache=False).logits[0].float()
        found = self.logits(self.hidden(**self.padded([tokens]))[0])
        apart = float((found - expected).norm() / expected.norm().clamp(min=1e-6))
        if not apart <= _TOLERANCE.get(self.dtype, 0.1):
            raise ModelError(
                f"{type(self.model).__name__}: with an image its own forward pass gives other logits ({apart:.1%} "
                "away) than the engine's: this family cannot be measured in process yet; use a server: --model openai"
            )

    def _with_images(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        """`input_ids` [rows, width], and what the model is to be told of the images in them."""
        own = self.processor.media_token
        if not any(token >= FIRST_ID for row in rows for token in row):
            return {"input_ids": upload([list(row) for row in rows], self.device)}
        # An answer may hold the model's own token for images: there it is a token like any other.
        places = [token for row in rows for token in row if token >= FIRST_ID or token == own]
        ids = upload([[own if token >= FIRST_ID else token for token in row] for row in rows], self.device)
        inputs: dict[str, Any] = {"input_ids": ids, "mm_encoder_outputs": {"image": self._features_at(places)}}
        for name in ("token_type_ids", "mm_token_type_ids"):
            if name in self._arguments:
                inputs[name] = (ids == own).long()
        return inputs

    def _features_at(self, places: Sequence[int]) -> _Features:
        """The features of these ids, in their order."""
        wanted: list[tuple[PlacedImage | None, int, int]] = []
        for place in places:
            if place < FIRST_ID:
                wanted.append((None, 0, 1))
                continue
            image = self._image_at(place)
            at = place - image.first
            if wanted and wanted[-1][0] is image and wanted[-1][2] == at:
                wanted[-1] = (image, wanted[-1][1], at + 1)
            else:
                wanted.append((image, at, at + 1))
        found = [(self._own_token() if i is None else self._features(i), start, end) for i, start, end in wanted]
        deep = len(found[0][0].deepstack_features)
        whole = torch.cat([features.pooler_output[0][start:end] for features, start, end in found])
        return _Features(
            whole.unsqueeze(0) if self._as_tensor else [whole],
            [
                [torch.cat([features.deepstack_features[layer][0][start:end] for features, start, end in found])]
                for layer in range(deep)
            ],
        )

    def _image_at(self, place: int) -> PlacedImage:
        return self._images[self._firsts[bisect.bisect_right(self._firsts, place) - 1]]

    def _features(self, image: PlacedImage) -> _Features:
        """The features of an image: computed once, and kept while there is room for them."""
        if image.first in self._kept:
            self._kept.move_to_end(image.first)
            return self._kept[image.first]
        try:
            found = self.encode(image)
        except DataError as error:
            self.broken[image.first] = str(error)
            found = self._blank(image)
        self._keep(image, found)
        return found

    def _keep(self, image: PlacedImage, features: _Features) -> None:
        self._kept[image.first] = features
        self._kept_bytes += features.bytes
        room = _FEATURE_BYTES.get(self.device.split(":")[0], 256 << 20)
        room = min(room, int(_SHARE_OF_FREE * memory.free_memory(self.device)))
        while self._kept_bytes > room and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].bytes

    def encode(self, image: PlacedImage) -> _Features:
        """Send an image through the vision tower. Raises DataError where it cannot be opened or taken."""
        tensors = self.processor.tensors(open_picture(image.media), 1 if image.alone else 2)
        inputs = {name: self._moved(value) for name, value in tensors.items() if name in self._feature_arguments}
        found = self.layers.get_image_features(**inputs, return_dict=True)
        self.encoded += 1
        self._as_tensor = isinstance(found.pooler_output, torch.Tensor)
        features = _Features(
            [_flat(found.pooler_output if image.alone else found.pooler_output[0])],
            [[_flat(layer)] for layer in getattr(found, "deepstack_features", None) or ()],
        )
        given = len(features.pooler_output[0])
        if given != image.count:
            raise DataError(
                f"{image.media.place}: the model makes {given} tokens of it, and its processor {image.count}"
            )
        return features

    def _blank(self, image: PlacedImage) -> _Features:
        """In the place of an image that cannot be shown: what is computed with it is void, what is beside it not."""
        weight = self.layers.get_input_embeddings().weight
        empty = torch.zeros((image.count, weight.shape[-1]), dtype=weight.dtype, device=weight.device)
        return _Features([empty], [[empty] for _ in range(self._deep_layers())])

    def _own_token(self) -> _Features:
        """The model's token for images, as the token that it is."""
        token = torch.tensor([self.processor.media_token], device=self.device)
        embedded = self.layers.get_input_embeddings()(token)
        return _Features([embedded], [[torch.zeros_like(embedded)] for _ in range(self._deep_layers())])

    def _deep_layers(self) -> int:
        """How many layers of the decoder are given features of their own (Qwen3-VL's deepstack)."""
        vision = getattr(self.model.config, "vision_config", None)
        return len(getattr(vision, "deepstack_visual_indexes", None) or ())

    def _rotary(self, tokens: Sequence[int], start: int) -> tuple[list[tuple[int, ...]], int]:
        """Positions (time, height, width) of tokens of which the first comes at `start`, and that of the next."""
        places: list[tuple[int, ...]] = []
        at = 0
        while at < len(tokens):
            image = self._images.get(tokens[at])
            if image is None:
                places.append((start, start, start))
                at, start = at + 1, start + 1
                continue
            pattern, advance = self._pattern(image)
            places += [tuple(start + value for value in place) for place in pattern.tolist()]
            at, start = at + image.count, start + advance
        return places[: len(tokens)], start

    def _pattern(self, image: PlacedImage) -> tuple[torch.Tensor, int]:
        """Positions of an image's tokens from 0 on, [tokens, 3], and how far the next token is, as the model says."""
        if image.grid is None:
            raise ModelError(f"{type(self.model).__name__}: its processor gives no grid, by which its positions turn")
        if image.grid not in self._places:
            kinds = torch.tensor([[1] * image.count + [0]])
            ids = torch.where(kinds == 1, self.processor.media_token, 0)
            try:
                positions, _ = self.layers.get_rope_index(
                    ids, mm_token_type_ids=kinds, image_grid_thw=torch.tensor([image.grid])
                )
            except TypeError as error:
                raise ModelError(
                    f"{type(self.model).__name__}: its positions are not known here: {one_line(error)}"
                ) from error
            pattern = positions[-3:, 0].t()
            self._places[image.grid] = (pattern[:-1], int(pattern[-1, 0]))
        return self._places[image.grid]

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        value = value.to(self.device)
        return value.to(self.model.dtype) if value.is_floating_point() else value


def _blocks(tokens: Sequence[int], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The spans between `start` and `end` whose tokens all stand for images."""
    first = None
    for at in range(start, end + 1):
        is_place = at < end and tokens[at] >= FIRST_ID
        if is_place and first is None:
            first = at
        elif not is_place and first is not None:
            yield first, at
            first = None


def _flat(features: Any) -> torch.Tensor:
    """Features of one image as [tokens, hidden], whether they came as a tensor or as pieces."""
    pieces = list(features) if isinstance(features, list | tuple) else [features]
    return torch.cat([piece.reshape(-1, piece.shape[-1]) for piece in pieces])
