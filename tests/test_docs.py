"""What the documents say is true: commands parse, flags exist, and the recipes do what they promise."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from harness.cli.help import COMPUTED, KEYS_OF, page, topics
from harness.cli.main import COMMANDS, main
from harness.cli.options import joined
from harness.registry import load_plugins
from harness.tasks.library import TaskLibrary
from harness.tasks.schema import json_schema
from harness.testing import run_harness

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is (if any), and its text."""

    language: str
    file: str
    text: str


def sections(name: str) -> dict[str, list[Block]]:
    """Title of a `## ` section -> its blocks."""
    parts = re.split(r"^## (.+)$", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {title: [Block(*found) for found in _FENCE.findall(text)] for title, text in pairs}


def commands(name: str) -> Iterator[str]:
    """Every line of a Markdown file that is a command of ours, wherever it stands in code."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^(?: {4}|\$ )?(harness .*|.*&& harness .*)$", text, flags=re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`(harness [^`]+)`", text)]
    for found in [*lines, *spans]:
        yield found.partition("&& ")[2] if "&& harness" in found else found


README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *(f"harness/help/{name}.md" for name in topics()))
RECIPES = [title for title in sections("CONTRIBUTING.md") if title.startswith("A ")]


def parsed(line: str) -> click.Context:
    """Parse a command line as the console script would, without running it."""
    argv = shlex.split(line.partition(" > ")[0].partition(" #")[0])[1:]
    words = ["run", *argv] if argv[0].startswith("-") and argv[0] not in ("--help", "--version") else argv
    context = main.make_context("harness", ["--tasks", "any"])
    command = main.get_command(context, words[0])
    assert command is not None, f"there is no command '{words[0]}': {line}"
    if isinstance(command, click.Group) and len(words) > 1 and not words[1].startswith("-"):
        words = words[1:] if words[1] in command.commands else ["make", *words[1:]]  # `harness lite TASKS`
        command = command.commands[words[0]]
    rest = [word for word in words[1:] if word != "..."]
    return command.make_context(words[0], rest, parent=context)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_the_documents_parses(document: str) -> None:
    found = list(commands(document))
    assert found or document.startswith("harness/help/")  # a page may explain without a command
    for line in found:
        try:
            parsed(line)
        except click.exceptions.Exit as done:  # --help
            assert done.exit_code == 0


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_task_in_the_documents_exists(document: str) -> None:
    registry = load_plugins()
    library = TaskLibrary(registry.task_folders(), registry.template_folders())
    text = (ROOT / document).read_text(encoding="utf-8")
    runs = [context for context in map(parsed, commands(document)) if context.command.name == "run"]
    names = [name for context in runs for name in joined(context.params).get("tasks", ())]
    names += re.findall(r"`((?:ceval|cmmlu)[:/][^`]+)`", text)
    for ref in library.select([name for name in names if not name.endswith(".yaml")]):
        assert library.load(ref).subsets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_flag_in_the_documents_exists(document: str) -> None:
    context = click.Context(main)
    known = {"--help", "--version", "-c", "-e"}
    for name in COMMANDS:
        command = main.get_command(context, name)
        below = command.commands.values() if isinstance(command, click.Group) else [command]
        known |= {flag for each in below if each for param in each.params for flag in param.opts}
    text = (ROOT / document).read_text(encoding="utf-8")
    ours = re.sub(r"^ +swift .*$|`swift [^`]*`", "", text, flags=re.MULTILINE)  # commands of ms-swift
    assert set(re.findall(r"(?<![\w-])--[a-z_]+", ours)) <= known


def test_the_result_table_is_of_the_demo_tasks_as_they_are() -> None:
    registry = load_plugins()
    library = TaskLibrary(registry.task_folders(), registry.template_folders())
    rows = re.findall(r"^ {4}(demo_\w+)? +(\w+)(?:, \w+)?(?: \(.*\))? +\d\.\d{4} .* \d+$", README, re.MULTILINE)
    shown: dict[str, set[str]] = {}
    for task, metric in rows:
        name = task or list(shown)[-1]
        shown.setdefault(name, set()).add(metric)
    tasks = [library.load(ref) for ref in library.select(["demo"])]
    assert shown == {task.name: {metric.metric for metric in task.scoring.metrics} for task in tasks}


def test_the_python_of_the_help_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page_text = (ROOT / "harness" / "help" / "python.md").read_text(encoding="utf-8")
    (block,) = [Block(*found) for found in _FENCE.findall(page_text)]
    for shown, tried in (
        (
            'model="hf", model_args={"pretrained": DIR}, tasks=["ceval", "cmmlu"]',
            'model="dummy", tasks=["demo_choice_zh"]',
        ),
        ('"ceval"', '"demo_choice_zh"'),
        ('"runs/NAME"', "result.path"),
        ('["runs/A", "runs/B"]', "result.path"),
    ):
        assert shown in block.text
        block = Block(block.language, block.file, block.text.replace(shown, tried))
    names: dict[str, object] = {}
    exec(block.text + "records = [*run.records()]\n", names)
    assert names["records"] and len(names["samples"]) == len(names["records"]) and len(names["values"])


def test_what_the_help_computes_is_whole() -> None:
    sources = [(ROOT / "harness" / "help" / f"{name}.md").read_text(encoding="utf-8") for name in topics()]
    assert {mark for mark in COMPUTED if any(mark in text for text in sources)} == set(COMPUTED)
    tasks, flags, scores = (page(name) for name in ("tasks", "flags", "scores"))
    definitions = json_schema()["$defs"]
    for name in KEYS_OF.values():
        for key, entry in definitions[name]["properties"].items():
            assert entry.get("description"), f"{name}.{key} has no description"
            assert f"| `{key}` |" in tasks
    for name in COMMANDS:
        assert f"## harness {name}" in flags
    for metric in load_plugins().names("metric"):
        assert f"| `{metric}` |" in scores


def test_the_help_is_listed_and_shown() -> None:
    listed = run_harness("help")
    assert [line.split()[0] for line in listed.stdout.splitlines()[: len(topics())]] == topics()
    for topic in topics():
        shown = run_harness("help", topic)
        assert shown.exit_code == 0
        assert shown.stdout.startswith("# ")
    wrong = run_harness("help", "metrcs")
    assert wrong.exit_code == 4
    assert "there is no page 'metrcs'" in wrong.stderr


def test_help_names_every_command_that_there_is() -> None:
    modules = {path.stem for path in (ROOT / "harness" / "cli").glob("*.py")}
    assert {name.replace("-", "_") for name in COMMANDS} <= modules
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help


def test_every_relative_link_leads_somewhere() -> None:
    for document in (*DOCUMENTS, "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{document} links to {target}"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment of its own, that sees what this one has: recipes may install into it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    own = folder / "bin" / "python"
    where = [str(own), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (site / "this_environment.pth").write_text(line, encoding="utf-8")
    return own


@pytest.mark.slow
@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_does_what_it_says(title: str, tmp_path: Path, python: Path) -> None:
    blocks = sections("CONTRIBUTING.md")[title]
    last = ""
    for block in blocks:
        if block.file:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        else:
            last = follow(block, tmp_path, python)
    assert last.startswith("harness check"), "a recipe ends in a check"


def follow(block: Block, folder: Path, python: Path) -> str:
    """Run the commands of a block. Returns the last one."""
    assert block.language == "bash"
    for line in block.text.splitlines():
        tool, *argv = shlex.split(line)
        if tool == "pip":
            argv = [*argv, "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
            command = [sys.executable, "-m", "pip", "--python", str(python), *argv]
        else:
            assert tool == "harness"
            command = [str(python), "-m", "harness", *argv]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return line


def test_the_chinese_readme_names_the_same_commands_and_figures() -> None:
    sister = (ROOT / "README.zh.md").read_text(encoding="utf-8")

    def commands(text: str) -> list[str]:
        lines = re.findall(r"^ {4}((?:harness|pip) .*)$", text, re.MULTILINE)
        return [line.partition(" # ")[0].strip() for line in lines]

    def figures(text: str) -> list[str]:
        return [cell for row in re.findall(r"^\|.*\|$", text, re.MULTILINE) for cell in re.findall(r"\d[\d,.]*", row)]

    def named(text: str) -> set[str]:
        return set(re.findall(r"`(harness [^`]+|--[^`]+)`", text))

    assert commands(sister) == commands(README) and len(commands(README)) > 15
    assert figures(sister) == figures(README)
    numbers = [set(re.findall(r"\d+(?:[,.]\d+)+|\d{3,}", text)) for text in (sister, README)]
    assert numbers[0] - numbers[1] <= {"2000"} and not numbers[1] - numbers[0], "a figure stands in one of them alone"
    assert named(sister) - named(README) <= {"--lang zh", "--limit"}, "what it names is in the English one, too"
    assert "](README.zh.md)" in README and "](README.md)" in sister
