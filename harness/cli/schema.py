"""`harness schema`: what an editor needs to complete and check task files."""

from __future__ import annotations

import json

import click

from harness.cli.console import line


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of task files, for editors.

    \b
    harness schema > task.schema.json
    """
    from harness.tasks.schema import json_schema

    line(json.dumps(json_schema(), ensure_ascii=False, indent=2))
