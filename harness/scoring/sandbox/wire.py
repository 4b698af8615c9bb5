"""How values travel between a program that nobody trusts and the process that tests it. Standard library alone.

A message is JSON behind its length. Values are copied by type, so that nothing of the sender's code runs at the
receiver: a list is a list there, whatever its `__eq__` was here. Containers are numbered nodes, which keeps cycles and
shared parts, and lets the receiver say which of them it has changed. What has no copy stays where it is.
"""

from __future__ import annotations

import abc
import base64
import collections
import datetime
import decimal
import enum
import fractions
import json
import os
import select
from collections.abc import Callable, Iterator
from typing import Any

Node = list[Any]
MOST_BYTES = 64 << 20
_MOST_INT = 1 << 1000  # larger ones travel as hexadecimal digits, which are read in linear time
_FIELDS: dict[type, tuple[str, ...]] = {
    datetime.date: ("year", "month", "day"),
    datetime.time: ("hour", "minute", "second", "microsecond"),
    datetime.datetime: ("year", "month", "day", "hour", "minute", "second", "microsecond"),
    datetime.timedelta: ("days", "seconds", "microseconds"),
}
_MOMENTS = {cls.__name__: cls for cls in _FIELDS}
_MUTABLE = frozenset({"list", "dict", "set", "bytearray", "deque", "OrderedDict", "defaultdict", "Counter", "object"})
_DICTS: dict[type, str] = {
    dict: "dict",
    collections.OrderedDict: "OrderedDict",
    collections.defaultdict: "defaultdict",
    collections.Counter: "Counter",
}


class Broken(BaseException):
    """The other side has ended, or says what makes no sense. No `except Exception` of a test may catch it."""


class Unpassable(TypeError):
    """A value that cannot be handed to the other side."""


class Channel:
    """Messages over a pair of descriptors. `alive` is asked while nothing comes."""

    def __init__(self, source: int, target: int, alive: Callable[[], bool] = lambda: True) -> None:
        self._source, self._target, self._alive = source, target, alive
        self._got = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        if len(body) > MOST_BYTES:
            raise MemoryError(f"a value of more than {MOST_BYTES >> 20} MB")
        data = memoryview(len(body).to_bytes(8, "big") + body)
        try:
            while data:
                data = data[os.write(self._target, data) :]
        except OSError as error:
            raise Broken(str(error)) from None

    def receive(self) -> dict[str, Any]:
        size = int.from_bytes(self._read(8), "big")
        if size > MOST_BYTES:
            raise Broken("a message without end")
        try:
            message = json.loads(self._read(size))
        except (ValueError, RecursionError) as error:
            raise Broken(f"a message that is none: {error}") from None
        if not isinstance(message, dict):
            raise Broken("a message that is none")
        return message

    def _read(self, size: int) -> bytes:
        while len(self._got) < size:
            if not select.select([self._source], [], [], 0.05)[0]:
                if self._alive() or select.select([self._source], [], [], 0)[0]:
                    continue
                raise Broken("it has ended")
            try:
                chunk = os.read(self._source, 1 << 20)
            except OSError as error:
                raise Broken(str(error)) from None
            if not chunk:
                raise Broken("it has ended")
            self._got += chunk
        data = bytes(self._got[:size])
        del self._got[:size]
        return data


