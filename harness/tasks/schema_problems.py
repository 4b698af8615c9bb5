"""What a schema finds wrong with a file, as one line in the words of YAML: file, line, key, and what it should be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.errors import TaskError, suggest
from harness.tasks.yaml_file import Document, KeyPath
from harness.types import JSON

MISSPELT = "misspelt"
"""The kind of problem whose message says all that there is to say."""


def first_problem(error: ValidationError, model: type[BaseModel], data: JSON, document: Document) -> TaskError:
    """The problem that lies deepest of those that come first in the file, as one line."""
    problems: dict[KeyPath, list[Any]] = {}
    for item in error.errors():
        problems.setdefault(_data_path(item["loc"], data), []).append(item)
    # Each branch of a union complains; the branch that got furthest is the one that was meant. A key that is missing
    # beside one that is unknown was misspelt.
    path = max(problems, key=lambda path: (len(path), problems[path][0]["type"] == "extra_forbidden"))
    items = problems[path]
    place = document.place(path)
    unknown = [item for item in items if item["type"] == "extra_forbidden"]
    if unknown:
        known = _fields(model, path[:-1])
        inside = f"in '{_dotted(path[:-1])}'" if path[:-1] else ""
        return TaskError(f"{place}: {unknown_key(str(path[-1]), known, inside)}")
    missing = [item for item in items if item["type"] == "missing"]
    if missing:
        inside = f" in '{_dotted(path[:-1])}'" if path[:-1] else ""
        return TaskError(f"{place}: missing key '{path[-1]}'{inside}")
    whats = dict.fromkeys(in_our_words(item["msg"]) for item in items)
    if not path:
        return TaskError(f"{place}: {' or '.join(whats)}")
    if items[0]["type"] == MISSPELT:
        return TaskError(f"{place}: {_dotted(path)}: {items[0]['msg']}")
    value = items[0]["input"]
    empty = any(item["type"] in ("too_short", "string_too_short") for item in items)
    expected = "something, not empty" if empty else " or ".join(whats)
    hint = " (a text needs quotes)" if "valid string" in expected and isinstance(value, int | float) else ""
    if "valid integer" in expected and isinstance(value, str) and value.strip().isdecimal():
        hint = " (a number takes no quotes)"
    if "valid number" in expected and isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value):
        mantissa, _, exponent = value.lower().partition("e")
        hint = f" (YAML reads it as a text: write {mantissa}.0e{int(exponent):+d})"
    return TaskError(f"{place}: {_dotted(path)}: should be {expected}, found {_describe(value)}{hint}")


def in_our_words(message: str, verb: str = "") -> str:
    """pydantic's words in those of a YAML file. `verb` stands before what a value should be."""
    if not message.startswith("Input should be "):
        return message.removeprefix("Value error, ")
    what = verb + message.removeprefix("Input should be ")
    if name := re.fullmatch(r"a valid dictionary or instance of (\w+)", what):
        first = {"MetricEntry": "metric", "FilterStepEntry": "function", "FilterEntry": "name"}.get(name[1])
        return "a mapping of keys to values" + (f", as in `{first}: NAME`" if first else "")
    return what


def unknown_key(key: str, known: Mapping[str, Any], inside: str) -> str:
    """What is wrong with a key that is none of the known ones, or stands in the wrong place."""
    if key in known:
        return f"key '{key}' cannot stand here" + (f" ({inside})" if inside else "")
    return f"unknown key '{key}'" + (f" {inside}" if inside else "") + suggest(key, known)


def _data_path(loc: Sequence[str | int], data: JSON) -> KeyPath:
    """Where in the file a problem is: pydantic's location without the names of union branches."""
    path: list[str | int] = []
    for position, step in enumerate(loc):
        if isinstance(data, dict) and step in data:
            data = data[str(step)]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        elif position == len(loc) - 1 and isinstance(data, dict) and isinstance(step, str) and step.isidentifier():
            if step in ("str", "int", "float", "bool"):
                continue
        else:
            continue
        path.append(step)
    return tuple(path)


def _fields(model: type[BaseModel], path: KeyPath) -> Mapping[str, Any]:
    """The keys that may stand at `path`."""
    current: Any = model
    named = False  # whether the next step is a name that the author chose
    for step in path:
        if isinstance(step, int) or named:
            named = False
            continue
        field = current.model_fields.get(step)
        nested = _model_in(field.annotation) if field else None
        if nested is None or field is None:
            return {}
        named = get_origin(field.annotation) is dict
        current = nested
    return {} if named else dict(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, list, dict, Annotated):
        return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
    return None


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _describe(value: JSON) -> str:
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 60 else f"'{value[:60]}...'"
    return "a list" if isinstance(value, list) else "a mapping"
