"""Ray: `--executor ray,address=auto,workers=8,gpus_per_worker=1` has actors of a cluster answer, each with a model.

Actors pull pieces of work from this process and stream their answers back to it. One that ends, or whose machine does,
gives its piece back; machines may join and leave while the run goes on.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import (
    HarnessError,
    ModelError,
    ModelExecutor,
    ModelOrder,
    Request,
    Response,
    UsageError,
    hookimpl,
    one_line,
)
from harness import WorkPiece as Piece

_PIECES_A_WORKER = 8
_UNKNOWN_WORKERS = 16
"""So many are cut for, where it is not said how many there will be: more may join."""
_POLL, _LOOK = 1.0, 5.0  # seconds: how long one wait lasts, and how often the cluster is looked at
_WAIT = 600.0
"""Seconds until a run is given up for which no worker starts."""
_DEATHS = 2
"""A piece that was there when so many workers died, while their machines lived, is not tried again."""
_LOAD_DEATHS = 3
"""So many workers may die while they load, one after another, before one of them is not replaced."""
_NODE_DEATH = 30.0
"""Seconds within which a cluster notices that a machine is gone."""
_AFTER_DEATH = 8
"""What comes back from a death is cut into so many pieces: if one request kills, few others share its fate."""
_CHUNK = 16


class Worker:
    """What runs in an actor: the model, and the pieces that it is given."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.model: Any = None

    def load(self, order: ModelOrder, device: str, args: Mapping[str, Any]) -> tuple[str, str, int, Mapping[str, Any]]:
        """Make the model. Returns why that cannot be (empty where it can), the node and the process, and what the model
        says of itself."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        try:
            if device == "cpu":
                import torch

                torch.set_num_threads(self.threads)
            self.model = order.load(device, args)
            return "", node, os.getpid(), dict(self.model.describe())
        except Exception as error:
            known = isinstance(error, HarnessError)
            return one_line(error) if known else f"{type(error).__name__}: {one_line(error)}", node, os.getpid(), {}

    def respond(self, piece: Piece) -> Iterator[tuple[str, Any]]:
        """`("answers", [(number, response), ...])` as they come, then `("done", incidents)`; or what ended it."""
        numbers = [number for number, _ in piece]
        chunk: list[tuple[int, Response]] = []
        try:
            for index, response in self.model.respond([request for _, request in piece]):
                chunk.append((numbers[index], response))
                if len(chunk) == _CHUNK:
                    yield "answers", chunk
                    chunk = []
            yield "answers", chunk
            yield "done", [dict(incident) for incident in self.model.incidents()]
        except HarnessError as error:  # the model itself is at fault, on whichever machine
            yield "refused", one_line(error)
        except Exception as error:
            yield "broken", f"{type(error).__name__}: {one_line(error)}"


@dataclass
class _Work:
    piece: list[tuple[int, Request]]
    deaths: int = 0


@dataclass
class _Member:
    """An actor: loading until `node` is known, idle where it has no work."""

    number: int
    actor: Any
    waiting: Any
    node: str = ""
    pid: int = 0
    work: _Work | None = None
    done: set[int] = field(default_factory=set)

    @property
    def label(self) -> str:
        return f"worker {self.number}" + (f" (node {self.node[:8]}, pid {self.pid})" if self.node else "")


class Ray(ModelExecutor):
    """Actors on a Ray cluster, each with a copy of the model (`hf`, `vllm`), which must be where its nodes see it.

    address: of the cluster [default: RAY_ADDRESS, else a cluster of this machine alone]; `auto` is the one that runs
    here. workers: how many [default: as many as the cluster has room for, more when machines join]. gpus_per_worker
    [default: tensor_parallel, else 1 where the cluster has GPUs, else 0], cpus_per_worker: what each takes.
    tensor_parallel: how many GPUs hold one copy. wait: seconds until the run is given up for which no worker starts.
    """

    name = "ray"
    needs = "ray"
    extra = "ray"

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        cpus_per_worker: int = 1,
        tensor_parallel: int | None = None,
        wait: float = _WAIT,
    ) -> None:
        for name, value in (
            ("workers", workers), ("cpus_per_worker", cpus_per_worker), ("tensor_parallel", tensor_parallel),
        ):  # fmt: skip
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} is a whole number of at least 1, not '{value}'")
        for name, amount in (("gpus_per_worker", 0 if gpus_per_worker is None else gpus_per_worker), ("wait", wait)):
            if type(amount) not in (int, float) or not 0 <= amount < math.inf:
                raise UsageError(f"{name} is a number of at least 0, not '{amount}'")
        self.address, self.workers, self.wait = address, workers, wait
        self.gpus, self.cpus, self.tensor_parallel = gpus_per_worker, cpus_per_worker, tensor_parallel
        self._members: list[_Member] = []
        self._order: Any = None
        self._args: dict[str, Any] = {}
        self._is_own = False
        self._number = 0
        self._left_out: list[str] = []
        self._lost: list[dict[str, Any]] = []
        self._notes: dict[str, dict[str, Any]] = {}
        self._described: Mapping[str, Any] = {}
        self._places: set[str] = set()
        self._looked, self._room, self._load_deaths = 0.0, 0, 0

    @property
    def pieces(self) -> int:
        return _PIECES_A_WORKER * max(self.workers or _UNKNOWN_WORKERS, len(self._members))

    def start(self, order: ModelOrder) -> None:
        self._connect()
        import ray

        if self.tensor_parallel and self.tensor_parallel > 1:
            if order.takes("tensor_parallel_size"):
                self._args["tensor_parallel_size"] = self.tensor_parallel
            elif order.takes("parallelize"):
                self._args["parallelize"] = True
            else:
                raise UsageError("--executor ray: this model has no copies that lie on several GPUs (tensor_parallel)")
        if self.gpus is None:
            has_gpus = any(node["Resources"].get("GPU") for node in ray.nodes())
            self.gpus = self.tensor_parallel or int(has_gpus)
        self._order = ray.put(order)
        self._grow()
        began = told = time.monotonic()
        while not any(member.node for member in self._members):
            self._refuse_without_members()
            for member in self._ready([member for member in self._members if not member.node]):
                self._loaded(member)
            self._grow()
            now = time.monotonic()
            if now - began > self.wait:
                raise ModelError(f"--executor ray: no worker could start within {self.wait:g} s: {self._wanted}")
            if now - told > 30:
                told = now
                self.say(f"ray: waiting for the first worker: {self._wanted}")

    def respond(self, pieces: Sequence[Piece]) -> Iterator[tuple[int, Response]]:
        queue = deque(_Work(list(piece)) for piece in pieces)
        began = time.monotonic()
        while queue or any(member.work for member in self._members):
            if queue:
                self._grow()
            for member in self._members:
                if member.node and member.work is None and queue:
                    member.work, member.done = queue.popleft(), set()
                    respond = member.actor.respond.options(num_returns="streaming")
                    member.waiting = respond.remote(member.work.piece)
            self._refuse_without_members()
            if any(member.node for member in self._members):
                began = time.monotonic()
            elif time.monotonic() - began > self.wait:
                gone = f"all workers are gone, and none came for {self.wait:g} s"
                raise ModelError(f"--executor ray: {gone}: {self._wanted}")
            for member in self._ready([member for member in self._members if member.work or not member.node]):
                if member.node:
                    yield from self._received(member, queue)
                else:
                    self._loaded(member)

    def describe(self) -> Mapping[str, Any]:
        return {**self._described, "workers": len(self._members), "nodes": len(self._places)}

    def incidents(self) -> Sequence[Mapping[str, Any]]:
        return [*self._lost, *self._notes.values()]

    def close(self) -> None:
        if not self._members and not self._is_own:
            return
        import ray

        for member in self._members:
            ray.kill(member.actor)
        self._members = []
        if self._is_own:
            self._is_own = False
            ray.shutdown()

    def _connect(self) -> None:
        """Join the cluster, unless this process has done so already."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        if ray.is_initialized():
            return
        where = self.address or os.environ.get("RAY_ADDRESS") or "this machine"
        host, colon, port = where.rpartition(":")
        own_handler = signal.getsignal(signal.SIGTERM)
        try:
            if colon and port.isdigit() and "/" not in host:  # Ray itself tries for minutes
                socket.create_connection((host.strip("[]"), int(port)), 10).close()
            ray.init(
                address=self.address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False,
                **({"include_dashboard": False} if where == "this machine" else {}),
            )  # fmt: skip
        except Exception as error:
            raise ModelError(f"--executor ray: no Ray cluster at {where}: {one_line(error)}") from None
        finally:
            if threading.current_thread() is threading.main_thread():  # Ray has put one of its own there
                signal.signal(signal.SIGTERM, own_handler)
        self._is_own = True

    def _grow(self) -> None:
        """Start as many workers as are wanted; those that the cluster has no room for yet join when it has."""
        import ray

        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            resources = ray.cluster_resources()
            by_cpus = resources.get("CPU", 0) / self.cpus
            self._room = int(min(by_cpus, resources.get("GPU", 0) / self.gpus) if self.gpus else by_cpus)
        target = (self.workers or max(1, self._room)) - len(self._left_out)
        kind = ray.remote(Worker)
        while len(self._members) < target:
            actor = kind.options(num_cpus=self.cpus, num_gpus=self.gpus, scheduling_strategy="SPREAD").remote(self.cpus)
            device = "cuda" if self.gpus else "cpu"
            self._members.append(_Member(self._number, actor, actor.load.remote(self._order, device, self._args)))
            self._number += 1

    def _ready(self, members: Sequence[_Member]) -> list[_Member]:
        """Those that have something to say; waits a moment for the first."""
        import ray

        if not members:
            return []
        waited_for = {member.waiting: member for member in members}
        found, _ = ray.wait(list(waited_for), num_returns=1, timeout=_POLL)
        return [waited_for[each] for each in found]

    def _loaded(self, member: _Member) -> None:
        """A worker has loaded the model, or cannot."""
        import ray

        try:
            problem, node, member.pid, described = ray.get(member.waiting)
        except ray.exceptions.RayError as error:
            self._end(member)
            if not self._node_is_gone(member, error):
                self._load_deaths += 1
                told = f"{member.label} {_cause(error)} while it loaded the model"
                if self._load_deaths < _LOAD_DEATHS:
                    self._note(told)
                else:
                    self._leave_out(told)
            return
        if problem:
            self._end(member)
            self._leave_out(f"{member.label} on node {node[:8]}: {problem}")
            return
        member.node, member.waiting, self._load_deaths = node, None, 0
        self._described = self._described or described
        self._places.add(node)

    def _leave_out(self, problem: str) -> None:
        """A worker that cannot work is not replaced: what stops it would stop the next one."""
        self._left_out.append(problem)
        self._note(problem)

    def _note(self, text: str, **more: Any) -> None:
        self._lost.append({"kind": "worker", "text": f"ray: {text}", **more})
        self.say(f"ray: {text}")

    def _end(self, member: _Member) -> None:
        """Take a worker out; one that is only out of reach is not to come back to work that others have."""
        import ray

        self._members.remove(member)
        ray.kill(member.actor)

    def _refuse_without_members(self) -> None:
        if not self._members and self._left_out:
            raise ModelError(f"--executor ray: no worker is left: {self._left_out[-1]}")

    def _received(self, member: _Member, queue: deque[_Work]) -> Iterator[tuple[int, Response]]:
        import ray

        assert member.work is not None
        try:
            kind, content = ray.get(next(member.waiting))
        except StopIteration:
            member.work = None
            return
        except ray.exceptions.RayError as error:
            yield from self._give_back(member, queue, _cause(error), counts=not self._node_is_gone(member, error))
            return
        if kind == "answers":
            member.done.update(number for number, _ in content)
            yield from content
        elif kind == "done":
            member.work = None
            for incident in content:
                self._notes.setdefault(str(incident.get("text")), incident)
        elif kind == "refused":
            raise ModelError(f"{member.label}: {content}")
        else:
            yield from self._give_back(member, queue, f"stopped: {content}", counts=True)

    def _give_back(
        self, member: _Member, queue: deque[_Work], cause: str, *, counts: bool
    ) -> Iterator[tuple[int, Response]]:
        """A worker ended: what it had not answered goes back, unless it seems to be what kills."""
        assert member.work is not None
        self._end(member)
        left = [(number, request) for number, request in member.work.piece if number not in member.done]
        deaths = member.work.deaths + counts
        how = cause if counts else "is gone with its machine"
        self._note(f"{member.label} {how}; {len(left)} requests went back", returned=len(left))
        if deaths >= _DEATHS:
            error = f"{deaths} workers died while they computed this"
            yield from ((number, Response(error=error)) for number, _ in left)
            return
        size = max(1, -(-len(left) // (_AFTER_DEATH if counts else 1)))
        queue.extendleft(_Work(left[start : start + size], deaths) for start in range(0, len(left), size))

    def _node_is_gone(self, member: _Member, error: Exception) -> bool:
        """Whether a worker ended because its machine did: that says nothing of its work.

        A worker that cannot be reached may have lost its machine; the cluster knows that some seconds later.
        """
        import ray

        if getattr(error, "preempted", False) or isinstance(error, ray.exceptions.NodeDiedError):
            return True
        if any(words in str(error) for words in ("node has died", "node was terminated", "node failure")):
            return True
        if not isinstance(error, ray.exceptions.ActorUnavailableError):
            return False
        ends = time.monotonic() + _NODE_DEATH
        while member.node and time.monotonic() < ends:
            if not any(node["NodeID"] == member.node and node["Alive"] for node in ray.nodes()):
                return True
            time.sleep(0.2)
        return not member.node

    @property
    def _wanted(self) -> str:
        import ray

        there = ray.cluster_resources()
        has = _resources(there.get("CPU", 0), there.get("GPU", 0))
        return f"each takes {_resources(self.cpus, self.gpus or 0)}, and the cluster has {has}"


def _resources(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU{'' if cpus == 1 else 's'} and {gpus:g} GPU{'' if gpus == 1 else 's'}"


def _cause(error: Exception) -> str:
    """What ended a worker, in a line, of what Ray says in many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "exit" in line.lower()] or lines or [type(error).__name__]
    return f"ended ({told[-1].partition(' Some common causes')[0][:200]})"  # what follows is advice


@hookimpl
def harness_executors() -> list[type[ModelExecutor]]:
    return [Ray]
