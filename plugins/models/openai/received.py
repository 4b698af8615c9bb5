"""What an exchange with a server ends with: a reply, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CONNECT_TIMEOUT = 10.0
# Below the five seconds after which uvicorn, and so most servers of models, drops a connection that nobody uses.
KEEP_ALIVE = 4.0
MOST_BYTES = 64 * 2**20
"""Of one reply, after it was unpacked. The log-probabilities of 100,000 tokens take a tenth of it."""


class NoReply(Exception):
    """The exchange did not end with a reply. `gone`: nobody took the call, or the line broke. `final`: nor will it."""

    def __init__(self, message: str, *, gone: bool = False, final: bool = False, certificate: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
        self.final = final
        self.certificate = certificate


def too_long() -> NoReply:
    return NoReply(f"the reply is longer than {MOST_BYTES // 2**20} MB", final=True)


def broke_off() -> NoReply:
    return NoReply("the reply broke off", gone=True)


@dataclass(frozen=True, slots=True)
class Received:
    """A reply as it came. The names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
