"""`harness bench`: how fast a server is, and under how much load."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import line, notice_path, show_in_parts
from harness.cli.options import DATA_OPTIONS, MODEL_OPTIONS, PROMPT_OPTIONS, TASKS, Parsed, options
from harness.cli.run import settings_of
from harness.cli.values import parse_ladder, parse_limit, parse_limits
from harness.errors import ExitCode, UsageError
from harness.words import Translate, locale_language, translator

if TYPE_CHECKING:
    from harness.run.bench import Load
    from harness.run.rungs import Latency, Rung
    from harness.run.spec import RunSpec

FORMAT = "harness-bench/1"
LIMITS = ("ttft", "tpot", "e2el")
DEFAULT_LADDER = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@click.command("bench")
@options(TASKS, MODEL_OPTIONS, PROMPT_OPTIONS, DATA_OPTIONS)
@click.option(
    "--limit", "-L", type=Parsed("n", parse_limit), metavar="N", help="Rows of each subset that prompts are drawn of."
)
@click.option(
    "--concurrency",
    type=Parsed("n,n", parse_ladder),
    metavar="N,N,...",
    help="Requests under way at once, one load after another (closed loop). [default: 1,2,4,8,16,32,64]",
)
@click.option(
    "--rate",
    type=Parsed("x,x", parse_ladder),
    metavar="X,X,...",
    help="Requests sent a second, at random moments (open loop, a Poisson process), in the place of --concurrency.",
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Requests of each load. [default: five for each at once, and 20 at least]",
)
@click.option(
    "--goodput",
    type=Parsed("ttft=s,..", lambda given: parse_limits(given, LIMITS)),
    metavar="ttft=S,tpot=S,e2el=S",
    help="Also count what came within these seconds: to the first token, for each token, for the whole reply.",
)
@click.option(
    "--warmup", type=click.IntRange(min=1), default=1, metavar="N", help="Requests first, not counted. [default: 1]"
)
@click.option("--to", type=click.Path(path_type=Path), metavar="FILE", help="Write all numbers there, after each load.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw them: FILE.svg or FILE.png.")
@click.option("--json", "as_json", is_flag=True, help="All numbers on stdout, as JSON, in the place of the table.")
@click.option("--lang", metavar="en|zh", help="Language of the table. [default: that of the locale]")
@click.pass_context
def command(context: click.Context, /, **flags: Any) -> int:
    """Measure a server that streams: time to the first token, time for each token, throughput, load by load, with 95%
    intervals, and the load from which more only makes it slower. Prompts are drawn from tasks; each is asked once.

    \b
    harness bench --model openai --model_args base_url=URL,model=NAME --tasks gsm8k --goodput ttft=0.5,tpot=0.05
    harness bench --model openai --model_args base_url=URL,model=NAME --tasks gsm8k --rate 1,2,4 --requests 100
    """
    names = ("concurrency", "rate", "requests", "goodput", "warmup", "to", "plot", "as_json", "lang")
    own = {name: flags.pop(name) for name in names}
    t = translator(locale_language(own["lang"]))
    loads = _loads(own["concurrency"], own["rate"], own["requests"])
    settings = settings_of(context, flags)
    if "model" not in settings or not settings.get("tasks"):
        raise UsageError(
            "harness bench: say which server and which prompts: --model openai --model_args ... --tasks NAMES"
        )
    to, plot = own["to"], own["plot"]
    if to is not None and not to.absolute().parent.is_dir():
        raise UsageError(f"--to {to}: there is no folder {to.parent}")
    if plot is not None:
        from harness.view.ladder import check_plot

        check_plot(plot)
    from harness.cli.progress import watch
    from harness.files import replace_json
    from harness.registry import load_plugins
    from harness.run.bench import bench
    from harness.run.spec import RunSpec

    spec, limits = RunSpec(**settings, command=context.obj or ""), own["goodput"] or {}
    rungs: list[Rung] = []

    def keep(rung: Rung) -> None:
        rungs.append(rung)
        if to is not None:
            replace_json(to, _fields(spec, limits, rungs))

    progress = watch()
    try:
        bench(spec, loads, load_plugins(), progress, limits=limits, warmup=own["warmup"], keep=keep)
    finally:
        progress.finished()
        if rungs:
            _print(spec, limits, rungs, t, as_json=own["as_json"])
            if to is not None:
                notice_path(t("Written"), to)
            if plot is not None:
                _draw(rungs, plot, t)
    return int(ExitCode.SAMPLES_FAILED if any(rung.failed for rung in rungs) else ExitCode.OK)


def _loads(concurrency: Sequence[float] | None, rate: Sequence[float] | None, requests: int | None) -> list[Load]:
    from harness.run.bench import Load

    if rate and concurrency:
        raise UsageError("--rate sends at random moments, --concurrency keeps so many under way: give one of them")
    if rate:
        return [Load(rate=each, requests=requests) for each in rate]
    ladder = concurrency or DEFAULT_LADDER
    if odd := [each for each in ladder if each != int(each)]:
        raise UsageError(f"--concurrency: {odd[0]:g} is no whole number of requests")
    return [Load(at_once=int(each), requests=requests) for each in ladder]


def _draw(rungs: Sequence[Rung], path: Path, t: Translate) -> None:
    from harness.view.ladder import draw_ladder

    if not any(rung.answered for rung in rungs):
        return
    draw_ladder(rungs, path, t)
    notice_path(t("Written"), path)


def _fields(spec: RunSpec, limits: Mapping[str, float], rungs: Sequence[Rung]) -> dict[str, Any]:
    from harness.run.rungs import knee
    from harness.secret import shown

    best = knee(rungs)
    return {
        "format": FORMAT,
        "command": spec.command,
        "model": spec.model,
        "model_args": shown(dict(spec.model_args)),
        "tasks": list(spec.tasks),
        "seed": spec.seed,
        "goodput_limits_in_seconds": dict(limits),
        "knee": None if best is None else {"at_once": best.at_once, "rate": best.rate},
        "loads": [asdict(rung) for rung in rungs],
    }


def _print(spec: RunSpec, limits: Mapping[str, float], rungs: Sequence[Rung], t: Translate, *, as_json: bool) -> None:
    if as_json:
        line(json.dumps(_fields(spec, limits, rungs), ensure_ascii=False))
        return
    columns = [
        t("at once") if rungs[0].at_once is not None else t("sent/s"),
        t("requests/s"),
        t("tokens/s"),
        t("first token, ms"),
        t("per token, ms"),
        t("whole reply, s"),
        *([t("goodput/s")] if limits else []),
        t("failed"),
    ]
    show_in_parts(columns, [_row(rung, limits) for rung in rungs], columns[1:6])
    line(t("latencies: median / 99 % quantile; ± half of a 95 % interval"))
    for words in _remarks(rungs, limits, t):
        line(words)


def _row(rung: Rung, limits: Mapping[str, float]) -> list[str]:
    return [
        f"{rung.load:g}",
        _rate(rung.requests_per_second.value, rung.requests_per_second.interval, 2),
        _rate(rung.tokens_per_second.value, rung.tokens_per_second.interval, 0) if rung.tokens_per_second else "-",
        _latency(rung.first_token, 1000, 0),
        _latency(rung.per_token, 1000, 1),
        _latency(rung.whole, 1, 2),
        *([f"{rung.goodput:.2f}"] if limits else []),
        str(rung.failed),
    ]


def _rate(value: float, interval: tuple[float, float] | None, places: int) -> str:
    return f"{value:,.{places}f}" + (f" ±{interval[1] - value:,.{places}f}" if interval else "")


def _latency(latency: Latency | None, unit: float, places: int) -> str:
    return "-" if latency is None else f"{unit * latency.median:,.{places}f} / {unit * latency.p99:,.{places}f}"


def _remarks(rungs: Sequence[Rung], limits: Mapping[str, float], t: Translate) -> list[str]:
    """The knee, and what a reader has to know of the numbers, one line each."""
    from harness.run.rungs import LEAST_FOR_KNEE, knee

    best, words = knee(rungs), []
    if best is not None:
        what = "{load:g} at once" if best.at_once is not None else "{load:g} requests a second"
        words.append(
            t(
                "knee: {load}; beyond it replies slow down by more than the throughput gains",
                load=t(what, load=best.load),
            )
        )
    elif len(rungs) >= LEAST_FOR_KNEE:
        words.append(t("no knee up to {load:g}: more load still brings more than it costs", load=rungs[-1].load))
    else:
        words.append(t("a knee is named from three loads on"))
    if limits and (within := [rung for rung in rungs if rung.within is not None]):
        most = max(within, key=lambda rung: rung.goodput or 0.0)
        low, high = most.within_interval or (0.0, 1.0)
        words.append(
            t(
                "most goodput: {goodput:.2f} requests a second within the limits, at {load:g}; {share:.0%} of the "
                "requests ({low:.0%} .. {high:.0%}) kept them",
                goodput=most.goodput, load=most.load, share=most.within, low=low, high=high,
            )
        )  # fmt: skip
    if uncounted := sum(rung.uncounted for rung in rungs):
        one = uncounted == 1
        replies = t("1 reply without") if one else t("{n} replies without", n=uncounted)
        words.append(
            t("{replies} a count of tokens: tokenizer=DIR among --model_args counts them here", replies=replies)
        )
    if held := sum(rung.in_one_piece for rung in rungs):
        came = t("1 reply came in one piece") if held == 1 else t("{n} replies came in one piece", n=held)
        words.append(t("{came}: what stands before the server holds them back, and times are of that", came=came))
    if again := sum(rung.asked_before for rung in rungs):
        asked = t("1 prompt was asked before") if again == 1 else t("{n} prompts were asked before", n=again)
        words.append(t("{asked}: a server that keeps prefixes answers those sooner", asked=asked))
    for error, count in sorted(
        {error: sum(rung.errors.get(error, 0) for rung in rungs) for rung in rungs for error in rung.errors}.items()
    )[:5]:
        words.append(t("{n} failed: {error}", n=count, error=error))
    if short := [rung for rung in rungs if rung.at_once is not None and rung.asked < rung.at_once]:
        words.append(
            t(
                "{loads} at once: no more than {n} were under way, as many as there were requests",
                loads=", ".join(f"{rung.load:g}" for rung in short),
                n=short[0].asked,
            )
        )
    if unsent := sum(rung.asked - rung.sent for rung in rungs):
        requests = t("1 request was") if unsent == 1 else t("{n} requests were", n=unsent)
        words.append(t("{requests} not sent any more", requests=requests))
    return words
