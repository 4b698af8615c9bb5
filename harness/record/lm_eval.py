"""Writes a run in the shapes of lm-evaluation-harness, so that scripts which read those keep working.

The shapes are those of lm_eval/result_schema.py and lm_eval/loggers/evaluation_tracker.py: `results_<time>.json` and
`samples_<task>_<time>.jsonl` in a folder named after the model. A task with subsets is a group `<task>` there, whose
subtasks are `<task>_<subset>`. A group of tasks is a group there, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import SaveError, UsageError
from harness.record.codec import encode_line, encode_messages, jsonable
from harness.record.coverage import part_words
from harness.record.manifest import model_title, record_file
from harness.record.run import RunFolder
from harness.types import JSON, Prompt, Record, ScoreName

_WRITE_BYTES = 1 << 20
_LONGEST_NAME = 200
"""Bytes. File systems take 255 in one name."""


def check_output_path(output_path: Path) -> None:
    """Raise `UsageError`, before a model loads, where nothing can be written there. Makes no folder."""
    folder = output_path.parent if output_path.suffix == ".json" else output_path
    try:
        if output_path.suffix == ".json":
            output_path.with_name(f"{output_path.stem}_{datetime.now().isoformat()}.json").exists()
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    except OSError as error:  # a name that is too long, or a loop of links
        raise UsageError(f"--output_path {output_path}: {error.strerror or error}; choose another folder") from None
    if not there.is_dir():
        raise UsageError(
            f"--output_path {output_path}: '{there}' is a file; name a folder, or a file that ends in .json"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--output_path {output_path}: '{there}' cannot be written; choose another folder")


def write_lm_eval(
    run: RunFolder,
    output_path: Path,
    *,
    report: Mapping[str, JSON] | None = None,
    log_samples: bool = False,
    wanted: Callable[[Record], bool] = lambda _: True,
) -> Path:
    """Write the results, and the samples if asked for. Returns the results file.

    output_path: a folder, or a file name that ends in `.json`, as for lm-eval. report: of the samples that are wanted;
    left out, that of the folder. Raises SaveError.
    """
    stamp = datetime.now().isoformat().replace(":", "-")
    writer = _Writer(run, report or run.report or {"tasks": []}, wanted)
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


@dataclass
class _Hashes:
    """What lm-eval hashes of a subtask's samples, joined."""

    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, line: Mapping[str, str]) -> None:
        self.digest.update((line["doc_hash"] + line["prompt_hash"] + line["target_hash"]).encode())


