"""Compares runs that are on disk, and decides whether one may replace another.

comparisons = compare_runs("runs/baseline", "runs/current")
checks = check_gate(comparisons, max_drop=0.01)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError, UsageError
from harness.metrics import Metric
from harness.prepare import load_jobs
from harness.record.gate import GateCheck
from harness.record.run import RunFolder
from harness.registry import Registry, load_plugins
from harness.scoring.compare import Comparison, compare, compare_macro, correct_for_many, pair
from harness.scoring.gate import Verdict, gate
from harness.spec import Progress, RunSpec


def compare_runs(first: str | Path, second: str | Path, registry: Registry | None = None) -> list[Comparison]:
    """Compare the headline metric of every task that both runs have, sample by sample, `second` against `first`.

    A task whose average is the macro mean is compared by it. P-values are corrected for the number of tasks.
    Raises `UsageError` for what is no run, has no report yet, or shares no task.
    """
    old, new = _opened(first), _opened(second)
    old_tasks, new_tasks = ({task["task"]: task for task in run["tasks"]} for run in (_report(old), _report(new)))
    common = [name for name in old_tasks if name in new_tasks]
    if not common:
        there, here = ", ".join(old_tasks), ", ".join(new_tasks)
        raise UsageError(f"the runs share no task: {old.path} has {there}; {new.path} has {here}")
    found = [_compare_task(old, new, old_tasks[name], registry) for name in common]
    return correct_for_many(found)


def check_gate(comparisons: Sequence[Comparison], max_drop: float = 0.0, alpha: float = 0.05) -> list[GateCheck]:
    """Judge comparisons of a baseline with a current run; `outcome` of each says whether it passed."""
    return [_as_check(verdict) for verdict in gate(comparisons, max_drop, alpha)]


def _opened(path: str | Path) -> RunFolder:
    return RunFolder.read(Path(path))


def _report(run: RunFolder) -> Mapping[str, Any]:
    if run.report is None:
        raise UsageError(f"{run.path}: has no report yet: the run has not ended; its command goes on with it")
    return run.report


def _compare_task(old: RunFolder, new: RunFolder, task: Mapping[str, Any], registry: Registry | None) -> Comparison:
    name, metric = task["task"], task["metrics"][0]
    key, better = metric["metric"], metric["higher_is_better"]
    title = f"{name}: {key}"
    own = _own_metric(old, name, key, registry) if metric["aggregation"] == "self" else None
    from_sums, statistics = (own.from_sums, own.statistics) if own else (None, tuple)
    if task["average"] == "macro" and len(task["subsets"]) > 1:
        subsets = [subset["name"] for subset in task["subsets"]]
        parts = [
            compare(
                subset,
                pair(_records(old, name, subset), _records(new, name, subset), key, statistics),
                better,
                from_sums,
            )
            for subset in subsets
        ]
        return _with_counts(compare_macro(title, parts), parts)
    return compare(title, pair(old.records(name), new.records(name), key, statistics), better, from_sums)


def _records(run: RunFolder, task: str, subset: str) -> list[Any]:
    return [record for record in run.records(task) if record.subset == subset]


def _with_counts(whole: Comparison, parts: Sequence[Comparison]) -> Comparison:
    """A macro comparison with the wins and losses of its parts."""
    notes: dict[str, int] = {}
    for part in parts:
        for what, count in part.notes.items():
            notes[what] = notes.get(what, 0) + count
    wins = tuple(key for part in parts for key in part.wins)
    losses = tuple(key for part in parts for key in part.losses)
    return replace(whole, wins=wins, losses=losses, ties=sum(part.ties for part in parts), notes=notes)


def _own_metric(run: RunFolder, task: str, key: str, registry: Registry | None) -> Metric:
    """The metric that forms a value from sufficient statistics (corpus BLEU, points), as the task file says it."""
    spec = RunSpec.from_json(run.manifest["spec"])
    try:
        jobs = load_jobs(spec, registry or load_plugins(), Progress())
    except HarnessError as error:
        raise UsageError(f"{task}: '{key}' is a value of a whole set, and its task cannot be read: {error}") from error
    keys = next(job.scorer.keys for job in jobs if job.task.name == task)
    return next(item.metric for item in keys if item.name == key)


def _as_check(verdict: Verdict) -> GateCheck:
    found = verdict.comparison
    task, _, metric = found.name.partition(": ")
    p_value = found.p_value if found.adjusted_p is None else found.adjusted_p
    outcome: Literal["passed", "failed"] = "passed" if verdict.passed else "failed"
    return GateCheck(task, metric, found.first, found.second, found.interval, p_value, found.n, outcome, verdict.reason)
