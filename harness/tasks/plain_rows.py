"""Rows as JSON keeps them, as templates see them, and how many of them a limit keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.data.open import plain
from harness.errors import DataError, UsageError
from harness.tasks.fewshot import Row
from harness.tasks.task import Subset
from harness.tasks.templates import Context
from harness.types import JSON


def plain_row(row: Row) -> Row:
    """The row as JSON keeps it: what is not a number (NaN, infinity) is null; times and bytes as the data door says."""
    if type(row) is not dict and not isinstance(row, Mapping):
        raise DataError(f"should be a mapping of columns to values, found {type(row).__name__}")
    if all(type(column) is str and type(value) in _JSON_SCALARS for column, value in row.items()):
        return row
    return {str(column): _plain_value(value) for column, value in row.items()}


_JSON_SCALARS = frozenset({str, int, bool, type(None)})


_DEEPEST = 400
"""Lists and mappings that may lie in one another: what walks through a row later needs a call or two for each."""


def _plain_value(value: Any, depth: int = 1) -> JSON:
    if type(value) in _JSON_SCALARS:
        return value
    if depth > _DEEPEST:
        raise DataError(f"a value is nested more than {_DEEPEST} times")
    if type(value) is list:  # before the others, which are slow to tell
        return [item if type(item) in _JSON_SCALARS else _plain_value(item, depth + 1) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain_value(item, depth + 1) for item in value]
    if hasattr(value, "tolist"):  # numpy
        return _plain_value(value.tolist(), depth)
    if isinstance(value, str | int):
        return value
    try:
        return plain(value)
    except TypeError as error:
        raise DataError(str(error)) from error


def row_context(row: Row, subset: Subset) -> Context:
    """What templates see of a row."""
    return {**row, "subset": subset.context} if subset.name else row


def row_count(limit: int | float | None, rows: int) -> int:
    """How many rows a limit keeps. A fraction rounds up, as in lm-eval. Raises `UsageError`."""
    if limit is None:
        return rows
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0 or limit == math.inf:
        raise UsageError(f"--limit {limit}: should be a number of rows, or a fraction between 0 and 1")
    if limit < 1:
        return math.ceil(rows * limit)
    if limit != int(limit):
        raise UsageError(f"--limit {limit}: a number of rows is whole; a fraction is below 1")
    return min(int(limit), rows)
