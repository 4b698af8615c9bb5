"""Ctrl-C while the command starts or ends, when there is nobody to catch it: the process ends, without a traceback.

Only in the program `harness`: who imports the package keeps their own handling of signals.
"""

from __future__ import annotations

import signal
import sys
import threading


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


interrupt_at_once()
