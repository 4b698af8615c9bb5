"""A limit on Python code of others that runs in this process, a chat template say: it ends, and the limit names itself.

with time_limit(10, "the chat template"):
    tokenizer.apply_chat_template(...)         # TooSlowError: the chat template came to no end within 10 s
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator


class TooSlowError(Exception):
    """Code came to no end within its time."""


@contextlib.contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise TooSlowError in the block, in this thread, once `seconds` have passed by the clock.

    The interpreter looks for it between its instructions: a single call into C is not interrupted.
    """
    thread, lock = threading.get_ident(), threading.Lock()
    state = {"done": False, "fired": False}

    def fire() -> None:
        with lock:
            if not state["done"]:
                state["fired"] = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TooSlowError))

    timer = threading.Timer(seconds, fire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except TooSlowError:
        raise TooSlowError(f"{what} came to no end within {seconds:g} s") from None
    finally:
        timer.cancel()
        with lock:
            state["done"] = True
            if state["fired"]:
                # Where the block ended at that very moment, nothing must be raised later on.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
