"""Writing that survives a kill and a full disk: append whole lines, replace whole files, repair what was torn."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from harness.errors import SaveError, UsageError
from harness.types import JSON

Say = Callable[[str], None]
UNFINISHED = ".tmp"
"""How the names end of files that are being written. One that is still there was left by a kill."""
_OWNER = re.compile(r"\.[0-9a-f]{16,32}(-(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,10}))?" + re.escape(UNFINISHED))
_FORGOTTEN = 86_400.0
"""Seconds without a change, after which the file of a process that cannot be asked for is nobody's."""
_BLOCK = 1 << 16
_STAYS_OPEN = os.name == "posix"
"""Elsewhere nobody can delete or replace a file that is open."""
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the file size limit (`ulimit -f`)",
    errno.EROFS: "mount the disk for writing",
    errno.EACCES: "give yourself the right to write there",
    errno.EPERM: "give yourself the right to write there",
}


def remedy(error: OSError, path: Path | None = None) -> str:
    """What helps where a file cannot be written. path: the file, where it is known."""
    if error.errno == errno.ENOSPC and path is not None and _has_no_inodes(path):
        return "delete files that nobody needs: the disk has space, and takes no more of them (`df -i`)"
    return _REMEDIES.get(error.errno or 0, "check the disk")


def _has_no_inodes(path: Path) -> bool:
    """Whether a disk has room for bytes, and none for another file. False where that is not known."""
    try:
        status = os.statvfs(path.parent)
    except (OSError, AttributeError):  # gone, or no POSIX
        return False
    return status.f_files > 0 and status.f_favail == 0 and status.f_bavail > 0


def save_error(path: Path, error: OSError) -> SaveError:
    """One line: which file, why, and how to go on."""
    cause = error.strerror or str(error)
    return SaveError(f"{path}: cannot be written: {cause}; {remedy(error, path)} and run the same command again")


def check_folder(flag: str, folder: Path, named: str = "", wanted: str = "a folder") -> None:
    """Raise `UsageError`, before work begins, where nothing can be written in `folder`, which may not be there yet.

    flag, named: how the user named it, for the message. wanted: what may be named. Makes nothing.
    """
    what = f"{flag} {named or folder}"
    try:
        if link := dangling_link(folder):
            raise UsageError(f"{what}: {link}; choose another folder")
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    except OSError as error:  # a name that is too long, or a loop of links
        raise UsageError(f"{what}: {error.strerror or error}; choose another folder") from None
    if not there.is_dir():
        raise UsageError(f"{what}: '{there}' is a file; name {wanted}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{what}: '{there}' cannot be written; choose another folder")


def dangling_link(folder: Path) -> str:
    """What there is to say of a link to nothing, which can neither be read nor become a folder; else an empty text.
    Raises OSError for a loop of links."""
    for path in (folder, *folder.parents):
        if path.exists():
            return ""
        if path.is_symlink():
            return f"'{path}' is a link to '{path.readlink()}', which is not there"
    return ""


def disturbed(path: Path) -> SaveError:
    """What there is to say of a file that is not as this process left it."""
    what = "was changed or deleted by somebody else while this command was at work"
    return SaveError(f"{path}: {what}; what is left is safe: run the same command again, alone")


def append(path: Path, data: bytes, size: int | None = None) -> int:
    """Add whole lines to a file as `GrowingFile` does, and let go of it."""
    file = GrowingFile()
    try:
        return file.append(path, data, size)
    finally:
        file.close()


