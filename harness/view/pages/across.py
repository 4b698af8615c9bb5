"""Pages over several runs: side by side, what changed, one task over time, models by tasks."""

from __future__ import annotations

import csv
import io
import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.quick import dataclass
from harness.record.coverage import part_words
from harness.record.score_fields import MetricFields
from harness.record.shown import Shown, finite, interval_of, is_share, shown_part, value
from harness.types import JSON
from harness.view import charts
from harness.view.index import PAGE, SampleIndex
from harness.view.pages.asked import place_in
from harness.view.shelf import BeingIndexed, NotShown, Shelf, ShelvedRun
from harness.view.tables import inert_cell

if TYPE_CHECKING:
    from harness.scoring.statistics.paired import Comparison

_MOST_PAIRS = 8


def _chosen(shelf: Shelf, asked: Mapping[str, Any]) -> list[ShelvedRun]:
    """The runs that an address names, the first of them the baseline; none where it names none."""
    return shelf.several(list(dict.fromkeys(asked["all"].get("run", ()))))


def labels(runs: Sequence[ShelvedRun]) -> dict[str, str]:
    """Key -> what tells the run from the others: its model, and where that stands twice, when it began."""
    titles = [run.title for run in runs]
    found = {run.key: run.title if titles.count(run.title) == 1 else f"{run.title} · {run.started[5:]}" for run in runs}
    doubled = [name for name in found.values() if list(found.values()).count(name) > 1]
    return {key: f"{name} · {key[-8:]}" if name in doubled else name for key, name in found.items()}