class _Writer:
    def __init__(self, run: RunFolder, report: Mapping[str, JSON], wanted: Callable[[Record], bool]) -> None:
        self.run, self.report, self.wanted = run, report, wanted
        self.manifest = run.manifest
        self.spec: Mapping[str, JSON] = self.manifest.get("spec", {})

    def results(self) -> dict[str, JSON]:
        """The aggregated results."""
        names = ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples")
        parts: dict[str, dict[str, JSON]] = {name: {} for name in names}
        groups: dict[str, JSON] = {}
        for task in self.report["tasks"]:
            self._add_task(task, parts, groups)
        for group in self.report.get("groups", ()):
            shots = {task.get("num_fewshot") or 0 for task in self.report["tasks"] if task["task"] in group["tasks"]}
            _add_group(group, shots, self._as_asked(group["members"]), parts, groups)
        return {**parts, **({"groups": groups} if groups else {}), **self._metadata()}

    def _add_task(self, task: Mapping[str, JSON], parts: dict[str, dict[str, JSON]], groups: dict[str, JSON]) -> None:
        name = task["task"]
        children = [_child(name, part["name"]) for part in task["subsets"]]
        # A part of a task is no result of the task: lm-eval, too, reports the subtasks that were asked, and no group.
        parted = bool(part_words(task))
        shown = self._parts(task) if not parted else zip(children, task["subsets"], strict=True)
        entries = [
            *([] if parted else [(name, name, task)]),
            *((child, child if parted else f" - {child}", part) for child, part in shown),
        ]
        for full, alias, part in entries:
            parts["results"][full] = self._metrics(name, full, alias, part)
            parts["higher_is_better"][full] = {
                ScoreName.parse(m["metric"]).metric: m["higher_is_better"] for m in part["metrics"]
            }
        for full, part in zip(children, task["subsets"], strict=True) if children else [(name, task)]:
            self._add_leaf(task, full, part, parts)
        if parted:
            parts["group_subtasks"] |= {child: [] for child in children}
            return
        parts["group_subtasks"][name] = children
        parts["versions"].setdefault(name, task.get("version"))
        if children:
            groups[name] = parts["results"][name]
            for part in task["groups"]:
                groups[_child(name, part["name"])] = parts["results"][_child(name, part["name"])]

    def _as_asked(self, members: Sequence[str]) -> list[str]:
        """The members of a group, and in the place of a task of which only subsets were asked, these."""
        parted = {task["task"]: task["subsets"] for task in self.report["tasks"] if part_words(task)}
        return [
            name
            for member in members
            for name in ([_child(member, part["name"]) for part in parted[member]] if member in parted else [member])
        ]

    def _parts(self, task: Mapping[str, JSON]) -> Iterator[tuple[str, Mapping[str, JSON]]]:
        return ((_child(task["task"], part["name"]), part) for part in [*task["groups"], *task["subsets"]])

    def _add_leaf(
        self, task: Mapping[str, JSON], full: str, part: Mapping[str, JSON], parts: dict[str, dict[str, JSON]]
    ) -> None:
        """What lm-eval says of a task that has rows."""
        samples = part["counts"]["n"]
        parts["configs"][full] = {"task": full, **self._config(task["task"])}
        parts["versions"][full] = task.get("version")
        parts["n-shot"][full] = task.get("num_fewshot") or 0
        rows = (task.get("covers") or {}).get("by_subset", {}).get(part.get("name", ""), [None, None])[1]
        # An older report with a limit does not say how many rows there would have been.
        whole = None if self.spec.get("limit") is not None else samples
        parts["n-samples"][full] = {"original": whole if rows is None else rows, "effective": samples}

    def _metrics(self, task: str, full: str, alias: str, part: Mapping[str, JSON]) -> dict[str, JSON]:
        values: dict[str, JSON] = {"name": full, "alias": alias, "sample_len": part["counts"]["n"]}
        for metric in part["metrics"]:
            name, pipeline = ScoreName.parse(metric["metric"])
            pipeline = pipeline or self._only_pipeline(task)
            values[f"{name},{pipeline}"] = metric["value"]
            values[f"{name}_stderr,{pipeline}"] = "N/A" if metric["stderr"] is None else metric["stderr"]
        return values

    def _only_pipeline(self, task: str) -> str:
        filters = self._config(task).get("filter_list") or []
        return str(filters[0]["name"]) if filters else "none"

    def _config(self, task: str) -> dict[str, JSON]:
        return dict(self.manifest.get("tasks", {}).get(task, {}).get("config", {}))

    def _metadata(self) -> dict[str, JSON]:
        """Everything beside the numbers."""
        spec, model = self.spec, self.manifest.get("model", {})
        name, system = model_title(self.manifest), spec.get("system_instruction")
        seeds = dict.fromkeys(("random_seed", "numpy_seed", "torch_seed", "fewshot_seed"), spec.get("seed"))
        execution = {key: spec.get(key) for key in ("batch_size", "device", "limit", "gen_kwargs")}
        started = self.manifest.get("started")
        return {
            "config": {"model": model.get("name"), "model_args": model.get("args"), **execution, **seeds},
            "git_hash": _git_hash(),
            "date": datetime.fromisoformat(started).timestamp() if started else None,
            "harness_version": self.manifest.get("versions", {}).get("harness-eval"),
            "transformers_version": self.manifest.get("versions", {}).get("transformers"),
            "model_source": model.get("name"),
            "model_name": name,
            "model_name_sanitized": _folder_of(name),
            "system_instruction": system,
            "system_instruction_sha": _sha(system) if system else None,
            "fewshot_as_multiturn": spec.get("fewshot_as_multiturn"),
            "total_evaluation_time_seconds": str(self.report.get("seconds")),
        }

    def write_samples(self, folder: Path, stamp: str) -> dict[str, str]:
        """One file a subtask, one line a sample and pipeline. Returns subtask -> hash of what was asked."""
        hashes: dict[str, _Hashes] = {}
        for path, lines in _by_file(self._sample_lines(hashes), folder, stamp):
            files.append(path, b"".join(lines))
        return {name: found.digest.hexdigest() for name, found in hashes.items()}

    def _sample_lines(self, hashes: dict[str, _Hashes]) -> Iterator[tuple[str, bytes]]:
        for task in self.report["tasks"]:
            for record in self.run.records(task["task"]):
                if not self.wanted(record):
                    continue
                name = _child(record.task, record.subset)
                for line in sample_lines(record, self._config(record.task), self._only_pipeline(record.task)):
                    hashes.setdefault(name, _Hashes()).add(line)
                    yield name, encode_line(line)


