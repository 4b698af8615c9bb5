"""Evaluation while a model is trained, by a callback of transformers' `Trainer` (extra `training`).

    trainer = Trainer(..., callbacks=[HarnessCallback("ceval", limit=200, when=500)])

Every 500 steps, or whenever the trainer evaluates, the tasks run on the model that is being trained. Scores go where
those of the trainer go, under names like `eval_ceval_acc` and `eval_ceval_acc_stderr`: to the selection of the best
model, to early stopping and to every tracker. The model, the random streams and so the training stay as they are
without it.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import DefaultFlowCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.api import named_model, spec_of
from harness.engine.live import LiveModel, as_found, check_sharding, whole_weights
from harness.engine.ranks import Ranks
from harness.errors import HarnessError, Interrupted, UsageError, one_line
from harness.record.report_fields import Report
from harness.record.score_fields import MetricFields
from harness.record.shown import finite
from harness.registry import load_plugins
from harness.run.jobs import close_code, load_jobs
from harness.run.prepare import create_model
from harness.run.runner import run
from harness.run.spec import Progress

log = logging.getLogger(__name__)

_MOMENTS = ("evaluate", "save")
_NOT_HERE = ("model", "name", "command")


class MeasurementFailed(HarnessError):
    """A measurement in training failed, and the callback was asked to stop the training then."""


class HarnessCallback(TrainerCallback):
    """Runs tasks on the model that is being trained.

    tasks: as of `harness.evaluate`, whose other parameters may follow by name (`limit`, `num_fewshot`,
    `apply_chat_template`, `model_args={"max_length": 512}`, ...). when: `evaluate`, `save`, or a number of steps.
    output: the folder of the runs, one a step; left out, `harness` below the training's own. stop_on_failure: whether
    a measurement that fails ends the training; otherwise it is told once, and training goes on. tokenizer: where the
    trainer has none as its `processing_class`.

    Raises `UsageError` for tasks and parameters that cannot be, before training begins. All processes of a training
    have the callback, and share its work.
    """

    def __init__(
        self,
        tasks: str | Path | Sequence[str | Path],
        *,
        when: str | int = "evaluate",
        output: str | Path | None = None,
        stop_on_failure: bool = False,
        tokenizer: Any = None,
        **options: Any,
    ) -> None:
        is_count = isinstance(when, int) and not isinstance(when, bool)
        if when not in _MOMENTS and not (is_count and int(when) > 0):
            raise UsageError(f"when: should be 'evaluate', 'save' or a number of steps, found {when!r:.80}")
        if wrong := next((name for name in _NOT_HERE if name in options), None):
            raise UsageError(f"HarnessCallback takes no '{wrong}': the model is the one that is trained, at its step")
        self.when, self.output, self.stop_on_failure, self.tokenizer = when, output, stop_on_failure, tokenizer
        self.options = {"model_args": None, **options, "tasks": tasks}
        self._ranks: Ranks | None = None
        self._told: set[str] = set()
        self._logged: tuple[int, Mapping[str, float | None]] | None = None
        self._refuse_wrong_tasks()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        LiveModel(given["model"], self._tokenizer(given))  # which refuses what it cannot measure
        check_sharding(given["model"])
        if (why := _why_never(self.when, args, state)) and state.is_world_process_zero:
            log.warning("NOTHING WILL BE MEASURED IN THIS TRAINING: %s", why)
        # What looks at scores (early stopping, say) has to come after what makes them.
        handler = _calling_trainer().callback_handler
        flow = [each for each in handler.callbacks if isinstance(each, DefaultFlowCallback)]
        others = [each for each in handler.callbacks if each is not self and each not in flow]
        handler.callbacks = [*flow, self, *others]

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **given: Any,
    ) -> None:
        if self.when != "evaluate":
            return
        found = self._measure(args, state, given)
        if metrics is None:
            return
        metrics.update(_known(found))
        wanted = _best_metric(args)
        if wanted is not None and wanted not in metrics and (wanted in found or not found):
            metrics[wanted] = math.nan  # which is never the best; at a missing one the trainer would stop

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        if self.when == "save":
            self._measure(args, state, given)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        if isinstance(self.when, int) and state.global_step % self.when == 0:
            self._measure(args, state, given)

    def _refuse_wrong_tasks(self) -> None:
        """Raises `UsageError` for what the options cannot mean, and for tasks that are not there."""
        registry = load_plugins()
        spec = spec_of({**self.options, "model": "demo", "output": self.output or "."})
        close_code(load_jobs(spec, registry, Progress()))

    def _measure(
        self, args: TrainingArguments, state: TrainerState, given: Mapping[str, Any]
    ) -> dict[str, float | None]:
        """The scores of this step, which the trainer has logged; empty where they could not be had."""
        trainer, model, tokenizer = _calling_trainer(), given["model"], self._tokenizer(given)
        if self._ranks is None:
            self._ranks = Ranks.of_training()
        with as_found(model, tokenizer):
            try:
                with whole_weights(model):
                    scores, problem = self._measured(model, tokenizer, args, state.global_step)
            except HarnessError as error:  # the same in all processes
                scores, problem = {}, one_line(error)
            if problem:
                self._tell(problem, state.global_step)
            elif self._logged != (state.global_step, scores):
                self._logged = (state.global_step, scores)
                # The model is in evaluation mode here: some trainers keep what they log of training apart by that.
                trainer.log(_known(scores))
        return scores

    def _measured(
        self, model: Any, tokenizer: Any, args: TrainingArguments, step: int
    ) -> tuple[dict[str, float | None], str]:
        """(scores, what went wrong), the same in all processes."""
        ranks, registry = self._ranks, load_plugins()
        name = named_model(LiveModel.of(model, tokenizer, ranks), None, registry)
        output = self.output or Path(args.output_dir or ".") / "harness"
        spec = spec_of({**self.options, "model": name, "output": output, "name": f"step-{step}"})
        if ranks is not None and not ranks.leads:
            helper = create_model(spec, registry)
            assert isinstance(helper, LiveModel)
            told: tuple[dict[str, float | None], str] = ranks.serve(helper)
            return told
        outcome: tuple[dict[str, float | None], str] = {}, "it did not come to its end"
        try:
            result = run(spec, registry)
            outcome = dict(_scores(result.report)), ""
            for text in _losses(result.report):
                log.error("step %d: %s (%s)", step, text, result.path)
        except Interrupted:
            raise KeyboardInterrupt from None
        except Exception as error:
            outcome = {}, one_line(error)
        finally:
            if ranks is not None:
                ranks.tell(outcome)
        return outcome

    def _tokenizer(self, given: Mapping[str, Any]) -> Any:
        return self.tokenizer if self.tokenizer is not None else given.get("processing_class")

    def _tell(self, problem: str, step: int) -> None:
        """Say, once, that a measurement failed. Raises `MeasurementFailed` where that is to end the training."""
        if self.stop_on_failure:
            raise MeasurementFailed(f"the measurement at step {step} failed: {problem}")
        if problem not in self._told and (self._ranks is None or self._ranks.leads):
            log.error("THE MEASUREMENT AT STEP %d FAILED, and has no scores; training goes on: %s", step, problem)
        self._told.add(problem)


def _calling_trainer() -> Trainer:
    """The trainer that calls a callback: transformers hands callbacks all but that, and only it can log."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer):
            return found
        frame = frame.f_back
    raise UsageError("HarnessCallback is called by a Trainer of transformers, and by nothing else")


