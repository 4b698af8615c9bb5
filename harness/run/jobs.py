"""The tasks of a run: selected, changed as the flags say, loaded, and what scores each of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import UsageError, suggest
from harness.metrics import MetricOptions, RepeatMetric
from harness.modifiers import Modifier
from harness.record.coverage import TaskCoverage, numbered
from harness.record.row_set import RowSet
from harness.registry import Registry
from harness.run.modify import make_modifiers, modified_groups
from harness.run.sample_facts import SampleFacts
from harness.run.spec import Progress, RunSpec
from harness.scoring import sandbox
from harness.scoring.groups import MemberScores, problems
from harness.scoring.scorer import SampleScores, Scorer
from harness.scoring.view_scorer import ViewScorer
from harness.spool import Spool
from harness.task_code.client import TaskCode
from harness.task_code.code_metrics import FindFilter, FindMetric, with_code
from harness.task_code.consent import Consent
from harness.task_code.end_state import with_environment
from harness.tasks.build_options import SubsetNotes
from harness.tasks.groups import Membership, group_members
from harness.tasks.library import TaskLibrary, TaskRef
from harness.tasks.make import with_files
from harness.tasks.modify import labels_of, option_labels
from harness.tasks.overrides import changed
from harness.tasks.recipe_files import task_changes
from harness.tasks.schema import validate_task
from harness.tasks.scoring_spec import scoring_spec
from harness.tasks.task import Task
from harness.tasks.yaml_file import Document, FileLine
from harness.types import (
    JSON,
    BadRows,
    GroupMembers,
    Prompt,
    Record,
    Response,
    Result,
    Sample,
    SampleKey,
)

AddedMetric = str | Mapping[str, JSON]
"""One of `--metrics`: a name, or an entry as `metric_list` has it."""


@dataclass(slots=True)
class TaskJob:
    """One task of a run: how it is scored, its samples, notes on its subsets, and the groups by which it was named.

    done: how many other samples it has, that are done and that nobody looks at again; their keys are in `facts`, too.
    facts: what one look at each of the samples told. bad_rows: what becomes of rows that cannot be used. read_scoring:
    files that the task's Python has read while it scored, beside the task file, and their hashes.
    """

    task: Task
    scorer: Scorer
    samples: Sequence[Sample] = ()
    notes: dict[str, SubsetNotes] = field(default_factory=dict)
    memberships: tuple[Membership, ...] = ()
    bad_rows: BadRows = "refuse"
    read_scoring: dict[str, str] = field(default_factory=dict)
    facts: SampleFacts = field(default_factory=SampleFacts)
    done: int = 0

    def __post_init__(self) -> None:
        if len(self.samples) != self.facts.samples:
            self.hold(self.samples)

    def hold(self, samples: Iterable[Sample]) -> None:
        """Take these as the task's samples, those of one row one after another, with a look at each."""
        self.facts, self.done, kept = SampleFacts(), 0, Spool[Sample]()
        for sample in samples:
            self.facts.look(sample)
            kept.append(sample)
        self.samples = kept

    def pass_over(self, key: SampleKey) -> None:
        """Count a sample that is done. Called where `hold` takes the others."""
        self.done += 1
        self.facts.keys.add(key)

    @property
    def count(self) -> int:
        """How many samples the task has here, done ones included."""
        return len(self.samples) + self.done

    def coverage(self, limit: int | float | None) -> TaskCoverage:
        """What of the task is asked, once its rows are known."""
        asked = {name: notes.asked for name, notes in self.notes.items()}
        rows = {name: notes.rows for name, notes in self.notes.items()}
        bad = {name: notes.bad for name, notes in self.notes.items() if notes.bad}
        chosen = {name: numbered(notes.chosen) for name, notes in self.notes.items() if notes.chosen is not None}
        drawn = {name: numbered(notes.drawn_from) for name, notes in self.notes.items() if notes.drawn_from is not None}
        return TaskCoverage(
            {**asked, **{name: len(numbers) for name, numbers in chosen.items()}},
            rows,
            len(self.task.all_subsets),
            limit,
            bad,
            self.bad_rows,
            {name: numbers for name, numbers in chosen.items() if isinstance(numbers, RowSet)},
            drawn,
        )

    def member_scores(self, results: Sequence[Result] = ()) -> MemberScores:
        """What a group of tasks knows of this one."""
        return MemberScores(self.scorer.reported, self.task.scoring.pipelines[0].name, results)


