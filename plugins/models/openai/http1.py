"""Exchanges over HTTP/1.1 on keep-alive connections of their own: one request at a time on each.

A request costs a fifth of the processor that it costs through aiohttp: its head is made once, it is sent in one piece,
one timer serves all that are under way, and nothing is made that nobody reads.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .received import CONNECT_TIMEOUT, KEEP_ALIVE, NoReply, Received, broke_off
from .reply_reader import ReplyReader

HEADERS = {"Accept-Encoding": "gzip, deflate", "User-Agent": "harness"}
_USUAL = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?")
_KNOWN_FOR = 10.0
"""Seconds for which the addresses of a host are kept."""
_SECOND_ADDRESS = 0.25
"""Seconds after which the next address is tried beside one that does not answer (RFC 8305, section 5)."""
_DROPPED_WITHIN = 1.0
"""Seconds: a server that closes a connection later had begun to work."""
_NEVER = float("inf")
_SAID_BY_US = ("content-length", "transfer-encoding")


class _Unanswered(Exception):
    """The connection was closed before anything of a reply had come."""


@dataclass(slots=True)
class _Server:
    """Where a scheme, a host and a port lead, and the connections there that nobody uses, the latest at the end."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    idle: dict[_Line, None] = field(default_factory=dict)
    addresses: list[tuple[Any, ...]] = field(default_factory=list)
    known_until: float = 0.0
    looks_up: asyncio.Lock = field(default_factory=asyncio.Lock)


