"""A sequence of any length in bounded memory: few values are a list, of many all but a block lie in a temporary file.

    samples = Spool(build_samples(...))
    for sample in samples: ...          # as often as wanted, each time anew from the file

The file has no name: whatever ends the process takes it away.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import operator
import os
import pickle
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, TypeVar, overload

from harness.column import Column
from harness.errors import SaveError
from harness.files import remedy

T = TypeVar("T")
FEW = 20_000
"""So many values are kept in memory as they are."""
BLOCK = 256
"""About so many values are written and read at once. Within a block equal objects that were one stay one."""


class Spool(Sequence[T]):
    """Values in the order in which they were appended. Those that come back from the file are equal, not the same.

    block: how many are read at once, `BLOCK` by default; 1 where they are looked up in any order. Raises SaveError
    where the temporary folder has no room.
    """

    def __init__(self, values: Iterable[T] = (), *, block: int = 0) -> None:
        self._block = block or BLOCK
        self._several = max(1, BLOCK // self._block)
        self._last: list[T] = []
        """The values behind those that are in the file."""
        self._ends = Column([0])
        self._file: IO[bytes] | None = None
        self._read: tuple[int, list[T]] = (-1, [])
        self.extend(values)

    def append(self, value: T) -> None:
        self._last.append(value)
        if len(self._last) >= (FEW if self._file is None else self._several * self._block):
            self._write()

    def extend(self, values: Iterable[T]) -> None:
        for value in values:
            self.append(value)

    def __len__(self) -> int:
        return self._written + len(self._last)

    def __iter__(self) -> Iterator[T]:
        block = 0
        while (last := min(block + self._several, len(self._ends) - 1)) > block:
            data, ends = memoryview(self._bytes(block, last)), self._ends[block : last + 1]
            for begin, end in itertools.pairwise(ends):
                yield from pickle.loads(data[begin - ends[0] : end - ends[0]])
            block = last
        yield from self._last

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = operator.index(index)
        at += len(self) if at < 0 else 0
        if not 0 <= at < len(self):
            raise IndexError(index)
        if at >= self._written:
            return self._last[at - self._written]
        block, place = divmod(at, self._block)
        if self._read[0] != block:
            self._read = block, self._load(block)
        return self._read[1][place]

    def __eq__(self, other: object) -> bool:
        """As of a list, with which it may be compared."""
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def _written(self) -> int:
        return (len(self._ends.numbers) - 1) * self._block

    def _write(self) -> None:
        """Put whole blocks of what is in memory into the file."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="harness-", buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            whole = len(self._last) // self._block * self._block
            at_once = self._several * self._block
            for first in range(0, whole, at_once):
                stream, begin, ends = io.BytesIO(), self._ends[-1], []
                for start in range(first, min(first + at_once, whole), self._block):
                    _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(self._last[start : start + self._block])
                    ends.append(begin + stream.tell())
                left = stream.getbuffer()
                while left:
                    left = left[self._file.write(left) :]
                self._ends.extend(ends)
        except OSError as error:
            folder, cause = tempfile.gettempdir(), error.strerror or error
            raise SaveError(
                f"{folder}: rows and prompts cannot be kept there while the command works: {cause}; {remedy(error)}, "
                "or name another folder in TMPDIR, and run the same command again"
            ) from error
        del self._last[:whole]

    def _load(self, block: int) -> list[T]:
        values: list[T] = pickle.loads(self._bytes(block, block + 1))
        return values

    def _bytes(self, first: int, last: int) -> bytes:
        """What the file holds of the blocks from `first` until before `last`."""
        assert self._file is not None
        ends = self._ends.numbers
        start, end = ends[first], ends[last]
        if hasattr(os, "pread"):  # a process that was forked, and another thread, have places of their own
            return os.pread(self._file.fileno(), end - start, start)
        self._file.seek(start)
        data = self._file.read(end - start)
        self._file.seek(0, os.SEEK_END)
        return data


class _Pickler(pickle.Pickler):
    """Pickles frozen dataclasses by their fields, in a third of the time."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind not in _FIELDS:
            frozen = dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
            names = [field.name for field in dataclasses.fields(kind)] if frozen else []
            _FIELDS[kind] = operator.attrgetter(*names) if len(names) > 1 else None
        fields = _FIELDS[kind]
        return NotImplemented if fields is None else (kind, fields(value))


_FIELDS: dict[type, Callable[[Any], tuple[Any, ...]] | None] = {}
"""What gives the fields of a frozen dataclass, in their order; None for all other types."""
