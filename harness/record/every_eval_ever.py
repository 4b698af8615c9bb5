"""Results as *Every Eval Ever* has them: a JSON file a task, and its samples line by line (schema 0.3.0).

The schemas are `eval.schema.json` and `instance_level_eval.schema.json` of github.com/evaleval/every_eval_ever; files
lie in `data/TASK/DEVELOPER/MODEL/UUID.json`. All values of `details` are texts there. A value that nobody answered for
has no entry, nor has a sample without a score, which the schema cannot hold: both are counted.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.record.hub_results import hub_dataset
from harness.record.keys import canonical_json
from harness.record.manifest import model_title, safe_name
from harness.record.manifest_fields import Manifest
from harness.record.report_fields import Report, TaskReport
from harness.record.score_fields import MetricFields
from harness.record.shown import finite, interval_of
from harness.types import JSON, Record

SCHEMA_VERSION = "0.3.0"
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
_SERVED = ("openai", "replay", "dummy")


class EveryEvalEver:
    """The files of one run. organization: who measured; relationship: to the model, one of `RELATIONSHIPS`.

    now: seconds since 1970, when the files are made.
    """

    def __init__(self, manifest: Manifest, report: Report, *, organization: str, relationship: str, now: float) -> None:
        self.manifest, self.report, self.now = manifest, report, str(int(now))
        self.organization, self.relationship = organization, relationship
        parts = [safe_name(part) for part in model_title(report).strip("/").replace("\\", "/").split("/") if part]
        self.developer, self.model = (parts[-2] if len(parts) > 1 else "unknown"), (parts[-1] if parts else "model")
        self.model_id = f"{self.developer}/{self.model}"

    def evaluation_id(self, task: str) -> str:
        return f"{task}/{self.model_id}/{self.now}"

    def path(self, task: str) -> Path:
        """Where the file of a task lies; the same run and task give the same one."""
        seed = canonical_json([self.manifest["identity"], self.manifest.get("started"), task], "the run's identity")
        name = uuid.UUID(bytes=hashlib.sha256(seed).digest()[:16], version=4)
        return Path("data") / safe_name(task.replace(":", "@")) / self.developer / self.model / f"{name}.json"

    def samples_path(self, task: str) -> Path:
        path = self.path(task)
        return path.with_name(f"{path.stem}_samples.jsonl")

    def evaluation(self, task: TaskReport, samples: Mapping[str, JSON] | None) -> dict[str, JSON]:
        """The file of a task. samples: what `detailed_evaluation_results` says of its samples."""
        results = [self._result(task, metric) for metric in task["metrics"] if finite(metric["value"]) is not None]
        versions = self.report.get("versions") or {}
        return {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": self.evaluation_id(task["task"]),
            **self._timestamp(),
            "retrieved_timestamp": self.now,
            "source_metadata": {
                "source_name": "harness-eval",
                "source_type": "evaluation_run",
                "source_organization_name": self.organization,
                "evaluator_relationship": self.relationship,
            },
            "eval_library": {"name": "harness-eval", "version": versions.get("harness-eval", "unknown")},
            "model_info": self._model(),
            "evaluation_results": results,
            **({"detailed_evaluation_results": samples} if samples else {}),
        }

    def _timestamp(self) -> dict[str, JSON]:
        try:
            moment = datetime.fromisoformat(str(self.report.get("started")))
        except ValueError:
            return {}
        return {"evaluation_timestamp": str(int(moment.timestamp()))}

    def _model(self) -> dict[str, JSON]:
        model = self.report.get("model") or {}
        plugin, versions = str(model.get("name", "unknown")), self.report.get("versions") or {}
        engine = {"hf": "transformers", "hf_vlm": "transformers"}.get(plugin, plugin)
        args = {f"argument {name}": _text(value) for name, value in (model.get("args") or {}).items()}
        deployment = "unknown" if plugin in _SERVED else "self_deployed"
        return {
            "name": self.model,
            "id": self.model_id,
            "developer": self.developer,
            "inference_engine": {"name": engine, "version": versions.get(engine, "unknown")},
            "additional_details": {"deployment_type": deployment, "model_availability": "unknown", **args},
        }

    def _result(self, task: TaskReport, metric: MetricFields) -> dict[str, JSON]:
        stderr, interval = finite(metric["stderr"]), interval_of(metric)
        low, high = metric.get("bounds") or (None, None)
        uncertainty: dict[str, JSON] = {"num_samples": metric["n"]}
        if stderr is not None:
            uncertainty["standard_error"] = {"value": stderr, "method": "bootstrap or analytic, clustered where asked"}
        if interval is not None:
            ends = {"lower": interval[0], "upper": interval[1]}
            uncertainty["confidence_interval"] = {**ends, "confidence_level": 0.95}
        counts = {name: str(count) for name, count in task["counts"].items()}
        return {
            "evaluation_result_id": f"{self.evaluation_id(task['task'])}/{metric['metric']}",
            "evaluation_name": task["task"],
            "source_data": self._source(task["task"]),
            "metric_config": {
                "metric_name": metric["metric"],
                "lower_is_better": not metric["higher_is_better"],
                "score_type": "continuous",
                "min_score": low,
                "max_score": high,
            },
            "score_details": {"score": finite(metric["value"]), "details": counts, "uncertainty": uncertainty},
            "generation_config": self._generation(task),
        }

    def _source(self, task: str) -> dict[str, JSON]:
        fields = self.manifest.get("tasks", {}).get(task, {})
        dataset = hub_dataset(self.manifest, task)
        if dataset is None:
            return {"dataset_name": str(fields.get("title") or task), "source_type": "other"}
        details = {"hf_config": dataset[1], "hf_split": fields.get("split") or "unknown"}
        return {
            "dataset_name": str(fields.get("title") or task),
            "source_type": "hf_dataset",
            "hf_repo": dataset[0],
            "samples_number": fields.get("samples") or 0,
            "additional_details": details,
        }

    def _generation(self, task: TaskReport) -> dict[str, JSON]:
        config: Mapping[str, Any] = self.manifest.get("tasks", {}).get(task["task"], {}).get("config", {})
        asked: Mapping[str, Any] = {
            **(config.get("generation_kwargs") or {}),
            **(self.manifest.get("spec", {}).get("gen_kwargs") or {}),
        }
        args: dict[str, JSON] = {}
        for name in ("temperature", "top_p", "top_k"):
            if isinstance(asked.get(name), int | float) and not isinstance(asked[name], bool):
                args[name] = asked[name]
        longest = asked.get("max_gen_toks") or asked.get("max_new_tokens") or asked.get("max_tokens")
        if isinstance(longest, int) and longest > 0:
            args["max_tokens"] = longest
        if command := self.report.get("command"):
            args["execution_command"] = command
        details = {"num_fewshot": _text(task.get("num_fewshot")), "output_type": _text(config.get("output_type"))}
        return {"generation_args": args, "additional_details": details}

    def sample(self, record: Record, key: str) -> dict[str, JSON] | None:
        """A line of the samples; None where there is no score that the schema could hold. key: of the score."""
        score = record.scores.get(key)
        if not isinstance(score, int | float) or isinstance(score, bool) or record.error is not None:
            return None
        replies = [response.text for response in record.responses if response.text is not None]
        if not replies and record.choices and len(record.logprobs) == len(record.choices):
            replies = [record.choices[record.logprobs.index(max(record.logprobs))]]
        golds = record.target if isinstance(record.target, tuple) else (record.target,)
        references = [_gold(gold, record.choices) for gold in golds if gold is not None]
        read = next(((name, answers[0]) for name, answers in record.answers.items() if answers), None)
        raw, joined = _clean(record.prompt.text), "".join(references)
        view = f"@{record.view.index}" if record.view is not None else ""
        line: dict[str, JSON] = {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": self.evaluation_id(record.task),
            "model_id": self.model_id,
            "evaluation_name": record.task,
            "evaluation_result_id": f"{self.evaluation_id(record.task)}/{key}",
            "sample_id": "/".join(filter(None, (record.subset, str(record.id)))) + view,
            "sample_hash": hashlib.sha256((raw + joined).encode("utf-8", "replace")).hexdigest(),
            "interaction_type": "single_turn",
            "input": {"raw": raw, "reference": references, "choices": [_clean(c) for c in record.choices] or None},
            "output": {"raw": [_clean(reply) for reply in replies]},
            "messages": None,
            "answer_attribution": [
                {
                    "turn_idx": 0,
                    "source": "output.raw",
                    "extracted_value": _clean((read[1] if read else None) or (replies[0] if replies else "")),
                    "extraction_method": read[0] if read else "log-probability" if record.choices else "none",
                    "is_terminal": True,
                }
            ],
            "evaluation": {"score": float(score), "is_correct": float(score) == 1.0},
            "metadata": {"subset": record.subset, "unparsed": str(record.unparsed).lower()},
        }
        return line


def _gold(gold: int | str, choices: tuple[str, ...]) -> str:
    return _clean(choices[gold] if isinstance(gold, int) and 0 <= gold < len(choices) else str(gold))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _text(value: JSON) -> str:
    return _clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def sample_lines(files: EveryEvalEver, records: Iterator[Record], key: str, count: dict[str, int]) -> Iterator[bytes]:
    """The samples of a task as lines. count: gets how many were `written` and how many are `unscored`."""
    for record in records:
        line = files.sample(record, key)
        count["unscored" if line is None else "written"] += 1
        if line is not None:
            yield json.dumps(line, ensure_ascii=False).encode() + b"\n"