class Codec:
    """Values as nodes, and back. `Peer` says what is done with those that have no copy."""

    def __init__(self) -> None:
        self.classes: dict[str, type] = {}
        """Classes that both sides have; their instances are copied."""

    def export(self, value: Any, atom: Callable[[Any], Any]) -> Node:
        raise Unpassable(f"a value of type {type(value).__name__}")

    def restore(self, node: Node, value: Callable[[Any], Any]) -> Any:
        raise Broken(f"a value of an unknown kind: {node[0]}")

    def encode(self, values: list[Any], known: dict[int, int] | None = None) -> tuple[list[Any], list[Node], list[Any]]:
        """Return what stands for the values, the nodes that it refers to, and the object behind each node.

        known: id of an object -> its node in the message that is answered: `[-1 - node]`.
        """
        nodes: list[Node] = []
        objects: list[Any] = []
        places: dict[int, int] = {}

        def atom(value: Any) -> Any:
            kind = type(value)
            if value is None or kind is bool or kind is str or kind is float:
                return value
            if kind is int and -_MOST_INT < value < _MOST_INT:
                return value
            if known is not None and id(value) in known:
                return [-1 - known[id(value)]]
            place = places.get(id(value))
            if place is None:
                place = places[id(value)] = len(objects)
                objects.append(value)
                nodes.append([])
            return [place]

        atoms = [atom(value) for value in values]
        done = 0
        while done < len(objects):  # grows meanwhile
            nodes[done] = self._node(objects[done], atom)
            done += 1
        return atoms, nodes, objects

    def _node(self, value: Any, atom: Callable[[Any], Any]) -> Node:
        kind = type(value)
        if kind is list or kind is tuple or kind is set or kind is frozenset:
            return [kind.__name__, *map(atom, value)]
        if kind in _DICTS:
            return [_DICTS[kind], *(atom(part) for item in value.items() for part in item)]
        if kind is int:
            return ["int", hex(value)]
        if kind is bytes or kind is bytearray:
            return [kind.__name__, base64.b64encode(value).decode()]
        if kind is complex:
            return ["complex", value.real, value.imag]
        if kind is range or kind is slice:
            return [kind.__name__, atom(value.start), atom(value.stop), atom(value.step)]
        if kind is collections.deque:
            return ["deque", value.maxlen, *map(atom, value)]
        if kind is decimal.Decimal:
            return ["Decimal", str(value)]
        if kind is fractions.Fraction:
            return ["Fraction", atom(value.numerator), atom(value.denominator)]
        if kind in _FIELDS and getattr(value, "tzinfo", None) is None:
            return ["moment", kind.__name__, *(getattr(value, name) for name in _FIELDS[kind])]
        if value is Ellipsis:
            return ["Ellipsis"]
        if self.classes.get(kind.__name__) is kind and isinstance(value, enum.Enum):
            return ["member", kind.__name__, value.name]
        if self.classes.get(kind.__name__) is kind:
            return ["object", kind.__name__, *(atom(part) for item in state_of(value).items() for part in item)]
        return self._subclass(value, atom) or self.export(value, atom)

    def _subclass(self, value: Any, atom: Callable[[Any], Any]) -> Node | None:
        """A value whose class is derived from a builtin one, as that one: what its own methods say is left behind."""
        kind = type(value)
        if isinstance(value, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
            return ["namedtuple", kind.__name__, list(kind._fields), *map(atom, tuple.__iter__(value))]
        for base, plain in _PLAIN.items():
            if isinstance(value, base):
                copied = plain(value)
                return ["same", atom(copied)] if type(copied) in (int, str, float) else self._node(copied, atom)
        return None

    def decode(
        self, atoms: Any, nodes: Any, known: dict[int, Any] | None = None
    ) -> tuple[list[Any], dict[int, Any], list[tuple[int, Any]]]:
        """Return the values, the object of each node that can be changed, and a shallow copy of each of these.

        Raises `Broken` for what makes no sense, whatever it is.
        """
        try:
            reader = _Reader(self, nodes, known or {})
            values = [reader.value(atom) for atom in atoms]
            reader.fill()
            return values, reader.mutable, [(place, contents(item)) for place, item in reader.mutable.items()]
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"a value that is none: {type(error).__name__}: {error}") from None


