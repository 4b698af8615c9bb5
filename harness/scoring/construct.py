"""Makes a metric, a filter or a modifier from its options, with an error that names what is wrong with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from harness.errors import UsageError, only_failures, suggest
from harness.types import JSON

T = TypeVar("T")


def construct(
    kind: str,
    name: str,
    find: Callable[[str], type[T]],
    options: Mapping[str, JSON],
    where: str,
    idle: Collection[str] = (),
) -> T:
    """Return `find(name)(**options)`.

    `kind` is `metric`, `filter` or `modifier`; `where` names the task file or the flag and starts each message. idle:
    options that mean nothing where the class does not take them. Raises `UsageError` for an unknown name, an option
    that is unknown or missing, and a value that the class refuses.
    """
    place = f"{where}: " if where else ""
    try:
        cls = find(name)
    except UsageError as error:
        raise UsageError(f"{place}{error}") from error
    takes = inspect.signature(cls).parameters
    options = {option: value for option, value in options.items() if option in takes or option not in idle}
    _check_names(kind, name, cls, options, place)
    try:
        return cls(**options)
    except UsageError as error:
        raise UsageError(f"{place}{kind} '{name}': {error}") from error
    except BaseException as error:
        only_failures(error)
        cause = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{place}{kind} '{name}' refuses its options: {cause}") from error


def _check_names(kind: str, name: str, cls: type[T], options: Mapping[str, JSON], place: str) -> None:
    parameters = dict(inspect.signature(cls).parameters)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    takes = ", ".join(parameters) or "none"
    for option in options:
        if option not in parameters:
            near = suggest(option, parameters)
            raise UsageError(f"{place}{kind} '{name}' takes no option '{option}'{near} (it takes: {takes})")
    for parameter in parameters.values():
        if parameter.default is parameter.empty and parameter.name not in options:
            raise UsageError(f"{place}{kind} '{name}' needs the option '{parameter.name}' (it takes: {takes})")
