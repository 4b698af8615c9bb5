"""Several devices at once: a process each, all taking their work from one queue.

Work is cut along the prefix tree: sequences in the order of their tokens, so that neighbours share what they begin
with, in pieces of about equal cost. A worker that dies gives its piece back to the queue, and is named.
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from harness.engine.plan import common_prefix
from harness.engine.tokens import Encoded, GenerateSequence, ScoreSequence
from harness.errors import ModelError

if TYPE_CHECKING:
    from harness.engine.model import TorchModel
    from harness.engine.plain import Piece

log = logging.getLogger(__name__)
Sequence_ = TypeVar("Sequence_", ScoreSequence, GenerateSequence)

_JOBS_A_WORKER = 4
# Less than this many tokens is not worth a trip.
_SMALL_JOB = 2048
# A piece of work that was there when this many workers died is not tried again.
_DEATHS = 2
_GOODBYE_SECONDS = 10


@dataclass
class Job:
    """A piece of work: some of the sequences of a run."""

    scores: list[ScoreSequence] = field(default_factory=list)
    generations: list[GenerateSequence] = field(default_factory=list)
    deaths: int = 0

    def without(self, done: set[tuple[int, int]]) -> Job:
        """What is left of it."""
        return Job(
            [sequence for sequence in self.scores if (sequence.request, sequence.part) not in done],
            [sequence for sequence in self.generations if (sequence.request, 0) not in done],
            self.deaths,
        )


@dataclass
class _Worker:
    name: str
    process: subprocess.Popen[bytes]
    connection: Connection
    job: Job | None = None
    done: set[tuple[int, int]] = field(default_factory=set)


class WorkerPool:
    """Workers for one model, one a device. Raises ModelError when none can load it."""

    def __init__(self, model: TorchModel, devices: Sequence[str]) -> None:
        self.notes: list[str] = []
        self.description: dict[str, Any] = {}
        self._workers = [_start(index, device) for index, device in enumerate(devices)]
        threads = max(1, (os.cpu_count() or 1) // len(devices))
        parcel = pickle.dumps(model)
        for worker, device in zip(self._workers, devices, strict=True):
            worker.connection.send((parcel, device, threads))
        reasons = [self._greet(worker) for worker in list(self._workers)]
        if not self._workers:
            raise ModelError(next((reason for reason in reasons if reason), "no worker could load the model"))

    def run(self, encoded: Encoded) -> Iterator[Piece]:
        """Outcomes of all sequences, each as soon as some worker has it."""
        queue = deque(cut_jobs(encoded, len(self._workers) * _JOBS_A_WORKER))
        while queue or any(worker.job for worker in self._workers):
            for worker in self._workers:
                if worker.job is None and queue:
                    self._give(worker, queue.popleft())
            busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
            for ready in multiprocessing.connection.wait(list(busy)):
                assert isinstance(ready, Connection)
                yield from self._hear(busy[ready], queue)
            if not self._workers and queue:
                raise ModelError(f"all workers died: {'; '.join(self.notes)}")

    def close(self) -> None:
        """Let all workers end; one that does not is ended."""
        for worker in self._workers:
            try:
                worker.connection.send(None)
                worker.connection.close()
            except OSError:
                continue
        for worker in self._workers:
            try:
                worker.process.wait(_GOODBYE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
        self._workers = []

    def _greet(self, worker: _Worker) -> str | None:
        """Wait until a worker has loaded the model. Returns why it has not."""
        try:
            kind, content = worker.connection.recv()
        except EOFError:
            kind, content = "error", f"{worker.name} died while loading (exit status {worker.process.wait()})"
        if kind == "ready":
            self.description = content
            return None
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.wait()
        self._note(f"{worker.name} could not load the model: {content}")
        return str(content)

    def _give(self, worker: _Worker, job: Job) -> None:
        worker.job, worker.done = job, set()
        try:
            worker.connection.send(job)
        except OSError:
            # Its end is noticed, and the job taken back, where answers are awaited.
            log.debug("%s took no job", worker.name)

    def _hear(self, worker: _Worker, queue: deque[Job]) -> Iterator[Piece]:
        try:
            kind, content = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            yield from self._bury(worker, queue)
            return
        if kind == "pieces":
            worker.done |= {piece[:2] for piece in content}
            yield from content
        elif kind == "done":
            worker.job = None
        else:
            raise ModelError(f"{worker.name}: {content}")

    def _bury(self, worker: _Worker, queue: deque[Job]) -> Iterator[Piece]:
        """A worker died: what it had not answered goes back, unless it seems to be what kills."""
        from harness.engine.outcomes import Failed

        assert worker.job is not None
        self._workers.remove(worker)
        worker.connection.close()
        self._note(f"{worker.name} died (exit status {worker.process.wait()}); its work went to the others")
        left = worker.job.without(worker.done)
        left.deaths += 1
        if left.deaths < _DEATHS:
            queue.appendleft(left)
            return
        reason = f"{left.deaths} workers died while they computed this"
        for score in left.scores:
            yield score.request, score.part, Failed(reason), 0.0
        for generation in left.generations:
            yield generation.request, 0, Failed(reason), 0.0

    def _note(self, text: str) -> None:
        self.notes.append(text)
        log.warning(text)


def cut_jobs(encoded: Encoded, pieces: int) -> list[Job]:
    """Cut the sequences of a run into about so many jobs of equal cost, generation first, since it takes longest."""
    jobs = [Job(generations=part) for part in _cut(encoded.generations, pieces)]
    return jobs + [Job(scores=part) for part in _cut(encoded.scores, pieces)]


def _cut(sequences: Sequence[Sequence_], pieces: int) -> list[list[Sequence_]]:
    """Cut in the order of tokens, and never between sequences of one input."""
    ordered: list[Sequence_] = sorted(sequences, key=lambda sequence: sequence.tokens)
    shared = [0, *(common_prefix(a.tokens, b.tokens) for a, b in itertools.pairwise(ordered))]
    costs = [
        len(sequence.tokens) - common + getattr(sequence, "max_new_tokens", 0)
        for sequence, common in zip(ordered, shared, strict=False)
    ]
    size = max(_SMALL_JOB, -(-sum(costs) // max(1, pieces)))
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
    return _Worker(f"worker {index} ({device})", process, ours)
