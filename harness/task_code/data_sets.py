"""Rows as a data set of `datasets`, which the Python of task files is given them as.

Loaded by its path into the process that runs task code (process.py): no module of this project is imported in here.
"""

from __future__ import annotations

import contextlib
import datetime
from typing import Any


def dataset(rows: list[Any], features: Any, label: str) -> Any:
    import datasets

    datasets.disable_caching()
    datasets.disable_progress_bars()
    with contextlib.suppress(AttributeError):
        datasets.config.HF_DATASETS_OFFLINE = True
    names = dict.fromkeys([*(features or {}), *(name for row in rows for name in row)])
    columns = {name: [row.get(name) for row in rows] for name in names}
    kinds = datasets.Features()
    for name, values in columns.items():
        columns[name], kinds[name] = _column(values, (features or {}).get(name))
    return datasets.Dataset.from_dict(columns, features=kinds, split=datasets.NamedSplit(label))


def _column(values: list[Any], written: Any) -> tuple[list[Any], Any]:
    """The values of a column and their type. written: the type as its source has it; without, or where the values are
    not of it, the one that `datasets` finds in them."""
    import datasets

    if written is not None:
        with contextlib.suppress(Exception):  # a type of another version of `datasets`, or sounds, which need a package
            kind = datasets.Features.from_dict({"it": written})
            if str(getattr(kind["it"], "dtype", "")).startswith(("timestamp", "date")):
                values = [datetime.datetime.fromisoformat(value) if value else None for value in values]
            datasets.Dataset.from_dict({"it": values}, features=kind)
            return values, kind["it"]
    are_images = (
        isinstance(value, dict) and set(value) == {"bytes", "path"} and isinstance(value["bytes"], bytes)
        for value in values
    )
    if written is None and any(are_images):
        return values, datasets.Image()
    return values, datasets.Dataset.from_dict({"it": values}).features["it"]
