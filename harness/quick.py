"""`dataclass`, for frozen values, in a quarter of the time that it takes to define one, and half of that to make one.

A command defines 150 of them before it does anything: of each, the decorator of `dataclasses` compiles six methods,
which here are the same functions for all classes, but for `__init__`. That of a frozen class asks `object.__setattr__`
for each field, and a run makes a dozen such values for each sample; here each field's own descriptor is asked.

    from harness.quick import dataclass

    @dataclass(frozen=True, slots=True)
    class Point:
        x: float
        y: float = 0.0

Classes with other options, and those that derive from a dataclass, are made by `dataclasses`.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass

    __all__ = ["dataclass"]
else:

    def dataclass(kind: type | None = None, /, **options: bool) -> Any:
        """`dataclasses.dataclass`: the class differs in nothing that can be seen from outside."""
        if kind is None:
            return lambda kind: dataclass(kind, **options)
        is_derived = any(hasattr(base, "__dataclass_fields__") for base in kind.__bases__)
        if options != {"frozen": True, "slots": True} or is_derived:
            return dataclasses.dataclass(**options)(kind)
        made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(kind)
        fields = dataclasses.fields(made)
        if not all(field.init and not field.kw_only for field in fields):
            raise TypeError(f"{kind.__name__}: a field that is no plain argument needs the decorator of `dataclasses`")
        compared = [field.name for field in fields if field.compare] or ["__class__"]
        values = attrgetter(*compared, *compared[:1])  # a tuple, also of one field
        own = vars(made)
        methods = {
            "__init__": _init(made, fields),
            "__repr__": own.get("__repr__", _shown),
            "__eq__": own.get("__eq__", _equality(values)),
            # A class that defines `__eq__` alone has this as None.
            "__hash__": own.get("__hash__") or _hashed(values),
            "__setattr__": _set_what_is_free,
            "__delattr__": _delete_what_is_free,
            "__getstate__": own.get("__getstate__", _state),
            "__setstate__": own.get("__setstate__", _restore),
        }
        for name, method in methods.items():
            setattr(made, name, method)
        for name in ("init", "repr", "eq", "frozen"):
            setattr(made.__dataclass_params__, name, True)
        return made


def _init(kind: type, fields: tuple[dataclasses.Field[Any], ...]) -> Callable[..., None]:
    known: dict[str, Any] = {"__absent__": dataclasses.MISSING}
    given, lines = [], []
    for field in fields:
        name = field.name
        known[f"set_{name}"] = getattr(kind, name).__set__  # of the slot
        if field.default is not dataclasses.MISSING:
            known[f"default_{name}"] = field.default
            given.append(f"{name}=default_{name}")
        elif field.default_factory is not dataclasses.MISSING:
            known[f"make_{name}"] = field.default_factory
            given.append(f"{name}=__absent__")
            lines.append(f" if {name} is __absent__: {name} = make_{name}()")
        else:
            given.append(name)
        lines.append(f" set_{name}(self, {name})")
    if hasattr(kind, "__post_init__"):
        lines.append(" self.__post_init__()")
    exec(f"def __init__(self, {', '.join(given)}):\n" + "\n".join(lines or [" pass"]), known)
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    made.__annotations__ = {**{field.name: field.type for field in fields}, "return": None}
    return made


def _equality(values: Callable[[Any], Any]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:  # noqa: N807
        if other.__class__ is not self.__class__:
            return NotImplemented
        return bool(values(self) == values(other))

    return __eq__


def _hashed(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


@reprlib.recursive_repr()
def _shown(self: Any) -> str:
    fields = [f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr]
    return f"{type(self).__qualname__}({', '.join(fields)})"


def _set_what_is_free(self: Any, name: str, value: object) -> None:
    if _is_fixed(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(self, name, value)


def _delete_what_is_free(self: Any, name: str) -> None:
    if _is_fixed(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
    object.__delattr__(self, name)


def _is_fixed(self: Any, name: str) -> bool:
    """Not so what a plain subclass adds."""
    return "__dataclass_fields__" in vars(type(self)) or name in self.__dataclass_fields__


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
