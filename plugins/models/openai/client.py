"""Posts JSON to one server: tries again what may work later, and says clearly what will not.

Tried again, with growing and random pauses: 408, 429, 5xx, broken connections, timeouts, replies that are no JSON.
An error of one request: every other 4xx. The end of the run: a wrong key, model or address, and a server that is gone.
"""

from __future__ import annotations

import email.utils
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from harness import ModelError, UsageError

LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
CONNECT_TIMEOUT = 10.0
LONGEST_PAUSE = 60.0
SHOWN_CHARACTERS = 300


class RequestError(Exception):
    """One request has no answer. `status` is the server's, 0 where there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for one reply, for one sample in all, and before the first retry."""

    timeout: float = 300.0
    total: float = 900.0
    retries: int = 5
    delay: float = 1.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """An attempt that failed in a way that may pass. `pause`: what the server asks for, in seconds."""

    message: str
    status: int = 0
    pause: float | None = None
    unreachable: bool = False


class Client:
    """One server. Used by many threads at once, each with a connection of its own."""

    def __init__(
        self, base_url: str, key: str | None, headers: Mapping[str, str], patience: Patience, num_concurrent: int
    ) -> None:
        self.base_url = base_url
        self.patience = patience
        self._key = key
        self._headers = dict(headers)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._random = random.Random()
        self._not_before = 0.0
        self._answered = False
        self._fruitless = 0
        self._most_fruitless = max(3, num_concurrent)
        self.known_models: tuple[str, ...] = ()

    def check(self) -> None:
        """Ask for the list of models, to notice a server that is not there before any work is done.

        A server without that route, or one that is busy, is taken as it is. Raises UsageError or ModelError.
        """
        try:
            status, _, content = self._send("GET", "models", None, time.monotonic() + CONNECT_TIMEOUT)
        except self._connection_errors() as error:
            raise UsageError(
                f"cannot reach {self.base_url}: {self._describe(error)} (is the server running? "
                "--model_args base_url=http://HOST:PORT/v1)"
            ) from None
        if status == 401:
            raise self._end(status, _message_of(content))
        if status == 200:
            self.known_models = _model_names(content)

    def post(self, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The server's JSON reply, which has `choices`. Raises RequestError, or ModelError where no other can work."""
        deadline = time.monotonic() + self.patience.total
        failure, attempts = _Failure("no time was left"), 0
        for attempt in range(self.patience.retries + 1):
            if not self._wait_until(self._not_before, deadline):
                break
            reply, attempts = self._attempt(route, body, deadline), attempt + 1
            if isinstance(reply, dict):
                self._answered, self._fruitless = True, 0
                return reply
            failure = reply
            if attempt == self.patience.retries or not self._pause(attempt, failure, deadline):
                break
        self._count_fruitless(failure)
        raise RequestError(f"{failure.message} (tried {attempts} times)", failure.status)

    def stop(self) -> None:
        """End all pauses: whoever waits gives up at once."""
        self._stopped.set()

    def resume(self) -> None:
        self._stopped.clear()

    def _attempt(self, route: str, body: Mapping[str, Any], deadline: float) -> dict[str, Any] | _Failure:
        until = min(deadline, time.monotonic() + self.patience.timeout)
        try:
            status, headers, content = self._send("POST", route, body, until)
        except self._connection_errors() as error:
            return _Failure(f"{self.base_url}: {self._describe(error)}", unreachable=_is_unreachable(error))
        message = self._hide_key(_message_of(content))
        if status == 200:
            return _read_reply(content) or _Failure(f"the server's reply is not usable: {message}")
        self._fruitless = 0 if status < 500 else self._fruitless
        if status == 429 and "insufficient_quota" in content.decode("utf-8", "replace"):
            raise self._end(status, message)
        if status in (408, 429) or status >= 500:
            return _Failure(f"status {status}: {message}", status, _retry_after(headers.get("Retry-After")))
        # After an answer, a 403 is about this prompt (a provider's moderation), not about the key.
        if status in (401, 404, 405) or 300 <= status < 400 or (status == 403 and not self._answered):
            raise self._end(status, headers.get("Location") or message)
        raise RequestError(f"status {status}: {message}", status)

    def _send(
        self, method: str, route: str, body: Mapping[str, Any] | None, deadline: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request and read all of its reply before `deadline`, however slowly its bytes come."""
        left = max(0.001, deadline - time.monotonic())
        reply = self._session().request(
            method,
            f"{self.base_url}/{route}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **self._headers},
            auth=self._authorise,
            timeout=(min(CONNECT_TIMEOUT, left), left),
            stream=True,
            allow_redirects=False,
        )
        with reply:
            return reply.status_code, reply.headers, _read_all(reply, deadline)

    def _session(self) -> Any:
        if not hasattr(self._local, "session"):
            import requests

            self._local.session = requests.Session()
            # A proxy of the environment is for the world outside.
            self._local.session.trust_env = urlsplit(self.base_url).hostname not in LOOPBACK
        return self._local.session

    def _authorise(self, request: Any) -> Any:
        """Set the key here, where no entry of ~/.netrc can take its place."""
        if self._key and "Authorization" not in self._headers:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _pause(self, attempt: int, failure: _Failure, deadline: float) -> bool:
        """Wait before the next attempt; False where the wait would be too long."""
        pause = min(LONGEST_PAUSE, self.patience.delay * 2**attempt) * self._random.uniform(0.5, 1.0)
        if failure.pause is not None:
            pause = failure.pause + self.patience.delay * self._random.random()
            # What the server asks of one request it asks of all.
            with self._lock:
                self._not_before = max(self._not_before, min(deadline, time.monotonic() + failure.pause))
        return self._wait_until(time.monotonic() + pause, deadline)

    def _wait_until(self, moment: float, deadline: float) -> bool:
        if moment >= deadline:
            return False
        return not self._stopped.wait(max(0.0, moment - time.monotonic()))

    def _count_fruitless(self, failure: _Failure) -> None:
        """End the run where one request after another finds nobody, instead of failing every sample slowly."""
        with self._lock:
            self._fruitless += 1
            dead = failure.unreachable or not self._answered
            gone = self._fruitless >= self._most_fruitless * (1 if dead else 10)
        if gone:
            raise ModelError(
                f"{self.base_url} does not answer ({self._fruitless} requests in a row): {failure.message}; "
                "what is done is kept, the same command goes on"
            )

    def _end(self, status: int, message: str) -> ModelError:
        remedy = {
            401: "check the key: OPENAI_API_KEY, or --model_args api_key=...",
            403: "this key may not use this model: --model_args api_key=..., model=...",
            429: "the account has no quota left",
        }.get(status, "check --model_args base_url=..., model=... and api=chat|completions")
        if status == 404 and self.known_models:
            remedy += f"; the server has {', '.join(self.known_models[:5])}"
        return ModelError(f"{self.base_url} answers {status}: {self._hide_key(message)} ({remedy})")

    def _hide_key(self, message: str) -> str:
        return message.replace(self._key, "***") if self._key else message

    def _describe(self, error: BaseException) -> str:
        """The innermost cause in a few words: `ConnectionRefusedError: [Errno 111] Connection refused`."""
        while (cause := _cause(error)) is not None:
            error = cause
        return self._hide_key(f"{type(error).__name__}: {_short(str(error))}")

    def _connection_errors(self) -> tuple[type[BaseException], ...]:
        import requests
        import urllib3

        return requests.RequestException, urllib3.exceptions.HTTPError, OSError


def _cause(error: BaseException) -> BaseException | None:
    inner = (getattr(error, "reason", None), *error.args)
    return next((each for each in inner if isinstance(each, BaseException)), None)


def _is_unreachable(error: BaseException) -> bool:
    """Nobody took the call, or the line broke, as opposed to an answer that took too long."""
    import requests
    import urllib3

    return isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError)


def _read_all(reply: Any, deadline: float) -> bytes:
    """The body. A socket's timeout counts from byte to byte; a reply that drips would outlive it."""
    import requests

    read: Callable[..., bytes] | None = getattr(reply.raw, "read1", None)
    if read is None:  # urllib3 before 2.1
        return bytes(reply.content)
    parts = []
    while part := read(65536, decode_content=True):
        parts.append(part)
        if time.monotonic() > deadline:
            raise requests.ReadTimeout("the reply took too long")
    return b"".join(parts)


def _read_reply(content: bytes) -> dict[str, Any] | None:
    """The reply as JSON, or None where it is not what either API promises."""
    try:
        reply = json.loads(content)
    except ValueError:
        return None
    choices = reply.get("choices") if isinstance(reply, dict) else None
    return reply if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def _message_of(content: bytes) -> str:
    """What a server says about an error, in whichever of the usual forms."""
    text = content.decode("utf-8", "replace")
    try:
        value: Any = json.loads(text)
    except ValueError:
        return _short(text)
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    return _short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."


def _retry_after(value: str | None) -> float | None:
    """Seconds of a `Retry-After` header, which holds seconds or a date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _model_names(content: bytes) -> tuple[str, ...]:
    try:
        listed = json.loads(content).get("data", [])
        return tuple(str(item["id"]) for item in listed)
    except (ValueError, AttributeError, TypeError, KeyError):
        return ()