def open_library(spec: RunSpec, registry: Registry, meanwhile: Callable[[], None] = lambda: None) -> TaskLibrary:
    """All task files that this run can name, and what runs their Python, as far as the run consents to it.

    meanwhile: called once where that Python is waited for.
    """
    consent = Consent.to(spec.trust_task_code, spec.trust_task_code_in_process)
    return TaskLibrary(
        registry.task_folders(),
        registry.template_folders(),
        [Path(folder) for folder in spec.include_path],
        missing=registry.missing_plugins,
        code=TaskCode(
            consent,
            spec.sandbox,
            model_args=spec.model_args,
            meanwhile=meanwhile,
        ),
    )


def load_jobs(
    spec: RunSpec, registry: Registry, progress: Progress, meanwhile: Callable[[], None] = lambda: None
) -> list[TaskJob]:
    """Select and load the tasks, and resolve their metrics and filters. Raises `UsageError`.

    meanwhile: called once where the Python of tasks is waited for.
    """
    if not spec.tasks:
        raise UsageError("--tasks: name at least one task (`harness tasks` lists them)")
    sandbox.check_mode(spec.sandbox)
    library = open_library(spec, registry, meanwhile)
    try:
        refs = library.select(spec.tasks)
    except UsageError as error:
        named = next((name for name in spec.recipe.get("tasks", {}) if f"'{name}'" in str(error)), None)
        raise UsageError(f"recipe '{spec.recipe['recipe']}': {error}") if named else error from None
    modifiers = make_modifiers(spec.modify, registry)
    if modifiers and spec.bad_rows == "lm_eval":
        raise UsageError(
            "--bad_rows lm_eval: lm-eval has no --modify, and no score for a modified row; choose fail or skip"
        )
    unused = set(spec.overrides) - {name for ref in refs for name in (ref.name, ref.full_name)}
    if unused:
        raise UsageError(f"--set: task '{sorted(unused)[0]}' is not among the tasks of this run")
    for text in library.shadowed.values():
        progress.message(text)
    jobs = [load_job(library, ref, spec, registry, modifiers, progress) for ref in refs]
    for text in dict.fromkeys(text for job in jobs for text in job.task.document.warnings):
        progress.message(text)
    for name in map(added_name, spec.metrics):
        if not any(key.metric.name == registry.metric(name).name for job in jobs for key in job.scorer.keys):
            fits = ", ".join(sorted(registry.metric(name).output_types))
            raise UsageError(f"--metrics: '{name}' can score none of these tasks (it scores: {fits})")
    _check_published(jobs, spec)
    for job in jobs if spec.after is not None else ():
        if job.task.templates.date is None:
            raise UsageError(f"--after {spec.after}: rows of task '{job.task.name}' carry no date (key 'doc_to_date')")
    scores = {job.task.name: job.member_scores() for job in jobs}
    for members in groups_of(jobs):
        for problem in problems(members, scores):
            progress.message(problem)
        for text in members.group.warnings:
            progress.message(text)
        for entry in (entry for entry in members.group.metrics if entry.uncalled):
            progress.message(
                f"{entry.where}: group '{members.group.name}': '{entry.uncalled}' is not called, as lm-eval calls no "
                f"Python here: the group's '{entry.metric}' is the mean over its tasks"
            )
    return jobs


