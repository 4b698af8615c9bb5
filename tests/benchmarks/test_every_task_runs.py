"""Every task that ships goes through a whole run, from its rows to its report: over real rows, and over its example."""

from __future__ import annotations

import contextlib
import functools
import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import pytest

from harness import Response, hookimpl
from harness.data.open import make_rows, open_dataset
from harness.errors import DataError, MachineError, UsageError
from harness.metrics import MetricOptions
from harness.registry import load_plugins
from harness.run.runner import run
from harness.run.spec import RunSpec
from harness.scoring import Scorer
from harness.tasks.build_options import BuildOptions
from harness.tasks.library import TaskLibrary
from harness.tasks.rows import dataset_spec, needed_splits
from harness.types import DatasetSpec, Rows
from harness_plugins.models.dummy import DummyModel

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MIRROR = ROOT.parent / "shared" / "mirror"
REGISTRY = load_plugins()
LIBRARY = TaskLibrary([("harness-eval", ROOT / "tasks")], [("harness-eval", ROOT / "templates")])
LIMIT = 20


@functools.cache
def tasks():
    return {entry.name: LIBRARY.load(LIBRARY.select([entry.name])[0], {}) for entry in LIBRARY.entries()}


def can_be_scored(task):
    try:
        scorer = Scorer(task.scoring, REGISTRY.metric, REGISTRY.filter)
    except UsageError as error:
        if "cannot be run safely" not in str(error):
            raise
        return False  # programs, where there is no sandbox for them
    with contextlib.suppress(UsageError):  # a metric may want files that only a user has
        try:
            scorer.prepare(MetricOptions(offline=True))
        except MachineError:
            return False  # packages that are not installed
    return True


class Knowing(DummyModel):
    """Gives the gold answer, refuses where that is right, and does not know where a benchmark keeps that to itself."""

    name = "knowing"

    def __init__(self):
        super().__init__(mode="gold")

    def respond(self, requests):
        for index, response in super().respond(requests):
            said = "我不知道。" if response.error else "抱歉，我不能帮助你。" if response.text == "refusal" else None
            yield index, Response(text=said, finish_reason="stop") if said else response


class KnowingUnseen(Knowing):
    """Gives the gold answer without a look at the prompt: the clips of an example are not here."""

    name = "knowing_unseen"
    sees_prompts = False


def finished(tmp_path, tasks, plugin, model="knowing", **told):
    """The report of each task of one run of all of them, in which no sample failed but where a package is not there."""
    registry = load_plugins()
    registry.register(plugin, package="every-task", name="every_task")
    spec = RunSpec(tasks=tuple(tasks), model=model, output=str(tmp_path), offline=True, **told)
    result = run(spec, registry)
    report = json.loads((result.path / "report.json").read_text(encoding="utf-8"))
    failed = {
        task["task"]: [record.error for record in result.samples(task["task"]) if record.error]
        for task in report["tasks"]
        if task["counts"]["failed"]
    }
    assert not [error for errors in failed.values() for error in errors if "solution does not pass here" not in error]
    broken = {
        task["task"]: metric["error"] for task in report["tasks"] for metric in task["metrics"] if metric.get("error")
    }
    assert not broken
    assert result.exit_code == (1 if failed else 0)
    return result, {task["task"]: task for task in report["tasks"]}


def gold_misread(result, report):
    """The values of a task's first metric, where the gold answers did not get all of it."""
    first = report["metrics"][0]["metric"].partition("@")[0]
    values = [metric["value"] for metric in report["metrics"] if metric["metric"].partition("@")[0] == first]
    best = max((value for value in values if value is not None), default=None)
    # No value: what a judge scores. No gold: instructions that programs check.
    if best is None or best >= 0.998 or any(record.target is None for record in result.samples(report["task"])):
        return []
    return [] if tasks()[report["task"]].config.output_type == "loglikelihood_rolling" else values