class _Reader:
    def __init__(self, codec: Codec, nodes: list[Node], known: dict[int, Any]) -> None:
        self._codec, self._nodes, self._known = codec, nodes, known
        self._built: dict[int, Any] = {}
        self._empty: list[tuple[Any, Node]] = []
        self.mutable: dict[int, Any] = {}

    def value(self, atom: Any) -> Any:
        if type(atom) is not list:
            if type(atom) is dict:
                raise ValueError("a mapping where a value should be")
            return atom
        (place,) = atom
        if place < 0:
            return self._known[-1 - place]
        if place not in self._built:
            node = self._nodes[place]
            self._built[place] = item = self._shell(node)
            if node[0] in _MUTABLE:
                self.mutable[place] = item
        return self._built[place]

    def _shell(self, node: Node) -> Any:
        """The object of a node: complete, or, where it can be changed, empty as yet."""
        kind = node[0]
        if kind == "tuple" or kind == "frozenset":
            return (tuple if kind == "tuple" else frozenset)([self.value(item) for item in node[1:]])
        if kind == "same":
            return self.value(node[1])
        if kind == "int":
            return int(node[1], 16)
        if kind == "bytes":
            return base64.b64decode(node[1])
        if kind == "complex":
            return complex(node[1], node[2])
        if kind == "range" or kind == "slice":
            return (range if kind == "range" else slice)(*map(self.value, node[1:]))
        if kind == "Decimal":
            return decimal.Decimal(node[1])
        if kind == "Fraction":
            return fractions.Fraction(self.value(node[1]), self.value(node[2]))
        if kind == "moment":
            return _MOMENTS[node[1]](*node[2:])
        if kind == "Ellipsis":
            return Ellipsis
        if kind == "namedtuple":
            return collections.namedtuple(node[1], node[2])(*map(self.value, node[3:]))
        if kind == "member":
            return self._codec.classes[node[1]][node[2]]  # type: ignore[index]
        if kind not in _MUTABLE:
            return self._codec.restore(node, self.value)
        if kind == "object":
            cls = self._codec.classes[node[1]]
            shell: Any = object.__new__(cls)
        elif kind == "bytearray":
            return bytearray(base64.b64decode(node[1]))
        elif kind == "deque":
            shell = collections.deque(maxlen=node[1])
        else:
            shell = {
                "list": list, "dict": dict, "set": set, "OrderedDict": collections.OrderedDict,
                "defaultdict": collections.defaultdict, "Counter": collections.Counter,
            }[kind]()  # fmt: skip
        self._empty.append((shell, node))
        return shell

    def fill(self) -> None:
        """Fill what is empty. What is hashed comes last: an object's hash may need its attributes."""
        hashed: list[tuple[Any, Node]] = []
        while self._empty or hashed:
            if self._empty:
                shell, node = self._empty.pop()
                if node[0] in ("list", "deque"):
                    shell.extend([self.value(item) for item in node[1 if node[0] == "list" else 2 :]])
                elif node[0] == "object":
                    set_state(shell, dict(_pairs(map(self.value, node[2:]))))
                else:
                    for item in node[1:]:
                        self.value(item)
                    hashed.append((shell, node))
                continue
            shell, node = hashed.pop()
            if node[0] == "set":
                shell.update([self.value(item) for item in node[1:]])
            else:
                shell.update(_pairs(map(self.value, node[1:])))


def _pairs(items: Iterator[Any]) -> dict[Any, Any]:
    return {key: next(items) for key in items}


