"""The order of a run up to the moment at which its models would load. All that can be refused is refused here.

    with prepare_run(spec, [spec.model_args]) as prepared:
        prepared.jobs, prepared.models, prepared.remarks

A run goes on from here, a dry run and `harness show` print what is here, and a judging prepares its judges here.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Self

from harness.data.open import forget_large
from harness.errors import DataError, PluginError, UsageError
from harness.executor import ModelExecutor, ShardExecutor
from harness.model import Forecast, Model, ModelOptions
from harness.quick import dataclass
from harness.record.begun import Begun
from harness.record.cost import Prices
from harness.record.keys import KeyMaker
from harness.record.lm_eval import check_output_path
from harness.record.output import check_output
from harness.registry import Registry, load_plugins
from harness.run.answers import check_declared, close_model, plugin_errors, unreadable
from harness.run.budget import Budget
from harness.run.describe import remarks
from harness.run.drawn import check_drawn
from harness.run.elsewhere import MODELS_ELSEWHERE
from harness.run.ended import EndedRun, earlier_run
from harness.run.jobs import TaskJob, attempts, close_code, load_jobs, prepare_metrics
from harness.run.log import LogTarget
from harness.run.remote import executor_of, remote
from harness.run.sample_facts import AskedSamples, SampleFacts
from harness.run.samples import render_samples
from harness.run.shards import RowShare, check_cut, check_shard, take_share
from harness.run.spec import Progress, RunSpec
from harness.run.talks import SimulatedUser, as_it_goes_on, user_prompt
from harness.stopwatch import OTHER, Stopwatch
from harness.thinking import Thinking
from harness.types import JSON, Request
from harness.words import phrase

Narrow = Callable[[Sequence[TaskJob]], Sequence[TaskJob]]


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """All that is known before weights load: tasks with their samples, and models that are ready to load.

    specs: one a model, which differ in `model_args`. fingerprints: of the rows, by task and split. remarks: what is
    worth knowing before anything is asked, one line each. user: who plays the user of conversations, where a task has
    one. share: the part of the rows that the jobs hold, where it is not all. clock: runs since this began. ended: the
    run that has done all this already; the jobs then hold no samples. begun: the run that has done a part of it, which
    the jobs then do not hold.
    """

    specs: Sequence[RunSpec]
    models: Sequence[Model]
    jobs: Sequence[TaskJob]
    registry: Registry
    fingerprints: Mapping[str, str]
    remarks: Sequence[str]
    user: SimulatedUser | None = None
    share: RowShare | None = None
    clock: Stopwatch = field(default_factory=Stopwatch)
    ended: EndedRun | None = None
    begun: Begun | None = None

    @property
    def requests(self) -> list[Request]:
        return [request for job in self.jobs for sample in job.samples for request in sample.requests]

    def forecast(self, answered: Collection[str] = ()) -> Forecast | None:
        """What one of the models would compute, where it can tell; the others are asked the same.

        answered: keys of requests that are not asked any more.
        """
        model = self.models[-1]
        keys = KeyMaker(model.identity) if answered else None
        asked = [request for request in self.requests if unreadable(request) is None]
        with plugin_errors(self.specs[-1].model, "could not say what it will compute"):
            return model.forecast([each for each in asked if keys is None or keys.key(each) not in answered])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for model in [*self.models, *([self.user.model] if self.user is not None else [])]:
            close_model(model)
        close_code(self.jobs)


def prepare_run(
    spec: RunSpec,
    models: Sequence[Mapping[str, JSON]],
    registry: Registry | None = None,
    progress: Progress | None = None,
    *,
    narrow: Narrow = list,
    scoring: bool = True,
    showing: bool = False,
    may_have_ended: bool = False,
) -> PreparedRun:
    """Do all that a run of `spec` does before weights load. Raises `HarnessError`; what is returned is to be closed.

    models: the arguments of each model that is to answer. narrow: which of the tasks are wanted, before their rows are
    opened; it may refuse them. scoring: False where answers are not scored, on a machine that may lack what the metrics
    need. showing: whether prompts are shown, and nothing is answered. may_have_ended: whether nothing needs the samples
    of a run that has ended.
    """
    clock = Stopwatch()
    clock.turn("tasks")
    registry, progress = registry or load_plugins(), progress or Progress()
    check_flags(spec, registry)
    if scoring:
        check_output(Path(spec.output))
    progress.stage(phrase("reading tasks"))
    meanwhile = functools.partial(_import_libraries, spec.model, registry) if models and not showing else lambda: None
    jobs = narrow(load_jobs(spec, registry, progress, meanwhile))
    check_drawn(jobs, spec)
    if scoring:
        progress.stage(phrase("preparing metrics"))
        prepare_metrics(jobs, spec)
    specs = [resolved(replace(spec, model_args=dict(args)), registry) for args in models]
    asked = _AskedRows(spec, specs, jobs, registry, progress, clock, may_have_ended and len(specs) == 1)
    clock.turn("prepare")
    made = prepare_models(specs, registry, asked.samples, progress, showing=showing)
    for model in made:
        model.clock = clock
    user = None
    if not all(each.answers_samples for each in made):
        with contextlib.ExitStack() as stack:
            for model in made:
                stack.callback(model.close)
            user = prepare_user(spec, jobs, registry, progress)
            if user is not None:
                stack.callback(user.model.close)
                specs = [_with_user_prices(each, model, user.model) for each, model in zip(specs, made, strict=True)]
            stack.pop_all()
    clock.turn(OTHER)
    told = [*asked.remarks, *attempts(jobs)]
    return PreparedRun(
        specs, made, jobs, registry, asked.fingerprints, told, user, asked.share, clock, asked.ended, asked.begun
    )


def check_flags(spec: RunSpec, registry: Registry) -> None:
    """Refuse what flags say by themselves, before any task is read. Raises `HarnessError`."""
    executor = executor_of(spec, registry)
    if isinstance(executor, ShardExecutor):
        check_cut(spec, executor.name)
    if spec.output_path:
        check_output_path(Path(spec.output_path))
    for target in spec.log_to:
        LogTarget(*target).make(registry)
    Budget.of(spec)
    check_shard(spec)
    if spec.prices:
        Prices.of(spec.prices)
    if spec.user_prices:
        Prices.of(spec.user_prices, "--user_prices")


@dataclass(slots=True)
class _AskedRows:
    """The rows that a run asks, rendered once its models can work, and what an earlier session has done of them.

    may_have_ended: whether an earlier session is looked for, one that was told what this one is told.
    """

    spec: RunSpec
    specs: Sequence[RunSpec]
    jobs: Sequence[TaskJob]
    registry: Registry
    progress: Progress
    clock: Stopwatch
    may_have_ended: bool
    fingerprints: dict[str, str] = field(default_factory=dict)
    share: RowShare | None = None
    ended: EndedRun | None = None
    begun: Begun | None = None

    def samples(self, made: Sequence[Model]) -> AskedSamples:
        """The samples of all tasks, none where the run has ended. made: the models. Raises `HarnessError`."""
        jobs, spec = self.jobs, self.spec
        if self.may_have_ended:
            earlier = earlier_run(self.specs[0], made[0], jobs, self.registry, self.progress, self.clock)
            self.ended, self.begun = (earlier, None) if isinstance(earlier, EndedRun) else (None, earlier)
        if self.ended is not None:
            forget_large()
            return AskedSamples.of(())
        kinds = [self.registry.model(each.model) for each in self.specs]
        shown = any(kind.sees_prompts for kind in kinds)
        done = self.begun.done if self.begun is not None else None
        self.fingerprints.update(
            render_samples(jobs, spec, self.registry, self.progress, self.clock, shown=shown, done=done)
        )
        self.share = take_share(jobs, spec)
        # What answers samples, whatever they are asked (`dummy`, `replay`), needs no turns.
        if any(kind.sees_prompts and not kind.answers_samples for kind in kinds):
            check_conversations({job.task.name: job.facts for job in jobs}, spec.apply_chat_template)
        going_on = {job.task.name for job in jobs if job.task.config.environment is not None}
        return AskedSamples.joined(
            {
                job.task.name: (
                    list(map(as_it_goes_on, job.samples)) if job.task.name in going_on else job.samples,
                    job.facts,
                )
                for job in jobs
            }
        )

    @property
    def remarks(self) -> Iterable[str]:
        """What is worth knowing of them: as the earlier session said it, where there was one."""
        if self.begun is not None:
            return self.begun.remarks
        return self.ended.fields["remarks"] if self.ended is not None else remarks(self.jobs)


def _import_libraries(model: str, registry: Registry) -> None:
    """Import what a model needs. A model that is not there is refused later, as `resolved` says it."""
    with contextlib.suppress(PluginError):
        registry.model(model).import_libraries()


def _with_user_prices(spec: RunSpec, model: Model, user: Model) -> RunSpec:
    """The run with prices for its simulated user, which are the model's where it is the same. Raises `UsageError`."""
    if not spec.user_prices and (model.name, model.identity) == (user.name, user.identity):
        spec = replace(spec, user_prices=spec.prices)
    if spec.budget is not None and not spec.user_prices:
        raise UsageError(
            f"--budget {spec.budget}: say what the tokens of the simulated user cost, --user_prices in=0.5,out=2 "
            "(0 and 0 where nothing is paid)"
        )
    return spec


