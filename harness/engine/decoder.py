"""A causal language model cut where it pays: the layers, and the head only where something is read.

The head is the model's own code. It is run on hidden states by a shallow copy of the model whose layers hand their
input through, so that soft caps and scales are those of the architecture, and no [batch, length, vocabulary] tensor
is ever made.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from harness.engine.cpu import padded_size
from harness.engine.devices import upload
from harness.engine.elementwise import log_sums
from harness.engine.last_layer import LastLayer

if TYPE_CHECKING:
    from harness.engine.batches import PackLayout
    from harness.engine.plan import PlanRow

# Logits of one piece: on a processor they stay in its cache while they are summed up.
_HEAD_BYTES = {"cpu": 16 << 20, "cuda": 512 << 20}
# Fewer positions than this would read the head's weights for too little.
_HEAD_POSITIONS = 64


class _Through(torch.nn.Module):
    """Stands in for a model's layers and returns what it is given."""

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> _LayersOutput:
        return _LayersOutput(inputs_embeds)


class _LayersOutput:
    """Looks like any architecture's output of its layers: the hidden states, and nothing else."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int) -> torch.Tensor:
        if index != 0:
            raise IndexError(index)
        return self.last_hidden_state

    def __getattr__(self, name: str) -> None:
        return None


class Decoder:
    """Runs a causal language model of transformers."""

    def __init__(self, model: Any, device: str, dtype: str) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        self.config = getattr(model.config, "text_config", None) or model.config
        name = next((name for name in (model.base_model_prefix, "model") if hasattr(model, name)), None)
        self.layers: Any = None if name is None else getattr(model, name)
        self._head: Any = None if name is None else _head_of(model, name)
        self._vocabulary = int(getattr(self.config, "vocab_size", 0) or 1)
        # Elsewhere a pass costs what launching it costs, and reading with it.
        self._last = LastLayer.of(self.layers) if device == "cpu" else None
        self._splits = self._head_is_the_models()
        self.passed = self.read = 0
        """Tokens that went through the layers, padding included, and through the head."""
        self._counting = threading.Lock()

    def count(self, passed: int = 0, read: int = 0) -> None:
        """Add tokens to those that went through the layers, and through the head."""
        with self._counting:
            self.passed += passed
            self.read += read

    def place(self, rows: Sequence[PlanRow]) -> None:
        """Give the rows of a plan their positions, where these are not a count of tokens."""

    def packed(self, layout: PackLayout) -> dict[str, Any]:
        """What the model is given for one pass over the rows of a plan."""
        inputs = dict(layout.inputs())
        tokens = len(layout)
        if self.device == "cpu" and (more := padded_size(tokens, self.model.dtype) - tokens):
            # Nobody looks at what follows the rows.
            inputs = {name: torch.nn.functional.pad(values, (0, more)) for name, values in inputs.items()}
        return inputs

    def padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        """What the model is given for rows of equal length."""
        return {"input_ids": upload([list(row) for row in rows], self.device)}

    def generated(self, rows: Sequence[Sequence[int]], mask: torch.Tensor) -> dict[str, Any]:
        """What transformers' `generate` is given for rows of equal length, padded on the left."""
        return {**self.padded(rows), "attention_mask": mask.to(self.device)}

    def hidden(self, **inputs: Any) -> torch.Tensor:
        """Hidden states after the last layer, [batch, length, hidden]; logits where the head cannot be run alone."""
        if not self._splits:
            logits: torch.Tensor = self.model(**inputs, use_cache=False).logits
            tokens = logits.shape[0] * logits.shape[1]
            self.count(tokens, tokens)
            return logits
        output = self.layers(**inputs, use_cache=False)
        states: torch.Tensor = output[0]
        self.count(states.shape[0] * states.shape[1])
        return states

    def hidden_at(self, places: torch.Tensor, layout: PackLayout, **inputs: Any) -> torch.Tensor:
        """Hidden states [places, hidden] of the tokens of a packed pass that stand at `places`, [places]."""
        if not self._splits or self._last is None or not self._last.is_right:
            hidden = self.hidden(**inputs)[0]
            return hidden[places.to(hidden.device)]
        layout.read_only_at(self._last.index, places)
        with self._last.only_at(places):
            return self.hidden(**inputs)[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [positions, vocabulary] of hidden states [positions, hidden], in the type that the model gives."""
        if not self._splits:
            return hidden
        logits: torch.Tensor = self._head(inputs_embeds=hidden.unsqueeze(0), use_cache=False).logits
        self.count(read=hidden.shape[0])
        return logits[0]

    def chunks(self, positions: int) -> Iterator[tuple[int, int]]:
        """Cut a number of positions such that the logits of one piece stay small."""
        room = _HEAD_BYTES.get(self.device.split(":")[0], 256 << 20)
        size = max(_HEAD_POSITIONS, room // (8 * self._vocabulary))
        for at in range(0, positions, size):
            yield at, min(positions, at + size)

    @torch.inference_mode()
    def _head_is_the_models(self) -> bool:
        """Compare with the model's own logits, once: an architecture may do more around its layers than others."""
        tokens = torch.arange(3, device=self.device).unsqueeze(0)
        # The whole model first: some make themselves ready when they are called, such as one of compressed weights.
        expected = self.model(input_ids=tokens, use_cache=False).logits
        if self.layers is None:
            return False
        try:
            with contextlib.nullcontext() if self._last is None else self._last.checked():
                states = self.layers(input_ids=tokens, use_cache=False)[0]
            logits = self._head(inputs_embeds=states, use_cache=False).logits
        except Exception:
            # Whatever an unknown architecture stumbles over here, its plain forward pass decides.
            return False
        return logits.shape == expected.shape and bool(torch.allclose(logits, expected, atol=1e-4, rtol=1e-3))


class Head(Protocol):
    """What gives logits for hidden states, a piece at a time."""

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [positions, vocabulary] of hidden states [positions, hidden]."""

    def chunks(self, positions: int) -> Iterator[tuple[int, int]]:
        """Cut a number of positions such that the logits of one piece stay small."""


def score_positions(
    decoder: Head, hidden: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability, and whether it is the greatest, of each (position, target token).

    hidden: [N, hidden]. positions: [M], ascending indices into N, and targets: [M], both on the CPU. Log-softmax in
    float32. Returns two tensors [M] on the device, which nothing here waits for. NaN is left in the result for the
    caller to judge.
    """
    device = str(hidden.device)
    values = torch.empty(len(targets), dtype=torch.float32, device=device)
    greedy = torch.empty(len(targets), dtype=torch.bool, device=device)
    there, wanted = upload(positions, device), upload(targets, device)
    for start, end in decoder.chunks(len(hidden)):
        first, last = torch.searchsorted(positions, torch.tensor([start, end])).tolist()
        logits = decoder.logits(hidden[start:end])
        at, target = there[first:last] - start, wanted[first:last]
        if (found := log_sums(logits)) is not None:
            _, places, sums = found
            greedy[first:last] = places[at] == target
            values[first:last] = logits[at, target] - sums[at]
            continue
        logits = logits.float()
        chosen, top = logits[at, target], logits.amax(dim=-1)
        greedy[first:last] = _is_first_greatest(logits, at, target, chosen == top[at])
        total = logits.sub_(top.unsqueeze(-1)).exp_().sum(dim=-1)
        values[first:last] = chosen - (top + total.log())[at]
    return values, greedy


def _is_first_greatest(
    logits: torch.Tensor, at: torch.Tensor, target: torch.Tensor, is_top: torch.Tensor
) -> torch.Tensor:
    """Whether each target is the greedy token: the first of several equal logits."""
    if logits.is_cuda:
        # To ask which rows need a look would wait for the device.
        return logits.argmax(dim=-1)[at] == target
    hits = is_top.nonzero().squeeze(-1)
    is_top[hits] = logits[at[hits]].argmax(dim=-1) == target[hits]
    return is_top


def _head_of(model: Any, layers: str) -> Any:
    # `copy.copy` would build a second model of a class that FSDP made.
    head = object.__new__(type(model))
    head.__dict__.update(vars(model))
    for name in ("forward", "_old_forward", "_hf_hook"):
        # accelerate binds these to the original when it spreads a model over devices.
        head.__dict__.pop(name, None)
    head.__dict__["_modules"] = {**model._modules, layers: _Through()}
    return head