class Http1:
    """Connections to servers. For one event loop at a time."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._servers: dict[str, _Server] = {}
        self._heads: dict[tuple[str, str], tuple[Mapping[str, str], _Server, bytes]] = {}
        self._lines: set[_Line] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._turns = itertools.count()

    @staticmethod
    def takes(url: str) -> bool:
        """Whether an address is one of the plain ones: without password, in letters that need no quoting."""
        return _USUAL.fullmatch(url) is not None

    async def exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], seconds: float
    ) -> Received:
        """Send a request and read all of its reply, within so many seconds. Raises NoReply, OSError, TimeoutError.

        Where a connection that was kept is closed at once, before anything of a reply has come, the server is taken to
        have dropped it unread, and the request goes out again by a new one.
        """
        known = self._heads.get((method, url))
        if known is None or known[0] is not headers:
            known = self._heads[method, url] = (headers, self._server(url), _head(method, url, headers))
        _, server, head = known
        content = b"%s\r\n" % head if body is None else b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        line, was_kept = self._idle(server), True
        while True:
            if line is None:
                line, was_kept = await self._connected(server, deadline, loop), False
            sent = loop.time()
            try:
                return await self._ask(line, content, deadline, loop)
            except _Unanswered:
                if not was_kept or loop.time() - sent > _DROPPED_WITHIN:
                    raise NoReply("the server closed the connection", gone=True) from None
            line = None

    def close(self) -> None:
        """Close all connections."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for line in list(self._lines):
            line.abort()
        self._servers.clear()
        self._heads.clear()

    async def _ask(self, line: _Line, content: bytes, deadline: float, loop: asyncio.AbstractEventLoop) -> Received:
        if self._alarm is None or deadline < self._alarm.when():
            self._set_alarm(deadline, loop)
        try:
            return await line.ask(content, deadline, loop)
        except asyncio.CancelledError:
            line.abort()
            raise

    def _set_alarm(self, moment: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_at(moment, self._end_late, loop)

    def _end_late(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the exchanges whose time is over, and wake up again for the next one."""
        self._alarm = None
        now = loop.time() + 1e-3
        for line in [line for line in self._lines if line.deadline <= now]:
            line.fail(TimeoutError())
        if (next_one := min((line.deadline for line in self._lines), default=_NEVER)) < _NEVER:
            self._set_alarm(next_one, loop)

    def _server(self, url: str) -> _Server:
        parts = urlsplit(url)
        tls = self._tls if parts.scheme == "https" else None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        server = _Server(parts.hostname or "", port, tls)
        return self._servers.setdefault(f"{parts.scheme}://{parts.netloc.lower()}", server)

    def _idle(self, server: _Server) -> _Line | None:
        """The connection that was used last, unless that is so long ago that the server may be about to close it."""
        while server.idle:
            line, _ = server.idle.popitem()
            if line.idle_since + KEEP_ALIVE > time.monotonic():
                return line
            line.abort()
        return None

    async def _connected(self, server: _Server, deadline: float, loop: asyncio.AbstractEventLoop) -> _Line:
        """A new connection. Raises NoReply, OSError, TimeoutError."""
        until = min(deadline, loop.time() + CONNECT_TIMEOUT)
        host = server.host if server.tls else None
        try:
            async with asyncio.timeout_at(until):
                taken = await self._socket(server, loop)
                try:
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    _, line = await loop.create_connection(
                        lambda: _Line(self._lines, server.idle), sock=taken, ssl=server.tls, server_hostname=host
                    )
                    return line
                except BaseException:
                    taken.close()
                    raise
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message or "certificate verify failed"
            raise NoReply(f"its certificate is not trusted: {why}", gone=True, certificate=True) from None
        except TimeoutError:
            if until < deadline:
                raise NoReply("the server could not be connected to in time", gone=True) from None
            raise

    async def _socket(self, server: _Server, loop: asyncio.AbstractEventLoop) -> socket.socket:
        import aiohappyeyeballs

        async with server.looks_up:  # one asks for all that wait
            if server.known_until < loop.time():
                server.addresses = list(await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM))
                server.known_until = loop.time() + _KNOWN_FOR
        # A name may stand for several machines, which share the work; the family that comes first is to be preferred.
        first = [each for each in server.addresses if each[0] == server.addresses[0][0]]
        turn = next(self._turns) % len(first)
        order = [*first[turn:], *first[:turn], *(each for each in server.addresses if each not in first)]
        return await aiohappyeyeballs.start_connection(order, happy_eyeballs_delay=_SECOND_ADDRESS, loop=loop)


class _Line(asyncio.Protocol):
    """One connection. It stands in `lines` while it is open, and in `idle` while nobody uses it."""

    def __init__(self, lines: set[_Line], idle: dict[_Line, None]) -> None:
        self.deadline = _NEVER
        self.idle_since = 0.0
        self._lines, self._idle = lines, idle
        self._transport: Any = None
        self._reader = ReplyReader()
        self._waiter: asyncio.Future[Received] | None = None

    def ask(self, content: bytes, deadline: float, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Received]:
        """Send a request. Returns its reply to come, which may be NoReply, TimeoutError or _Unanswered."""
        self._reader, self._waiter, self.deadline = ReplyReader(), loop.create_future(), deadline
        self._transport.write(content)
        return self._waiter

    def fail(self, error: Exception) -> None:
        """End what is under way with this error, and close the connection."""
        waiter, self._waiter, self.deadline = self._waiter, None, _NEVER
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.abort()

    def abort(self) -> None:
        self._waiter, self.deadline = None, _NEVER
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._lines.add(self)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:  # it says something that nobody asked, as some do before they close
            self._idle.pop(self, None)
            return self.abort()
        try:
            if self._reader.feed(data):
                self._answer()
        except NoReply as error:
            self.fail(error)

    def eof_received(self) -> None:
        self._idle.pop(self, None)  # the server sends no more: the connection is closed next

    def connection_lost(self, error: Exception | None) -> None:
        self._lines.discard(self)
        self._idle.pop(self, None)
        if self._waiter is None:
            return
        if not self._reader.started:
            self.fail(_Unanswered())
            return
        try:
            if error is not None:
                raise broke_off()
            self._reader.end()
            self._answer()
        except NoReply as no_reply:
            self.fail(no_reply)

    def _answer(self) -> None:
        waiter, self._waiter, self.deadline = self._waiter, None, _NEVER
        # A server that answers before it has read all of a request is at a place of its own in it.
        if self._reader.keeps_alive and not self._transport.get_write_buffer_size():
            self.idle_since = time.monotonic()
            self._idle[self] = None
        else:
            self._transport.abort()
        if waiter is not None and not waiter.done() and self._reader.received is not None:
            waiter.set_result(self._reader.received)


def _head(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """The request line and the headers, without the length of a body and the empty line."""
    parts = urlsplit(url)
    host = parts.netloc.removesuffix(":443" if parts.scheme == "https" else ":80")
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    given = {name: value for name, value in headers.items() if name.lower() not in _SAID_BY_US}
    taken = {name.lower() for name in given}
    usual = {"Host": host, "Accept": "*/*", **HEADERS}
    lines = {**{name: value for name, value in usual.items() if name.lower() not in taken}, **given}
    return "".join(
        [f"{method} {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items())]
    ).encode()
