"""The keys of a task file replaced by others: those of a variant, of the command line, of modifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError, PluginError, UsageError, one_line, suggest
from harness.modifiers import Modifier
from harness.plugin_values import mapping
from harness.tasks.schema import validate_task
from harness.tasks.yaml_file import Document, FileLine, KeyPath, part_of
from harness.types import JSON

# In a variant, these mappings are merged into the task's own; all else, lists too, replaces what was there.
_MERGED = ("generation_kwargs", "fewshot_config", "metadata", "renewal")
# A variant that changes one of these words the question itself: the task's paraphrases are not of its question.
_WORDING = frozenset({"doc_to_text", "description", "gen_prefix"})


def pick_variant(document: Document, variant: str) -> Document:
    """The document with the keys of a variant laid over it. Raises `UsageError` and `TaskError`."""
    variants = document.data.get("variants")
    known = variants if isinstance(variants, dict) else {}
    if variant not in known:
        name = document.data.get("task")
        listed = ", ".join(known) or "none"
        raise UsageError(f"task '{name}' has no variant '{variant}'{suggest(variant, known)} (it has: {listed})")
    changes = known[variant]
    if not isinstance(changes, dict):
        raise document.error(("variants", variant), f"variants.{variant}: should be a mapping of keys to override")
    if "variants" in changes or "task" in changes or "include" in changes:
        key = next(key for key in ("variants", "task", "include") if key in changes)
        raise document.error(("variants", variant, key), f"key '{key}' cannot stand in a variant")
    if _WORDING & changes.keys() and "paraphrases" in document.data:
        changes = {"paraphrases": None, **changes}
    return changed(document, changes, part_of(document, ("variants", variant)).places)


def overridden(document: Document, overrides: Mapping[str, JSON], at: Mapping[str, FileLine]) -> Document:
    """The document with keys replaced, `a.b` inside a mapping. at: where each stands; `--set` where it does not say."""
    name = document.data.get("task")
    for key, value in _nested(overrides).items():
        origin = at.get(key) or FileLine(Path(f"--set {name}.{key}"), 0)
        document = changed(document, {key: value}, {(): origin, (key,): origin})
    return document


def _nested(overrides: Mapping[str, JSON]) -> dict[str, JSON]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    result: dict[str, JSON] = {}
    for path, value in overrides.items():
        *outer, last = path.split(".")
        target = result
        for name in outer:
            inner = target.get(name)
            target[name] = dict(inner) if isinstance(inner, dict) else {}
            target = target[name]
        target[last] = value
    return result


def modified(document: Document, modifiers: Sequence[Modifier]) -> Document:
    """The document with the keys that modifiers replace."""
    if modifiers:
        validate_task(document)  # a modifier may trust the keys that it is shown
    for modifier in modifiers:
        try:
            keys = mapping(modifier.keys(document.data), "keys")
        except HarnessError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"modifier '{modifier.name}': {type(error).__name__}: {one_line(error)}") from error
        for key, value in keys.items():
            origin = FileLine(Path(f"--modify {modifier.label}"), 0)
            document = changed(document, {key: value}, {(): origin, (key,): origin})
    return document


def changed(document: Document, changes: Mapping[str, JSON], places: Mapping[KeyPath, FileLine]) -> Document:
    """The document with `changes` laid over it. Mappings of `_MERGED` are merged, and null there takes a key away."""
    data, where = dict(document.data), dict(document.places)
    for key, value in changes.items():
        own = data.get(key)
        if key in _MERGED and isinstance(own, dict) and isinstance(value, dict):
            merged = {**own, **value}
            data[key] = {name: item for name, item in merged.items() if item is not None}
            stale: tuple[KeyPath, ...] = tuple((key, name) for name in value)
        else:
            data[key] = value
            stale = ((key,),)
        where = {path: place for path, place in where.items() if path[:1] not in stale and path[:2] not in stale}
    for path, place in places.items():
        if path or not where:
            where[path] = place
    return replace(document, data=data, places=where)
