"""The documents and pictures of a corpus folder, one after another: texts, JSON lines and Parquet, picture files.

    trouble = Trouble()
    for place, text in documents(Path("corpus"), trouble): ...
    for place, data in pictures(Path("corpus"), trouble): ...

Nothing is kept: memory holds one document, and of a Parquet file one batch of rows. What cannot be read is left out and
counted in `trouble`, by its reason, with the first place.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.types import JSON

TEXTS = (".txt", ".md", ".text")
LINES = (".jsonl", ".ndjson")
_NAMES = (*TEXTS, *LINES, ".parquet", *(f"{name}.gz" for name in (*TEXTS, *LINES)))
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_BATCH = 1000
_PICTURES_IN_A_BATCH = 16
_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
MOST_CHARACTERS = 1 << 20
"""A longer document comes in pieces, which overlap by `OVERLAP` characters."""
OVERLAP = 2000


@dataclass
class Trouble:
    """What was left out: reason -> how often, and where first."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def note(self, reason: str, place: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, place)


def corpus_files(folder: Path) -> list[Path]:
    """The files of a corpus, of text and pictures, in the order of their names. Raises `UsageError` where there are
    none."""
    if not folder.exists():
        raise UsageError(f"--corpus {folder}: there is no such file or folder")
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    known = [path for path in files if path.name.casefold().endswith((*_NAMES, *PICTURES))]
    if not known:
        raise UsageError(f"--corpus {folder}: holds no file of text ({', '.join(_NAMES)}) and no picture")
    return known


def documents(folder: Path, trouble: Trouble) -> Iterator[tuple[str, str]]:
    """(place, text) of each document: `FILE`, `FILE:LINE` or `FILE row N`. Raises `UsageError` as `corpus_files`."""
    for path in corpus_files(folder):
        name = str(path.relative_to(folder)) if path != folder else path.name
        if name.casefold().endswith(PICTURES):
            continue
        try:
            for place, text in _in_file(path, name, trouble):
                if not text.strip():
                    trouble.note("an empty document", place)
                    continue
                for start in range(0, max(1, len(text) - OVERLAP), MOST_CHARACTERS):
                    yield place, text[start : start + MOST_CHARACTERS + OVERLAP]
        except (OSError, EOFError, ValueError) as error:  # pyarrow's errors are ValueErrors and OSErrors
            trouble.note(f"a file that cannot be read to its end ({type(error).__name__})", name)


def pictures(folder: Path, trouble: Trouble) -> Iterator[tuple[str, bytes]]:
    """(place, bytes) of each picture: of the files, and of columns of Parquet that hold them, alone or as `bytes`."""
    for path in corpus_files(folder):
        name = str(path.relative_to(folder)) if path != folder else path.name
        try:
            if name.casefold().endswith(PICTURES):
                yield name, path.read_bytes()
            elif name.casefold().endswith(".parquet"):
                for place, row in _parquet_rows(path, name, _PICTURES_IN_A_BATCH):
                    yield from ((place, data) for data in _bytes_of(row) if data.startswith(_STARTS))
        except (OSError, ValueError) as error:
            trouble.note(f"a file that cannot be read to its end ({type(error).__name__})", name)


def _bytes_of(value: Any) -> Iterator[bytes]:
    """Every value of bytes in a row, a column or a list."""
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _bytes_of(item)


def _in_file(path: Path, name: str, trouble: Trouble) -> Iterator[tuple[str, str]]:
    plain = path.name.casefold().removesuffix(".gz")
    if plain.endswith(".parquet"):
        for place, row in _parquet_rows(path, name, _BATCH):
            yield place, "\n".join(texts_of(row))
        return
    with gzip.open(path, "rb") if path.name.casefold().endswith(".gz") else path.open("rb") as stream:
        if plain.endswith(TEXTS):
            yield from _in_text(stream, name, trouble)
            return
        for number, line in enumerate(stream, 1):
            place = f"{name}:{number}"
            try:
                value = json.loads(line) if line.strip() else ""
            except (ValueError, RecursionError):
                trouble.note("a broken line", place)
                continue
            yield place, "\n".join(texts_of(value))


def _in_text(stream: Any, name: str, trouble: Trouble) -> Iterator[tuple[str, str]]:
    """A text file, in pieces of whole lines where it is long."""
    held: list[str] = []
    size, number, start = 0, 0, 1
    for number, line in enumerate(stream, 1):
        text = line.decode("utf-8", "replace")
        if "\ufffd" in text:
            trouble.note("a line that is no UTF-8, read with gaps", f"{name}:{number}")
        held.append(text)
        size += len(text)
        if size >= MOST_CHARACTERS:
            yield f"{name}:{start}", "".join(held)
            held, start = held[-20:], max(1, number - 19)  # what stands across the cut is in the next piece
            size = sum(map(len, held))
            if size >= MOST_CHARACTERS:
                held, size, start = [], 0, number + 1
    if held or not number:
        yield (name if start == 1 else f"{name}:{start}"), "".join(held)


def _parquet_rows(path: Path, name: str, batch_size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a Parquet file, of which one batch is in memory."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=batch_size):
            for row in batch.to_pylist():
                yield f"{name} row {number}", row
                number += 1


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a value (a row, a column, a list), in its order; numbers and keys are no texts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_of(item)


def row_texts(doc: Mapping[str, JSON], media: Iterable[str] = ()) -> Iterator[str]:
    """Every text of a row, in its order. media: names of columns that hold no text to read."""
    left_out = set(media)
    return texts_of({name: value for name, value in doc.items() if name not in left_out})
