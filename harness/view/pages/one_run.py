"""The page of a run, and that of its errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.record.coverage import part_words
from harness.record.failures import failure_lines
from harness.record.file_types import PartFields, TaskReport
from harness.record.report import doubts_about_metrics, gaps, scorers
from harness.view.index import Filters, SampleIndex
from harness.view.notes import count_notes
from harness.view.pages.values import value
from harness.view.shelf import Shelf, ShelvedRun

_DOUBTS = ("failed", "unparsed", "cut", "truncated", "empty", "refused")
_CROSSED = 8


def run(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/run/KEY`. Asked: sort (of the subsets: file, value, name)."""
    found = shelf.get(asked["run"])
    share = shelf.progress(found)
    with SampleIndex.of(found.path) as index:
        cards = [_card(task, index, asked.get("sort") or "file") for task in found.tasks]
        kinds = index.kinds(Filters()) if share is None else {}
    report = found.report
    return {
        "run": found,
        "chips": list(_chips(found)),
        "cards": cards,
        "kinds": kinds,
        "indexing": share,
        "abilities": found.abilities,
        "gaps": list(gaps(report)) if report else [],
        "failures": list(failure_lines(report)) if report else [],
        "remarks": [*scorers(report), *doubts_about_metrics(report)] if report else [],
        "incidents": [incident.get("text", "") for incident in report.get("incidents", ())] if report else [],
        "notes": count_notes(found.path),
        "sort": asked.get("sort") or "file",
    }


def _chips(run: ShelvedRun) -> Iterator[tuple[str, str]]:
    """(what, its value): what a reader asks first about how the numbers came about."""
    told: Mapping[str, Any] = run.manifest
    spec, model, environment = (told.get(name) or {} for name in ("spec", "model", "environment"))
    shots = sorted({str(task["num_fewshot"]) for task in run.tasks if task.get("num_fewshot") is not None}, key=int)
    splits = sorted({task["split"] for task in run.tasks if task.get("split")})
    yield from (("shots", ", ".join(shots)),) if shots else ()
    yield from (("split", ", ".join(splits)),) if splits else ()
    if spec.get("limit") is not None:
        yield "limit", str(spec["limit"])
    for name, given in (
        ("dtype", model.get("dtype") or (model.get("identity") or {}).get("dtype")),
        ("template", "chat" if spec.get("apply_chat_template") else None),
        ("device", model.get("device")),
        ("gpu", environment.get("gpu")),
        ("seed", spec.get("seed")),
    ):
        if given is not None:
            yield name, str(given)
    seconds = run.report.get("seconds") if run.report else None
    if isinstance(seconds, int | float):
        yield "seconds", f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}"


def _card(task: TaskReport, index: SampleIndex, sort: str) -> dict[str, Any]:
    first = task["metrics"][0] if task["metrics"] else None
    chances = index.chances(task["task"])
    total, n = (sum(each) for each in zip(*chances.values(), strict=True)) if chances else (0.0, 0)
    return {
        "task": task["task"],
        "title": task.get("title") or task["task"],
        "part": part_words(task.get("covers")),
        "first": first,
        "value": value(first) if first else None,
        "others": [(metric, value(metric)) for metric in task["metrics"][1:]],
        "chance": total / n if n else None,
        "n": task["counts"]["n"],
        "doubts": {name: count for name in _DOUBTS if (count := task["counts"].get(name))},
        "average": task.get("average"),
        "usage": task.get("usage") or {},
        "parts": list(_nested(task, chances, sort)),
        "breakdowns": _breakdowns(task, sort),
        "calibration": index.calibration(task["task"]),
        "lengths": _lengths(index.lengths(task["task"])),
    }


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


def _nested(task: TaskReport, chances: Mapping[str, tuple[float, int]], sort: str) -> Iterator[dict[str, Any]]:
    """The groups of a task, each with its subsets; those of no group last."""
    subsets = {part["name"]: _part(part, chances) for part in task["subsets"]}
    left = dict(subsets)
    for group in task["groups"]:
        members = [subsets[name] for name in group.get("members", ()) if name in subsets]
        for member in members:
            left.pop(member["name"], None)
        yield {**_part(group, {}), "members": _sorted(members, sort)}
    if left:
        yield {"name": "", "title": "", "value": None, "members": _sorted(list(left.values()), sort)}


