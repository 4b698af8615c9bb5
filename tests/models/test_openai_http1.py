"""HTTP/1.1 as servers really speak it: in pieces, compressed, with connections that end without a word."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest
from openai_asking import answer, answers, ask, make

from harness_plugins.models.openai.received import NoReply, Received
from harness_plugins.models.openai.reply_reader import ReplyReader

TEXT = '{"choices": "对的 🙂"}'.encode()
OK = b"HTTP/1.1 200 OK\r\n"


def sized(content: bytes, *headers: bytes) -> bytes:
    return OK + b"".join(line + b"\r\n" for line in headers) + b"Content-Length: %d\r\n\r\n" % len(content) + content


def chunked(content: bytes, *headers: bytes, end: bytes = b"\r\n") -> bytes:
    lines = b"".join(
        b"%x;part=1\r\n%s\r\n" % (len(content[at : at + 7]), content[at : at + 7]) for at in range(0, len(content), 7)
    )
    return (
        OK
        + b"".join(line + b"\r\n" for line in (*headers, b"Transfer-Encoding: chunked"))
        + b"\r\n"
        + lines
        + b"0\r\n"
        + end
    )


def raw_deflate(content: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-15)
    return packing.compress(content) + packing.flush()


def read(data: bytes, step: int) -> tuple[Received, bool]:
    """(reply, whether another may follow) of bytes that come in pieces of this size."""
    reader = ReplyReader()
    for at in range(0, len(data), step):
        if reader.feed(data[at : at + step]):
            assert at + step >= len(data)
            break
    else:
        reader.end()
    assert reader.received is not None
    return reader.received, reader.keeps_alive


@pytest.mark.parametrize("step", [1, 2, 3, 50, 10_000])
@pytest.mark.parametrize(
    ("data", "keeps_alive"),
    [
        (sized(TEXT), True),
        (sized(TEXT, b"Connection: close"), False),
        (sized(TEXT).replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (sized(TEXT).replace(b"\r\n", b"\n"), True),
        (OK + b"\r\n" + TEXT, False),
        (chunked(TEXT), True),
        (chunked(TEXT, end=b"Checked: yes\r\nBy: me\r\n\r\n"), True),
        (chunked(gzip.compress(TEXT), b"Content-Encoding: gzip"), True),
        (sized(gzip.compress(TEXT[:5]) + gzip.compress(TEXT[5:]), b"content-encoding: GZIP"), True),
        (sized(zlib.compress(TEXT), b"Content-Encoding: deflate"), True),
        (sized(gzip.compress(zlib.compress(TEXT)), b"Content-Encoding: deflate, gzip"), True),
        (sized(raw_deflate(TEXT), b"Content-Encoding: deflate"), True),
        (sized(TEXT, b"Content-Encoding: utf-8"), True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + sized(TEXT), True),
        (sized(TEXT, b"X-Long: a\r\n b", b"X-Big: " + b"a" * 20_000), True),
    ],
)
def test_a_reply_is_the_same_in_pieces_of_any_size(data: bytes, keeps_alive: bool, step: int) -> None:
    reply, may_follow = read(data, step)
    assert (reply.status, reply.content, may_follow) == (200, TEXT, keeps_alive)


def test_names_of_headers_are_in_lower_case_and_the_last_of_two_counts() -> None:
    reply, _ = read(sized(b"", b"Retry-After:  1 ", b"RETRY-AFTER: 5", b"X-Empty:"), 4)
    assert reply.headers == {"retry-after": "5", "x-empty": "", "content-length": "0"}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no reply of HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "no header"),
        (sized(TEXT, b"Content-Length: 3"), "two different things"),
        (sized(TEXT).replace(b"Length: ", b"Length: -"), "no length"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "another protocol"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "without size"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "longer than it says"),
        (OK + b"Content-Length: 99999999999\r\n\r\n", "longer than 64 MB"),
        (OK + b"X: " + b"a" * 300_000, "longer than 256 KB"),
        (sized(b"no gzip", b"Content-Encoding: gzip"), "unpacked"),
        (sized(gzip.compress(TEXT)[:-3], b"Content-Encoding: gzip"), "the end is missing"),
        (sized(TEXT, b"Content-Encoding: br"), "br, which was not offered"),
        (sized(TEXT)[:-1], "broke off"),
        (chunked(TEXT)[:-2], "broke off"),
        (OK, "broke off"),
    ],
)
def test_what_is_no_reply_is_refused_in_one_line(data: bytes, problem: str) -> None:
    with pytest.raises(NoReply, match=problem) as refused:
        read(data, 1000)
    assert "\n" not in str(refused.value)


# Connections.

Behave = Callable[[socket.socket, int], bool]
"""Answers a request on a connection, of which it is so manieth; returns whether to read another."""


class RawServer:
    """Reads requests and leaves all else to a function."""

    def __init__(self, behave: Behave) -> None:
        self.behave = behave
        self.asked: list[int] = []
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        number = 0
        with connection, connection.makefile("rb") as coming:
            while line := coming.readline():
                length = 0
                while (header := coming.readline().lower()).strip():
                    if header.startswith(b"content-length:"):
                        length = int(header[15:])
                coming.read(length)
                if line.startswith(b"GET"):
                    connection.sendall(sized(b'{"data": []}', b"Connection: close"))
                    return
                number += 1
                self.asked.append(number)
                if not self.behave(connection, number):
                    return

    def close(self) -> None:
        self._listening.close()
        for connection in self._open:
            connection.close()


@pytest.fixture
def raw() -> Iterator[Callable[[Behave], RawServer]]:
    servers: list[RawServer] = []

    def start(behave: Behave) -> RawServer:
        servers.append(RawServer(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


YES = json.dumps({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}).encode()


def test_a_kept_connection_that_closes_without_a_word_costs_no_try(
    raw: Callable[[Behave], RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness_plugins.models.openai.http1._DROPPED_WITHIN", 60.0)  # a busy machine may be late

    def behave(connection: socket.socket, number: int) -> bool:
        if number == 1:
            connection.sendall(sized(YES))
        return number == 1

    server = raw(behave)
    given = answers(make(None, base_url=server.url, max_retries=0), [ask(str(n)) for n in range(4)])
    assert [response.text for response in given] == ["yes"] * 4
    assert server.asked in ([1, 2, 1, 2, 1, 2, 1], [1, 1, 1, 1])


def test_a_server_that_dies_over_a_request_is_a_failed_try(
    raw: Callable[[Behave], RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had begun to work: it did not drop a connection that nobody used."""
    monkeypatch.setattr("harness_plugins.models.openai.http1._DROPPED_WITHIN", 0.05)

    def behave(connection: socket.socket, number: int) -> bool:
        if number == 1:
            connection.sendall(sized(YES))
        else:
            threading.Event().wait(0.2)
        return number == 1

    server = raw(behave)
    first, second = answers(make(None, base_url=server.url, max_retries=0), [ask("a"), ask("b")])
    assert first.text == "yes" and "closed the connection" in str(second.error) and server.asked == [1, 2]


