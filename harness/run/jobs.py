"""All that happens before a model loads: tasks, metrics, rows and prompts, and the refusal of what cannot work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.data.mirror import pull
from harness.data.open import open_dataset
from harness.errors import UsageError
from harness.metrics import MetricOptions, RepeatMetric
from harness.model import Model, ModelOptions
from harness.modifiers import Modifier
from harness.registry import Registry
from harness.run.modify import make_modifiers, modified_groups
from harness.run.spec import Progress, RunSpec
from harness.scoring import sandbox
from harness.scoring.groups import MemberScores, problems
from harness.scoring.scorer import Scorer
from harness.scoring.view_scorer import ViewScorer
from harness.tasks.build import BuildOptions, build_samples
from harness.tasks.groups import Way, tree
from harness.tasks.library import TaskLibrary, TaskRef
from harness.tasks.modify import option_labels
from harness.tasks.rows import needed_splits
from harness.tasks.task import Task
from harness.tasks.yaml_file import FileLine
from harness.types import (
    JSON,
    DatasetSpec,
    GroupMembers,
    MetricSpec,
    Prompt,
    Record,
    Response,
    Result,
    Rows,
    Sample,
)

AddedMetric = str | Mapping[str, JSON]
"""One of `--metrics`: a name, or an entry as `metric_list` has it."""


@dataclass(slots=True)
class Job:
    """One task of a run: how it is scored, its samples, and the ways by which groups name it."""

    task: Task
    scorer: Scorer
    samples: list[Sample] = field(default_factory=list)
    ways: tuple[Way, ...] = ()

    def member_scores(self, results: Sequence[Result] = ()) -> MemberScores:
        """What a group of tasks knows of this one."""
        return MemberScores(self.scorer.reported, self.task.scoring.pipelines[0].name, results)


def open_library(spec: RunSpec, registry: Registry) -> TaskLibrary:
    """All task files that this run can name."""
    return TaskLibrary(
        registry.task_folders(), registry.template_folders(), [Path(folder) for folder in spec.include_path]
    )


def load_jobs(spec: RunSpec, registry: Registry, progress: Progress) -> list[Job]:
    """Select and load the tasks, and resolve their metrics and filters. Raises `UsageError`."""
    if not spec.tasks:
        raise UsageError("--tasks: name at least one task (`harness tasks` lists them)")
    sandbox.check_mode(spec.sandbox)
    library = open_library(spec, registry)
    try:
        refs = library.select(spec.tasks)
    except UsageError as error:
        if registry.broken and "unknown task '" in str(error):
            raise UsageError(f"{error}{registry.missing_plugins}") from None
        raise
    modifiers = make_modifiers(spec.modify, registry)
    unused = set(spec.overrides) - {name for ref in refs for name in (ref.name, ref.full_name)}
    if unused:
        raise UsageError(f"--set: task '{sorted(unused)[0]}' is not among the tasks of this run")
    jobs = [_load_job(library, ref, spec, registry, progress, modifiers) for ref in refs]
    for name in map(added_name, spec.metrics):
        if not any(key.metric.name == registry.metric(name).name for job in jobs for key in job.scorer.keys):
            fits = ", ".join(sorted(registry.metric(name).output_types))
            raise UsageError(f"--metrics: '{name}' can score none of these tasks (it scores: {fits})")
    scores = {job.task.name: job.member_scores() for job in jobs}
    for members in groups_of(jobs):
        for problem in problems(members, scores):
            progress.message(problem)
    return jobs


def groups_of(jobs: Sequence[Job]) -> list[GroupMembers]:
    """The groups by which the tasks of a run were named; of modified tasks, modified groups."""
    found = tree((job.task.name, job.ways) for job in jobs)
    names = {name: new for job in jobs for name, new in job.scorer.renamed.items()}
    return modified_groups(found, jobs[0].task.modifiers if jobs else (), names)


def _load_job(
    library: TaskLibrary,
    ref: TaskRef,
    spec: RunSpec,
    registry: Registry,
    progress: Progress,
    modifiers: Sequence[Modifier],
) -> Job:
    overrides = {**spec.overrides.get(ref.name, {}), **spec.overrides.get(ref.full_name, {})}
    task = library.load(ref, overrides, modifiers)
    if spec.num_fewshot is not None and "num_fewshot" not in overrides:
        # A task that says 0 has no examples to show (as in lm-eval).
        if task.config.num_fewshot == 0 and spec.num_fewshot > 0:
            progress.message(f"{task.name}: zero-shot by its protocol, --num_fewshot {spec.num_fewshot} is not used")
        else:
            flag = (spec.num_fewshot, FileLine(Path("--num_fewshot"), 0))
            ref = replace(ref, changes={**ref.changes, "num_fewshot": flag})
            task = library.load(ref, overrides, modifiers)
    if added := _added_metrics(task, spec, registry):
        own = task.scoring.metrics
        task = library.load(ref, {**overrides, "metric_list": [*map(_metric_entry, own), *added]}, modifiers)
        # The task's own metrics still stand where they stood; those that were added are of the flag.
        lines = [*(item.where for item in own), *("--metrics" for _ in added)]
        metrics = tuple(replace(item, where=line) for item, line in zip(task.scoring.metrics, lines, strict=True))
        task = replace(task, scoring=replace(task.scoring, metrics=metrics))
    return Job(task, make_scorer(task, registry), ways=ref.ways)


def make_scorer(task: Task, registry: Registry) -> Scorer:
    """What scores a task: each sample, and the views of a row together where the task is modified."""
    where = str(task.file)
    if task.modifiers:
        labels = option_labels(task.config)
        scorer: Scorer = ViewScorer(task.scoring, registry.metric, registry.filter, where, task.modifiers, labels)
    else:
        scorer = Scorer(task.scoring, registry.metric, registry.filter, where=where)
    for metric in (key.metric for key in scorer.keys):
        if isinstance(metric, RepeatMetric) and metric.replies > task.config.repeats:
            raise UsageError(
                f"{where}: metric '{metric.name}' needs {metric.replies} replies to each question, and task "
                f"'{task.name}' has repeats: {task.config.repeats} (--set {task.base_name}.repeats={metric.replies})"
            )
    return scorer


def prepare_metrics(jobs: Sequence[Job], spec: RunSpec) -> None:
    """Have all metrics look at what they need on this machine. Raises `UsageError`.

    Not where tasks are only looked at, or runs compared: that may be another machine.
    """
    for job in jobs:
        job.scorer.prepare(MetricOptions(job.task.file.parent, spec.device, spec.offline, spec.sandbox))


def _added_metrics(task: Task, spec: RunSpec, registry: Registry) -> list[dict[str, JSON]]:
    """What `--metrics` adds to a task: those that can score it, and that it does not have."""
    known = {item.metric for item in task.scoring.metrics}
    added = []
    for entry in spec.metrics:
        name = added_name(entry)
        if name in known and not isinstance(entry, str):
            raise UsageError(f"--metrics: task '{task.name}' has '{name}' already, with options of its own")
        if name not in known and task.scoring.output_type in registry.metric(name).output_types:
            added.append({"metric": name} if isinstance(entry, str) else dict(entry))
    return added


def added_name(entry: AddedMetric) -> str:
    """The metric that an entry of `--metrics` names."""
    return entry if isinstance(entry, str) else str(entry["metric"])


def _metric_entry(item: MetricSpec) -> dict[str, JSON]:
    """An entry of `metric_list`, as a task file would say it."""
    given = {"aggregation": item.aggregation, "higher_is_better": item.higher_is_better}
    kept = {key: value for key, value in given.items() if value is not None}
    return {"metric": item.metric, **kept, **item.options}


def create_model(spec: RunSpec, registry: Registry) -> Model:
    """Make the model of a run; no weights yet."""
    options = ModelOptions(spec.batch_size, spec.max_batch_size, spec.device, spec.offline)
    args = dict(spec.model_args)
    kind = registry.model(spec.model)
    if isinstance(spec.apply_chat_template, str):
        if not kind.takes("chat_template"):
            what = f"model '{spec.model}' has no chat templates to choose from; say the flag without a name"
            raise UsageError(f"--apply_chat_template {spec.apply_chat_template}: {what}")
        args.setdefault("chat_template", spec.apply_chat_template)
    return kind.create(args, options)


def build_options(spec: RunSpec, job: Job) -> BuildOptions:
    """How this run renders the rows of a task."""
    return BuildOptions(
        seed=spec.seed,
        apply_chat_template=bool(spec.apply_chat_template),
        fewshot_as_multiturn=spec.fewshot_as_multiturn,
        system_instruction=spec.system_instruction,
        gen_kwargs=spec.gen_kwargs,
        limit=spec.limit,
        hub=spec.hub,
        mirrors=spec.data,
        offline=spec.offline,
        unconditional=job.scorer.needs_unconditional,
    )


def build(jobs: Sequence[Job], spec: RunSpec, registry: Registry) -> dict[str, str]:
    """Open the rows of every task and render its samples. Returns split -> fingerprint."""
    fingerprints: dict[str, str] = {}
    for job in jobs:

        def open_split(dataset: DatasetSpec, split: str, task: str = job.task.name) -> Rows:
            rows = open_dataset(dataset, split, registry.hook)
            fingerprints["/".join(part for part in (task, dataset.name, split) if part)] = rows.fingerprint
            return rows

        for subset in job.task.subsets:
            job.samples.extend(build_samples(job.task, subset, open_split, build_options(spec, job)))
    return fingerprints


def check_abilities(model: Model, spec: RunSpec, jobs: Sequence[Job]) -> None:
    """Refuse a task that asks for more than the model can do."""
    for job in jobs:
        for request in (request for sample in job.samples[:1] for request in sample.requests):
            if request.kind not in model.supports:
                can = ", ".join(sorted(model.supports))
                raise UsageError(
                    f"model '{spec.model}' cannot answer task '{job.task.name}': it needs {request.kind}, the model "
                    f"can do {can} (look for a variant of the task with `harness tasks {job.task.name}`)"
                )
        needed = {
            media.kind for sample in job.samples for request in sample.requests for media in _media(request.prompt)
        }
        if missing := needed - model.modalities:
            raise UsageError(f"model '{spec.model}' cannot see what task '{job.task.name}' shows: {', '.join(missing)}")


def _media(prompt: Prompt) -> Iterator[Any]:
    yield from prompt.media
    for message in prompt.messages:
        if not isinstance(message.content, str):
            yield from (part for part in message.content if not isinstance(part, str))


def scored_record(job: Job, sample: Sample, responses: tuple[Response, ...], keys: tuple[str, ...]) -> Record:
    """Score one sample and make its line for the log."""
    scored = job.scorer.score(sample, responses)
    asked = [request for request in sample.requests if not request.unconditional]
    several = any(request.prompt != asked[0].prompt for request in asked)
    return Record(
        task=job.task.name,
        subset=sample.subset,
        id=sample.id,
        doc=sample.doc,
        prompt=sample.requests[0].prompt if sample.requests else Prompt(),
        target=sample.target,
        choices=sample.choices,
        responses=responses,
        request_keys=keys,
        scores=scored.scores,
        answers=scored.answers,
        cluster=sample.cluster,
        unparsed=scored.unparsed,
        error=scored.error,
        view=sample.view,
        contexts=tuple(request.prompt for request in asked) if several else (),
        continuation=asked[0].continuations[0] if several else "",
    )


def pull_data(spec: RunSpec, registry: Registry, to: Path, message: Callable[[str], None]) -> list[Path]:
    """Write all rows that the tasks of `spec` ask or show into a mirror folder. Returns the files."""
    jobs = load_jobs(spec, registry, Progress())
    wanted = (need for job in jobs for need in needed_splits(job.task, build_options(spec, job)))
    return pull(wanted, to, registry.hook, message)
