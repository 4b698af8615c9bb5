"""`harness run`: the main job, from flags to a result table."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.completion import complete_loggers
from harness.cli.console import line, notice
from harness.cli.options import (
    DATA_OPTIONS,
    JUDGE_PRICES,
    JUDGES,
    LOG_TO,
    METRICS,
    MODEL_OPTIONS,
    PROMPT_OPTIONS,
    SPENDING,
    TASKS,
    USER_MODEL,
    Parsed,
    checked_folders,
    joined,
    options,
    with_environment,
)
from harness.cli.values import (
    parse_date,
    parse_executor,
    parse_limit,
    parse_precision,
    parse_shard,
    parse_sweep,
    parse_token_prices,
    recipe_judge,
)
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.judging.judge import JudgeModel
    from harness.run.result import RunResult
    from harness.run.spec import RunSpec

NO_ADAPTER = "none"
RUN_OPTIONS = [
    METRICS,
    JUDGES,
    USER_MODEL,
    click.option(
        "--user_prices", type=Parsed("in=..,out=..", parse_token_prices), metavar="FILE|in=..,out=..",
        help="As --prices, of the model that plays the user. [default: as --prices, where it is the measured model]",
    ),
    JUDGE_PRICES,
    click.option(
        "--peft", multiple=True, metavar="DIR",
        help="An adapter on the model. Several run one after another on one loaded base; `none` is the base alone.",
    ),
    click.option(
        "--on_overflow", type=click.Choice(["truncate", "skip", "error"]),
        help="Requests longer than the model's window: cut from the left and counted, failed, or refused at once. "
        "[default: truncate]",
    ),
    click.option(
        "--limit", "-L", type=Parsed("n", parse_limit), metavar="N",
        help="Rows of each subset: a count, or a fraction below 1.",
    ),
    click.option(
        "--after", type=Parsed("date", parse_date), metavar="DATE",
        help="Only rows that are dated later (2025-06), of tasks whose rows carry dates.",
    ),
    click.option(
        "--precision", type=Parsed("x", parse_precision), metavar="X",
        help="Ask rows in random order until the score of all of them is known to X (0.01): half of the 95% interval.",
    ),
    click.option(
        "--until_decided", type=click.Path(), metavar="RUN",
        help="The same until it is known whether the model is better than that run.",
    ),
    click.option(
        "--bad_rows", type=click.Choice(["refuse", "fail", "skip", "lm_eval"]),
        help="Rows that cannot be asked or scored: refuse the run, count them as failed, leave them out, or score them "
        "as lm-eval does. [default: refuse]",
    ),
    click.option(
        "--before_cutoff", "cutoff", type=Parsed("date", parse_date), metavar="DATE",
        help="When the model's training data ends (2025-06): older benchmarks are named, dated rows compared.",
    ),
    click.option(
        "--recipe", metavar="NAME",
        help="Measure as a model's makers did, with their values beside (`harness recipes` lists them). Flags win.",
    ),
    click.option(
        "--repeats", type=click.IntRange(min=1), metavar="N",
        help="Answers to each question, of tasks that generate: avg_at_k, pass_at_k and majority_at_k are of these.",
    ),
    click.option(
        "--sweep", type=Parsed("name=v,v", parse_sweep), metavar="NAME=V,V",
        help="A run with each value (temperature=0,0.6,1 or reasoning_effort=low,high), and one table of them.",
    ),
    *SPENDING,
    click.option(
        "--shard", type=Parsed("part/parts", parse_shard), metavar="K/N",
        help="Ask only the K-th of N parts of all rows, on this machine; `harness merge` makes one run of all parts.",
    ),
    click.option(
        "--executor", type=Parsed("name,k=v", parse_executor), metavar="NAME,K=V,...",
        help="Where the work is done, when not here: ray,address=auto,workers=8 or slurm,partition=NAME,shards=8.",
    ),
    click.option("--output", type=click.Path(), metavar="DIR", help="Where run folders are kept. [default: runs]"),
    click.option(
        "--output_path", "-o", type=click.Path(), metavar="PATH", help="Also write lm-eval's results JSON there."
    ),
    click.option("--log_samples", "-s", is_flag=True, default=None, help="With --output_path: its samples JSONL too."),
    click.option(
        "--sandbox", type=click.Choice(["auto", "docker", "none"]),
        help="Where programs that a model wrote run; auto is Linux namespaces. Also HARNESS_SANDBOX. [default: auto]",
    ),
    click.option(
        "--name", metavar="TEXT",
        help="What the run is called: in comparisons and pages, and in its folder's name where that is new.",
    ),
    click.option(
        "--log_to", type=LOG_TO, multiple=True, metavar="LOGGER,K=V,...", shell_complete=complete_loggers,
        help="Write the run into a tracker: wandb,project=NAME, mlflow, tensorboard, trackio, swanlab. Repeatable.",
    ),
    click.option("--quiet", "-q", is_flag=True, default=None, help="Nothing on stderr but errors."),
    click.option("--verbose", "-v", is_flag=True, default=None, help="Show the traceback of an error."),
    click.option("--dry_run", is_flag=True, default=None, help="Say what would be computed. Loads no weights."),
    click.option("--config", "-C", type=click.Path(), metavar="FILE", help="Read flags from YAML; given flags win."),
]  # fmt: skip


SECTIONS = (
    (
        "What is measured",
        (
            "tasks",
            "recipe",
            "modify",
            "num_fewshot",
            "fewshot_sampler",
            "limit",
            "after",
            "precision",
            "until_decided",
            "bad_rows",
            "metrics",
            "judges",
            "judge_prices",
            "user_model",
            "user_prices",
            "overrides",
            "seed",
        ),
    ),
    ("The model", ("model", "model_args", "peft", "batch_size", "max_batch_size", "device", "on_overflow")),
    (
        "How it is asked",
        (
            "apply_chat_template",
            "system_instruction",
            "fewshot_as_multiturn",
            "thinking",
            "reasoning_effort",
            "thinking_budget",
            "gen_kwargs",
            "batch_api",
        ),
    ),
    (
        "Where rows come from",
        ("include_path", "trust_task_code", "trust_task_code_in_process", "data", "hub", "offline", "sandbox"),
    ),
    ("Where the work is done", ("shard", "executor")),
    (
        "What is kept and shown",
        ("output", "name", "log_to", "output_path", "log_samples", "cutoff", "quiet", "verbose"),
    ),
)
"""The flags of a run in `--help`, by their parameters; what is in none of them comes last."""


class Greedy(click.Command):
    """Lets some flags take several values, as lm-eval does: `--tasks a b` is `--tasks a --tasks b`.

    Its help shows the flags in sections.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = {str(param.name): record for param in self.get_params(ctx) if (record := param.get_help_record(ctx))}
        for title, names in (*SECTIONS, ("Other", tuple(records))):
            rows = [records.pop(name) for name in names if name in records]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    greedy = ("--tasks", "-t", "--model_args", "--model-args", "-a", "--gen_kwargs", "--gen-kwargs", "--peft")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        spread: list[str] = []
        flag, values = "", 0
        for arg in args:
            if arg.startswith("-"):
                flag, values = (arg if arg in self.greedy else ""), 0
            elif flag:
                values += 1
                spread += [flag] if values > 1 else []
            spread.append(arg)
        return super().parse_args(ctx, spread)


