"""Asks by OpenAI's batch API: half the price, up to 24 hours, and the run may be left and taken up again.

Every question goes its usual way, up to the place where it would be sent. What has come back by a batch is read there;
what has not is put into the next batch, and the question is asked again when that is done. So what follows from a
reply (another name of a field, a stop sequence within the reasoning) is a question of the batch after it.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeVar

from harness import ModelError, Request, Response, UsageError

from .batch_book import BatchBook, SentBatch, question_id
from .batch_server import FULL, MOST_BATCH_BYTES, Batch, BatchServer, NotBegun
from .client import Client
from .errors import RequestError, RetryableError, short
from .received import Received

Reply = TypeVar("Reply")
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Answer = Callable[[Request, "BatchSeat"], Awaitable[Response]]
_FIRST_LOOK = 1.0
"""Seconds until a batch is looked at for the first time; then longer and longer, up to `poll`."""
_TOGETHER = 64
"""Questions that are made at once: pictures are read and scaled beside each other."""


class NotAnswered(Exception):
    """A question has no answer yet: it is in a batch, or will be. Its name is the argument."""


@dataclass(frozen=True, slots=True)
class BatchSeat:
    """One sample's way to the server, which leads through batches."""

    asking: BatchAsking
    repeat: int

    async def post(self, route: str, body: Mapping[str, Any], read: Callable[[bytes, str], Reply]) -> Reply:
        """What `read` makes of the reply. Raises NotAnswered where none has come, RequestError, and ModelError."""
        return self.asking.answer(route, body, self.repeat, read)


@dataclass
class _Spool:
    """Lines that go into one batch."""

    endpoint: str
    file: IO[bytes]
    ids: list[str] = field(default_factory=list)

    def has_room(self, line: bytes, most: int) -> bool:
        return len(self.ids) < most and self.file.tell() + len(line) <= MOST_BATCH_BYTES


