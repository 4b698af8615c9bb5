"""Which weights a folder or a file holds, known without reading all of it."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_SAMPLE_BYTES = 65536
_SAMPLES = 8
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# What a safetensors header calls the dtypes that models are computed in.
FLOAT_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights."""
    return [file for pattern in WEIGHTS for file in sorted(folder.glob(pattern))]


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


def stored_tensors(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, entry) from the header of a safetensors file: `shape`, `dtype` and `data_offsets`."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    yield from ((name, entry) for name, entry in header.items() if name != "__metadata__")


def stored_dtype(folder: Path) -> str | None:
    """The dtype of most values in a folder's safetensors, `bfloat16` for example; None where there are none."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    sizes: Counter[str] = Counter()
    for _, entry in (tensor for file in files for tensor in stored_tensors(file)):
        sizes[entry["dtype"]] += math.prod(entry["shape"])
    return FLOAT_DTYPES.get(sizes.most_common(1)[0][0]) if sizes else None


def short_hash(data: bytes) -> str:
    """16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]
