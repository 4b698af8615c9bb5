"""The answers that are on disk, by the keys of their requests. Memory holds where each is, and not what it says."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.column import Column
from harness.record.codec import decode_responses, parse_line
from harness.types import Response

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


_RECENT = 10_000
"""So many answers may come before all are sorted anew, and an eighth of those that are."""


class KnownAnswers(Mapping[str, Response]):
    """Request key -> answer, for all answers without error; of several answers to a key, the last.

    Some 13 bytes an answer, 17 in files of 4 GiB and more, and 12 more once one is looked for. Answers are read back
    from their lines: files may grow while answers are looked for, and once they are written anew all is to be
    forgotten.
    """

    def __init__(self) -> None:
        self._hashes, self._offsets, self._files = array("q"), Column(), Column()
        self._names: list[Path] = []
        self._sorted: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]] | None = None
        """The hashes of the first answers in their order, and where each stands in the columns; equal ones in the order
        they came."""
        self._recent: dict[int, int] = {}
        """Hash -> where it stands, of the answers behind those."""

    def learn(self, file: Path, keys: Iterable[str], offset: int) -> Sequence[int]:
        """Remember the line that begins at `offset` of `file`, which has answers to these keys. Returns their hashes,
        which are the same in every process."""
        hashes = list(map(_hash, keys))
        self.learn_hashes(file, hashes, offset)
        return hashes

    def learn_hashes(self, file: Path, hashes: Iterable[int], offset: int) -> None:
        """Do as `learn`, which has given these hashes."""
        if file not in self._names:
            self._names.append(file)
        for key_hash in hashes:
            if self._sorted is not None:
                self._recent[key_hash] = len(self._hashes)
            self._hashes.append(key_hash)
            self._offsets.append(offset)
            self._files.append(self._names.index(file))

    def forget(self) -> None:
        """Know no answer any more."""
        self._hashes, self._offsets, self._files = array("q"), Column(), Column()
        self._sorted, self._recent = None, {}

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def __len__(self) -> int:
        return len(set(self._hashes))

    def __iter__(self) -> Iterator[str]:
        last = {key_hash: at for at, key_hash in enumerate(self._hashes)}
        for key_hash, at in last.items():
            yield next(key for key in self._answers(at) if _hash(key) == key_hash)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._place(key) is not None

    def get(self, key: str, default: Response | None = None) -> Response | None:  # type: ignore[override]
        at = self._place(key)
        return default if at is None else self._answers(at).get(key, default)

    def __getitem__(self, key: str) -> Response:
        at = self._place(key)
        if at is None:
            raise KeyError(key)
        return self._answers(at)[key]

    def _place(self, key: str) -> int | None:
        """Where a key stands in the columns; for one that is not there, hardly ever, that of another one."""
        if not self._hashes:
            return None
        key_hash = _hash(key)
        if (recent := self._recent.get(key_hash)) is not None:
            return recent
        hashes, order = self._index()
        at = int(hashes.searchsorted(key_hash, side="right")) - 1
        return None if at < 0 or hashes[at] != key_hash else int(order[at])

    def _index(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
        """The sorted ones; all of them, where many came since they were sorted."""
        if self._sorted is None or len(self._recent) > _RECENT + len(self._sorted[0]) // 8:
            import numpy as np

            hashes = np.frombuffer(self._hashes, dtype=np.int64)
            order = np.argsort(hashes, kind="stable").astype(np.uint32)
            self._sorted, self._recent = (hashes[order], order), {}
        return self._sorted

    def _answers(self, at: int) -> dict[str, Response]:
        """All answers of the line in which an answer is."""
        with self._names[self._files[at]].open("rb") as handle:
            handle.seek(self._offsets[at])
            fields = parse_line(handle.readline())
        return dict(zip(fields["request_keys"], decode_responses(fields), strict=True))


def _hash(key: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True
    )
