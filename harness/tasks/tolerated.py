"""What lm-eval takes in a task file although it is a slip: read as lm-eval reads it, and never without a word."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.tasks.yaml_file import Document, KeyPath
from harness.types import JSON

_FLAGS = frozenset(
    {
        *("higher_is_better", "hf_evaluate", "weight_by_size", "do_sample", "should_decontaminate"),
        *("ignore_case", "ignore_punctuation", "ignore_numbers"),
    }
)
"""Keys whose value is true or false wherever they stand."""
_SPELT = {"true": True, "false": False}


def tolerated(document: Document) -> Document:
    """The document with misspelt booleans as what is meant, and each metric once; `warnings` name what was bent."""
    document = _with_booleans(document)
    return _with_metrics_once(document)


def _with_booleans(document: Document) -> Document:
    """lm-eval takes any text for true; one that is a letter away from `true` or `false` is what was meant."""
    warnings = []

    def read(value: JSON, path: KeyPath) -> JSON:
        if isinstance(value, dict):
            return {key: read(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [read(item, (*path, index)) for index, item in enumerate(value)]
        if path and path[-1] in _FLAGS and isinstance(value, str):
            near = difflib.get_close_matches(value.strip().lower(), _SPELT, n=1, cutoff=0.75)
            if near:
                place = document.place(path)
                warnings.append(f"{place}: {path[-1]}: '{value}' is taken for {near[0]} (any text is true to lm-eval)")
                return _SPELT[near[0]]
        return value

    flagged = {key: value for key, value in document.data.items() if key not in ("example", "fewshot_config")}
    data = {**document.data, **{key: read(value, (key,)) for key, value in flagged.items()}}
    return replace(document, data=data, warnings=(*document.warnings, *warnings)) if warnings else document


def _with_metrics_once(document: Document) -> Document:
    """lm-eval keeps metrics by name: of one that is listed twice, the later entry counts, in the first one's place."""
    entries: Any = document.data.get("metric_list")
    if not isinstance(entries, list) or len(set(map(str, _names(entries)))) == len(entries):
        return document
    counts: dict[str, int] = {}
    warnings = []
    for index, name in enumerate(map(str, _names(entries))):
        if name in counts:
            first, last = (document.place(("metric_list", number)) for number in (counts[name], index))
            warnings.append(f"{last}: metric '{name}' is listed more than once; this entry counts, {first} does not")
        counts[name] = index
    kept = list(counts.values())
    places = {path: place for path, place in document.places.items() if path[:1] != ("metric_list",)}
    for number, index in enumerate(kept):
        for path, place in document.places.items():
            if path[:2] == ("metric_list", index):
                places[("metric_list", number, *path[2:])] = place
    places[("metric_list",)] = document.place(("metric_list",))
    data = {**document.data, "metric_list": [entries[index] for index in kept]}
    return replace(document, data=data, places=places, warnings=(*document.warnings, *warnings))


def _names(entries: list[JSON]) -> Iterator[JSON]:
    for index, entry in enumerate(entries):
        named = entry.get("metric") if isinstance(entry, Mapping) else None
        # An entry without a name is no metric, which the schema says; it is not the same as another such entry.
        yield named if named is not None else f"\0{index}"
