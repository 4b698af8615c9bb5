"""Small task files and rows for the tests of the tasks room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import DatasetSpec, Rows, Sample
from harness.tasks.build import build_samples
from harness.tasks.build_options import BuildOptions, SubsetNotes
from harness.tasks.library import TaskLibrary
from harness.tasks.task import Task

CHOICE = """\
task: exam
dataset_path: org/exam
test_split: test
fewshot_split: dev
output_type: multiple_choice
description: "Subject.\\n\\n"
doc_to_text: "{{q}}\\nAnswer:"
doc_to_choice: ['yes', 'no']
doc_to_target: "{{a}}"
metric_list: [{metric: acc}]
"""
REPLY = """\
task: talk
dataset_path: org/talk
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{a}}"
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def library(folder: Path, **more: Any) -> TaskLibrary:
    return TaskLibrary([("pack", folder)], [], cache_dir=folder / "cache", **more)


def load(folder: Path, text: str, name: str = "task.yaml", variant: str = "", **overrides: Any) -> Task:
    """Write a task file and load its task."""
    write(folder, name, text)
    books = library(folder)
    (entry,) = [entry for entry in books.entries() if entry.path.name == Path(name).name]
    (ref,) = books.select([entry.name + variant])
    return books.load(ref, overrides)


def build(
    task: Task,
    rows: Sequence[Mapping[str, Any]],
    shots: Sequence[Mapping[str, Any]] = (),
    notes: SubsetNotes | None = None,
    **options: Any,
) -> list[Sample]:
    """The samples of a task's first subset. `shots` are the rows of every split but the one that is asked."""

    def open_split(spec: DatasetSpec, split: str) -> Rows:
        return Rows(rows if split == task.eval_split else shots, "", "here")

    return list(build_samples(task, task.subsets[0], open_split, BuildOptions(**options), notes))


def prompts(samples: Sequence[Sample]) -> list[str]:
    return [sample.requests[0].prompt.text for sample in samples]