def test_a_new_connection_that_closes_without_a_word_is_a_failed_try(raw: Callable[[Behave], RawServer]) -> None:
    server = raw(lambda connection, number: False)
    assert "closed the connection" in str(answer(make(None, base_url=server.url, max_retries=2), ask()).error)
    assert server.asked == [1, 1, 1]


def test_what_a_server_says_unasked_is_no_reply_to_the_next_request(raw: Callable[[Behave], RawServer]) -> None:
    def behave(connection: socket.socket, number: int) -> bool:
        connection.sendall(sized(YES) + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        return True

    server = raw(behave)
    given = answers(make(None, base_url=server.url, max_retries=0), [ask(str(n)) for n in range(3)])
    assert [response.text for response in given] == ["yes"] * 3 and server.asked == [1, 1, 1]


def test_a_connection_is_used_again(raw: Callable[[Behave], RawServer]) -> None:
    def behave(connection: socket.socket, number: int) -> bool:
        connection.sendall(chunked(YES))
        return True

    server = raw(behave)
    answers(make(None, base_url=server.url), [ask(str(n)) for n in range(5)])
    assert server.asked == [1, 2, 3, 4, 5]


def test_a_reply_that_came_before_its_connection_broke_is_taken(raw: Callable[[Behave], RawServer]) -> None:
    def behave(connection: socket.socket, number: int) -> bool:
        connection.sendall(OK + b"\r\n" + YES)
        return False

    assert answer(make(None, base_url=raw(behave).url, max_retries=0), ask()).text == "yes"
