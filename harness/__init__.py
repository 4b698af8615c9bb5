"""Measures language models and vision-language models. What is named here is public, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# isort: off
from harness import interrupts as _interrupts  # noqa: F401  # before all else: what follows takes a while

# isort: on

from harness.errors import (
    ChatTemplateError,
    DataError,
    ExitCode,
    HarnessError,
    MachineError,
    ModelError,
    PluginError,
    SaveError,
    TaskError,
    Undecided,
    UsageError,
    one_line,
)
from harness.executor import ModelExecutor, ModelOrder, RunExecutor, ShardExecutor, ShardJob, WorkPiece
from harness.filters import Filter
from harness.hooks import hookimpl
from harness.logger import LoggedResults, LoggedRun, Logger, RunStatus, Table
from harness.metrics import (
    Answered,
    BatchMetric,
    CorpusMetric,
    Metric,
    MetricOptions,
    Observation,
    Outcome,
    RepeatMetric,
    ScoreKey,
    SetValue,
)
from harness.model import Activity, Forecast, Model, ModelOptions
from harness.modifiers import Asked, Modifier, RowScore
from harness.retry import (
    RetriesExhausted,
    Retryable,
    RetryPolicy,
    asked_pause,
    is_throttling,
    may_pass,
)
from harness.secret import Secret, sealed, secrets_in, secrets_of_url, shown, shown_url
from harness.streaming import AskTimed, TimedReply
from harness.thinking import Thinking
from harness.types import (
    DatasetSpec,
    GenerationParams,
    Media,
    Message,
    MetricResult,
    OutputType,
    Prompt,
    Record,
    Request,
    RequestKind,
    Response,
    Rows,
    Sample,
    View,
)

if TYPE_CHECKING:
    from harness.api import evaluate, evaluate_each
    from harness.judging.judge import judge
    from harness.run.frames import frames, samples_frame
    from harness.run.result import load_run
    from harness.view.figures import plot_abilities, plot_scores

__version__ = "0.1.0"

__all__ = [
    "Activity",
    "Answered",
    "AskTimed",
    "Asked",
    "BatchMetric",
    "ChatTemplateError",
    "CorpusMetric",
    "DataError",
    "DatasetSpec",
    "ExitCode",
    "Filter",
    "Forecast",
    "GenerationParams",
    "HarnessError",
    "LoggedResults",
    "LoggedRun",
    "Logger",
    "MachineError",
    "Media",
    "Message",
    "Metric",
    "MetricOptions",
    "MetricResult",
    "Model",
    "ModelError",
    "ModelExecutor",
    "ModelOptions",
    "ModelOrder",
    "Modifier",
    "Observation",
    "Outcome",
    "OutputType",
    "PluginError",
    "Prompt",
    "Record",
    "RepeatMetric",
    "Request",
    "RequestKind",
    "Response",
    "RetriesExhausted",
    "RetryPolicy",
    "Retryable",
    "RowScore",
    "Rows",
    "RunExecutor",
    "RunStatus",
    "Sample",
    "SaveError",
    "ScoreKey",
    "Secret",
    "SetValue",
    "ShardExecutor",
    "ShardJob",
    "Table",
    "TaskError",
    "Thinking",
    "TimedReply",
    "Undecided",
    "UsageError",
    "View",
    "WorkPiece",
    "__version__",
    "asked_pause",
    "evaluate",
    "evaluate_each",
    "frames",
    "hookimpl",
    "is_throttling",
    "judge",
    "load_run",
    "may_pass",
    "one_line",
    "plot_abilities",
    "plot_scores",
    "samples_frame",
    "sealed",
    "secrets_in",
    "secrets_of_url",
    "shown",
    "shown_url",
]


def __getattr__(name: str) -> Any:
    # The runner is imported on first use: a plugin that only needs the base classes stays light.
    if name in ("evaluate", "evaluate_each"):
        from harness import api

        return getattr(api, name)
    if name in ("frames", "samples_frame"):
        from harness.run import frames

        return getattr(frames, name)
    if name == "load_run":
        from harness.run.result import load_run

        return load_run
    if name in ("plot_abilities", "plot_scores"):
        from harness.view import figures

        return getattr(figures, name)
    if name == "judge":
        from harness.judging.judge import judge

        return judge
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