def _check_published(jobs: Sequence[TaskJob], spec: RunSpec) -> None:
    """Refuse a recipe whose published values are of no score of these tasks."""
    where, entries = f"recipe '{spec.recipe.get('recipe')}'", spec.recipe.get("tasks", {})
    for name in (name.partition(":")[0] for name in spec.tasks):
        if "published" in entries.get(name, {}) and all(job.task.base_name != name for job in jobs):
            raise UsageError(f"{where}: '{name}' is a group of tasks; a value is of one")
    for job in jobs:
        wanted = entries.get(job.task.base_name, {}).get("metric")
        own = [key.name for key in job.scorer.keys]
        if wanted and not job.task.modifiers and not wanted.startswith(tuple(own)):
            raise UsageError(f"{where}: task '{job.task.name}' has no score '{wanted}'{suggest(wanted, own)}")


def groups_of(jobs: Sequence[TaskJob]) -> list[GroupMembers]:
    """The groups by which the tasks of a run were named; of modified tasks, modified groups."""
    groups = group_members((job.task.name, job.memberships) for job in jobs)
    names = {name: new for job in jobs for name, new in job.scorer.renamed.items()}
    return modified_groups(groups, jobs[0].task.modifiers if jobs else (), names)


def load_job(
    library: TaskLibrary,
    ref: TaskRef,
    spec: RunSpec,
    registry: Registry,
    modifiers: Sequence[Modifier] = (),
    progress: Progress | None = None,
) -> TaskJob:
    """Load one task as a run sees it, and what scores it: the only way from a task file to a task of a run."""
    asked = {**spec.overrides.get(ref.name, {}), **spec.overrides.get(ref.full_name, {})}
    by_recipe = task_changes(spec.recipe, ref.name)
    overrides = {**by_recipe, **asked}

    def with_flags(document: Document) -> Document:
        if spec.num_fewshot is not None and "num_fewshot" not in asked:
            # A task that says 0 has no examples to show (as in lm-eval); a recipe's 0 is what its makers did.
            own_zero = document.data.get("num_fewshot") == 0 and "num_fewshot" not in by_recipe
            if own_zero and spec.num_fewshot > 0:
                name, flag = ref.full_name + labels_of(modifiers), f"--num_fewshot {spec.num_fewshot}"
                (progress or Progress()).message(f"{name}: zero-shot by its protocol, {flag} is not used")
            else:
                place = FileLine(Path("--num_fewshot"), 0)
                document = changed(document, {"num_fewshot": spec.num_fewshot}, {("num_fewshot",): place})
        generates = document.data.get("output_type", "generate_until") == "generate_until"
        if spec.repeats is not None and generates and "repeats" not in asked:
            document = changed(document, {"repeats": spec.repeats}, {("repeats",): FileLine(Path("--repeats"), 0)})
        document = _with_sampler(document, spec.fewshot_sampler)
        return _with_metrics(document, ref, spec, registry) if spec.metrics else document

    task = library.load(ref, overrides, modifiers, with_flags)
    scorer = make_scorer(task, registry)
    if isinstance(task.code, TaskCode):  # what making it ready has read is the task's own, whatever runs beside it
        task = with_files(task, {**task.code.take_read(), **task.code.take_read_scoring(task.name)})
    return TaskJob(task, scorer, memberships=ref.memberships, bad_rows=spec.bad_rows)


def _with_sampler(document: Document, sampler: str | None) -> Document:
    """The task file's keys with what `--fewshot_sampler` says, where examples are drawn at all."""
    if sampler is None or not document.data.get("num_fewshot"):
        return document
    own = document.data.get("fewshot_config")
    if isinstance(own, dict) and own.get("sampler") == "first_n":
        sampler = {"lm_eval": "lm_eval_first_n"}.get(sampler, "first_n")
    place = FileLine(Path("--fewshot_sampler"), 0)
    return changed(document, {"fewshot_config": {"sampler": sampler}}, {("fewshot_config", "sampler"): place})


