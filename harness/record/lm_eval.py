"""Writes a run in the shapes of lm-evaluation-harness, so that scripts which read those keep working.

The shapes are those of lm_eval/result_schema.py and lm_eval/loggers/evaluation_tracker.py: `results_<time>.json` and
`samples_<task>_<time>.jsonl` in a folder named after the model. A task with subsets is a group `<task>` there, whose
subtasks are `<task>_<subset>`. A group of tasks is a group there, too.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from harness import files
from harness.errors import SaveError, UsageError
from harness.record.codec import encode_line, jsonable
from harness.record.coverage import part_words
from harness.record.lm_eval_samples import AsRecorded, generation_kwargs, sample_line, sha, their_name
from harness.record.manifest import model_title, record_file
from harness.record.report_fields import GroupReport, Report, ResultFields, TaskReport
from harness.record.run import RunFolder
from harness.record.score_fields import MetricFields
from harness.types import JSON, Record, ScoreName

_WRITE_BYTES = 1 << 20
_LONGEST_NAME = 200
"""Bytes. File systems take 255 in one name."""


def check_output_path(output_path: Path) -> None:
    """Raise `UsageError`, before a model loads, where nothing can be written there. Makes no folder."""
    folder, named = output_path, str(output_path)
    if output_path.suffix == ".json":
        folder = output_path.parent
        try:
            output_path.with_name(f"{output_path.stem}_{datetime.now().isoformat()}.json").exists()
        except OSError as error:  # a name that is too long
            raise UsageError(f"--output_path {named}: {error.strerror or error}; choose another folder") from None
    files.check_folder("--output_path", folder, named, "a folder, or a file that ends in .json")


def write_lm_eval(
    run: RunFolder,
    output_path: Path,
    *,
    report: Report | None = None,
    log_samples: bool = False,
    wanted: Callable[[Record], bool] = lambda _: True,
    shown: AsRecorded | None = None,
) -> Path:
    """Write the results, and the samples if asked for. Returns the results file.

    output_path: a folder, or a file name that ends in `.json`, as for lm-eval. report: of the samples that are wanted;
    left out, that of the folder. shown: how prompts and golds read, beyond what records say. Raises SaveError.
    """
    stamp = datetime.now().isoformat().replace(":", "-")
    writer = _Writer(run, report or run.report or {"kind": run.kind, "tasks": []}, wanted, shown or AsRecorded())
    name = model_title(run.manifest)
    if output_path.suffix == ".json":
        results = output_path.with_name(f"{output_path.stem}_{stamp}.json")
    else:
        results = output_path / _folder_of(name) / f"results_{stamp}.json"
    try:
        results.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(f"--output_path {output_path}: cannot be written: {error.strerror or error}") from error
    hashes = writer.write_samples(results.parent, stamp) if log_samples else {}
    files.replace_json(results, jsonable({**writer.results(), "task_hashes": hashes}))
    return results


@dataclass(slots=True)
class _Results:
    """The parts of lm-eval's results file that are by task or group, under lm-eval's names."""

    values: dict[str, dict[str, JSON]] = field(default_factory=dict)
    group_subtasks: dict[str, list[str]] = field(default_factory=dict)
    configs: dict[str, dict[str, JSON]] = field(default_factory=dict)
    versions: dict[str, JSON] = field(default_factory=dict)
    shots: dict[str, int] = field(default_factory=dict)
    higher_is_better: dict[str, dict[str, bool | None]] = field(default_factory=dict)
    samples: dict[str, dict[str, int | None]] = field(default_factory=dict)
    groups: dict[str, dict[str, JSON]] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        return {
            "results": self.values,
            **({"groups": self.groups} if self.groups else {}),
            "group_subtasks": dict(reversed(self.group_subtasks.items())),
            **{
                name: dict(sorted(part.items()))
                for name, part in (
                    ("configs", self.configs),
                    ("versions", self.versions),
                    ("n-shot", self.shots),
                    ("higher_is_better", self.higher_is_better),
                )
            },
            "n-samples": self.samples,
        }


class _Writer:
    def __init__(self, run: RunFolder, report: Report, wanted: Callable[[Record], bool], shown: AsRecorded) -> None:
        self.run, self.report, self.wanted, self.shown = run, report, wanted, shown
        self.manifest = run.manifest
        self.spec = self.manifest.get("spec", {})

    def results(self) -> dict[str, JSON]:
        """The aggregated results."""
        results = _Results()
        for task in self.report["tasks"]:
            self._add_task(task, results)
        for group in _inner_first(self.report.get("groups", ())):
            self._add_group(group, results)
        return {**results.to_json(), **self._metadata()}

    def _add_task(self, task: TaskReport, results: _Results) -> None:
        name = task["task"]
        children = [_child(name, part["name"]) for part in task["subsets"]]
        # A part of a task is no result of the task: lm-eval, too, reports the subtasks that were asked, and no group.
        parted = bool(part_words(task.get("covers")))
        parts = task["subsets"] if parted else [*task["groups"], *task["subsets"]]
        alias = str(self._config(name).get("task_alias") or name)
        entries: list[tuple[str, str, ResultFields]] = [] if parted else [(name, alias, task)]
        for part in parts:
            child = _child(name, part["name"])
            entries.append((child, child, part))
        for full, alias, numbers in entries:
            results.values[full] = self._metrics(name, full, alias, numbers)
            results.higher_is_better[full] = {
                ScoreName.parse(m["metric"]).metric: m["higher_is_better"] for m in numbers["metrics"]
            }
        for part in task["subsets"]:
            self._add_leaf(task, _child(name, part["name"]), part["name"], part["counts"]["n"], results)
        if not children:
            self._add_leaf(task, name, "", task["counts"]["n"], results)
        if parted:
            return
        results.versions.setdefault(name, _version(task))
        if children:
            results.group_subtasks[name] = children
            for full in (name, *(_child(name, part["name"]) for part in task["groups"])):
                results.groups[full] = results.values[full]

    def _add_leaf(self, task: TaskReport, full: str, subset: str, samples: int, results: _Results) -> None:
        """What lm-eval says of a task that has rows."""
        config = {**self._config(task["task"]), "task": full}
        source = self.manifest.get("tasks", {}).get(task["task"], {}).get("file")
        metadata = {**(config.get("metadata") or {}), **({"config_source": source} if source else {})}
        results.configs[full] = _completed({**config, "metadata": metadata}, task)
        results.versions[full] = _version(task)
        results.shots[full] = task.get("num_fewshot") or 0
        covers = task.get("covers")
        rows = covers["by_subset"].get(subset, [None, None])[1] if covers else None
        # An older report with a limit does not say how many rows there would have been.
        whole = None if self.spec.get("limit") is not None else samples
        results.samples[full] = {"original": whole if rows is None else rows, "effective": samples}

    def _metrics(self, task: str, full: str, alias: str, numbers: ResultFields) -> dict[str, JSON]:
        values: dict[str, JSON] = {"name": full, "alias": alias, "sample_len": numbers["counts"]["n"]}
        for metric in numbers["metrics"]:
            name, pipeline = ScoreName.parse(metric["metric"])
            values |= _value(metric, their_name(name, self._config(task)), pipeline or self._only_pipeline(task))
        return values

    def _add_group(self, group: GroupReport, results: _Results) -> None:
        """A group of tasks, under the keys of lm_eval/api/group.py; without values where it asks for none."""
        name = group["group"]
        # A group that is written inside another one is called by its whole name, where it has no alias.
        alias = name if name.endswith(f"::{group['title']}") else group["title"]
        values: dict[str, JSON] = {"alias": alias, "name": name}
        if group["metrics"]:
            values["sample_len"] = group["counts"]["n"]
        counts = {}
        for metric in group["metrics"]:
            if metric["value"] is not None:
                base = ScoreName.parse(metric["metric"]).metric
                counts[f"{base},{metric['filter']}"] = metric["n"]
                values |= _value(metric, base, metric["filter"])
        results.values[name] = values if not counts else {**values, "sample_count": counts}
        results.versions[name] = group.get("version") or "N/A"
        tasks = [task for task in self.report["tasks"] if task["task"] in group["tasks"]]
        shots = {task.get("num_fewshot") or 0 for task in tasks}
        if len(shots) == 1:
            (results.shots[name],) = shots
        # In the place of a task of which only subsets were asked stand these.
        parted = {task["task"]: task["subsets"] for task in self.report["tasks"] if part_words(task.get("covers"))}
        results.group_subtasks[name] = [
            each
            for member in group["members"]
            for each in ([_child(member, part["name"]) for part in parted[member]] if member in parted else [member])
        ]
        better = [results.higher_is_better.get(member, {}) for member in group["members"] if member in group["tasks"]]
        ways: dict[str, bool | None] = {}
        for name_of, way in (each for of_task in better for each in of_task.items()):
            ways[name_of] = way if ways.get(name_of, way) == way else None
        if ways:
            results.higher_is_better[name] = ways
        if group["metrics"]:
            results.groups[name] = results.values[name]

    def _only_pipeline(self, task: str) -> str:
        filters = self._config(task).get("filter_list") or []
        return str(filters[0]["name"]) if filters else "none"

    def _config(self, task: str) -> dict[str, JSON]:
        return self.manifest.get("tasks", {}).get(task, {}).get("config", {})

    def _metadata(self) -> dict[str, JSON]:
        """Everything beside the numbers."""
        spec, model = self.spec, cast(dict[str, Any], self.manifest.get("model", {}))
        name, system = model_title(self.manifest), spec.get("system_instruction")
        seeds = dict.fromkeys(("random_seed", "numpy_seed", "torch_seed", "fewshot_seed"), spec.get("seed"))
        execution = {key: spec.get(key) for key in ("batch_size", "device", "limit", "gen_kwargs")}
        identity = model.get("identity", {})
        template = identity.get("chat_template") if spec.get("apply_chat_template") else None
        started = self.manifest.get("started")
        return {
            "config": {
                "model": model.get("name"),
                "model_args": model.get("args"),
                "model_num_parameters": model.get("parameters", -1),
                "model_dtype": f"torch.{model['dtype']}" if model.get("dtype") else "",
                "model_revision": identity.get("revision") or "",
                "model_sha": "",  # a commit of a hub, which a folder of weights has not
                "batch_sizes": [],
                "use_cache": None,
                **execution,
                **seeds,
            },
            "git_hash": _git_hash(),
            "upper_git_hash": None,
            "date": datetime.fromisoformat(started).timestamp() if started else None,
            "harness_version": self.manifest.get("versions", {}).get("harness-eval"),
            "transformers_version": self.manifest.get("versions", {}).get("transformers"),
            "model_source": model.get("name"),
            "model_name": name,
            "model_name_sanitized": _folder_of(name),
            "system_instruction": system,
            "system_instruction_sha": sha(system) if system else None,
            "chat_template": template,
            "chat_template_sha": sha(template) if isinstance(template, str) else None,
            "max_length": model.get("max_length"),
            "fewshot_as_multiturn": spec.get("fewshot_as_multiturn"),
            "total_evaluation_time_seconds": str(self.report.get("seconds")),
        }

    def write_samples(self, folder: Path, stamp: str) -> dict[str, str]:
        """One file a subtask, one line a sample and pipeline. Returns subtask -> hash of what was asked.

        The lines of one file are joined, up to a megabyte, so that it is not opened for each of them.
        """
        hashes: dict[str, Any] = {}

        def write(subtask: str, lines: Sequence[bytes]) -> None:
            name = record_file(subtask).removesuffix(".jsonl")
            files.append(folder / f"samples_{name}_{stamp}.jsonl", b"".join(lines))

        current, size = "", 0
        joined: list[bytes] = []
        for subtask, line in self._sample_lines(hashes):
            if joined and (subtask != current or size > _WRITE_BYTES):
                write(current, joined)
                joined, size = [], 0
            current = subtask
            joined.append(line)
            size += len(line)
        if joined:
            write(current, joined)
        return {name: digest.hexdigest() for name, digest in hashes.items()}

    def _sample_lines(self, hashes: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        """(subtask, line) of each sample. hashes: takes in what lm-eval hashes of a subtask's samples, joined."""
        for task in self.report["tasks"]:
            config, only = self._config(task["task"]), self._only_pipeline(task["task"])
            pipelines = dict.fromkeys(ScoreName.parse(metric["metric"]).pipeline or only for metric in task["metrics"])
            for pipeline in pipelines:  # all samples as one pipeline read them, then all as the next did
                for record in filter(self.wanted, self.run.records(task["task"])):
                    line: dict[str, Any] = sample_line(record, config, pipeline, only, self.shown)
                    name = _child(record.task, record.subset)
                    digest = hashes.setdefault(name, hashlib.sha256())
                    digest.update((line["doc_hash"] + line["prompt_hash"] + line["target_hash"]).encode())
                    yield name, encode_line(line)


