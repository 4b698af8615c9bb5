"""Exchanges over HTTP/2 (RFC 9113): many requests on one connection, where a server offers it.

A request costs this machine several times the processor that it costs over HTTP/1.1, so that this is for servers
that bound how many connections one may have, or that are far away; it is not the usual way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from harness import UsageError

from .connection import Connection, Outgoing, Upload, read_parts
from .http1 import HEADERS
from .received import CONNECT_TIMEOUT, KEEP_ALIVE, NoReply, Received

MOST_STREAMS = 100
"""Requests at once on one connection: as many as servers are asked to allow at least (RFC 9113, section 6.5.2)."""


@dataclass(slots=True)
class _Line:
    """A client with one connection, and how many requests are under way on it."""

    client: Any
    busy: int = 0


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
        import httpx2

        line = self._line(server)
        line.busy += 1
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
        except httpx2.TransportError:
            raise NoReply("the reply broke off", gone=True) from None
        finally:
            line.busy -= 1

    def _line(self, server: str) -> _Line:
        """The least busy connection to a server; a further one where all are full."""
        import httpx2

        lines = self._lines.setdefault(server, [])
        line = min(lines, key=lambda each: each.busy, default=None)
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
