"""What the tests of the record share: a sample that holds everything a record can hold, and a folder to put it in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import MetricResult, Prompt, Record, Response
from harness.record.report import build_report
from harness.record.run import OnDisk, RunFolder
from harness.types import Counts, Result, Sample

IDENTITY = {"model": {"name": "tiny", "revision": "a1"}, "tasks": {"law": "d1"}, "seed": 1234}
MANIFEST = {"command": "harness --tasks law", "tasks": {"law": {"subsets": ["civil", "criminal"], "num_fewshot": 5}}}
ACCURACY = MetricResult("acc", 0.5, 6, 0.2, (0.1, 0.9))
REPORT = build_report(MANIFEST, [Result("law", "law", "task", Counts(6), (ACCURACY,))])
SHOTS = "以下是中国关于法学考试的单项选择题。\r\n\r\n"


def make_record(number: int = 0, subset: str = "civil", task: str = "law", **fields: Any) -> Record:
    """A scored multiple-choice sample."""
    known: dict[str, Any] = {
        "task": task,
        "subset": subset,
        "id": number,
        "doc": {"question": f"问题 {number} 🙂", "A": "甲"},
        "prompt": Prompt(prefix=SHOTS, suffix=f"问题 {number}\r\n答案:"),
        "target": number % 4,
        "choices": ("A", "B", "C", "D"),
        "responses": (
            Response(logprobs=(-0.1, -1 / 3, -3.0, -4.5), is_greedy=(True, False, False, False), seconds=0.5),
        ),
        "request_keys": (f"{task}-{subset}-{number}",),
        "scores": {"acc": float(number % 2)},
        "rules": "d1",
    }
    return Record(**{**known, **fields})


def on_disk(run: RunFolder, record: Record, *keys: str, **changed: Any) -> OnDisk:
    """How far the sample of a record is, asked by these keys."""
    seen = replace(record, **changed)
    sample = Sample(seen.task, seen.subset, seen.id, seen.doc, (), seen.target, seen.choices, seen.cluster)
    return run.find(sample, keys or record.request_keys, seen.rules)


def open_run(folder: Path) -> RunFolder:
    """The run folder below `folder`, the same each time, as the same command would open it."""
    return RunFolder.open(folder / "runs", "tiny", IDENTITY, MANIFEST)
