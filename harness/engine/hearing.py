"""A decoder that is played sounds: each goes through the audio tower once, whichever prompts hold it.

Token ids from `FIRST_ID` on are places of sounds (`image_prompts`). Where a pass holds some, the model is given
embeddings in the place of token ids, with the features of the sounds among them. The features are those that the model
itself hands to its decoder: its own forward pass is run up to there, for one sound alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from harness.data.audio import open_sound
from harness.engine.batches import PackLayout
from harness.engine.decoder import Decoder
from harness.engine.devices import upload
from harness.engine.image_prompts import FIRST_ID
from harness.engine.sounds import SoundProcessor
from harness.engine.tokens import PlacedImage
from harness.errors import DataError, ModelError

_KEPT = 256
_TOLERANCE = {"float32": 1e-3}


class _Embedded(Exception):
    """Carries what a model hands to its decoder out of its forward pass."""

    def __init__(self, embeds: torch.Tensor) -> None:
        super().__init__()
        self.embeds = embeds


class HearingDecoder(Decoder):
    """Runs a model of transformers that hears. `encoded` counts sounds that went through its audio tower.

    broken: sounds that could not be played, by their first id, with the reason. What is computed with one is void.
    """

    def __init__(self, model: Any, device: str, dtype: str, processor: SoundProcessor) -> None:
        super().__init__(model, device, dtype)
        self.processor = processor
        self.encoded = 0
        self.broken: dict[int, str] = {}
        self._checked = False
        self._sounds: dict[int, PlacedImage] = {}
        self._kept: OrderedDict[int, torch.Tensor] = OrderedDict()
        if not hasattr(self.layers, "language_model"):
            raise ModelError(
                f"{type(model).__name__} has no decoder of its own that could be given sounds: use a server: --model "
                "openai"
            )

    def register(self, sounds: Iterable[PlacedImage]) -> None:
        """Know these sounds, so that their ids can be computed."""
        for sound in sounds:
            self._sounds.setdefault(sound.first, sound)

    def packed(self, layout: PackLayout) -> dict[str, Any]:
        return self._with_sounds(dict(layout.inputs()), [[token for row in layout.rows for token in row.tokens]])

    def padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        return self._with_sounds({}, rows)

    def generated(self, rows: Sequence[Sequence[int]], mask: torch.Tensor) -> dict[str, Any]:
        return {**self._with_sounds({}, rows), "attention_mask": mask.to(self.device)}

    def leave_blank(self, sounds: Iterable[PlacedImage]) -> None:
        """Have nothing in the place of these sounds, which takes a decoder as long."""
        for sound in sounds:
            self.register([sound])
            if sound.first not in self._kept:
                self._keep(sound, self._blank(sound))

    def check_first(self, sounds: Iterable[PlacedImage]) -> None:
        """Check the model on the first sound that can be opened, once."""
        for sound in () if self._checked else sounds:
            try:
                self.check(sound)
            except DataError:  # the error of its samples
                continue
            self._checked = True
            return

    @torch.inference_mode()
    def check(self, sound: PlacedImage) -> None:
        """Compare with the model's own forward pass over what its processor makes of a text and this sound. Raises
        ModelError where they differ: a family that needs more than is known here would give wrong numbers."""
        self.register([sound])
        own = self._own_inputs(sound, f"{self.processor.mark}\nA B C")
        places = iter(range(sound.first, sound.first + sound.count))
        tokens = [
            next(places) if token == self.processor.media_token else token for token in own["input_ids"][0].tolist()
        ]
        expected = self.model(**own, use_cache=False).logits[0].float()
        found = self.logits(self.hidden(**self.padded([tokens]))[0])
        apart = float((found - expected).norm() / expected.norm().clamp(min=1e-6))
        if not apart <= _TOLERANCE.get(self.dtype, 0.1):
            raise ModelError(
                f"{type(self.model).__name__}: with a sound its own forward pass gives other logits ({apart:.1%} away) "
                "than the engine's: this family cannot be measured in process yet; use a server: --model openai"
            )

    def _with_sounds(self, inputs: dict[str, Any], rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        """The inputs with `input_ids` [rows, width]; where there are sounds, with embeddings in their place."""
        if not any(token >= FIRST_ID for row in rows for token in row):
            return {**inputs, "input_ids": upload([list(row) for row in rows], self.device)}
        own = self.processor.media_token
        ids = upload([[own if token >= FIRST_ID else token for token in row] for row in rows], self.device)
        embeds = self.layers.get_input_embeddings()(ids).clone()
        for index, row in enumerate(rows):
            for at, sound, start, end in self._runs(row):
                embeds[index, at : at + end - start] = self._features(sound)[start:end]
        return {**{name: value for name, value in inputs.items() if name != "input_ids"}, "inputs_embeds": embeds}

    def _runs(self, row: Sequence[int]) -> list[tuple[int, PlacedImage, int, int]]:
        """(place in the row, sound, first of its tokens, end) of each stretch of one sound's tokens."""
        runs: list[tuple[int, PlacedImage, int, int]] = []
        at = 0
        while at < len(row):
            if row[at] < FIRST_ID:
                at += 1
                continue
            sound = self._sound_at(row[at])
            start = row[at] - sound.first
            end = start + 1
            while end < sound.count and at + end - start < len(row) and row[at + end - start] == sound.first + end:
                end += 1
            runs.append((at, sound, start, end))
            at += end - start
        return runs

    def _sound_at(self, place: int) -> PlacedImage:
        return next(each for each in self._sounds.values() if each.first <= place < each.first + each.count)

    def _features(self, sound: PlacedImage) -> torch.Tensor:
        """The features of a sound [tokens, hidden]: computed once, and kept while there is room for them."""
        if sound.first in self._kept:
            self._kept.move_to_end(sound.first)
            return self._kept[sound.first]
        try:
            features = self.encode(sound)
        except DataError as error:
            self.broken[sound.first] = str(error)
            features = self._blank(sound)
        self._keep(sound, features)
        return features

    def _keep(self, sound: PlacedImage, features: torch.Tensor) -> None:
        self._kept[sound.first] = features
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def _blank(self, sound: PlacedImage) -> torch.Tensor:
        """In the place of a sound that cannot be played."""
        weight = self.layers.get_input_embeddings().weight
        return torch.zeros((sound.count, weight.shape[-1]), dtype=weight.dtype, device=weight.device)

    def encode(self, sound: PlacedImage) -> torch.Tensor:
        """Run the model's own forward pass up to its decoder. Raises DataError where the sound cannot be played."""
        inputs = self._own_inputs(sound, self.processor.mark)

        def stop(module: Any, args: Any, given: dict[str, Any]) -> None:
            del module, args
            raise _Embedded(given["inputs_embeds"])

        hook = self.layers.language_model.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.layers(**inputs, use_cache=False)
        except _Embedded as caught:
            embeds = caught.embeds
        finally:
            hook.remove()
        self.encoded += 1
        features = embeds[0, inputs["input_ids"][0] == self.processor.media_token]
        if len(features) != sound.count:
            raise DataError(
                f"{sound.media.place}: the model makes {len(features)} tokens of it, and its processor {sound.count}"
            )
        return features

    def _own_inputs(self, sound: PlacedImage, text: str) -> dict[str, Any]:
        found = self.processor.inputs(text, open_sound(sound.media, self.processor.rate))
        return {name: self._moved(value) for name, value in found.items()}

    def _moved(self, value: Any) -> Any:
        value = value.to(self.device)
        return value.to(self.model.dtype) if value.is_floating_point() else value
