"""What a model would be shown, without loading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.errors import UsageError, suggest
from harness.quick import dataclass
from harness.registry import Registry
from harness.run.answers import plugin_errors, unreadable
from harness.run.jobs import TaskJob
from harness.run.prepare import prepare_run
from harness.run.spec import RunSpec
from harness.types import Sample


@dataclass(frozen=True, slots=True)
class Preview:
    """What a model would be shown for one view of a row."""

    sample: Sample
    text: str
    tokens: int | None


def preview(spec: RunSpec, registry: Registry, subset: str | None = None, doc: int = 0) -> list[Preview]:
    """Render one row of the first task of `spec` as the model of `spec` would see it, each of its views.

    Loads no weights.
    """

    def narrow(jobs: Sequence[TaskJob]) -> list[TaskJob]:
        job = jobs[0]
        names = [item.name for item in job.task.subsets]
        if subset is not None and subset not in names:
            raise UsageError(f"--subset: task '{job.task.name}' has no subset '{subset}'{suggest(subset, names)}")
        job.task = replace(job.task, subsets=job.task.subsets[names.index(subset) if subset is not None else 0 :][:1])
        return [job]

    spec = replace(spec, tasks=spec.tasks[:1], limit=doc + 1)
    with prepare_run(spec, [spec.model_args], registry, narrow=narrow, scoring=False, showing=True) as prepared:
        (job,), (model,) = prepared.jobs, prepared.models
        chosen = [sample for sample in job.samples if sample.id == doc]
        if not chosen:
            rows = len({sample.id for sample in job.samples})
            raise UsageError(f"--doc: task '{job.task.name}' has no row {doc}; it has {rows} rows")
        for sample in chosen:
            if problem := unreadable(sample.requests[0]):
                where = f"{sample.subset} {sample.id}".strip()
                raise UsageError(f"task '{job.task.name}', row {where}: {problem}")
        with plugin_errors(spec.model, "could not show a prompt"):
            texts = [model.render(sample.requests[0].prompt) for sample in chosen]
            return [Preview(sample, text, model.count_tokens(text)) for sample, text in zip(chosen, texts, strict=True)]
