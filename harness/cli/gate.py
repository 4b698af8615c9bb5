"""`harness gate`: may this run take the place of that one?"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from harness import files
from harness.cli.completion import complete_runs
from harness.cli.console import line, notice
from harness.cli.options import finite
from harness.cli.webhook import FORMATS, post
from harness.errors import ExitCode, SaveError, UsageError
from harness.words import Translate, locale_language, translator

if TYPE_CHECKING:
    from harness.record.junit import GateCheck
    from harness.run.gate import GatePolicy

_OF_THE_POLICY = ("max_drop", "alpha", "allow_missing", "min_samples", "detect")


@click.command("gate")
@click.option(
    "--baseline",
    "baselines",
    required=True,
    multiple=True,
    metavar="RUN",
    shell_complete=complete_runs,
    help="The run that sets the standard. Repeatable: each must be held.",
)
@click.option("--current", required=True, metavar="RUN", shell_complete=complete_runs, help="The run that is judged.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Rules by task and ability, in tiers (`harness help compare`); in the place of the five flags that follow.",
)
@click.option(
    "--max_drop",
    type=click.FloatRange(min=0),
    default=0.0,
    callback=finite,
    help="How much worse is allowed. [default: 0]",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    callback=finite,
    help="Level of the test. [default: 0.05]",
)
@click.option("--allow_missing", is_flag=True, help="Pass although samples of the baseline are missing or unscored.")
@click.option(
    "--min_samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="The least number of samples that both runs scored. [default: 30 where a task came out worse]",
)
@click.option(
    "--detect",
    type=click.FloatRange(min=0, min_open=True),
    callback=finite,
    metavar="DROP",
    help="Fail where so large a drop might not have shown (at a power of 80 %).",
)
@click.option("--explain", is_flag=True, help="Say for each line how it came about.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write a JUnit file for a CI.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write a summary for people.")
@click.option("--github", is_flag=True, help="Print annotations for GitHub Actions, and add to the job's summary.")
@click.option("--webhook", metavar="URL", help="Post the findings there. Also HARNESS_WEBHOOK.")
@click.option(
    "--webhook_format",
    "form",
    type=click.Choice(FORMATS),
    default="auto",
    help="As which message; HARNESS_WEBHOOK_SECRET signs those of Feishu and DingTalk. [default: by the address]",
)
@click.pass_context
def command(
    context: click.Context,
    baselines: tuple[str, ...],
    current: str,
    policy: Path | None,
    max_drop: float,
    alpha: float,
    allow_missing: bool,
    min_samples: int | None,
    detect: float | None,
    explain: bool,
    junit: Path | None,
    markdown: Path | None,
    github: bool,
    webhook: str | None,
    form: str,
) -> int:
    """Exit with 1 when a task of CURRENT is worse than in BASELINE by more than --max_drop, beyond chance.

    A task also fails that CURRENT lacks, wholly or in part, and one that is too small to show what is asked. Each line
    says what drop would have shown.

    \b
    harness gate --baseline runs/released --current runs/candidate --max_drop 0.01 --junit gate.xml
    harness gate --baseline runs/released --current runs/candidate --policy policy.yaml --explain
    """
    from harness.record import junit as writers
    from harness.run.gate import GatePolicy

    t = translator(locale_language(None))
    if policy is None:
        checks = _by_flags(baselines, current, GatePolicy(max_drop, alpha, allow_missing, min_samples, detect), t)
    else:
        for name in _OF_THE_POLICY:
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise UsageError(f"--{name}: the rules of --policy say that; leave one of the two out")
        from harness.run.gate_policy import judge_policy, read_policy

        checks = judge_policy(read_policy(policy), baselines, current, notice, t)
    summary = writers.markdown(checks, ", ".join(baselines), current, t)
    title = _print_checks(checks, t, explain=explain)
    _tell_violations(checks, current, t)
    if url := webhook or os.environ.get("HARNESS_WEBHOOK"):
        post(url, form, checks, f"{title} ({current})", summary, os.environ.get("HARNESS_WEBHOOK_SECRET"), t)
    # Files come last: where one cannot be written, the findings have been told.
    if github:
        _tell_github(checks, summary, t)
    if junit:
        _write(junit, writers.junit_xml(checks, t))
    if markdown:
        _write(markdown, summary)
    return ExitCode.SAMPLES_FAILED if any(check.outcome == "failed" for check in checks) else ExitCode.OK


def _by_flags(baselines: Sequence[str], current: str, policy: GatePolicy, t: Translate) -> list[GateCheck]:
    """Judge against each baseline. Several share the level, so that more of them make no more false alarms."""
    from harness.run.gate import gate_runs

    several = list(dict.fromkeys(baselines))
    shared = replace(policy, alpha=policy.alpha / len(several))
    checks = [(run, check) for run in several for check in gate_runs(run, current, shared, notice, t)]
    return [replace(check, against=run) if len(several) > 1 else check for run, check in checks]


def _print_checks(checks: Sequence[GateCheck], t: Translate, *, explain: bool) -> str:
    """Print a line a check and the verdict, which is returned."""
    for check in checks:
        line(f"{t(check.outcome)}: {check.label(t)}: {check.reason}")
        for step in check.steps if explain else ():
            line(f"    {step}")
    failed, warned = (sum(check.outcome == outcome for check in checks) for outcome in ("failed", "warned"))
    n = len(checks)
    if any(check.tier for check in checks):
        judged = t("1 line") if n == 1 else t("{n} lines", n=n)
    else:
        judged = t("1 task") if n == 1 else t("{n} tasks", n=n)
    tally = t("{failed} of {judged} failed", failed=failed, judged=judged)
    tally += t(", {n} warned", n=warned) if warned else ""
    title = t("gate failed: {tally}", tally=tally) if failed else t("gate passed: {tally}", tally=tally)
    line(title)
    return title


def _tell_violations(checks: Sequence[GateCheck], current: str, t: Translate) -> None:
    """Where a line about safety failed, how a person reads what was answered."""
    from harness.record.manifest import read_manifest
    from harness.view.violations import ABILITY, is_about_safety

    failed = [check.task for check in checks if check.outcome != "passed"]
    manifest = read_manifest(Path(current)) if failed else {}
    if any(task == f"ability {ABILITY}" or is_about_safety(manifest, task) for task in failed):
        notice(t("what was unsafe: {command}", command=f"harness report {shlex.quote(current)} --violations"))


def _tell_github(checks: Sequence[GateCheck], summary: str, t: Translate) -> None:
    from harness.record.junit import github_annotations

    for annotation in github_annotations(checks, t):
        line(annotation)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(path).open("a", encoding="utf-8", errors="replace") as file:
                file.write(f"{summary}\n")
        except OSError as error:
            raise SaveError(f"{path}: could not be written: {error.strerror}") from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, [text.encode("utf-8", "replace")])
    except OSError as error:
        raise SaveError(f"{path}: could not be written: {error.strerror}") from error
