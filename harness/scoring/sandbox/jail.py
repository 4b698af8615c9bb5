"""Builds a sandbox of Linux namespaces and starts a command in it. A script of its own: standard library alone.

    python jail.py '{"root": DIR, "show": [PATH, ...], "command": [...], "environment": {...}, "space": BYTES,
                    "memory": BYTES}'

    this process      waits; dies with the harness
      process 1       first of a process namespace: when it ends, the kernel ends everything in there
        the command   no privileges; sees a read-only copy of the paths in `show`, a /tmp of its own and a /proc of its
                      own namespace; no network but its own; no further namespaces; no system calls that get round these

An ordinary user needs user namespaces; root does not, and the command runs as nobody. What cannot be set up ends this
process with code 125 and `jail: REASON` on standard error, and the command is not started. Where its processes use more
memory than allowed, all of them together, this process ends with code 124, and they with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

FAILED = 125
OUT_OF_MEMORY = 124
_LOOK_EVERY = 0.03  # seconds
_NOBODY = 65534

# linux/sched.h, linux/mount.h, linux/prctl.h
_NEW_USER = 0x10000000
_NEW_OTHERS = 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # mounts, pids, net, ipc, host name
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x40000
_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID = 0x1, 0x2
_DETACH = 2
_PDEATHSIG, _DUMPABLE, _NO_NEW_PRIVS = 1, 4, 38

# What namespaces and limits do not hold: kinds of sockets that know no network namespace (AF_VSOCK leads out of a
# virtual machine), memory that is nobody's address space, keys of the session, and interfaces that need none of it.
# By machine: the mark of its calls (linux/audit.h), socket and socketpair, and the calls that do not exist in there:
# shmget, msgget, memfd_create, memfd_secret, add_key, request_key, keyctl, io_uring_setup, bpf, perf_event_open,
# userfaultfd.
_GENERIC = ((198, 199), (194, 186, 279, 447, 217, 218, 219, 425, 280, 241, 282))
_CALLS: dict[str, tuple[int, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "x86_64": (0xC000003E, ((41, 53), (29, 68, 319, 447, 248, 249, 250, 425, 321, 298, 323))),
    "aarch64": (0xC00000B7, _GENERIC),
    "riscv64": (0xC00000F3, _GENERIC),
}
_FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink: each of them lives in the network namespace
_SECCOMP, _SECCOMP_FILTER = 22, 2
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EAFNOSUPPORT, _ENOSYS = 97, 38
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # struct seccomp_data
_OTHER_ABI = 0x40000000  # x32, whose calls have numbers of their own

_LIBC = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace")]


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction))]


def _checked(what: str, result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    kind_bytes = kind.encode() if kind else None
    result = _LIBC.mount(source.encode(), target.encode(), kind_bytes, ctypes.c_ulong(flags), data.encode() or None)
    _checked(f"mount {target}", result)


def _read_only(target: str) -> None:
    attributes = _Attributes(set=_ATTR_RDONLY | _ATTR_NOSUID)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    path = target.encode()
    where = ctypes.c_int(_AT_FDCWD)
    result = _LIBC.syscall(_SETATTR, where, path, ctypes.c_uint(_AT_RECURSIVE), ctypes.byref(attributes), size)
    _checked(f"mount_setattr {target} (Linux 5.12 or newer is needed)", result)


def _enter_namespaces(user: int, group: int) -> None:
    if user != 0:
        _checked("unshare user namespace", _LIBC.unshare(_NEW_USER))
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _checked("unshare namespaces", _LIBC.unshare(_NEW_OTHERS))


def _show(root: str, path: str, source: str) -> None:
    """Show `source` as `path` below the new root: a link as a link, all else bound, read-only."""
    target = Path(root + path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if Path(path).is_symlink():
        target.symlink_to(Path(path).readlink())
        return
    if Path(path).is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    _mount(source, str(target), None, _BIND | _REC)
    if not path.startswith("/dev/"):
        _read_only(str(target))


def _build_root(order: dict[str, Any]) -> None:
    root = order["root"]
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    for name in ("tmp", "proc"):
        Path(root, name).mkdir(exist_ok=True)
    # Before all that is shown: an environment may itself lie below /tmp.
    _mount("tmpfs", f"{root}/tmp", "tmpfs", _NOSUID | _NODEV, f"size={order['space']},nr_inodes=4096,mode=1777")
    for path in order["show"]:
        _show(root, path, order.get("copies", {}).get(path, path))
    Path(root, "dev", "shm").mkdir(parents=True, exist_ok=True)
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", _NOSUID | _NODEV, f"size={order['memory'] // 2},mode=1777")
    try:
        _mount("proc", f"{root}/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    except OSError:  # a container that hides parts of /proc lets nobody mount one: the command has none, then
        Path(root, "proc").rmdir()
    os.chdir(root)
    _checked("pivot_root", _LIBC.pivot_root(b".", b"."))
    _checked("umount the old root", _LIBC.umount2(b".", _DETACH))
    attributes = _Attributes(set=_ATTR_RDONLY | _ATTR_NOSUID)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    result = _LIBC.syscall(_SETATTR, ctypes.c_int(_AT_FDCWD), b"/", ctypes.c_uint(0), ctypes.byref(attributes), size)
    _checked("mount_setattr /", result)
    os.chdir("/tmp")


def _instructions(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter of system calls, as BPF: (code, jump if so, jump if not, operand)."""
    mark, (sockets, absent) = _CALLS[machine]
    program = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 1, 0, mark),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _OTHER_ABI),
        (_RETURN, 0, 0, _ERRNO | _ENOSYS),
    ]
    for number in absent:
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
    program += [(_EQUAL, 2, 0, sockets[0]), (_EQUAL, 1, 0, sockets[1]), (_RETURN, 0, 0, _ALLOW)]
    program += [(_LOAD, 0, 0, _FIRST_ARGUMENT_AT)]
    for family in _FAMILIES:
        program += [(_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    return [*program, (_RETURN, 0, 0, _ERRNO | _EAFNOSUPPORT)]


def _filter_calls() -> None:
    machine = os.uname().machine
    if machine not in _CALLS:
        raise OSError(0, f"no filter of system calls is known for {machine}")
    lines = _instructions(machine)
    program = _Program(len(lines), (_Instruction * len(lines))(*(_Instruction(*line) for line in lines)))
    _checked("seccomp", _LIBC.prctl(_SECCOMP, ctypes.c_ulong(_SECCOMP_FILTER), ctypes.byref(program), 0, 0))


def _start(order: dict[str, Any], user: int) -> None:
    """Drop every privilege and become the command."""
    if user == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        # A user namespace of its own, so that processes are counted for this sandbox alone.
        _checked("unshare user namespace", _LIBC.unshare(_NEW_USER))
    limit = Path("/proc/sys/user/max_user_namespaces")
    if limit.exists():
        limit.write_text("0")  # counts for namespaces below this one: no new ones, in which it would be root
    _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    _filter_calls()
    os.execve(order["command"][0], order["command"], order["environment"])


def _fail(error: OSError) -> None:
    os.write(2, f"jail: {error.strerror or error}\n".encode())
    os._exit(FAILED)


def _wait(child: int, memory: int = 0) -> int:
    """Wait for `child`, reaping whatever else ends meanwhile; return its code as a shell would.

    memory: bytes that all processes may use together, where this is the first of them; 0 is no limit.
    """
    handle = os.pidfd_open(child)
    while True:
        select.select([handle], [], [], _LOOK_EVERY if memory else None)
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if not ended:
                break
        if memory and _memory(exact=False) > memory and _memory(exact=True) > memory:
            return OUT_OF_MEMORY


def _memory(*, exact: bool) -> int:
    """Bytes that the processes of this namespace use, and their files in memory. What processes share, as after a fork,
    counts for each of them unless `exact`, which takes longer."""
    file, field = ("smaps_rollup", "Pss_Anon:") if exact else ("status", "RssAnon:")
    used = 0
    for entry in Path("/proc").glob(f"[0-9]*/{file}"):
        try:
            line = next(line for line in entry.read_text("utf-8", "replace").splitlines() if line.startswith(field))
            used += int(line.split()[1]) << 10
        except (OSError, StopIteration, ValueError):  # it has ended meanwhile
            continue
    for folder in ("/tmp", "/dev/shm"):
        room = os.statvfs(folder)
        used += (room.f_blocks - room.f_bfree) * room.f_frsize
    return used


def _be_first(order: dict[str, Any], user: int) -> None:
    """Process 1 of the namespace."""
    _LIBC.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _build_root(order)
    _LIBC.prctl(_DUMPABLE, 0, 0, 0, 0)  # nobody in there may look into this process
    child = os.fork()
    if child == 0:
        try:
            _LIBC.prctl(_DUMPABLE, 1, 0, 0, 0)
            _start(order, user)
        except OSError as error:
            _fail(error)
    os._exit(_wait(child, order["memory"]))


def main() -> None:
    """Set up the sandbox that the first argument describes, and run its command to the end."""
    _LIBC.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    order = json.loads(sys.argv[1])
    user, group = os.getuid(), os.getgid()
    try:
        _enter_namespaces(user, group)
        first = os.fork()
        if first == 0:
            try:
                _be_first(order, user)
            except OSError as error:
                _fail(error)
        os._exit(_wait(first))
    except OSError as error:
        _fail(error)


if __name__ == "__main__":
    main()
