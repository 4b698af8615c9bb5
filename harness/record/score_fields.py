"""The fields of a value and of what a correction of gold answers changed in it, which manifests and reports have."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from harness.record.file_types import Number
from harness.types import JSON


class MetricFields(TypedDict):
    """A value. average, filter, missing: of a group of tasks, see `build_report`."""

    metric: str
    value: Number | None
    n: int
    stderr: Number | None
    interval: list[Number] | None
    higher_is_better: bool
    aggregation: str
    bounds: NotRequired[list[Number]]
    scorer: NotRequired[dict[str, JSON]]
    setting: NotRequired[str]
    truncated: NotRequired[int]
    reasoned: NotRequired[int]
    unknown: NotRequired[int]
    error: NotRequired[str]
    average: NotRequired[str]
    filter: NotRequired[str]
    missing: NotRequired[list[str]]


class CorrectionFields(TypedDict):
    """Of a run with corrected golds: the run and the file that it is made of, how many golds changed, how many stood so
    already, how many are of samples that the run does not have, and the values of each task before.
    """

    of: str
    file: str
    changed: int
    as_before: int
    unknown: int
    before: dict[str, list[MetricFields]]
