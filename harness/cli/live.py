"""`harness live`: a dated benchmark of what was published after a model's training ended, stage by stage."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import line, notice, width
from harness.cli.options import JUDGE_PRICES, JUDGES, MODEL_OPTIONS, PAIRS, SPENDING, Parsed, finite, joined, options
from harness.cli.values import parse_date, parse_limit, parse_seed, parse_switch
from harness.errors import ExitCode, UsageError
from harness.files import check_folder
from harness.words import Translate, locale_language, translator

if TYPE_CHECKING:
    from harness.live.ask import Asker
    from harness.live.folder import LiveFolder, LiveQuestion
    from harness.live.review import Waiting
    from harness.live.write import Stage

FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
FORMS = click.option(
    "--forms", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
    help="A folder of own forms (write_en.yaml ...), which are asked in the place of those that come with harness.",
)  # fmt: skip
ASKING = [
    *MODEL_OPTIONS,
    click.option("--gen_kwargs", type=PAIRS, multiple=True, metavar="K=V,...", help="Over the forms' own."),
    click.option("--seed", type=Parsed("n", parse_seed), metavar="N", help="Of sampled replies. [default: 1234]"),
    click.option(
        "--apply_chat_template", type=Parsed("true|false", parse_switch), metavar="BOOL",
        help="false asks by one text, for a model without chat template. [default: true]",
    ),
    click.option(
        "--retries", type=click.IntRange(min=0), default=2, show_default=True, metavar="N",
        help="How often a reply that cannot be read is asked for again.",
    ),
    *SPENDING,
    click.option("--offline", is_flag=True, default=None, help="Never use the network for files of a model."),
]  # fmt: skip


@click.group("live")
def command() -> None:
    """Make a dated benchmark of what was published lately, in stages. Each goes on where it stopped.

    \b
    harness live capture https://HOST/feed.xml --after 2026-06 --to news
    harness live write news --model openai --model_args model=WRITER,base_url=URL
    harness live check news --model openai --model_args model=CHECKER,base_url=URL
    harness live review news
    harness live publish news --name news_2026
    harness live measure news --model hf --model_args pretrained=DIR --judge openai,model=JUDGE,base_url=URL
    """


def _t() -> Translate:
    return translator(locale_language(None))


@command.command("capture", short_help="Bring pages, documents and screenshots into a set.")
@click.argument("sources", nargs=-1, required=True, metavar="URL|FOLDER|FILE...")
@click.option("--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="The folder of the set.")
@click.option(
    "--after", type=Parsed("date", parse_date), metavar="DATE", help="Only pages that are dated later (2026-06)."
)
@click.option(
    "--date", type=Parsed("date", parse_date), metavar="DATE", help="The date of pages that carry none themselves."
)
@click.option("--limit", "-L", type=click.IntRange(min=1), metavar="N", help="Pages that are kept, at most.")
@click.option("--links", is_flag=True, help="The pages of the same server to which the named ones lead.")
@click.option("--screenshots", is_flag=True, help="Load pages in a headless Chromium, and keep their pictures.")
@click.option(
    "--pause", type=click.FloatRange(min=0), default=1.0, callback=finite, show_default=True, metavar="SECONDS",
    help="Between two requests to one server; robots.txt may ask for more.",
)  # fmt: skip
def capture_command(sources: tuple[str, ...], to: Path, **flags: Any) -> None:
    """Read feeds, pages of the web, and folders of texts, saved pages and screenshots.

    Of a feed, the pages that it names. robots.txt is followed, advertisements and navigation are left out. What cannot
    be used is counted with its reason. Needs pip install 'harness-eval[live]', but for folders of texts and pictures.

    \b
    harness live capture https://HOST/feed.xml --after 2026-06 --to news
    harness live capture https://HOST/ --links --limit 40 --screenshots --to news
    harness live capture reports/ --date 2026-06 --to reports_set
    """
    from harness.cli.progress import watch
    from harness.live.capture import CaptureSpec, capture
    from harness.live.folder import LiveFolder

    check_folder("--to", to)
    progress, t = watch(), _t()
    try:
        done = capture(CaptureSpec(tuple(sources), **flags), LiveFolder(to), progress)
    finally:
        progress.finished()
    line(t("{file}: {n} pages, {new} of them new", file=to / "pages.jsonl", n=f"{done.kept:,}", new=f"{done.new:,}"))
    say_left_out(done.left_out, t)


@command.command("write", short_help="Have a model ask questions about the pages.")
@FOLDER
@click.option(
    "--questions", type=click.IntRange(min=1), default=2, show_default=True, metavar="N", help="About each page."
)
@click.option(
    "--language", type=click.Choice(["auto", "zh", "en"]), default="auto", show_default=True,
    help="Of the questions; auto is that of the page.",
)  # fmt: skip
@click.option(
    "--from", "by", type=click.Choice(["auto", "text", "screenshot"]), default="auto", show_default=True,
    help="What the questions are about, and what the measured model is shown; auto is the text where there is one.",
)  # fmt: skip
@FORMS
@options(ASKING)
@click.pass_context
def write_command(
    context: click.Context, /, folder: Path, questions: int, language: str, by: Any, forms: Path | None, **flags: Any
) -> int:
    """Have a model write questions about the pages, with answers and criteria.

    \b
    harness live write news --model openai --model_args model=WRITER,base_url=URL --prices in=1,out=4 --budget 5
    """
    from harness.live.write import WriteSpec, write_questions

    asker = _asker(folder, flags, context.obj or "")
    done = write_questions(WriteSpec(questions, language, by, forms), asker)
    return _say(folder / "questions.jsonl", done, _t()("{file}: {n} questions by {model}"), asker.model)


@command.command("check", short_help="Have another model answer the questions, and drop what does not hold.")
@FOLDER
@FORMS
@options(ASKING)
@click.pass_context
def check_command(context: click.Context, /, folder: Path, forms: Path | None, **flags: Any) -> int:
    """Have another model answer each question from the source and without it.

    Questions that cannot be answered from the source, have another answer there, are trivial, or can be answered
    without it are dropped, each with its reason.

    \b
    harness live check news --model openai --model_args model=CHECKER,base_url=URL
    """
    from harness.live.checking import check_questions

    asker = _asker(folder, flags, context.obj or "")
    done = check_questions(asker, forms)
    t = _t()
    code = _say(folder / "checks.jsonl", done, t("{file}: {n} questions stand, by {model}"), asker.model)
    if asker.folder.manifest["check"]["by_the_writer"]:
        notice(t("the model that checked is the one that wrote: another one would see more of its errors"))
    return code


@command.command("review", short_help="Accept, edit or reject questions in the terminal.")
@FOLDER
def review_command(folder: Path) -> None:
    """Look at each question that the check let stand: accept, edit or reject it. Each decision is on disk.

    A set may be published without; its task and its rows then say so.
    """
    from harness.live.folder import REVIEWS, LiveFolder
    from harness.live.review import waiting

    live, t = LiveFolder.of(folder), _t()
    with live.locked():
        live.repair(REVIEWS, notice)
        left = waiting(live)
        if left and not sys.stdin.isatty():
            raise UsageError("review: asks a person, in a terminal; `harness live publish` goes without, and says so")
        for number, each in enumerate(left, 1):
            if not _review(live, each, f"{number}/{len(left)}", t):
                break
        line(t("{n} questions have still to be looked at", n=f"{len(waiting(live)):,}"))


@command.command("publish", short_help="Write the task file and its rows.")
@FOLDER
@click.option("--name", required=True, metavar="NAME", help="Of the task.")
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR", help="[default: the folder task of the set]")
@click.option("--only_reviewed", is_flag=True, help="Only what a person has accepted.")
def publish_command(folder: Path, name: str, to: Path | None, only_reviewed: bool) -> None:
    """Write a task file and rows with dates and sources, which any run takes.

    \b
    harness live publish news --name news_2026
    harness --tasks news/task/news_2026.yaml --after 2026-06 --model hf --model_args pretrained=DIR
    """
    from harness.live.folder import LiveFolder
    from harness.live.publish import publish

    done, t = publish(LiveFolder.of(folder), name, to, only_reviewed=only_reviewed), _t()
    for path in done.tasks:
        line(str(path))
    rows, seen = f"{done.rows:,}", f"{done.reviewed:,}"
    line(t("{n} questions, {seen} of them accepted by a person", n=rows, seen=seen))
    if not done.reviewed:
        notice(
            t("no person has looked at these questions, and the task says so: harness live review {dir}", dir=folder)
        )
    if done.undated:
        notice(t("{n} of them are on pages without a date, which --after leaves out", n=f"{done.undated:,}"))


@command.command("measure", short_help="Measure a model on what was published, by judges.")
@FOLDER
@JUDGES
@JUDGE_PRICES
@click.option("--limit", "-L", type=Parsed("n", parse_limit), metavar="N", help="Rows: a count, or a fraction below 1.")
@click.option(
    "--after", type=Parsed("date", parse_date), metavar="DATE", help="Only rows that are dated later (2026-06)."
)
@click.option(
    "--before_cutoff", "cutoff", type=Parsed("date", parse_date), metavar="DATE",
    help="When the model's training data ends: rows before and after it are compared.",
)  # fmt: skip
@click.option("--output", type=click.Path(), metavar="DIR", help="Where run folders are kept. [default: runs]")
@options(ASKING)
@click.pass_context
def measure_command(context: click.Context, /, folder: Path, **flags: Any) -> int:
    """Have a model answer the published questions, and judges rate its answers by their criteria from 1 to 10.

    The score is their mean on a scale of 0 to 100 (1 is 0, 10 is 100); of several judges their agreement is told.

    \b
    harness live measure news --model hf --model_args pretrained=DIR --judge openai,model=JUDGE,base_url=URL
    """
    from harness.cli.judge import print_panel
    from harness.cli.progress import watch
    from harness.cli.run import judges_of, print_result
    from harness.judging.judged_metrics import run_judged
    from harness.live.folder import LiveFolder
    from harness.live.measure import note_measured
    from harness.live.publish import published_tasks

    flags.pop("retries")
    named = judges_of(flags)
    if not named:
        raise UsageError("measure: name who judges: --judge MODEL,K=V, once or several times")
    live = LiveFolder.of(folder)
    spec = replace(asking_spec(joined(flags), context.obj or ""), tasks=tuple(published_tasks(live)))
    (judged,) = run_judged(spec, [spec.model_args], named, watch=watch)
    print_result(judged.result)
    for each in judged.judged:
        if each.panel:
            print_panel(each.panel, _t())
    note_measured(live, judged, spec, notice)
    return int(judged.exit_code)


def asking_spec(settings: Mapping[str, Any], command_line: str) -> Any:
    """What a stage asks its model by, from its flags, joined. Raises `UsageError`."""
    from harness.run.spec import RunSpec

    if "model" not in settings:
        raise UsageError("--model: name the model that is asked (`harness plugins` lists what there is)")
    return RunSpec(**{"tasks": (), "apply_chat_template": True, **settings, "command": command_line})


def _asker(folder: Path, flags: dict[str, Any], command_line: str) -> Asker:
    from harness.cli.progress import watch
    from harness.live.ask import Asker
    from harness.live.folder import LiveFolder
    from harness.registry import load_plugins

    retries = flags.pop("retries")
    return Asker(LiveFolder.of(folder), asking_spec(joined(flags), command_line), load_plugins(), watch(), retries)


def _say(file: Path, done: Stage, text: str, model: str) -> int:
    """Tell what a stage left. Returns the exit code."""
    line(text.format(file=file, n=f"{done.kept:,}", model=model))
    t = _t()
    say_left_out(done.dropped, t)
    if done.failed:
        notice(t("the same command asks again where the model failed"))
    return int(ExitCode.SAMPLES_FAILED if done.failed else ExitCode.OK)


def say_left_out(reasons: Mapping[str, int], t: Translate) -> None:
    for reason, count in reasons.items():
        notice(t("left out: {n}, {reason}", n=f"{count:,}", reason=t(reason)))


def _review(live: LiveFolder, each: Waiting, place: str, t: Translate) -> bool:
    """Show a question and ask what becomes of it. False where the person has had enough."""
    from harness.live.review import decide

    question, page = each.question, each.page
    line(f"\n[{place}] {page.title}  {page.date or ''}  {page.source}")
    if question.by == "screenshot":
        line(str(live.path / str(page.image)))
    else:
        line(page.text if len(page.text) <= 10 * width() else page.text[: 10 * width()] + " ...")
    _show_question(question, t)
    choice = click.prompt(
        t("[a]ccept, [e]dit, [r]eject, [s]kip, [q]uit"),
        type=click.Choice(["a", "e", "r", "s", "q"]),
        show_choices=False,
    )
    if choice == "a":
        decide(live, question, "accepted")
    elif choice == "r":
        decide(live, question, "rejected", click.prompt(t("why"), default="", show_default=False))
    elif choice == "e":
        edited = _edited(question, t)
        _show_question(edited, t)
        decide(live, question, "edited", edited=edited)
    return bool(choice != "q")


def _show_question(question: LiveQuestion, t: Translate) -> None:
    line(f"\n{t('question')}: {question.question}")
    line(f"{t('answer')}: {question.answer}")
    for criterion in question.criteria:
        line(f"  - {criterion}")


def _edited(question: LiveQuestion, t: Translate) -> LiveQuestion:
    """ModelQuery for each part; an empty line leaves it as it is."""
    asked = click.prompt(t("question"), default=question.question, show_default=False)
    answer = click.prompt(t("answer"), default=question.answer, show_default=False)
    given = click.prompt(t("criteria, separated by |"), default=" | ".join(question.criteria), show_default=False)
    criteria = tuple(part.strip() for part in given.split("|") if part.strip())
    return replace(question, question=asked.strip(), answer=answer.strip(), criteria=criteria or question.criteria)
