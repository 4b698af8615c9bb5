"""The list of runs: what is here, newest first, to be filtered, sorted and picked from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.record.shown import finite, value
from harness.view.pages.asked import place_in
from harness.view.shelf import Shelf, ShelvedRun

_SHOWN_TASKS = 4
_PAGE = 100
SORTS: Mapping[str, Callable[[ShelvedRun], Any]] = {
    "date": lambda run: run.started,
    "model": lambda run: run.title.casefold(),
    "samples": lambda run: sum(task["counts"]["n"] for task in run.tasks),
    "score": lambda run: _mean_score(run),
}


def runs(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/`. Asked: model, task, since, until (parts of names and dates), sort, page."""
    everything = shelf.runs()
    kept = [run for run in everything if _matches(run, asked)]
    sort = next((name for name in SORTS if name == asked.get("sort")), "date")
    kept.sort(key=SORTS[sort], reverse=sort != "model")
    start = place_in(asked)
    return {
        "runs": [_row(run) for run in kept[start : start + _PAGE]],
        "n": len(kept),
        "of": len(everything),
        "start": start,
        "next": start + _PAGE if start + _PAGE < len(kept) else None,
        "sort": sort,
        "sorts": list(SORTS),
        "task_names": sorted({task["task"] for run in everything for task in run.tasks}),
    }


def _matches(run: ShelvedRun, asked: Mapping[str, Any]) -> bool:
    model, task = (asked.get("model") or "").casefold(), (asked.get("task") or "").casefold()
    since, until = asked.get("since") or "", asked.get("until") or "9"
    return (
        model in f"{run.title} {run.key}".casefold()
        and (not task or any(task in each["task"].casefold() for each in run.tasks))
        and since <= run.started[: len(since)]
        and run.started[: len(until)] <= until
    )


def _mean_score(run: ShelvedRun) -> float:
    values = [finite(task["metrics"][0]["value"]) for task in run.tasks if task["metrics"]]
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else float("-inf")


def _row(run: ShelvedRun) -> dict[str, Any]:
    scored = [task for task in run.tasks if task["metrics"]]
    return {
        "run": run,
        "scores": [(task["task"], value(task["metrics"][0])) for task in scored[:_SHOWN_TASKS]],
        "more": max(0, len(run.tasks) - _SHOWN_TASKS),
        "n": sum(task["counts"]["n"] for task in run.tasks),
        "doubts": {
            name: count
            for name in ("failed", "unparsed", "cut", "refused")
            if (count := sum(task["counts"].get(name, 0) for task in run.tasks))
        },
        "seconds": run.report.get("seconds") if run.report else None,
    }
