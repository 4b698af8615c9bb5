"""`harness watch`: measures the checkpoints of a training as they appear, and says how the curve runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import line, notice, notice_path, show, table
from harness.cli.options import DATA_OPTIONS, MODEL_OPTIONS, PROMPT_OPTIONS, TASKS, finite, options
from harness.cli.run import RUN_OPTIONS, Greedy, print_result, settings_of
from harness.errors import ExitCode, HarnessError, Interrupted, SaveError, UsageError, one_line
from harness.files import replace
from harness.words import Translate, locale_language, translator

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
    spec = RunSpec(**{"tasks": (), **settings, "command": context.obj or ""})
    watch = Watch(spec, patterns, translator(locale_language(None)))
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
    watch.check(registry)
    close_code(load_jobs(watch.spec, registry, Progress()))  # a wrong task is told now, and not by each checkpoint
    t = watch.t
    told: dict[Path, str] = {}
    is_awaited = False
    if watch.measured():
        _print_curves(watch, t)
    while True:
        for folder in watch.measure(watch.pending(), registry, board()):
            line()
            line(str(folder))
            run = next(each.run for each in watch.measured() if each.checkpoint == folder)
            report = load_run(run).report
            if report is not None:
                print_result(RunResult(run, report))
            _print_curves(watch, t)
        for folder, problem in {**watch.waiting, **watch.failed}.items():
            if told.get(folder) != problem:
                told[folder] = problem
                how = t("not measured") if folder in watch.failed else t("waited for")
                notice(f"{folder}: {how}: {problem}")
        if not (is_awaited or watch.measured() or watch.waiting or watch.failed):
            notice(t("no checkpoint yet: {patterns}", patterns=", ".join(watch.patterns)))
        is_awaited = True
        if once:
            return int(ExitCode.SAMPLES_FAILED if watch.failed else ExitCode.OK)
        time.sleep(every)


def _print_curves(watch: Watch, t: Translate) -> None:
    """The values of all checkpoints, what they say, and a chart a task."""
    from harness.record.result_rows import number
    from harness.registry import load_plugins
    from harness.run.watch import curves

    try:
        found = curves(watch.measured(), load_plugins())
    except HarnessError as error:  # a run that cannot be read is no reason to measure no other
        notice(t("no curves: {error}", error=error))
        return
    rows = [
        [f"{curve.task}, {curve.metric}", folder.name, number(point["value"]), number(point["stderr"]), str(point["n"])]
        for curve in found
        for folder, point in curve.points
    ]
    line()
    columns = (t("task, metric"), t("checkpoint"), t("value"), t("stderr"), "n")
    show(table(columns, rows, flexible=columns[:2]))
    for curve in found:
        for text in _said(curve, t):
            line(text)
        _draw(curve, watch.note.parent, t)


def _said(curve: Curve, t: Translate) -> Sequence[str]:
    if curve.best is None or len(curve.points) < 2:
        return ()
    others = [folder for folder, _ in curve.points if folder != curve.best]
    if len(curve.above) == len(others):
        said = [t("{task}: {best} is best, beyond chance", task=curve.task, best=curve.best.name)]
    else:
        close = ", ".join(folder.name for folder in others if folder not in curve.above)
        words = t(
            "{task}: {best} has the best value; by chance it may be no better than {others}",
            task=curve.task, best=curve.best.name, others=close,
        )  # fmt: skip
        said = [words]
    if curve.fell is not None:
        where, before = (folder.name for folder in curve.fell)
        words = t(
            "{task}: it fell at {where}: worse, beyond chance, than {before}",
            task=curve.task,
            where=where,
            before=before,
        )
        said.append(words)
    return said


def _draw(curve: Curve, folder: Path, t: Translate) -> None:
    from importlib.util import find_spec

    from harness.record.manifest import safe_name
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

    path = folder / f"watch_{safe_name(curve.task)}.svg"
    chart = svg(scatter(drawn, t("step"), f"{curve.task}, {curve.metric}"), ground="white")
    try:
        replace(path, [chart])
    except SaveError as error:  # a chart is no reason to measure no other
        notice(one_line(error))
        return
    notice_path(t("Chart"), path)
