"""Runs from Python: `harness.evaluate` and `harness.evaluate_each`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.run.result import RunResult
from harness.run.runner import run, run_each
from harness.run.spec import DEFAULT_MODEL, RunSpec
from harness.types import JSON


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
