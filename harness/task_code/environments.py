"""Environments: functions of a task's Python that a model's calls run, on a state that they change.

Runs in the process of task code alone. A function is plain Python, `lend(state, book: str) -> str`, whose signature
and docstring say what a model is offered; or a class with `get_info()` and `invoke(data, ...)`, as tau-bench has them.
"""

from __future__ import annotations

import collections
import hashlib
import inspect
import json
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

_KINDS = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
_REMEMBERED = 64
"""States of conversations that are under way: some megabytes each. One that is forgotten is made again from its
actions."""
_played: collections.OrderedDict[str, _Play] = collections.OrderedDict()


class _Play:
    """A conversation's state, and what was returned in it."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.observations: list[str] = []

    @property
    def digest(self) -> str:
        """A hash of the state; equal states have equal ones."""
        try:
            text = json.dumps(self.state, sort_keys=True)
        except (TypeError, ValueError):  # sets, objects, keys of several types
            text = repr(_ordered(self.state))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def offered(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """The functions as JSON Schemas {name, description, parameters}."""
    return [_schema(tool) for tool in tools]


def played(
    place: Any, tools: Sequence[Any], make: Callable[..., Any], row: Any, actions: list[Any], *, is_over: bool = False
) -> _Play:
    """A conversation in which `actions` were done, from a fresh state on.

    place: the environment and the row, as JSON has them. make: makes the state, of the row where it takes one.
    is_over: whether nothing will follow, so that its state need not be remembered.
    """
    play = _played.pop(_key(place, actions[:-1]), None)
    if play is None:
        play = _Play(make(row) if make is not dict and inspect.signature(make).parameters else make())
    by_name = {_schema(tool)["name"]: tool for tool in tools}
    for name, arguments in actions[len(play.observations) :]:
        play.observations.append(_acted(by_name.get(name), name, play.state, arguments))
    if not is_over:
        _played[_key(place, actions)] = play
    while len(_played) > _REMEMBERED:
        _played.popitem(last=False)
    return play


def _key(place: Any, actions: list[Any]) -> str:
    return json.dumps([place, actions])


def _acted(tool: Any, name: str, state: Any, arguments: dict[str, Any]) -> str:
    """What a call returns, as text. What it raises is told to the model, which may do better."""
    if tool is None:
        return f"Unknown action {name}"
    try:
        made = tool.invoke(data=state, **arguments) if hasattr(tool, "invoke") else tool(state, **arguments)
        return made if isinstance(made, str) else json.dumps(made, ensure_ascii=False)
    except Exception as error:
        return f"Error: {error}"


def _schema(tool: Any) -> dict[str, Any]:
    if hasattr(tool, "get_info"):
        info = tool.get_info()
        return dict(info.get("function", info))
    _, *parameters = inspect.signature(tool).parameters.values()  # the first is the state
    hints = typing.get_type_hints(tool)
    required = [each.name for each in parameters if each.default is each.empty]
    properties = {each.name: _kind(hints.get(each.name)) for each in parameters}
    return {
        "name": tool.__name__,
        "description": inspect.getdoc(tool) or "",
        "parameters": {"type": "object", "properties": properties, "required": required},
    }


def _kind(hint: Any) -> dict[str, Any]:
    """The JSON Schema of a type; empty where it is none that JSON has."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [each for each in inner if each is not type(None)]
        return _kind(kinds[0]) if len(kinds) == 1 else {}
    if origin is typing.Literal:
        return {**_kind(type(inner[0])), "enum": list(inner)}
    if origin is list:
        return {"type": "array", "items": _kind(inner[0])}
    kind = _KINDS.get(origin or hint)
    return {"type": kind} if kind else {}


def _ordered(value: Any) -> Any:
    """A state in which what has no order has one, so that equal states print alike."""
    if isinstance(value, dict):
        return [(key, _ordered(item)) for key, item in sorted(value.items(), key=lambda pair: repr(pair[0]))]
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_ordered(item) for item in value), key=repr)
    return value if isinstance(value, str | int | float | bool | bytes | None) else _ordered(vars(value))
