"""Many questions at once, in an event loop whose thread never keeps the process alive."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, Generic, TypeVar

from .connection import Connection
from .pace import Places

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Found = TypeVar("Found")
Ask = Callable[[int, Question], Awaitable[Answer]]
Admits = Callable[[], "bool | None"]

QUIET = 5.0
"""Seconds without an answer after which it is said what is waited for; then longer and longer."""

NO_MORE = -2
"""Stands in the place of an index where no more is asked, and all that was asked is answered."""

_COUNTED = 0.005
"""Seconds until it is looked again whether an answer has been counted."""

_UNREAD = 32
"""So many answers, or twice as many as are under way, may wait for the caller: a kill loses what it has not taken."""

_REST, _LONGEST_REST = 0.002, 0.02
"""Seconds for which answers are held: until no more come for so long, and no longer than the second."""

ENDING = 2.0
"""Seconds for connections to be closed in."""


class _Answers(Generic[Answer]):
    """Answers on their way to the caller's thread.

    Those that come at nearly the same moment go together, when their places have been filled again: what the caller
    does with them takes the processor from the loop, and servers should have their next requests before.
    """

    def __init__(self) -> None:
        self.handed_over: queue.SimpleQueue[list[tuple[int, Answer | None, BaseException | None]]] = queue.SimpleQueue()
        self.taken = 0
        """How many the caller is done with; counted in its thread."""
        self._held: list[tuple[int, Answer | None, BaseException | None]] = []
        self._put = self._seen = 0
        self._since = 0.0

    @property
    def unread(self) -> int:
        """How many the caller is not done with."""
        return self._put - self.taken

    def put(self, index: int, answer: Answer | None, error: BaseException | None = None) -> None:
        """An answer, or what went wrong. For the loop's thread."""
        self._put += 1
        self._held.append((index, answer, error))
        if len(self._held) == 1:
            loop = asyncio.get_running_loop()
            self._since = loop.time()
            self._look(loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._seen == len(self._held) or loop.time() - self._since > _LONGEST_REST:
            self.handed_over.put(self._held)
            self._held, self._seen = [], 0
        else:
            self._seen = len(self._held)
            loop.call_later(_REST, self._look, loop)


class Background:
    """An event loop in a thread of its own, begun when it is first used."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, Found]) -> Found:
        """The result of `work`; what it raises is raised here."""
        return asyncio.run_coroutine_threadsafe(work, self._started()).result()

    def answers(
        self,
        ask: Ask[Question, Answer],
        questions: Sequence[Question],
        places: Places,
        quiet: Callable[[], None],
        connection: Connection,
        admits: Admits,
    ) -> Iterator[tuple[int, Answer]]:
        """Yield (index, answer) as each is done; a place that is free is taken by the next question at once.

        The first exception is raised here, after the answers that came before it. When the caller stops listening
        (Ctrl-C, an error), no new question is begun and those under way are dropped. `quiet` is called here, in the
        caller's thread, after some seconds without an answer. `connection` is closed in the end. `admits`: see
        `Model.admits`.
        """
        done: _Answers[Answer] = _Answers()
        work = asyncio.run_coroutine_threadsafe(
            _ask_all(ask, questions, places, done, connection, admits), self._started()
        )
        try:
            left = len(questions)
            while left > 0:
                for index, answer, error in _next(done.handed_over, quiet):
                    if index == NO_MORE:
                        left = 0
                        break
                    if error is not None:
                        raise error
                    left -= 1
                    yield index, answer
                    done.taken += 1
            with contextlib.suppress(TimeoutError):
                work.result(ENDING)  # connections are closed
        finally:
            work.cancel()

    def close(self) -> None:
        """End the loop, and what is under way in it."""
        if self._loop is None:
            return
        loop, self._loop = self._loop, None
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_drop_all(), loop).result(ENDING)
        loop.call_soon_threadsafe(loop.stop)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            # What is left when the process ends is no news: connections of requests that nobody waits for.
            self._loop.set_exception_handler(lambda loop, context: None)
            threading.Thread(target=_serve, args=(self._loop,), name="openai", daemon=True).start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _drop_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _next(done: queue.SimpleQueue[Any], quiet: Callable[[], None]) -> Any:
    patience = QUIET
    while True:
        try:
            return done.get(timeout=patience)
        except queue.Empty:
            quiet()
            patience = min(2 * patience, 60.0)


async def _ask_all(
    ask: Ask[Question, Answer],
    questions: Sequence[Question],
    places: Places,
    done: _Answers[Answer],
    connection: Connection,
    admits: Admits,
) -> None:
    """Put (index, answer, error) of each question into `done`, in the order in which they end."""
    tasks: set[asyncio.Task[None]] = set()
    failed = False

    async def one(index: int, question: Question) -> None:
        nonlocal failed
        try:
            done.put(index, await ask(index, question))
        except Exception as error:
            failed = True
            done.put(index, None, error)
        places.give()

    places.begin()
    async with connection:
        try:
            for index, question in enumerate(questions):
                await places.take(index)
                # A caller that is slow, as one that runs programs is, gets no more answers than it can take.
                while done.unread >= max(_UNREAD, 2 * int(places.size)) and not failed:
                    await asyncio.sleep(_COUNTED)
                while (admitted := admits()) is None and not failed:
                    await asyncio.sleep(_COUNTED)
                if failed or not admitted:
                    break
                task = asyncio.create_task(one(index, question))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            while tasks:
                await asyncio.wait(tasks)
            done.put(NO_MORE, None)
        except Exception as error:
            done.put(-1, None, error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
