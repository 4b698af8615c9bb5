"""Checks the content of a YAML file by a model of its keys: task files, and what else people write by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.interrupts import interrupts_wait
from harness.tasks.schema_problems import first_problem
from harness.tasks.yaml_file import Document, KeyPath, PythonFunction
from harness.types import JSON

Words = str | list[str]
M = TypeVar("M", bound=BaseModel)
# Where `!function` may stand: what is any step of a list is written *.
_PYTHON: frozenset[tuple[str, ...]] = frozenset(
    {
        *((key,) for key in ("process_docs", "process_results", "custom_dataset", "doc_to_decontamination_query")),
        *((key,) for key in ("class", "construct_requests")),
        *((key,) for key in ("doc_to_text", "doc_to_target", "doc_to_choice", "doc_to_image", "doc_to_audio")),
        *(("fewshot_config", key) for key in ("doc_to_text", "doc_to_target", "doc_to_choice")),
        *(("fewshot_config", key) for key in ("process_docs", "samples")),
        *(("metric_list", "*", key) for key in ("metric", "aggregation")),
        *(("filter_list", "*", "filter", "*", key) for key in ("function", "filter_fn")),
        ("aggregate_metric_list", "*", "aggregation"),
        ("aggregate_metric_list", "aggregation"),
        *(("environment", key) for key in ("tools", "state", "policy")),
    }
)


class Strict(BaseModel):
    """No unknown keys, and no value is bent into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Open(BaseModel):
    """Named keys are checked; all others are handed on as options."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, defer_build=True)


def words(value: Words | None) -> tuple[str, ...]:
    """One word, several, or none."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def validate(model: type[M], data: Mapping[str, JSON], document: Document) -> M:
    """Check the content of a file by a model of its keys. Raises `TaskError` with the line of the first problem."""
    _refuse_python(data, document)
    if not model.__pydantic_complete__:
        with interrupts_wait():
            model.model_rebuild()
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise first_problem(error, model, data, document) from None


def functions_in(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, PythonFunction]]:
    """Every `!function` in the content of a file, and where it stands."""
    if isinstance(value, PythonFunction):
        yield path, value
    pairs: Iterable[tuple[str | int, JSON]] = ()
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for step, item in pairs:
        yield from functions_in(item, (*path, step))


def _refuse_python(value: JSON, document: Document) -> None:
    """Refuse Python where no key takes any."""
    for path, function in functions_in(value):
        place = tuple("*" if isinstance(step, int) else step for step in path)
        while place[:2] == ("task", "*"):  # of a group that is written inside a group
            place = place[2:]
        if place not in _PYTHON:
            key = next((step for step in reversed(path) if isinstance(step, str)), "")
            raise document.error(path, f"key '{key}': '{function}' is Python, which cannot stand here; say it in Jinja")
