"""`harness recipes`: how models were measured by those who made them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from harness.cli.console import counted, line, long_table, notice, show, table
from harness.cli.options import INCLUDE_PATH, checked_folders
from harness.errors import ExitCode, HarnessError


@click.command("recipes")
@click.argument("name", required=False, metavar="[NAME]")
@INCLUDE_PATH
@click.option("--json", "as_json", is_flag=True, help="Everything that the recipes say, as JSON.")
def command(name: str | None, include_path: tuple[str, ...], as_json: bool) -> int:
    """List the recipes, or show what the one of this NAME says: settings, tasks, published values and their source.

    \b
    harness recipes
    harness recipes deepseek_r1
    """
    from harness.registry import load_plugins
    from harness.tasks.recipe_files import find_recipe, load_recipe, recipe_files

    checked_folders({"include_path": include_path})
    folders = [*load_plugins().task_folders(), *(("", Path(folder)) for folder in include_path)]
    if name is not None:
        line(json.dumps(find_recipe(name, folders), ensure_ascii=False, indent=2))
        return ExitCode.OK
    recipes, problems = [], []
    for _, path in recipe_files(folders):
        try:
            recipes.append(load_recipe(path))
        except HarnessError as error:
            problems.append(str(error))
    if as_json:
        line(json.dumps(recipes, ensure_ascii=False, indent=2))
    else:
        rows = [[each["recipe"], each["title"], each["date"], ", ".join(each["tasks"])] for each in recipes]
        columns = ["recipe", "model", "date", "tasks"]
        if sys.stdout.isatty():
            show(table(columns, rows, shortened=["model", "tasks"]))
        else:
            line(long_table(columns, rows))
    for problem in problems:
        notice(problem)
    if not as_json:
        notice(f"{counted(len(recipes), 'recipe')}; `harness --recipe NAME --model ...` measures by one")
    return ExitCode.USAGE if problems else ExitCode.OK
