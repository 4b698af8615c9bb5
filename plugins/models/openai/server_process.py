"""A server of a model as a process of this run: started, waited for, looked after and stopped, its log kept."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from harness import ModelError, UsageError

HOST = "127.0.0.1"
PATIENCE = 15.0
"""Seconds that a server has to end by itself."""
_LOOK, _NEWS = 0.25, 30.0
"""Seconds between two looks at a server that starts, and between two lines about it."""
_TAIL_BYTES = 2**16
_MOST_LINES, _MOST_CHARACTERS = 3, 300
# What stands before a message: `(EngineCore pid=12)`, `ERROR 11-29 09:20:06 [core.py:97]`, `[2026-11-29 09:20:06 TP0]`.
_PREFIX = re.compile(
    r"^(?:\([\w ]+pid=\d+\)\s*)?(?:(?:ERROR|INFO|WARNING|DEBUG|CRITICAL)\s+[\d-]+ [\d:.]+ (?:\[[^\]]*\]\s*)?)?"
    r"(?:\[\d{4}-[^\]]*\]\s*)?"
)
_ERROR = re.compile(r"^(?:[\w.]*(?:Error|Exception|Interrupt)\b\s*:|[\w .-]*: error:)")
_TAKEN = re.compile(r"address already in use|errno 98|port \d+ is (?:already )?(?:in use|taken)", re.IGNORECASE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class ServerProcess:
    """One server. title: what it is in messages. log: the file that takes what it prints, after what is there."""

    def __init__(self, title: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.title, self.command, self.log = title, list(command), log
        self._from = 0
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
            file.write(f"# {now} {' '.join(self.command)}\n".encode())
            self._from = file.tell()
            keeper = Path(__file__).with_name("keeper.py")
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(keeper), str(os.getpid()), str(PATIENCE), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C in the terminal is for the run, which then stops the server
            )

    def wait_until(self, is_ready: Callable[[], bool], seconds: float, say: Callable[[str], None]) -> None:
        """Wait until it is ready. Raises ModelError where it ends, or takes longer; it is stopped then."""
        started = told = time.monotonic()
        try:
            while not is_ready():
                if ended := self.why_ended():
                    raise ModelError(ended.replace("ended", "ended before it was ready", 1))
                now = time.monotonic()
                if now - started > seconds:
                    raise ModelError(
                        f"{self.title} was not ready after {seconds:.0f} s (--model_args startup_timeout=SECONDS): "
                        f"{self._last_words()}"
                    )
                if now - told >= _NEWS:
                    told = now
                    say(f"{self.title} starts since {now - started:.0f} s: {(self._lines() or ['no word yet'])[-1]}")
                time.sleep(_LOOK)
        except BaseException:
            self.stop()
            raise

    def why_ended(self) -> str:
        """How it ended, and what it said last, in one line; empty while it runs."""
        status = self._keeper.poll()
        if status is None:
            return ""
        how = f"with status {status}"
        if status > 128 and status - 128 in {each.value for each in signal.Signals}:
            how = f"by signal {signal.Signals(status - 128).name}"
        return f"{self.title} ended {how}: {self._last_words()}"

    @property
    def is_running(self) -> bool:
        return self._keeper.poll() is None

    @property
    def found_port_taken(self) -> bool:
        """Whether it ended since another program had its port."""
        return not self.is_running and any(map(_TAKEN.search, self._lines()))

    def stop(self) -> None:
        """Stop it and all its children."""
        if self.is_running:
            self._keeper.terminate()
        try:
            self._keeper.wait(PATIENCE + 10)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()

    def _lines(self) -> list[str]:
        """The last lines of its log that say anything, without times and places."""
        with self.log.open("rb") as file:
            file.seek(max(self._from, self.log.stat().st_size - _TAIL_BYTES))
            text = _ESCAPES.sub("", file.read().decode("utf-8", "replace"))
        lines = [_PREFIX.sub("", line).strip() for line in text.splitlines()]
        return [line[:_MOST_CHARACTERS] for line in lines if line.strip("^~-=. ")]

    def _last_words(self) -> str:
        lines = self._lines()
        # Behind the cause there often is the end of a traceback that only says that there was one.
        errors = list(dict.fromkeys(line for line in lines if _ERROR.match(line)))
        said = errors[:1] + errors[1:][-1:] if errors else lines[-_MOST_LINES:]
        return f"{' | '.join(said) or 'it said nothing'} (its log: {self.log})"


def log_file(folder: Path | None, name: str) -> Path:
    """Where a server's log goes: into the run's folder, or, without one, into a file that the system may take away."""
    if folder is not None:
        return folder / "server" / f"{name}.log"
    handle, path = tempfile.mkstemp(prefix=f"harness-{name}-", suffix=".log")
    os.close(handle)
    return Path(path)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


def check_port(port: int) -> None:
    """Raises UsageError where another program listens on it."""
    with socket.socket() as wanted:
        wanted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            wanted.bind((HOST, port))
        except OSError as error:
            why = error.strerror
            raise UsageError(f"--model_args port={port}: {why}: leave it out, and a free one is found") from None
