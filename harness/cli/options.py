"""The flags that commands share, each declared once. Names are lm-eval's; dashes do as well as underscores."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.cli import values
from harness.cli.completion import complete_metrics, complete_models, complete_tasks
from harness.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


class Parsed(click.ParamType):  # type: ignore[type-arg] # generic in the newest click only
    """A flag's value, read by a function of `harness.cli.values`."""

    def __init__(self, name: str, parse: Callable[[Any], Any]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def finite(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A flag's callback: refuse what is no number, or has no end, of which click's ranges know nothing."""
    if value is not None and not math.isfinite(value):
        raise UsageError(f"--{parameter.name}: {value} is not a finite number")
    return value


PAIRS = Parsed("k=v,k=v", values.parse_pairs)
NAMES = Parsed("names", values.parse_names)
OVERRIDE = Parsed("task.key=value", values.parse_override)

TASKS = click.option(
    "--tasks", "-t", type=NAMES, multiple=True, metavar="NAMES", shell_complete=complete_tasks,
    help="Tasks, groups, tags or patterns: ceval,cmmlu:lm_eval/*law* (`harness tasks` lists them).",
)  # fmt: skip
MODEL_OPTIONS = [
    click.option(
        "--model", "-M", "-m", metavar="NAME", shell_complete=complete_models,
        help="Model plugin: hf, openai, ... [default: demo]",
    ),
    click.option(
        "--model_args", "-a", type=PAIRS, multiple=True, metavar="K=V,...",
        help="Its arguments, or a JSON object: pretrained=DIR,dtype=bfloat16.",
    ),
    click.option(
        "--batch_size", "-b", type=Parsed("n|auto", values.parse_batch_size), metavar="N|auto",
        help="Rows at once. [default: auto]",
    ),
    click.option("--max_batch_size", type=click.IntRange(min=1), metavar="N", help="The most that auto may choose."),
    click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:0, mps. [default: auto]"),
]  # fmt: skip
PROMPT_OPTIONS = [
    click.option(
        "--modify", type=Parsed("name", values.parse_modifier), multiple=True, metavar="NAME[=VALUE]",
        help="Ask in another way: circular, shuffle_options, paraphrase, no_question, no_image, repeats=5.",
    ),
    click.option("--num_fewshot", "-f", type=click.IntRange(min=0), metavar="N", help="Examples before each question."),
    click.option(
        "--fewshot_sampler", type=click.Choice(["default", "once", "lm_eval"]),
        help="How examples are drawn; lm_eval repeats a number that lm-eval gave. [default: default]",
    ),
    click.option(
        "--apply_chat_template", type=Parsed("name", values.parse_template), is_flag=False, flag_value="true",
        metavar="[NAME]", help="Ask by the model's chat template, or by the one of this name.",
    ),
    click.option("--system_instruction", metavar="TEXT", help="System prompt."),
    click.option(
        "--thinking", type=click.Choice(["on", "off", "auto"]),
        help="Whether the model reasons before it answers; refused where its template cannot say so. [default: auto]",
    ),
    click.option("--reasoning_effort", metavar="WORD", help="How much it reasons: low, medium, high."),
    click.option(
        "--thinking_budget", type=click.IntRange(min=1), metavar="N",
        help="Tokens of reasoning at most; hf and vllm close the block there, a server is told.",
    ),
    click.option(
        "--fewshot_as_multiturn", type=Parsed("true|false", values.parse_switch), is_flag=False, flag_value="true",
        metavar="[BOOL]", help="Examples as turns of the chat. [default: true]",
    ),
    click.option(
        "--gen_kwargs", type=PAIRS, multiple=True, metavar="K=V,...",
        help="Generation parameters over the tasks' own: temperature=0.6,max_gen_toks=512.",
    ),
    click.option(
        "--seed", type=Parsed("n", values.parse_seed), metavar="N",
        help="Draws examples and samples; of lm-eval's four seeds the last. [default: 1234]",
    ),
    click.option(
        "--set", "overrides", type=OVERRIDE, multiple=True, metavar="TASK.KEY=VALUE",
        help="Change one key of one task: cmmlu.num_fewshot=3. Repeatable.",
    ),
]  # fmt: skip
SPENDING = [
    click.option(
        "--prices", type=Parsed("in=..,out=..", values.parse_token_prices), metavar="FILE|in=..,out=..",
        help="Of a million tokens, with cached= for those that were cached, batch=0.5 for the part that --batch_api "
        "costs: then the cost is in the report.",
    ),
    click.option(
        "--budget", type=click.FloatRange(min=0, min_open=True), metavar="MONEY",
        help="Stop, with exit code 2, before the answers cost more, those of users and judges among them; the same "
        "command goes on. Needs --prices.",
    ),
    click.option(
        "--budget_tokens", type=click.IntRange(min=1), metavar="N", help="The same for tokens of prompts and answers."
    ),
    click.option(
        "--batch_api", is_flag=True, default=None,
        help="Ask by the server's batch API: half the price, up to a day. The command can be left; the same goes on.",
    ),
]  # fmt: skip
METRICS = click.option(
    "--metrics", type=Parsed("names", values.parse_metrics), multiple=True, metavar="NAMES",
    shell_complete=complete_metrics,
    help="Also report these, where they can score a task: ece,pass_at_k(k=8) (`harness plugins` lists them).",
)  # fmt: skip
JUDGES = click.option(
    "--judge", "judges", type=Parsed("model,k=v", values.parse_judge), multiple=True, metavar="MODEL[,K=V...]",
    help="The model that scores what tasks leave to a judge (`metric: judge`). Several: their mean.",
)  # fmt: skip
JUDGE_PRICES = click.option(
    "--judge_prices", type=Parsed("in=..,out=..", values.parse_token_prices), multiple=True,
    metavar="FILE|in=..,out=..", help="As --prices, of the judge's tokens. Once, or once for each --judge.",
)  # fmt: skip
USER_MODEL = click.option(
    "--user_model", type=Parsed("model,k=v", values.parse_judge), metavar="MODEL[,K=V...]",
    help="The model that plays the user, in tasks whose conversations have one.",
)  # fmt: skip
INCLUDE_PATH = click.option(
    "--include_path", type=click.Path(), multiple=True, metavar="DIR", help="A folder of task files. Repeatable."
)
TRUST = [
    click.option(
        "--trust_task_code", type=click.Path(), multiple=True, metavar="DIR",
        help="Run the Python of task files in this folder (`!function`) in a sandbox. Repeatable. [default: none]",
    ),
    click.option(
        "--trust_task_code_in_process", type=click.Path(), multiple=True, metavar="DIR",
        help="The same without a sandbox, for code that needs the network or other folders: it can do all you can.",
    ),
]  # fmt: skip
LOG_TO = Parsed("logger,k=v", values.parse_log_target)
DATA_OPTIONS = [
    INCLUDE_PATH,
    *TRUST,
    click.option(
        "--data", type=click.Path(), multiple=True, metavar="DIR",
        help="A mirror of data sets, asked before any hub. Repeatable; also HARNESS_DATA.",
    ),
    click.option("--hub", type=click.Choice(["hf", "modelscope"]), help="Where rows come from. [default: hf]"),
    click.option("--offline", is_flag=True, default=None, help="Never use the network."),
]  # fmt: skip


def options(*several: Decorator[Any] | Sequence[Decorator[Any]]) -> Decorator[Any]:
    """Join options, in the order in which `--help` shows them."""
    flat = [option for item in several for option in (item if isinstance(item, Sequence) else [item])]

    def decorate(command: Any) -> Any:
        for option in reversed(flat):
            command = option(command)
        return command

    return decorate


def joined(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, under the names of `RunSpec`'s fields: repeated flags are joined, absent ones left out."""
    settings = {name: value for name, value in given.items() if value is not None and value != ()}
    if "tasks" in settings:
        settings["tasks"] = tuple(dict.fromkeys(name for names in settings["tasks"] for name in names))
    for name in ("model_args", "gen_kwargs"):
        if name in settings:
            settings[name] = {key: value for pairs in settings[name] for key, value in pairs.items()}
    if "metrics" in settings:
        settings["metrics"] = without_repetitions(entry for entries in settings["metrics"] for entry in entries)
    if "overrides" in settings:
        by_task: dict[str, dict[str, Any]] = {}
        for task, key, value in settings["overrides"]:
            by_task.setdefault(task, {})[key] = value
        settings["overrides"] = by_task
    return settings


def without_repetitions(entries: Iterable[Any]) -> tuple[Any, ...]:
    """What was given, in its order, each once: names, and entries with options, which no set can hold."""
    kept: list[Any] = []
    for entry in entries:
        kept += [] if entry in kept else [entry]
    return tuple(kept)


def with_environment(settings: dict[str, Any]) -> dict[str, Any]:
    """Add what the environment says where neither a flag nor a file did."""
    if "data" not in settings and os.environ.get("HARNESS_DATA"):
        folders = os.environ["HARNESS_DATA"].split(os.pathsep)
        settings = {**settings, "data": tuple(folder for folder in folders if folder)}
    if "sandbox" not in settings and os.environ.get("HARNESS_SANDBOX"):
        settings = {**settings, "sandbox": os.environ["HARNESS_SANDBOX"]}
    return settings


def checked_folders(settings: Mapping[str, Any]) -> None:
    """Refuse a folder of tasks or data that is not there. Raises `UsageError`."""
    for name in ("data", "include_path"):
        for folder in settings.get(name, ()):
            if not Path(folder).is_dir():
                raise UsageError(f"--{name}: there is no folder '{folder}'")
