"""Asks a server: tries again what may work later, and says clearly what will not.

Tried again, with growing and random pauses: 408, 409, 425, 499, 5xx, broken connections, timeouts, replies that are no
replies. A 429 is no try, and nor is a 503 of a server that answers others: the request waits as the server asks, for as
long as its time lasts. An error of one request: every other 4xx. The end of the run: a wrong key, model or address, a
server that is gone, and a mistake that all requests share.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, Any, TypeVar
from urllib.parse import urlencode

from harness import ModelError, UsageError, asked_pause, is_throttling, may_pass

from .connection import Connection, Outgoing, Upload
from .errors import (
    RequestError,
    RetryableError,
    UnpaidError,
    is_overload,
    is_unpaid,
    is_withheld,
    message_of,
    parse_error,
    refusal,
    short,
)
from .pace import Pace, rested
from .received import CONNECT_TIMEOUT, NoReply, Received
from .servers import ModelServer, Servers
from .settings import OpenAISettings

Reply = TypeVar("Reply")
Rest = Callable[[float, float, Pace], Awaitable[float]]
"""Lets others have one's place for so many seconds, or for as few as the second number while the server lets others
in. Returns how many it were."""
_LEAST_REST = 0.25
_UNPAID = "the account has no quota left"


class Client:
    """Asks one server, or several that share the work. `known_models` is what they serve, once they were asked."""

    def __init__(self, servers: Servers, settings: OpenAISettings, connection: Connection) -> None:
        self.servers, self.connection = servers, connection
        self.omitted = settings.omit
        self.address = servers.all[0].address
        self._timeout, self._retries, self._places = settings.patience, settings.retries, settings.places
        self.sleep = asyncio.sleep
        self.why_ended: Callable[[], str] = lambda: ""
        """Why nobody will answer any more, where that can be known: of a server that the run started."""
        self.waiting: dict[int, tuple[float, str]] = {}
        self.known_models: tuple[str, ...] = ()
        self.listings: list[dict[str, Any]] = []
        """What each server that is there says of its models."""
        self.absent: list[str] = []
        """What to say of those that are not."""
        self._secrets = settings.secrets
        self._headers = settings.sent_headers
        self._answered = False
        self._fruitless = 0
        self._most_fruitless = max(3, settings.places.most)

    async def check(self) -> dict[str, Any]:
        """What the servers say of the models that they have, to notice one that is not there before any work is done.

        A server without that route, or one that is busy, is taken as it is. Of several, one has to be there. Raises
        UsageError or ModelError.
        """
        told = await asyncio.gather(*map(self._listing, self.servers.all), return_exceptions=True)
        listings = [each for each in told if isinstance(each, dict)]
        if not listings or any(isinstance(each, ModelError) for each in told):
            raise next(each for each in told if isinstance(each, BaseException))
        self.absent = [str(each) for each in told if isinstance(each, UsageError)]
        self.listings = listings
        self.known_models = tuple(dict.fromkeys(name for each in listings for name in each))
        return {name: entry for each in reversed(listings) for name, entry in each.items()}

    async def _listing(self, server: ModelServer) -> dict[str, Any]:
        try:
            reply = await self.connection.send(
                Outgoing("GET", server.address.of("models"), None, self._headers, CONNECT_TIMEOUT)
            )
        except NoReply as error:
            server.broke()
            remedy = "is the server running? --model_args base_url=http://HOST:PORT/v1"
            if error.certificate:
                remedy = "REQUESTS_CA_BUNDLE=FILE names whom to trust, --model_args verify_certificate=false trusts all"
            raise UsageError(f"cannot reach {server.address.shown}: {self.hide(str(error))} ({remedy})") from None
        if reply.status == 401:
            raise self._end(server, reply.status, message_of(reply.content))
        return _listed_models(reply.content) if reply.status == 200 else {}

    async def post(self, route: str, body: Mapping[str, Any], read: Callable[[bytes, str], Reply], rest: Rest) -> Reply:
        """What `read` makes of the server's reply. Raises RequestError, or ModelError where no other can work.

        Only the time that is spent on this request counts against the policy's `total`: exchanges and pauses, not the
        wait for a turn among others.
        """
        attempts = self._retries.attempts()
        refused_by: ModelServer | None = None
        handed_over = 0
        while True:
            server = await self.servers.take(refused_by)
            try:
                start = await server.pace.turn()
                started = time.monotonic()
                reply = await self._attempt(server, route, body, read, min(attempts.left, self._timeout))
                self._answered, self._fruitless = True, 0
                server.answered(time.monotonic() - started)
                server.pace.answered(start)
                self._places.answered(time.monotonic() - started)
                return reply
            except RetryableError as error:
                failure = error
            except RequestError as error:
                raise self._hidden(error) from None
            finally:
                self.servers.give(server)
            if failure.throttled or failure.status == 503:
                server.pace.refused(start, failure.pause, unavailable=failure.status == 503)
            attempts.spend(time.monotonic() - started)
            if self._hands_over(server, failure) and handed_over < len(self.servers.all) - 1 and attempts.left > 0:
                refused_by, handed_over = server, handed_over + 1
                continue
            refused_by, handed_over = None, 0
            wish = failure.pause
            # Of a server that answers others a 503 says no more of this request than a 429 does.
            throttled = failure.throttled or (failure.status == 503 and server.pace.lets_in)
            if throttled and wish is not None and wish >= attempts.left:
                # Three days, it says. If it answers others, or may do so, it is asked again as if it had said nothing.
                may_answer = server.pace.lets_in or (server.under_way > 0 and attempts.number == 0)
                wish = None if may_answer else wish
            pause = attempts.failed(wish, throttled=throttled)
            if pause is None:
                break
            ticket = id(failure)
            self.waiting[ticket] = (time.monotonic() + pause, self.hide(str(failure)))
            try:
                by_chance = server.pace.refuses_at_random and server.pace.lets_in
                doublings = 0 if by_chance else min(attempts.number - 1, 8)
                least = min(pause, _LEAST_REST * 2.0**doublings * random.uniform(0.5, 1.5))
                longest = least if by_chance else pause  # to wait longer makes no difference there
                if throttled:
                    attempts.spend(await rest(longest, least, server.pace) - pause)
                elif failure.status == 503:  # in its place, so that a server that is away is asked by few
                    attempts.spend(await rested(pause, least, server.pace) - pause)
                else:
                    await self.sleep(pause)
            finally:
                del self.waiting[ticket]
        self._count_fruitless(failure)
        asked = attempts.asked_too_much
        more = "" if asked is None else f"; it asks to wait {asked:.0f} s, beyond total_timeout"
        times = "once" if attempts.number == 1 else f"{attempts.number} times"
        raise self._hidden(RequestError(f"{failure} (tried {times}{more})", failure.status)) from None

    async def exchange(
        self,
        method: str,
        route: str,
        body: bytes | Upload | None,
        seconds: float,
        *,
        into: IO[bytes] | None = None,
        query: Mapping[str, str],
    ) -> Received:
        """One exchange about anything but an answer. Raises NoReply; its reply may have any status."""
        url = self.address.of(route)
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        headers = self._headers
        if isinstance(body, Upload):  # a form says its own
            headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        return await self.connection.send(Outgoing(method, url, body, headers, seconds, into))

    def waits(self) -> str:
        """What is waited for, in words; empty where nothing is."""
        now = time.monotonic()
        if not self.waiting:
            return ""
        until, why = min(self.waiting.values())
        number = len(self.waiting)
        whose = "a request waits" if number == 1 else f"{number} requests wait"
        return f"{self.servers.shown}: {whose}, the next for {max(0.0, until - now):.0f} s: {why}"

    def _hands_over(self, server: ModelServer, failure: RetryableError) -> bool:
        """Note what a server did not do. Returns whether another one is asked at once."""
        if len(self.servers.all) == 1:
            return False
        if not failure.throttled and (failure.status == 0 or failure.status >= 500):
            server.broke()
        return (failure.throttled or failure.gone) and self.servers.can_hand_over(server)

    async def post_once(
        self,
        server: ModelServer,
        route: str,
        body: Mapping[str, Any],
        read: Callable[[bytes, str], Reply],
        arrivals: list[tuple[float, int]],
    ) -> Reply:
        """The same of one server, asked once and without waiting; `arrivals` is told when parts of the reply come."""
        try:
            return await self._attempt(server, route, body, read, self._timeout, arrivals)
        except RequestError as error:
            raise self._hidden(error) from None

    async def _attempt(
        self,
        server: ModelServer,
        route: str,
        body: Mapping[str, Any],
        read: Callable[[bytes, str], Reply],
        seconds: float,
        arrivals: list[tuple[float, int]] | None = None,
    ) -> Reply:
        content, url = json.dumps(body).encode(), server.address.of(route)
        try:
            reply = await self.connection.send(Outgoing("POST", url, content, self._headers, seconds, None, arrivals))
        except NoReply as error:
            message = f"{server.address.shown}: {error}"
            if error.final:
                raise RequestError(message, cause=message) from None
            if error.gone and (ended := self.why_ended()):
                raise ModelError(f"{ended}; what is done is kept, the same command goes on") from None
            raise RetryableError(message, gone=error.gone) from None
        if 200 <= reply.status < 300:  # 201: what some gateways say of every POST
            try:
                return read(reply.content, reply.headers.get("content-type", ""))
            except UnpaidError as error:
                raise self._end(server, error.status or reply.status, str(error), _UNPAID) from None
        raise self.failure(reply, body, server)

    def failure(self, reply: Received, body: Mapping[str, Any], server: ModelServer | None = None) -> RequestError:
        """The error that a status stands for. Raises ModelError where no other request can work."""
        error, status = parse_error(reply.content), reply.status
        server = server or self.servers.all[0]
        self._fruitless = 0 if status < 500 else self._fruitless
        if is_unpaid(error, status):
            raise self._end(server, status, error.message, _UNPAID)
        if may_pass(status):
            pause = asked_pause(reply.headers, error.message)
            throttled = is_throttling(status, pause) or is_overload(error)
            return RetryableError(f"status {status}: {error.message}", status, pause=pause, throttled=throttled)
        # After an answer, a 403 is about this prompt (a provider's moderation), not about the key.
        moderated = status == 403 and (self._answered or is_withheld(error))
        if status in (401, 404, 405, 407) or 300 <= status < 400 or (status == 403 and not moderated):
            raise self._end(server, status, short(reply.headers.get("location", "")) or error.message)
        return refusal(error, status, body, self.omitted, self.known_models)

    def _count_fruitless(self, failure: RetryableError) -> None:
        """End the run where one request after another finds nobody, instead of failing every sample slowly."""
        self._fruitless += 1
        dead = failure.gone or not self._answered
        if self._fruitless >= self._most_fruitless * (1 if dead else 10):
            raise ModelError(
                f"{self.servers.shown} does not answer ({self._fruitless} requests in a row): "
                f"{self.hide(str(failure))}; what is done is kept, the same command goes on"
            )

    def _end(self, server: ModelServer, status: int, message: str, remedy: str = "") -> ModelError:
        remedy = remedy or {
            401: "check the key: OPENAI_API_KEY, or --model_args api_key=...",
            407: "the proxy wants a name and a password: HTTP_PROXY=http://NAME:PASSWORD@HOST:PORT",
            403: "this key may not use this model: --model_args api_key=..., model=...",
        }.get(status, "check --model_args base_url=..., model=... and api=chat|completions")
        if status == 404 and self.known_models:
            remedy += f"; the server has {', '.join(self.known_models[:5])}"
        return ModelError(f"{server.address.shown} answers {status}: {self.hide(message)} ({remedy})")

    def _hidden(self, error: RequestError) -> RequestError:
        """The error without anything secret that the server repeats. Its causes are told apart by now."""
        error.args = (self.hide(str(error)),)
        return error

    def hide(self, message: str) -> str:
        """A message without what is secret in it."""
        for secret in self._secrets:
            message = secret.hide_in(message)
        return message


def _listed_models(content: bytes) -> dict[str, Any]:
    """Name -> entry of the list of models, in whichever state it is."""
    try:
        listed = json.loads(content)["data"]
        return {short(str(item["id"])): item for item in listed}
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return {}
