"""Many questions at once, in threads that never keep the process alive."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def answer_all(
    function: Callable[[Question], Answer], questions: Sequence[Question], threads: int
) -> Iterator[tuple[int, Answer]]:
    """Yield (index, function(question)) as each is done; a thread that is done takes the next question at once.

    The first exception is raised here, after the answers that came before it. When the caller stops listening
    (Ctrl-C, an error), no new question is begun and nobody waits for those under way: the threads are daemons.
    """
    waiting = iter(enumerate(questions))
    lock = threading.Lock()
    stopped = threading.Event()
    done: queue.SimpleQueue[tuple[int, Answer | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while not stopped.is_set():
            with lock:
                index, question = next(waiting, (None, None))
            if index is None:
                return
            try:
                done.put((index, function(question), None))  # type: ignore[arg-type]
            except BaseException as error:
                done.put((index, None, error))
                return

    for _ in range(min(threads, len(questions))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in questions:
            index, answer, error = done.get()
            if error is not None:
                raise error
            yield index, answer  # type: ignore[misc]
    finally:
        stopped.set()
