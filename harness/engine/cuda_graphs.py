"""Decode steps: each gives every active row its next hidden state. On a GPU, a step is captured as a CUDA graph.

What a step of a small model costs is mostly Python, which launches the same hundreds of kernels for every token. A CUDA
graph launches them at once. A graph reads and writes fixed places of memory, so that it is captured for all slots of
the decode cache, those that are free included, and for one shared prefix; what changes from step to step is copied
into its places before.

Whether that pays is measured where it is used: a step is captured once some steps below a shared prefix have been
taken, held against a plain step, in values and in time, and dropped where it is not right or not faster.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from harness.engine.attention import SharedAttention
from harness.engine.batches import KeyValues
from harness.engine.decode_cache import DecodeCache, DecodeLayout, DecodingRow, StaticDecodeLayout, prefixes_of
from harness.engine.decoder import Decoder
from harness.engine.limits import GraphLimits
from harness.engine.memory import is_out_of_memory, release

log = logging.getLogger(__name__)

Step = Callable[[], torch.Tensor]
Capture = Callable[[Step], Step]
"""Runs a step, and returns what repeats it: the same kernels on the same memory, with the result in the same place."""

_TIMED_STEPS = 3


class DecodeSteps:
    """Runs decode steps. capture: how steps are captured, None where they cannot be; limits: when.

    tolerance: how far a replayed step's hidden states may be from those of a plain step, as a share of their size.
    """

    def __init__(
        self,
        decoder: Decoder,
        attention: SharedAttention,
        capture: Capture | None = None,
        tolerance: float = 0.0,
        limits: GraphLimits | None = None,
    ) -> None:
        self.decoder = decoder
        self.attention = attention
        self.tolerance = tolerance
        self.limits = limits or GraphLimits()
        self.replayed = 0
        self._capture = capture
        self._place: tuple[int | None, int] | None = None
        self._taken = 0
        self._layout: StaticDecodeLayout | None = None
        self._replay: Step | None = None

    def hidden(
        self, active: Sequence[DecodingRow], cache: DecodeCache, prefixes: Mapping[int, KeyValues]
    ) -> torch.Tensor:
        """The hidden states [rows, hidden] of the newest tokens of all active rows; valid until the next step."""
        above = prefixes_of(active)
        place = (above[0], cache.size) if len(above) == 1 else None
        if place is None or place != self._place:
            self.forget()
            self._place = place
        if self._replay is not None and self._layout is not None:
            self.replayed += 1
            self.decoder.count(len(active))
            return _replayed(self._layout, active, self._replay)[: len(active)]
        self._taken += 1
        hidden = self._take(DecodeLayout(active, cache, prefixes, self.decoder.device))
        if self._capture is not None and place is not None and self._taken == self.limits.steps_before:
            self._try_to_capture(self._capture, active, cache, prefixes, hidden)
        return hidden

    def forget(self) -> None:
        """Drop what is captured, because the memory that it reads goes."""
        self._place, self._taken, self._layout, self._replay = None, 0, None, None

    def _take(self, layout: DecodeLayout) -> torch.Tensor:
        with self.attention.active(layout):
            hidden: torch.Tensor = self.decoder.hidden(**layout.inputs())[0]
        return hidden

    def _try_to_capture(
        self,
        capture: Capture,
        active: Sequence[DecodingRow],
        cache: DecodeCache,
        prefixes: Mapping[int, KeyValues],
        expected: torch.Tensor,
    ) -> None:
        """Capture the step that was just taken: to take it again changes nothing."""
        device = self.decoder.device
        expected = expected.clone()
        try:
            layout = StaticDecodeLayout(active, cache, prefixes, device)
            replay = capture(lambda: self._take(layout.renewed()))
            difference = (replay()[: len(active)] - expected).float().norm()
            apart = float(difference / expected.float().norm().clamp(min=1e-6))
            if not apart <= self.tolerance:
                raise RuntimeError(f"its hidden states are {apart:.1%} away")
            again = _seconds(lambda: _replayed(layout, active, replay))
            anew = _seconds(lambda: self._take(DecodeLayout(active, cache, prefixes, device)))
        except (RuntimeError, MemoryError) as error:
            # Whatever a card, a kernel or an architecture does not take: steps that are not captured are right.
            self._capture = None
            if is_out_of_memory(error):
                release(device)
            log.info("steps of generation are not captured, which is slower: %s", " ".join(str(error).split()))
            return
        log.info("a captured step takes %.2f ms, one that is not %.2f ms", again * 1e3, anew * 1e3)
        if again < self.limits.most * anew:
            self._layout, self._replay = layout, replay
        else:
            self._capture = None


def graph_capture(model: Any, device: str) -> Capture | None:
    """How steps of a model are captured: by CUDA graphs, where the whole model is on one GPU."""
    places = set((getattr(model, "hf_device_map", None) or {}).values())
    return _cuda_graph if device.startswith("cuda") and len(places) < 2 else None


def _cuda_graph(step: Step) -> Step:
    aside: Any = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        step()  # what libraries make once, they make now: it could not be made in a capture
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay


def _replayed(layout: StaticDecodeLayout, active: Sequence[DecodingRow], replay: Step) -> torch.Tensor:
    layout.load(active)
    return replay()


def _seconds(step: Step) -> float:
    """Seconds of one step, the wait for its result included."""
    began = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        hidden = step()
    float(hidden.flatten()[0])  # waits for the device
    return (time.perf_counter() - began) / _TIMED_STEPS
