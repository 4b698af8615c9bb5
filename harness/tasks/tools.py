"""The functions that a row offers to the model, in the one form that prompts hold: a list as OpenAI's API takes it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from harness.errors import DataError
from harness.plugin_values import shown
from harness.types import JSON


def offered(value: JSON, place: str) -> str:
    """`Prompt.tools` of what `doc_to_tools` gives; empty for an empty list.

    A function is {name, description, parameters}, alone or as {type: function, function: ...}. place: of the key,
    for errors. Raises `DataError`.
    """
    if not isinstance(value, list | tuple):
        raise DataError(f"{place}: should be a list of functions, found {shown(value)}")
    listed = []
    for each in value:
        function = each["function"] if isinstance(each, Mapping) and "function" in each else each
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
            raise DataError(f"{place}: {shown(function)} is no function {{name, parameters}}")
        if not isinstance(function.get("parameters", {}), Mapping):
            raise DataError(f"{place}: the parameters of '{function['name']}' are no JSON Schema")
        listed.append({"type": "function", "function": dict(function)})
    return json.dumps(listed, ensure_ascii=False) if listed else ""