def _why_never(when: str | int, args: TrainingArguments, state: TrainerState) -> str:
    """Why the moment to measure does not come by itself, and what to do; empty where it does."""
    if when == "evaluate" and args.eval_strategy == "no":
        return (
            "the trainer does not evaluate (eval_strategy='no'); set eval_strategy, or give when='save' or when=STEPS"
        )
    if when == "save" and args.save_strategy == "no":
        return "the trainer saves no checkpoint (save_strategy='no'); set save_strategy, or give when=STEPS"
    if isinstance(when, int) and when > state.max_steps:
        return f"it is due after {when} steps (when={when}), and the training has {state.max_steps}"
    return ""


def _best_metric(args: TrainingArguments) -> str | None:
    """The name of the metric by which the trainer chooses the best model, as it looks for it."""
    name = args.metric_for_best_model
    return name if name is None or name.startswith("eval_") else f"eval_{name}"


def _scores(report: Report) -> Iterator[tuple[str, float | None]]:
    """Names and values, each followed by its standard error, of all tasks and groups. None: unknown."""
    rows: list[tuple[str, Sequence[MetricFields]]] = [(task["task"], task["metrics"]) for task in report["tasks"]]
    rows += [(group["group"], group["metrics"]) for group in report.get("groups", ())]
    for name, metrics in rows:
        for metric in metrics:
            yield f"eval_{name}_{metric['metric']}", finite(metric["value"])
            yield f"eval_{name}_{metric['metric']}_stderr", finite(metric["stderr"])


def _known(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if value is not None}


def _losses(report: Report) -> Iterator[str]:
    """Which tasks lost samples, a line each."""
    for task in report["tasks"]:
        if failed := task["counts"].get("failed", 0):
            cause = next((each["message"] for each in task.get("failures", ())), "")
            yield f"{task['task']}: {failed} of {task['counts']['n']} samples failed{': ' if cause else ''}{cause}"