def _with_metrics(document: Document, ref: TaskRef, spec: RunSpec, registry: Registry) -> Document:
    """The task file's keys with what `--metrics` adds: metrics that can score the task and that it does not have."""
    scoring = scoring_spec(validate_task(document), document)
    known = {item.metric for item in scoring.metrics}
    added = []
    for entry in spec.metrics:
        name = added_name(entry)
        if name in known and not isinstance(entry, str):
            raise UsageError(f"--metrics: task '{ref.full_name}' has '{name}' already, with options of its own")
        if name not in known and scoring.output_type in registry.metric(name).output_types:
            added.append({"metric": name} if isinstance(entry, str) else dict(entry))
    if not added:
        return document
    # The task's own metrics still stand where they stood; those that were added are of the flag.
    own = [document.place(("metric_list", index)) for index, _ in enumerate(scoring.metrics)]
    places = enumerate([*own, *(FileLine(Path("--metrics"), 0) for _ in added)])
    entries = []
    for item in scoring.metrics:  # as a task file would say them
        given = {"aggregation": item.aggregation, "higher_is_better": item.higher_is_better}
        kept = {key: value for key, value in given.items() if value is not None}
        entries.append({"metric": item.metric, **kept, **item.options})
    entries += added
    return changed(document, {"metric_list": entries}, {("metric_list", index): place for index, place in places})


def make_scorer(task: Task, registry: Registry) -> Scorer:
    """What scores a task: each sample, and the views of a row together where the task is modified."""
    where = str(task.file)
    find_metric: FindMetric = functools.partial(registry.metric, of=task.package)
    find_filter: FindFilter = functools.partial(registry.filter, of=task.package)
    scoring = task.scoring
    if isinstance(task.code, TaskCode):
        find_metric = with_environment(task, task.code, find_metric)
        scoring, find_metric, find_filter = with_code(task, task.code, find_metric, find_filter)
    if task.modifiers:
        labels = option_labels(task.config)
        scorer: Scorer = ViewScorer(scoring, find_metric, find_filter, where, task.modifiers, labels)
    else:
        scorer = Scorer(scoring, find_metric, find_filter, where=where)
    for metric in (key.metric for key in scorer.keys):
        if isinstance(metric, RepeatMetric) and metric.replies > task.config.repeats:
            raise UsageError(
                f"{where}: metric '{metric.name}' needs {metric.replies} replies to each question, and task "
                f"'{task.name}' has repeats: {task.config.repeats} (--set {task.base_name}.repeats={metric.replies})"
            )
    return scorer


def prepare_metrics(jobs: Sequence[TaskJob], spec: RunSpec) -> None:
    """Have all metrics look at what they need on this machine. Raises `UsageError`.

    Not where tasks are only looked at, or runs compared: that may be another machine.
    """
    for job in jobs:
        job.scorer.prepare(MetricOptions(job.task.file.parent, spec.device, spec.offline, spec.sandbox))


def attempts(jobs: Sequence[TaskJob]) -> Iterator[str]:
    """What the Python of the tasks tried that the sandbox forbids, since this was asked last, one line each."""
    for code in {id(job.task.code): job.task.code for job in jobs}.values():
        if isinstance(code, TaskCode):
            tried, code.tried = code.tried, {}
            yield from (f"task code tried {what}, which its sandbox does not allow" for what in tried)


def close_code(jobs: Sequence[TaskJob]) -> None:
    """End the processes that run the Python of the tasks."""
    for job in jobs:
        if isinstance(job.task.code, TaskCode):
            job.task.code.close()


def added_name(entry: AddedMetric) -> str:
    """The metric that an entry of `--metrics` names."""
    return entry if isinstance(entry, str) else str(entry["metric"])


def scored_record(
    job: TaskJob,
    sample: Sample,
    responses: tuple[Response, ...],
    keys: tuple[str, ...],
    scored: SampleScores | None = None,
) -> Record:
    """Score one sample, where it is not yet `scored`, and make its line for the log."""
    scored = scored or job.scorer.score(sample, responses)
    asked = [request for request in sample.requests if not request.unconditional]
    several = bool(sample.choices) and any(request.prompt != asked[0].prompt for request in asked)
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
        rules=job.task.digest,
        scores=scored.scores,
        answers=scored.answers,
        cluster=sample.cluster,
        unparsed=scored.unparsed,
        error=scored.error,
        view=sample.view,
        contexts=tuple(request.prompt for request in asked) if several else (),
        continuation=asked[0].continuations[0] if several else "",
    )
