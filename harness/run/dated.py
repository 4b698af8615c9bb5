"""The score of a task before and after a model's cut-off, where its rows carry dates.

The interval of the difference joins those of the two sides, each half in squares (R. G. Newcombe, Statistics in
Medicine 17 (1998), 873, method 10, for Wilson's intervals; G. Y. Zou and A. Donner, Statistics in Medicine 27 (2008),
1693).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.record.report_fields import DatedFields, SideFields
from harness.run.jobs import TaskJob
from harness.scoring.statistics.clusters import cluster_number
from harness.tasks.dates import is_later
from harness.types import Record

if TYPE_CHECKING:
    from harness.scoring.statistics.estimates import Estimate


def dated_fields(job: TaskJob, records: Iterable[Record], cutoff: str) -> DatedFields | None:
    """What the report says of a task's rows before and after `cutoff`; None where its rows carry no dates, or its
    headline is no mean."""
    key = job.scorer.reported[0]
    if job.task.templates.date is None or key.aggregation != "mean":
        return None
    sides: dict[bool, list[tuple[float, int]]] = {False: [], True: []}
    undated, is_clustered = 0, False
    for record in job.scorer.rows(records):
        score = record.scores.get(key.name)
        if not isinstance(score, int | float):
            continue
        try:
            date = job.task.date_of(record.doc, record.subset)
        except HarnessError:
            date = None
        if date is None:
            undated += 1
            continue
        is_clustered = is_clustered or record.cluster is not None
        place = cluster_number(record.cluster, record.subset, record.id)
        sides[is_later(date, cutoff)].append((float(score), place))
    before, after = (_estimate(sides[later], is_clustered=is_clustered) for later in (False, True))
    difference = interval = None
    if before is not None and after is not None:
        difference = after.value - before.value
        if before.interval is not None and after.interval is not None:
            below = math.hypot(after.value - after.interval[0], before.interval[1] - before.value)
            above = math.hypot(after.interval[1] - after.value, before.value - before.interval[0])
            interval = [difference - below, difference + above]
    return {
        "cutoff": cutoff,
        "before": _side(before, len(sides[False])),
        "after": _side(after, len(sides[True])),
        "undated": undated,
        "difference": difference,
        "interval": interval,
    }


def _estimate(scored: list[tuple[float, int]], *, is_clustered: bool) -> Estimate | None:
    import numpy as np

    from harness.scoring.statistics.estimates import mean_estimate

    if not scored:
        return None
    clusters = np.array([place for _, place in scored], dtype=np.int64) if is_clustered else None
    return mean_estimate(np.array([score for score, _ in scored]), clusters)


def _side(estimate: Estimate | None, n: int) -> SideFields:
    interval = estimate.interval if estimate else None
    return {"n": n, "value": estimate.value if estimate else None, "interval": list(interval) if interval else None}
