"""`--dry_run`: what a run would ask and compute, and what time, memory and money it would take, before weights load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.cli.console import line, notice
from harness.cli.progress import watch
from harness.executor import ShardExecutor
from harness.judging.judge import JudgeModel
from harness.judging.judged_metrics import judges_checked
from harness.model import Forecast
from harness.record.keys import KeyMaker
from harness.record.run import RunFolder
from harness.registry import load_plugins
from harness.run.describe import examples_of_their_own, run_identity
from harness.run.foresee import Foreseen, foresee
from harness.run.in_shards import check_shards
from harness.run.prepare import PreparedRun, prepare_run
from harness.run.remote import executor_of
from harness.run.spec import RunSpec
from harness.stopwatch import Seconds
from harness.types import JSON
from harness.words import Translate, locale_language, said, translator


def print_forecast(
    spec: RunSpec,
    models: Sequence[Mapping[str, Any]],
    judges: Sequence[JudgeModel] = (),
    optional: bool = False,
    runs: int = 1,
) -> int:
    """Do all that a run does before weights load, and say what would follow.

    judges, optional: as of `run_judged`. runs: how many such runs the command makes, of each model.
    """
    t = translator(locale_language(None))
    registry = load_plugins()
    narrow = judges_checked(spec, list(judges), registry, optional=optional)
    progress = watch()
    try:
        prepared = prepare_run(spec, models, registry, progress, narrow=narrow)
    finally:
        progress.finished()
    with prepared:
        user = prepared.user.model if prepared.user is not None else None
        for each, model in zip(prepared.specs, prepared.models, strict=True):
            identity = run_identity(each, model, prepared.jobs, user, prepared.share)
            RunFolder.check(Path(spec.output), identity)
        executor = executor_of(spec, registry)
        if isinstance(executor, ShardExecutor):
            check_shards(prepared, executor.shards)
        for message in prepared.remarks:
            notice(message)
        for job in prepared.jobs:
            asked = sum(len(sample.requests) for sample in job.samples)
            samples = t("1 sample") if len(job.samples) == 1 else t("{n} samples", n=len(job.samples))
            requests = t("1 request") if asked == 1 else t("{n} requests", n=asked)
            line(t("{task}: {samples}, {requests}", task=job.task.name, samples=samples, requests=requests))
            if cost := examples_of_their_own(job):
                notice(cost)
        spent = Seconds.so_far()
        forecast, left = _left(prepared, Path(spec.output), identity, t)
    if forecast is None:
        return 0
    times = t(", {n} times", n=len(models) * runs) if len(models) * runs > 1 else ""
    line(forecast.said(t) + times)
    if forecast.memory:
        line(said(forecast.memory, t))
    if spec.precision is not None or spec.until_decided is not None:
        line(t("all rows are counted; the run may stop before it has asked them"))
    foreseen = foresee(forecast, spent, left, spec)
    for told in foreseen_lines(foreseen, spec, t):
        line(told)
    if forecast.peak_memory:
        size = f"{forecast.peak_memory / 1e6:,.0f}"
        line(t("main memory: {size} MB at most, as with the stand-in just now", size=size))
    if spec.executor is not None:
        line(t("time and memory are those of one process on this machine; {name} does the work", name=spec.executor[0]))
    return 0


def _left(
    prepared: PreparedRun, output: Path, identity: Mapping[str, JSON], t: Translate
) -> tuple[Forecast | None, int]:
    """What the model would compute, and of how many samples: at a server, of a run that has begun, what is left."""
    forecast, samples = prepared.forecast(), [sample for job in prepared.jobs for sample in job.samples]
    begun = RunFolder.folder_of(output, identity)
    if forecast is None or not forecast.is_of_server or begun is None:
        return forecast, len(samples)
    line(t("{run} has begun this; what is left:", run=begun))
    answered, keys = _answered(begun), KeyMaker(prepared.models[-1].identity)
    left = sum(any(keys.key(request) not in answered for request in sample.requests) for sample in samples)
    return prepared.forecast(answered), left


def _answered(folder: Path) -> set[str]:
    """Keys of the requests that have an answer in a run's folder."""
    return {
        key
        for record in RunFolder.read(folder).records()
        for key, response in zip(record.request_keys, record.responses, strict=True)
        if response.error is None
    }


def foreseen_lines(foreseen: Foreseen, spec: RunSpec, t: Translate) -> Iterator[str]:
    """Time and money of the whole run, as far as they can be foreseen, and how they are known."""
    total, model = foreseen.total, foreseen.model
    if total is None or model is None:
        yield t("no earlier run of this model in {folder} tells how long it takes", folder=spec.output)
    elif foreseen.pace is not None:
        per_sample, run = foreseen.pace
        how = t("at {n} samples a second, as in {run}", n=f"{1 / per_sample:,.2f}", run=run)
        yield t("in all about {seconds} s: {how}", seconds=f"{total.clock:,.0f}", how=how)
    else:
        how = t(
            "{before} s before the model, as just now, {opening} s to load it, {model} s of the model, {records} s for "
            "records and report",
            before=f"{foreseen.before.clock:,.1f}",
            opening=f"{foreseen.opening.clock:,.1f}",
            model=f"{model.clock:,.1f}",
            records=f"{foreseen.records.clock:,.1f}",
        )
        if foreseen.knows_processor:
            yield t(
                "in all about {seconds} s ({busy} s of processor): {how}",
                seconds=f"{total.clock:,.0f}",
                busy=f"{total.processor:,.0f}",
                how=how,
            )
        else:
            yield t("in all about {seconds} s: {how}", seconds=f"{total.clock:,.0f}", how=how)
    if foreseen.cost is not None:
        least, most = foreseen.cost
        prompts = f"{least:,.4g}"
        if most is None:
            yield t("cost by these prices: {least} for the prompts, and answers have no limit", least=prompts)
        else:
            words = "cost by these prices: {least} for the prompts, {most} at most with answers"
            yield t(words, least=prompts, most=f"{most:,.4g}")
