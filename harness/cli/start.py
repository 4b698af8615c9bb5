"""`harness start`: asks what a newcomer wants, shows the command that does it, and runs it.

Whatever it asks can be given as a flag. Without a terminal nothing is asked: what is missing is an error that names its
flag.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.completion import complete_runs, complete_tasks
from harness.cli.console import line, show, width
from harness.cli.this_machine import LocalModel, local_gpus, local_mirrors, local_models, local_runs
from harness.errors import UsageError, suggest
from harness.quick import dataclass

if TYPE_CHECKING:
    from harness.tasks.library import TaskEntry

Translate = Callable[..., str]
GOALS = ("evaluate", "compare", "judge", "benchmark")
_MOST = 9  # of a kind that a list shows
_KNOWN = ("cmmlu", "ceval", "mmlu", "gsm8k", "ifeval", "mmmu")
"""What most people ask for first, where their rows are not here yet."""
_LEAST_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Answers:
    """What the flags say. Empty where they say nothing."""

    model: str = ""
    tasks: str = ""
    limit: str = ""
    runs: tuple[str, ...] = ()
    rubric: str = ""
    name: str = ""
    rows: str = ""
    data: tuple[Path, ...] = ()


@click.command("start")
@click.option("--goal", metavar="|".join(GOALS), help="What is to be done.")
@click.option(
    "--model",
    metavar="NAME|DIR|URL",
    help="demo, a model of a hub or folder, or a server's address and model: URL,NAME.",
)
@click.option(
    "--tasks",
    "-t",
    metavar="NAMES",
    shell_complete=complete_tasks,
    help="The benchmarks, as `harness --tasks` takes them.",
)
@click.option("--limit", "-L", metavar="N|all", help="How many rows of each subset.")
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="RUN",
    shell_complete=complete_runs,
    help="The run that is judged, or one of two to compare. Repeatable.",
)
@click.option("--rubric", metavar="NAME", help="What is judged.")
@click.option("--name", metavar="NAME", help="Of the new benchmark.")
@click.option("--from", "rows", metavar="FILE|none", help="The rows of the new benchmark, if there are some.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="A mirror of data sets. Repeatable; also HARNESS_DATA.",
)
@click.option("--yes", "-y", is_flag=True, help="Run the command without asking.")
@click.option("--lang", metavar="en|zh", help="[default: by the locale]")
def command(
    goal: str | None, data: tuple[Path, ...], yes: bool, lang: str | None, **flags: str | tuple[str, ...] | None
) -> None:
    """Start here: say what you want, look at the command that does it, and run it.

    \b
    harness start
    harness start --goal evaluate --model demo --tasks demo --limit 20 --yes
    harness start --lang zh
    """
    from harness.words import locale_language, translator

    t = translator(locale_language(lang))
    given = Answers(**{name: value for name, value in flags.items() if value}, data=data)  # type: ignore[arg-type]
    for folder in data:
        if not folder.is_dir():
            raise UsageError(t("--data: there is no folder '{folder}'", folder=folder))
    if goal is not None and goal not in GOALS:
        raise UsageError(
            t("--goal: '{goal}' is none of {goals}", goal=goal, goals=", ".join(GOALS)) + suggest(goal, GOALS)
        )
    ask = Interview(t)
    goal = goal or ask.one_of(
        t("What do you want to do?"),
        [
            ("evaluate", t("measure a model on benchmarks")),
            ("compare", t("compare two runs, question by question")),
            ("judge", t("let a model judge the answers of a run")),
            ("benchmark", t("start a benchmark of your own")),
        ],
        "--goal",
    )
    _finish(
        {"evaluate": _evaluate, "compare": _compare, "judge": _judge, "benchmark": _benchmark}[goal](given, ask),
        yes,
        ask,
    )


class Interview:
    """Asks on a terminal. Without one, `UsageError` names the flag that answers."""

    def __init__(self, t: Translate) -> None:
        self.t = t

    @property
    def can_ask(self) -> bool:
        return sys.stdin.isatty()

    def one_of(
        self, title: str, options: Sequence[tuple[str, str]], flag: str, *, free: str = "", numbers: bool = False
    ) -> str:
        """One of (value, explanation), by its number or itself. free: what else may be typed, in words; of numbers,
        those that are no option's.
        """
        self._need(flag, "|".join(value for value, _ in options))
        line()
        line(title)
        for number, (value, about) in enumerate(options, 1):
            _wrapped(f"{number:>2}  {value}", about)
        if free:
            _wrapped("    ", free)
        while True:
            typed = click.prompt(">", prompt_suffix=" ", default="1", show_default=False).strip()
            if typed.isdecimal() and 1 <= int(typed) <= len(options):
                return options[int(typed) - 1][0]
            if typed in dict(options) or (free and typed and typed.isdecimal() == numbers and typed != "0"):
                return str(typed)
            line(self.t("a number from 1 to {n}, please", n=len(options)))

    def text(self, title: str, flag: str, default: str = "") -> str:
        """A line of text; the default where nothing is typed."""
        self._need(flag, "")
        line()
        line(title)
        return str(click.prompt(">", prompt_suffix=" ", default=default, show_default=bool(default))).strip()

    def yes(self, title: str) -> bool:
        return bool(click.confirm(title, default=True))

    def _need(self, flag: str, choices: str) -> None:
        if not self.can_ask:
            raise UsageError(self.t("there is no terminal to ask on: say {flag}", flag=f"{flag} {choices}".rstrip()))


def _wrapped(head: str, about: str) -> None:
    """A choice and what it is, which stands below where the line is too narrow for both."""
    from rich.cells import cell_len
    from rich.padding import Padding
    from rich.text import Text

    from harness.terminal import visible

    if about and cell_len(head) + cell_len(about) + 3 <= max(_LEAST_WIDTH, width()):
        line(f"{head}   {about}" if head.strip() else f"{head}{about}")
        return
    if head.strip():
        line(head)
    if about:
        show(Padding(Text(visible(about)), (0, 0, 0, 4)))


def _evaluate(given: Answers, ask: Interview) -> list[str]:
    t = ask.t
    models, gpus, mirrors = local_models(), local_gpus(), local_mirrors(given.data)
    if ask.can_ask:
        line(t("GPUs: {what}", what="; ".join(gpus) or t("none; a small model runs on the CPU")))
        line(t("Mirrors of data sets: {what}", what=", ".join(map(str, mirrors)) or t("none")))
    chosen = given.model or _ask_model(ask, models)
    flags = _model_flags(chosen, models, t)
    sees = "hf_vlm" in flags or any(model.name == chosen and model.sees for model in models)
    tasks = given.tasks or _ask_tasks(ask, mirrors, sees=sees)
    limit = given.limit or ask.one_of(
        t("How many rows of each subset?"),
        [
            ("20", t("a first look within minutes; the numbers are rough")),
            ("all", t("all: the numbers that can be cited")),
        ],
        "--limit",
        free=t("or any number"),
        numbers=True,
    )
    data = [part for folder in mirrors for part in ("--data", str(folder))]
    return ["--tasks", tasks, *flags, *(["--limit", limit] if limit != "all" else []), *data]


def _ask_model(ask: Interview, models: Sequence[LocalModel], *, judges: bool = False) -> str:
    t = ask.t
    options = [] if judges else [("demo", t("a tiny model that comes along: shows how it goes, in a minute"))]
    kinds = {True: t("sees pictures"), False: t("text")}
    options += [(model.name, f"{kinds[model.sees]}, {t(model.place)}") for model in models[:_MOST]]
    options.append(("server", t("a model behind an OpenAI-compatible address (vLLM, SGLang, Ollama, a provider)")))
    free = t("or the folder or the hub id of another model")
    chosen = ask.one_of(t("Which model judges?") if judges else t("Which model?"), options, "--model", free=free)
    if chosen != "server":
        return chosen
    url = ask.text(t("Its address, such as http://localhost:8000/v1"), "--model")
    name = ask.text(t("The name of the model there"), "--model")
    return f"{url},{name}"


def _model_flags(chosen: str, models: Sequence[LocalModel], t: Translate) -> list[str]:
    """The flags of a run for what was chosen."""
    if chosen in ("demo", ""):
        return []
    if re.match(r"https?://", chosen):
        url, _, name = chosen.rpartition(",")
        if not url or not name:
            raise UsageError(t("--model {model}: a server needs the name of its model too: URL,NAME", model=chosen))
        return ["--model", "openai", "--model_args", f"base_url={url},model={name}"]
    known = next((model for model in models if model.name == chosen), None)
    plugin = known.plugin if known else "hf"
    return ["--model", plugin, "--model_args", f"pretrained={chosen}"]


def _ask_tasks(ask: Interview, mirrors: Sequence[Path], *, sees: bool) -> str:
    from harness.cli.tasks import is_offline, open_library

    t = ask.t
    entries = [entry for entry in open_library(()).entries() if not entry.name.startswith("demo")]
    here = [entry for entry in entries if is_offline(entry, mirrors) and _fits(entry, sees=sees)]
    shown = [(entry.name, f"{entry.title}; {t('its rows are here')}") for entry in here[:_MOST]]
    names = {entry.name for entry in here}
    away = [entry for entry in entries if entry.name in _KNOWN and entry.name not in names and _fits(entry, sees=sees)]
    shown += [(entry.name, f"{entry.title}; {t('its rows come from a hub')}") for entry in away]
    demo = "demo_vision" if sees else "demo"
    options = [(demo, t("tasks that come along, for a first try")), *shown]
    free = t("or other names, with commas between; `harness tasks` lists them all")
    return ask.one_of(t("Which benchmarks?"), options, "--tasks", free=free)


def _fits(entry: TaskEntry, *, sees: bool) -> bool:
    return sees or not entry.modality or set(entry.modality) <= {"text"}


def _ask_run(ask: Interview, title: str, *, but: Sequence[str] = ()) -> str:
    runs = [run for run in local_runs() if run.kind != "judgement" and str(run.path) not in but]
    if not runs and not but:
        raise UsageError(ask.t("there are no finished runs in 'runs' yet; `harness --tasks demo` makes a first one"))
    if not runs:
        raise UsageError(ask.t("there is only one finished run in 'runs'; another one is needed to compare it with"))
    options = [(str(run.path), f"{run.title}: {run.told}") for run in runs[:_MOST]]
    return ask.one_of(title, options, "--run", free=ask.t("or the folder of another run"))


def _compare(given: Answers, ask: Interview) -> list[str]:
    runs = list(given.runs)
    if not runs:
        runs.append(_ask_run(ask, ask.t("Which run is the baseline?")))
    if len(runs) < 2:
        runs.append(_ask_run(ask, ask.t("Which run is compared with it?"), but=runs))
    return ["compare", *runs]


def _judge(given: Answers, ask: Interview) -> list[str]:
    t = ask.t
    run = given.runs[0] if given.runs else _ask_run(ask, t("Which run is judged?"))
    rubric = given.rubric or ask.one_of(
        t("What is judged?"),
        [
            ("correctness_en", t("whether an answer is right, by the reference (English)")),
            ("correctness_zh", t("whether an answer is right, by the reference (Chinese)")),
            ("quality_en", t("how good an answer is, from 1 to 10 (English)")),
            ("quality_zh", t("how good an answer is, from 1 to 10 (Chinese)")),
        ],
        "--rubric",
    )
    models = local_models()
    flags = _model_flags(given.model or _ask_model(ask, models, judges=True), models, t)
    return ["judge", run, "--rubric", rubric, *(flags or ["--model", "demo"])]


def _benchmark(given: Answers, ask: Interview) -> list[str]:
    t = ask.t
    name = given.name or ask.text(t("Its name: lower-case letters, digits and _"), "--name", "my_task")
    rows = given.rows or ask.text(t("A file of questions (CSV, JSON lines, Excel as CSV), or none"), "--from", "none")
    return ["new", "task", name, *(["--from", rows] if rows != "none" else [])]


def _finish(argv: Sequence[str], yes: bool, ask: Interview) -> None:
    """Show the command, and run it where that is wanted."""
    if ask.can_ask:
        line()
        line(ask.t("This does it:"))
    line(f"harness {shlex.join(argv)}")
    if not yes and not ask.can_ask:
        line(ask.t("(--yes runs it)"))
        return
    if yes or ask.yes(ask.t("Run it now?")):
        from harness.cli.main import main

        sys.stdout.flush()
        main.main(list(argv), windows_expand_args=os.name == "nt")
