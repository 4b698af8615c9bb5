"""Mistakes on the command line, each in one line: the flag, what is wrong with it, and what to write."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

import click

from harness.errors import suggest

# Flags of lm-eval that would be misread as typing mistakes: what serves the same end here.
ELSEWHERE = {
    "--use_cache": "every answer is kept in the run folder: run the same command again and it goes on",
    "--cache_requests": "prompts are built in seconds, there is nothing to cache",
    "--write_out": "`harness show TASK` prints prompts",
    "--show_config": "the manifest in the run folder holds the resolved configuration",
    "--trust_remote_code": "say it to the model: --model_args trust_remote_code=true",
    "--check_integrity": "`harness check` checks tasks",
    "--verbosity": "--verbose shows the traceback of an error, --quiet writes nothing but errors beside the table",
    "--predict_only": "every run keeps its answers, and `harness score RUN` scores them again",
    "--samples": "--limit N takes the first rows, and 'where' in a task file chooses rows",
    "--metadata": "--set TASK.metadata.KEY=VALUE changes what a task file says",
    "--confirm_run_unsafe_code": "programs of a model run in a sandbox (--sandbox)",
    "--delete_requests_cache": "prompts are built in seconds, there is nothing to delete",
    "--no_cache": "every answer is kept in the run folder; another --output asks all again",
    "--huggingface_token": "HF_TOKEN in the environment is the key of the hub",
    "--decontamination_ngrams_path": "rows are not compared with training data",
    "--provide_description": "a task file has a `description`; --system_instruction TEXT is a system prompt",
    "--description_dict_path": "--set TASK.description=TEXT changes the description of one task",
    "--wandb_args": "--log_to wandb,project=NAME writes the run into W&B",
    "--wandb_config_args": "the configuration of the run goes along with --log_to wandb,project=NAME",
    "--trackio_args": "--log_to trackio,project=NAME writes the run into Trackio",
    "--hf_hub_log_args": "`harness export RUN --format hub --to DIR` writes what the hub reads, to be uploaded",
}
_SHORT = {"-c": "--use_cache", "-E": "--samples", "-w": "--write_out", "-x": "--predict_only"}
"""Short forms of such flags."""
COMMANDS_ELSEWHERE = {"ls": "harness tasks", "list": "harness tasks", "validate": "harness check"}


def message_of(error: click.ClickException, arguments: Sequence[str]) -> str:
    """click's errors in our form. `arguments`: all that was given, to see what was meant."""
    if isinstance(error, click.NoSuchOption):
        return _unknown_flag(error)
    if isinstance(error, click.MissingParameter) and error.param:
        return f"{_name(error.param)} is missing{_newest_run(error)}{_help_of(error)}"
    if isinstance(error, click.BadParameter) and error.param:
        return f"{_name(error.param)}: {_bad_value(error)}"
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and error.ctx:
        command = error.ctx.command
        names = ", ".join(command.commands) if isinstance(command, click.Group) else ""
        return f"`{error.ctx.command_path}` needs to know what to do: {names}{_help_of(error)}"
    if extra := re.search(r"unexpected extra arguments? \((.*)\)", error.format_message()):
        context = error.ctx if isinstance(error, click.UsageError) else None
        return _extra(extra[1], arguments, context.command if context else None) + _help_of(error)
    return _one_line(error.format_message()) + _help_of(error)


def unknown_command(name: str, known: Iterable[str]) -> str:
    """What was meant by a word in the place of a command."""
    if name in COMMANDS_ELSEWHERE:
        return f"'{name}' of lm-eval is `{COMMANDS_ELSEWHERE[name]}` here"
    from harness.cli.help import topics

    if name in topics():
        return f"unknown command '{name}' (`harness help {name}` is the page of this name)"
    near = suggest(name, known) or f" (to run a task of this name: harness --tasks {name})"
    return f"unknown command '{name}'{near}"


def _unknown_flag(error: click.NoSuchOption) -> str:
    name = _SHORT.get(error.option_name) or error.option_name.replace("-", "_").replace("__", "--", 1)
    known = [flag for param in error.ctx.command.params for flag in param.opts] if error.ctx else []
    if name in ELSEWHERE:
        return f"{name} of lm-eval is not here: {ELSEWHERE[name]}"
    return f"unknown flag {error.option_name}{suggest(name, known)}{_help_of(error)}"


def _extra(extra: str, arguments: Sequence[str], command: click.Command | None) -> str:
    """An argument where none is taken: most often one of a flag that lacks a dash, or that takes one value at a time,
    or a task without `--tasks`."""
    first = extra.split()[0]
    for flag, value in itertools.pairwise(arguments):
        if value == first and re.match(r"-[a-z_]{2,}$", flag):
            return f"unexpected argument '{extra}': {flag} is read as -{flag[1]}; write -{flag} {extra}"
    flags = {name: param for param in (command.params if command else ()) for name in param.opts}
    before = itertools.takewhile(lambda argument: argument != first, arguments)
    flag = next((argument for argument in reversed(list(before)) if argument.startswith("-")), "")
    if getattr(flags.get(flag), "multiple", False):
        return f"unexpected argument '{extra}': {flag} takes one value; write it before each: {flag} {first}"
    return f"unexpected argument '{extra}'" + (f" (tasks are named by --tasks {extra})" if "--tasks" in flags else "")


def _bad_value(error: click.BadParameter) -> str:
    message = _one_line(error.message)
    kind = error.param.type if error.param else None
    if isinstance(kind, click.IntRange | click.FloatRange) and "is not a valid" in message:
        number = "a whole number" if isinstance(kind, click.IntRange) else "a number"
        above = f" of at least {kind.min}" if kind.min is not None and kind.max is None else ""
        within = f" from {kind.min} to {kind.max}" if kind.min is not None and kind.max is not None else ""
        return f"{message.split(' is not a valid')[0]} is not {number}{above}{within}"
    return message


def _name(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name


def _newest_run(error: click.MissingParameter) -> str:
    """The run that was most likely meant."""
    if error.param is None or _name(error.param) not in ("RUN", "RUNS"):
        return ""
    from harness.record.manifest import newest_run

    if error.ctx and error.ctx.info_name == "merge":
        return ": the folders of the shards, or a folder that holds them, as in `harness merge runs`"
    newest = newest_run()
    return f"; the newest here is {newest}" if newest else ""


def _help_of(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" (see `{context.command_path} --help`)" if context else ""


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
