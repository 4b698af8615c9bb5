"""When a row was published: the dates that data sets write, and what is later than a cut-off."""

from __future__ import annotations

import re
import unicodedata

from harness.errors import DataError
from harness.types import JSON

_MONTH, _DAY = "0[1-9]|1[0-2]|[1-9]", "0[1-9]|[12]\\d|3[01]|[1-9]"
_DATE = re.compile(
    rf"\s*((?:19|20)\d\d)(?:([-/.年])({_MONTH})(?!\d)(?:(?:\2|月)({_DAY})(?!\d))?|(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])?)?(?!\d)"
)


def read_date(value: JSON) -> str | None:
    """`2025`, `2025-06` or `2025-06-30` of what a row says (`2025/6/30`, `20250630`, `2025年6月30日`, a time stamp in
    ISO 8601), in full-width digits too; None for nothing. Raises `DataError` for what is no date."""
    if value is None or value == "":
        return None
    is_date = isinstance(value, str | int) and not isinstance(value, bool)
    match = _DATE.match(unicodedata.normalize("NFKC", str(value))) if is_date else None
    if match is None:
        raise DataError(f"doc_to_date: {value!r:.60} is no date such as 2025, 2025-06 or 2025-06-30")
    year, _, *parts = match.groups()
    return "-".join([year, *(f"{int(part):02}" for part in parts if part)])


def is_later(date: str, cutoff: str) -> bool:
    """Whether a date is later than all of a year, month or day. What is known less exactly has to be later as a whole:
    `2025-06` is not later than `2025-06-15`."""
    length = min(len(date), len(cutoff))
    return date[:length] > cutoff[:length]
