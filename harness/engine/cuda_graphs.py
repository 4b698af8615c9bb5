"""Steps of generation: each gives every active row its next hidden state. On a GPU, a step is recorded and repeated.

What a step of a small model costs is mostly Python, which says the same hundreds of kernels for every token. A CUDA
graph says them at once. A graph reads and writes fixed places of memory, so that it is recorded for all slots, those
that are free included, and for one trunk; what changes from step to step is copied into its places before.

Whether that pays is measured where it is used: a step is recorded once some steps below a trunk have been taken, held
against a step that was not recorded, in values and in time, and dropped where it is not right or not faster.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from harness.engine.attention import SharedAttention
from harness.engine.batches import Cached
from harness.engine.decode_cache import Active, FixedLayout, SlotCache, SlotLayout, trunks_of
from harness.engine.decoder import Decoder
from harness.engine.memory import is_out_of_memory, release

log = logging.getLogger(__name__)

Step = Callable[[], torch.Tensor]
Record = Callable[[Step], Step]
"""Runs a step, and returns what repeats it: the same kernels on the same memory, with the result in the same place."""

# A recording costs as much as a few steps.
_STEPS_BEFORE = 16
_TIMED_STEPS = 3
_WORTH = 0.9


class Steps:
    """Runs steps of generation. record: how steps are recorded, None where they cannot be.

    tolerance: how far a repeated step's hidden states may be from those of a step that was not recorded, as a share of
    their size.
    """

    def __init__(
        self, decoder: Decoder, attention: SharedAttention, record: Record | None = None, tolerance: float = 0.0
    ) -> None:
        self.decoder = decoder
        self.attention = attention
        self.tolerance = tolerance
        self.repeated = 0
        self._record = record
        self._place: tuple[int | None, int] | None = None
        self._taken = 0
        self._layout: FixedLayout | None = None
        self._repeat: Step | None = None

    def hidden(self, active: Sequence[Active], cache: SlotCache, trunks: Mapping[int, Cached]) -> torch.Tensor:
        """The hidden states [rows, hidden] of the newest tokens of all active rows; valid until the next step."""
        above = trunks_of(active)
        place = (above[0], cache.size) if len(above) == 1 else None
        if place is None or place != self._place:
            self.forget()
            self._place = place
        if self._repeat is not None and self._layout is not None:
            self.repeated += 1
            return _repeated(self._layout, active, self._repeat)[: len(active)]
        self._taken += 1
        hidden = self._take(SlotLayout(active, cache, trunks, self.decoder.device))
        if self._record is not None and place is not None and self._taken == _STEPS_BEFORE:
            self._try_to_record(self._record, active, cache, trunks, hidden)
        return hidden

    def forget(self) -> None:
        """Drop what is recorded, because the memory that it reads goes."""
        self._place, self._taken, self._layout, self._repeat = None, 0, None, None

    def _take(self, layout: SlotLayout) -> torch.Tensor:
        with self.attention.active(layout):
            hidden: torch.Tensor = self.decoder.hidden(**layout.inputs())[0]
        return hidden

    def _try_to_record(
        self,
        record: Record,
        active: Sequence[Active],
        cache: SlotCache,
        trunks: Mapping[int, Cached],
        expected: torch.Tensor,
    ) -> None:
        """Record the step that was just taken: to take it again changes nothing."""
        device = self.decoder.device
        expected = expected.clone()
        try:
            layout = FixedLayout(active, cache, trunks, device)
            repeat = record(lambda: self._take(layout.renewed()))
            apart = _apart(repeat()[: len(active)], expected)
            if not apart <= self.tolerance:
                raise RuntimeError(f"its hidden states are {apart:.1%} away")
            again = _seconds(lambda: _repeated(layout, active, repeat))
            anew = _seconds(lambda: self._take(SlotLayout(active, cache, trunks, device)))
        except (RuntimeError, MemoryError) as error:
            # Whatever a card, a kernel or an architecture does not take: steps that are not recorded are right.
            self._record = None
            if is_out_of_memory(error):
                release(device)
            log.info("steps of generation are not recorded, which is slower: %s", " ".join(str(error).split()))
            return
        log.info("a recorded step takes %.2f ms, one that is not %.2f ms", again * 1e3, anew * 1e3)
        if again < _WORTH * anew:
            self._layout, self._repeat = layout, repeat
        else:
            self._record = None


def recorder(model: Any, device: str) -> Record | None:
    """How steps of a model are recorded: by CUDA graphs, where the whole model is on one GPU."""
    places = set((getattr(model, "hf_device_map", None) or {}).values())
    return _cuda_graph if device.startswith("cuda") and len(places) < 2 else None


def _cuda_graph(step: Step) -> Step:
    aside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        step()  # what libraries make once, they make now: it could not be made in a recording
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()

    def repeat() -> torch.Tensor:
        graph.replay()
        return result

    return repeat


def _repeated(layout: FixedLayout, active: Sequence[Active], repeat: Step) -> torch.Tensor:
    layout.load(active)
    return repeat()


def _apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).float().norm() / expected.float().norm().clamp(min=1e-6))


def _seconds(step: Step) -> float:
    """Seconds of one step, the wait for its result included."""
    began = time.perf_counter()
    for _ in range(_TIMED_STEPS):
        hidden = step()
    float(hidden.flatten()[0])  # waits for the device
    return (time.perf_counter() - began) / _TIMED_STEPS