def _inner_first(groups: Sequence[GroupReport]) -> list[GroupReport]:
    """Groups in lm-eval's order: what a group holds before the group itself."""
    known = {group["group"]: group for group in groups}
    ordered: dict[str, GroupReport] = {}

    def add(name: str) -> None:
        for member in known[name]["members"]:
            if member in known and member not in ordered:
                add(member)
        ordered.setdefault(name, known[name])

    for name in known:
        add(name)
    return list(ordered.values())


def _completed(config: Mapping[str, Any], task: TaskReport) -> dict[str, JSON]:
    """A task's configuration with what it leaves to defaults, which lm-eval writes out (lm_eval/config/task.py)."""
    defaults = {
        "unsafe_code": False,
        "description": "",
        "target_delimiter": " ",
        "fewshot_delimiter": "\n\n",
        "num_fewshot": task.get("num_fewshot") or 0,
        "repeats": 1,
        "should_decontaminate": False,
    }
    whole = {**defaults, **config}
    examples = {
        "sampler": "default",
        "split": whole.get("fewshot_split"),
        **dict.fromkeys(("process_docs", "fewshot_indices", "samples")),
        **{key: whole.get(key) for key in _OF_EXAMPLES},
        **(config.get("fewshot_config") or {}),
    }
    generates = whole.get("output_type", "generate_until") == "generate_until"
    generation = {"generation_kwargs": generation_kwargs(whole)} if generates else {}
    return {**whole, "fewshot_config": examples, **generation}


