"""What a run is told, and what it tells whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.file_types import problem_of
from harness.secret import sealed
from harness.types import JSON, BadRows, Record
from harness.words import Phrase

if TYPE_CHECKING:
    from harness.run.work import Meter

DEFAULT_MODEL = "demo"
DEMO_VISION = "demo_vision"
"""The model that comes with harness for tasks with pictures."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything a run is told, named as on the command line. Secrets among `model_args` and `log_to` are `Secret`s.

    shard: the part of its rows that is asked, from 1, and of how many parts. executor: what does the
    work elsewhere, and its options. log_to: the loggers that write the run
    into a tracker, each with its options. task_gen_kwargs: what a recipe says of single tasks, by their names, over
    `gen_kwargs`. user_model: who plays the user of conversations, and its arguments; user_prices: of that one's tokens,
    where they are others than `prices`.
    """

    tasks: tuple[str, ...]
    model: str = DEFAULT_MODEL
    model_args: Mapping[str, JSON] = field(default_factory=dict)
    user_model: tuple[str, Mapping[str, JSON]] | None = None
    modify: tuple[str, ...] = ()
    num_fewshot: int | None = None
    fewshot_sampler: str | None = None
    batch_size: int | str = "auto"
    max_batch_size: int | None = None
    device: str = "auto"
    gen_kwargs: Mapping[str, JSON] = field(default_factory=dict)
    task_gen_kwargs: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)
    metrics: tuple[str | Mapping[str, JSON], ...] = ()
    limit: int | float | None = None
    after: str | None = None
    precision: float | None = None
    until_decided: str | None = None
    bad_rows: BadRows = "refuse"
    seed: int = 1234
    apply_chat_template: bool | str = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    thinking: str | None = None
    reasoning_effort: str | None = None
    thinking_budget: int | None = None
    repeats: int | None = None
    prices: Mapping[str, JSON] = field(default_factory=dict)
    user_prices: Mapping[str, JSON] = field(default_factory=dict)
    budget: float | None = None
    budget_tokens: int | None = None
    batch_api: bool = False
    include_path: tuple[str, ...] = ()
    trust_task_code: tuple[str, ...] = ()
    trust_task_code_in_process: tuple[str, ...] = ()
    shard: tuple[int, int] | None = None
    executor: tuple[str, Mapping[str, JSON]] | None = None
    output: str = "runs"
    data: tuple[str, ...] = ()
    hub: str = "hf"
    offline: bool = False
    sandbox: str = "auto"
    overrides: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)
    output_path: str | None = None
    log_samples: bool = False
    recipe: Mapping[str, JSON] = field(default_factory=dict)
    cutoff: str | None = None
    name: str | None = None
    log_to: tuple[tuple[str, Mapping[str, JSON]], ...] = ()
    command: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model_args", sealed(dict(self.model_args)))
        if self.user_model is not None:
            object.__setattr__(self, "user_model", (self.user_model[0], sealed(dict(self.user_model[1]))))
        if self.executor is not None:
            object.__setattr__(self, "executor", (self.executor[0], sealed(dict(self.executor[1]))))
        object.__setattr__(self, "log_to", tuple((name, sealed(dict(options))) for name, options in self.log_to))

    def generation_of(self, task: str) -> Mapping[str, JSON]:
        """What the run says of generating answers to a task, named without its variant."""
        return {**self.gen_kwargs, **self.task_gen_kwargs.get(task, {})}

    @classmethod
    def from_json(cls, saved: Mapping[str, JSON]) -> Self:
        """Read back what a manifest holds; lists become tuples again. Raises `UsageError` for what is no such thing."""
        if problem := problem_of_saved(saved):
            raise UsageError(f"the run's manifest.json: damaged ({problem})")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
        }
        values["include_path"] = tuple(_folder_here(folder) for folder in values.get("include_path", ()))
        return cls(**values)


def _folder_here(recorded: str) -> str:
    """A folder that a manifest names; where that is not there, as on another machine, one below the working folder that
    ends in the same names, the most of them that are found."""
    parts = Path(recorded).parts
    ends = [Path(*parts[start:]) for start in range(len(parts))]  # the first is all of it
    return str(next((end for end in ends if end.is_dir()), recorded))


def problem_of_saved(saved: Mapping[str, JSON]) -> str | None:
    """What is wrong with the `spec` of a manifest, in one line; None where all is well."""
    known = {each.name for each in fields(RunSpec)}
    if unknown := [name for name in saved if name not in known]:
        return f"spec.{unknown[0]}: no setting that this version of harness knows"
    problem = problem_of(saved, RunSpec)
    return f"spec.{problem}" if problem else None


class Progress:
    """What a run tells whoever watches it. The base class is silent."""

    def stage(self, name: str | Phrase) -> None:
        """What the run does from here on, until the next stage, or until samples come: `reading tasks`."""

    def started(self, tasks: Sequence[tuple[str, int, int]], model: str | Phrase) -> None:
        """`tasks` are (name, samples, samples already on disk)."""

    def metered(self, meter: Meter) -> None:
        """The model is loaded and begins to answer; `meter` says at any time what it has done so far."""

    def sample_done(self, record: Record, headline: str) -> None:
        """A record was written. `headline` is the key of the score to watch."""

    def message(self, text: str | Phrase) -> None:
        """One line for the user."""

    def finished(self) -> None:
        """No more samples will come; called on every way out."""