def _folder_of(model: str) -> str:
    """The model's name as lm-eval writes it into a path; one that no file system takes is cut, and ends in a hash."""
    name = re.sub(r'["<>:/|\\?*\[\]\x00-\x1f\ud800-\udfff]+', "__", model)
    raw = name.encode()
    if len(raw) > _LONGEST_NAME:
        name = f"{raw[:_LONGEST_NAME].decode(errors='ignore')}-{_sha(model)[:8]}"
    return name if name.strip(".") else "model"


def _add_group(
    group: Mapping[str, JSON],
    shots: set[JSON],
    members: Sequence[str],
    parts: dict[str, dict[str, JSON]],
    groups: dict[str, JSON],
) -> None:
    """A group of tasks, under the keys of lm_eval/api/group.py; without values where it asks for none."""
    name = group["group"]
    # A group that is written inside another one is called by its whole name, where it has no alias.
    alias = name if name.endswith(f"::{group['title']}") else group["title"]
    values: dict[str, JSON] = {"alias": alias, "name": name}
    if group["metrics"]:
        values["sample_len"] = group["counts"]["n"]
    scored = {}
    for metric in group["metrics"]:
        if metric["value"] is not None:
            base = ScoreName.parse(metric["metric"]).metric
            key = f"{base},{metric['filter']}"
            scored[key] = metric["n"]
            values[key] = metric["value"]
            values[f"{base}_stderr,{metric['filter']}"] = "N/A" if metric["stderr"] is None else metric["stderr"]
    parts["results"][name] = values if not scored else {**values, "sample_count": scored}
    parts["group_subtasks"][name] = members
    parts["versions"][name] = group["version"] or "N/A"
    if len(shots) == 1:
        (parts["n-shot"][name],) = shots
    better = [parts["higher_is_better"].get(task, {}) for task in group["tasks"]]
    parts["higher_is_better"][name] = {metric: way for found in better for metric, way in found.items()}
    if group["metrics"]:
        groups[name] = parts["results"][name]