class Plugin:
    """The model, and a source of rows that holds each task's example, by where the task looks for its rows."""

    def __init__(self):
        self.rows = defaultdict(lambda: defaultdict(list))

    @hookimpl
    def harness_models(self):
        return [Knowing, KnowingUnseen]

    def add(self, spec, split, rows):
        known = self.rows[_place(spec)][split]
        known += rows if not known else [row for row in rows if row not in known]

    @hookimpl(tryfirst=True)
    def harness_open_dataset(self, spec: DatasetSpec, split: str) -> Rows | None:
        rows = self.rows.get(_place(spec), {}).get(split)
        return make_rows(rows, "the example") if rows else None


def _place(spec):
    return json.dumps(asdict(spec), sort_keys=True, default=str)


def test_every_task_runs_over_its_example(tmp_path):
    plugin = Plugin()
    names, shots, missing = {}, {}, []
    for name, task in tasks().items():
        if not can_be_scored(task):
            missing.append(name)
            continue
        config = task.config
        examples = config.example if isinstance(config.example, list) else [config.example]
        for example in examples:
            subset = task.all_subsets[0] if example.subset is None else task.subset(example.subset)
            spec = dataset_spec(task, subset, BuildOptions(offline=True))
            plugin.add(spec, task.eval_split, [example.row])
            own = config.fewshot_config.split if config.fewshot_config else None
            split = own or config.fewshot_split or config.training_split
            if example.shots and split:
                last = max((config.fewshot_config and config.fewshot_config.fewshot_indices) or [0])
                plugin.add(spec, split, example.shots * (1 + last))
            shots[name] = len(example.shots)
            names[f"{name}/{subset.name}" if subset.name else name] = name
    files = {
        name: [each for each in task.templates.media if each.template or each.kind == "video"]
        for name, task in tasks().items()
    }
    clips = {name for name, columns in files.items() if columns}
    assert clips & set(names.values())
    reports = {}
    for model, is_there in (("knowing", lambda name: name not in clips), ("knowing_unseen", clips.__contains__)):
        asked = [expression for expression, name in names.items() if is_there(name)]
        overrides = {name: {"num_fewshot": count} for name, count in shots.items() if is_there(name)}
        reports |= finished(tmp_path / model, asked, plugin, model, overrides=overrides)[1]
    assert set(reports) == set(names.values())
    assert set(reports) | set(missing) == set(tasks())
    assert all(report["counts"]["n"] >= 1 for report in reports.values())


def rows_in_mirror(task):
    """The subsets of a task whose rows the mirror has, its few-shot examples included, and how many rows they are."""
    found = {}
    for subset in task.subsets:
        alone = task if len(task.subsets) == 1 else LIBRARY.load(LIBRARY.select([f"{task.name}/{subset.name}"])[0], {})
        options = BuildOptions(mirrors=(str(MIRROR),), offline=True)
        try:
            for spec, split, required in needed_splits(alone, options):
                if required:
                    rows = open_dataset(spec, split, REGISTRY.hook)
                    found.setdefault(subset.name, len(rows.rows))
        except DataError:
            found.pop(subset.name, None)
    return found


@pytest.mark.skipif(not MIRROR.is_dir(), reason="runs where a mirror of real rows lies beside the project")
def test_every_task_of_which_there_are_real_rows_runs_over_them(tmp_path):
    expressions, expected = [], {}
    for name, task in tasks().items():
        if task.templates.media:  # the mirror holds rows alone, and no pictures
            continue
        if can_be_scored(task) and (found := rows_in_mirror(task)):
            expressions += [f"{name}/{subset}" if subset else name for subset in found]
            expected[name] = found
    result, reports = finished(tmp_path, expressions, Plugin(), data=(str(MIRROR),), limit=LIMIT)
    assert set(reports) == set(expected)
    for name, found in expected.items():
        by_subset = reports[name]["covers"]["by_subset"]
        asked = {subset: count for subset, (count, _) in by_subset.items()}
        full = {subset: min(LIMIT, count) for subset, count in found.items()}
        assert asked.keys() == full.keys(), name
        if not tasks()[name].config.where:  # which leaves out rows
            assert asked == full, name
    misread = {name: gold_misread(result, report) for name, report in reports.items()}
    assert not {name: values for name, values in misread.items() if values}
    assert sum(report["covers"]["rows"] for report in reports.values()) > 5000
