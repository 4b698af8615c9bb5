"""Every hook that a plugin can implement. This file is the map of what can be extended.

A plugin is a module, named by an entry point of the group `harness`:

    [project.entry-points.harness]
    my_plugin = "my_package.my_plugin"

and its hooks are functions marked with `harness.hookimpl`:

    from harness import hookimpl

    @hookimpl
    def harness_metrics():
        return [MyMetric]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from harness.types import DatasetSpec, Record, Rows

if TYPE_CHECKING:
    from harness.executor import RunExecutor
    from harness.filters import Filter
    from harness.logger import Logger
    from harness.metrics import Metric
    from harness.model import Model
    from harness.modifiers import Modifier

PROJECT = "harness"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def harness_models() -> Sequence[type[Model]]:  # type: ignore[empty-body]
    """Return model classes. Each is chosen by its `name`: `--model NAME`."""


@hookspec
def harness_metrics() -> Sequence[type[Metric]]:  # type: ignore[empty-body]
    """Return metric classes. Each is chosen by its `name`: `metric: NAME` in a task's `metric_list`."""


@hookspec
def harness_filters() -> Sequence[type[Filter]]:  # type: ignore[empty-body]
    """Return filter classes. Each is chosen by its `name`: `function: NAME` in a task's `filter_list`."""


@hookspec
def harness_modifiers() -> Sequence[type[Modifier]]:  # type: ignore[empty-body]
    """Return modifier classes. Each is chosen by its `name`: `--modify NAME`, for any task."""


@hookspec
def harness_loggers() -> Sequence[type[Logger]]:  # type: ignore[empty-body]
    """Return logger classes. Each is chosen by its `name`: `--log_to NAME`, and works in a process of its own."""


@hookspec
def harness_executors() -> Sequence[type[RunExecutor]]:  # type: ignore[empty-body]
    """Return executor classes. Each is chosen by its `name`: `--executor NAME`, and does a run's work elsewhere."""


@hookspec
def harness_tasks() -> Sequence[Path]:  # type: ignore[empty-body]
    """Return folders of task YAML that the package ships. They are searched to any depth."""


@hookspec
def harness_templates() -> Sequence[Path]:  # type: ignore[empty-body]
    """Return folders of Jinja templates that task files can include or import by file name.

    Files `rubrics/NAME.yaml` in such a folder are rubrics for `harness judge`.
    """


@hookspec(firstresult=True)
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    """Return the rows of one split, or None to let the next source try.

    Raise `harness.DataError` when the source is the right one but the rows cannot be had. Implementations that look
    at local folders use `@hookimpl(tryfirst=True)`, so that a mirror is asked before any hub.
    """


@hookspec
def harness_run_started(manifest: dict[str, Any], path: Path) -> None:
    """Observe that a run begins. `manifest` is what `manifest.json` holds; `path` is the run folder."""


@hookspec
def harness_record_written(record: Record) -> None:
    """Observe one sample that was written to disk."""


@hookspec
def harness_run_finished(report: dict[str, Any], path: Path) -> None:
    """Observe the end of a run. `report` is what `report.json` holds; `path` is the run folder."""