def settings_of(context: click.Context, flags: Mapping[str, Any]) -> dict[str, Any]:
    """What flags, configuration file and environment say together, under the names of `RunSpec`'s fields."""
    given = dict(flags)
    file = given.pop("config", None)
    settings = joined(given)
    if file is not None:
        from harness.cli.config import read_config

        settings = {**joined(read_config(file, context.command, context)), **settings}
    if "on_overflow" in settings:
        settings["model_args"] = {**settings.get("model_args", {}), "on_overflow": settings.pop("on_overflow")}
    settings = with_environment(settings)
    checked_folders(settings)
    return settings


@click.command("run", cls=Greedy)
@options(TASKS, MODEL_OPTIONS, PROMPT_OPTIONS, DATA_OPTIONS, RUN_OPTIONS)
@click.pass_context
def command(context: click.Context, /, **flags: Any) -> int:
    """Measure a model on tasks. Every finished sample is on disk: the same command again goes on where it stopped.

    \b
    harness --tasks demo
    harness --tasks ceval,cmmlu --model hf --model_args pretrained=DIR --data MIRROR
    harness --config eval.yaml --limit 10
    """
    settings = settings_of(context, flags)
    if "recipe" in settings:
        settings = by_recipe(settings)
    dry, quiet = settings.pop("dry_run", False), settings.pop("quiet", False)
    settings.pop("verbose", None)  # `Main` reads it, where errors end
    adapters = settings.pop("peft", ())
    judges = judges_of(settings)
    optional = settings.pop("judge_of_recipe", False)
    sweep = settings.pop("sweep", None)
    from harness.run.spec import DEFAULT_MODEL, DEMO_VISION, RunSpec
    from harness.words import locale_language, translator

    t = translator(locale_language(None))
    if "model" not in settings:
        sees = all(name.startswith("demo_vision") for name in settings.get("tasks", ())) and settings.get("tasks")
        settings["model"] = DEMO_VISION if sees else DEFAULT_MODEL
        if not quiet:
            notice(t("No --model given: this run measures the small demo model that comes with harness."))
    if settings.get("log_samples") and not settings.get("output_path"):
        notice(t("--log_samples without --output_path: the samples are in the run folder, in our format alone."))
    spec = RunSpec(**{"tasks": (), **settings, "command": context.obj or ""})
    models = with_adapters(spec.model_args, adapters)
    if dry:
        from harness.cli.dry_run import print_forecast

        runs = [spec] if sweep is None else list(swept_runs(spec, sweep, models).values())
        return print_forecast(runs[0], list(models.values()), judges, optional, len(runs))
    with contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext():
        if sweep is not None:
            return run_sweep(spec, sweep, models, judges, optional)
        return run_all(spec, models, judges, optional)


