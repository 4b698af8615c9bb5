"""A decoder's last layer, computed only where something is read of it.

No token looks at what the last layer makes of another one: of the tokens that nothing is predicted from, it needs the
keys and values and no more. Most tokens of a prompt are such, and a share of one layer in all is what that spares.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

from harness.engine.lanes import Common

_PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")


class _Here(threading.local):
    """Of the pass of the thread at hand: the places of which something is read. None: all of them."""

    places: torch.Tensor | None = None


class LastLayer:
    """The last of a decoder's layers, where it is one block of attention and one of feed-forward, each added to what
    came in. `is_right` once `checked` has seen that it is."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.index = int(layer.self_attn.layer_idx)
        self.is_right = False
        self._here = _Here()
        self._cut = Common()

    @classmethod
    def of(cls, body: Any) -> LastLayer | None:
        """The last layer of what holds a model's layers; None where it is of another build, or not plainly called."""
        layers = getattr(body, "layers", None)
        if not isinstance(layers, torch.nn.ModuleList) or len(layers) == 0:
            return None
        layer = layers[-1]
        # Wrappers, which gather weights or move them, want to be called themselves.
        plain = type(layer).__module__.startswith("transformers.") and "forward" not in vars(layer)
        built = all(hasattr(layer, part) for part in _PARTS) and hasattr(layer.self_attn, "layer_idx")
        return cls(layer) if plain and built else None

    @contextlib.contextmanager
    def checked(self) -> Iterator[None]:
        """Within the block, what the layer gives is compared with what `only_at` would give, at its last token."""
        whole = self.layer.forward

        def forward(hidden_states: torch.Tensor, **options: Any) -> Any:
            expected = whole(hidden_states, **options)
            with contextlib.suppress(Exception):  # another build: it is not used then
                last = torch.tensor([hidden_states.shape[1] - 1], device=hidden_states.device)
                found = self._at(last, hidden_states, **options)
                same = torch.allclose(found, expected[:, last], atol=1e-5, rtol=1e-4)
                self.is_right = isinstance(expected, torch.Tensor) and same
            return expected

        with self._calling(forward):
            yield

    @contextlib.contextmanager
    def only_at(self, places: torch.Tensor) -> Iterator[None]:
        """Within the block, hidden states after the layer are those of the tokens at `places`, [1, places, hidden], in
        the passes of this thread."""
        with self._cut.within(lambda: self._calling(self._forward)):
            self._here.places = places
            try:
                yield
            finally:
                self._here.places = None

    def _forward(self, hidden_states: torch.Tensor, **options: Any) -> Any:
        if self._here.places is None:
            return type(self.layer).forward(self.layer, hidden_states, **options)
        return self._at(self._here.places, hidden_states, **options)

    def _at(self, places: torch.Tensor, hidden_states: torch.Tensor, **options: Any) -> torch.Tensor:
        layer = self.layer
        attended = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **options)[0]
        there: torch.Tensor = hidden_states[:, places] + attended[:, places]
        if not len(places):  # bitsandbytes (0.50) divides by the rows of a product on a processor with AVX-512
            return there
        whole: torch.Tensor = layer.mlp(layer.post_attention_layernorm(there)).add(there)
        return whole

    @contextlib.contextmanager
    def _calling(self, forward: Callable[..., Any]) -> Iterator[None]:
        self.layer.forward = forward
        try:
            yield
        finally:
            del self.layer.forward
