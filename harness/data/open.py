"""One door to rows: whichever source has a split, it comes back as `Rows` with a fingerprint.

rows = open_dataset(DatasetSpec("openai/gsm8k", "main", mirrors=("data",)), "test", registry.hook)
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import functools
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from harness.data.locations import BUILDERS, file_source, hub_split, is_on_hub, mirror_folders
from harness.errors import DataError
from harness.plugin_values import shown
from harness.types import JSON, DatasetSpec, Rows

_HUB_NAMES = {"hf": "Hugging Face", "modelscope": "ModelScope"}


def open_dataset(spec: DatasetSpec, split: str, hook: Any) -> Rows:
    """Return the rows of one split from the first source that has them, and remember them in this process.

    `hook` is `Registry.hook`. Two threads that ask for one split load it once. Raises DataError when no source has
    the split, or the one that should have it cannot give it.
    """
    key = json.dumps([dataclasses.asdict(spec), split], sort_keys=True, default=str)
    with _OPENING:
        lock, opened = _place_of(hook, key)
    with lock:
        found = list(opened)  # another thread may let go of it
        if not found:
            found = opened[:] = [load_split(spec, split, hook)]
        _remember(opened, len(found[0].rows))
        return found[0]


MANY = 50_000
_OPENING = threading.Lock()
_REMEMBERED: dict[int, tuple[list[Rows], int]] = {}
"""Where rows are remembered, and how many: by the place's own number, the one that was asked for last at the end."""


@functools.lru_cache(maxsize=1024)
def _place_of(hook: Any, key: str) -> tuple[threading.Lock, list[Rows]]:
    """Where the rows of a split are remembered, and the lock of whoever loads them; others load meanwhile."""
    return threading.Lock(), []


def _remember(opened: list[Rows], count: int) -> None:
    """Let go of the splits that were asked for longest ago while all together have more than `MANY` rows."""
    with _OPENING:
        _REMEMBERED.pop(id(opened), None)
        left = MANY - count - sum(n for _, n in _REMEMBERED.values())
        while left < 0 and _REMEMBERED:
            place, n = _REMEMBERED.pop(next(iter(_REMEMBERED)))
            place.clear()
            left += n
        _REMEMBERED[id(opened)] = opened, count


def forget_large() -> None:
    """Let go of splits of more than `MANY` rows: samples hold what they need of them, and no second copy is kept."""
    with _OPENING:
        for number, (opened, count) in list(_REMEMBERED.items()):
            if count > MANY:
                opened.clear()
                del _REMEMBERED[number]


def make_rows(rows: Sequence[Mapping[str, JSON]], origin: str, features: JSON = None) -> Rows:
    """Wrap the rows of a split. A source calls this last; `origin` says in words where the rows came from.

    features: the types of the columns as `datasets` writes them; those that the file itself names by default.
    """
    return Rows(rows, fingerprint(rows, origin), origin, features=features or getattr(rows, "features", None))


_BYTES_OF_SPECIAL = {
    datetime.datetime: datetime.datetime.isoformat,
    datetime.date: datetime.date.isoformat,
    datetime.time: datetime.time.isoformat,
    datetime.timedelta: datetime.timedelta.total_seconds,
    decimal.Decimal: str,
}


def plain(value: Any) -> JSON:
    """What stands for a value that JSON does not know: ISO 8601 for times, a hash for bytes. TypeError for others."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    for kind, convert in _BYTES_OF_SPECIAL.items():
        if isinstance(value, kind):
            return convert(value)  # type: ignore[operator]
    raise TypeError(f"a value of type {type(value).__name__} has no place in a row")


_CANONICAL = json.JSONEncoder(
    check_circular=False, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False, default=plain
).encode


def fingerprint(rows: Sequence[Mapping[str, JSON]], where: str = "rows") -> str:
    """SHA-256 over the rows in their order, each as JSON with sorted keys: the same for the same rows from any file.

    1 and "1" differ, as do a key that is absent and one that is null. Bytes count by their own hash.
    """
    digest = hashlib.sha256()
    for number, row in enumerate(rows, 1):
        try:
            digest.update(_CANONICAL(row).encode("utf-8", "surrogatepass"))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{where}: row {number} cannot be kept as JSON: {error}") from error
        digest.update(b"\n")
    return digest.hexdigest()


def load_split(spec: DatasetSpec, split: str, hook: Any) -> Rows:
    """`open_dataset` for rows that are needed once: nothing is remembered."""
    try:
        rows: object = hook.harness_open_dataset(spec=spec, split=split)
    except OSError as error:
        raise DataError(f"{dataset_title(spec)}, split '{split}': cannot be read: {error}") from error
    if rows is None:
        title = dataset_title(spec)
        others = [hub for hub in _HUB_NAMES if hub != spec.hub and is_on_hub(spec, hub)]
        if others and not is_on_hub(spec, spec.hub):
            hub = _HUB_NAMES[spec.hub]
            title += f": has no id on {hub} (add `sources: {{{spec.hub}: ID}}` to the task, or use --hub {others[0]})"
        raise DataError(f"{title}, split '{split}': no source has it; {remedy(spec, split)}")
    if not isinstance(rows, Rows) or isinstance(rows.rows, str | Mapping) or not hasattr(rows.rows, "__getitem__"):
        given = shown(rows.rows if isinstance(rows, Rows) else rows)
        raise DataError(f"{dataset_title(spec)}, split '{split}': its source gave {given}, where Rows are due")
    if len(rows.rows) == 0:
        raise DataError(f"{dataset_title(spec)}, split '{split}': is empty ({rows.origin})")
    return rows


def dataset_title(spec: DatasetSpec) -> str:
    """How errors call a dataset: `dataset 'openai/gsm8k' (main)`."""
    named = (
        source.get("repo", source.get("path")) if isinstance(source, Mapping) else source
        for source in spec.sources.values()
    )
    name = spec.path or next(filter(None, named), "without `dataset_path`")
    return f"dataset '{name}'" + (f" ({spec.name})" if spec.name else "")


def remedy(spec: DatasetSpec, split: str) -> str:
    """What a user can do about rows that cannot be had, in words that end an error's line."""
    advice = []
    if place := _place_in_mirror(spec, split):
        advice.append(f"give --data DIR (or HARNESS_DATA) with DIR/{place}")
    other = "modelscope" if spec.hub == "hf" else "hf"
    if spec.path not in BUILDERS and is_on_hub(spec, other):
        advice.append(f"try --hub {other}")
    if not (set(spec.sources) == {"local"} and not spec.path):  # rows that are given to those who ask for them
        advice.append("make DIR where there is a network by `harness data pull TASK --to DIR`")
    return ", or ".join(advice)


def _place_in_mirror(spec: DatasetSpec, split: str) -> str:
    """Where a user can put a file by hand: as its repository has it, or by the layout of hubs."""
    with suppress(DataError):  # the task names no file for this split
        source = file_source(spec, split)
        if source and source.repository:
            return str(PurePosixPath("github", source.repository, source.patterns[0]))
    own = hub_split(spec, "local", split)
    if own and own.patterns:
        return str(PurePosixPath(own.path, own.patterns[0]))
    places = mirror_folders(spec, split)
    path = PurePosixPath(places[0].path, places[0].name or "", places[0].split) if places else None
    return f"{path}.jsonl (or .csv, .parquet ...)" if path else ""
