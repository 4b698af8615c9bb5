"""`harness help`: pages that explain, of which what can be computed is computed when they are shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib import resources

import click

from harness.cli.console import line, show
from harness.errors import UsageError, suggest

FIRST = (
    "run",
    "tasks",
    "models",
    "scores",
    "modify",
    "judge",
    "live",
    "compare",
    "view",
    "trackers",
    "plugins",
    "python",
    "training",
    "machines",
    "bench",
    "flags",
    "speed",
)
"""The order in which topics are listed; others follow by name."""


@click.command("help")
@click.argument(
    "topic", required=False, shell_complete=lambda *given: [name for name in topics() if name.startswith(given[2])]
)
def command(topic: str | None) -> None:
    """Explain a TOPIC; without one, list the topics.

    \b
    harness help run
    harness help tasks
    """
    known = topics()
    if topic is None:
        for name in known:
            summary = _source(name).split("\n\n", 2)[1].replace("\n", " ")  # the first line below the title
            line(f"{name:<10}  {summary}")
        line("\nharness help TOPIC shows one, harness COMMAND --help the flags of a command")
        return
    if topic not in known:
        raise UsageError(f"there is no page '{topic}'{suggest(topic, known)} (there are: {', '.join(known)})")
    text = page(topic)
    if sys.stdout.isatty():
        from rich.markdown import Markdown

        show(Markdown(text))
    else:
        line(text.rstrip("\n"))


def topics() -> list[str]:
    """The names of all pages, those that a newcomer reads first first."""
    files = resources.files("harness.help").iterdir()
    names = {file.name.removesuffix(".md") for file in files if file.name.endswith(".md")}
    return [*(name for name in FIRST if name in names), *sorted(names - set(FIRST))]


def page(topic: str) -> str:
    """A page as Markdown, with what is computed filled in."""
    text = _source(topic)
    for mark, make in COMPUTED.items():
        if mark in text:
            text = text.replace(mark, "\n".join(make()))
    return text


def _source(topic: str) -> str:
    return (resources.files("harness.help") / f"{topic}.md").read_text(encoding="utf-8")


def task_keys() -> Iterator[str]:
    """A table of the keys of a task file, and of the entries below them."""
    from harness.tasks.schema import json_schema

    definitions = json_schema()["$defs"]
    for title, name in KEYS_OF.items():
        yield f"\n### {title}\n" if title else ""
        yield "| key | meaning |\n|---|---|"
        for key, entry in definitions[name]["properties"].items():
            default = entry.get("default")
            said = f" [default: {json.dumps(default)}]" if default not in (None, "", False, [], {}) else ""
            meaning = (str(entry.get("description", "")) + said).replace("|", "\\|")
            yield f"| `{key}` | {meaning} |"


KEYS_OF = {
    "": "TaskConfig",
    "An entry of metric_list": "MetricEntry",
    "An entry of filter_list": "FilterEntry",
    "fewshot_config": "FewshotConfig",
    "generation_kwargs": "GenerationKwargs",
    "options": "OptionsEntry",
    "example": "Example",
    "A group of tasks": "GroupConfig",
}


def flags() -> Iterator[str]:
    """Every command with its flags, as `--help` words them."""
    from harness.cli.main import COMMANDS, main

    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        below = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for inner, each in below:
            if each is not None:
                yield f"\n## harness {name} {inner}".rstrip() + f"\n\n{COMMANDS[name]}\n"
                yield from _flags_of(each)


def _flags_of(command: click.Command) -> Iterator[str]:
    context = click.Context(command)
    rows = [record for param in command.get_params(context) if (record := param.get_help_record(context))]
    yield "| flag | meaning |\n|---|---|"
    for flag, meaning in rows:
        yield f"| `{flag.replace('|', ', ')}` | {' '.join(meaning.split())} |"


def metrics() -> Iterator[str]:
    """A table of the metrics that are installed, each with the first line of its docstring."""
    from harness.registry import load_plugins

    yield "| metric | what it is |\n|---|---|"
    for item in load_plugins().provided:
        if item.kind == "metric":
            first = (item.value.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")
            yield f"| `{item.name}` | {' '.join(first.split())} |"


COMPUTED: dict[str, Callable[[], Iterator[str]]] = {
    "<!-- task keys -->": task_keys,
    "<!-- flags -->": flags,
    "<!-- metrics -->": metrics,
}