def sample_lines(record: Record, config: Mapping[str, JSON], only_pipeline: str) -> Iterator[dict[str, JSON]]:
    """One sample as lm-eval logs it: a line for each filter pipeline. `doc` is the row as loaded."""
    named = {ScoreName.parse(key): value for key, value in record.scores.items()}
    pipelines = [*dict.fromkeys(name.pipeline or only_pipeline for name in named)] or [only_pipeline]
    prompt = _prompt_text(record.prompt)
    doc = jsonable(record.doc)
    target = str(list(record.target) if isinstance(record.target, tuple) else record.target)
    for pipeline in pipelines:
        scores = {name.metric: value for name, value in named.items() if (name.pipeline or only_pipeline) == pipeline}
        yield {
            "doc_id": record.id,
            **({"view": record.view.index} if record.view is not None else {}),
            "doc": doc,
            "target": target,
            "arguments": _arguments(record, prompt, config),
            "resps": _replies(record),
            "filtered_resps": _filtered(record, pipeline),
            "filter": pipeline,
            "metrics": list(scores),
            "doc_hash": _sha(json.dumps(doc, indent=2, ensure_ascii=False)),
            "prompt_hash": _sha(prompt),
            "target_hash": _sha(target),
            **jsonable(scores),
        }


def _arguments(record: Record, prompt: str, config: Mapping[str, JSON]) -> dict[str, JSON]:
    if record.contexts:
        pairs: list[JSON] = [(_prompt_text(context), record.continuation) for context in record.contexts]
    elif record.choices and record.logprobs:
        # In a chat the choice begins the turn, and a delimiter stands only behind a prefill without a blank at its end.
        prefill = record.prompt.prefill
        bare = record.prompt.is_chat and (not prefill or prefill[-1].isspace())
        delimiter = "" if bare else config.get("target_delimiter", " ")
        pairs = [(prompt, delimiter + choice) for choice in record.choices]
    elif record.logprobs and config.get("output_type") == "loglikelihood":
        pairs = [(prompt, record.target)]
    elif record.logprobs:
        pairs = [(prompt,)]
    else:
        pairs = [(prompt, config.get("generation_kwargs") or {})]
    return {
        f"gen_args_{index}": {f"arg_{place}": value for place, value in enumerate(pair)}
        for index, pair in enumerate(pairs)
    }


def _replies(record: Record) -> list[JSON]:
    """Requests x repeats; lm-eval writes every number in them as text."""
    if not record.logprobs:
        return [[str(response.text) for response in record.responses]]
    return [[pair] for pair in _likelihoods(record)]


def _filtered(record: Record, pipeline: str) -> list[JSON]:
    if record.logprobs:
        return list(_likelihoods(record))
    answers = record.answers.get(pipeline, ())
    return [str(answers[0])] if len(answers) == 1 else [[str(answer) for answer in answers]]


def _likelihoods(record: Record) -> Iterator[list[str]]:
    greedy = [flag for response in record.responses for flag in response.is_greedy]
    for index, value in enumerate(record.logprobs):
        yield [str(value), str(greedy[index])] if index < len(greedy) else [str(value)]


def _prompt_text(prompt: Prompt) -> str:
    if not prompt.is_chat:
        return prompt.text
    return json.dumps(encode_messages(prompt.messages), ensure_ascii=False) + prompt.prefill


def _by_file(lines: Iterator[tuple[str, bytes]], folder: Path, stamp: str) -> Iterator[tuple[Path, list[bytes]]]:
    """Join the lines of one file, up to a megabyte, so that no file is opened for each of them."""
    current, size = "", 0
    joined: list[bytes] = []
    for name, line in lines:
        if joined and (name != current or size > _WRITE_BYTES):
            yield _samples_file(folder, current, stamp), joined
            joined, size = [], 0
        current = name
        joined.append(line)
        size += len(line)
    if joined:
        yield _samples_file(folder, current, stamp), joined


def _samples_file(folder: Path, name: str, stamp: str) -> Path:
    return folder / f"samples_{record_file(name).removesuffix('.jsonl')}_{stamp}.jsonl"


def _child(task: str, part: str) -> str:
    return f"{task}_{part}" if part else task


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _git_hash() -> str | None:
    """The commit of the folder that the command runs in, as lm-eval notes it; None outside of a repository."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always"], capture_output=True, text=True, timeout=10, check=True, encoding="utf-8"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
