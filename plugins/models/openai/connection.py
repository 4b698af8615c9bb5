"""One exchange with a server: a request and its whole reply, before one deadline and below one limit of size."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import certifi

from harness import UsageError

from .http1 import HEADERS, Http1
from .proxies import proxy_for, shown_place
from .received import CONNECT_TIMEOUT, KEEP_ALIVE, MOST_BYTES, NoReply, Received, too_long

_OTHER_FILES = 128
"""Files that a run has open beside its connections, at most."""
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is sent as a form (multipart/form-data), with what is said beside it."""

    file: IO[bytes]
    name: str
    fields: Mapping[str, str]


@dataclass(slots=True)
class Outgoing:
    """A request, and what becomes of its reply.

    seconds: until the whole reply has to be there. into: the file that takes the content of a reply of status 200,
    however long it is. arrivals: takes (`time.perf_counter()`, bytes so far) whenever some came.
    """

    method: str
    url: str
    body: bytes | Upload | None
    headers: Mapping[str, str]
    seconds: float
    into: IO[bytes] | None = None
    arrivals: list[tuple[float, int]] | None = None


class Connection:
    """Keep-alive connections to servers, closed when the last `async with` on it ends. For one event loop.

    Requests whose replies are read as a whole go by connections of this module's own (`Http1`); those by a proxy, files
    that go up or come down, and replies whose pieces are timed go by aiohttp.
    """

    def __init__(self, urls: Sequence[str], verify: bool | str) -> None:
        self._tls = tls_context(verify) if any(url.startswith("https:") for url in urls) else None
        self._proxies = {urlsplit(url).netloc: proxy for url in urls if (proxy := proxy_for(url))}
        self._plain = all(Http1.takes(url) for url in urls) and not self._proxies
        self._http1 = Http1(self._tls)
        self._session: Any = None
        self._users = 0

    async def __aenter__(self) -> None:
        self._users += 1

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users:
            return
        self._http1.close()
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def send(self, sent: Outgoing) -> Received:
        """Send a request and read all of its reply, however slowly its bytes come. Raises NoReply."""
        body, seconds = sent.body, max(0.001, sent.seconds)
        try:
            if self._plain and sent.into is None and sent.arrivals is None and not isinstance(body, Upload):
                return await self._http1.exchange(sent.method, sent.url, body, sent.headers, seconds)
            async with asyncio.timeout(seconds):
                return await self._by_aiohttp(sent)
        except TimeoutError:
            raise NoReply(f"the reply took too long (more than {sent.seconds:.3g} s)") from None
        except OSError as error:
            raise NoReply(_describe(error), gone=True) from None

    async def _by_aiohttp(self, sent: Outgoing) -> Received:
        """The same by a general client, however long it takes."""
        import aiohttp

        proxy = self._proxies.get(urlsplit(sent.url).netloc) if self._proxies else None
        try:
            session = self._open()
            options = {"allow_redirects": False, "ssl": self._tls or False, "proxy": proxy}
            data = _form(sent.body) if isinstance(sent.body, Upload) else sent.body
            async with session.request(sent.method, sent.url, data=data, headers=sent.headers, **options) as reply:
                parts = reply.content.iter_chunked(2**16)
                content = await read_parts(parts, sent.into if reply.status == 200 else None, sent.arrivals)
                return Received(reply.status, {k.lower(): v for k, v in reply.headers.items()}, content)
        except aiohttp.ServerTimeoutError:
            raise NoReply("the server could not be connected to in time", gone=True) from None
        except aiohttp.ClientConnectorCertificateError as error:
            why = getattr(error.certificate_error, "verify_message", "") or "certificate verify failed"
            raise NoReply(f"its certificate is not trusted: {why}", gone=True, certificate=True) from None
        except aiohttp.ClientPayloadError:
            raise NoReply("the reply broke off", gone=True) from None
        except aiohttp.ServerDisconnectedError:
            raise NoReply("the server closed the connection", gone=True) from None
        except (aiohttp.ClientError, ValueError) as error:
            gone = isinstance(error, aiohttp.ClientConnectionError | OSError)
            by = f" (by the proxy {shown_place(proxy)})" if proxy else ""
            raise NoReply(_describe(error) + by, gone=gone) from None

    def _open(self) -> Any:
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
                headers=HEADERS,
            )
        return self._session


def let_open(connections: int) -> int:
    """Let this process have so many connections beside its files. Returns how many it can have."""
    try:
        import resource
    except ImportError:  # Windows counts them otherwise
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (ValueError, OSError):  # macOS has a further limit
        most = soft
    return most - _OTHER_FILES


def tls_context(verify: bool | str) -> ssl.SSLContext:
    """What is trusted: anybody (False), the bundle of this name, that of the environment, or the usual ones."""
    context = ssl.create_default_context()
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    name = "verify_certificate" if isinstance(verify, str) else next(filter(os.environ.get, _BUNDLES), "")
    bundle = verify if isinstance(verify, str) else os.environ.get(name)
    try:
        if bundle is None:
            context.load_verify_locations(certifi.where())
        elif Path(bundle).is_dir():
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}={bundle}: no bundle of certificates ({type(error).__name__})") from None
    return context


def _form(upload: Upload) -> Any:
    import aiohttp

    form = aiohttp.FormData()
    for name, value in upload.fields.items():
        form.add_field(name, value)
    form.add_field("file", upload.file, filename=upload.name, content_type="application/jsonl")
    return form


async def read_parts(
    coming: AsyncIterator[bytes], into: IO[bytes] | None, arrivals: list[tuple[float, int]] | None
) -> bytes:
    """All of a reply, in one piece, or in a file. Raises NoReply where it is longer than a reply may be."""
    parts: list[bytes] = []
    size = 0
    async for part in coming:
        if into is not None:
            into.write(part)
            continue
        size += len(part)
        if arrivals is not None:
            arrivals.append((time.perf_counter(), size))
        if size > MOST_BYTES:
            raise too_long()
        parts.append(part)
    return b"".join(parts)


def _describe(error: BaseException) -> str:
    """The innermost cause in a few words: `ConnectionRefusedError: Connection refused`."""
    inner = getattr(error, "os_error", None) or error.__cause__ or error
    if isinstance(inner, ssl.SSLError):  # its number is none of the system's
        return f"{type(inner).__name__}: {(inner.reason or str(inner)).replace('_', ' ').lower()}"
    number = inner.errno if isinstance(inner, OSError) else None
    text = os.strerror(number) if number is not None and number > 0 else str(inner)
    return f"{type(inner).__name__}: {' '.join(text.split())[:200]}".removesuffix(": ")
