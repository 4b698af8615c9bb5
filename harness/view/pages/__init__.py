"""What each page shows, as plain values for its template: nothing here knows HTML or HTTP."""

from harness.view.pages.across import (
    changed,
    compare,
    leaderboard,
    leaderboard_csv,
    radar,
    tokens_chart,
    trend_chart,
    trends,
)
from harness.view.pages.one_run import errors, run
from harness.view.pages.runs import runs
from harness.view.pages.samples import media, sample, samples

__all__ = [
    "changed",
    "compare",
    "errors",
    "leaderboard",
    "leaderboard_csv",
    "media",
    "radar",
    "run",
    "runs",
    "sample",
    "samples",
    "tokens_chart",
    "trend_chart",
    "trends",
]
