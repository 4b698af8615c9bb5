"""The page of a run, and that of its errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.record.cost import cost_lines
from harness.record.failures import failure_lines
from harness.record.html import letter_table
from harness.record.published import protocol_lines, published_rows, source_lines
from harness.record.report_fields import Report
from harness.record.report_lines import doubts_about_metrics, of_parts, remarks_on_asking, scorers, warnings_of
from harness.record.shown import SORTS, card, chips
from harness.view.filters import Filters
from harness.view.index import SampleIndex
from harness.view.notes import NOTE_WORDS, count_notes
from harness.view.shelf import Shelf
from harness.words import Translate

_SHOWN = 8


def run(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/run/KEY`. Asked: sort (of the subsets: file, value, name)."""
    found = shelf.get(asked["run"])
    share = shelf.progress(found)
    t = asked["t"]
    sort = next((name for name in SORTS if name == asked.get("sort")), "file")
    with SampleIndex.snapshot(found.path) as index:
        cards = [
            {
                "card": card(task, index.columns.chances(task["task"]), sort, t),
                "calibration": index.columns.calibration(task["task"]),
                "lengths": _lengths(index.columns.lengths(task["task"])),
            }
            for task in found.tasks
        ]
        kinds = index.kinds(Filters()) if share is None else {}
        there = len(index)
    report = found.report
    lost = _lost(report, there, t) if report and share is None else []
    return {
        "run": found,
        "chips": list(chips(report)) if report else [],
        "cards": cards,
        "kinds": kinds,
        "indexing": share,
        "abilities": found.abilities,
        "gaps": [*lost, *warnings_of(report, t)] if report else [],
        "settings": [*remarks_on_asking(report, t), *cost_lines(report, t, every=True)] if report else [],
        "published": list(published_rows(report)) if report else [],
        "protocol": list(protocol_lines(report, t)) if report else [],
        "sources": list(source_lines(report, t)) if report else [],
        "failures": list(failure_lines(report, t)) if report else [],
        "remarks": [*of_parts(report, t), *scorers(report, t), *doubts_about_metrics(report, t)] if report else [],
        "incidents": [incident.get("text", "") for incident in report.get("incidents", ())] if report else [],
        "notes": count_notes(found.path),
        "note_words": NOTE_WORDS,
        "sort": sort,
        "sorts": SORTS,
    }


def _lost(report: Report, there: int, t: Translate) -> list[str]:
    """That files of the run hold fewer samples than the report is of, where one was cut or is gone."""
    of = sum(task["counts"]["n"] for task in report["tasks"])
    if report["kind"] != "run" or there >= of:
        return []
    words = "the report is of {n} samples, of which {lost} are not in the files; the command of the run asks again"
    return [t(words, n=f"{of:,}", lost=f"{of - there:,}")]


def _lengths(found: Sequence[tuple[int, int, int]]) -> list[dict[str, Any]]:
    """Replies by length as bars; none where all are of one length, or there are no replies."""
    found = [each for each in found if each[0]]
    if len(found) < 2:
        return []
    most = max(n for _, n, _ in found)
    return [
        {
            "start": start,
            "n": n,
            "share": hits / n,
            "width": round(100 * n / most, 1),
            "hits": round(100 * hits / most, 1),
        }
        for start, n, hits in found
    ]


def errors(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/run/KEY/errors`: what is not right, by subset, by what was chosen, by length and by cause."""
    found = shelf.get(asked["run"])
    share = shelf.progress(found)
    with SampleIndex.snapshot(found.path) as index:
        names = index.tasks()
        task = next((name for name in names if name == asked.get("task")), names[0] if names else "")
        totals = index.columns.totals(task)
        letters = index.letters(task)
        causes = index.causes(task)
        unparsed = index.page(Filters(task=task, kind="unparsed"))[:_SHOWN]
        surest = index.page(Filters(task=task, kind="wrong"), order="surest")
        lengths = _lengths(index.columns.lengths(task))
    report = found.task(task)
    titles = {part["name"]: part["title"] for part in report["subsets"]} if report else {}
    return {
        "run": found,
        "indexing": share,
        "task": task,
        "tasks": names,
        "subsets": _by_subset(totals),
        "titles": {**dict.fromkeys(totals), **titles},
        "doubts": [kind for kind in ("unparsed", "failed") if any(kind in kinds for kinds in totals.values())],
        "letters": letter_table(letters, sum(kinds.get("wrong", 0) for kinds in totals.values())),
        "causes": causes,
        "other_causes": sum(kinds.get("failed", 0) for kinds in totals.values()) - sum(n for _, n in causes),
        "unparsed": unparsed,
        "sure": [each for each in surest if each.confidence][:_SHOWN],
        "by_length": lengths,
    }


def _by_subset(totals: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    rows = []
    for name, kinds in totals.items():
        counts = {kind: kinds.get(kind, 0) for kind in ("wrong", "unparsed", "failed")}
        rows.append({"name": name, **counts, "share": 1 - kinds.get("right", 0) / sum(kinds.values())})
    return sorted(rows, key=lambda row: row["share"], reverse=True)
