"""A model that answers on other machines, as an executor plugin reaches them: `--executor ray,workers=8`.

What a run knows of the model before weights load (identity, prompts, what it can do) is known here; the weights are
there. What is asked is cut into pieces along the prompts' beginnings, and comes back as it is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import ModelError, UsageError
from harness.executor import ModelExecutor, ModelOrder, RunExecutor
from harness.model import Forecast, Model
from harness.record.environment import versions
from harness.record.manifest import plain, shown_differences
from harness.registry import Registry, load_plugins
from harness.run.answers import plugin_errors
from harness.run.cuts import cut_requests
from harness.run.spec import RunSpec
from harness.scoring.construct import construct
from harness.secret import revealed
from harness.types import JSON, Prompt, Request, Response, Sample

_WHERE = ("on this machine", "there")


def executor_of(spec: RunSpec, registry: Registry) -> RunExecutor | None:
    """What does a run's work elsewhere, having contacted nobody; None where it is done here. Raises `UsageError`."""
    if spec.executor is None:
        return None
    name, options = spec.executor
    executor = construct("executor", name, registry.executor, revealed(dict(options)), "--executor")
    executor.require()
    return executor


def versions_that_matter(registry: Registry) -> dict[str, JSON]:
    """The versions of packages and plugins that take part in a run here."""
    return {**versions(), **{f"plugins of {plugin.package}": plugin.version for plugin in registry.plugins}}


@dataclass(frozen=True)
class RemoteOrder(ModelOrder):
    """The model of a run as other machines are to make it. identity: which it must have there; versions: of packages
    here."""

    spec: RunSpec
    arguments: frozenset[str]
    is_open_ended: bool
    identity: Mapping[str, JSON]
    versions: Mapping[str, JSON]

    def takes(self, argument: str) -> bool:
        return self.is_open_ended or argument in self.arguments

    def load(self, device: str, args: Mapping[str, Any]) -> Model:
        from harness.run.prepare import create_model

        registry = load_plugins()
        here = versions_that_matter(registry)
        both = [name for name in here if name in self.versions]
        ours, theirs = {name: self.versions[name] for name in both}, {name: here[name] for name in both}
        if differing := shown_differences(ours, theirs, *_WHERE):
            raise UsageError(f"other versions: {differing}")
        spec = replace(self.spec, device=device, model_args={**self.spec.model_args, **args})
        model = create_model(spec, registry)
        with plugin_errors(spec.model, "could not be prepared"):
            model.prepare()
        if differing := shown_differences(dict(self.identity), plain(model.identity), *_WHERE):
            raise UsageError(f"another model: {differing}")
        with plugin_errors(spec.model, "could not be loaded"):
            model.load()
        return model


def remote(model: Model, spec: RunSpec, executor: ModelExecutor, registry: Registry) -> Model:
    """The model of a run (not prepared yet) as one that answers where the executor has it. Raises `UsageError`."""
    if model.answers_samples or not model.sees_prompts:
        raise UsageError(f"--executor {executor.name}: model '{spec.model}' computes nothing that others could do")
    kept = ("name", "supports", "modalities", "takes_tools", "secrets")
    declared = {name: getattr(model, name) for name in kept}
    made: Model = type(f"Remote{type(model).__name__}", (_Remote,), declared)(model, spec, executor, registry)
    made.options = model.options
    return made


class _Remote(Model):
    """What needs no weights is asked of the model here, the rest of the executor."""

    def __init__(self, here: Model, spec: RunSpec, executor: ModelExecutor, registry: Registry) -> None:
        self._here, self._spec, self._executor, self._registry = here, spec, executor, registry

    def prepare(self) -> None:
        self._here.prepare()

    @property
    def identity(self) -> Mapping[str, Any]:
        return self._here.identity

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        self._here.inspect_samples(samples)

    def forecast(self, requests: Sequence[Request]) -> Forecast | None:
        return self._here.forecast(requests)

    def load(self) -> None:
        arguments, is_open_ended = type(self._here).arguments()
        # What a machine is not told it cannot pass on: of the run it needs the model alone.
        spec = RunSpec(
            tasks=(),
            model=self._spec.model,
            model_args=self._spec.model_args,
            batch_size=self._spec.batch_size,
            max_batch_size=self._spec.max_batch_size,
            apply_chat_template=self._spec.apply_chat_template,
            thinking=self._spec.thinking,
            reasoning_effort=self._spec.reasoning_effort,
            thinking_budget=self._spec.thinking_budget,
            offline=self._spec.offline,
        )
        self._executor.say = self.say
        self._executor.start(
            RemoteOrder(
                spec, frozenset(arguments), is_open_ended, plain(self.identity), versions_that_matter(self._registry)
            )
        )

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        given = 0
        for answer in self._executor.respond(cut_requests(requests, self._executor.pieces)):
            given += 1
            yield answer
        if given < len(requests):
            raise ModelError(f"executor '{self._executor.name}' gave {given} answers to {len(requests)} requests")

    def render(self, prompt: Prompt) -> str:
        return self._here.render(prompt)

    def count_tokens(self, text: str) -> int | None:
        return self._here.count_tokens(text)

    def describe(self) -> Mapping[str, Any]:
        return {**self._executor.describe(), "executor": self._executor.name}

    def incidents(self) -> Sequence[Mapping[str, Any]]:
        return self._executor.incidents()

    def close(self) -> None:
        self._executor.close()
        self._here.close()
