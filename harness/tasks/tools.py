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
    listed: list[dict[str, JSON]] = []
    for each in value:
        function = each["function"] if isinstance(each, Mapping) and "function" in each else each
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
            raise DataError(f"{place}: {shown(function)} is no function {{name, parameters}}")
        if problem := _problem(function.get("parameters", {})):
            raise DataError(f"{place}: the parameters of '{function['name']}' are no JSON Schema: {problem}")
        if any(function["name"] == other["function"]["name"] for other in listed):
            raise DataError(f"{place}: there are two functions '{function['name']}'")
        listed.append({"type": "function", "function": dict(function)})
    return json.dumps(listed, ensure_ascii=False) if listed else ""


def _problem(schema: JSON) -> str:
    """What is wrong with the shape of a JSON Schema of parameters; empty where nothing is."""
    if not isinstance(schema, Mapping):
        return f"it should be a mapping, found {shown(schema)}"
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping):
        return f"'properties' should be a mapping, found {shown(properties)}"
    if not isinstance(required, list | tuple) or not all(isinstance(name, str) for name in required):
        return f"'required' should be a list of names, found {shown(required)}"
    for name, each in properties.items():
        kind = each.get("type", "") if isinstance(each, Mapping) else "" if isinstance(each, bool) else None
        if not isinstance(kind, str | list):
            return f"'{name}' should be a mapping with a type, found {shown(each)}"
    return ""
