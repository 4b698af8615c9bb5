"""The side of the tests: it asks a program that it cannot trust for values, and compares them itself.

`Remote` stands for an object of the program: a function, a class, an instance. It can be called and looked into, but no
comparison with a value of the tests, and no arithmetic with one, is left to it: the answer would be its own verdict.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import math
import operator
import symtable
import sys
import types
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from harness.scoring.sandbox.wire import Broken, Channel, Node, Peer, Unpassable

# How modules are usually called where a program has imported them and its tests use them too.
_ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "sp": "scipy"}
_DEEPEST = 200


class Remote:
    """An object that lives in the program's process."""

    __slots__ = ("_Remote__number", "_Remote__side")

    def __init__(self, side: TestSide, number: int) -> None:
        object.__setattr__(self, "_Remote__side", side)
        object.__setattr__(self, "_Remote__number", number)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return _ask(self, "call", self, list(args), options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__qualname__", "__doc__", "__dict__", "__annotations__"):
            raise AttributeError(name)
        return _do(getattr, self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _do(setattr, self, name, value)

    def __delattr__(self, name: str) -> None:
        _do(delattr, self, name)

    def __iter__(self) -> Iterator[Any]:
        return _Items(_do(iter, self))

    def __next__(self) -> Any:
        return next(_Items(self))

    def __len__(self) -> int:
        return int(_do(len, self))

    def __bool__(self) -> bool:
        return bool(_plain(_do(bool, self)))

    def __getitem__(self, key: Any) -> Any:
        return _do(operator.getitem, self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _do(operator.setitem, self, key, value)

    def __delitem__(self, key: Any) -> None:
        _do(operator.delitem, self, key)

    def __contains__(self, item: Any) -> bool:
        return any(other is item or other == item for other in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and _same(self, other, 0)

    def __hash__(self) -> int:
        return hash(_number(self))

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and bool(_plain(_do(isinstance, value, self)))

    def __subclasscheck__(self, value: Any) -> bool:
        return isinstance(value, Remote) and bool(_plain(_do(issubclass, value, self)))

    def __str__(self) -> str:
        return str(_plain(_do(str, self)))

    def __repr__(self) -> str:
        return str(_plain(_do(repr, self)))

    def __format__(self, wanted: str) -> str:
        return str(_plain(_do(format, self, wanted)))

    def __int__(self) -> int:
        return int(_plain(_do(int, self)))

    def __float__(self) -> float:
        return float(_plain(_do(float, self)))

    def __index__(self) -> int:
        return int(_plain(_do(operator.index, self)))

    def __complex__(self) -> complex:
        return complex(_plain(_do(complex, self)))

    def __enter__(self) -> Any:
        return _do(getattr, self, "__enter__")()

    def __exit__(self, *error: object) -> None:
        _do(getattr, self, "__exit__")(None, None, None)

    def __copy__(self) -> Any:
        import copy

        return _do(copy.copy, self)

    def __deepcopy__(self, memo: object) -> Any:
        import copy

        return _do(copy.deepcopy, self)


class _Items:
    """The items of an iterator of the program."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __iter__(self) -> _Items:
        return self

    def __next__(self) -> Any:
        if not isinstance(self._iterator, Remote):
            return next(self._iterator)
        end = _side(self._iterator).end
        item = _ask(self._iterator, "next", self._iterator, end)
        if item is end:
            raise StopIteration
        return item


def _side(remote: Remote) -> TestSide:
    return remote._Remote__side  # type: ignore[no-any-return]


def _number(remote: Remote) -> int:
    return remote._Remote__number  # type: ignore[no-any-return]


def _ask(remote: Remote, what: str, *values: Any) -> Any:
    return _side(remote).ask(what, *values)


def _do(function: Callable[..., Any], remote: Remote, *args: Any) -> Any:
    return _side(remote).ask("call", function, [remote, *args], {})


def _plain(value: Any) -> Any:
    if isinstance(value, Remote):
        raise TypeError("an object of the program where a value should be")
    return value


def _same(first: Remote, second: Remote, depth: int) -> bool:
    """Whether two objects of the program are of one class and have the same attributes; their `__eq__` says nothing."""
    if _number(first) == _number(second):
        return True
    if depth > _DEEPEST:
        raise RecursionError("objects that are nested too deeply to be compared")
    mine, theirs = _ask(first, "state", first), _ask(second, "state", second)
    if not (isinstance(mine, tuple) and isinstance(theirs, tuple) and len(mine) == len(theirs) == 2):
        raise Broken("a state that is none")
    return bool(mine[0] == theirs[0] and mine[1] and mine[1] == theirs[1])


def _binary(function: Callable[[Any, Any], Any], swapped: bool) -> Callable[[Any, Any], Any]:
    def apply(self: Remote, other: Any) -> Any:
        both = isinstance(other, Remote)
        first, second = (other, self) if swapped else (self, other)
        result = _side(self).ask("call", function, [first, second], {})
        if both or isinstance(result, Remote):
            return result
        raise TypeError(f"the program's object decides {function.__name__} with a value of the tests")

    return apply


def _order(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(self: Remote, other: Any) -> Any:
        if not isinstance(other, Remote):
            return NotImplemented
        return bool(_plain(_do(function, self, other)))

    return apply


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda self: _do(function, self)


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
    "lshift",
    "rshift",
):
    _function = getattr(operator, f"__{_name}__")
    setattr(Remote, f"__{_name}__", _binary(_function, swapped=False))
    setattr(Remote, f"__r{_name}__", _binary(_function, swapped=True))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Remote, f"__{_name}__", _order(getattr(operator, f"__{_name}__")))
for _name, _function in (
    ("neg", operator.neg), ("pos", operator.pos), ("abs", abs), ("invert", operator.invert),
    ("trunc", math.trunc), ("floor", math.floor), ("ceil", math.ceil),
):  # fmt: skip
    setattr(Remote, f"__{_name}__", _unary(_function))


class TestSide(Peer):
    """Asks the program for what tests need of it."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self.end = _end_of_items  # a function: it comes back as what it is
        self._ours: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._exceptions: dict[int, type[BaseException]] = {}
        self._remotes: dict[int, Remote] = {}
        self.sources: dict[str, str] = {}
        """The classes that the tests define themselves, by name."""
        self.namespace: dict[str, Any] = {}

    def export(self, value: Any, atom: Callable[[Any], Any]) -> Node:
        if isinstance(value, Remote):
            return ["yours", _number(value)]
        kind = type(value)
        if isinstance(value, types.ModuleType):
            return ["name", value.__name__, ""]
        if isinstance(value, type) and self._shares(value):
            return ["class", value.__name__]
        if isinstance(value, type) and issubclass(value, BaseException) and value in self._exceptions.values():
            number = next(number for number, known in self._exceptions.items() if known is value)
            return ["yours", number]
        if name := _importable(value):
            return ["name", *name]
        if kind.__module__ == "numpy":
            return ["same", atom(value.item())] if not getattr(value, "shape", ()) else self._by_numpy(value, atom)
        if self._shares(kind):
            return self._node(value, atom)
        if isinstance(
            value, types.CoroutineType | BaseException
        ):  # what the program gave may not end its test undecided
            raise TypeError(f"a value of type {kind.__name__} cannot be handed to the program")
        if isinstance(value, Iterator):
            return ["iterator", self._count(value)]
        if callable(value):
            return ["function", self._count(value), str(getattr(value, "__name__", "function"))]
        raise Unpassable(f"the tests hand a value of type {kind.__name__} to the program, which cannot be done")

    def _by_numpy(self, value: Any, atom: Callable[[Any], Any]) -> Node:
        if value.dtype.kind not in "biufcUS":
            raise Unpassable(f"the tests hand an array of {value.dtype} to the program, which cannot be done")
        return ["array", value.dtype.str, list(value.shape), atom(value.tobytes())]

    def _count(self, value: Any) -> int:
        number = self._numbers.setdefault(id(value), len(self._numbers))
        self._ours[number] = value
        return number

    def _shares(self, cls: type) -> bool:
        """Whether both sides have a class; one that the tests define is handed over at its first use."""
        name = cls.__name__
        if name not in self.classes and name in self.sources and self.namespace.get(name) is cls:
            if any(base.__module__.startswith("unittest") for base in cls.__mro__):
                return False  # it holds the tests
            self.classes[name] = cls
            self.ask("class", name, self.sources[name])
        return self.classes.get(name) is cls

    def restore(self, node: Node, value: Callable[[Any], Any]) -> Any:
        kind = node[0]
        if kind == "reference":
            return self._remotes.setdefault(int(node[1]), Remote(self, int(node[1])))
        if kind == "yours":
            return self._ours[node[1]]
        if kind == "class":
            return self.classes[node[1]]
        if kind == "builtin":
            found = getattr(builtins, node[1])
            if isinstance(found, type):
                return found
        if kind == "exception":
            return self._exception(int(node[1]), str(node[2]), str(node[3]))
        if kind == "coroutine":
            return _coroutine(Remote(self, int(node[1])))
        if kind == "array":
            import numpy

            dtype = numpy.dtype(node[1])
            if dtype.kind in "biufcUS":
                return numpy.frombuffer(value(node[3]), dtype).reshape(node[2]).copy()
        if kind == "module":
            return _Module(str(node[1]))
        raise Broken(f"a value of an unknown kind: {kind}")

    def handle(self, what: str, values: list[Any]) -> Any:
        if what == "call":
            number, args, options = values
            function = self._ours[number]
            return function(*args, **options)
        if what == "next":
            try:
                return [next(self._ours[values[0]])]
            except StopIteration:
                return []
        if what == "readline":
            return sys.stdin.readline()
        if what == "input":
            return builtins.input(values[0])
        return super().handle(what, values)

    def receive_other(self, message: dict[str, Any]) -> None:
        if message.get("kind") != "output":
            super().receive_other(message)
        sys.stdout.write(str(message.get("text")))

    def describe_error(self, error: BaseException) -> dict[str, Any]:
        return {"base": type(error).__name__, "text": str(error), "nodes": [], "changed": {}}

    def raise_error(self, message: dict[str, Any]) -> None:
        base, name = str(message.get("base")), str(message.get("name"))
        (args,), _, _ = self.decode([message.get("args")], message.get("nodes", []))
        kind = self._exception(int(message.get("class", 0)), name, base)
        args = args if isinstance(args, list) else []
        text = str(message.get("text"))
        try:
            error = kind(*args)
            str(error)
        except Exception:
            error = kind(text.partition(": ")[2])
        error.in_program = text  # type: ignore[attr-defined]
        raise error

    def _exception(self, number: int, name: str, base: str) -> type[BaseException]:
        """The exception class of the program: a builtin one is that, any other one is derived from its builtin base.

        What would mean something to the interpreter or a test runner (SystemExit, the end of an iteration) is derived
        too, so that it can be told from the same of the tests' own.
        """
        kind = getattr(builtins, base, Exception)
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            kind = Exception
        if issubclass(kind, StopIteration | StopAsyncIteration | GeneratorExit):
            kind = RuntimeError
        if name == base and issubclass(kind, Exception):
            return kind
        if number not in self._exceptions:
            self._exceptions[number] = type(name, (kind,), {"__module__": "program"})
        return self._exceptions[number]


class _Module:
    """The name of a module that the program has imported."""

    def __init__(self, name: str) -> None:
        self.name = name


def _end_of_items() -> None:
    """Stands for the end of an iteration."""


async def _coroutine(remote: Remote) -> Coroutine[Any, Any, Any]:
    return _ask(remote, "await", remote)  # type: ignore[no-any-return]


def _importable(value: Any) -> tuple[str, str] | None:
    """The module and the name by which a function or a class of an installed module is found."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(value, type | types.BuiltinFunctionType | types.FunctionType) or not isinstance(name, str):
        return None
    if not isinstance(module, str) or module == "__main__" or module.startswith("harness.") or "<" in name:
        return None
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is value else None


def run_tests(side: TestSide, program: str, setup: str, tests: str) -> None:
    """Run a program, and its tests against it. Raises what went wrong.

    setup: what stands above the program's own part and belongs to the tests as well: helpers, classes. A function there
        that has no body yet is the program's to complete.
    """
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = side.namespace = module.__dict__
    helpers = _complete_parts(setup, program)
    classes = [node.name for node in helpers.body if isinstance(node, ast.ClassDef)]
    side.ask("load", program, classes)
    tests = tests.lstrip("\ufeff")
    tree = ast.parse(tests)
    exec(compile(helpers, "setup.py", "exec", dont_inherit=True), namespace)
    side.classes |= {name: cls for name in classes if isinstance(cls := namespace.get(name), type)}
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    side.ask("imports", [ast.unparse(node) for node in imports])
    side.sources = {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.ClassDef)}
    _bind(side, tests, namespace)
    _keep_texts_out(side, tests, namespace)
    exec(compile(tree, "tests.py", "exec", dont_inherit=True), namespace)


def _complete_parts(setup: str, program: str) -> ast.Module:
    """What of the text above a program is complete by itself: all but what the program goes on with or has to fill."""
    for ending in ("", "\n    pass\n", "\n        pass\n"):
        try:
            body = ast.parse(setup.lstrip("\ufeff") + ending).body
            whole = {ast.dump(node) for node in ast.parse(program.lstrip("\ufeff")).body}
        except (SyntaxError, ValueError):
            continue
        return ast.Module([node for node in body if ast.dump(node) in whole and not _is_stub(node)], [])
    return ast.Module([], [])


def _is_stub(node: ast.stmt) -> bool:
    """A function that does nothing yet, or a class of such."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return all(
            isinstance(part, ast.Pass)
            or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            or (isinstance(part, ast.Raise) and "NotImplementedError" in ast.unparse(part))
            for part in node.body
        )
    if isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
        return any(map(_is_stub, methods))
    return False


def _bind(side: TestSide, tests: str, namespace: dict[str, Any]) -> None:
    """Give the tests what they use of the program, under its names.

    A builtin's name is the builtin (`sorted` in a test is nobody's to replace), unless the tests use nothing else: then
    it is what they test.
    """
    free = _free_names(tests) - namespace.keys()
    texts = {
        node.value
        for node in ast.walk(ast.parse(tests))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    }
    given = side.ask("names", sorted((free | texts) - namespace.keys()))
    if not isinstance(given, dict):
        raise Broken("names that are none")
    own = {name: value for name, value in given.items() if isinstance(name, str) and not isinstance(value, _Module)}
    ordinary = {name for name in free if not hasattr(builtins, name)}
    for name, value in own.items():
        if not hasattr(builtins, name) or not ordinary:
            namespace[name] = value
    for name, value in given.items():
        if isinstance(value, _Module) and value.name in (name, _ALIASES.get(name)):
            namespace[name] = importlib.import_module(value.name)


def _keep_texts_out(side: TestSide, tests: str, namespace: dict[str, Any]) -> None:
    """Texts that tests evaluate may be the program's: they are run in its process."""

    def evaluate(text: Any, *scopes: Any) -> Any:
        try:
            return ast.literal_eval(text) if isinstance(text, str) else eval(text, *(scopes or (namespace,)))
        except (ValueError, SyntaxError):
            return side.ask("eval", text)

    def execute(text: Any, *scopes: Any) -> None:
        side.ask("exec", text)
        _bind(side, tests, namespace)

    namespace.update(eval=evaluate, exec=execute)


def _free_names(tests: str) -> set[str]:
    """The names that tests use and do not make themselves."""
    top = symtable.symtable(tests, "tests.py", "exec")
    made = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used: set[str] = set()
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        used |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (table is top or symbol.is_global())
        }
    return used - made - {"__name__", "__file__", "__doc__"}
