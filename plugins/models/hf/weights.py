"""Which weights a folder holds, without reading them: their names, shapes, sizes, and a fingerprint for an identity."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.engine import weights_fingerprint

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
# What an adapter's configuration says about its origin and not about its arithmetic.
_ORIGIN = ("base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping")
_NEVER_QUANTISED = ("embed", "lm_head", "shared.weight", "wte", "wpe")
# Bytes a weight, with its share of a scale: 4 bits (a float32 for 64 of them), and 8 bits.
_LOW_BYTES = {True: 0.5 + 4 / 64, False: 1.0}
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights."""
    return [file for pattern in WEIGHTS for file in sorted(folder.glob(pattern))]


def fingerprint(folder: Path) -> str:
    """A hash that tells the folder's weights from others."""
    return weights_fingerprint(weight_files(folder))


def adapter_identity(peft: str | None) -> Any:
    """What is known of an adapter: its weights, and the settings that scale them."""
    if peft is None:
        return None
    folder = Path(peft)
    if not folder.is_dir():
        return {"name": peft}
    stored = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    settings = {key: value for key, value in stored.items() if key not in _ORIGIN}
    return {
        "name": folder.resolve().name,
        "weights": weights_fingerprint([folder / name for name in _ADAPTER if (folder / name).exists()]),
        "config": short_hash(json.dumps(settings, sort_keys=True).encode()),
    }


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
    for _, entry in (found for file in files for found in stored_tensors(file)):
        sizes[entry["dtype"]] += math.prod(entry["shape"])
    return _DTYPES.get(sizes.most_common(1)[0][0]) if sizes else None


def stored_bytes(folder: Path, dtype: Any, low_bits: Any, is_quantised: bool) -> int | None:
    """Bytes that a folder's weights will take when they are loaded as `dtype`, or with `low_bits`.

    None where only reading them would tell: no safetensors, or no folder. Tied weights are stored, and counted, once.
    """
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        return None
    total = 0.0
    for entry_name, entry in (found for file in files for found in stored_tensors(file)):
        start, end = entry["data_offsets"]
        # Codes and their scales stay as they are stored; what was left whole becomes `dtype`, in any model.
        is_code = is_quantised and not (entry["dtype"] in _DTYPES and entry_name.endswith((".weight", ".bias")))
        if is_code or not entry["dtype"].startswith(("F", "BF")):
            total += end - start
            continue
        values = math.prod(entry["shape"])
        # What bitsandbytes leaves as it is: vectors, embeddings and the head.
        whole = not low_bits or len(entry["shape"]) < 2 or any(part in entry_name for part in _NEVER_QUANTISED)
        total += values * (dtype.itemsize if whole else _LOW_BYTES[low_bits.load_in_4bit])
    return int(total)


def short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def is_path(text: str) -> bool:
    """Whether a name can only be a path: ids on the hub have one slash at most and start with a letter or digit."""
    return text.startswith((".", "~", os.sep)) or text.count("/") > 1
