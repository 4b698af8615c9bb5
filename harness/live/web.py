"""Fetches pages as a guest does: it reads robots.txt first, waits between requests, and takes nothing too large.

robots.txt by RFC 9309: without one all is allowed; where its server fails, nothing is. Protego reads the file, with the
patterns (`*`, `$`) and the longest match that the standard library's reader lacks.
"""

from __future__ import annotations

import codecs
import re
import time
from dataclasses import field
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from harness.data.download import TIMEOUT, steadily
from harness.errors import DataError, UsageError
from harness.quick import dataclass
from harness.retry import RetriesExhausted, Retryable, RetryPolicy, asked_pause, is_throttling, may_pass

if TYPE_CHECKING:
    import requests

AGENT = "harness-eval"
"""What robots.txt may call this program."""
LARGEST_PAGE = 4 << 20
"""Bytes of a page; articles have far less."""
LARGEST_ROBOTS = 512 << 10
"""Bytes of a robots.txt that have to be read (RFC 9309, section 2.5)."""
LONGEST_DELAY = 30.0
"""Seconds between two requests, at most, whatever robots.txt asks for."""
MOST_REDIRECTS = 5
NEEDS = "pip install 'harness-eval[live]'"
_META = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_IN_XML = re.compile(rb"""<\?xml[^>]{0,200}encoding\s*=\s*["']([\w.:-]+)""", re.IGNORECASE)


class LeftOutError(Exception):
    """Why a page is left out. again: a later capture may get it."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an address gave. url: where it was in the end, behind all redirects."""

    url: str
    body: bytes
    content_type: str

    @property
    def text(self) -> str:
        return decoded(self.body, self.content_type)


@dataclass
class Web:
    """Fetches pages, one after another. pause: seconds between two requests to one server."""

    pause: float = 1.0
    policy: RetryPolicy = field(default_factory=RetryPolicy.for_data)
    _rules: dict[str, Any] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)

    def get(self, url: str) -> Fetched:
        """The page at `url`. Raises `LeftOutError` for one that may not, cannot, or need not be had."""
        for _ in range(MOST_REDIRECTS + 1):
            self.check_allowed(url)
            answer = self._get(url, LARGEST_PAGE)
            if isinstance(answer, Fetched):
                return answer
            url = urljoin(url, answer)
        raise LeftOutError(f"more than {MOST_REDIRECTS} redirects")

    def check_allowed(self, url: str) -> None:
        """Raises `LeftOutError` where robots.txt keeps programs away from an address."""
        try:
            parts = urlsplit(url)
        except ValueError:
            raise LeftOutError("its address is none") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LeftOutError("its address is none of the web")
        rules = self._rules_of(f"{parts.scheme}://{parts.netloc}")
        if isinstance(rules, LeftOutError):
            raise rules
        if rules is not None and not rules.can_fetch(url, AGENT):
            raise LeftOutError("robots.txt forbids it")

    def _rules_of(self, origin: str) -> Any:
        """What robots.txt says: rules, None for all is allowed, or the error that says why nothing is."""
        if origin not in self._rules:
            self._rules[origin] = self._read_rules(origin)
        return self._rules[origin]

    def _read_rules(self, origin: str) -> Any:
        try:
            from protego import Protego
        except ImportError:
            raise UsageError(f"capture: pages of the web need {NEEDS}") from None
        url = f"{origin}/robots.txt"
        try:
            for _ in range(MOST_REDIRECTS + 1):
                answer = self._get(url, LARGEST_ROBOTS, whole=False)
                if isinstance(answer, Fetched):
                    return Protego.parse(answer.body.decode("utf-8", "replace"))
                url = urljoin(url, answer)
        except LeftOutError as error:
            if error.again:
                return LeftOutError(f"robots.txt cannot be had: {error}", again=True)
        return None

    def _wait(self, url: str) -> None:
        parts = urlsplit(url)
        rules = self._rules.get(f"{parts.scheme}://{parts.netloc}")
        wanted = rules.crawl_delay(AGENT) if rules is not None and not isinstance(rules, LeftOutError) else None
        pause = max(self.pause, min(float(wanted or 0.0), LONGEST_DELAY))
        if (last := self._asked.get(parts.netloc)) is not None:
            time.sleep(max(0.0, last + pause - time.monotonic()))
        self._asked[parts.netloc] = time.monotonic()

    def _get(self, url: str, most: int, *, whole: bool = True) -> Fetched | str:
        """What is there, or where it has gone. whole: False takes the first `most` bytes of a larger reply."""
        import requests
        from urllib3.exceptions import HTTPError

        def ask() -> Fetched | str:
            self._wait(url)
            headers = {"User-Agent": AGENT, "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.5"}
            try:
                with requests.get(url, headers=headers, timeout=TIMEOUT, stream=True, allow_redirects=False) as reply:
                    return _read(reply, url, most, whole=whole)
            except (requests.ConnectionError, requests.Timeout, HTTPError, ConnectionError) as error:
                raise Retryable(f"{type(error).__name__}") from error
            except (requests.RequestException, UnicodeError) as error:
                raise LeftOutError(f"its address cannot be asked: {type(error).__name__}") from error

        try:
            return self.policy.call(ask)
        except RetriesExhausted as error:
            raise LeftOutError(f"its server gives no page: {error}", again=True) from error


def _read(reply: requests.Response, url: str, most: int, *, whole: bool) -> Fetched | str:
    status = reply.status_code
    if status in (301, 302, 303, 307, 308):
        if place := reply.headers.get("Location"):
            return place
        raise LeftOutError("a redirect to nowhere")
    if status >= 400:
        if may_pass(status):
            pause = asked_pause(reply.headers, "")
            raise Retryable(f"it says {status}", pause=pause, throttled=is_throttling(status, pause))
        raise LeftOutError(f"there is no such page: the server says {status}")
    if status != 200:
        raise LeftOutError(f"the server says {status}")
    body = b""
    try:
        for chunk in steadily(reply, url):
            body += chunk
            if len(body) > most:
                if whole:
                    raise LeftOutError(f"larger than {most >> 20} MB")
                break
    except DataError as error:
        raise LeftOutError(f"its server drips: {error}", again=True) from None
    return Fetched(url, body[:most], reply.headers.get("Content-Type", ""))


def decoded(body: bytes, content_type: str = "") -> str:
    """The text of a page: by its byte order mark, by what the server or the page says of itself, or by what fits.

    GB2312 and GBK are read as GB18030, which holds both: pages that name the smaller ones use letters of the larger.
    """
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    by_server = re.search(r"charset=[\"']?([\w.:-]+)", content_type, re.IGNORECASE)
    by_page = _META.search(body[:4096]) or _IN_XML.search(body[:200])
    said = [by_server[1] if by_server else "", by_page[1].decode("ascii") if by_page else ""]
    for name in [*said, "utf-8", "gb18030"]:
        wide = "gb18030" if name.lower() in ("gb2312", "gbk", "x-gbk", "gb_2312-80") else name
        try:
            return body.decode(wide)
        except (LookupError, UnicodeDecodeError, ValueError):
            continue
    return body.decode("utf-8", "replace")
