"""The environment of prompts' templates: sandboxed, and with a limit for whatever in Jinja has no end of its own.

Loops within loops, macros that call themselves twice, texts that are doubled in a loop, a width of a thousand million:
a sandbox sees none of them. Here passes of loops and calls of macros are counted, and the size of a value is looked at
before it is made. What comes to a limit raises `EndlessTemplateError`, which names it.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinMethodType
from typing import Any, TypeVar

import jinja2
from jinja2 import nodes
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_STEPS = 1_000_000
"""Passes of all loops, and calls of macros, that one rendering may take."""
MAX_SIZE = 10_000_000
"""Characters of a rendered text, characters or items of any value on the way there, and bytes of a power."""

T = TypeVar("T")
_NUMBER = re.compile(r"\d+")
_PADDED = frozenset({"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "batch", "slice", "tojson", "round"})
"""Methods and filters that make so much of a text, a list or a number as a number says."""


class EndlessTemplateError(Exception):
    """A template takes more steps, or makes a larger value, than any prompt needs."""


class _Steps(threading.local):
    """How many steps the template has taken that this thread renders."""

    taken = 0


class _CodeGenerator(NativeCodeGenerator):
    @staticmethod
    def _output_const_repr(group: Iterable[Any]) -> str:
        """An expression without variables stays a value too: `{{ [{'name': 'add'}] }}` is a list, and not its text."""
        parts = list(group)
        return repr(parts[0] if len(parts) == 1 else Environment.concat(parts))


class Environment(ImmutableSandboxedEnvironment):
    """Renders to parts, each of them still the value that it was. Joined, they are the text that Jinja would give."""

    code_generator_class = _CodeGenerator
    intercepted_binops = frozenset(("*", "**", "+", "%"))

    @staticmethod
    def concat(parts: Iterable[Any]) -> str:
        return "".join(bounded(part if isinstance(part, str) else str(part) for part in parts))

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.steps = _Steps()
        for name in (*_PADDED, "format", "replace", "join"):
            if name in self.filters:
                self.filters[name] = _measured(name, self.filters[name])
        self.filters |= {"_counted": self._counted, "_step": _stepped, "_concat": self.concat}
        del self.globals["lipsum"]  # as long as it is asked for, and different in each run

    def _generate(self, source: nodes.Template, *args: Any, **options: Any) -> str:
        for loop in source.find_all(nodes.For):
            assert isinstance(loop.iter, nodes.Expr)
            loop.iter = _filtered(loop.iter, "_counted")
        macros: list[nodes.Macro | nodes.CallBlock] = [*source.find_all(nodes.Macro), *source.find_all(nodes.CallBlock)]
        for macro in macros:
            macro.body.insert(0, nodes.ExprStmt(_filtered(nodes.Const(0), "_step"), lineno=macro.lineno))
        _replace_concatenations(source)
        nodes.Template.set_environment(source, self)
        return super()._generate(source, *args, **options)

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self.step()
            yield value

    def step(self) -> None:
        self.steps.taken += 1
        if self.steps.taken > MAX_STEPS:
            raise EndlessTemplateError(f"its loops and macros take more than {MAX_STEPS:,} steps")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        size = 0.0
        if operator == "*":
            long, times = (left, right) if isinstance(right, int) else (right, left)
            if isinstance(long, str | list | tuple) and isinstance(times, int):
                size = len(long) * max(0, times)
        elif operator == "+":
            size = _length(left) + _length(right)
        elif operator == "%":
            size = _widths(left, right if isinstance(right, tuple) else (right,)) if isinstance(left, str) else 0
        elif isinstance(left, int) and isinstance(right, int):
            size = left.bit_length() * max(0, right) / 8
        _refuse(size, f"'{operator}'")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  # as it is in Jinja
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps `format`
        if isinstance(method, BuiltinMethodType) and isinstance(method.__self__, str | bytes):
            _refuse(_size_of(method.__name__, (method.__self__, *args), kwargs), f"'{method.__name__}'")
        return super().call(__context, __obj, *args, **kwargs)


def bounded(parts: Iterable[T]) -> Iterator[T]:
    """The parts of a rendering, until they are too long together."""
    size = 0
    for part in parts:
        size += _length(part)
        _refuse(size, "it")
        yield part


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _replace_concatenations(node: nodes.Node) -> None:
    """`a ~ b` as `[a, b] | _concat`: what Jinja makes of it is not told how long the texts are."""
    for child in node.iter_child_nodes():
        _replace_concatenations(child)
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Concat):
            setattr(node, name, _joined(value))
        elif isinstance(value, list):
            value[:] = [_joined(item) if isinstance(item, nodes.Concat) else item for item in value]


def _joined(node: nodes.Concat) -> nodes.Filter:
    return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_concat")


def _measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that looks at the size of its result first. What Jinja hands it before the value stays in its place."""
    before = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def measured(*args: Any, **options: Any) -> Any:
        _refuse(_size_of(name, args[before:], options), f"'{name}'")
        return function(*args, **options)

    return measured


def _size_of(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> float:
    """How many characters or items a method or filter makes of its first argument, at the most that is likely."""
    value, *others = args
    numbers = [abs(each) for each in (*others, *options.values()) if isinstance(each, int)]
    if name in _PADDED:
        places = str(value).count("\t" if name == "expandtabs" else "\n") + 1 if isinstance(value, str) else 1
        return max(numbers, default=0) * places
    if name in ("format", "format_map") and isinstance(value, str):
        return _widths(value, (*others, *options.values()))
    if name == "replace" and len(others) > 1 and all(isinstance(each, str) for each in (value, *others[:2])):
        return len(value) + float(value.count(others[0])) * len(others[1])
    if name == "join":
        items = others[0] if isinstance(value, str) and others and isinstance(others[0], list | tuple) else value
        glue = value if items is not value else (others[0] if others else options.get("d", ""))
        if isinstance(items, list | tuple):
            return sum(map(_length, items)) + float(len(items)) * _length(glue)
    return 0.0


def _widths(text: str, values: Iterable[Any]) -> float:
    """The widths that a format asks for, as far as its text or its values say them, and the length of the texts."""
    given = [each for value in values for each in (value.values() if isinstance(value, Mapping) else (value,))]
    widths = [float(number) for number in _NUMBER.findall(text) if len(number) < 300] or [0.0]
    if "*" in text or "{" in text:  # a width may be one of the values
        widths += [float(abs(each)) for each in given if isinstance(each, int) and abs(each) < 10**300]
    asks_for_width = ("%" in text and "*" in text) or bool(re.search(r"%[-+ #0(\w)]*[1-9]|\{[^{}]*:", text))
    return max(widths) * asks_for_width + sum(map(_length, given))


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


def _refuse(size: float, what: str) -> None:
    if size > MAX_SIZE:
        raise EndlessTemplateError(f"{what} makes a value of more than {MAX_SIZE:,} characters")


@jinja2.pass_context  # a filter that asks for the context is not evaluated when a template is compiled
def _stepped(context: jinja2.runtime.Context, value: Any) -> Any:
    assert isinstance(context.environment, Environment)
    context.environment.step()
    return value
