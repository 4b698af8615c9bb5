"""Runs from Python: `harness.evaluate` and `harness.evaluate_each`. What is given becomes a `RunSpec`, or an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.cli.values import parse_metrics, parse_names, parse_pairs
from harness.errors import UsageError
from harness.run.result import RunResult
from harness.run.runner import run, run_each
from harness.run.spec import DEFAULT_MODEL, RunSpec
from harness.types import JSON

Names = str | Path | Sequence[str | Path]


def evaluate(
    model: str = DEFAULT_MODEL,
    model_args: Mapping[str, JSON] | str | None = None,
    tasks: Names = (),
    *,
    modify: Names = (),
    num_fewshot: int | None = None,
    fewshot_sampler: str | None = None,
    batch_size: int | str = "auto",
    max_batch_size: int | None = None,
    device: str = "auto",
    gen_kwargs: Mapping[str, JSON] | str | None = None,
    metrics: str | Sequence[str | Mapping[str, JSON]] = (),
    limit: int | float | None = None,
    seed: int = 1234,
    apply_chat_template: bool | str = False,
    fewshot_as_multiturn: bool = True,
    system_instruction: str | None = None,
    include_path: Names = (),
    trust_task_code: Names = (),
    trust_task_code_in_process: Names = (),
    output: str | Path = "runs",
    data: Names = (),
    hub: str = "hf",
    offline: bool = False,
    sandbox: str = "auto",
    overrides: Mapping[str, Mapping[str, JSON]] | None = None,
    output_path: str | Path | None = None,
    log_samples: bool = False,
    cutoff: str | None = None,
    name: str | None = None,
) -> RunResult:
    """Measure a model: `evaluate("hf", {"pretrained": DIR}, ["ceval", "cmmlu"], limit=10).summary()`.

    Parameters are named as on the command line, and mean the same; `model_args` and `gen_kwargs` may also be written as
    there (`"pretrained=DIR,dtype=float32"`). overrides: task -> key -> value, as of `--set`. Raises `HarnessError`.
    """
    return run(_spec(locals()))


def evaluate_each(
    model: str,
    model_args: Sequence[Mapping[str, JSON] | str],
    tasks: Names,
    **options: Any,
) -> list[RunResult]:
    """Measure several models, one after another, as `evaluate` does each of them, with the same `options`.

    Adapters share their base: `evaluate_each("hf", ["pretrained=DIR", "pretrained=DIR,peft=ADAPTER"], "ceval")`
    """
    if isinstance(model_args, str | Mapping):
        raise UsageError("model_args: should be a list with the arguments of each model; `evaluate` takes one of them")
    spec = _spec({"model": model, "model_args": None, "tasks": tasks, **options})
    return list(run_each(spec, [_pairs("model_args", args) for args in model_args]))


def _spec(given: Mapping[str, Any]) -> RunSpec:
    """What was given as a `RunSpec`. Raises `UsageError` for what a run cannot be told so."""
    known = {field.name for field in dataclasses.fields(RunSpec)}
    if unknown := sorted(given.keys() - known):
        raise UsageError(f"evaluate: takes no parameter '{unknown[0]}' (it takes: {', '.join(sorted(known))})")
    model = given["model"]
    if not isinstance(model, str):
        found = type(model).__name__ if not isinstance(model, type) else model.__name__
        raise UsageError(
            f"model: should be the name of a model plugin, found {found}: write a model in memory to a folder, "
            'model.save_pretrained(DIR) and tokenizer.save_pretrained(DIR), and say evaluate("hf", {"pretrained": DIR})'
        )
    read: dict[str, Callable[[str, Any], Any]] = {
        **dict.fromkeys(("model_args", "gen_kwargs"), _pairs),
        **dict.fromkeys(("tasks", "modify"), _names),
        **dict.fromkeys(("include_path", "data", "trust_task_code", "trust_task_code_in_process"), _folders),
        **dict.fromkeys(("output", "output_path"), lambda _, value: None if value is None else str(value)),
        "metrics": _metrics,
        "overrides": _overrides,
    }
    return RunSpec(**{name: read[name](name, value) if name in read else value for name, value in given.items()})


def _pairs(name: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, str | Mapping):
        raise UsageError(f"{name}: should be a mapping or a text like 'pretrained=DIR', found {type(value).__name__}")
    try:
        return parse_pairs(value or {})
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _names(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(parse_names(value))
    return _folders(name, value)


def _folders(name: str, value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str | Path) else value
    if not isinstance(listed, Sequence | set | frozenset) or not all(isinstance(item, str | Path) for item in listed):
        raise UsageError(f"{name}: should be a text or a list of texts, found {value!r:.80}")
    return tuple(map(str, listed))


def _metrics(name: str, value: Any) -> tuple[str | dict[str, Any], ...]:
    listed = [value] if isinstance(value, str | Mapping) else value
    if not isinstance(listed, Sequence) or not all(isinstance(item, str | Mapping) for item in listed):
        raise UsageError(
            f"{name}: should be names or entries like {{'metric': 'ece', 'bins': 10}}, found {value!r:.80}"
        )
    try:
        return tuple(entry for item in listed for entry in parse_metrics(item))
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _overrides(name: str, value: Any) -> dict[str, dict[str, Any]]:
    given = {} if value is None else value
    if not isinstance(given, Mapping) or not all(isinstance(keys, Mapping) for keys in given.values()):
        raise UsageError(f"{name}: should be {{task: {{key: value}}}}, found {value!r:.80}")
    return {str(task): dict(keys) for task, keys in given.items()}
