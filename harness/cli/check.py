"""`harness check`: finds what is wrong with task files and plugins before a run does. Needs neither data nor models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import counted, line, notice
from harness.cli.options import INCLUDE_PATH, checked_folders
from harness.errors import ExitCode, HarnessError, MachineError, UsageError, one_line
from harness.tasks.recipe_files import is_recipe, load_recipe, recipe_files

if TYPE_CHECKING:
    from harness.metrics import Metric
    from harness.registry import Provided, Registry
    from harness.tasks.library import TaskEntry, TaskLibrary, TaskRef


@click.command("check")
@click.argument("targets", nargs=-1, metavar="[TASK|FILE|FOLDER|PACKAGE]...")
@click.option("--all", "everything", is_flag=True, help="All tasks and all plugins that are installed.")
@click.option(
    "--data",
    type=click.Path(),
    multiple=True,
    metavar="DIR",
    help="Also build every row that the tasks ask, from these mirrors, and say what the rows are like.",
)
@INCLUDE_PATH
def command(targets: tuple[str, ...], everything: bool, data: tuple[str, ...], include_path: tuple[str, ...]) -> int:
    """Check tasks (with all their variants), task files, recipes, or the plugins and tasks of a package. Offline.

    Of a task: keys, templates, metrics and filters, and that its `example` gives the prompt and the scores it states,
    also with its options at other places.
    Of a plugin: that it loads, and, where a PACKAGE is named, that its metrics, filters, models and
    modifiers keep their contract. Of the rows of a task (--data): that each can be asked and has a gold answer within
    its options, that they are as many as its authors published, which answers are right how often, and which rows
    should be looked at: empty or equal options, ids and rows that are there twice. Exits 4 when something is wrong.

    \b
    harness check my_task.yaml
    harness check ceval cmmlu
    harness check ceval --data MIRROR
    harness check --all
    """
    if not targets and not everything:
        raise UsageError("name tasks, files, folders or packages to check, or say --all")
    checked_folders({"include_path": include_path, "data": data})
    from harness.registry import load_plugins

    checker = Checker(load_plugins(), [Path(folder) for folder in include_path], data)
    problems = list(dict.fromkeys(checker.check_everything() if everything else checker.check(targets)))
    for problem in problems:
        line(problem)
    for note in dict.fromkeys(checker.notes):
        notice(note)
    recipes = f", {counted(checker.recipes, 'recipe')}" if checker.recipes else ""
    checked = f"{counted(checker.tasks, 'task')}{recipes} and {counted(checker.plugins, 'plugin')} checked"
    line(f"{checked}: {counted(len(problems), 'problem') if problems else 'no problems'}")
    return ExitCode.USAGE if problems else ExitCode.OK


@dataclass
class Checker:
    """Counts what it checks; yields problems, one line each."""

    registry: Registry
    include: Sequence[Path]
    mirrors: tuple[str, ...] = ()
    tasks: int = 0
    plugins: int = 0
    recipes: int = 0
    notes: list[str] = field(default_factory=list)

    def check_everything(self) -> Iterator[str]:
        for package in dict.fromkeys(plugin.package for plugin in self.registry.plugins):
            yield from self._package(package, thorough=False)
        for folder in self.include:
            yield from self._folder(folder)

    def check(self, targets: Sequence[str]) -> Iterator[str]:
        packages = {_dashed(plugin.package): plugin.package for plugin in self.registry.plugins}
        for target in targets:
            if _dashed(target) in packages:
                yield from self._package(packages[_dashed(target)], thorough=True)
            elif Path(target).is_dir():
                yield from self._folder(Path(target))
            elif is_recipe(target):
                yield from self._recipes([Path(target)])
            else:
                yield from self._expressions([target], self._library(self.include))

    def _package(self, package: str, *, thorough: bool) -> Iterator[str]:
        """The plugins of a package, what they brought, and its tasks. `thorough`: have its classes work."""
        self.registry.load_all()
        for plugin in self.registry.plugins:
            if plugin.package == package:
                self.plugins += 1
                if plugin.error:
                    yield f"plugin {plugin.name} of {package} could not be loaded: {plugin.error}"
        for item in self.registry.provided:
            if thorough and item.plugin.package == package and not _needs_arguments(item.value):
                yield from self._kept_contract(item)
        yield from self._entries(self._library([]), lambda entry: entry.package == package)
        folders = [(name, folder) for name, folder in self.registry.task_folders() if name == package]
        yield from self._recipes([path for _, path in recipe_files(folders)])

    def _kept_contract(self, item: Provided) -> Iterator[str]:
        """Hold what a plugin brought against its contract, by its defaults. A family of metrics has none of its own."""
        from harness.testing import check_filter, check_model, check_modifier

        checks: dict[str, Callable[[Any], Iterable[str]]] = {
            "metric": self._metric,
            "filter": check_filter,
            "model": check_model,
            "modifier": check_modifier,
        }
        if item.kind not in checks or (item.kind == "metric" and item.value.member("any") is not None):
            return
        try:
            made = item.value()
        except (ValueError, HarnessError) as error:  # it wants an option that its signature does not
            self.notes.append(f"{item.kind} '{item.name}' was not checked: {one_line(error)}")
        except Exception as error:
            yield f"{item.kind} '{item.name}': cannot be made: {type(error).__name__}: {one_line(error)}"
        else:
            yield from checks[item.kind](made)

    def _recipes(self, paths: Sequence[Path]) -> Iterator[str]:
        """Recipes: their keys, and that there is each task, variant and score that they name."""
        from harness.cli.values import parse_judge
        from harness.run.recipes import recipe_problems

        library = self._library(self.include)
        for path in paths:
            self.recipes += 1
            try:
                recipe = load_recipe(path)
                if "judge" in recipe:
                    self.registry.model(parse_judge(recipe["judge"])[0])
                problems = recipe_problems(recipe, library, self.registry)
                yield from (f"{path}: {problem}" for problem in problems)
            except ValueError as error:
                yield f"{path}: judge: {error}"
            except HarnessError as error:
                yield str(error)

    def _metric(self, made: Metric) -> Iterator[str]:
        from harness.metrics import MetricOptions
        from harness.testing import check_metric

        try:
            made.prepare(MetricOptions())
        except MachineError as error:
            self.notes.append(f"metric '{made.name}' was not checked: {error}")
            return
        yield from check_metric(made)

    def _folder(self, folder: Path) -> Iterator[str]:
        inside = folder.resolve()
        yield from self._entries(
            self._library([folder]), lambda entry: Path(entry.path).resolve().is_relative_to(inside)
        )
        yield from self._recipes([path for _, path in recipe_files([("", folder)])])

    def _entries(self, library: TaskLibrary, wanted: Callable[[TaskEntry], bool]) -> Iterator[str]:
        names = [
            f"{entry.package}/{entry.name}" if entry.package else entry.name
            for entry in filter(wanted, library.entries())
        ]
        yield from (entry.error for entry in library.broken if wanted(entry))
        yield from self._expressions(names, library)
        for group in filter(wanted, library.groups()):
            yield from self._group(f"{group.package}/{group.name}" if group.package else group.name, library)

    def _expressions(self, expressions: Sequence[str], library: TaskLibrary) -> Iterator[str]:
        """Tasks as they are named, and all variants of those that are named without one."""
        from harness.judging.judged_metrics import check_rubrics
        from harness.run.check import check_groups, check_task

        refs = library.select(expressions)
        for ref in refs:
            self.tasks += 1
            variants = () if ref.variant else library.entry(ref).variants
            for each in (ref, *(replace(ref, variant=variant) for variant in variants)):
                yield from check_task(library, each, self.registry, self.notes.append)
                yield from check_rubrics(library, each, self.registry)
            if self.mirrors:
                yield from self._rows(ref, library)
        yield from check_groups(library, refs, self.registry)

    def _rows(self, ref: TaskRef, library: TaskLibrary) -> Iterator[str]:
        """Print what the rows of a task are like; yield what makes them unfit."""
        from harness.data.open import open_dataset
        from harness.tasks.build_options import BuildOptions
        from harness.tasks.row_report import report_rows

        options = BuildOptions(mirrors=self.mirrors, offline=True)
        try:
            task = library.load(ref)
            report = report_rows(task, lambda spec, split: open_dataset(spec, split, self.registry.hook), options)
        except HarnessError as error:
            yield f"{ref.full_name}: its rows were not checked: {error}"
            return
        for text in report.lines():
            line(text)
        unfit = sum(map(len, report.problems.rows.values()))
        if unfit:
            yield f"{report.task}: {counted(unfit, 'row')} cannot be used"
        if report.count_differs:
            yield f"{report.task}: {counted(report.rows, 'row')}, and its authors published {report.published}"

    def _group(self, name: str, library: TaskLibrary) -> Iterator[str]:
        """A group whose tasks are checked on their own: that they are there, and have what it asks for."""
        from harness.run.check import check_groups

        try:
            yield from check_groups(library, library.select([name]), self.registry)
        except HarnessError as error:
            yield str(error)

    def _library(self, include: Sequence[Path]) -> TaskLibrary:
        from harness.tasks.library import TaskLibrary

        return TaskLibrary(self.registry.task_folders(), self.registry.template_folders(), include)


def _needs_arguments(value: type) -> bool:
    """Whether a metric or model cannot be made as it is: such a one is checked where a task or a run names it."""
    parameters = inspect.signature(value).parameters.values()
    return any(p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)


def _dashed(name: str) -> str:
    return name.lower().replace("_", "-")
