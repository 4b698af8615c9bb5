"""When a streamed reply came: what a server's speed is computed from (`harness bench`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from harness.quick import dataclass
from harness.types import Request


@dataclass(frozen=True, slots=True)
class TimedReply:
    """One request to a server, by the clock of `time.perf_counter`, in seconds.

    sent: when it was. ended: when the reply was over, or had failed. pieces: when each piece of the reply came that
    holds text, reasoning or a call. tokens, prompt_tokens: as the server counts them, or the model's tokenizer; None
    where neither does. error: why there is no whole reply, in one line; empty where there is one.
    """

    sent: float
    ended: float
    pieces: tuple[float, ...] = ()
    tokens: int | None = None
    prompt_tokens: int | None = None
    error: str = ""

    @property
    def first(self) -> float | None:
        """Seconds from the request to its first token; None where no token came."""
        return self.pieces[0] - self.sent if self.pieces else None

    @property
    def whole(self) -> float | None:
        """Seconds from the request to its last token; None where no token came."""
        return self.pieces[-1] - self.sent if self.pieces else None

    @property
    def per_token(self) -> float | None:
        """Seconds for each token behind the first: (whole - first) / (tokens - 1); None where that is not known."""
        if not self.pieces or self.tokens is None or self.tokens < 2:
            return None
        return (self.pieces[-1] - self.pieces[0]) / (self.tokens - 1)


AskTimed = Callable[[Request], Awaitable[TimedReply]]
"""Asks once, at once, and says when the reply came. Raises `ModelError` where no request can be answered so."""
