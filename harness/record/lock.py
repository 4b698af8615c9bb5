"""Keeps a second process out of a run folder. The lock dies with its process, so that a kill leaves nothing to clean.

Where the file system knows no locks (some network file systems), a file stands for the lock, and its holder touches it
every few seconds. One that was not touched for half a minute, or whose process is gone from this machine, is nobody's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_FILE = ".lock"
LEASE_FILE = ".lease"
"""Stands for the lock where there are no locks."""
HOLDER_FILE = ".holder"
"""Says who has the lease; of a lock, the lock file says it itself."""
LEASE_SECONDS = 30.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderLock:
    """An advisory lock on a folder. Raises UsageError, naming the holder, when another process has it.

    is_lease: the file system knows no locks, and a file stands for one.
    """

    def __init__(self, folder: Path) -> None:
        self.is_lease = False
        try:
            self._lock = _locked(folder)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            self.is_lease = True
            self._lock = _leased(folder)

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the lease: this one was stopped for so long that it looked dead."""
        return getattr(self._lock, "compromise", None) is not None

    def release(self) -> None:
        """Let others in. The lock's file stays: to remove it would let two processes hold two locks of one name."""
        with contextlib.suppress(OSError):
            self._lock.release()


def _locked(folder: Path) -> BaseFileLock:
    from filelock import FileLock, Timeout

    path = folder / LOCK_FILE
    lock = FileLock(path, timeout=0, mode=0o644, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise _in_use(folder, path) from None
    _sign(path)
    return lock


def _leased(folder: Path) -> BaseFileLock:
    from filelock import SoftFileLease, Timeout

    path = folder / LEASE_FILE
    lock = SoftFileLease(path, timeout=0, mode=0o644, thread_local=False, lease_duration=LEASE_SECONDS)
    with contextlib.suppress(OSError):
        # Of a holder on another machine nothing is known but that it stopped touching the file. The two machines'
        # clocks may differ, so that the file is watched for as long again before it is taken.
        if time.time() - path.stat().st_mtime > LEASE_SECONDS:
            lock.timeout = LEASE_SECONDS + 5
    try:
        lock.acquire()
    except Timeout:
        raise _in_use(folder, folder / HOLDER_FILE) from None
    _sign(folder / HOLDER_FILE)
    return lock


def _sign(path: Path) -> None:
    """Write down who has the lock. Windows lets nobody write into a locked file, and the holder is then unnamed."""
    with contextlib.suppress(OSError):
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")


def _in_use(folder: Path, signed: Path) -> UsageError:
    try:
        holder = json.loads(signed.read_text(encoding="utf-8"))
        name = f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        name = "another process"
    return UsageError(f"{folder}: the run folder is in use by {name}; wait for it to end, or choose another --output")
