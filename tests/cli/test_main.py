"""Every way out of the command line: one line of error, and an exit code that means something."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len, set_cell_size

from harness.cli import plugins, schema
from harness.cli.main import COMMANDS, main
from harness.errors import ExitCode, UsageError
from harness.registry import load_plugins
from harness.testing import run_harness


def harness(*argv: str) -> Result:
    return CliRunner().invoke(main, list(argv))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], Result]:
    """Call a command that raises."""

    def call(error: BaseException) -> Result:
        @click.command("schema")
        def command() -> None:
            raise error

        monkeypatch.setattr(schema, "command", command)
        return harness("schema")

    return call


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--limit", "-3"], "error: --limit: '-3' is neither a count of rows"),
        (["--limit", "0"], "error: --limit: '0' is neither"),
        (["--limit", "ten"], "error: --limit: 'ten' is neither"),
        (["run", "--num-fewshot", "-1"], "error: --num_fewshot: -1 is not in the range x>=0"),
        (["--model_args", "pretrained"], "error: --model_args: 'pretrained' is not of the form key=value"),
        (["--hub", "github"], "error: --hub: 'github' is not one of 'hf', 'modelscope'"),
        (["--nm_fewshot", "3"], "error: unknown flag --nm_fewshot; did you mean '--num_fewshot'?"),
        (["--use-cache", "x"], "error: --use_cache of lm-eval is not here: every answer is kept in the run folder"),
        (["--model"], "error: Option '--model' requires an argument"),
        (["run", "demo"], "error: unexpected argument 'demo' (tasks are named by --tasks demo)"),
        (["-tasks", "demo"], "error: unexpected argument 'demo': -tasks is read as -t; write --tasks demo"),
        (
            ["gate", "--current", "c", "--baseline", "a", "b"],
            "error: unexpected argument 'b': --baseline takes one value; write it before each: --baseline b",
        ),
        (["profile", "a", "b"], "error: unexpected argument 'b' (see `harness profile --help`)"),
        (["run", "--num_fewshot", "five"], "error: --num_fewshot: 'five' is not a whole number of at least 0"),
        (
            ["gate", "--baseline", "a", "--current", "b", "--alpha", "x"],
            "error: --alpha: 'x' is not a number from 0 to 1",
        ),
        (["gate", "--baseline", "a"], "error: --current is missing"),
        (["data"], "error: `harness data` needs to know what to do: pull"),
        (["--wandb_args", "x"], "error: --wandb_args of lm-eval is not here: --log_to wandb"),
        (["-w"], "error: --write_out of lm-eval is not here: `harness show TASK` prints prompts"),
        (["--huggingface_token", "x"], "error: --huggingface_token of lm-eval is not here: HF_TOKEN"),
        (["ls", "tasks"], "error: 'ls' of lm-eval is `harness tasks` here"),
        (["tesks"], "error: unknown command 'tesks'; did you mean 'tasks'?"),
        (["ceval"], "error: unknown command 'ceval' (to run a task of this name: harness --tasks ceval)"),
        (["report"], "error: RUNS is missing"),
        (["merge"], "error: RUNS is missing: the folders of the shards"),
        (["models"], "error: unknown command 'models' (`harness help models` is the page of this name)"),
        (["new", "task", "Bad Name"], "error: NAME: 'Bad Name' must be lower-case letters"),
        (["new", "metrik", "x"], "error: there is no scaffold 'metrik'"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_4(argv: list[str], message: str) -> None:
    result = harness(*argv)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_an_error_of_ours_has_no_traceback(failing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing(UsageError("x.yaml:3: nothing here"))
    assert (result.exit_code, result.stderr) == (4, "error: x.yaml:3: nothing here\n")
    monkeypatch.setenv("HARNESS_DEBUG", "1")
    assert isinstance(failing(UsageError("seen by a developer")).exception, UsageError)


def test_ctrl_c_exits_2_with_the_command_that_goes_on(failing: Any) -> None:
    result = failing(KeyboardInterrupt())
    assert result.exit_code == ExitCode.INTERRUPTED
    assert result.stderr.strip() == "interrupted; go on with: harness schema"


def test_no_command_is_help_and_bare_flags_are_a_run() -> None:
    assert "Commands:" in harness().stdout
    assert "harness run [OPTIONS]" in harness("--tasks", "demo", "--help").stdout
    assert harness("--version").stdout.startswith("harness, version ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = harness(name, "--help")
    assert result.exit_code == 0
    assert f"harness {name}" in result.stdout


def test_plugins_says_what_is_broken_and_exits_4() -> None:
    result = harness("plugins")
    broken = [text for text in result.stdout.splitlines() if text.startswith("broken: ")]
    assert result.exit_code == (ExitCode.USAGE if broken else ExitCode.OK)
    assert "library" in result.stdout
    assert plugins.command.name == "plugins"


def test_plugins_explains_a_class_and_its_arguments() -> None:
    shown = harness("plugins", "dummy", "harness-eval/exact_match").stdout
    assert "model harness-eval/dummy (harness_plugins.models.dummy)" in shown
    assert "    mode: default 'random'" in shown
    assert "metric harness-eval/exact_match" in shown
    unknown = harness("plugins", "dumy")
    assert (unknown.exit_code, "did you mean 'dummy'?" in unknown.stderr) == (4, True)


@pytest.mark.slow
def test_help_tasks_check_and_show_import_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "datasets", "sympy")
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        "for argv in (['--help'], ['run', '--help'], ['tasks'], ['check', '--all'], ['show', 'demo_choice_zh']):\n"
        "    try: main(argv)\n"
        "    except SystemExit as done: assert not done.code, (argv, done.code)\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1:] == ["[]"], done.stderr


def test_help_loads_no_command_it_does_not_show() -> None:
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('rich', 'yaml', 'pydantic', 'jinja2', 'harness.run.runner') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_list_of_very_many_tasks_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # both lists in full
    few = harness("tasks", "demo_*").stdout
    monkeypatch.setattr("harness.cli.tasks.MANY", 0)
    assert harness("tasks", "demo_*").stdout == few
    assert "demo_choice_zh" in few


@pytest.mark.parametrize("argv", ["schema", "plugins"])
def test_a_reader_that_goes_away_is_no_error(argv: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "harness", argv]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_plugins_are_listed_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    listed = run_harness("plugins").stdout
    assert max(map(len, listed.splitlines())) <= 60
    words = set(listed.replace(",", " ").replace(";", " ").split())
    assert {item.name for item in load_plugins().provided} <= words


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 160, 200])
def test_the_list_of_tasks_breaks_no_word_and_cuts_no_title_without_a_sign(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    heading, *lines = run_harness("tasks").stdout.splitlines()
    entries = {entry["name"]: entry for entry in json.loads(run_harness("tasks", "--json").stdout)}
    names = re.split("  +", heading)
    begin = [heading.index(name) for name in names]
    cells: dict[str, dict[str, list[str]]] = {}
    name = ""
    for each in lines:
        assert cell_len(each) <= columns
        placed = [set_cell_size(each, start) for start in begin]
        parts = [each[len(one) : len(other)] for one, other in zip(placed, [*placed[1:], each], strict=True)]
        row = dict(zip(names, (part.strip() for part in parts), strict=True))
        name = row["task"] or name
        for column, cell in row.items():
            cells.setdefault(name, {}).setdefault(column, []).append(cell)
    assert cells.keys() == entries.keys()
    for name, row in cells.items():
        (title,) = filter(None, row["title"])
        assert title == entries[name]["title"] or (
            title.endswith("…") and entries[name]["title"].startswith(title[:-1].rstrip())
        )
        for column in {"ability", "language", "variants"} & row.keys():
            assert " ".join(filter(None, row[column])) == ", ".join(entries[name][column])
