"""The routes of OpenAI's batch API: files that hold requests, batches made of them, files that hold the answers.

From OpenAI's API reference (Batch, Files): a line of the input is `{"custom_id", "method", "url", "body"}`, one of the
output `{"custom_id", "response": {"status_code", "body"}, "error"}`. A batch takes at most 50,000 lines and 200 MB, is
done within 24 hours or expires, and then says in two files what was answered and what was not.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import IO, Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from harness import ModelError, RetryPolicy, asked_pause, is_throttling, may_pass

from .client import Client
from .connection import Upload
from .errors import message_of, short
from .received import NoReply, Received

MOST_REQUESTS = 50_000
MOST_BATCH_BYTES = 200 * 10**6
UNDER_WAY = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
FULL = "token_limit_exceeded"
"""The code of a batch that failed because too much is waiting already: it may be sent when less is."""
_PATIENCE = RetryPolicy(total=1800.0, retries=12, delay=0.5)
_TRANSFER = 1800.0
"""Seconds for a file of 200 MB, there or back."""
_GONE = (404, 405, 410)
_PAGE, _MOST_PAGES = 100, 50


class NotBegun(ModelError):
    """The server has refused to begin a batch."""


class _Read(BaseModel):
    """Fields that a server gives, of whatever else it says."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class LineError(_Read):
    """What is wrong with a batch, and with which line of its file, from 1."""

    code: str | None = None
    line: int | None = None
    message: str | None = None


class BatchErrors(_Read):
    data: list[LineError] | None = None


class BatchCounts(_Read):
    total: int = 0
    completed: int = 0
    failed: int = 0


class Batch(_Read):
    """A batch as its server describes it."""

    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: BatchErrors | None = None
    request_counts: BatchCounts | None = None

    @property
    def is_under_way(self) -> bool:
        return self.status in UNDER_WAY

    @property
    def problems(self) -> list[LineError]:
        return (self.errors.data or []) if self.errors is not None else []

    @property
    def stage(self) -> tuple[str, int]:
        """Its status, and how many tenths of it are done: what is worth telling."""
        counts = self.request_counts
        return self.status, 10 * (counts.completed + counts.failed) // max(1, counts.total) if counts else 0

    @property
    def words(self) -> str:
        counts = self.request_counts
        done = f", {counts.completed + counts.failed:,} of {counts.total:,} done" if counts and counts.total else ""
        return f"{self.status.replace('_', ' ')}{done}"


