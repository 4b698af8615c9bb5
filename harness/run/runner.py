"""A run, from its specification to its report; up to the moment at which weights load, it is `prepare_run`'s.

RunSpec -> tasks -> samples -> requests -> [already in the run log?] -> model -> records -> report
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import spool
from harness.errors import HarnessError, Interrupted
from harness.executor import ShardExecutor
from harness.model import Model
from harness.record.cost import Prices
from harness.record.coverage import coverage_of, covered
from harness.record.lm_eval import write_lm_eval
from harness.record.manifest import model_title
from harness.record.manifest_file import FINISHED
from harness.record.output import find_folder
from harness.record.run import OnDisk, RunFolder
from harness.registry import Registry, load_plugins
from harness.run.answers import close_model, description, plugin_errors
from harness.run.budget import FEW, Account, Budget, asked_within
from harness.run.describe import manifest, run_identity
from harness.run.drawn import Draws, check_rival, own_job, rival_asked_otherwise
from harness.run.early_stop import EarlyStop
from harness.run.ended import EndedRun, digest_of, note_ended
from harness.run.in_shards import run_in_shards
from harness.run.jobs import TaskJob, attempts, scored_record
from harness.run.lm_eval_shown import ShownByRun
from harness.run.log import LogTarget
from harness.run.log_process import RunLoggers
from harness.run.open_requests import OpenRequests, PendingSample
from harness.run.opened_reasoning import OpenedReasoning
from harness.run.prepare import Narrow, PreparedRun, prepare_run
from harness.run.remote import executor_of
from harness.run.rescore import score_missing
from harness.run.result import RunResult
from harness.run.scoring_files import ScoringFiles, changed_files
from harness.run.spec import Progress, RunSpec
from harness.run.stopping import note_incidents, tidy_stop
from harness.run.summarise import summarise_run, write_submissions
from harness.run.sums import RunSums
from harness.run.talks import SimulatedUser
from harness.run.work import RunWork
from harness.stopwatch import Spent, Stopwatch, peak_memory
from harness.types import JSON, Sample
from harness.words import phrase

PART = 50_000
"""Samples that are asked at a time. So many share their prefixes and fill batches as well as all would."""
PART_OF_NO_MODEL = 2000
"""The same, where a model answers samples and computes nothing (`dummy`, `replay`): there is nothing to share."""


NOTED = 5000
"""After so many records it is noted how far a large run is."""


def run(spec: RunSpec, registry: Registry | None = None, progress: Progress | None = None) -> RunResult:
    """Run `spec` from task files to report. Raises `HarnessError`; what was done before an error stays on disk."""
    (result,) = run_each(spec, [spec.model_args], registry, progress)
    return result


def run_each(
    spec: RunSpec,
    model_args: Sequence[Mapping[str, JSON]],
    registry: Registry | None = None,
    progress: Progress | None = None,
    *,
    narrow: Narrow = list,
) -> Iterator[RunResult]:
    """Run `spec` once with each of `model_args`, one after another: the same questions to several models.

    Each is a run of its own, in the folder that it would have alone. A model keeps what it can use of the one before
    it: adapters on one base share its weights. All are checked before the first one loads. narrow: as of `prepare_run`.
    Raises `HarnessError`.
    """
    registry, progress = registry or load_plugins(), progress or Progress()
    try:
        executor = executor_of(spec, registry)
        if isinstance(executor, ShardExecutor):
            for args in model_args:
                one = replace(spec, model_args=dict(args))
                yield run_in_shards(one, executor, registry, progress, narrow)
            return
        with prepare_run(spec, model_args, registry, progress, narrow=narrow, may_have_ended=True) as prepared:
            for model in prepared.models:
                model.say = progress.message
            for message in prepared.remarks:
                progress.message(message)
            yield from (_run_model(prepared, index, progress) for index, _ in enumerate(prepared.models))
    finally:
        progress.finished()


def _run_model(prepared: PreparedRun, index: int, progress: Progress) -> RunResult:
    """Have one of the models answer, in a run folder of its own; the one before it is closed."""
    spec, model, jobs, registry = prepared.specs[index], prepared.models[index], prepared.jobs, prepared.registry
    if index:
        before = prepared.models[index - 1]
        with plugin_errors(spec.model, "could not follow the one before it"):
            model.take_over(before)
        before.close()
    user = prepared.user.model if prepared.user is not None else None
    described = manifest(spec, model, jobs, registry, prepared.fingerprints, user)
    title, count, share = spec.name or model_title(described), len(prepared.models), prepared.share
    title += f"-shard-{share.part}-of-{share.of}" if share is not None else ""
    if count > 1:
        progress.message(f"model {index + 1} of {count}: {title}")
    identity = run_identity(spec, model, jobs, user, share)
    if spec.until_decided is not None:
        check_rival(spec.until_decided, find_folder(Path(spec.output), title, identity))
    if prepared.ended is not None:
        with RunFolder.open(Path(spec.output), title, identity, described, is_done=True) as folder:
            return _unchanged(prepared, prepared.ended, folder, progress)
    is_large = sum(job.count for job in jobs) > spool.FEW
    digest = digest_of(spec, model, jobs, registry, prepared.fingerprints) if is_large else None
    output, begun = Path(spec.output), prepared.begun
    with RunFolder.open(output, title, identity, described, begun=begun, noting=digest is not None) as folder:
        for message in folder.take_messages():
            progress.message(message)
        # What was spent before its models began is of the first of them.
        since = prepared.clock.so_far() if index else prepared.clock.begun
        clock, is_last = prepared.clock, index == count - 1
        work = _Run(spec, registry, progress, model, folder, clock, since, prepared.user, last=is_last)
        work.digest, work.remarks = digest, prepared.remarks
        result = work.go(jobs)
        folder.forget_begun()
        if result.larger is None:
            note_ended(folder, digest, result.report, prepared.remarks)
        return result


def _unchanged(prepared: PreparedRun, ended: EndedRun, folder: RunFolder, progress: Progress) -> RunResult:
    """Tell what a run came to that has ended, and of which nothing has changed."""
    for message in folder.take_messages():
        progress.message(message)
    ended.require_same()
    observers = _Observers(prepared.registry, progress)
    observers.call("harness_run_started", manifest=folder.manifest, path=folder.path)
    progress.started([(name, n, n) for name, n in ended.fields["samples"].items()], prepared.specs[0].model)
    folder.end_unchanged()
    folder.forget_begun()  # a smaller command that was killed may have left it
    observers.call("harness_run_finished", report=ended.report, path=folder.path)
    progress.finished()
    return RunResult(folder.path, ended.report, coverage_of(ended.report), None, prepared.jobs)


class _Observers:
    """Calls observer hooks. An exception in one is reported once, and never stops a run."""

    def __init__(self, registry: Registry, progress: Progress) -> None:
        self.progress = progress
        self.reported: set[str] = set()
        self._functions = functools.cache(registry.implementations)  # one of the hooks is called for every sample

    def call(self, hook_name: str, **arguments: Any) -> None:
        for plugin, function in self._functions(hook_name):
            try:
                function(**arguments)
            except (Exception, SystemExit) as error:
                if plugin.name not in self.reported:
                    self.reported.add(plugin.name)
                    self.progress.message(f"plugin {plugin.name} of {plugin.package}: {type(error).__name__}: {error}")


class _Run:
    """One pass over the requests of a run: what is known is taken from disk, the rest is asked for, all is written."""

    def __init__(
        self,
        spec: RunSpec,
        registry: Registry,
        progress: Progress,
        model: Model,
        folder: RunFolder,
        clock: Stopwatch,
        since: Spent,
        user: SimulatedUser | None = None,
        *,
        last: bool,
    ) -> None:
        self.clock, self.since = clock, since
        self.spec, self.progress, self.model, self.folder, self.last = spec, progress, model, folder, last
        self.observers = _Observers(registry, progress)
        self.loggers = RunLoggers(folder.path, [LogTarget(*target) for target in spec.log_to], progress.message)
        self.user = user
        self.open_requests = self._new_requests()
        self.scoring_files = ScoringFiles(folder)
        self.rescored: set[str] = set()
        """Tasks of which no score on disk holds any more: a file by which they were scored has changed."""
        self.early_stop = EarlyStop()
        self.opened_reasoning = OpenedReasoning(folder)
        self.budget = Budget.of(spec)
        at_first = FEW if spec.batch_api else 1
        self.account: Account | None = None
        self.user_account: Account | None = None
        if self.budget is not None:
            self.account = self.budget.account(Prices.of(spec.prices) if spec.prices else None, at_first=at_first)
        if self.budget is not None and user is not None:
            prices = Prices.of(spec.user_prices, "--user_prices") if spec.user_prices else None
            self.user_account = self.budget.account(prices, at_first=at_first)
        self.work = RunWork(
            model,
            Prices.of(spec.prices) if spec.prices else None,
            Prices.of(spec.user_prices, "--user_prices") if spec.user_prices else None,
        )
        self.draws: Draws | None = None
        self.sums: RunSums | None = None
        """Of what is on disk and what is written, where no row is drawn."""
        self.digest: str | None = None
        """Of all that decides the run, where how far it is may be noted; see `harness.run.ended`."""
        self.remarks: Sequence[str] = ()
        self.not_noted = 0
        self.is_new = False
        self.is_loaded = False
        self.answered = False

    def go(self, jobs: Sequence[TaskJob]) -> RunResult:
        try:
            result = self._work(jobs)
            self._note_profile()
        except BaseException as error:
            with contextlib.suppress(HarnessError):  # what ends the work is the error to tell of
                self._note_profile()
                self._note_begun()
            self.loggers.end("interrupted" if isinstance(error, KeyboardInterrupt | Interrupted) else "failed")
            raise
        self.loggers.end("finished")
        return result

    def _note_profile(self) -> None:
        """Keep where the time of a session that asked something went."""
        if self.is_loaded and self.folder.path.is_dir():
            spent = self.clock.so_far().since(self.since)
            self.folder.note_session(
                profile={
                    "seconds": sum(spent.phases.values()),
                    "processor": spent.processor,
                    "peak_memory": peak_memory(),
                    "phases": dict(spent.phases),
                }
            )

    def _note_begun(self) -> None:
        """Note how far the records are, where something was added to them."""
        if self.digest is not None and self.sums is not None and self.not_noted:
            digest, self.digest = self.digest, None  # what was not noted whole is not noted any further
            self.folder.note_begun(digest, self.remarks, self.sums.new())
            self.digest = digest
        self.not_noted = 0

    def _work(self, jobs: Sequence[TaskJob]) -> RunResult:
        self.observers.call("harness_run_started", manifest=self.folder.manifest, path=self.folder.path)
        with tidy_stop(self.folder, self.model, self.spec.model, self.spec.command, lambda: self.answered):
            if self.spec.precision is not None or self.spec.until_decided is not None:
                jobs = [own_job(job) for job in jobs]  # the next model draws from all rows again
            self.draws = Draws.of(jobs, self.spec)
            for job in jobs:
                if names := self.scoring_files.changed(job):
                    self.rescored.add(job.task.name)
                    self.progress.message(changed_files(job, names, "its samples are scored again"))
            with self.clock.phase("known"):
                if self.draws is None:
                    self.sums = RunSums.of_folder(jobs, self.folder)
                    self._ask_all(jobs)
                else:
                    self._draw(jobs, self.draws)
            if (told := self.opened_reasoning.settle(jobs)) is not None:
                self.progress.message(told)
            note_incidents(self.folder, self.model, self.spec.model)  # before the report, which shows them
            with self.clock.phase("scores"):
                self._score_in_batches(jobs)
            self.progress.stage(phrase("summing up"))
            with self.clock.phase("report"):
                result = self._report(jobs)
            self.progress.finished()
            return result

    def _ask_all(self, jobs: Sequence[TaskJob]) -> None:
        """Sort samples into those on disk, those whose answers are on disk, and those to ask for; and ask for these.

        Not more than a part at a time: memory holds what is open of one part, keys and tokens, and not of all.
        """
        known, done = self._known(jobs)
        for job in jobs:
            of_task = {state: n for (name, state), n in known.items() if name == job.task.name}
            for message in _changes(job.task.name, of_task):
                self.progress.message(message)
        if self.rescored or any(state in (OnDisk.OUTDATED, OnDisk.ASKED_OTHERWISE) for _, state in known):
            self.digest = None  # some records on disk are not what this run would write
        started = [(job.task.name, job.count, known[job.task.name, OnDisk.DONE]) for job in jobs]
        self.progress.started(started, self.spec.model)
        samples = ((job, sample) for job in jobs for sample in job.samples)
        open_samples = (each for place, each in enumerate(samples) if not done or not done[place])
        if not done or not all(done):
            self._ask_parts(open_samples)

    def _known(self, jobs: Sequence[TaskJob]) -> tuple[Counter[tuple[str, OnDisk]], bytearray]:
        """How many samples of each task are how far on disk, and of each whether it is done; empty where nothing is on
        disk. What they lack is forgotten."""
        known: Counter[tuple[str, OnDisk]] = Counter()
        done = bytearray()
        for job in jobs if len(self.folder) else ():
            known[job.task.name, OnDisk.DONE] += job.done
            for number, sample in enumerate(job.samples):
                if number % PART == 0:
                    requests = self._new_requests()
                _, state = requests.found(job, sample, outdated=job.task.name in self.rescored)
                known[job.task.name, state] += 1
                done.append(state is OnDisk.DONE)
        return known, done

    def _ask_parts(self, samples: Iterator[tuple[TaskJob, Sample]]) -> None:
        """Ask samples, a part at a time."""
        size = PART_OF_NO_MODEL if self.model.answers_samples else PART
        while part := list(itertools.islice(samples, size)):
            self._ask_part(part)

    def _ask_part(self, part: Sequence[tuple[TaskJob, Sample]]) -> None:
        """Ask what some samples still lack, and finish them."""
        if self.model.answers_samples:
            with plugin_errors(self.spec.model, "could not look at the samples"):
                self.model.take_samples([sample for _, sample in part])
        with self.folder.gathering() if self.model.answers_samples else contextlib.nullcontext():
            ready = []
            for job, sample in part:
                item, state = self.open_requests.placed(job, sample, outdated=job.task.name in self.rescored)
                if state is not OnDisk.DONE and item.complete:
                    ready.append(item)
            for item in ready:
                self._finish(item)
            self._ask()

    def _new_requests(self) -> OpenRequests:
        return OpenRequests(self.folder, self.model, self.user.model if self.user is not None else None)

    def _draw(self, jobs: Sequence[TaskJob], draws: Draws) -> None:
        """Ask rows in a random order, part after part, until each task is known; `jobs` hold those that were asked."""
        for job in jobs:
            for record in self.folder.records(job.task.name):
                draws.saw(record)
        self.progress.started([(name, samples, 0) for name, samples in draws.sizes], self.spec.model)
        for look in draws.looks():
            self._ask_parts(look)
        draws.keep()
        self.draws = None  # the report has an order of all rows of its own: memory holds one at a time

    def _ask(self) -> None:
        if not self.open_requests.any_left:
            return
        if not self.is_loaded:
            self.folder.begin_work()
            self.model.folder = self.folder.path
            self.progress.stage(phrase("loading model {model}: its weights, or a connection", model=self.spec.model))
            with self.clock.phase("load"), plugin_errors(self.spec.model, "could not be loaded"):
                self.model.load()
            self._note_model()
            self.progress.stage(phrase("waiting for the first answer"))
            self.progress.metered(self.work.so_far)
            self.is_new, self.is_loaded = not self.folder.known, True
        while self.open_requests.any_left:  # once, unless there are conversations: then once a turn
            self._ask_user()
            asked = self.open_requests.take()
            keys = list(asked)
            given = asked_within(self.account, self.model, self.spec.model, list(asked.values()), is_new=self.is_new)
            for index, response in self.clock.over("waiting" if self.model.asks_one_by_one else "model", given):
                if not self.answered:  # by its first answer, a model may know more of itself
                    self._note_model()
                self.answered = self.answered or response.error is None
                self.work.add(response)
                if self.answered:  # a folder in which nothing was answered may be taken away again
                    self.loggers.begin()
                for item in self.open_requests.answered(keys[index], response):
                    self._finish(item)
            self.is_new = False
        self._note_model(self.progress.message)

    def _ask_user(self) -> None:
        """Have the simulated user answer whatever waits for it."""
        asked = self.open_requests.take_for_user()
        if not asked or self.user is None:
            return
        keys = list(asked)
        given = self.user.answers(list(asked.values()), self.progress.stage, self.user_account)
        for index, response in self.clock.over("waiting", given):
            self.work.add_of_user(response)
            for item in self.open_requests.answered(keys[index], response):
                self._finish(item)

    def _note_model(self, say: Callable[[str], None] = lambda text: None) -> None:
        self.folder.note_model(description(self.model, self.spec.model, say))

    def _finish(self, item: PendingSample) -> None:
        responses = tuple(item.answers[key] for key in item.keys)
        before = self.clock.turn("scores")
        self.opened_reasoning.watch(responses)
        scored = item.job.scorer.score(item.sample, responses)
        self.scoring_files.note(item.job)
        self.clock.turn("records")
        record = scored_record(item.job, item.sample, responses, item.keys, scored)
        self.folder.write(record)
        if self.sums is not None:
            self.sums.add(record)
        self.not_noted += 1
        if self.not_noted == NOTED:
            self._note_begun()
        self.clock.turn(before)
        if self.draws is not None:
            self.draws.saw(record)
        self.early_stop.watch(record.task, scored.cause, record.error)
        if item.job.scorer.batches is None:
            self.observers.call("harness_record_written", record=record)
        self.progress.sample_done(record, item.job.scorer.headline)

    def _score_in_batches(self, jobs: Sequence[TaskJob]) -> None:
        """Have the metrics that take many samples at once score what they have not scored yet.

        All answers are on disk by now: memory holds one batch of them, and a kill loses no more than its scores.
        """
        if self.last and any(job.scorer.batches for job in jobs):  # its memory is needed, and nobody asks it again
            close_model(self.model)
        for job in jobs:
            if job.scorer.batches is not None and not (self.spec.shard and job.scorer.batches.needs_all):
                records = functools.partial(self.folder.records, job.task.name)
                for record in score_missing(job, job.scorer.batches, records, self.progress):
                    self.folder.write(record)
                    self.observers.call("harness_record_written", record=record)

    def _report(self, jobs: Sequence[TaskJob]) -> RunResult:
        # Which run a verdict is about is said by the command that asks for one, whatever an earlier one here did.
        coverage = {
            job.task.name: replace(job.coverage(self.spec.limit), rival=self.spec.until_decided) for job in jobs
        }
        asked = {job.task.name: job.facts.keys for job in jobs}
        told = self.folder.manifest
        if told["status"] != FINISHED:
            self.folder.begin_work()  # what the report is by is this command, and no larger one that was stopped
        for name in ("prices", "user_prices", "recipe", "name", "cutoff", "until_decided"):
            if (value := getattr(self.spec, name)) and told.get("spec", {}).get(name) != value:
                self.folder.begin_work()  # where nothing is left to ask, a report by other prices or names is
        summary = summarise_run(jobs, self.folder, coverage, asked, self.sums)
        for job in jobs:
            self.scoring_files.settle(job)
        for message in [*self.folder.take_messages(), *attempts(jobs)]:
            self.progress.message(message)
        if self.spec.until_decided is not None:
            for message in rival_asked_otherwise(self.spec.until_decided, self.folder.path, jobs):
                self.progress.message(message)
        if self.spec.shard is None:
            write_submissions(jobs, self.folder, self.progress.message)
        if self.spec.output_path:
            path = Path(self.spec.output_path)
            is_asked, log = covered(coverage), self.spec.log_samples
            shown = ShownByRun(jobs, self.model)
            write_lm_eval(self.folder, path, report=summary.asked, log_samples=log, wanted=is_asked, shown=shown)
        self.observers.call("harness_run_finished", report=summary.asked, path=self.folder.path)
        loaded = [replace(job, samples=[]) for job in jobs]
        return RunResult(self.folder.path, summary.asked, coverage, summary.larger, loaded, self.budget)


def _changes(task: str, states: Mapping[OnDisk, int]) -> Iterator[str]:
    """What of a task is not as it was when it was asked, one line each."""
    if asked := states.get(OnDisk.ASKED_OTHERWISE):
        yield f"{task}: of {_samples(asked)} the question has changed since it was asked; asked again"
    if scored := states.get(OnDisk.OUTDATED):
        what = "the row or the scoring has changed since"
        yield f"{task}: of {_samples(scored)} {what}, and not the question; scored again from the answers on disk"


def _samples(n: int) -> str:
    return "1 sample" if n == 1 else f"{n} samples"
