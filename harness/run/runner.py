"""The straight line, from a RunSpec to a report. The only module that knows the order of the rooms.

    RunSpec -> tasks -> samples -> requests -> [already in the run log?] -> model -> records -> report

Everything that can be refused is refused before the model loads.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import ExitCode, HarnessError, Interrupted, SaveError, UsageError, stopped, suggest
from harness.model import Model
from harness.record.keys import KeyMaker
from harness.record.lm_eval import check_output_path, write_lm_eval
from harness.record.manifest import model_title
from harness.record.report import summary_text
from harness.record.run import RunFolder
from harness.record.submission import write_submission
from harness.registry import Registry, load_plugins
from harness.run.answers import answers, plugin_errors
from harness.run.describe import manifest, remarks, run_identity
from harness.run.jobs import (
    AddedMetric,
    Job,
    added_name,
    build,
    check_abilities,
    create_model,
    load_jobs,
    prepare_metrics,
    scored_record,
)
from harness.run.rescore import score_again, score_missing
from harness.run.spec import DEFAULT_MODEL, Progress, RunSpec
from harness.run.summarise import conclude
from harness.types import JSON, Record, Request, Response, Sample


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, its report, and the exit code that it deserves."""

    path: Path
    report: Mapping[str, Any]

    @property
    def exit_code(self) -> ExitCode:
        failed = any(
            task["counts"]["failed"] or any(metric.get("error") for metric in task["metrics"])
            for task in self.report["tasks"]
        )
        return ExitCode.SAMPLES_FAILED if failed else ExitCode.OK

    def summary(self, width: int = 100) -> str:
        """The result table as text."""
        return summary_text(self.report, width)

    def to_dict(self) -> dict[str, Any]:
        """What `report.json` holds."""
        return dict(self.report)

    def samples(self, task: str | None = None) -> Iterator[Record]:
        """The records of a task, or of all, read from disk as they are asked for. `UsageError` for an unknown task."""
        names = [row["task"] for row in self.report["tasks"]]
        if task is not None and task not in names:
            raise UsageError(f"this run has no task '{task}'{suggest(task, names)} (it has: {', '.join(names)})")
        return load_run(self.path).records(task)


def run(spec: RunSpec, registry: Registry | None = None, progress: Progress | None = None) -> RunResult:
    """Run `spec` from task files to report. Raises `HarnessError`; what was done before an error stays on disk."""
    (result,) = run_each(spec, [spec.model_args], registry, progress)
    return result


