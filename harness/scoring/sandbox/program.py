"""The side of a program that nobody trusts: it runs the program, and then does what its tests ask for.

Nothing that decides a verdict is in this process. What it says are values, which the tests compare on their own side.
"""

from __future__ import annotations

import builtins
import importlib
import io
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from harness.scoring.sandbox.wire import Broken, Channel, Node, Peer, printable, state_of

_FLUSH_AT = 8192
_CALL_PATIENCE = 20.0  # times a call's processor time, by the clock


class ProgramSide(Peer):
    """Answers the requests of the tests."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.module = types.ModuleType("program")
        self.output = _Output(channel)
        self.call_seconds = 0.0
        self._objects: dict[int, Any] = {}  # what the tests refer to, kept alive
        self._theirs: dict[int, Any] = {}

    def export(self, value: Any, atom: Callable[[Any], Any]) -> Node:
        kind: type = type(value)
        if kind.__module__ == "numpy":
            return _array(value, atom) or self._refer("reference", value)
        theirs = getattr(value, "_their_number", None)
        if type(theirs) is int and self._theirs.get(theirs) is value:
            return ["yours", theirs]
        if isinstance(value, type):
            name = value.__name__
            if value.__module__ == "builtins" and builtins.__dict__.get(name) is value:
                return ["builtin", name]
            if self.classes.get(name) is value:
                return ["class", name]
            if issubclass(value, BaseException):
                return [*self._refer("exception", value), name, _builtin_base(value)]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, types.CoroutineType):
            return self._refer("coroutine", value)
        return self._refer("reference", value)

    def _refer(self, kind: str, value: Any) -> Node:
        self._objects[id(value)] = value
        return [kind, id(value)]

    def restore(self, node: Node, value: Callable[[Any], Any]) -> Any:
        kind = node[0]
        if kind == "yours":
            return self._objects[node[1]]
        if kind == "name":
            found = importlib.import_module(node[1])
            for part in node[2].split(".") if node[2] else ():
                found = getattr(found, part)
            return found
        if kind == "class":
            return self.classes[node[1]]
        if node[1] in self._theirs:
            return self._theirs[node[1]]
        number = node[1]
        if kind == "function":

            def theirs(*args: Any, **options: Any) -> Any:
                return self.ask("call", number, list(args), options)

            theirs.__name__ = theirs.__qualname__ = node[2]
            theirs._their_number = number  # type: ignore[attr-defined]
            self._theirs[number] = theirs
            return theirs
        if kind == "iterator":
            return self._iterate(number)
        raise Broken(f"a value of an unknown kind: {kind}")

    def _iterate(self, number: int) -> Iterator[Any]:
        while item := self.ask("next", number):
            yield item[0]

    def handle(self, what: str, values: list[Any]) -> Any:
        try:
            if what == "call":
                function, args, options = values
                if not self.call_seconds:
                    return function(*args, **options)
                signal.setitimer(signal.ITIMER_PROF, self.call_seconds)
                signal.setitimer(signal.ITIMER_REAL, _CALL_PATIENCE * self.call_seconds)
                try:
                    return function(*args, **options)
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    signal.setitimer(signal.ITIMER_REAL, 0)
            if what == "load":
                return self._load(*values)
            if what == "imports":
                return self._define(*values)
            if what == "class":
                name, source = values
                self._define([source])
                self.classes[name] = self.module.__dict__[name]
                return None
            if what == "eval":
                return eval(values[0], self.module.__dict__)
            if what == "exec":
                exec(values[0], self.module.__dict__)
                return None
            if what == "names":
                return {name: self.module.__dict__[name] for name in values[0] if name in self.module.__dict__}
            if what == "state":
                return id(type(values[0])), state_of(values[0])
            if what == "next":
                return next(values[0], *values[1:])
            if what == "await":
                import asyncio

                return asyncio.run(values[0])
        finally:
            self.output.flush()
        return super().handle(what, values)

    def _load(self, text: str, shared: list[str]) -> None:
        sys.modules["program"] = self.module
        exec(compiled(text.lstrip("\ufeff")), self.module.__dict__)
        for name in shared:
            cls = self.module.__dict__.get(name)
            if isinstance(cls, type):
                self.classes[name] = cls

    def _define(self, sources: list[str]) -> None:
        for source in sources:
            try:
                exec(compile(source, "program.py", "exec", dont_inherit=True), self.module.__dict__)
            except Exception:
                continue  # the tests make the same import themselves, and say what is wrong with it

    def describe_error(self, error: BaseException) -> dict[str, Any]:
        kind = type(error)
        args = list(error.args) if isinstance(error.args, tuple) else []
        try:
            atoms, nodes, _ = self.encode([args])
        except BaseException:
            atoms, nodes, _ = self.encode([[]])
        _, base = kind.__name__, _builtin_base(kind)
        self._objects[id(kind)] = kind
        described = {"class": id(kind), "name": kind.__name__, "base": base, "text": printable(error)}
        return {**described, "args": atoms[0], "nodes": nodes, "changed": {}}

    def raise_error(self, message: dict[str, Any]) -> None:
        kind = getattr(builtins, str(message.get("base")), Exception)
        raise kind(message.get("text"))


def compiled(text: str) -> types.CodeType:
    """A program's code. What it imports from the future comes first, wherever a prompt above it has moved it."""
    try:
        return compile(text, "program.py", "exec", dont_inherit=True)
    except SyntaxError as error:
        if "__future__" not in str(error):
            raise
        lines = text.splitlines(keepends=True)
        future = [line for line in lines if line.startswith("from __future__ import ")]
        rest = [line if line not in future else "\n" for line in lines]
        return compile(
            "".join([*(line.strip() + "; " for line in future), *rest]), "program.py", "exec", dont_inherit=True
        )