def prepare_user(
    spec: RunSpec, jobs: Sequence[TaskJob], registry: Registry, progress: Progress
) -> SimulatedUser | None:
    """The model that plays the user, where a task has one; no weights yet. Raises `HarnessError`."""
    wanting = [job for job in jobs if job.task.config.simulated_user is not None]
    if not wanting:
        if spec.user_model is not None:
            raise UsageError("--user_model: none of these tasks has a simulated user")
        if spec.user_prices:
            raise UsageError("--user_prices: none of these tasks has a simulated user")
        return None
    if spec.user_model is None:
        raise UsageError(
            f"task '{wanting[0].task.name}' has a user whom another model plays: add --user_model MODEL,K=V "
            "(--user_model openai,model=NAME,base_url=URL)"
        )
    name, args = spec.user_model
    plain = replace(spec, model=name, model_args=args, thinking=None, reasoning_effort=None, thinking_budget=None)
    plain = replace(plain, apply_chat_template=bool(spec.apply_chat_template))
    for job in wanting:
        for sample in job.samples:
            user_prompt(job.task, sample)  # what a template lacks is said now
    progress.stage(phrase("preparing the simulated user, {name}", name=name))
    user = create_model(plain, registry)
    with plugin_errors(name, "could not be prepared"):
        user.prepare()
    check_declared(user, name)
    if "generate" not in user.supports or user.answers_samples:
        raise UsageError(f"--user_model {name}: a user says something of its own, which this model cannot")
    return SimulatedUser(user)


