"""How much memory weights will take, without reading them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from harness.engine import FLOAT_DTYPES, read_files, stored_tensors

_NEVER_QUANTISED = ("embed", "lm_head", "shared.weight", "wte", "wpe")
# Bytes a weight, with its share of a scale: 4 bits (a float32 for 64 of them), and 8 bits.
_LOW_BYTES = {True: 0.5 + 4 / 64, False: 1.0}


def stored_bytes(folder: Path, dtype: Any, low_bits: Any, is_quantised: bool) -> int | None:
    """Bytes that a folder's weights will take when they are loaded as `dtype`, or with `low_bits`.

    None where only reading them would tell: no safetensors, or no folder. Tied weights are stored, and counted, once.
    """
    files = [file for file in read_files(folder) if file.suffix == ".safetensors"]
    if not files:
        return None
    total = 0.0
    for entry_name, entry in (found for file in files for found in stored_tensors(file)):
        start, end = entry["data_offsets"]
        # Codes and their scales stay as they are stored; what was left whole becomes `dtype`, in any model.
        is_code = is_quantised and not (entry["dtype"] in FLOAT_DTYPES and entry_name.endswith((".weight", ".bias")))
        if is_code or not entry["dtype"].startswith(("F", "BF")):
            total += end - start
            continue
        values = math.prod(entry["shape"])
        # What bitsandbytes leaves as it is: vectors, embeddings and the head.
        whole = not low_bits or len(entry["shape"]) < 2 or any(part in entry_name for part in _NEVER_QUANTISED)
        total += values * (dtype.itemsize if whole else _LOW_BYTES[low_bits.load_in_4bit])
    return int(total)
