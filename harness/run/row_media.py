"""The media of a run's rows, found again where the files that its records name are gone or have moved."""

from __future__ import annotations

from dataclasses import replace

from harness.data.open import open_dataset
from harness.errors import HarnessError, UsageError
from harness.registry import Registry
from harness.run.jobs import load_job, open_library
from harness.run.modify import make_modifiers
from harness.run.samples import build_options
from harness.run.spec import RunSpec
from harness.tasks.build import built_rows
from harness.tasks.modify import labels_of
from harness.types import DatasetSpec, Media, Rows


def media_of_rows(spec: RunSpec, task: str, subset: str, registry: Registry) -> dict[str, Media]:
    """Hash -> what the rows of a subset show now, as the run of `spec` would be built today.

    Asks no network, and runs no Python of the task: whoever only looks at a run has consented to neither. Raises
    HarnessError where the task or its rows cannot be opened so.
    """
    spec = replace(spec, offline=True, trust_task_code=(), trust_task_code_in_process=(), metrics=())
    modifiers = make_modifiers(spec.modify, registry)
    library = open_library(spec, registry)
    refs = [ref for ref in library.select(spec.tasks) if ref.full_name + labels_of(modifiers) == task]
    if not refs:
        raise UsageError(f"the run's tasks do not name '{task}' any more")
    job = load_job(library, refs[0], spec, registry, modifiers)

    def open_split(dataset: DatasetSpec, split: str) -> Rows:
        return open_dataset(dataset, split, registry.hook)

    shown: dict[str, Media] = {}
    for _, samples in built_rows(job.task, job.task.subset(subset), open_split, build_options(spec, job)):
        for sample in () if isinstance(samples, HarnessError) else samples:
            media = (each for request in sample.requests for each in request.prompt.shown_media)
            shown.update((each.sha256, each) for each in media if not each.problem)
    return shown