def prepare_models(
    specs: Sequence[RunSpec],
    registry: Registry,
    samples: Callable[[Sequence[Model]], AskedSamples],
    progress: Progress,
    *,
    showing: bool = False,
) -> list[Model]:
    """Make the model of each of `specs`, and have it look at what it will be asked; none of them loads weights.

    samples: renders them, once the models have said that they can work; it is given these. showing: whether they are
    only shown. Raises `HarnessError`, and closes all then.
    """
    made: list[Model] = []
    with contextlib.ExitStack() as stack:
        for spec in specs:
            model, executor = create_model(spec, registry), executor_of(spec, registry)
            made.append(remote(model, spec, executor, registry) if isinstance(executor, ModelExecutor) else model)
            stack.callback(made[-1].close)
        for spec, model in zip(specs, made, strict=True):
            progress.stage(phrase("preparing model {model}: its configuration and tokenizer", model=spec.model))
            with plugin_errors(spec.model, "could not be prepared"):
                if showing:
                    model.prepare_to_show(bool(spec.apply_chat_template))
                else:
                    model.prepare()
            check_declared(model, spec.model)
        asked = samples(made)
        for spec, model in zip(specs, made, strict=True):
            progress.stage(phrase("checking prompts for model {model}", model=spec.model))
            check_abilities(model, spec.model, asked.facts, registry)
            if model.sees_prompts:
                check_media(asked.facts)
            with plugin_errors(spec.model, "could not look at the samples"):
                model.inspect_samples(asked if model.answers_samples else asked.readable)
        stack.pop_all()
    return made


_FLAGS = {"batch_size": "auto", "max_batch_size": None, "device": "auto"}
"""Flags that lm-eval also takes among the arguments of a model, and their defaults."""


