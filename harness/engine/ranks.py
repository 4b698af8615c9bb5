"""The processes of one training: they share the work of a measurement, each on its own copy of the weights.

The first one runs the measurement. The others wait for work, answer their share of each batch of requests, and hear at
the end what came of it. They talk over a group of their own, by gloo, which waits as long as it takes: neither the
reading of tasks nor slow scoring runs into the time limit of the training's own group.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from harness.engine.workers import cut_work
from harness.errors import ModelError, one_line
from harness.quick import dataclass

if TYPE_CHECKING:
    from harness.engine.model import TorchModel
    from harness.engine.plain import Piece
    from harness.engine.tokens import Encoded
    from harness.engine.workers import WorkItem

_PATIENCE = timedelta(days=30)
_ITEMS_A_RANK = 4


@dataclass(frozen=True, slots=True)
class _Share:
    """What a process computed of its part. problem: why it went no further."""

    pieces: list[Piece]
    problem: str = ""


class Ranks:
    """All processes of a training. To be made by all of them at the same moment; `None` of it where there is one."""

    def __init__(self) -> None:
        from torch import distributed

        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._group = distributed.new_group(backend="gloo", timeout=_PATIENCE)

    @classmethod
    def of_training(cls) -> Ranks | None:
        """The processes that this one trains with; None where it trains alone."""
        from torch import distributed

        several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        return cls() if several else None

    @property
    def leads(self) -> bool:
        """Whether this is the process that runs the measurement."""
        return self.rank == 0

    def tell(self, message: Any = None) -> Any:
        """What the first process says, in all of them."""
        from torch import distributed

        box = [message]
        distributed.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def collect(self, share: _Share) -> list[_Share]:
        """The shares of all, in the first process; nothing in the others."""
        from torch import distributed

        shares: list[Any] | None = [None] * self.size if self.leads else None
        distributed.gather_object(share, shares, dst=0, group=self._group)
        return shares or []

    def run(self, model: TorchModel, encoded: Encoded) -> Iterator[Piece]:
        """In the first process: outcomes of all sequences, its own as they come, then those of the others."""
        items = cut_work(encoded, self.size * _ITEMS_A_RANK, model.limits.work_item)
        parts = [items[rank :: self.size] for rank in range(self.size)]
        self.tell(parts)
        own = _computed(model, parts[0])
        try:
            yield from own
        finally:  # the others wait to be heard, whatever happened here
            shares = self.collect(_Share([]))
        for rank, share in enumerate(shares):
            yield from share.pieces
            if share.problem:
                raise ModelError(f"process {rank} of the training: {share.problem}")

    def serve(self, model: TorchModel) -> Any:
        """In the other processes: work until the first one is done. Returns what it tells then."""
        loaded = False
        with contextlib.closing(model):
            while isinstance(told := self.tell(), list):
                pieces: list[Piece] = []
                problem = ""
                try:
                    if not loaded:
                        model.prepare()
                        model.load()
                        loaded = True
                    pieces.extend(_computed(model, told[self.rank]))
                except Exception as error:
                    problem = one_line(error)
                self.collect(_Share(pieces, problem))
        return told


def _computed(model: TorchModel, items: list[WorkItem]) -> Iterator[Piece]:
    for item in items:
        yield from model.run_sequences(item.scores, item.generations)
