"""Exchanges over HTTP/2 (RFC 9113): many requests on one connection, where a server offers it.

A request costs this machine several times the processor that it costs over HTTP/1.1, so that this is for servers
that bound how many connections one may have, or that are far away; it is not the usual way.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from harness import UsageError

from .connection import Connection, Outgoing, Upload, read_parts
from .http1 import HEADERS
from .received import CONNECT_TIMEOUT, KEEP_ALIVE, NoReply, Received, broke_off

MOST_STREAMS = 100
"""Requests at once on one connection: as many as servers are asked to allow at least (RFC 9113, section 6.5.2)."""


_MOST_GOODBYES = 5
"""So often one request goes out again at once because its connection came to its end."""
_GOODBYE = re.compile(r"ConnectionTerminated error_code:0, last_stream_id:(\d+)")


class _Goodbye(Exception):
    """The server has ended the connection in good order (GOAWAY, RFC 9113, section 6.8), before this reply was there.

    Proxies do so after so many requests, or so much time. It is no failure of the request. httpx2 gives up all that is
    under way then, also what the server would still answer: later connections are given half as many requests.
    """


@dataclass(slots=True)
class _Line:
    """A client with one connection, how many requests are under way on it, and how many it was given."""

    client: Any
    busy: int = 0
    given: int = 0


class Http2Connection(Connection):
    """Connections over HTTP/2 to servers that offer it when a TLS connection begins; all others as usual.

    Raises UsageError where the packages for it are missing.
    """

    def __init__(self, urls: Sequence[str], verify: bool | str) -> None:
        super().__init__(urls, verify)
        try:
            import h2  # noqa: F401
            import httpx2  # noqa: F401
        except ModuleNotFoundError as error:
            raise UsageError(f"http2=true needs the package {error.name}: pip install 'harness-eval[http2]'") from None
        self._lines: dict[str, list[_Line]] = {}
        self._most_given: dict[str, int] = {}
        """Of servers that end a connection after so many requests."""
        self._offers: dict[str, bool] = {}
        self._first = asyncio.Lock()

    async def __aexit__(self, *details: object) -> None:
        await super().__aexit__(*details)
        if not self._users:
            lines, self._lines = self._lines, {}
            for line in (line for each in lines.values() for line in each):
                await line.client.aclose()

    async def send(self, sent: Outgoing) -> Received:
        """See `Connection.send`. The first request to a server goes alone: its reply says whether HTTP/2 is offered."""
        server = urlsplit(sent.url).netloc
        usual = not sent.url.startswith("https:") or isinstance(sent.body, Upload) or sent.into is not None
        if usual or self._offers.get(server) is False:
            return await super().send(sent)
        started = time.monotonic()
        if server not in self._offers:
            async with self._first:
                if server not in self._offers:
                    return await self._exchange(server, sent)
            return await self.send(replace(sent, seconds=sent.seconds - (time.monotonic() - started)))
        return await self._exchange(server, sent)

    async def _exchange(self, server: str, sent: Outgoing) -> Received:
        deadline = time.monotonic() + sent.seconds
        for _ in range(_MOST_GOODBYES):
            try:
                return await self._exchange_once(server, replace(sent, seconds=deadline - time.monotonic()))
            except _Goodbye:
                if sent.arrivals:  # the clock of a reply that is timed goes on with a new request
                    break
        raise broke_off()

    async def _exchange_once(self, server: str, sent: Outgoing) -> Received:
        import httpx2

        line = self._line(server)
        line.busy += 1
        line.given += 1
        try:
            async with asyncio.timeout(max(0.001, sent.seconds)):
                headers = dict(sent.headers)
                async with line.client.stream(sent.method, sent.url, content=sent.body, headers=headers) as reply:
                    self._offers[server] = reply.http_version == "HTTP/2"
                    content = await read_parts(reply.aiter_bytes(), None, sent.arrivals)
                return Received(reply.status_code, {k.lower(): v for k, v in reply.headers.items()}, content)
        except httpx2.ConnectTimeout:
            raise NoReply("the server could not be connected to in time", gone=True) from None
        except TimeoutError:
            raise NoReply(f"the reply took too long (more than {sent.seconds:.3g} s)") from None
        except httpx2.ConnectError as error:
            message = str(error)
            if "CERTIFICATE_VERIFY_FAILED" in message:
                why = message.split("verify failed:")[-1].split("(_ssl")[0].strip() or "certificate verify failed"
                raise NoReply(f"its certificate is not trusted: {why}", gone=True, certificate=True) from None
            raise NoReply(message[:200] or "it could not be connected to", gone=True) from None
        except httpx2.DecodingError as error:
            raise NoReply(f"its reply cannot be unpacked: {str(error)[:200]}") from None
        except httpx2.TransportError as error:
            if (goodbye := _GOODBYE.search(str(error))) is None:
                raise broke_off() from None
            self._most_given[server] = max(1, min(line.given, (int(goodbye[1]) + 1) // 2) // 2)
            raise _Goodbye from None
        finally:
            line.busy -= 1
            if not line.busy and line.given >= self._most(server) and line in self._lines.get(server, ()):
                self._lines[server].remove(line)
                await line.client.aclose()

    def _most(self, server: str) -> int:
        """Requests that a connection is given in all."""
        return self._most_given.get(server, sys.maxsize - 1)

    def _line(self, server: str) -> _Line:
        """The least busy connection to a server; a further one where all are full."""
        import httpx2

        lines = self._lines.setdefault(server, [])
        most = self._most(server)
        line = min((each for each in lines if each.given < most), key=lambda each: each.busy, default=None)
        if line is None or line.busy >= MOST_STREAMS:
            client = httpx2.AsyncClient(
                http2=True,
                verify=self._tls or False,
                proxy=self._proxies.get(server),
                trust_env=False,
                timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT),
                # One is enough; a bound would have requests wait for a broken one, which httpx2 does not give up then.
                limits=httpx2.Limits(max_connections=None, keepalive_expiry=KEEP_ALIVE),
                headers=HEADERS,
            )
            line = _Line(client)
            lines.append(line)
        return line