def resolved(spec: RunSpec, registry: Registry) -> RunSpec:
    """The run with its model under the name that it has here. Raises `PluginError` for one that is not there."""
    if spec.model in MODELS_ELSEWHERE and spec.model not in registry.names("model"):
        raise UsageError(f"--model {spec.model}: {MODELS_ELSEWHERE[spec.model]}")
    kind = registry.model(spec.model)
    args = {**kind.aliases.get(spec.model, {}), **spec.model_args}
    flags = {name: args.pop(name) for name in _FLAGS if name in args and not kind.takes(name)}
    said = {name: value for name, value in flags.items() if getattr(spec, name) == _FLAGS[name]}
    name = kind.name if spec.model in kind.aliases else spec.model
    return replace(spec, model=name, model_args=args, **said)


def create_model(spec: RunSpec, registry: Registry) -> Model:
    """Make the model of a run; no weights yet."""
    spec = resolved(spec, registry)
    options = ModelOptions(spec.batch_size, spec.max_batch_size, spec.device, spec.offline)
    args = dict(spec.model_args)
    kind = registry.model(spec.model)
    if isinstance(spec.apply_chat_template, str):
        if not kind.takes("chat_template"):
            what = f"model '{spec.model}' has no chat templates to choose from; say the flag without a name"
            raise UsageError(f"--apply_chat_template {spec.apply_chat_template}: {what}")
        args.setdefault("chat_template", spec.apply_chat_template)
    if kind.sees_prompts:
        args |= thinking_args(spec, kind)
    if spec.batch_api:
        if not kind.takes("batch_api"):
            raise UsageError(f"--batch_api: model '{spec.model}' is asked by no batch API (openai is)")
        args["batch_api"] = True
    with plugin_errors(spec.model, "refuses its arguments"):
        return kind.create(args, options)


def thinking_args(spec: RunSpec, kind: type[Model]) -> dict[str, JSON]:
    """What the flags say of the model's reasoning, as arguments. Raises `UsageError` where it takes none of them."""
    asked = Thinking.of(spec.thinking, spec.reasoning_effort, spec.thinking_budget)
    fields = {"thinking": asked.mode, "reasoning_effort": asked.effort, "thinking_budget": asked.budget}
    given = {name: value for name, value in fields.items() if value not in (None, "auto")}
    if unknown := next((name for name in given if not kind.takes(name)), None):
        raise UsageError(f"--{unknown}: model '{spec.model}' cannot be told that (hf, vllm and openai can)")
    return given


def check_conversations(facts: Mapping[str, SampleFacts], apply_chat_template: bool | str) -> None:
    """Refuse what only chat turns can show, where nothing is asked as chat turns. Raises `UsageError`.

    facts: by task, as in the checks that follow.
    """
    for task, known in facts.items() if not apply_chat_template else ():
        if known.offers_tools or known.is_talk:
            what = "offers functions" if known.offers_tools else "holds the model's own answers"
            raise UsageError(f"task '{task}' {what} and is asked as chat turns: add --apply_chat_template")


def check_abilities(model: Model, name: str, facts: Mapping[str, SampleFacts], registry: Registry) -> None:
    """Refuse samples that ask for more than the model can do. Raises `UsageError`."""
    for task, known in facts.items():
        for kind in known.kinds:
            if kind not in model.supports:
                can = ", ".join(sorted(model.supports))
                raise UsageError(
                    f"model '{name}' cannot answer task '{task}': it needs {kind}, the model can do "
                    f"{can} (look for a variant of the task with `harness tasks {task}`)"
                )
        if known.offers_tools and model.sees_prompts and not (model.takes_tools or model.answers_samples):
            raise UsageError(f"model '{name}' cannot be offered functions, as task '{task}' does")
    for task, known in facts.items():
        if missing := known.shown - model.modalities:
            able = [each for each in registry.names("model") if known.shown <= registry.model(each).modalities]
            raise UsageError(
                f"model '{name}' cannot see what task '{task}' shows: {', '.join(sorted(missing))}; "
                f"--model names one that can ({', '.join(able) or 'none is installed'})"
            )


def check_media(facts: Mapping[str, SampleFacts]) -> None:
    """Refuse a task of which no sample can be shown its images: that is a wrong folder, and no bad picture here and
    there, which is the error of its sample. Raises `DataError`."""
    for known in facts.values():
        n = known.with_media
        if n and known.media_problems == n:
            many = f"; none of the {n} samples with media can be shown" if n > 1 else ""
            raise DataError(f"{known.first_problem}{many}")