_PLAIN: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    str: str.__str__,
    float: float.__pos__,
    bytes: lambda value: bytes(bytes.__iter__(value)),
    bytearray: lambda value: bytearray(bytearray.__iter__(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}


def state_of(value: Any) -> dict[str, Any]:
    """The attributes of an object, from its `__dict__` and its slots."""
    state = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                state[name] = getattr(value, name)
    return state


def set_state(value: Any, state: dict[str, Any]) -> None:
    for name in state_of(value).keys() - state.keys():
        object.__delattr__(value, name)
    for name, part in state.items():
        object.__setattr__(value, name, part)


def contents(value: Any) -> Any:
    """What a container holds, in a plain one of its own."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | set | bytearray | collections.deque):
        return list(value)
    return list(state_of(value).items())


def has_changed(value: Any, before: Any) -> bool:
    now = contents(value)
    if len(now) != len(before):
        return True
    for new, old in zip(now, before, strict=True):
        if new is old:
            continue
        if type(new) is tuple and type(old) is tuple and len(new) == len(old) == 2:
            if new[0] is old[0] and new[1] is old[1]:
                continue
        elif type(new) is int and type(old) is int and new == old:
            continue
        return True
    return False


def replace_contents(value: Any, other: Any) -> None:
    """Make a container hold what `other`, of the same type, holds."""
    if isinstance(value, list | bytearray):
        value[:] = other
    elif isinstance(value, dict | set):
        value.clear()
        value.update(other)
    elif isinstance(value, collections.deque):
        value.clear()
        value.extend(other)
    else:
        set_state(value, state_of(other))


class Peer(Codec, abc.ABC):
    """One end of a conversation: it asks the other to do something, and does meanwhile what the other asks.

    A request's arguments are copies there; what the other side has changed in them comes back with its answer.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel
        self._asked = 0

    def handle(self, what: str, values: list[Any]) -> Any:
        """Do what the other side asks for, and return its result."""
        raise Broken(f"a request of an unknown kind: {what}")

    @abc.abstractmethod
    def describe_error(self, error: BaseException) -> dict[str, Any]:
        """What the other side is told of an exception that its request ended in."""

    @abc.abstractmethod
    def raise_error(self, message: dict[str, Any]) -> None:
        """Raise what stands for the exception that the other side tells of."""

    def receive_other(self, message: dict[str, Any]) -> None:
        raise Broken(f"a message of an unknown kind: {message.get('kind')}")

    def ask(self, what: str, *values: Any) -> Any:
        """Ask the other side, and return its result or raise its exception."""
        self._asked += 1
        number = self._asked
        atoms, nodes, objects = self.encode(list(values))
        self.channel.send({"kind": "ask", "number": number, "what": what, "values": atoms, "nodes": nodes})
        while True:
            message = self.channel.receive()
            kind = message.get("kind")
            if kind == "ask":
                self.serve(message)
            elif kind in ("result", "error") and message.get("number") == number:
                break
            else:
                self.receive_other(message)
        mutable = {place: item for place, item in enumerate(objects) if nodes[place][0] in _MUTABLE}
        result = self._take_changes(message, mutable)
        if kind == "error":
            self.raise_error(message)
        return result

    def _take_changes(self, message: dict[str, Any], mutable: dict[int, Any]) -> Any:
        """Change what the other side has changed of a request's arguments; return its result."""
        changed = message.get("changed", {})
        try:
            atoms = [message.get("value"), *changed.values()]
            places = [int(place) for place in changed]
            values, _, _ = self.decode(atoms, message.get("nodes", []), mutable)
            for place, new in zip(places, values[1:], strict=True):
                if type(new) is not type(mutable[place]):
                    raise ValueError("a container of another type")
                replace_contents(mutable[place], new)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise Broken(f"an answer that is none: {error}") from None
        return values[0]

    def serve(self, message: dict[str, Any]) -> None:
        """Do what a request asks for, and answer it."""
        number = message.get("number")
        values, mutable, before = self.decode(message.get("values"), message.get("nodes", []))
        answer: dict[str, Any]
        try:
            result = self.handle(str(message.get("what")), values)
            answer = self._answer(result, mutable, before)
        except Broken:
            raise
        except BaseException as error:
            answer = {**self._answer(None, mutable, before), **self.describe_error(error), "kind": "error"}
        self.channel.send({**answer, "number": number})

    def _answer(self, result: Any, mutable: dict[int, Any], before: list[tuple[int, Any]]) -> dict[str, Any]:
        changed = [place for place, old in before if has_changed(mutable[place], old)]
        known = {id(item): place for place, item in mutable.items()}
        # A changed container is sent as a new one of the same contents: its own number is that of the old one.
        copies = [_copy(mutable[place]) for place in changed]
        atoms, nodes, _ = self.encode([result, *copies], known)
        return {
            "kind": "result",
            "value": atoms[0],
            "nodes": nodes,
            "changed": dict(zip(map(str, changed), atoms[1:], strict=True)),
        }


def _copy(value: Any) -> Any:
    if isinstance(value, dict | list | set | bytearray | collections.deque):
        return value.copy()
    copied = object.__new__(type(value))
    set_state(copied, state_of(value))
    return copied


def printable(error: BaseException) -> str:
    """An exception on one line that is fit for a terminal, whatever its `__str__` does."""
    try:
        cause = " ".join(str(error)[:1000].split())[:300]
        cause = "".join(char if char.isprintable() else "?" for char in cause)
    except BaseException:
        cause = ""
    name = type(error).__name__
    return f"{name}: {cause}" if cause else name
