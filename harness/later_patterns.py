"""Regular expressions that are compiled when they are first used: most commands use few of the many that a module has.

_DEGREES = later_pattern(r"(?<=[\\d)}])\\s*(?:degrees?\\b|度(?!\\w))")
_DEGREES.search(text)
"""

from __future__ import annotations

import re
from typing import Any, cast

_METHODS = tuple(name for name in dir(re.Pattern) if not name.startswith("_"))


def later_pattern(pattern: str, flags: re.RegexFlag | int = 0) -> re.Pattern[str]:
    """`re.compile(pattern, flags)`, at its first use. For its methods alone: the functions of `re` do not take it."""
    return cast("re.Pattern[str]", _Later(pattern, flags))


class _Later:
    def __init__(self, pattern: str, flags: re.RegexFlag | int) -> None:
        self._arguments = pattern, flags

    def __reduce__(self) -> tuple[Any, ...]:
        return later_pattern, self._arguments

    def __getattr__(self, name: str) -> Any:
        if name not in _METHODS:
            raise AttributeError(f"a pattern has no attribute '{name}'")
        compiled = re.compile(*self._arguments)
        vars(self).update({each: getattr(compiled, each) for each in _METHODS})  # from now on found without this
        return getattr(compiled, name)