def _builtin_base(kind: type[BaseException]) -> str:
    for base in kind.__mro__:
        if base.__module__ == "builtins" and issubclass(base, BaseException):
            return base.__name__
    return "Exception"


def _array(value: Any, atom: Callable[[Any], Any]) -> Node | None:
    """An array or a number of numpy, by its values."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind not in tuple("biufcUS"):
        return None
    if not value.shape and type(value).__name__ != "ndarray":
        return ["same", atom(value.item())]
    if type(value).__name__ != "ndarray":
        return None
    return ["array", value.dtype.str, list(value.shape), atom(value.tobytes())]


class _Output(io.TextIOBase):
    """What the program prints: shown to the tests, in order with all else. That of its own processes goes past them."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, channel: Channel) -> None:
        self.buffer = io.FileIO(2, "w", closefd=False)
        self._channel = channel
        self._process = os.getpid()
        self._parts: list[str] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if os.getpid() != self._process:
            os.write(2, text.encode("utf-8", "replace"))
            return len(text)
        self._parts.append(text)
        self._size += len(text)
        if self._size >= _FLUSH_AT:
            self.flush()
        return len(text)

    def flush(self) -> None:
        if self._parts and os.getpid() == self._process:
            parts, self._parts, self._size = self._parts, [], 0
            self._channel.send({"kind": "output", "text": "".join(parts)})


class _Input(io.TextIOBase):
    """What the tests have put into `sys.stdin` on their side."""

    def __init__(self, side: ProgramSide) -> None:
        self._side = side

    def readable(self) -> bool:
        return True

    def readline(self, size: int | None = -1) -> str:  # type: ignore[override]
        return str(self._side.ask("readline"))

    def read(self, size: int | None = -1) -> str:
        return "".join(iter(self.readline, ""))


def add_exit() -> None:
    """Give programs `exit` and `quit`, which Python itself has from a module that is not loaded here."""
    vars(builtins).setdefault("exit", sys.exit)
    vars(builtins).setdefault("quit", sys.exit)


def run(source: int, target: int, call_seconds: float) -> None:
    """Serve the tests over two descriptors until they have ended, and leave without any exit handler.

    call_seconds: of processor time for each call, after which the system ends this process; 0 is no limit.
    """
    side = ProgramSide(Channel(source, target))
    side.call_seconds = call_seconds
    sys.stdout = side.output
    sys.stdin = _Input(side)

    def ask_for_input(prompt: object = "") -> str:
        return str(side.ask("input", str(prompt)))

    ask_for_input.__name__ = ask_for_input.__qualname__ = "input"
    builtins.input = ask_for_input
    try:
        while True:
            message = side.channel.receive()
            if message.get("kind") != "ask":
                break
            side.serve(message)
    except (Broken, MemoryError):
        pass
    finally:
        os._exit(0)