def _version(task: TaskReport) -> JSON:
    """Of a task that says none, what lm-eval writes of a YAML file (lm_eval/api/task.py, `ConfigurableTask`)."""
    version = task.get("version")
    return "Yaml" if version is None else version


_OF_EXAMPLES = ("doc_to_text", "doc_to_choice", "doc_to_target", "gen_prefix", "fewshot_delimiter", "target_delimiter")
"""Keys that few-shot examples take over from the task."""


def _value(metric: MetricFields, name: str, pipeline: str) -> dict[str, JSON]:
    return {
        f"{name},{pipeline}": metric["value"],
        f"{name}_stderr,{pipeline}": "N/A" if metric["stderr"] is None else metric["stderr"],
    }


def _folder_of(model: str) -> str:
    """The model's name as lm-eval writes it into a path; one that no file system takes is cut, and ends in a hash."""
    name = re.sub(r'["<>:/|\\?*\[\]\x00-\x1f\ud800-\udfff]+', "__", model)
    raw = name.encode()
    if len(raw) > _LONGEST_NAME:
        name = f"{raw[:_LONGEST_NAME].decode(errors='ignore')}-{sha(model)[:8]}"
    return name if name.strip(".") else "model"


def _child(task: str, part: str) -> str:
    return f"{task}_{part}" if part else task


def _git_hash() -> str | None:
    """The commit of the folder that the command runs in, as lm-eval notes it; None outside of a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always"], capture_output=True, text=True, timeout=10, check=True, encoding="utf-8"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
