"""What goes to and from the process that runs the Python of task files: values, and answers of the right shape."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from harness.errors import DataError

_DEEPEST = 200


def _is_rows(made: Any) -> bool:
    return isinstance(made, list) and all(isinstance(row, dict) for row in made)


def _is_names(made: Any) -> bool:
    return isinstance(made, list) and all(isinstance(name, str) for name in made)


SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "load": lambda made: (
        isinstance(made, dict) and all(isinstance(made.get(key), list) for key in ("names", "files", "filters"))
    ),
    "class": lambda made: (
        isinstance(made, dict) and isinstance(made.get("keys"), dict) and isinstance(made.get("methods"), list)
    ),
    "requests": lambda made: (
        isinstance(made, list) and all(isinstance(one, list) and list(map(type, one)) == [str, list] for one in made)
    ),
    "media": lambda made: isinstance(made, list),
    "give": lambda made: isinstance(made, int),
    "rows": _is_names,
    "take": _is_rows,
    "samples": _is_rows,
    "splits": _is_names,
    "values": lambda made: (
        _is_rows(made) and all(isinstance(value, dict) for values in made for value in values.values())
    ),
    "score": lambda made: isinstance(made, dict),
    "offer": lambda made: isinstance(made, dict) and isinstance(made.get("tools"), list),
    "play": lambda made: isinstance(made, dict) and isinstance(made.get("observations"), list),
}
"""What an answer looks like, by what was asked for. The code can write anything in its place."""


def encoded(value: Any) -> Any:
    """A value of a row as the messages have it: bytes as tagged text."""
    if isinstance(value, Mapping):
        return {str(key): encoded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [encoded(item) for item in value]
    if isinstance(value, tuple):
        return {"__tuple__": [encoded(item) for item in value]}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"__bytes__": base64.b64encode(bytes(value)).decode("ascii")}
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return encoded(value.tolist())
    return value


def decoded(value: Any, depth: int = 0) -> Any:
    """A value of a message as a row holds it. What only Python can hold is shown as it prints. Raises `DataError`."""
    if depth > _DEEPEST:
        raise DataError(f"a value is nested more than {_DEEPEST} times")
    if isinstance(value, list):
        return [decoded(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if "__tuple__" in value:
            return [decoded(item, depth + 1) for item in value["__tuple__"]]
        if "__bytes__" in value:
            try:
                return base64.b64decode(value["__bytes__"])
            except (TypeError, ValueError) as error:
                raise DataError(f"bytes of a value cannot be read: {error}") from None
        if "__time__" in value:
            return value["__time__"]
        if "__kept__" in value:
            return str(value.get("shown", ""))
        return {key: decoded(item, depth + 1) for key, item in value.items()}
    return value
