"""`harness report`: the results of a run, again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.completion import complete_runs
from harness.cli.console import line, notice, notice_path, show, table, width
from harness.errors import UsageError, suggest
from harness.terminal import visible
from harness.words import Translate, english, locale_language, translator

if TYPE_CHECKING:
    from harness.record.by_category import SideBySide
    from harness.record.report_fields import Report, WorkFields
    from harness.record.run import RunFolder

_SHOWN_PROBLEMS = 3
_SHOWN_TASKS = 5
_SHOWN_VIOLATIONS = 10
_SHOWN_CHARACTERS = 400


@click.command("report")
@click.argument("runs", nargs=-1, required=True, shell_complete=complete_runs)
@click.option("--subsets", is_flag=True, help="With a row for every subset.")
@click.option(
    "--by", metavar="NAME", help="The runs side by side, by a breakdown of their tasks: subject, skill, subset, ..."
)
@click.option(
    "--violations", is_flag=True, help="What was unsafe: question, answer and why; --to FILE has all, as a table."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON: what report.json holds.")
@click.option(
    "--format", "form", metavar="FORM", help="markdown, csv, latex, json, badge; into a file also xlsx, svg, png."
)
@click.option("--lang", metavar="en|zh", help="[default: by the locale]")
@click.option(
    "--to", "path", type=click.Path(path_type=Path), metavar="FILE", help="Write there, by --format or ending."
)
def command(
    runs: tuple[str, ...],
    subsets: bool,
    by: str | None,
    violations: bool,
    as_json: bool,
    form: str | None,
    lang: str | None,
    path: Path | None,
) -> None:
    """Print the results in the folders RUNS, or write them for a paper or a sheet.

    \b
    harness report runs/2026-08-01-demo-0f3a9c --subsets
    harness report runs/A runs/B --format latex
    harness report runs/A runs/B --to results.xlsx
    harness report runs/A runs/B --by subject
    harness report runs/A --violations --to unsafe.csv
    """
    from harness.run.result import load_run

    language = locale_language(lang)
    t = translator(language)
    folders = [load_run(Path(run)) for run in runs]
    for run, folder in zip(runs, folders, strict=True):
        if not folder.report:
            raise UsageError(f"'{run}' has no report yet: the run has not ended; its command goes on with it")
    reports = _named([(folder.path, folder.report) for folder in folders if folder.report])
    if violations:
        if len(folders) > 1:
            raise UsageError(f"--violations: lists what was unsafe in one run; {len(folders)} are named")
        _write_violations(folders[0], "json" if as_json else form, path, t)
    elif by:
        _write_by_category(reports, by, "json" if as_json else form, path, t)
    elif form or path:
        _write_tables(reports, form, path, subsets=subsets, t=t)
    else:
        _print(folders, as_json=as_json, subsets=subsets, language=language)
    for problem in (problem for folder in folders for problem in folder.take_messages()):
        notice(problem)


def _print(folders: Sequence[RunFolder], *, as_json: bool, subsets: bool, language: str) -> None:
    """The tables of runs and judgements, one after another."""
    t = translator(language)
    for folder in folders:
        if as_json:
            line(json.dumps(folder.report, ensure_ascii=False, indent=2))
        elif folder.report and folder.kind == "judgement":
            print_judgement(folder.report, folder.path, subsets=subsets, t=t)
        elif folder.report:
            print_report(folder.report, folder.path, subsets=subsets, language=language)
            print_judgements_of(folder.path, subsets=subsets, t=t)
            print_notes_of(folder.path, t)


def _named(runs: Sequence[tuple[Path, Report]]) -> dict[str, Report]:
    """The reports by what tells them apart: the model, then the folder."""
    from harness.record.shown import short_title

    reports: dict[str, Report] = {}
    for folder, report in runs:
        title = short_title(report)
        names = (title, f"{title} ({folder.name})", f"{title} ({folder})", f"{title} ({folder}, {len(reports) + 1})")
        reports[next(name for name in names if name not in reports)] = report
    return reports


def _form(form: str | None, path: Path | None, known: Sequence[str]) -> str:
    """The form that is asked for, or that the ending of a file says."""
    endings = {"md": "markdown", "tex": "latex"}
    ending = path.suffix.removeprefix(".").lower() if path else ""
    form = form or endings.get(ending, ending)
    if not form:
        raise UsageError(f"--to {path}: say what it is to be by its ending or by --format ({', '.join(known)})")
    if form not in known:
        raise UsageError(f"--format: there is no form '{form}'{suggest(form, known)} (there are: {', '.join(known)})")
    return form


def _write_tables(
    reports: dict[str, Report], form: str | None, path: Path | None, *, subsets: bool, t: Translate
) -> None:
    from harness.view import tables

    form = _form(form, path, tables.FORMS)
    if path is not None:
        tables.write(reports, form, path, subsets=subsets, t=t)
        notice_path(t("Written"), path)
    elif form in ("xlsx", "svg", "png"):
        raise UsageError(f"--format {form}: needs a file: --to results.{form}")
    else:
        line(tables.text(reports, form, subsets=subsets, t=t).rstrip("\n"))


def _write_by_category(reports: dict[str, Report], by: str, form: str | None, path: Path | None, t: Translate) -> None:
    """Tasks by one of their breakdowns, a column a run: on the terminal, or as a text for a paper or a sheet."""
    from harness.files import replace
    from harness.record.by_category import by_category
    from harness.view import tables

    found = by_category(reports, by)
    if form is None and path is None:
        for side in found:
            _print_side_by_side(side, t)
        return
    text = tables.categories(found, _form(form, path, tables.TEXT_FORMS), t)
    if path is None:
        line(text.rstrip("\n"))
    else:
        replace(path, [text.encode("utf-8", "replace")])
        notice_path(t("Written"), path)


def _write_violations(run: RunFolder, form: str | None, path: Path | None, t: Translate) -> None:
    """What was unsafe in a run: the first of each task on the terminal, all of it as a table."""
    from harness.files import replace
    from harness.view import tables
    from harness.view.violations import COLUMNS, Violations

    found = Violations(run, t)
    if form is not None or path is not None:
        text = tables.listed(COLUMNS, [each.row for each in found], _form(form, path, tables.TEXT_FORMS))
        if path is None:
            line(text.rstrip("\n"))
        else:
            replace(path, [text.encode("utf-8", "replace")])
            notice_path(t("Written"), path)
    else:
        for each in found:
            if found.n[each.task] <= _SHOWN_VIOLATIONS:
                line(f"{each.task} {f'{each.subset}/' if each.subset else ''}{each.id}: {_one_line(each.why)}")
                line(f"    {t('asked')}: {_one_line(each.question)}")
                line(f"    {t('answered')}: {_one_line(each.answer)}")
        shown = sum(min(n, _SHOWN_VIOLATIONS) for n in found.n.values())
        if shown < sum(found.n.values()):
            line(t("{n} more: --violations --to FILE writes all", n=f"{sum(found.n.values()) - shown:,}"))
    counts = ", ".join(f"{task} {n:,}" for task, n in found.n.items())
    notice(t("Violations: {n} ({counts})", n=f"{sum(found.n.values()):,}", counts=counts))
    if found.unscored:
        notice(t("without a score, and so not among them: {n}", n=f"{found.unscored:,}"))


def _one_line(text: str) -> str:
    """A text on one line, cut where it is long."""
    joined = " ".join(text.split())
    return joined if len(joined) <= _SHOWN_CHARACTERS else joined[: _SHOWN_CHARACTERS - 1] + "…"


def _print_side_by_side(side: SideBySide, t: Translate) -> None:
    """A table with a column a run. Runs whose names leave no room for numbers are numbered."""
    from rich.cells import cell_len

    header, *rows = side.cells(t)
    line(f"{side.task}: {side.metric}")
    if sum(max(cell_len(visible(row[place])) for row in (header, *rows)) + 2 for place in range(len(header))) > width():
        for number, run in enumerate(side.runs, 1):
            line(f"{t('run {n}', n=number)}: {run}")
        header = [header[0], *(t("run {n}", n=number) for number in range(1, len(side.runs) + 1)), header[-1]]
    show(table(header, rows, [header[0]]))
    for words in side.extremes(t):
        line(words)


def print_notes_of(run: Path, t: Translate = english) -> None:
    """How many samples people have marked, and where that can be seen."""
    from harness.view.notes import NOTE_WORDS, count_notes

    if counts := count_notes(run):
        words = ", ".join(f"{n} {t(NOTE_WORDS.get(kind, kind))}" for kind, n in sorted(counts.items()))
        notice(t("Notes of people: {notes} (harness view {run})", notes=words, run=shlex.quote(str(run))))


def print_report(
    report: Report, path: Path, *, subsets: bool = False, larger: Report | None = None, language: str | None = None
) -> None:
    """The result table on stdout; where the run is, and what failed in it, on stderr.

    larger: the report that the folder keeps in the place of this one. language: that of the locale, unless given.
    """
    from harness.record.capability_table import capability_table, cutoff_line
    from harness.record.console_table import render
    from harness.record.cost import cost_lines
    from harness.record.coverage import failed_rows
    from harness.record.failures import failure_lines
    from harness.record.published import render_published

    t = translator(language or locale_language(None))
    show(render(report, width(), subsets=subsets, t=t))
    for text in cost_lines(report, t):
        line(text)
    if (published := render_published(report, t)) is not None:
        line()
        show(published)
    if (abilities := capability_table(report, t)) is not None:
        line()
        show(abilities)
    if older := cutoff_line(report, t):
        notice(older)
    failed = sum(task["counts"]["failed"] for task in report["tasks"])
    again = failed - failed_rows(report)
    if again:
        causes = list(failure_lines(report, t))
        why = ":" if causes else t("; `error` in the records says why")
        samples = "1 sample" if failed == 1 else "{n} samples"
        tries = "them" if again == failed else "{again} of them"
        notice(t(f"{samples} failed, and the same command tries {tries} again{{why}}", n=failed, again=again, why=why))
        for cause in causes:
            notice(cause)
    _print_larger(larger, path, t)
    if (path / "report.html").is_file():
        notice_path(t("Report"), path / "report.html")
    notice(f"{t('Run folder')}: {path}")


def _print_larger(larger: Report | None, path: Path, t: Translate = english) -> None:
    """What the folder keeps in the place of the report that was shown, if anything."""
    from harness.record.coverage import setting_words
    from harness.record.result_rows import number

    if larger is None:
        return
    notice(t("An earlier command asked for more, and its report stays in report.json and report.html:"))
    for task in larger["tasks"][:_SHOWN_TASKS]:
        for metric in task["metrics"][:1]:
            value = f"{metric['metric']} {number(metric['value'])}, n = {metric['n']:,}"
            notice(f"  {task['task']}: {value} ({setting_words(task, t)})")
    notice(t("  all of it: harness report {run}", run=shlex.quote(str(path))))


def print_judgements_of(run: Path, *, subsets: bool = False, t: Translate = english) -> None:
    """What judges said of a run, as far as they have ended."""
    from harness.judging.judge import JUDGEMENTS
    from harness.record.manifest import runs_below
    from harness.run.result import load_run

    for path in runs_below(run / JUDGEMENTS):
        try:
            report = load_run(path).report
        except UsageError as error:  # the run has been told, and the other judges may be
            notice(str(error))
            continue
        if report and report["kind"] == "judgement":
            print_judgement(report, path, subsets=subsets, t=t)


def print_judgement(
    report: Report, path: Path, *, subsets: bool = False, larger: Report | None = None, t: Translate = english
) -> None:
    """The table of a judge, and what it took. larger: the report that the folder keeps in the place of this one."""
    from harness.record.console_table import render
    from harness.record.manifest import model_title

    judged = t(" against ").join(t(item["model"]) for item in reversed(report["judged"]))
    rubric = f"{report['rubric']['name']}@{report['rubric']['digest']}"
    line(t("{models}, judged by {judge} ({rubric})", models=judged, judge=model_title(report), rubric=rubric))
    show(render(report, width(), subsets=subsets, t=t))
    for task, pairs in report.get("pairs", {}).items():
        p_value = pairs["p_value"]
        tested = "" if p_value is None else t("; p {p} (exact sign test)", p=f"{p_value:.4f}")
        ties = t("1 tie") if pairs["ties"] == 1 else t("{n} ties", n=pairs["ties"])
        line(t("{task}: {n} won, {lost} lost, {ties}{tested}", task=task, n=pairs["wins"], lost=pairs["losses"],
               ties=ties, tested=tested))  # fmt: skip
    for task, work in report["work"].items():
        line(f"{task}: {t('; ').join(_work(work, t))}")
    failed = sum(task["counts"]["failed"] for task in report["tasks"])
    if failed:
        judgements = t("1 judgement failed") if failed == 1 else t("{n} judgements failed", n=failed)
        notice(t("{failed}: `error` in the records says why, the same command tries again", failed=judgements))
    _print_larger(larger, path, t)
    notice(f"{t('Judgements')}: {path}")


def _work(work: WorkFields, t: Translate) -> Iterator[str]:
    """What a judging took, in words."""
    samples = t("1 sample") if work["judged"] == 1 else t("{n} samples", n=work["judged"])
    yield t("{n} of {samples} scored", n=work["scored"], samples=samples)
    yield from (t("{n} not asked: {why}", n=count, why=t(why)) for why, count in work["skipped"].items())
    replies = t("1 reply") if work["replies"] == 1 else t("{n} replies", n=work["replies"])
    again = work["asked_again"]
    yield t("{replies}, {n} of them asked again", replies=replies, n=again) if again else replies
    for problem, count in list(work["failed"].items())[:_SHOWN_PROBLEMS]:
        yield t("{n} failed: {why}", n=count, why=problem)
    for problem, count in list(work["unreadable"].items())[:_SHOWN_PROBLEMS]:
        yield t("{n} never readable: {why}", n=count, why=problem)
    if work["prompt_tokens"] or work["completion_tokens"]:
        unknown = work["replies_without_tokens"]
        yield t(
            "{asked} prompt and {written} completion tokens{cost}{more}",
            asked=f"{work['prompt_tokens']:,}" if work["prompt_tokens"] or not unknown else "?",
            written=f"{work['completion_tokens']:,}" if work["completion_tokens"] or not unknown else "?",
            cost="" if work["cost"] is None else t(", cost {cost}", cost=f"{work['cost']:.4f}"),
            more=t(" (and those of {n} replies, which the model did not tell)", n=unknown) if unknown else "",
        )
