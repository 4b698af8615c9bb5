"""Ctrl-C where an exception would not do: nobody catches it yet, or no more, or somebody catches it wrongly.

While the command starts or ends, the process ends at once, without a traceback; only in the program `harness`: who
imports the package keeps their own handling of signals.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

_STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _in_the_program() -> bool:
    program = sys.argv[0].replace("\\", "/").rpartition("/")[2] if getattr(sys, "argv", None) else ""
    main_thread = threading.current_thread() is threading.main_thread()
    return program.removesuffix(".exe") == "harness" and main_thread


def interrupt_as_usual() -> None:
    """Have Ctrl-C raise KeyboardInterrupt again, for whoever catches it from here on."""
    if _in_the_program() and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt_at_once() -> None:
    """Have Ctrl-C end the process: nobody catches it from here on."""
    if _in_the_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def stopped_tidily() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, and SIGHUP of a terminal that goes away end a command as Ctrl-C does. What
    is ignored (`nohup`), or handled by somebody else, stays so."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = [number for number in _STOPPING if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C and its like wait until the block has ended: for what takes moments, and loses exceptions or breaks by
    them. Where pydantic makes a validator, an interrupt is printed and forgotten, or becomes an error of the schema."""
    if threading.current_thread() is not threading.main_thread():  # where none arrives
        yield
        return
    came: list[int] = []
    before = {}
    try:
        for number in (signal.SIGINT, *_STOPPING):
            if callable(handler := signal.getsignal(number)):
                before[number] = handler
                signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


interrupt_at_once()
