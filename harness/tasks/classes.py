"""lm-eval's tasks that are Python classes: what the class brings, as the keys of a task file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.errors import UsageError
from harness.tasks.functions import TaskFunctions, refused
from harness.tasks.yaml_file import Document, FileLine, KeyPath, PythonFunction
from harness.types import JSON

_KEY = "class"


def with_class(document: Document, code: TaskFunctions | None) -> Document:
    """The document with what its `class` brings in the place of that key; keys of the file itself win, but for methods
    that the class writes anew. Raises `TaskError`.
    """
    kind = document.data.get(_KEY)
    if not isinstance(kind, PythonFunction):
        return document
    if code is None:
        raise refused(kind, document, (_KEY,))
    code.check(kind, document, (_KEY,))
    own = {key: value for key, value in document.data.items() if key != _KEY}
    try:
        brought = code.describe_class(kind, own)
    except UsageError as error:
        raise document.error((_KEY,), f"key '{_KEY}': {error}") from error
    keys: dict[str, Any] = {**brought["keys"], **own}
    keys.update({name: _method(kind, name) for name in brought["methods"]})
    keys.setdefault("output_type", "generate_until")
    if any(name.endswith("_split") for name in brought["keys"]):
        keys["process_docs"] = _method(kind, "docs")
    if brought["metrics"]:
        keys["metric_list"] = [_metric(kind, each) for each in brought["metrics"]]
    places: dict[KeyPath, FileLine] = {(key,): document.place((_KEY,)) for key in keys if (key,) not in document.places}
    return replace(document, data=keys, places={**document.places, **places})


def _method(kind: PythonFunction, name: str) -> PythonFunction:
    return PythonFunction(f"{kind.name}:{name}", kind.folder)


def _metric(kind: PythonFunction, told: Mapping[str, JSON]) -> dict[str, Any]:
    how = "mean" if told["is_mean"] else _method(kind, f"aggregation:{told['metric']}")
    return {"metric": told["metric"], "aggregation": how, "higher_is_better": told["higher_is_better"]}
