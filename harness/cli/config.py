"""Reads `--config FILE.yaml`: the flags of a command as YAML keys. Flags given on the command line win."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from harness.errors import UsageError, suggest


def read_config(path: str, command: click.Command, context: click.Context) -> dict[str, Any]:
    """Read the file into the same values that the flags of `command` give. Raises `UsageError` with file and line."""
    parameters = {_key(param): param for param in command.params if _key(param) not in ("config", "help")}
    given: dict[str, Any] = {}
    for key, value, line in _entries(path):
        where = f"{path}:{line}"
        param = parameters.get(key.replace("-", "_"))
        if param is None or param.name is None:
            raise UsageError(f"{where}: unknown key '{key}'{suggest(key, parameters)}")
        if value is None:
            continue
        if param.name == "tasks":
            value, changes = _tasks(value, where)
            given["overrides"] = (*given.get("overrides", ()), *changes)
        try:
            converted = _converted(param, value, context)
            given[param.name] = (*given.get("overrides", ()), *converted) if param.name == "overrides" else converted
        except (click.BadParameter, ValueError) as error:
            raise UsageError(
                f"{where}: {key}: {error.message if isinstance(error, click.BadParameter) else error}"
            ) from None
    return given


def _key(param: click.Parameter) -> str:
    return max(param.opts, key=len).lstrip("-")


def _entries(path: str) -> list[tuple[str, Any, int]]:
    """The keys of the file with their values and lines."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: cannot read '{path}': {getattr(error, 'strerror', None) or error}") from None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise UsageError(f"{path}:1: keys and values are expected, such as `model: hf`")
        return [
            (str(loader.construct_object(key)), loader.construct_object(value, deep=True), key.start_mark.line + 1)
            for key, value in node.value
        ]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{path}:{line}: not YAML: {error.problem}") from None


def _tasks(value: Any, where: str) -> tuple[list[Any], list[tuple[str, str, Any]]]:
    """Names of tasks, and the keys that a file changes beside them: `cmmlu: {num_fewshot: 3}`, `task: cmmlu` ..."""
    entries = [{name: keys} for name, keys in value.items()] if isinstance(value, Mapping) else value
    names: list[Any] = []
    changes: list[tuple[str, str, Any]] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, Mapping):
            names.append(entry)
            continue
        rest = dict(entry)
        named = {str(rest.pop("task")): rest} if "task" in rest else rest
        for name, keys in named.items():
            if not isinstance(keys, Mapping | None):
                raise UsageError(f"{where}: tasks: below '{name}' keys and values are expected, such as num_fewshot: 3")
            names.append(str(name))
            changes += [(str(name), str(key), item) for key, item in (keys or {}).items()]
    return names, changes


def _converted(param: click.Parameter, value: Any, context: click.Context) -> Any:
    if param.name == "overrides" and isinstance(value, Mapping):
        return tuple(override for task, keys in value.items() for override in _overrides(str(task), keys))
    if param.multiple:
        items = value if isinstance(value, list) else [value]
        return tuple(param.type.convert(item, param, context) for item in items)
    if isinstance(value, list | dict):
        raise ValueError("a single value is expected")
    return param.type.convert(value, param, context)


def _overrides(name: str, value: Any) -> list[tuple[str, str, Any]]:
    """(task, key, value) of `cmmlu: {num_fewshot: 3}`, or of `cmmlu.num_fewshot: 3` as `--set` has it."""
    task, _, key = name.partition(".")
    if key:
        return [(task, key, value)]
    if not isinstance(value, Mapping):
        raise ValueError(f"keys and values are expected below '{task}', such as num_fewshot: 3")
    return [(task, inner, item) for inner, item in value.items()]
