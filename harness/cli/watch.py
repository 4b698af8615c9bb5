"""`harness watch`: measures the checkpoints of a training as they appear, and says how the curve runs."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import line, notice, notice_path, show, table
from harness.cli.options import DATA_OPTIONS, MODEL_OPTIONS, PROMPT_OPTIONS, TASKS, finite, options
from harness.cli.run import RUN_OPTIONS, Greedy, print_result, settings_of, stopped_by_sigterm
from harness.errors import ExitCode, HarnessError, Interrupted, UsageError

if TYPE_CHECKING:
    from harness.run.watch import Curve, Watch

_NOT_HERE = {
    "peft": "adapters among the checkpoints are found by themselves",
    "judges": "judge the runs afterwards, by harness judge",
    "recipe": "give its settings by --config",
    "sweep": "one setting is watched at a time",
    "dry_run": "try the settings with harness run --dry_run on one checkpoint",
    "until_decided": "all checkpoints are asked the same rows",
    "precision": "all checkpoints are asked the same rows",
}


@click.command("watch", cls=Greedy)
@click.argument("patterns", nargs=-1, required=True, metavar="'OUT/checkpoint-*'")
@click.option("--once", is_flag=True, default=None, help="Measure what is there, and end: for cron.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=None,
    callback=finite,
    metavar="SECONDS",
    help="How often to look. [default: 30]",
)
@options(TASKS, MODEL_OPTIONS, PROMPT_OPTIONS, DATA_OPTIONS, RUN_OPTIONS)
@click.pass_context
def command(context: click.Context, /, patterns: tuple[str, ...], **flags: Any) -> int:
    """Measure each new checkpoint of a training, in order and once, and say which is best beyond chance.

    A checkpoint is measured when it is whole. Adapters are measured on their base, which is loaded once for those that
    wait together. Killed or stopped, the same command goes on.

    \b
    harness watch 'OUT/checkpoint-*' --config eval.yaml --device cuda:1
    harness watch 'OUT/checkpoint-*' --tasks ceval --limit 50 --once
    """
    settings = settings_of(context, flags)
    once, every = settings.pop("once", False), settings.pop("every", 30.0)
    settings.pop("verbose", None)
    settings.pop("quiet", None)
    for name, instead in _NOT_HERE.items():
        if settings.pop(name, None):
            raise UsageError(f"--{name.removesuffix('s') if name == 'judges' else name}: not with watch: {instead}")
    from harness.run.spec import RunSpec
    from harness.run.watch import Watch

    settings.setdefault("model", "hf")
    watch = Watch(RunSpec(**{"tasks": (), **settings, "command": context.obj or ""}), patterns)
    with stopped_by_sigterm():
        try:
            return _watch(watch, once=once, every=every)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; go on with: {context.obj or 'the same command'}") from None


def _watch(watch: Watch, *, once: bool, every: float) -> int:
    from harness.cli.progress import watch as board
    from harness.registry import load_plugins
    from harness.run.jobs import close_code, load_jobs
    from harness.run.result import RunResult, load_run
    from harness.run.spec import Progress

    registry = load_plugins()
    close_code(load_jobs(watch.spec, registry, Progress()))  # a wrong task is told now, and not by each checkpoint
    told: dict[Path, str] = {}
    if watch.measured():
        _print_curves(watch)
    while True:
        for folder in watch.measure(watch.pending(), registry, board()):
            line()
            line(str(folder))
            run = next(each.run for each in watch.measured() if each.checkpoint == folder)
            report = load_run(run).report
            if report is not None:
                print_result(RunResult(run, report))
            _print_curves(watch)
        for folder, problem in {**watch.waiting, **watch.failed}.items():
            if told.get(folder) != problem:
                told[folder] = problem
                notice(f"{folder}: {'not measured' if folder in watch.failed else 'waited for'}: {problem}")
        if once:
            return int(ExitCode.SAMPLES_FAILED if watch.failed else ExitCode.OK)
        time.sleep(every)


def _print_curves(watch: Watch) -> None:
    """The values of all checkpoints, what they say, and a chart a task."""
    from harness.record.result_rows import number
    from harness.registry import load_plugins
    from harness.run.watch import curves

    try:
        found = curves(watch.measured(), load_plugins())
    except HarnessError as error:  # a run that cannot be read is no reason to measure no other
        notice(f"no curves: {error}")
        return
    rows = [
        [f"{curve.task}, {curve.metric}", folder.name, number(point["value"]), number(point["stderr"]), str(point["n"])]
        for curve in found
        for folder, point in curve.points
    ]
    line()
    show(table(("task, metric", "checkpoint", "value", "stderr", "n"), rows, flexible=("task, metric", "checkpoint")))
    for curve in found:
        for text in _said(curve):
            line(text)
        _draw(curve, watch.note.parent)


def _said(curve: Curve) -> Sequence[str]:
    if curve.best is None or len(curve.points) < 2:
        return ()
    others = [folder for folder, _ in curve.points if folder != curve.best]
    if len(curve.above) == len(others):
        said = [f"{curve.task}: {curve.best.name} is best, beyond chance"]
    else:
        close = ", ".join(folder.name for folder in others if folder not in curve.above)
        said = [f"{curve.task}: {curve.best.name} has the best value; by chance it may be no better than {close}"]
    if curve.fell is not None:
        said.append(f"{curve.task}: it fell at {curve.fell[0].name}: worse, beyond chance, than {curve.fell[1].name}")
    return said


def _draw(curve: Curve, folder: Path) -> None:
    from importlib.util import find_spec

    from harness.record.shown import finite
    from harness.run.watch import step_of

    drawn = [
        (checkpoint.name, float(step_of(checkpoint) or number), value)
        for number, (checkpoint, point) in enumerate(curve.points)
        if (value := finite(point["value"])) is not None
    ]
    if len(drawn) < 2 or find_spec("matplotlib") is None:
        return
    from harness.view.charts import scatter, svg

    path = folder / f"watch_{re.sub(r'[^A-Za-z0-9_-]+', '_', curve.task)}.svg"
    path.write_bytes(svg(scatter(drawn, "step", f"{curve.task}, {curve.metric}"), ground="white"))
    notice_path("Chart", path)
