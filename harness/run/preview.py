"""What a model would be shown, without loading it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.errors import UsageError, suggest
from harness.registry import Registry
from harness.run.answers import plugin_errors
from harness.run.jobs import build, create_model, load_jobs
from harness.run.spec import Progress, RunSpec
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
    job = load_jobs(replace(spec, tasks=spec.tasks[:1]), registry, Progress())[0]
    names = [item.name for item in job.task.subsets]
    if subset is not None and subset not in names:
        raise UsageError(f"--subset: task '{job.task.name}' has no subset '{subset}'{suggest(subset, names)}")
    model = create_model(spec, registry)
    with plugin_errors(spec.model, "could not be prepared"):
        model.prepare()
    job.task = replace(job.task, subsets=tuple(item for item in job.task.subsets if subset in (None, item.name))[:1])
    build([job], replace(spec, limit=doc + 1), registry)
    chosen = [sample for sample in job.samples if sample.id == doc]
    if not chosen:
        rows = len({sample.id for sample in job.samples})
        raise UsageError(f"--doc: task '{job.task.name}' has no row {doc}; it has {rows} rows")
    texts = [model.render(sample.requests[0].prompt) for sample in chosen]
    return [Preview(sample, text, model.count_tokens(text)) for sample, text in zip(chosen, texts, strict=True)]
