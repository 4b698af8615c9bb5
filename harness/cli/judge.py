"""`harness judge`: a model judges the answers of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.completion import complete_runs
from harness.cli.console import counted, line, notice, show, table, width
from harness.cli.options import MODEL_OPTIONS, NAMES, PAIRS, Parsed, joined, options
from harness.cli.values import parse_judge, parse_limit, parse_prices, parse_seed, parse_switch
from harness.errors import UsageError
from harness.words import Translate, english, locale_language, translator

if TYPE_CHECKING:
    from harness.judging.judge import JudgeResult, JudgeSpec
    from harness.judging.panel import Agreement, Panel
    from harness.judging.strengths import TaskStrengths

JUDGE_OPTIONS = [
    click.option("--rubric", metavar="NAME|FILE", help="What is judged, and how a judge replies (--list names them)."),
    click.option(
        "--judge", "judges", type=Parsed("model,k=v", parse_judge), multiple=True, metavar="MODEL[,K=V...]",
        help="In place of --model and --model_args; repeat it for several judges.",
    ),
    click.option(
        "--prices", type=Parsed("in,out", parse_prices), multiple=True, metavar="IN,OUT",
        help="Price of a million prompt and completion tokens. Once, or once a judge.",
    ),
    click.option(
        "--against_references", is_flag=True, default=None,
        help="Compare with the reference answers of the rows, by a rubric of pairs.",
    ),
    click.option("--tasks", "-t", type=NAMES, multiple=True, metavar="NAMES", help="Tasks of the run. [default: all]"),
    click.option(
        "--limit", "-L", type=Parsed("n", parse_limit), metavar="N",
        help="Samples of each subset: a count, or a fraction below 1.",
    ),
    click.option(
        "--retries", type=click.IntRange(min=0), metavar="N",
        help="How often a reply that cannot be read is asked for again. [default: 2]",
    ),
    click.option("--gen_kwargs", type=PAIRS, multiple=True, metavar="K=V,...", help="Over the rubric's own."),
    click.option("--seed", type=Parsed("n", parse_seed), metavar="N", help="Of sampled replies. [default: 1234]"),
    click.option(
        "--apply_chat_template", type=Parsed("true|false", parse_switch), metavar="BOOL",
        help="false asks by one text, for a model without chat template. [default: true]",
    ),
    click.option("--offline", is_flag=True, default=None, help="Never use the network for files of a model."),
    click.option("--output", type=click.Path(), metavar="DIR", help="[default: judgements, in the (second) run]"),
]  # fmt: skip


@click.command("judge")
@click.argument("runs", nargs=-1, metavar="RUN...", shell_complete=complete_runs)
@options(JUDGE_OPTIONS, MODEL_OPTIONS)
@click.option("--dry_run", is_flag=True, help="Say what would be asked. Asks nothing.")
@click.option("--list", "listed", is_flag=True, help="List the rubrics.")
@click.option("--json", "as_json", is_flag=True, help="All numbers, as JSON.")
@click.pass_context
def command(context: click.Context, /, **flags: Any) -> int:
    """Let models judge the answers of a finished run, or compare those of two or more. The answers come from the log.

    Every judgement is on disk: the same command again goes on where it stopped, and asks nothing twice. A reply that
    cannot be read is asked for again; where that does not help, the sample has no score, and is counted.

    \b
    harness judge runs/NAME --rubric correctness_en --model openai --model_args model=JUDGE,base_url=URL
    harness judge runs/before runs/after --rubric preference_en --judge hf,pretrained=DIR --judge openai,model=JUDGE
    harness judge runs/sft runs/step-100 runs/step-200 --rubric preference_en --against_references --model ...
    """
    listed, dry, as_json = flags.pop("listed"), flags.pop("dry_run"), flags.pop("as_json")
    if listed:
        return list_rubrics()
    spec = spec_of(flags, context.obj or "")
    from harness.cli.progress import watch
    from harness.judging.judge import run_judges

    if dry:
        return print_questions(spec)
    result = run_judges(spec, progress=watch())
    if as_json:
        line(json.dumps(result.to_dict(), ensure_ascii=False, indent=2))
    else:
        print_result(result)
    return int(result.exit_code)


def spec_of(flags: Mapping[str, Any], command_line: str) -> JudgeSpec:
    """What the flags say. Raises `UsageError`."""
    from harness.judging.judge import JudgeModel, JudgeSpec

    given = joined(flags)
    judges: Sequence[tuple[str, Mapping[str, Any]]] = given.pop("judges", ())
    name, args, prices = given.pop("model", None), given.pop("model_args", {}), given.pop("prices", ())
    if not given.get("runs"):
        raise UsageError("name the run that is judged, or those to compare (`harness judge --list` lists the rubrics)")
    if not given.get("rubric"):
        raise UsageError("--rubric: name what is judged (`harness judge --list` lists the rubrics), or a file")
    if judges and (name or args):
        raise UsageError("--judge: stands in place of --model and --model_args; use one or the other")
    named = judges or ([(name, args)] if name else [])
    if not named:
        raise UsageError("--model: name the model that judges (`harness plugins` lists what there is)")
    if len(prices) not in (0, 1, len(named)):
        raise UsageError(f"--prices: give it once, or once for each of the {len(named)} judges")
    if len(prices) < len(named):
        prices = (*prices, *(prices[:1] or (None,)) * (len(named) - len(prices)))
    models = [JudgeModel(kind, own, price) for (kind, own), price in zip(named, prices, strict=True)]
    return JudgeSpec(**{**given, "runs": tuple(given["runs"]), "judges": tuple(models), "command": command_line})


def list_rubrics() -> int:
    """Print every rubric that is installed."""
    from harness.judging.rubric import read_rubric, rubric_files
    from harness.registry import load_plugins

    folders = tuple(load_plugins().template_folders())
    rubrics = [read_rubric(path, folders) for _, path in rubric_files(folders)]
    kinds = ["two runs" if rubric.pairwise else "one run" for rubric in rubrics]
    rows = [(rubric.name, kind, rubric.title) for rubric, kind in zip(rubrics, kinds, strict=True)]
    show(table(("rubric", "judges", "what"), rows, ["what"]))
    return 0


def print_questions(spec: JudgeSpec) -> int:
    """The first question as the judge would see it, and how many there are."""
    from harness.cli.progress import watch
    from harness.judging.judge import plan_judging, prepared_judges
    from harness.registry import load_plugins

    registry = load_plugins()
    progress = watch()
    try:
        plans = plan_judging(spec, registry, progress)
        models = prepared_judges(plans, registry, progress)
    finally:
        progress.finished()
    asked = [question.request.prompt for plan in plans for sample in plan.samples for question in sample.questions]
    if asked:
        line(models[0].render(asked[0]).rstrip())
        line()
    samples = counted(sum(len(plan.samples) for plan in plans), "sample")
    for judge, model in zip(spec.judges, models, strict=True):
        counts = [model.count_tokens(model.render(prompt)) for prompt in asked]
        known = [count for count in counts if count is not None]
        tokens = f", {counted(sum(known), 'prompt token')}" if known and len(known) == len(counts) else ""
        line(f"{judge.name}: {samples}, {counted(len(asked), 'question')}{tokens}")
        model.close()
    return 0


def print_result(result: JudgeResult) -> None:
    """A table for each judge, what it took, and what several judges found together."""
    from harness.cli.report import print_judgement

    t = translator(locale_language(None))
    for judgement in result.judgements:
        print_judgement(judgement.report, judgement.path, larger=judgement.larger, t=t)
    if result.panel:
        print_panel(result.panel, t)
    for each in result.strengths:
        print_strengths(each, t)
    print_agreement([each.agreement for each in result.strengths if each.agreement], t)


def print_strengths(found: TaskStrengths, t: Translate = english) -> None:
    """The sides of a task, the strongest first; those without a finite strength last."""
    line(t("{task}: strength of each by the verdicts of {judge} (Bradley-Terry, in Elo points above {first})",
           task=found.task, judge=found.judge, first=t(found.sides[0].name)))  # fmt: skip
    names = [t(side.name) for side in found.sides]
    rows = []
    for side in sorted(found.sides, key=lambda side: -math.inf if side.elo is None else side.elo, reverse=True):
        name = t(side.name)
        # Checkpoints of one training may be called alike.
        shown = name if names.count(name) == 1 else f"{name} ({Path(side.run).name})"
        low, high = (f"{end:+.0f}" for end in side.interval or (0.0, 0.0))
        interval = f"{low} .. {high}" if side.interval else ""
        elo = t("no finite value") if side.elo is None else f"{side.elo:+.0f}"
        rows.append((shown, elo, interval, *map(str, (side.wins, side.losses, side.ties))))
    columns = (t("model"), "Elo", t("95% interval"), t("wins"), t("losses"), t("ties"))
    show(table(columns, rows, [columns[0]]))
    if found.without:
        notice(
            t("{task}: {n} pairs of answers have no verdict and are in no strength", task=found.task, n=found.without)
        )


def print_panel(panel: Panel, t: Translate = english) -> None:
    from harness.record.console_table import render

    line(t("all {n} judges, on the samples that each of them scored:", n=len(panel.judges)))
    show(render(panel.report, width(), t=t))
    print_agreement(panel.agreement, t)


def print_agreement(agreement: Sequence[Agreement], t: Translate = english) -> None:
    """How far the judges agree, a line a task."""
    for agreed in agreement:
        alpha = t("not defined") if agreed.alpha is None else f"{agreed.alpha:.4f}"
        low, high = (f"{end:.4f}" for end in agreed.interval or (0.0, 0.0))
        bounds = t(" (95% interval {low} .. {high})", low=low, high=high) if agreed.interval else ""
        equal = ""
        if agreed.equal is not None:
            equal = t("; all say the same of {share} of {n} samples", share=f"{agreed.equal:.1%}", n=agreed.n)
        line(t("{task}: Krippendorff's alpha {alpha}", task=agreed.task, alpha=alpha) + bounds + equal)
    if agreement:
        notice(t("alpha: 1 is agreement throughout, 0 is what chance gives"))
