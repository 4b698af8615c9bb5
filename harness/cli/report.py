"""`harness report`: the results of a run, again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.completion import complete_runs
from harness.cli.console import counted, line, notice, notice_path, show, width
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.record.file_types import Report, WorkFields

_SHOWN_PROBLEMS = 3
_SHOWN_TASKS = 5


@click.command("report")
@click.argument("run", shell_complete=complete_runs)
@click.option("--subsets", is_flag=True, help="With a row for every subset.")
@click.option("--json", "as_json", is_flag=True, help="As JSON: what report.json holds.")
def command(run: str, subsets: bool, as_json: bool) -> None:
    """Print the results in the folder RUN.

    \b
    harness report runs/2026-08-01-demo-0f3a9c --subsets
    """
    from harness.run.result import load_run

    folder = load_run(Path(run))
    if not folder.report:
        raise UsageError(f"'{run}' has no report yet: the run has not ended; its command goes on with it")
    if as_json:
        line(json.dumps(folder.report, ensure_ascii=False, indent=2))
    elif folder.kind == "judgement":
        print_judgement(folder.report, folder.path, subsets=subsets)
    else:
        print_report(folder.report, folder.path, subsets=subsets)
        print_judgements_of(folder.path, subsets=subsets)


def print_report(report: Report, path: Path, *, subsets: bool = False, larger: Report | None = None) -> None:
    """The result table on stdout; where the run is, and what failed in it, on stderr.

    larger: the report that the folder keeps in the place of this one.
    """
    from harness.record.capability_table import capability_table, cutoff_line
    from harness.record.failures import failure_lines
    from harness.record.report import render

    show(render(report, width(), subsets=subsets))
    if (table := capability_table(report)) is not None:
        line()
        show(table)
    if older := cutoff_line(report):
        notice(older)
    failed = sum(task["counts"]["failed"] for task in report["tasks"])
    if failed:
        causes = list(failure_lines(report))
        why = ":" if causes else "; `error` in the records says why"
        notice(f"{counted(failed, 'sample')} failed, and the same command tries them again{why}")
        for cause in causes:
            notice(cause)
    _print_larger(larger, path)
    if (path / "report.html").is_file():
        notice_path("Report", path / "report.html")
    notice(f"Run folder: {path}")


def _print_larger(larger: Report | None, path: Path) -> None:
    """What the folder keeps in the place of the report that was shown, if anything."""
    from harness.record.coverage import setting_words
    from harness.record.report import number

    if larger is None:
        return
    notice("An earlier command asked for more, and its report stays in report.json and report.html:")
    for task in larger["tasks"][:_SHOWN_TASKS]:
        for metric in task["metrics"][:1]:
            value = f"{metric['metric']} {number(metric['value'])}, n = {metric['n']:,}"
            notice(f"  {task['task']}: {value} ({setting_words(task)})")
    notice(f"  all of it: harness report {shlex.quote(str(path))}")


def print_judgements_of(run: Path, *, subsets: bool = False) -> None:
    """What judges said of a run, as far as they have ended."""
    from harness.judging.judge import JUDGEMENTS
    from harness.record.manifest import runs_below
    from harness.run.result import load_run

    for path in runs_below(run / JUDGEMENTS):
        report = load_run(path).report
        if report and report["kind"] == "judgement":
            print_judgement(report, path, subsets=subsets)


def print_judgement(report: Report, path: Path, *, subsets: bool = False, larger: Report | None = None) -> None:
    """The table of a judge, and what it took. larger: the report that the folder keeps in the place of this one."""
    from harness.record.manifest import model_title
    from harness.record.report import render

    judged = " against ".join(item["model"] for item in reversed(report["judged"]))
    line(f"{judged}, judged by {model_title(report)} ({report['rubric']['name']}@{report['rubric']['digest']})")
    show(render(report, width(), subsets=subsets))
    for task, pairs in report.get("pairs", {}).items():
        p_value = "" if pairs["p_value"] is None else f"; p {pairs['p_value']:.4f} (exact sign test)"
        line(f"{task}: {pairs['wins']} won, {pairs['losses']} lost, {counted(pairs['ties'], 'tie')}{p_value}")
    for task, work in report["work"].items():
        line(f"{task}: {'; '.join(_work(work))}")
    failed = sum(task["counts"]["failed"] for task in report["tasks"])
    if failed:
        notice(f"{counted(failed, 'judgement')} failed: `error` in the records says why, the same command tries again")
    _print_larger(larger, path)
    notice(f"Judgements: {path}")


def _work(work: WorkFields) -> Iterator[str]:
    """What a judging took, in words."""
    yield f"{work['scored']} of {counted(work['judged'], 'sample')} scored"
    yield from (f"{count} not asked: {why}" for why, count in work["skipped"].items())
    replies = "1 reply" if work["replies"] == 1 else f"{work['replies']} replies"
    yield f"{replies}, {work['asked_again']} of them asked again" if work["asked_again"] else replies
    for problem, count in list(work["failed"].items())[:_SHOWN_PROBLEMS]:
        yield f"{count} failed: {problem}"
    for problem, count in list(work["unreadable"].items())[:_SHOWN_PROBLEMS]:
        yield f"{count} never readable: {problem}"
    if work["prompt_tokens"] or work["completion_tokens"]:
        cost = "" if work["cost"] is None else f", cost {work['cost']:.4f}"
        unknown = work["replies_without_tokens"]
        more = f" (and those of {unknown} replies, which the model did not tell)" if unknown else ""
        yield f"{work['prompt_tokens']:,} prompt and {work['completion_tokens']:,} completion tokens{cost}{more}"
