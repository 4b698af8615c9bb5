"""A run as files that others read: the hub's evaluation results, and *Every Eval Ever*'s.

    export_hub(load_run("runs/A"), Path("upload"))
    export_every_eval_ever(load_run("runs/A"), Path("upload"), organization="Lab", relationship="first_party")

Both write into a folder of their own and return what was written and what was left out, one line each.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from harness import files
from harness.errors import UsageError
from harness.record.every_eval_ever import EveryEvalEver, sample_lines
from harness.record.hub_results import hub_results
from harness.record.manifest import safe_name
from harness.record.report_fields import Report
from harness.record.run import RunFolder
from harness.run.parquet import write_parquet


def export_hub(
    folder: RunFolder, target: Path, source_url: str | None = None, *, partial: bool = False
) -> Iterator[str]:
    """Write `.eval_results/TASK.yaml` for a model's repository and `details/TASK.parquet` for one of data.

    source_url: where the details can be seen, which the hub links. partial: also values of a part of a task, marked so.
    Raises `UsageError` and `SaveError`.
    """
    report = _report(folder)
    for found in hub_results(folder.manifest, report, source_url, partial=partial):
        if found.problem:
            yield f"{found.task}: left out of the hub's results: {found.problem}"
            continue
        text = yaml.safe_dump([dict(found.entry)], sort_keys=False, allow_unicode=True)
        yield _written(target / found.file, [text.encode("utf-8", "replace")])
    for task in report["tasks"]:
        path = target / "details" / f"{safe_name(task['task'].replace(':', '@'))}.parquet"
        count = write_parquet(folder, path, task["task"])
        yield f"{path}: {count:,} samples"


def export_every_eval_ever(
    folder: RunFolder, target: Path, *, organization: str, relationship: str, samples: bool = True
) -> Iterator[str]:
    """Write a JSON file a task, and its samples beside it. Raises `UsageError` and `SaveError`."""
    report = _report(folder)
    made = EveryEvalEver(folder.manifest, report, organization=organization, relationship=relationship, now=time.time())
    for task in report["tasks"]:
        name, details = task["task"], None
        if samples and task["metrics"]:
            path = made.samples_path(name)
            count = {"written": 0, "unscored": 0}
            digest = hashlib.sha256()
            lines = sample_lines(made, folder.records(name), task["metrics"][0]["metric"], count)
            yield _written(target / path, _hashed(lines, digest))
            if count["unscored"]:
                yield f"{name}: {count['unscored']:,} samples without a score are left out, which the form cannot hold"
            details = {
                "format": "jsonl",
                "file_path": path.as_posix(),
                "hash_algorithm": "sha256",
                "checksum": digest.hexdigest(),
                "total_rows": count["written"],
                "additional_details": {"unscored_samples": str(count["unscored"])},
            }
        body = json.dumps(made.evaluation(task, details), ensure_ascii=False, indent=2)
        yield _written(target / made.path(name), [body.encode("utf-8", "replace"), b"\n"])


def _report(folder: RunFolder) -> Report:
    if folder.kind != "run":
        raise UsageError(f"{folder.path}: holds judgements; name the run that was judged")
    if folder.report is None:
        raise UsageError(f"{folder.path}: has no report yet: the run has not ended; its command goes on with it")
    return folder.report


def _hashed(lines: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    for line in lines:
        digest.update(line)
        yield line


def _written(path: Path, chunks: Any) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.save_error(path, error) from error
    files.replace(path, chunks)
    return str(path)