def run_each(
    spec: RunSpec,
    model_args: Sequence[Mapping[str, JSON]],
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> Iterator[RunResult]:
    """Run `spec` once with each of `model_args`, one after another: the same questions to several models.

    Each is a run of its own, in the folder that it would have alone. A model keeps what it can use of the one before
    it: adapters on one base share its weights. All are checked before the first one loads. Raises `HarnessError`.
    """
    registry = registry or load_plugins()
    progress = progress or Progress()
    if spec.output_path:
        check_output_path(Path(spec.output_path))
    jobs = load_jobs(spec, registry, progress)
    prepare_metrics(jobs, spec)
    specs = [replace(spec, model_args=dict(args)) for args in model_args]
    models = [create_model(each, registry) for each in specs]
    try:
        for model in models:
            with plugin_errors(spec.model, "could not be prepared"):
                model.prepare()
        fingerprints = build(jobs, spec, registry)
        for model in models:
            check_abilities(model, spec, jobs)
            with plugin_errors(spec.model, "could not look at the samples"):
                model.inspect_samples([sample for job in jobs for sample in job.samples])
        for message in remarks(jobs):
            progress.message(message)
        for index, (each, model) in enumerate(zip(specs, models, strict=True)):
            if index:
                with plugin_errors(spec.model, "could not follow the one before it"):
                    model.take_over(models[index - 1])
                models[index - 1].close()
            described = manifest(each, model, jobs, registry, fingerprints)
            if len(specs) > 1:
                progress.message(f"model {index + 1} of {len(specs)}: {model_title(described)}")
            yield _run_one(each, model, jobs, described, registry, progress, last=model is models[-1])
    finally:
        for model in models:
            model.close()
        progress.finished()


def _run_one(
    spec: RunSpec,
    model: Model,
    jobs: Sequence[Job],
    described: Mapping[str, Any],
    registry: Registry,
    progress: Progress,
    last: bool,
) -> RunResult:
    identity = run_identity(spec, model, jobs)
    with RunFolder.open(Path(spec.output), model_title(described), identity, described) as folder:
        for message in folder.messages:
            progress.message(message)
        return _Run(spec, registry, progress, model, folder, last).go(jobs)


def evaluate(
    model: str = DEFAULT_MODEL,
    model_args: Mapping[str, JSON] | None = None,
    tasks: Sequence[str] = (),
    **options: Any,
) -> RunResult:
    """Measure a model: `evaluate("hf", {"pretrained": DIR}, ["ceval", "cmmlu"], limit=10).summary()`.

    `options` are the other fields of `RunSpec`, named as on the command line. Raises `HarnessError`.
    """
    return run(_spec(model, model_args or {}, tasks, options))


def _spec(model: str, model_args: Mapping[str, JSON], tasks: Sequence[str], options: Mapping[str, Any]) -> RunSpec:
    names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    listed = ("data", "include_path", "modify")
    single = {name: (str(options[name]),) for name in listed if isinstance(options.get(name), str | Path)}
    return RunSpec(tasks=names, model=model, model_args=dict(model_args), **{**options, **single})


def evaluate_each(
    model: str, model_args: Sequence[Mapping[str, JSON]], tasks: Sequence[str], **options: Any
) -> list[RunResult]:
    """Measure several models, one after another, as `evaluate` does each of them. Adapters share their base:

    `evaluate_each("hf", [{"pretrained": DIR}, {"pretrained": DIR, "peft": ADAPTER}], ["ceval"])`
    """
    return list(run_each(_spec(model, {}, tasks, options), model_args))


def score_run(path: str | Path, registry: Registry | None = None, metrics: Sequence[AddedMetric] = ()) -> RunResult:
    """Score the records of a run again, with the task files as they are now. Needs neither the model nor the rows.

    metrics: what to report beside the tasks' own metrics, where it can score them: names, or entries with options.
    """
    registry = registry or load_plugins()
    for name in map(added_name, metrics):
        if registry.metric(name).needs_unconditional:
            raise UsageError(f"--metrics: '{name}' needs answers that a run holds only when it was asked for there")
    with RunFolder.reopen(Path(path)) as folder:
        if "rubric" in folder.manifest:
            raise UsageError(f"{path}: holds judgements; their command again reads the replies again, and asks nothing")
        spec = RunSpec.from_json(folder.manifest["spec"])
        spec = replace(spec, metrics=(*spec.metrics, *(entry for entry in metrics if entry not in spec.metrics)))
        jobs = load_jobs(spec, registry, Progress())
        prepare_metrics(jobs, spec)
        for job in jobs:
            name = job.task.name
            folder.rewrite(name, score_again(job, functools.partial(folder.records, name)))
        return RunResult(folder.path, conclude(jobs, folder))


def load_run(path: str | Path) -> RunFolder:
    """Open a run folder for reading: `.manifest`, `.report`, `.records(task=None)`."""
    return RunFolder.read(Path(path))


@dataclass(slots=True)
class _Waiting:
    """A sample, the keys of its requests, and the answers that have come so far."""

    job: Job
    sample: Sample
    keys: tuple[str, ...]
    answers: dict[str, Response] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return all(key in self.answers for key in self.keys)


class _Observers:
    """Calls observer hooks. An exception in one is reported once, and never stops a run."""

    def __init__(self, registry: Registry, progress: Progress) -> None:
        self.registry, self.progress = registry, progress
        self.reported: set[str] = set()

    def call(self, hook_name: str, **arguments: Any) -> None:
        for plugin, function in self.registry.implementations(hook_name):
            try:
                function(**arguments)
            except Exception as error:
                if plugin.name not in self.reported:
                    self.reported.add(plugin.name)
                    self.progress.message(f"plugin {plugin.name} of {plugin.package}: {type(error).__name__}: {error}")


class _Run:
    """One pass over the requests of a run: what is known is taken from disk, the rest is asked for, all is written."""

    def __init__(
        self, spec: RunSpec, registry: Registry, progress: Progress, model: Model, folder: RunFolder, last: bool
    ) -> None:
        self.spec, self.progress, self.model, self.folder, self.last = spec, progress, model, folder, last
        self.observers = _Observers(registry, progress)
        self.waiting: dict[str, list[_Waiting]] = {}
        self.requests: dict[str, Request] = {}
        self.answered = False

    def go(self, jobs: Sequence[Job]) -> RunResult:
        self.observers.call("harness_run_started", manifest=self.folder.manifest, path=self.folder.path)
        try:
            self._plan(jobs)
            self._ask()
            self._note_incidents()
            self._score_in_batches(jobs)
            self.progress.finished()
            return self._report(jobs)
        except KeyboardInterrupt:
            self._note_incidents_of_a_failure()
            self.folder.finish("interrupted")
            raise Interrupted(f"interrupted, {self._how_to_go_on}") from None
        except HarnessError as error:
            self._note_incidents_of_a_failure()
            self.folder.finish("failed")
            if not (isinstance(error, SaveError) or self.answered):
                raise  # nothing was done: the mistake is to be mended, and nothing goes on
            raise stopped(error, self._how_to_go_on) from error

    @property
    def _how_to_go_on(self) -> str:
        command = f"; go on with: {self.spec.command}" if self.spec.command else ""
        return f"what is done is in {self.folder.path}{command}"

    def _plan(self, jobs: Sequence[Job]) -> None:
        """Sort samples into those on disk, those whose answers are on disk, and those to ask for."""
        key_of = self._key_maker()
        started, ready = [], []
        for job in jobs:
            done = 0
            for sample in job.samples:
                item = _Waiting(job, sample, key_of(job, sample))
                if self.folder.has(sample.key, item.keys):
                    done += 1
                elif self._enlist(item):
                    ready.append(item)
            started.append((job.task.name, len(job.samples), done))
        self.progress.started(started, self.spec.model)
        for item in ready:
            self._finish(item)

    def _key_maker(self) -> Callable[[Job, Sample], tuple[str, ...]]:
        maker = KeyMaker(self.model.identity)

        def keys(job: Job, sample: Sample) -> tuple[str, ...]:
            # A replayed answer belongs to its sample: equal prompts may have got different replies.
            place = f":{job.task.name}/{sample.subset}/{sample.id}" + (f"@{sample.key.view}" if sample.view else "")
            suffix = place if self.model.answers_samples else ""
            return tuple(maker.key(request) + suffix for request in sample.requests)

        return keys

    def _enlist(self, item: _Waiting) -> bool:
        """Give `item` the answers that are on disk and put it in line for the others; True if it needs no others.

        Requests with one key are asked once, whichever samples they belong to.
        """
        for key, request in zip(item.keys, item.sample.requests, strict=True):
            if (known := self.folder.known.get(key)) is not None:
                item.answers[key] = known
            elif key not in self.waiting:
                self.waiting[key] = [item]
                self.requests[key] = request
            elif self.waiting[key][-1] is not item:
                self.waiting[key].append(item)
        return item.complete

    def _ask(self) -> None:
        if not self.requests:
            return
        keys = list(self.requests)
        with plugin_errors(self.spec.model, "could not be loaded"):
            self.model.load()
        self.folder.note(model=dict(self.model.describe()))
        for index, response in answers(self.model, self.spec.model, list(self.requests.values())):
            self.answered = True
            self._deliver(keys[index], response)

        self.folder.note(model=dict(self.model.describe()))

    def _note_incidents(self) -> None:
        """Keep what was survived on the way: it belongs to this session's answers, whatever the next one meets."""
        with plugin_errors(self.spec.model, "could not say what went wrong on the way"):
            found = [dict(incident) for incident in self.model.incidents()]
        if found:
            self.folder.note_session(incidents=found)

    def _note_incidents_of_a_failure(self) -> None:
        with contextlib.suppress(HarnessError):  # what ends the run is the error to tell of
            self._note_incidents()

    def _deliver(self, key: str, response: Response) -> None:
        for item in self.waiting.pop(key, ()):
            item.answers[key] = response
            if item.complete:
                self._finish(item)

    def _finish(self, item: _Waiting) -> None:
        responses = tuple(item.answers[key] for key in item.keys)
        record = scored_record(item.job, item.sample, responses, item.keys)
        self.folder.write(record)
        if item.job.scorer.batches is None:
            self.observers.call("harness_record_written", record=record)
        self.progress.sample_done(record, item.job.scorer.headline)

    def _score_in_batches(self, jobs: Sequence[Job]) -> None:
        """Have the metrics that take many samples at once score what they have not scored yet.

        All answers are on disk by now: memory holds one batch of them, and a kill loses no more than its scores.
        """
        if self.last and any(job.scorer.batches for job in jobs):  # its memory is needed, and nobody asks it again
            self.model.close()
        for job in jobs:
            if job.scorer.batches is not None:
                records = functools.partial(self.folder.records, job.task.name)
                for record in score_missing(job, job.scorer.batches, records, self.progress):
                    self.folder.write(record)
                    self.observers.call("harness_record_written", record=record)

    def _report(self, jobs: Sequence[Job]) -> RunResult:
        wanted = {sample.key for job in jobs for sample in job.samples}

        def is_wanted(record: Record) -> bool:
            return record.key in wanted

        report = conclude(jobs, self.folder, is_wanted)
        for job in jobs:
            # The letters of a modified task are not those of the leaderboard's questions.
            if (job.task.config.metadata or {}).get("submission") and not job.task.modifiers:
                self._submit(job)
        if self.spec.output_path:
            path = Path(self.spec.output_path)
            write_lm_eval(self.folder, path, log_samples=self.spec.log_samples, wanted=is_wanted)
        self.observers.call("harness_run_finished", report=report, path=self.folder.path)
        return RunResult(self.folder.path, report)

    def _submit(self, job: Job) -> None:
        name = job.task.name
        path = self.folder.path / f"submission_{name.replace(':', '@')}.json"
        missing = write_submission(self.folder.records(name), path)
        self.progress.message(f"{name}: answers for the leaderboard are in {path}; {missing} samples have none")