def judges_of(settings: dict[str, Any]) -> list[JudgeModel]:
    """The judges that settings name, taken out of them. Raises `UsageError`."""
    from harness.judging.judged_metrics import priced_judges

    judges, prices = settings.pop("judges", ()), settings.pop("judge_prices", ())
    if prices and not judges:
        raise UsageError("--judge_prices: name the judge too, --judge MODEL,K=V")
    return priced_judges(judges, prices)


def by_recipe(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with what the named recipe says where they say nothing."""
    from harness.registry import load_plugins
    from harness.run.recipes import with_recipe

    given = dict(settings)
    chosen = with_recipe(given.pop("recipe"), given, load_plugins())
    if (judge := recipe_judge(chosen["recipe"])) is not None:
        chosen.setdefault("judges", (judge,))
        chosen["judge_of_recipe"] = "judges" not in given
    return chosen


def run_all(
    spec: RunSpec,
    models: Mapping[str, Mapping[str, Any]],
    judges: Sequence[JudgeModel],
    optional: bool = False,
    keep: Callable[[RunResult], object] = lambda result: None,
) -> int:
    """Run `spec` with each of the models and print their tables. Returns the exit code; `keep` is given each result.

    optional: the judges are a recipe's, of whose tasks those may be asked that need none.
    """
    from harness.cli.progress import watch
    from harness.judging.judged_metrics import run_judged

    results, codes = [], []
    for judged in run_judged(spec, list(models.values()), judges, watch=watch, optional=optional):
        results.append(judged.result)
        codes.append(int(judged.exit_code))
        if not judged.judged:
            say_what_waits(judged.result)
        print_result(judged.result)
        keep(judged.result)
    if len(results) > 1:
        print_together(dict(zip(models, results, strict=True)))
    return max(codes)


def run_sweep(
    spec: RunSpec,
    sweep: tuple[str, Sequence[Any]],
    models: Mapping[str, Mapping[str, Any]],
    judges: Sequence[JudgeModel],
    optional: bool = False,
) -> int:
    """Run `spec` with each value of one setting, and print their scores against their tokens."""
    from harness.cli.sweep import print_sweep

    results: dict[str, RunResult] = {}
    codes = []
    for label, run in swept_runs(spec, sweep, models).items():
        kept: list[RunResult] = []
        codes.append(run_all(run, models, judges, optional, kept.append))
        results[label] = kept[0]
    print_sweep(sweep[0], results, Path(spec.output))
    return max(codes)


def swept_runs(
    spec: RunSpec, sweep: tuple[str, Sequence[Any]], models: Mapping[str, Mapping[str, Any]]
) -> dict[str, RunSpec]:
    """Label -> the run with each value of the setting. Raises `UsageError`."""
    from harness.run.sweep import swept

    if len(models) > 1:
        raise UsageError("--sweep: with several --peft it is not clear what is compared; give one of them")
    return swept(spec, *sweep)


def with_adapters(model_args: Mapping[str, Any], adapters: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Name -> arguments of each model that a run is to measure: one, or one an adapter. Raises `UsageError`."""
    if not adapters:
        return {"": dict(model_args)}
    if "peft" in model_args:
        raise UsageError("--peft: --model_args names an adapter too (peft=...); give each of them with --peft")
    chosen = list(dict.fromkeys(str(adapter).rstrip("/") for adapter in adapters))
    names = ["no adapter" if adapter == NO_ADAPTER else Path(adapter).name for adapter in chosen]
    # Checkpoints of two trainings have one name: then the whole path tells them apart.
    names = [name if names.count(name) == 1 else adapter for name, adapter in zip(names, chosen, strict=True)]
    return {
        name: {**model_args, **({} if adapter == NO_ADAPTER else {"peft": adapter})}
        for name, adapter in zip(names, chosen, strict=True)
    }


def judged_result(result: RunResult, judges: Sequence[JudgeModel]) -> tuple[RunResult, int]:
    """The run with the scores that judges give, and its exit code. Without a judge, say what would fill them in."""
    from harness.cli.progress import watch
    from harness.judging.judged_metrics import fill_judged_scores

    if judges:
        judged = fill_judged_scores(result.path, judges, progress=watch(), jobs=result.jobs, coverage=result.coverage)
        return judged.result, int(judged.exit_code)
    say_what_waits(result)
    return result, int(result.exit_code)


def say_what_waits(result: RunResult) -> None:
    """Name the tasks whose answers only a judge can score, and the command that has one do it."""
    from harness.judging.judged_metrics import waiting_tasks
    from harness.words import locale_language, translator

    t = translator(locale_language(None))
    for task in waiting_tasks(result.report):
        command = f"harness score {result.path} --judge MODEL,K=V"
        notice(t("{task}: its answers wait for a judge: {command}", task=task, command=command))


def print_result(result: RunResult) -> int:
    """Print the table of a run and where its folder is. Returns the exit code."""
    from harness.cli.report import print_report

    print_report(result.report, result.path, larger=result.larger)
    return int(result.exit_code)


def print_together(results: Mapping[str, RunResult]) -> None:
    """One table of the main numbers of several runs."""
    from harness.cli.console import show
    from harness.record.console_table import render_together
    from harness.words import locale_language, translator

    line()
    t = translator(locale_language(None))
    show(render_together({name: result.report for name, result in results.items()}, t))
