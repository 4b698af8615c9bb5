"""What metrics of whole sets keep of their samples, in as little memory as its kind allows.

    items = SetItems()
    items.append((0.5, 1.0))
    items.picked(places)        # some of them, in any order, as often as wanted

Tuples of numbers are kept in columns, values of which few are different once each, and all others in a file.
"""

from __future__ import annotations

import operator
import pickle
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, overload

import numpy as np
import numpy.typing as npt

from harness.spool import FEW, Spool

Places = npt.NDArray[np.int64]
_TYPE_CODES = {float: "d", int: "q", bool: "b"}
_AT_ONCE = 4096


class _Store(Protocol):
    def take(self, item: Any) -> bool:
        """Keep an item; False where it is none of the kind that is kept here."""

    def __len__(self) -> int: ...

    def at(self, places: Places) -> list[Any]:
        """The items at some places."""


class _Columns:
    """Tuples of numbers, all of the same types."""

    def __init__(self) -> None:
        self._kinds: tuple[type, ...] = ()
        self._columns: list[array[Any]] = []

    def take(self, item: Any) -> bool:
        kinds = tuple(map(type, item)) if type(item) is tuple else ()
        if not self._columns and set(kinds) <= _TYPE_CODES.keys():
            self._kinds, self._columns = kinds, [array(_TYPE_CODES[kind]) for kind in kinds]
        if not kinds or kinds != self._kinds or any(type(each) is int and abs(each) >> 63 for each in item):
            return False
        for column, value in zip(self._columns, item, strict=True):
            column.append(value)
        return True

    def __len__(self) -> int:
        return len(self._columns[0]) if self._columns else 0

    def at(self, places: Places) -> list[Any]:
        columns: list[npt.NDArray[Any]] = [
            np.frombuffer(column, dtype=kind) for column, kind in zip(self._columns, self._kinds, strict=True)
        ]
        return list(zip(*(column[places].tolist() for column in columns), strict=True))


class _FewDifferent:
    """Values that cannot change, each different one once."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._numbers: dict[bytes, int] = {}
        self._places = array("I")

    def take(self, item: Any) -> bool:
        try:
            hash(item)
            name = pickle.dumps(item)  # as keys of a dictionary 1, 1.0 and True would be the same
        except Exception:
            return False
        if name not in self._numbers:
            if len(self._values) == FEW:
                return False
            self._numbers[name] = len(self._values)
            self._values.append(item)
        self._places.append(self._numbers[name])
        return True

    def __len__(self) -> int:
        return len(self._places)

    def at(self, places: Places) -> list[Any]:
        return [self._values[number] for number in np.frombuffer(self._places, dtype=np.uint32)[places].tolist()]


class _Others:
    """Any values: in a file, or in memory where they cannot be written."""

    def __init__(self) -> None:
        self._values: Spool[Any] | list[Any] = Spool()

    def take(self, item: Any) -> bool:
        if isinstance(self._values, Spool):
            try:
                pickle.dumps(item)
            except Exception:
                self._values = list(self._values)
        self._values.append(item)
        return True

    def __len__(self) -> int:
        return len(self._values)

    def at(self, places: Places) -> list[Any]:
        return [self._values[place] for place in places.tolist()]

    def load(self) -> None:
        self._values = list(self._values)


class Picked(Sequence[Any]):
    """Items at some places of a store, made as they are looked at."""

    def __init__(self, store: _Store, places: Places) -> None:
        self._store, self._places = store, places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._store.at(self._places[start : start + _AT_ONCE])

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._store.at(self._places[index])
        at = operator.index(index)
        if not -len(self) <= at < len(self):
            raise IndexError(index)
        return self._store.at(self._places[at : at + 1 or None])[0]


class SetItems:
    """Items of a set, in their order."""

    def __init__(self) -> None:
        self._store: _Store = _Columns()
        self._next: list[type[_Store]] = [_FewDifferent, _Others]

    def __len__(self) -> int:
        return len(self._store)

    def append(self, item: Any) -> None:
        while not self._store.take(item):
            before, self._store = self.all(), self._next.pop(0)()
            self.extend(before)

    def extend(self, items: Iterable[Any]) -> None:
        for item in items:
            self.append(item)

    def all(self) -> Sequence[Any]:
        """All items: a list of few, and of many a sequence that makes each as it is looked at."""
        return self.picked(np.arange(len(self)))

    def picked(self, places: Places) -> Sequence[Any]:
        """The items at some places, in that order."""
        picked = Picked(self._store, places)
        return list(picked) if len(picked) <= FEW else picked

    def in_memory(self) -> None:
        """Make what lies in a file quick to look up in any order, for resamples of it."""
        if isinstance(self._store, _Others):
            self._store.load()