def compare(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/compare`: every run against the first, task by task."""
    runs = _chosen(shelf, asked)
    tasks = list(dict.fromkeys(task["task"] for run in runs for task in run.tasks))
    against = {run.key: _against(shelf, runs[0], run) for run in runs[1:]}
    rows = []
    for task in tasks:
        cells = [(run, _headline(run, task), against.get(run.key, {}).get(task)) for run in runs]
        rows.append({"task": task, "cells": cells, "best": _best([cell for _, cell, _ in cells])})
    abilities = _abilities(runs)
    return {
        "runs": runs,
        "labels": labels(runs),
        "rows": rows,
        "abilities": abilities,
        "has_radar": len(abilities) >= charts.LEAST_AXES,
        "has_tokens": any(_tokens(run) for run in runs),
        "all_runs": shelf.runs(),
    }


def _headline(run: ShelvedRun, name: str) -> tuple[MetricFields, Shown] | None:
    task = run.task(name)
    return (task["metrics"][0], value(task["metrics"][0])) if task and task["metrics"] else None


def _best(cells: Sequence[tuple[MetricFields, Shown] | None]) -> set[int]:
    """Places of the best of several values; empty where there is nothing to be better than."""
    values = {}
    for place, cell in enumerate(cells):
        found = finite(cell[0]["value"]) if cell else None
        if cell and found is not None:
            values[place] = found if cell[0]["higher_is_better"] else -found
    best = max(values.values(), default=0.0)
    return {place for place, found in values.items() if found == best} if len(values) > 1 else set()


def _against(shelf: Shelf, first: ShelvedRun, second: ShelvedRun) -> dict[str, Comparison]:
    """Task -> the second run against the first, on the samples of both; p-values corrected for the number of tasks."""
    from harness.scoring.statistics.paired import correct_for_many
    from harness.view.pages.paired import paired

    shared = [task for task in first.tasks if second.task(task["task"]) and task["metrics"]]
    with opened(shelf, first) as old, opened(shelf, second) as new:
        found = [paired(task, old, new) for task in shared]
    return {comparison.name: comparison for comparison in correct_for_many(found)}


def opened(shelf: Shelf, run: ShelvedRun) -> SampleIndex:
    """The index of a run. Raises UsageError while it is being made: such a page is for runs that are known."""
    share = shelf.progress(run)
    if share is not None:
        raise BeingIndexed(run.key, share)
    return SampleIndex.snapshot(run.path)


def changed(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/changed`: the samples of a task that two runs score differently. Asked: run (twice), task, way."""
    from harness.view.pages.paired import changed_samples

    runs = _chosen(shelf, asked)
    if len(runs) != 2:
        raise NotShown("two runs are needed to see what changed between them")
    first, second = runs
    task, way = asked.get("task") or "", asked.get("way") if asked.get("way") in ("won", "lost") else "lost"
    report = first.task(task)
    better = 1 if report is None or not report["metrics"] or report["metrics"][0]["higher_is_better"] else -1
    sign = better if way == "won" else -better
    start = place_in(asked)
    with opened(shelf, first) as old, opened(shelf, second) as new:
        differing = changed_samples(task, old, new, sign)
        rows = [(old.sample(here), new.sample(there)) for here, there in differing[start : start + PAGE]]
    return {
        "runs": runs,
        "labels": labels(runs),
        "task": task,
        "way": way,
        "rows": rows,
        "n": len(differing),
        "start": start,
        "previous": max(0, start - PAGE) if start else None,
        "next": start + PAGE if start + PAGE < len(differing) else None,
    }


def _abilities(runs: Sequence[ShelvedRun]) -> list[dict[str, Any]]:
    """Ability -> its value above chance in each run."""
    known = []
    for run in runs:
        above = ((each["ability"], each["corrected"]) for each in run.abilities)
        known.append({name: corrected["value"] for name, corrected in above if corrected is not None})
    names = dict.fromkeys(name for values in known for name in values)
    return [{"ability": name, "values": [values.get(name) for values in known]} for name in names]


def radar(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The abilities of several runs over one another."""
    runs = _chosen(shelf, asked)
    rows, names = _abilities(runs), labels(runs)
    series = {names[run.key]: [row["values"][place] for row in rows] for place, run in enumerate(runs)}
    return {"draw": charts.radar(charts.letters(asked["t"], *(row["ability"] for row in rows)), series)}


def _tokens(run: ShelvedRun) -> float | None:
    """Tokens that a model wrote for each sample, over all tasks that had any."""
    used = [(task["usage"]["completion_tokens"], task["counts"]["n"]) for task in run.tasks if task.get("usage")]
    used = [(tokens, n) for tokens, n in used if tokens and n]
    return sum(tokens for tokens, _ in used) / sum(n for _, n in used) if used else None


def tokens_chart(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Score against tokens written a sample."""
    runs = _chosen(shelf, asked)
    names = labels(runs)
    found = [(names[run.key], _tokens(run), _macro(run)) for run in runs]
    points = [(name, tokens, score) for name, tokens, score in found if tokens and score is not None]
    return {"draw": charts.scatter(points, *charts.letters(asked["t"], "tokens a sample", "mean score"))}


def _macro(run: ShelvedRun) -> float | None:
    """The mean of the headline values that are shares; None where one of them is missing."""
    values = []
    for task in run.tasks:
        found = finite(task["metrics"][0]["value"]) if task["metrics"] else None
        if found is None:
            return None
        if is_share(task["metrics"][0]):
            values.append(found if task["metrics"][0]["higher_is_better"] else 1 - found)
    return statistics.fmean(values) if values else None


def trends(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/trends`: one task over many runs, the oldest first."""
    return _trend(shelf, asked)


def _trend(shelf: Shelf, asked: Mapping[str, Any]) -> dict[str, Any]:
    everything = shelf.runs()
    names = sorted({task["task"] for run in everything for task in run.tasks})
    task = asked.get("task") or (names[0] if names else "")
    chosen, model = set(asked["all"].get("run", ())), asked.get("model") or ""
    points = []
    for run in reversed(everything):
        cell = _headline(run, task)
        wanted = (not chosen or run.key in chosen) and model.casefold() in f"{run.title} {run.key}".casefold()
        if cell and wanted:
            points.append({"run": run, "metric": cell[0], "value": cell[1], "n": cell[0]["n"]})
    return {"task": task, "tasks": names, "points": points, "model": model}


def trend_chart(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a task over runs, in their order, with intervals."""
    points = _trend(shelf, asked)["points"]
    names = labels([point["run"] for point in points])
    known = [(point, finite(point["metric"]["value"])) for point in points]
    drawn = [
        (names[point["run"].key], found, interval_of(point["metric"])) for point, found in known if found is not None
    ]
    return {"draw": charts.line(drawn, points[0]["metric"]["metric"] if points else "")}


def leaderboard(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/leaderboard`: the newest value of each model on each task, and their mean over what all share."""
    table = _Leaderboard(shelf, asked)
    pairs = list(table.significance(shelf)) if asked.get("significance") else None
    return {
        "tasks": table.tasks,
        "rows": table.rows,
        "shared": table.shared,
        "parts": {
            (row.model, name): part
            for row in table.rows
            for name, run in row.runs.items()
            if (report := run.task(name)) and (part := shown_part(report, asked["t"]))
        },
        "best": {task: _best([row.cells.get(task) for row in table.rows]) for task in table.tasks},
        "pairs": pairs,
        "filter": asked.get("task") or "",
    }


@dataclass(frozen=True, slots=True)
class _ModelRow:
    """A model of the leaderboard, by what it is called: its newest value of each task, and the run that it is from."""

    model: str
    cells: Mapping[str, tuple[MetricFields, Shown]]
    runs: Mapping[str, ShelvedRun]
    mean: float | None


class _Leaderboard:
    def __init__(self, shelf: Shelf, asked: Mapping[str, Any]) -> None:
        chosen, wanted = set(asked["all"].get("run", ())), (asked.get("task") or "").casefold()
        cells: dict[str, dict[str, tuple[MetricFields, Shown]]] = {}
        runs: dict[str, dict[str, ShelvedRun]] = {}
        newest: dict[str, ShelvedRun] = {}
        for run in shelf.runs():
            model = _model_of(run)
            for task in run.tasks if not chosen or run.key in chosen else ():
                name = task["task"]
                cell = _headline(run, name)
                # Part of a task is another measure than the whole.
                if (
                    cell
                    and wanted in name.casefold()
                    and not part_words(task.get("covers"))
                    and name not in cells.get(model, {})
                ):
                    cells.setdefault(model, {})[name] = cell
                    runs.setdefault(model, {})[name] = run
                    newest.setdefault(model, run)
        self.tasks = sorted({task for found in cells.values() for task in found})
        # A mean over other tasks is another mean: only what every model has counts.
        self.shared = [task for task in self.tasks if all(task in found for found in cells.values())]
        rows = [
            _ModelRow(label, cells[model], runs[model], _mean([cells[model][task][0] for task in self.shared]))
            for model, label in _model_labels(newest).items()
        ]
        self.rows = sorted(rows, key=lambda row: (row.mean is not None, row.mean or 0.0), reverse=True)

    def significance(self, shelf: Shelf) -> Iterator[dict[str, Any]]:
        """Each pair of neighbours in the table: their mean difference over the shared tasks, and its p-value."""
        from harness.scoring.statistics.paired import compare_macro
        from harness.view.pages.paired import paired

        for above, below in itertools.pairwise(self.rows[: _MOST_PAIRS + 1]):
            parts = []
            for name in self.shared:
                first, second = below.runs[name], above.runs[name]
                with opened(shelf, first) as old, opened(shelf, second) as new:
                    parts += [paired(task, old, new) for task in first.tasks if task["task"] == name]
            # Of one task, it is what the page of comparisons says.
            comparison = parts[0] if len(parts) == 1 else compare_macro("", parts)
            yield {"above": above.model, "below": below.model, "comparison": comparison}


_REASONING = ("thinking", "reasoning_effort", "thinking_budget")


def _model_of(run: ShelvedRun) -> str:
    """What is the same for runs of one model: its name and what decides its answers, or the name that runs were given.

    Two checkpoints of one name, or a model that reasons and the same that does not, are two models: a mean over tasks
    of both would be that of neither.
    """
    spec: Mapping[str, JSON] = run.manifest.get("spec") or {}
    model = run.manifest.get("model") or {}
    if spec.get("name"):
        return run.title
    reasons = [spec.get(name) for name in _REASONING]
    return json.dumps([run.title, model.get("identity", model.get("args")), reasons], sort_keys=True)


def _model_labels(newest: Mapping[str, ShelvedRun]) -> dict[str, str]:
    """What each model is called: where a title stands twice, with what it was told, and where that is the same, with
    the end of its newest run's name. newest: by model."""
    told = {}
    for model, run in newest.items():
        spec: Mapping[str, JSON] = run.manifest.get("spec") or {}
        args: Mapping[str, JSON] = (run.manifest.get("model") or {}).get("args") or {}
        told[model] = {**args, **{name: spec[name] for name in _REASONING if spec.get(name) is not None}}
    labels = {}
    for model, run in newest.items():
        alike = [told[other] for other, each in newest.items() if each.title == run.title]
        differing = [name for name, own in told[model].items() if any(each.get(name) != own for each in alike)]
        labels[model] = ", ".join([run.title, *(f"{name}={told[model][name]}" for name in differing)])
    twice = [label for label, n in Counter(labels.values()).items() if n > 1]
    return {
        model: f"{label} · {newest[model].key[-8:]}" if label in twice else label for model, label in labels.items()
    }


def _mean(metrics: Sequence[MetricFields]) -> float | None:
    """The mean of values that are all shares; None where one is none, or there are none."""
    values = [finite(metric["value"]) if is_share(metric) else None for metric in metrics]
    known = [each for each in values if each is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def leaderboard_csv(shelf: Shelf, asked: Mapping[str, Any]) -> str:
    """The leaderboard as CSV: values as in the reports, not rounded."""
    table = _Leaderboard(shelf, asked)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["model", "mean", *table.tasks])
    for row in table.rows:
        cells = [row.cells.get(task) for task in table.tasks]
        writer.writerow([inert_cell(row.model), row.mean, *(cell[0]["value"] if cell else None for cell in cells)])
    return text.getvalue()