class GrowingFile:
    """Adds whole lines to files, one after another: the file of the last ones stays open for the next.

    gathers: so many bytes may wait for `flush`, to be written with those that follow them.
    """

    def __init__(self) -> None:
        self.gathers = 0
        self._waiting: list[bytes] = []
        self._start = self._end = 0
        """Where what waits begins and ends in its file."""
        self._path: Path | None = None
        self._handle: int | None = None

    def append(self, path: Path, data: bytes, size: int | None = None) -> int:
        """Add lines to a file, all of them or none. Returns the offset of the first. Raises SaveError.

        size: how many bytes the file must have by now; if it has others, somebody else writes to it or has deleted it.
        """
        if path != self._path:
            self.close()
        if not self._waiting:
            self._start = self._end = self._size(path, size)
        start = self._end
        self._waiting.append(data)
        self._end += len(data)
        if self._end - self._start >= self.gathers:
            self.flush()
        return start

    def flush(self) -> None:
        """Write what waits. Raises SaveError; the file is then as it was before."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) > 1 and self._path is not None:
            self._size(self._path, self._start)
        if waiting:
            self._write(b"".join(waiting))

    def _size(self, path: Path, size: int | None) -> int:
        """The bytes of a file, which is opened."""
        try:
            if self._handle is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
                self._handle, self._path = os.open(path, flags, 0o644), path
            status = os.fstat(self._handle)
        except OSError as error:
            self._let_go()
            raise save_error(path, error) from error
        if size is not None and (status.st_size != size or not status.st_nlink):  # without a name: deleted, or replaced
            self._let_go()
            raise disturbed(path)
        return status.st_size

    def _write(self, data: bytes) -> None:
        """Write what begins at `_start`, all of it or nothing."""
        path, handle = self._path, self._handle
        assert path is not None and handle is not None
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
        except BaseException as error:
            # A part of a line may be there: on a full disk, or when Ctrl-C comes between two writes.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, self._start)
            self._let_go()
            if isinstance(error, OSError):
                raise save_error(path, error) from error
            raise
        if not _STAYS_OPEN:
            self.close()

    def close(self) -> None:
        """Let go of the file: before it is replaced, and at the end. SaveError, as some disks are full only then."""
        self.flush()
        path = self._path
        try:
            self._let_go()
        except OSError as error:
            raise save_error(path or Path(), error) from error

    def _let_go(self) -> None:
        handle, self._handle, self._path = self._handle, None, None
        if handle is not None:
            os.close(handle)


def beside(path: Path, mark: str = "") -> Path:
    """A name that nobody has in the folder of `path`, hidden and short: for what takes its place once it is whole.

    It says whose it is, for `left_behind`. mark: some hexadecimal digits by which the file can be found again.
    """
    return path.with_name(f".{mark}{secrets.token_hex(8)}-{_machine()}-{os.getpid()}{UNFINISHED}")


@functools.cache
def _machine() -> str:
    """What all processes have in common that see each other by their ids."""
    parts = [os.uname().nodename] if os.name == "posix" else []
    with contextlib.suppress(OSError):  # elsewhere than on Linux
        parts += [str(Path("/proc/self/ns/pid").readlink()), Path("/proc/sys/kernel/random/boot_id").read_text("ascii")]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def left_behind(folder: Path, mark: str = "") -> Iterator[Path]:
    """The files of `beside` whose process was killed: it is gone from this machine, or did not write for a day."""
    try:
        with os.scandir(folder) as entries:
            names = [each.name for each in entries if each.name.startswith(f".{mark}") and each.is_file()]
    except OSError:
        return
    for name in names:
        owner = _OWNER.fullmatch(name)
        if owner and _is_left(folder / name, owner["machine"], owner["process"]):
            yield folder / name


def _is_left(path: Path, machine: str | None, process: str | None) -> bool:
    if os.name == "posix" and process is not None and machine == _machine():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
    try:
        return time.time() - path.stat().st_mtime > _FORGOTTEN
    except OSError:
        return False


@functools.lru_cache(maxsize=1024)
def clear_left(folder: Path) -> None:
    """Take away what kills have left in a folder, once a process."""
    for path in left_behind(folder):
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of `path` at one stroke when the block ends well.

    At any moment either the old or the new one is there, whole. A block that takes its file away again replaces
    nothing. What kills have left in the folder is taken away. Raises OSError.
    """
    clear_left(path.parent.absolute())
    temporary = beside(path)
    try:
        yield temporary
        if temporary.exists():
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file so that at any moment either the old or the new one is there, whole. Raises SaveError."""
    try:
        with replacing(path) as temporary, temporary.open("xb") as handle:
            handle.writelines(chunks)
    except OSError as error:
        raise save_error(path, error) from error


def replace_json(path: Path, value: JSON) -> None:
    """Write JSON for people and programs: indented, UTF-8, a lone surrogate as its escape. Raises SaveError."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = json.dumps(value, indent=2, allow_nan=False).encode("ascii")
    replace(path, (data, b"\n"))


def read_text(path: Path) -> str:
    """The text of a file whose reading comes to an end, without the mark that some editors put before it. Raises
    OSError, also for a pipe or a device."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no regular file")
    return path.read_text(encoding="utf-8-sig")


def lines(path: Path, offset: int = 0, first: int = 1) -> Iterator[tuple[int, int, bytes]]:
    """(number, offset, line with its end) of every line; only `\\n` ends one. A file that is not there has none.

    offset, first: where to begin, and the number of the line there.
    """
    try:
        with path.open("rb") as handle:
            handle.seek(offset)
            for number, line in enumerate(handle, first):
                yield number, offset, line
                offset += len(line)
    except FileNotFoundError:
        return


def repair(path: Path, say: Say, aside: Path) -> None:
    """Take off a half-written last line, which is what a kill leaves, and keep it in the file `aside`.

    A whole one without its end is completed.
    """
    with path.open("r+b") as handle:
        size = handle.seek(0, os.SEEK_END)
        start = _last_line_start(handle.fileno(), size)
        if start == size:
            return
        handle.seek(start)
        piece = handle.read()
        if is_whole(piece):
            handle.write(b"\n")
            return
        set_aside(aside, [piece])
        handle.truncate(start)
    say(f"{path}: the last line was half written ({size - start} bytes); it was taken off and its sample runs again")


def set_aside(path: Path, lines: Iterable[bytes]) -> None:
    """Keep lines that cannot be read in a file of their own. One that is kept there already is not kept twice."""
    known = set(path.read_bytes().splitlines()) if path.is_file() else set()
    new = [line.rstrip(b"\r\n") for line in lines]
    data = b"".join(line + b"\n" for line in dict.fromkeys(new) if line not in known)
    if data:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise save_error(path, error) from error
        append(path, data)


def is_whole(line: bytes) -> bool:
    """Whether the line is a whole JSON object. No part of one is, which is what makes a torn line certain."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _last_line_start(handle: int, size: int) -> int:
    """The offset after the last line end."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        os.lseek(handle, start, os.SEEK_SET)
        place = os.read(handle, end - start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0
