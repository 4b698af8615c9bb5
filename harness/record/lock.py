"""Keeps a second process out of a run folder. The lock dies with its process, so a kill leaves nothing to clean."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from pathlib import Path

from harness.errors import UsageError

LOCK_FILE = ".lock"
# Windows locks bytes and forbids reading them, so the locked byte lies behind the text that names the holder.
_LOCKED_BYTE = 1 << 20


class FolderLock:
    """An advisory lock on a folder. Raises UsageError, naming the holder, when another process has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.held = True
        """False where the file system knows no locks; the folder is then used without one."""
        self._handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            self.held = _lock(self._handle)
        except OSError as error:
            holder = self._holder()
            os.close(self._handle)
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK):
                raise
            raise UsageError(
                f"{folder}: the run folder is in use by {holder}; wait for it to end, or choose another --output"
            ) from None
        self._write_holder()

    def release(self) -> None:
        """Let others in. The file stays: to remove it would let two processes hold two locks of one name."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write_holder(self) -> None:
        text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        os.ftruncate(self._handle, 0)
        os.write(self._handle, text.encode())

    def _holder(self) -> str:
        try:
            holder = json.loads((self._folder / LOCK_FILE).read_text(encoding="utf-8"))
            return f"process {holder['pid']} on {holder['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> bool:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
        return True
else:
    import fcntl

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            return False
        return True
