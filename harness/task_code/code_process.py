"""One process that runs the Python of task files, from its start to its end: in a sandbox, or as the user."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import MachineError
from harness.scoring import sandbox
from harness.task_code.consent import Consent
from harness.task_code.tokenizers import hub_cache, tokenizer_copies
from harness.terminal import visible
from harness.types import JSON

_HERE = Path(__file__).parent
_PROCESS = _HERE / "process.py"
_HALF = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 16 << 30
_LIMITS = sandbox.Limits(memory=min(16 << 30, _HALF), space=2 << 30, processes=512, file_size=1 << 30, files=1024)
_STARTING = 120.0
"""Seconds by the clock."""
_LEAVING = 0.5
_LARGEST = 1 << 30
"""Bytes of one answer."""
_LONGEST_TOLD = 600
_ENVIRONMENT = {
    **sandbox.ENVIRONMENT,
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HOME": "/tmp/hf",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


class CodeProcess:
    """One process, from its start to its end."""

    def __init__(self, consent: Consent, model_args: Mapping[str, JSON], *, boxed: bool) -> None:
        self.boxed = boxed
        self.tasks: set[str] = set()
        self._asked = 0
        self._started = False
        self._root, self._copies = (tempfile.mkdtemp(prefix="harness-") for _ in range(2))
        own = ["-I", "-S", "-X", "utf8", str(_PROCESS)]
        path = _module_folders()
        roots = [str(root) for root in consent.roots]
        tokenizers = tokenizer_copies(model_args, Path(self._copies)) if boxed else {}
        shown = [*roots, *path, str(_HERE), *tokenizers]
        environment = {**_ENVIRONMENT, **_nltk(), "HF_HUB_CACHE": str(hub_cache().resolve())}
        if boxed:
            nltk = [environment["NLTK_DATA"]] if "NLTK_DATA" in environment else []
            python = str(Path(sys.executable).resolve())
            copies = {**_copies(consent.boxed, Path(self._copies)), **tokenizers}
            command = sandbox.jailed([python, *own], _LIMITS, self._root, [*shown, *nltk], environment, copies)
        else:
            command, environment = [sys.executable, *own], dict(os.environ)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=self._root,
            start_new_session=True,
        )
        self._said = bytearray()
        self._listener = threading.Thread(target=_drain, args=(self._process.stderr, self._said), daemon=True)
        self._listener.start()
        self._finalizer = weakref.finalize(self, _end, self._process, (self._root, self._copies))
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        limits = {"file_size": _LIMITS.file_size, "files": _LIMITS.files}
        limits |= {"processes": _LIMITS.processes} if boxed else {}
        seen = [*shown, sys.base_prefix, "/usr", "/lib", "/bin"] if boxed else []
        modules = {
            "names": "lm_eval_names",
            "packages": "package_names",
            "classes": "task_classes",
            "media": "media_values",
            "environments": "environments",
            "watch": "code_watch",
            "data_sets": "data_sets",
            "scores": "lm_eval_scores",
        }
        names = {name: str(_HERE / f"{module}.py") for name, module in modules.items()}
        hello = {"path": path, "roots": roots, "shown": seen, "limits": limits, **names}
        self._write(hello)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, request: dict[str, Any]) -> None:
        self._asked += 1
        self._write({**request, "number": self._asked})

    def receive(self, seconds: float) -> dict[str, Any]:
        """The answer to what was sent last. Raises `MachineError` where the process does not start, `TimeoutError`, and
        `EOFError` where it has ended; it is no more, then."""
        if not self._started:
            self._started = True
            try:
                self._reply(0, _STARTING)
            except (TimeoutError, EOFError) as error:
                what = f"the process that runs task code does not start: {error or 'no word from it'}"
                raise MachineError(what) from None
        return self._reply(self._asked, seconds)

    def end(self) -> None:
        self._finalizer()

    def _kill(self) -> None:
        _kill(self._process)
        self.end()

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode("ascii")
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended, which reading finds
            self._process.stdin.write(len(body).to_bytes(8, "big") + body)
            self._process.stdin.flush()

    def _reply(self, number: int, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        size = int.from_bytes(self._read(8, deadline), "big")
        reply: Any = None
        with contextlib.suppress(ValueError, RecursionError):
            reply = json.loads(self._read(size, deadline)) if size <= _LARGEST else None
        if not _is_reply(reply, number):
            self._kill()
            raise EOFError("its process sent what is no answer, and was ended")
        answer: dict[str, Any] = reply
        return answer

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        parts: list[bytes] = []
        while size:
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                self._kill()
                raise TimeoutError
            part = os.read(self._process.stdout.fileno(), min(size, 1 << 20))
            if not part:
                self._process.wait()
                code = self._process.returncode
                self.end()
                raise EOFError(_in_words(code, bytes(self._said)))
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _is_reply(reply: Any, number: int) -> bool:
    """Whether a message is an answer to the request of this number: the code can write anything in its place."""
    if not isinstance(reply, dict) or reply.get("number") != number:
        return False
    lists = all(
        isinstance(reply.get(key), list) and all(isinstance(each, str) for each in reply[key])
        for key in ("read", "tried")
    )
    texts = all(isinstance(reply[key], str) for key in ("error", "missing") if key in reply)
    return lists and texts and ("error" in reply if "missing" in reply else "error" in reply or "result" in reply)


def told(text: Any) -> str:
    """What the code says of itself, fit for a line on a terminal."""
    return visible(" ".join(str(text).split()))[:_LONGEST_TOLD]


def _copies(folders: Sequence[Path], to: Path) -> dict[str, str]:
    """Folders that only their owner may read, copied for all: what root starts runs as nobody in a sandbox."""
    found = {}
    for number, folder in enumerate(folders if os.getuid() == 0 else ()):
        if _all_may_read(str(folder)):
            continue
        copy = to / str(number)
        shutil.copytree(folder, copy, ignore_dangling_symlinks=True)
        for path in [to, copy, *copy.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        found[str(folder)] = str(copy)
    return found


def _all_may_read(folder: str) -> bool:
    """Whether everything in a folder may be read by whoever is not its owner; a link counts as what it leads to."""
    if os.stat(folder).st_mode & 0o005 != 0o005:  # noqa: PTH116 - a library has 14,000 files, too many for a Path each
        return False
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat()
            except OSError:  # leads nowhere
                continue
            if not status.st_mode & 0o004 or (
                entry.is_dir() and not entry.is_symlink() and not _all_may_read(entry.path)
            ):
                return False
    return True


def _module_folders() -> list[str]:
    """Where the process finds modules: the standard library and installed packages, no folder that a user works in."""
    own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    names = ("site-packages", "dist-packages", "lib-dynload")
    found = [entry for entry in sys.path if Path(entry).is_dir() and (entry in own or Path(entry).name in names)]
    return list(dict.fromkeys(map(os.path.realpath, found)))


def _in_words(code: int, said: bytes) -> str:
    """Why a process has ended, from its exit code and its last words."""
    if code == 124:
        return "its process was ended: out of memory"
    lines = said.decode("utf-8", "replace").strip().splitlines()
    last = f": {told(lines[-1])[:200]}" if lines else ""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    name = signal.Signals(number).name if number in set(signal.Signals) else ""
    return f"its process has ended ({name or f'exit code {code}'}){last}"


def _drain(stream: Any, said: bytearray) -> None:
    """Keep the end of what a process prints."""
    with contextlib.suppress(OSError, ValueError):
        while part := os.read(stream.fileno(), 65_536):
            said += part
            del said[:-8192]


def _end(process: subprocess.Popen[bytes], folders: Sequence[str]) -> None:
    """End a process: by itself, where it waits for a request, so that the system counts what it used."""
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LEAVING)
    _kill(process)
    for stream in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _nltk() -> dict[str, str]:
    """Where the data of NLTK lies, which tasks read and cannot download in a sandbox."""
    places = [os.environ.get("NLTK_DATA") or "", str(Path("~/nltk_data").expanduser())]
    found = next((place for place in places if place and Path(place).is_dir()), None)
    return {} if found is None else {"NLTK_DATA": found}