class BatchServer:
    """The batch API of one server. All of its methods raise ModelError where the server cannot be asked.

    say: is told of each time that something is tried again, and why.
    """

    def __init__(self, client: Client, say: Callable[[str], object] = lambda text: None) -> None:
        self._client, self._say = client, say

    async def upload(self, lines: IO[bytes], name: str) -> str:
        """Put a file of requests there. Returns its id."""

        async def send() -> Received:
            lines.flush()
            os.lseek(lines.fileno(), 0, os.SEEK_SET)
            with os.fdopen(os.dup(lines.fileno()), "rb") as file:  # whoever sends it closes it
                return await self._send("POST", "files", Upload(file, name, {"purpose": "batch"}))

        reply = await self._patiently(send, "a place for a file of questions")
        return str(_object(reply.content, "files").get("id") or _none("files", "no id"))

    async def create(self, file_id: str, endpoint: str, name: str) -> Batch:
        """Begin a batch of an uploaded file: once, also where the reply to that does not come through.

        Raises NotBegun where the server refuses, and ModelError where it cannot be known whether it is begun.
        """
        fields = {
            "input_file_id": file_id,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": {"harness_run": name[:512]},
        }
        content = json.dumps(fields).encode()
        is_unsure = False

        async def send() -> Received:
            nonlocal is_unsure
            if is_unsure and (begun := await self.find(file_id)) is not None:
                return Received(200, {}, begun.model_dump_json().encode())
            is_unsure = True
            reply = await self._send("POST", "batches", content)
            is_unsure = reply.status >= 500
            return reply

        try:
            return _batch((await self._patiently(send, "a batch")).content)
        except ModelError as error:
            if is_unsure:
                raise
            raise NotBegun(str(error)) from None

    async def find(self, file_id: str, unknown: str = "") -> Batch | None:
        """The batch that was made of a file, if there is one. unknown: what to do where no batches can be listed."""
        async for batch in self._listed(unknown):
            if batch.input_file_id == file_id:
                return batch
        return None

    async def look(self, batch_id: str, unknown: str) -> Batch:
        """unknown: what to do where the server knows no such batch."""
        reply = await self._patiently(lambda: self._send("GET", f"batches/{batch_id}"), batch_id, unknown)
        return _batch(reply.content)

    async def download(self, file_id: str, into: IO[bytes]) -> bool:
        """Add the lines of a file to `into`. Returns False where the server has no such file any more."""
        start = into.tell()

        async def fetch() -> Received:
            into.seek(start)
            into.truncate()
            reply = await self._send("GET", f"files/{file_id}/content", into=into)
            return replace(reply, status=200) if reply.status in _GONE else reply

        await self._patiently(fetch, f"file {file_id}")
        if into.tell() > start:
            into.write(b"\n")
        return into.tell() > start

    async def _listed(self, unknown: str) -> AsyncIterator[Batch]:
        after = ""
        for _ in range(_MOST_PAGES):
            query = {"limit": str(_PAGE), **({"after": after} if after else {})}
            ask = functools.partial(self._send, "GET", "batches", query=query)
            reply = await self._patiently(ask, "its batches", unknown)
            page = _object(reply.content, "batches")
            listed = [_batch(json.dumps(each).encode()) for each in page.get("data") or []]
            for batch in listed:
                yield batch
            if not (page.get("has_more") and listed):
                return
            after = listed[-1].id

    async def _send(
        self,
        method: str,
        route: str,
        body: bytes | Upload | None = None,
        into: IO[bytes] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Received:
        return await self._client.exchange(method, route, body, _TRANSFER, into=into, query=query or {})

    async def _patiently(self, send: Callable[[], Awaitable[Received]], what: str, unknown: str = "") -> Received:
        """The reply of status 200 that comes in the end. Nothing is lost by waiting: a batch goes on by itself.

        unknown: what to do where the server knows no such thing.
        """
        where = self._client.address.shown
        attempts = _PATIENCE.attempts()
        while True:
            pause, throttled = None, False
            try:
                reply = await send()
                if reply.status == 200:
                    return reply
                why = f"answers {reply.status}: {self._client.hide(message_of(reply.content))}"
                if not may_pass(reply.status):
                    raise ModelError(f"{where}, asked for {what}, {why} ({_remedy(reply.status, unknown)})")
                pause = asked_pause(reply.headers, why)
                throttled = is_throttling(reply.status, pause)
            except NoReply as error:
                why = f"does not answer: {error}"
            wait = attempts.failed(pause, throttled=throttled)
            if wait is None:
                goes_on = "what it has accepted goes on there, and the same command here"
                raise ModelError(f"{where}, asked for {what}, {why}; {goes_on}")
            tries = "" if throttled else f" (try {attempts.number + 1} of {_PATIENCE.retries + 1})"
            self._say(f"{where}, asked for {what}, {why}: asked again in {wait:.1f} s{tries}")
            await asyncio.sleep(wait)


def _remedy(status: int, unknown: str) -> str:
    if status == 401:
        return "check the key: OPENAI_API_KEY, or --model_args api_key=..."
    if status in _GONE:
        return unknown or "it has no batch API: ask without --batch_api"
    return "the same command goes on, once that is mended"


def _object(content: bytes, route: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else _none(route, short(content[:200].decode("utf-8", "replace")))


def _batch(content: bytes) -> Batch:
    try:
        return Batch.model_validate_json(content)
    except ValidationError:
        return _none("batches", short(content[:200].decode("utf-8", "replace")))


def _none(route: str, found: str) -> NoReturn:
    raise ModelError(f"the server's reply to /{route} is none of the batch API: {found}")
