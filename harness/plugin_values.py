"""Values that plugins give, checked where they come in: numbers of numpy and torch become Python's, the rest is named.

number(np.float32(0.5), "logprobs[0]")     # 0.5
number("0.5", "logprobs[0]")               # TypeError: logprobs[0] is a number, not '0.5' (str)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any, SupportsFloat, cast

_SHOWN_CHARACTERS = 40


def number(value: object, what: str) -> float:
    """A finite number. Raises TypeError for what is none, ValueError for NaN and infinities; `what` names the value."""
    if type(value) is float and math.isfinite(value):
        return value
    plain = _scalar(value)
    if isinstance(plain, str | bytes | bytearray) or not hasattr(type(plain), "__float__"):
        raise TypeError(f"{what} is a number, not {shown(value)}")
    try:
        as_float = float(cast(SupportsFloat, plain))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{what} is a number, not {shown(value)}") from None
    if not math.isfinite(as_float):
        raise ValueError(f"{what} is {as_float}, which is not a finite number")
    return as_float


def integer(value: object, what: str) -> int:
    """A whole number. Raises TypeError for what is none; `what` names the value."""
    if type(value) is int:
        return value
    plain = _scalar(value)
    if isinstance(plain, bool):
        raise TypeError(f"{what} is a whole number, not {shown(value)}")
    try:
        return operator.index(plain)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{what} is a whole number, not {shown(value)}") from None


def flag(value: object, what: str) -> bool:
    """True or False. Raises TypeError for what is neither."""
    plain = value if isinstance(value, bool) else _scalar(value)
    if not isinstance(plain, bool):
        raise TypeError(f"{what} is True or False, not {shown(value)}")
    return plain


def text(value: object, what: str) -> str:
    """A text. Raises TypeError for what is none."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a text, not {shown(value)}")
    return str(value)


def items(value: object, what: str) -> list[object]:
    """What a list, tuple or array holds. Raises TypeError for a text, a number and what holds nothing."""
    if type(value) is tuple or type(value) is list:  # before the others, which are slow to tell
        return list(value)
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Iterable):
        raise TypeError(f"{what} is a tuple, not {shown(value)}")
    try:
        return list(value)
    except (TypeError, RuntimeError):  # an array without dimensions
        raise TypeError(f"{what} is a tuple, not {shown(value)}") from None


def mapping(value: object, what: str) -> dict[str, Any]:
    """What a mapping holds, by its names. Raises TypeError for what is none, and for names that are no texts."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} is a mapping, not {shown(value)}")
    return {text(name, f"a name in {what}"): item for name, item in value.items()}


def shown(value: object) -> str:
    """A value and its type, short enough for a line."""
    if value is None:
        return "None"
    try:
        written = " ".join(repr(value).split())
    except Exception:
        return f"a {type(value).__name__}"
    if len(written) > _SHOWN_CHARACTERS:
        return f"a {type(value).__name__} ({written[:_SHOWN_CHARACTERS]}...)"
    return f"{written} ({type(value).__name__})"


def _scalar(value: object) -> object:
    """The Python number of a numpy or torch scalar; anything else as it is."""
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        try:
            return item()
        except (TypeError, ValueError, RuntimeError):
            return value
    return value