def _breakdowns(task: TaskReport, sort: str) -> dict[str, list[dict[str, Any]]]:
    """What rows are told apart by (skill, length) -> the numbers of its values."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part in task.get("categories", ()):
        found.setdefault(part["breakdown"], []).append(_part(part, {}))
    return {name: _sorted(parts, sort) for name, parts in found.items()}


def _part(part: PartFields, chances: Mapping[str, tuple[float, int]]) -> dict[str, Any]:
    total, n = chances.get(part["name"], (0.0, 0))
    metric = part["metrics"][0] if part["metrics"] else None
    return {
        "name": part["name"],
        "title": part["title"] or part["name"],
        "metric": metric,
        "value": value(metric) if metric else None,
        "n": part["counts"]["n"],
        "doubts": sum(part["counts"].get(name, 0) for name in _DOUBTS),
        "chance": total / n if n else None,
    }


def _sorted(parts: list[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    if sort == "name":
        return sorted(parts, key=lambda part: part["title"])
    if sort == "value":
        return sorted(parts, key=lambda part: (part["metric"] or {}).get("value") or 0.0, reverse=True)
    return parts


def errors(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/run/KEY/errors`: what is not right, by subset, by what was chosen, by length and by cause."""
    found = shelf.get(asked["run"])
    share = shelf.progress(found)
    with SampleIndex.of(found.path) as index:
        names = index.tasks()
        task = next((name for name in names if name == asked.get("task")), names[0] if names else "")
        totals = index.totals(task)
        letters = index.letters(task)
        causes = index.crossed(Filters(task=task, kind="failed"), "error", "kind")
        unparsed = index.page(Filters(task=task, kind="unparsed"))[:_CROSSED]
        surest = index.page(Filters(task=task, kind="wrong"), order="surest")
        lengths = _lengths(index.lengths(task))
    return {
        "run": found,
        "indexing": share,
        "task": task,
        "tasks": names,
        "subsets": _by_subset(totals),
        "doubts": [kind for kind in ("unparsed", "failed") if any(kind in kinds for kinds in totals.values())],
        "letters": _letters(letters, sum(kinds.get("wrong", 0) for kinds in totals.values())),
        "causes": [(cause, n) for cause, _, n in causes][:_CROSSED],
        "unparsed": unparsed,
        "sure": [each for each in surest if each.confidence][:_CROSSED],
        "by_length": lengths,
    }


def _by_subset(totals: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    rows = []
    for name, kinds in totals.items():
        counts = {kind: kinds.get(kind, 0) for kind in ("wrong", "unparsed", "failed")}
        rows.append({"name": name, **counts, "share": 1 - kinds.get("right", 0) / sum(kinds.values())})
    return sorted(rows, key=lambda row: row["share"], reverse=True)


def _letters(counted: Sequence[tuple[str, str, int]], wrong: int) -> dict[str, Any] | None:
    """How often each short answer was given where another was right; None where most answers are long or differ."""
    answers = _most([(answer, n) for answer, _, n in counted])
    golds = _most([(gold, n) for _, gold, n in counted])
    counts = {(answer, gold): n for answer, gold, n in counted if answer in answers and gold in golds}
    most = max(counts.values(), default=0)
    if len(answers) < 2 or 2 * sum(counts.values()) < wrong:
        return None
    rows = []
    for answer in answers:
        cells = [counts.get((answer, gold), 0) for gold in golds]
        rows.append((answer, [(n, round(10 * n / most)) for n in cells]))
    return {"golds": golds, "rows": rows}


def _most(counted: Sequence[tuple[str, int]]) -> list[str]:
    sums: dict[str, int] = {}
    for name, n in counted:
        sums[name] = sums.get(name, 0) + n
    return sorted(sorted(sums, key=sums.__getitem__, reverse=True)[:_CROSSED])
