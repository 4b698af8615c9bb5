"""Several devices at once: a process each, all taking their work from one queue.

Work is cut along the prefix tree: sequences in the order of their tokens, so that neighbours share what they begin
with, in pieces of about equal cost. A worker that dies gives its piece back to the queue, and is named in the report.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing.connection
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from harness.engine.libraries import allowed_cores
from harness.engine.outcomes import Failed
from harness.engine.plan import common_prefix
from harness.engine.tokens import Encoded, GenerateSequence, ScoreSequence
from harness.engine.worker_failures import WorkerFailure, ending
from harness.errors import ModelError
from harness.model import Activity

if TYPE_CHECKING:
    from harness.engine.model import TorchModel
    from harness.engine.plain import Piece

log = logging.getLogger(__name__)
Sequence_ = TypeVar("Sequence_", ScoreSequence, GenerateSequence)

_ITEMS_A_WORKER = 4
# A piece of work that was there when this many workers died is not tried again.
_DEATHS = 2
# What comes back from a death is cut into so many pieces: if one request kills, few others share its fate.
_PIECES_AFTER_DEATH = 8
_CLOSE_SECONDS = 10


@dataclass
class WorkItem:
    """A piece of work: some of the sequences of a run. `lost` is the worker that had it before, if it died."""

    scores: list[ScoreSequence] = field(default_factory=list)
    generations: list[GenerateSequence] = field(default_factory=list)
    deaths: int = 0
    lost: WorkerFailure | None = None

    @property
    def requests(self) -> set[int]:
        return {score.request for score in self.scores} | {generation.request for generation in self.generations}

    def without(self, done: set[tuple[int, int]]) -> WorkItem:
        """What is left of it."""
        return WorkItem(
            [sequence for sequence in self.scores if (sequence.request, sequence.part) not in done],
            [sequence for sequence in self.generations if (sequence.request, 0) not in done],
            self.deaths,
            self.lost,
        )


@dataclass
class _Worker:
    name: str
    device: str
    process: subprocess.Popen[bytes]
    connection: Connection
    item: WorkItem | None = None
    done: set[tuple[int, int]] = field(default_factory=set)
    activity: Activity | None = None

    @property
    def label(self) -> str:
        return f"{self.name} ({self.device}, pid {self.process.pid})"


class WorkerPool:
    """Workers for one model, one a device. `lost` are those that died. Raises ModelError when none can load it."""

    def __init__(self, model: TorchModel, devices: Sequence[str]) -> None:
        self.lost: list[WorkerFailure] = []
        self.notes: list[str] = []
        self.description: dict[str, Any] = {}
        self._least_tokens = model.limits.work_item
        self._workers = [_start(index, device) for index, device in enumerate(devices)]
        threads = max(1, allowed_cores() // len(devices))
        pickled = pickle.dumps(model)
        for worker, device in zip(self._workers, devices, strict=True):
            _send(worker, (pickled, device, threads))
        self._wait_for_all()

    @property
    def activity(self) -> Activity:
        """What all workers say of themselves together."""
        told = [worker.activity for worker in self._workers if worker.activity is not None]
        operations = [each.operations for each in told if each.operations is not None]
        rates = [each.matrix_rate for each in told if each.matrix_rate is not None]
        return Activity(sum(operations) if operations else None, sum(rates) if rates else None)

    def switch(self, model: TorchModel) -> None:
        """Have all workers answer for another model; each keeps what it can of what it has loaded."""
        self.lost, self.notes = [], []
        pickled = pickle.dumps(model)
        for worker in self._workers:
            _send(worker, pickled)
        self._wait_for_all()

    def run(self, portions: Iterable[Encoded]) -> Iterator[Piece]:
        """Outcomes of all sequences, each as soon as some worker has it. A portion is asked for where less is left than
        a piece for each worker."""
        coming = (cut_work(each, len(self._workers) * _ITEMS_A_WORKER, self._least_tokens) for each in portions)
        queue: deque[WorkItem] = deque()
        more = True
        while True:
            while more and len(queue) < len(self._workers):
                items = next(coming, None)
                queue.extend(items or [])
                more = items is not None
            if not queue and all(worker.item is None for worker in self._workers):
                return
            for worker in self._workers:
                if worker.item is None and queue:
                    item = queue.popleft()
                    worker.item, worker.done = item, set()
                    # If it is gone already, that is noticed, and the work taken back, where answers are awaited.
                    _send(worker, WorkItem(item.scores, item.generations))
            busy = {worker.connection: worker for worker in self._workers if worker.item is not None}
            for ready in multiprocessing.connection.wait(list(busy)):
                assert isinstance(ready, Connection)
                yield from self._receive(busy[ready], queue)

    def close(self) -> None:
        """Let all workers end; one that does not is ended."""
        for worker in self._workers:
            _send(worker, None)
            worker.connection.close()
        for worker in self._workers:
            try:
                worker.process.wait(_CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self._workers = []

    def _wait_for_all(self) -> None:
        """Wait until all workers have loaded the model; those that cannot are left out."""
        reasons = [self._wait_until_loaded(worker) for worker in list(self._workers)]
        if not self._workers:
            raise ModelError(next((reason for reason in reasons if reason), "no worker could load the model"))

    def _wait_until_loaded(self, worker: _Worker) -> str | None:
        """Wait until a worker has loaded the model. Returns why it has not."""
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            kind, content = "broken", ""
        if kind == "ready":
            self.description = content
            return None
        lost = self._remove(worker, content, "could not load the model: ")
        return content or lost.text

    def _receive(self, worker: _Worker, queue: deque[WorkItem]) -> Iterator[Piece]:
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            kind, content = "broken", ""
        assert worker.item is not None
        if kind == "pieces":
            worker.done |= {piece[:2] for piece in content}
            if worker.item.lost is not None:
                worker.item.lost.done_by(worker.label, [piece[0] for piece in content])
            yield from content
        elif kind == "activity":
            worker.activity = content
        elif kind == "done":
            worker.item = None
            self.notes += [note for note in content if note not in self.notes]
        elif kind == "refused":
            raise ModelError(content)
        else:
            yield from self._return_work(worker, content, queue)

    def _return_work(self, worker: _Worker, cause: str, queue: deque[WorkItem]) -> Iterator[Piece]:
        """A worker died: what it had not answered goes back, unless it seems to be what kills."""
        assert worker.item is not None
        left = worker.item.without(worker.done)
        lost = self._remove(worker, cause)
        lost.returned = len(left.requests)
        if not self._workers:
            raise ModelError(f"all workers died: {'; '.join(each.cause_text for each in self.lost)}")
        left.deaths += 1
        if left.deaths < _DEATHS:
            parts = [WorkItem(generations=part) for part in _cut(left.generations, _PIECES_AFTER_DEATH, 1)]
            parts += [WorkItem(scores=part) for part in _cut(left.scores, _PIECES_AFTER_DEATH, 1)]
            for part in parts:
                part.deaths, part.lost = left.deaths, lost
            queue.extendleft(parts)
            return
        lost.failed = len(left.requests)
        reason = f"{left.deaths} workers died while they computed this"
        for score in left.scores:
            yield score.request, score.part, Failed(reason), 0.0
        for generation in left.generations:
            yield generation.request, 0, Failed(reason), 0.0

    def _remove(self, worker: _Worker, cause: str, when: str = "") -> WorkerFailure:
        """Take a worker out of the pool, and remember how it ended. `cause`: what it said itself, if anything."""
        self._workers.remove(worker)
        worker.connection.close()
        status = worker.process.wait()
        lost = WorkerFailure(worker.name, worker.device, worker.process.pid, when + (cause or ending(status)), status)
        self.lost.append(lost)
        log.warning(lost.cause_text)
        return lost


def cut_work(encoded: Encoded, pieces: int, least: int) -> list[WorkItem]:
    """Cut the sequences of a run into about so many pieces of equal cost, generation first, since it takes longest."""
    items = [WorkItem(generations=part) for part in _cut(encoded.generations, pieces, least)]
    return items + [WorkItem(scores=part) for part in _cut(encoded.scores, pieces, least)]


def _cut(sequences: Sequence[Sequence_], pieces: int, least: int) -> list[list[Sequence_]]:
    """Cut in the order of tokens, and never between sequences of one input. `least`: tokens that a piece is worth."""
    ordered: list[Sequence_] = sorted(sequences, key=lambda sequence: sequence.tokens)
    shared = [0, *(common_prefix(a.tokens, b.tokens) for a, b in itertools.pairwise(ordered))]
    costs = [
        len(sequence.tokens) - common + getattr(sequence, "max_new_tokens", 0)
        for sequence, common in zip(ordered, shared, strict=False)
    ]
    size = max(least, -(-sum(costs) // max(1, pieces)))
    parts: list[list[Sequence_]] = []
    total = size
    for sequence, cost, common in zip(ordered, costs, shared, strict=False):
        if total >= size and common < len(sequence.tokens) - 1:
            parts.append([])
            total = 0
        parts[-1].append(sequence)
        total += cost
    return parts


def _start(index: int, device: str) -> _Worker:
    ours, theirs = multiprocessing.Pipe()
    command = [sys.executable, "-m", "harness.engine.worker", str(theirs.fileno())]
    # A module path set by hand, in a notebook say, is the child's too.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
    theirs.close()
    return _Worker(f"worker {index}", device, process, ours)


def _send(worker: _Worker, message: Any) -> None:
    """Send, if there is still somebody to hear it."""
    try:
        worker.connection.send(message)
    except OSError:
        log.debug("%s took no message", worker.label)