class BatchAsking:
    """Questions of one run, asked by batches of its server.

    folder: where the run keeps what it sent. retries: how often a question is asked anew that a batch left without an
    answer. most: questions of a batch. poll: seconds between two looks at one, at most. say: tells the user.
    """

    def __init__(self, client: Client, folder: Path, retries: int, most: int, poll: float, say: Any) -> None:
        self._client, self._server, self._book = client, BatchServer(client, say), BatchBook(folder)
        self._book.clear_unfinished()
        self._retries, self._most, self._poll, self._say = retries, most, poll, say
        self._at_once = 1_000_000
        """Batches that may wait at the server; fewer once it has said that its line is full."""
        self._spools: dict[str, _Spool] = {}
        self._full: list[_Spool] = []
        self._spooled: set[str] = set()
        self._unanswered: Counter[str] = Counter()
        self._why: dict[str, str] = {}
        self._told: dict[str, tuple[str, int]] = {}

    def begin(self, run: Run) -> None:
        """Take up what an earlier command left. Raises UsageError, ModelError."""
        here = self._client.address.shown
        for batch in self._book.under_way:
            if batch.server != here:
                raise UsageError(
                    f"a batch of this run is under way at {batch.server}: ask there, or remove {batch.path} to have "
                    f"its {len(batch.ids):,} questions asked anew"
                )
            if not batch.batch:  # killed while it was begun: whether it was, the server knows
                found = run(self._server.find(batch.file, f"remove {batch.path} to ask anew what was being sent"))
                if found is None:
                    self._book.drop(batch)
                    continue
                batch.batch = found.id
                batch.save()
            self._say(f"batch {batch.batch} of {len(batch.ids):,} questions was sent before: its answers are fetched")
        if not self._book.under_way:
            self._book.forget_failures()

    def answers(self, requests: Sequence[Request], answer: Answer, run: Run) -> Iterator[tuple[int, Response]]:
        """(index, answer) of each request, as batches are done. run: runs work in the loop of the connection."""
        waiting: dict[int, str] = {}
        to_ask = list(range(len(requests)))
        while True:
            for start in range(0, len(to_ask), _TOGETHER):
                part = to_ask[start : start + _TOGETHER]
                for index, given in zip(part, run(self._try([requests[at] for at in part], answer)), strict=True):
                    if isinstance(given, str):
                        waiting[index] = given
                    else:
                        waiting.pop(index, None)
                        yield index, replace(given, by_batch=True, seconds=None)
            if not waiting:
                return
            self._send(run)
            over = self._wait(run, set(waiting.values()))
            to_ask = [index for index, name in waiting.items() if name in over]

    def close(self) -> None:
        """Leave what was not sent."""
        for spool in [*self._full, *self._spools.values()]:
            spool.file.close()

    def answer(self, route: str, body: Mapping[str, Any], repeat: int, read: Callable[[bytes, str], Reply]) -> Reply:
        """See `BatchSeat.post`."""
        name = question_id(route, body, repeat)
        outcome = self._book.outcome(name)
        if outcome is None:
            self._want(name, route, body)
            raise NotAnswered(name)
        content = json.dumps(outcome.body).encode()
        try:
            if outcome.status == 200:
                return read(content, "application/json")
            raise self._client.failure(Received(outcome.status, {}, content), body)
        except RetryableError as error:
            self._left(name, self._client.hide(str(error)))
            self._book.forget(name)
            self._want(name, route, body)
            raise NotAnswered(name) from None
        except RequestError as error:
            error.args = (self._client.hide(str(error)),)
            raise

    @property
    def has_answers(self) -> bool:
        return self._book.has_answers

    async def _try(self, requests: Sequence[Request], answer: Answer) -> list[Response | str]:
        async def one(request: Request) -> Response | str:
            try:
                return await answer(request, BatchSeat(self, request.repeat))
            except NotAnswered as waits:
                return str(waits)

        return await asyncio.gather(*map(one, requests))

    def _left(self, name: str, why: str) -> None:
        self._unanswered[name] += 1
        self._why[name] = why

    def _want(self, name: str, route: str, body: Mapping[str, Any]) -> None:
        """Put a question into the next batch, if it is in none. Raises RequestError where that is enough."""
        if name in self._spooled or any(name in batch.known for batch in self._book.under_way):
            return
        if self._unanswered[name] > self._retries:
            times = f"{self._unanswered[name]} batches"
            raise RequestError(f"not answered by {times}, at last: {self._why[name]}")
        endpoint = endpoint_of(self._client.address.base.path, route)
        line = json.dumps({"custom_id": name, "method": "POST", "url": endpoint, "body": body}).encode() + b"\n"
        if len(line) > MOST_BATCH_BYTES:
            raise RequestError(f"a question of {len(line):,} bytes is larger than a batch may be")
        spool = self._spools.get(endpoint)
        if spool is not None and not spool.has_room(line, self._most):
            self._full.append(self._spools.pop(endpoint))
            spool = None
        if spool is None:
            file = tempfile.TemporaryFile()  # noqa: SIM115  (closed when it is sent, or by `close`)
            spool = self._spools[endpoint] = _Spool(endpoint, file)
        spool.file.write(line)
        spool.ids.append(name)
        self._spooled.add(name)

    def _send(self, run: Run) -> None:
        """Begin batches of what was put together, as many as may wait at the server."""
        self._full += self._spools.values()
        self._spools.clear()
        while self._full and len(self._book.under_way) < self._at_once:
            spool = self._full[0]
            batch = run(self._begin(spool))
            del self._full[0]
            self._spooled.difference_update(spool.ids)
            spool.file.close()
            self._say(
                f"batch {batch.batch}: {len(batch.ids):,} questions sent; it may take a day, and this command can be "
                "left: the same one fetches the answers"
            )

    async def _begin(self, spool: _Spool) -> SentBatch:
        name = self._book.folder.parent.name
        file = await self._server.upload(spool.file, f"{name}.jsonl")
        batch = self._book.add(self._client.address.shown, spool.endpoint, spool.ids, file)
        try:
            begun = await self._server.create(file, spool.endpoint, name)
        except NotBegun:
            self._book.drop(batch)
            raise
        batch.batch = begun.id
        batch.save()
        return batch

    def _wait(self, run: Run, wanted: set[str]) -> set[str]:
        """Wait until a batch with something wanted is over. Returns the questions that were in it."""
        watched = [batch for batch in self._book.under_way if batch.known & wanted] or self._book.under_way
        pause = min(_FIRST_LOOK, self._poll)
        while True:
            for batch in watched:
                unknown = f"began it another key or project? Remove {batch.path} to have its questions asked anew"
                state: Batch = run(self._server.look(batch.batch, unknown))
                if not state.is_under_way:
                    problem = run(self._collect(batch, state))
                    for message in self._book.take_problems():
                        self._say(message)
                    if problem is not None:
                        raise problem
                    self._say(f"batch {batch.batch}: {state.words}")
                    return batch.known
                if self._told.get(batch.batch) != state.stage:
                    self._told[batch.batch] = state.stage
                    self._say(f"batch {batch.batch}: {state.words}")
            time.sleep(pause)
            pause = min(self._poll, 1.3 * pause)

    async def _collect(self, batch: SentBatch, state: Batch) -> ModelError | None:
        """Fetch what a batch that is over has come to. Returns the error that asking anew would only repeat."""
        named = {problem.line: problem for problem in state.problems if problem.line}
        with self._book.results(batch) as file:
            for file_id in (state.output_file_id, state.error_file_id):
                if file_id and not await self._server.download(file_id, file):
                    self._book.problems.append(f"batch {batch.batch}: its file {file_id} is empty, or there no more")
            for number, name in enumerate(batch.ids, 1):
                if problem := named.get(number):
                    error = {"message": problem.message or problem.code or "refused", "code": problem.code}
                    line = {"custom_id": name, "response": {"status_code": 400, "body": {"error": error}}}
                    file.write(json.dumps(line).encode() + b"\n")
        codes = {problem.code for problem in state.problems}
        others = len(self._book.under_way)
        if FULL in codes and (others or len(batch.ids) > 1):
            self._at_once = max(1, others)
            self._most = self._most if others else max(1, len(batch.ids) // 2)
            self._say_later(f"batch {batch.batch}: {self._problem(state)}: sent again, fewer at a time")
            return None
        lost = [name for name in batch.ids if not self._book.has(name)]
        for name in lost:
            self._left(name, f"batch {batch.batch} {state.status}")
        if state.status == "failed" and len(lost) == len(batch.ids):
            what = f"batch {batch.batch} failed: {self._problem(state)}"
            return ModelError(f"{self._client.address.shown}: {what}; the same command asks anew")
        if lost:
            self._say_later(f"batch {batch.batch}: {len(lost):,} of {len(batch.ids):,} questions have no answer")
        return None

    def _problem(self, state: Batch) -> str:
        told = next((each.message or each.code for each in state.problems if each.message or each.code), None)
        return self._client.hide(short(told or "its server does not say why"))

    def _say_later(self, message: str) -> None:
        self._book.problems.append(message)


def endpoint_of(path: str, route: str) -> str:
    """The API of a route as lines name it: from the version on, whatever stands before it in the server's address."""
    version = re.search(r"/(v\d+)/?$", path)
    return f"/{version[1] if version else 'v1'}/{route}"
