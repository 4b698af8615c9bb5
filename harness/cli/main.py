"""The console script. Commands are imported when they are called, so that `harness --help` answers at once."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from harness.cli.console import notice, open_streams, write_what_can_be_written
from harness.cli.mistakes import message_of, unknown_command
from harness.errors import ExitCode, HarnessError, Interrupted
from harness.interrupts import interrupt_as_usual, interrupt_at_once, stopped_tidily
from harness.secret import secrets_of_command, shown_command

COMMANDS = {
    "start": "Ask what you want to do, and do it.",
    "run": "Measure a model. `harness --tasks ...` is short for it.",
    "tasks": "List and filter the tasks.",
    "recipes": "List how models were measured by their makers.",
    "show": "Print the exact prompt that a model would see.",
    "check": "Check task files and plugins, offline.",
    "lm-eval-check": "Which task files of lm-eval run here, and what others lack.",
    "new": "Start a task or a plugin from a scaffold.",
    "plugins": "List plugins, models, metrics and filters.",
    "merge": "Make one run of its shards.",
    "score": "Score a run again, without the model.",
    "judge": "Let models judge the answers of a run.",
    "log": "Send a run to an experiment tracker.",
    "profile": "Where the time of a run went.",
    "report": "Print the results of a run again.",
    "export": "Write a run for other programs, the hub, or a paper's data.",
    "view": "Look at runs in a browser.",
    "compare": "Compare runs, sample by sample.",
    "gain": "What images gain, and what leaked.",
    "bench": "How fast a server is, and under how much load.",
    "verify": "Whether a served model is the model it claims to be.",
    "watch": "Measure the checkpoints of a training as they appear.",
    "gate": "Fail when a run is worse than its baseline.",
    "data": "Make a mirror of data sets.",
    "paraphrase": "Have a model say the options of tasks in other words.",
    "lite": "Choose few rows of a task that stand for all.",
    "live": "Make a dated benchmark of what was published lately.",
    "contamination": "Whether a model may have seen a benchmark.",
    "help": "Explain a topic: how a run works, task files, scores ...",
    "schema": "Print the JSON Schema of task files.",
}
GROUP_FLAGS = ("--help", "-h", "--version")


class Main(click.Group):
    """The group of all commands. Every way out ends in one of `ExitCode` and at most one line of error."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        arguments = list(sys.argv[1:] if args is None else args)
        command = shown_command(["harness", *arguments])
        # Samples are small objects without cycles: looking for garbage among them as often as usual costs a fifth of
        # the time of scoring them.
        gc.set_threshold(50_000, 20, 20)
        # Nor is there need to look for it once more as the process ends: with torch that took half a second.
        atexit.register(gc.freeze)
        # The threads of numpy's products look for work in a loop, a tenth of a second from when they are made.
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
        open_streams()
        write_what_can_be_written()
        try:
            interrupt_as_usual()
            with stopped_tidily():
                code = super().main(arguments, prog_name or "harness", complete_var, False, obj=command, **extra)
        except click.ClickException as error:
            code = _fail(_without(arguments, message_of(error, arguments)), ExitCode.USAGE)
        except (click.Abort, KeyboardInterrupt):
            code = _fail(f"interrupted; go on with: {command}", ExitCode.INTERRUPTED, quiet=True)
        except HarnessError as error:
            if _shows_tracebacks(arguments):
                raise
            text = _without(arguments, " ".join(str(error).splitlines()))
            code = _fail(text, error.exit_code, quiet=isinstance(error, Interrupted))
        except OSError as error:
            if _shows_tracebacks(arguments):
                raise
            code = _output_failed(error)
        interrupt_at_once()
        sys.exit(int(code or ExitCode.OK))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in GROUP_FLAGS:
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"harness.cli.{name.replace('-', '_')}").command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Flags of a run complete without the word `run`, as they are understood without it."""
        run = self.get_command(ctx, "run") if incomplete.startswith("-") else None
        items = super().shell_complete(ctx, incomplete)
        return items + (run.shell_complete(click.Context(run), incomplete) if run else [])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            raise click.UsageError(unknown_command(args[0], COMMANDS), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _shows_tracebacks(arguments: Sequence[str]) -> bool:
    return os.environ.get("HARNESS_DEBUG") == "1" or not {"--verbose", "-v"}.isdisjoint(arguments)


def _without(arguments: Sequence[str], message: str) -> str:
    """An error without the secrets that a command line holds: whoever made the message may not have known them."""
    for secret in secrets_of_command(arguments):
        message = secret.hide_in(message)
    return message


def _fail(message: str, code: ExitCode, *, quiet: bool = False) -> ExitCode:
    """Say why a command ends. quiet: on request, which is no error."""
    notice(message if quiet else f"error: {message}")
    return code


def _output_failed(error: OSError) -> ExitCode:
    """Errors of files have their own texts: what is left is stdout, on a full disk or after its reader went away."""
    from harness.cli.console import forget_stdout

    forget_stdout()
    if isinstance(error, BrokenPipeError):
        return ExitCode.OK
    what = f"{error.filename}: " if error.filename else "the output cannot be written: "
    return _fail(f"{what}{error.strerror or error}", ExitCode.INTERRUPTED)


@click.group(
    cls=Main,
    name="harness",
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("-", "_"),
        "max_content_width": 100,
    },
)
@click.version_option(package_name="harness-eval", prog_name="harness")
@click.pass_context
def main(context: click.Context) -> None:
    """Measure language models and vision-language models.

    \b
    harness --tasks demo                                    the embedded model on the demo tasks
    harness --tasks ceval,cmmlu --model hf --model_args pretrained=DIR
    harness tasks --language zh                             what can be measured
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
