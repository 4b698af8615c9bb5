"""A server that speaks HTTP/2 over TLS and answers every chat request, as tests and the bench of API models need it.

Run as a process it prints its port: `python tests/http2_server.py CERTIFICATE SECONDS_A_REPLY [GOAWAY_AFTER]`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import Any, ClassVar

import h2.config
import h2.connection
import h2.events

REPLY = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 2}}


class Http2Server(asyncio.Protocol):
    """One connection. seconds: until a reply. goaway_after: requests after which it says goodbye and hangs up."""

    connections: ClassVar[list[Any]] = []
    """The transports of all that there were."""

    def __init__(self, seconds: float, goaway_after: int | None = None) -> None:
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._seconds, self._left = seconds, goaway_after
        self._transport: Any = None
        self._paths: dict[int, str] = {}

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.connections.append(transport)
        self._state.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        for event in self._state.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._paths[event.stream_id] = dict(event.headers)[b":path"].decode()
            elif isinstance(event, h2.events.DataReceived):
                self._state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded) and not self._transport.is_closing():
                self._asked(event.stream_id)
        self._flush()

    def _asked(self, stream: int) -> None:
        if self._left == 0:
            self._state.close_connection()
            self._flush()
            self._transport.close()
        if self._left is not None:
            self._left -= 1
        asyncio.get_running_loop().call_later(self._seconds, self._answer, stream)

    def _answer(self, stream: int) -> None:
        if self._transport.is_closing() or stream not in self._state.streams:
            return
        path = self._paths.pop(stream)
        content = json.dumps({"data": []} if path.endswith("/models") else REPLY).encode()
        self._state.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
        self._state.send_data(stream, content, end_stream=True)
        self._flush()

    def _flush(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._state.data_to_send())


async def serve(certificate: str, seconds: float, goaway_after: int | None = None) -> asyncio.Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Http2Server(seconds, goaway_after), "127.0.0.1", 0, ssl=context)


async def _main() -> None:
    certificate, seconds, *more = sys.argv[1:]
    server = await serve(certificate, float(seconds), int(more[0]) if more else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
