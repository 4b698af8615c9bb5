"""Several passes at once on a processor: what is Python in one of them runs beside the products of another.

A pass is hundreds of operations with a little Python between any two of them, for which all threads that share its
products wait; and where others want the cores too, every product takes as long as the slowest of its threads. Two
passes on half of the threads each wait for nothing of one another.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch

from harness.stopwatch import Stopwatch

if TYPE_CHECKING:
    from harness.engine.attention import SharedAttention

Found = TypeVar("Found")

_LANES = 2
# Who binds threads to cores means those of one team: a second one would be bound to the same.
_BOUND_BY = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
# Rotary positions that an architecture changes by the longest row of a pass, in the module itself.
_CHANGING = ("dynamic", "longrope")


class Halted(Exception):
    """A pass was given up because whoever asked for it left."""


def lanes_for(model: Any, device: str) -> int:
    """How many passes of a model may run at once: where that is right, and each can have a thread of its own."""
    if device != "cpu" or torch.get_num_threads() < _LANES or any(name in os.environ for name in _BOUND_BY):
        return 1
    # What others wrote may keep something of a pass in itself, and what is set for one thread is not for another.
    own = type(model).__module__.startswith("transformers.") and getattr(model, "hf_quantizer", None) is None
    alone = torch.is_autocast_enabled("cpu") or (
        torch.distributed.is_available() and torch.distributed.is_initialized()
    )
    return _LANES if own and not alone and not any(map(_is_of_one_pass, model.modules())) else 1


def _is_of_one_pass(module: Any) -> bool:
    """Whether a module keeps something of the pass that it is in, or is called by others too."""
    kinds = getattr(module, "rope_type", "")
    names = map(str, kinds.values()) if isinstance(kinds, dict) else [str(kinds)]
    hooked = module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook")
    return bool(hooked) or any(changing in name for name in names for changing in _CHANGING)


class Common:
    """A change of what threads share: the first to enter makes it, and the last to leave takes it back."""

    def __init__(self) -> None:
        self._door = threading.Condition()
        self._inside = self._alone = 0
        self._made: AbstractContextManager[None] = contextlib.nullcontext()

    @contextlib.contextmanager
    def within(self, change: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Within the block the change is made."""
        with self._door:
            self._door.wait_for(lambda: not self._alone)
            if not self._inside:
                self._made = change()
                self._made.__enter__()
            self._inside += 1
        try:
            yield
        finally:
            with self._door:
                self._inside -= 1
                if not self._inside:
                    self._made.__exit__(None, None, None)
                    self._made = contextlib.nullcontext()  # it knows what it changes, which would keep a model
                    self._door.notify_all()

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """Within the block nobody is inside: who wants in waits."""
        with self._door:
            self._alone += 1
            try:
                self._door.wait_for(lambda: not self._inside)
                yield
            finally:
                self._alone -= 1
                self._door.notify_all()


class Lanes:
    """Threads that each do one thing at a time, with its share of torch's threads. With one lane all is done at once.

    Leaving the block by an exception gives up what is under way, in the midst of a pass.
    """

    def __init__(self, count: int, attention: SharedAttention) -> None:
        self.count = count
        self._attention = attention
        self._clocks: list[Stopwatch] = []
        self._attended = 0.0
        self._left = 0
        self._counting = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.count > 1:
            self._threads = torch.get_num_threads()
            self._shares = [
                self._threads // self.count + (lane < self._threads % self.count) for lane in range(self.count)
            ]
            self._pool = ThreadPoolExecutor(self.count, "harness-lane", self._open)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        self._attention.halted = kind is not None
        self._pool.shutdown(cancel_futures=True)
        self._attention.halted = False
        self._pool = None  # it knows these lanes, and they what they attend by, which would keep a model
        torch.set_num_threads(self._threads)  # some libraries have one number for all threads
        self.tell()

    def do(self, work: Callable[[], Found]) -> Future[Found]:
        """Do this here and now."""
        done: Future[Found] = Future()
        done.set_result(work())
        return done

    def begin(self, work: Callable[[], Found]) -> Future[Found]:
        """Do this in a lane, as soon as one is free."""
        if self._pool is None:
            return self.do(work)
        self._count(1)
        return self._pool.submit(self._done, work)

    def _done(self, work: Callable[[], Found]) -> Found:
        try:
            return work()
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:
            self._left += more

    def widen(self) -> None:
        """Give the lane that calls this all of torch's threads, where the others have nothing left to do."""
        if self._pool is not None and self._left == 1 and torch.get_num_threads() < self._threads:
            torch.set_num_threads(self._threads)

    @contextlib.contextmanager
    def undivided(self) -> Iterator[None]:
        """Within the block the lane that calls this has all of torch's threads: the others wait for it."""
        share = torch.get_num_threads()
        if self._pool is not None:
            torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(share)

    def tell(self) -> None:
        """Say to the clock of the run how much of the time since it was last told went to attention."""
        attended = sum(clock.seconds.get("attention", 0.0) for clock in self._clocks) / self.count
        self._attention.clock.move("attention", attended - self._attended)
        self._attended = attended

    def _open(self) -> None:
        torch.set_num_threads(self._shares.pop())
        clock = Stopwatch()
        self._clocks.append(clock)
        self._attention.time_here(clock)
