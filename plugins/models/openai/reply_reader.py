"""Reads replies of HTTP/1.1 (RFC 9112) from bytes that come in pieces of any size.

    reader = ReplyReader()
    while not reader.feed(piece): ...
    reader.received, reader.keeps_alive

Written for what a server of models sends, a head and some JSON, at little cost to the processor. What is no reply is
refused, and never guessed at.
"""

from __future__ import annotations

import functools
import re
import zlib

from .received import MOST_BYTES, NoReply, Received, broke_off, too_long

MOST_HEAD = 256 * 2**10
"""Bytes of a reply's head, and of what follows its last chunk."""
_MOST_CHUNK_LINE = 4096
_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: .*)?")
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_LENGTHS = ("content-length", "transfer-encoding")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?\r?")
_GZIP = b"\x1f\x8b"
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_NOT_OFFERED = ("br", "zstd", "compress", "x-compress")


@functools.lru_cache(512)
def _header(line: str) -> tuple[str, str]:
    """(name in lower case, value): most lines are the same in all replies of a server. Raises NoReply."""
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise NoReply(f"the reply has a line that is no header: {line[:60]!r}")
    return name.lower(), value.strip()


class ReplyReader:
    """One reply. `received` is there once it is whole, and `keeps_alive` says whether another may follow it."""

    __slots__ = ("_buffer", "_content", "_headers", "_left", "_mode", "_status", "keeps_alive", "received", "started")

    def __init__(self) -> None:
        self.received: Received | None = None
        self.keeps_alive = False
        self.started = False
        """Whether any of it came."""
        self._buffer = b""
        """What came and could not be read yet."""
        self._mode = "head"
        self._status = 0
        self._headers: dict[str, str] = {}
        self._content = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> bool:
        """Take the next bytes. Returns whether the reply is whole now. Raises NoReply."""
        self.started = True
        data = self._buffer + data if self._buffer else data
        while True:
            if self._mode == "head":
                rest = self._read_head(data)
                if rest is None:
                    return False
                data = rest
            elif self._mode == "sized":
                return self._take_sized(data)
            elif self._mode == "open":
                self._add(data)
                return False
            else:
                return self._take_chunks(data)

    def end(self) -> None:
        """No more bytes will come. Raises NoReply where some are missing."""
        if self._mode != "open":
            raise broke_off()
        self._finish(bytes(self._content))

    def _read_head(self, data: bytes) -> bytes | None:
        """What follows the head; None where some of it is still to come. An interim reply (1xx) is passed over."""
        found = _END_OF_HEAD.search(data)
        if found is None:
            self._keep(data, MOST_HEAD, "the head of the reply")
            return None
        at, after = found.span()
        version = self._read_lines(data[:at])
        if self._status == 101:
            raise NoReply("the server wants to speak another protocol (status 101)")
        if self._status >= 200:
            self._set_mode(version)
        self._buffer = b""
        return data[after:]

    def _read_lines(self, head: bytes) -> str:
        """Read status and headers; of a name that stands there twice the last value counts. Returns HTTP's version."""
        first, *lines = head.decode("utf-8", "replace").split("\n")
        matched = _STATUS.fullmatch(first.rstrip())
        if matched is None:
            raise NoReply(f"what comes is no reply of HTTP/1.1: {first[:60]!r}")
        self._status = int(matched[2])
        headers: dict[str, str] = {}
        name = ""
        for line in lines:
            if line[:1] in (" ", "\t") and name:  # the older way to write a long value (RFC 9112, section 5.2)
                headers[name] += f" {line.strip()}"
                continue
            name, value = _header(line)
            if name in headers and name in _LENGTHS and headers[name] != value:
                raise NoReply(f"the reply says two different things of its length: {name}")
            headers[name] = value
        self._headers = headers
        return matched[1]

    def _set_mode(self, version: str) -> None:
        """How the length of the content is known (RFC 9112, section 6.3)."""
        headers = self._headers
        options = headers.get("connection", "").lower()
        self.keeps_alive = "close" not in options if version == "1" else "keep-alive" in options
        coding, length = headers.get("transfer-encoding", "").lower(), headers.get("content-length")
        if self._status in (204, 304):
            self._mode, self._left = "sized", 0
        elif coding:
            if coding not in ("chunked", "identity"):
                raise NoReply(f"its reply cannot be unpacked: Transfer-Encoding {coding[:60]!r}")
            self._mode = "chunks" if coding == "chunked" else "open"
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise NoReply(f"the reply says no length: Content-Length {length[:60]!r}")
            self._mode, self._left = "sized", int(length[:20])
            if self._left > MOST_BYTES:
                raise too_long()
        else:
            self._mode = "open"
        if self._mode == "open":
            self.keeps_alive = False

    def _take_sized(self, data: bytes) -> bool:
        if len(data) > self._left:  # more than was promised: what follows cannot be trusted
            self.keeps_alive = False
            data = data[: self._left]
        self._left -= len(data)
        if not self._left and not self._content:  # as most replies come: in one piece
            self._finish(data)
            return True
        self._content += data
        if not self._left:
            self._finish(bytes(self._content))
        return not self._left

    def _take_chunks(self, data: bytes) -> bool:
        """Chunks (RFC 9112, section 7.1): a line with the size, so many bytes, a line break; at the end one of size 0.

        `_left` counts what is missing of a chunk, its line break included.
        """
        at = 0
        while True:
            if self._mode == "trailers":
                return self._take_trailers(data[at:])
            if self._left > 2:
                here = data[at : at + self._left - 2]
                self._add(here)
                self._left -= len(here)
                at += len(here)
                if self._left > 2:
                    self._buffer = b""
                    return False
            end = data.find(b"\n", at)
            if end < 0:
                self._keep(data[at:], _MOST_CHUNK_LINE, "a line between chunks")
                return False
            line, at = data[at:end], end + 1
            if self._left:
                if line not in (b"", b"\r"):
                    raise NoReply("the reply has a chunk that is longer than it says")
                self._left = 0
                continue
            size = _SIZE.fullmatch(line)
            if size is None:
                raise NoReply(f"the reply has a chunk without size: {line[:60]!r}")
            self._left = int(size[1], 16) + 2
            if self._left == 2:
                self._mode = "trailers"

    def _take_trailers(self, data: bytes) -> bool:
        """What may stand behind the last chunk, which nobody needs, up to an empty line."""
        if data.startswith((b"\r\n", b"\n")):
            rest = data[1 if data[:1] == b"\n" else 2 :]
        else:
            found = _END_OF_HEAD.search(data)
            if found is None:
                self._keep(data, MOST_HEAD, "what follows the reply")
                return False
            rest = data[found.end() :]
        if rest:
            self.keeps_alive = False
        self._finish(bytes(self._content))
        return True

    def _keep(self, data: bytes, most: int, what: str) -> None:
        if len(data) > most:
            raise NoReply(f"{what} is longer than {most // 1024} KB", final=True)
        self._buffer = data

    def _add(self, data: bytes) -> None:
        """Add to a content whose length is not known before."""
        self._content += data
        if len(self._content) > MOST_BYTES:
            raise too_long()

    def _finish(self, content: bytes) -> None:
        packed = self._headers.get("content-encoding", "").lower()
        for how in reversed(packed.split(",")):  # the last one was done last (RFC 9110, section 8.4)
            content = unpacked(content, how.strip()) if how and content else content
        self.received = Received(self._status, self._headers, content)


def unpacked(content: bytes, how: str) -> bytes:
    """A content without its compression. Raises NoReply where it is broken, or too long."""
    if how in _NOT_OFFERED:
        raise NoReply(f"its reply cannot be unpacked: it is compressed by {how}, which was not offered")
    window = _WINDOWS.get(how)
    if window is None:  # `utf-8` and other names that are none: as it is
        return content
    if how == "deflate" and content[0] & 0x0F != 8:  # without the head that it should have, as some servers send it
        window = -15
    parts: list[bytes] = []
    left = MOST_BYTES + 1
    try:
        while content:
            unpacking = zlib.decompressobj(window)
            parts.append(unpacking.decompress(content, left))
            left -= len(parts[-1])
            if left <= 0:
                raise too_long()
            if not unpacking.eof:
                raise NoReply("its reply cannot be unpacked: the end is missing")
            content = unpacking.unused_data if unpacking.unused_data.startswith(_GZIP) else b""
    except zlib.error as error:
        raise NoReply(f"its reply cannot be unpacked: {error}") from None
    return b"".join(parts)
