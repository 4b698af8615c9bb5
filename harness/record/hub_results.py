"""Evaluation results as the Hugging Face hub reads them from a model's repository: `.eval_results/NAME.yaml`.

The form is that of https://huggingface.co/docs/hub/eval-results (huggingface/hub-docs, docs/hub/eval-results.md): the
data set with its task, a value, a date, where the traces are, and notes. A leaderboard is the data set's; whether it
counts in percent, and what its tasks are called, stands in the data set's `eval.yaml`, which is not looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.quick import dataclass
from harness.record.coverage import part_words, row_words
from harness.record.manifest import safe_name
from harness.record.manifest_fields import Manifest
from harness.record.report_fields import Report, TaskReport
from harness.record.result_rows import number
from harness.record.shown import finite
from harness.types import JSON

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FOLDER = ".eval_results"


@dataclass(frozen=True, slots=True)
class HubResult:
    """One file: its name below the repository and its entry, or why there is none."""

    task: str
    file: str
    entry: Mapping[str, JSON]
    problem: str = ""


def hub_dataset(manifest: Manifest, task: str) -> tuple[str, str] | None:
    """(id on the hub, config) of the data set that a task reads; None where it comes from somewhere else."""
    config: Mapping[str, Any] = manifest.get("tasks", {}).get(task, {}).get("config", {})
    sources = config.get("sources")
    listed = sources.get("hf") if isinstance(sources, Mapping) else None
    path = listed if isinstance(listed, str) else config.get("dataset_path")
    if not isinstance(path, str) or not _HUB_ID.fullmatch(path) or path.startswith("."):
        return None
    name = config.get("dataset_name")
    return path, name if isinstance(name, str) and "{" not in name else "default"


def hub_results(
    manifest: Manifest, report: Report, source_url: str | None = None, *, partial: bool = False
) -> Iterator[HubResult]:
    """The first value of each task, as the hub has it. source_url: where the traces can be seen.

    partial: also of a task that was not asked as a whole, which the notes then say: a leaderboard takes it for one.
    """
    for task in report["tasks"]:
        name = task["task"]
        file = f"{FOLDER}/{safe_name(name.replace(':', '@').replace('/', '-'))}.yaml"
        dataset = hub_dataset(manifest, name)
        metric = next(iter(task["metrics"]), None)
        value = finite(metric["value"]) if metric else None
        if dataset is None:
            yield HubResult(name, file, {}, "its rows are not of the hub")
        elif metric is None or value is None:
            yield HubResult(name, file, {}, "it has no value")
        elif (part := _part_asked(task)) and not partial:
            yield HubResult(name, file, {}, f"only {part} were asked (--partial writes it, and says so)")
        else:
            date = str(report.get("started") or "")[:10]
            entry: dict[str, JSON] = {
                "dataset": {"id": dataset[0], "task_id": dataset[1]},
                "value": value,
                **({"date": date} if date else {}),
                **({"source": {"url": source_url, "name": "Samples and report"}} if source_url else {}),
                "notes": _notes(task, manifest),
            }
            yield HubResult(name, file, entry)


def _part_asked(task: TaskReport) -> str:
    """`20 of 200 rows`, or subsets, where not all were asked; empty where all were, or nobody knows."""
    covers = task.get("covers")
    if covers is None:
        return ""
    return row_words(covers["rows"], covers["of_rows"]) or part_words(covers).strip(" ()")


def _notes(task: TaskReport, manifest: Manifest) -> str:
    """What a reader has to know of a value: which it is, of how many samples, how sure, and how it was measured."""
    metric = task["metrics"][0]
    shots = task.get("num_fewshot")
    part = _part_asked(task)
    parts = [
        f"{task['task']}: {metric['metric']}",
        *([f"PARTIAL, {part}"] if part else []),
        *([] if shots is None else [f"{shots}-shot"]),
        f"n = {metric['n']}",
        *([] if metric["stderr"] is None else [f"standard error {number(metric['stderr'])}"]),
        *([f"{task['counts']['failed']} failed"] if task["counts"].get("failed") else []),
    ]
    return "; ".join(filter(None, (", ".join(parts), ", ".join(_protocol(task, manifest)), "harness-eval")))


def _protocol(task: TaskReport, manifest: Manifest) -> Iterator[str]:
    """How a task was asked, as far as the run says: thinking, sampling, repeats, and by which recipe."""
    spec: Mapping[str, Any] = manifest.get("spec", {})
    config: Mapping[str, Any] = manifest.get("tasks", {}).get(task["task"], {}).get("config", {})
    if (repeats := config.get("repeats") or 1) > 1:
        yield f"{repeats} answers to each question"
    for name in ("thinking", "reasoning_effort", "thinking_budget"):
        if spec.get(name) is not None:
            yield f"{name} {spec[name]}"
    own = spec.get("task_gen_kwargs", {}).get(task["task"].partition(":")[0], {})
    yield from (f"{name} {value}" for name, value in {**spec.get("gen_kwargs", {}), **own}.items())
    if recipe := spec.get("recipe"):
        differs = task.get("published", {}).get("differs", [])
        yield f"recipe {recipe['recipe']}{', but ' if differs else ''}{'; '.join(differs)}"
