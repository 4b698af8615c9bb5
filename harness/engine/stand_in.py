"""A model of the shape of one that is not loaded, with random weights: its passes take as long.

original.stand_in(layers=3)         # an Executor
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from harness.engine import memory
from harness.engine.execute import Executor
from harness.engine.limits import EngineLimits
from harness.engine.processor import ImageProcessor
from harness.engine.sounds import SoundProcessor
from harness.quick import dataclass

_WHOLE = 200_000_000
"""Weights up to which the whole model is made; of a larger one some layers are, from which the others follow."""
_DEPTHS = (1, 3)
_COUNTS_OF_LAYERS = ("num_hidden_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")


@dataclass(frozen=True, slots=True)
class Original:
    """What is known of a model without its weights.

    family: the class of transformers that makes it. rows: the most of a batch; None for as many as fit. processor: of
    a model that sees or hears.
    """

    config: Any
    dtype: torch.dtype
    tokenizer: Any
    limits: EngineLimits
    rows: int | None
    family: Any
    processor: ImageProcessor | SoundProcessor | None

    @property
    def depth(self) -> float:
        """How many layers it has; of an encoder and a decoder, the mean of both."""
        text = _text(self.config)
        counts = [getattr(text, name, None) for name in _COUNTS_OF_LAYERS]
        known = [int(count) for count in counts if count]
        return (max(known) + min(known)) / 2 if known else 1

    @property
    def depths(self) -> tuple[int | None, ...]:
        """Of its stand-ins: None for one with all layers."""
        whole = memory.parameters(self.config) <= _WHOLE or self.depth <= _DEPTHS[-1]
        return (None,) if whole else _DEPTHS

    def stand_in(self, layers: int | None) -> Executor:
        """One with so many layers, on the processor. A tower for images or sounds is whole. The random streams of torch
        stay as they are."""
        with torch.random.fork_rng(devices=[]):
            model = self.family.from_config(self._shape(layers), dtype=self.dtype).eval()
        return Executor(
            model, "cpu", str(self.dtype).removeprefix("torch."), 0, self.rows, self.limits, processor=self.processor
        )

    def _shape(self, layers: int | None) -> Any:
        shape = copy.deepcopy(self.config)
        if layers is None:
            return shape
        text = _text(shape)
        for name in _COUNTS_OF_LAYERS:
            if getattr(text, name, None):
                setattr(text, name, layers)
        if getattr(text, "layer_types", None):
            text.layer_types = list(text.layer_types)[:layers]
        return shape


def _text(config: Any) -> Any:
    return getattr(config, "text_config", None) or config
