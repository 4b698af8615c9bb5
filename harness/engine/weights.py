"""Which weights a folder or a file holds, known without reading all of it."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.words import Phrase, phrase

_SAMPLE_BYTES = 65536
_SAMPLES = 8
_SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "preprocessor_config.json")
_POINTER = b"version "  # how the text begins that stands for a file in a clone without Git LFS
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# What a safetensors header calls the dtypes that models are computed in.
FLOAT_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights."""
    return [file for pattern in WEIGHTS for file in sorted(folder.glob(pattern)) if file.is_file()]


def weights_fingerprint(files: Iterable[Path]) -> str:
    """A hash of the files' names, sizes and samples of their bytes.

    The first 64 KiB hold a safetensors header; eight more blocks are spread over the file.
    """
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}\n".encode())
        with file.open("rb") as stream:
            for index in range(_SAMPLES + 1):
                stream.seek(max(0, size - _SAMPLE_BYTES) * index // _SAMPLES)
                digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def read_files(folder: Path) -> list[Path]:
    """The files of weights that transformers reads, of all that lie in a folder; [] where there is no folder.

    Raises:
        UsageError: An index of shards is no index, or names a file that is not there.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            return _shards(index)
    return weight_files(folder) if folder.is_dir() else []


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        shards = [index.parent / name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError):
        shards = []
    if not shards:
        fault = phrase("is damaged: it has no JSON with a 'weight_map' of names to files")
        raise UsageError(phrase("{file} {fault}; get the model again", file=index, fault=fault))
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        first, others = missing[0], len(missing) - 1
        lacking = phrase("{names} and {n} more", names=first, n=others) if others else first
        raise UsageError(
            phrase(
                "{folder} lacks {names}, which {index} names; get the model again",
                folder=index.parent, names=lacking, index=index.name,
            )
        )  # fmt: skip
    return shards


def check_checkpoint(folder: Path) -> None:
    """See that the settings and the weights in a model's folder are whole, a shard each. Raises UsageError."""
    check_files([*(folder / name for name in _SETTINGS if (folder / name).is_file()), *read_files(folder)])


def check_files(files: Iterable[Path]) -> None:
    """See that files of JSON and of weights are whole, from their headers and sizes.

    Raises:
        UsageError: One is empty, cut, unreadable or of another format.
    """
    for file in files:
        try:
            fault = _fault(file)
        except OSError as error:
            raise UsageError(phrase("{file} cannot be read: {error}", file=file, error=error.strerror)) from None
        if fault:
            raise UsageError(phrase("{file} {fault}; get the model again", file=file, fault=fault))


def _fault(file: Path) -> Phrase | None:
    size = file.stat().st_size
    if not size:
        return phrase("is empty")
    with file.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(_POINTER):
        return phrase("is a pointer of Git LFS, and what it stands for was not fetched (git lfs pull)")
    if file.suffix == ".json":
        return None if _is_object(file.read_bytes()) else phrase("is damaged: it holds no JSON object")
    if file.suffix == ".safetensors":
        expected = max((entry["data_offsets"][1] for _, entry in stored_tensors(file)), default=0)
        expected += 8 + struct.unpack("<Q", start)[0]
        if size == expected:
            return None
        return phrase(
            "is damaged, or was not copied to its end: it has {size:,} bytes where its header announces {expected:,}",
            size=size, expected=expected,
        )  # fmt: skip
    # What torch writes is a zip archive, whose directory stands at the end; before torch 1.6 it was a pickle.
    is_whole = zipfile.is_zipfile(file) or start.startswith(b"\x80")
    return None if is_whole else phrase("is damaged, or was not copied to its end: it is no archive of torch")


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def stored_tensors(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, entry) from the header of a safetensors file: `shape`, `dtype` and `data_offsets`.

    Raises:
        UsageError: The file has no such header.
    """
    room = file.stat().st_size - 8
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= room:
            fault = phrase("is damaged, or was not copied to its end: its header is not whole")
            raise UsageError(phrase("{file} {fault}; get the model again", file=file, fault=fault))
        header = stream.read(length)
    try:
        entries = [(name, entry) for name, entry in json.loads(header).items() if name != "__metadata__"]
        numbers = [number for _, entry in entries for number in (*entry["shape"], *entry["data_offsets"])]
        is_header = all(type(number) is int for number in numbers) and all(
            isinstance(entry["dtype"], str) and len(entry["data_offsets"]) == 2 for _, entry in entries
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        is_header = False
    if not is_header:
        fault = phrase("is damaged: its header is not that of a safetensors file")
        raise UsageError(phrase("{file} {fault}; get the model again", file=file, fault=fault))
    return entries


def stored_dtype(folder: Path) -> str | None:
    """The dtype of most values in a folder's safetensors, `bfloat16` for example; None where there are none."""
    sizes: Counter[str] = Counter()
    for file in read_files(folder):
        for _, entry in stored_tensors(file) if file.suffix == ".safetensors" else ():
            sizes[entry["dtype"]] += math.prod(entry["shape"])
    return FLOAT_DTYPES.get(sizes.most_common(1)[0][0]) if sizes else None


def short_hash(data: bytes) -> str:
    """16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]
