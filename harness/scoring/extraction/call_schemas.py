"""Whether calls of functions fit the JSON Schemas by which the functions were offered.

    call_problem(ToolCall("add", {"a": "1"}), tools)      # "add: a: should be integer, found a text"

Of JSON Schema (draft 2020-12) those keywords are kept that describe arguments: types, values, properties, items,
lengths, ranges, patterns, combinations, and `$ref` within the schema; what else it says (titles, formats) constrains
nothing.
The types that BFCL writes (`dict`, `float`, `tuple`, `any`) are read as JSON Schema's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.scoring.extraction.final_answers import strip_reasoning
from harness.scoring.extraction.tool_calls import CallError, ToolCall, read_calls
from harness.types import JSON

_DEEPEST = 60
_OTHER_NAMES = {"dict": "object", "float": "number", "tuple": "array", "list": "array", "bool": "boolean"}


def calls_fit(reply: str, tools: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether all calls of a reply can be read and fit what was offered; None where it calls nothing.

    tools: as OpenAI's API takes them. So do vendors' verifiers count (MoonshotAI/K2-Vendor-Verifier,
    tool_calls_eval.py, `validate_tool_call`): the function is one of those offered, its arguments are JSON, and the
    schema holds.
    """
    functions = [tool["function"] for tool in tools]
    try:
        calls = read_calls(strip_reasoning(reply)[0], functions)
    except CallError:
        return False
    return all(call_problem(call, functions) is None for call in calls) if calls else None


def call_problem(call: ToolCall, functions: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a call does not fit: no such function, or the first argument that its schema does not allow."""
    found = next((each for each in functions if each.get("name") == call.name), None)
    if found is None:
        return f"{call.name}: no such function was offered"
    schema = found.get("parameters") or {}
    problem = next(_problems(dict(call.arguments), schema, schema, 0), None)
    return f"{call.name}: {problem}" if problem else None


def _problems(value: JSON, schema: Any, root: Any, depth: int) -> Iterator[str]:
    """What of a value its schema does not allow."""
    if schema is False or depth > _DEEPEST:
        yield "no value is allowed" if schema is False else "nested too deeply"
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return
    if isinstance(reference := schema.get("$ref"), str):
        yield from _problems(value, _referred(reference, root), root, depth + 1)
    yield from _of_type(value, schema.get("type"))
    if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
        yield f"should be one of {json.dumps(schema['enum'], ensure_ascii=False)[:80]}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"should be {json.dumps(schema['const'], ensure_ascii=False)[:40]}"
    if isinstance(value, Mapping):
        yield from _of_object(value, schema, root, depth)
    elif isinstance(value, list | tuple):
        yield from _of_list(value, schema, root, depth)
    elif isinstance(value, str):
        yield from _of_text(value, schema)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _of_number(value, schema)
    yield from _of_combination(value, schema, root, depth)


def _referred(reference: str, root: Any) -> Any:
    """The schema at a place of the same document (`#/$defs/city`); True, which allows all, for any other address."""
    if not reference.startswith("#"):
        return True
    found = root
    for step in filter(None, reference[1:].split("/")):
        step = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or step not in found:
            return True
        found = found[step]
    return found


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list | tuple),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
}


def _of_type(value: JSON, wanted: Any) -> Iterator[str]:
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    known = [_OTHER_NAMES.get(name, name) for name in names if isinstance(name, str)]
    if known and all(name in _KINDS for name in known) and not any(_KINDS[name](value) for name in known):
        found = next(name for name, fits in _KINDS.items() if fits(value))
        yield f"should be {' or '.join(known)}, found {found}"


def _same(value: JSON, other: JSON) -> bool:
    """Equal as JSON has it, where true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _of_object(value: Mapping[str, JSON], schema: Mapping[str, Any], root: Any, depth: int) -> Iterator[str]:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if name not in value:
            yield f"'{name}' is missing"
    patterns = schema.get("patternProperties") or {}
    for name, item in value.items():
        rules = [properties[name]] if name in properties else []
        rules += [rule for pattern, rule in patterns.items() if _found(pattern, name)]
        if not rules and schema.get("additionalProperties") is False:
            yield f"'{name}' is not among its arguments"
        elif not rules:
            rules = [schema.get("additionalProperties", True)]
        for rule in rules:
            yield from (f"{name}: {problem}" for problem in _problems(item, rule, root, depth + 1))
    yield from _bounds(len(value), schema, "minProperties", "maxProperties", "entries")


def _of_list(value: Sequence[JSON], schema: Mapping[str, Any], root: Any, depth: int) -> Iterator[str]:
    first = schema.get("prefixItems") or []
    for index, item in enumerate(value):
        rule = first[index] if index < len(first) else schema.get("items", True)
        yield from (f"{index}: {problem}" for problem in _problems(item, rule, root, depth + 1))
    yield from _bounds(len(value), schema, "minItems", "maxItems", "items")
    if schema.get("uniqueItems") is True and any(_same(a, b) for i, a in enumerate(value) for b in value[:i]):
        yield "has an item twice"


def _of_text(value: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield from _bounds(len(value), schema, "minLength", "maxLength", "characters")
    if isinstance(pattern := schema.get("pattern"), str) and not _found(pattern, value):
        yield f"does not match {pattern[:40]}"


def _found(pattern: str, text: str) -> bool:
    """Whether a pattern is found in a text; one that Python cannot read constrains nothing."""
    try:
        return re.search(pattern, text) is not None
    except (re.error, RecursionError, OverflowError):
        return True


def _of_number(value: float, schema: Mapping[str, Any]) -> Iterator[str]:
    yield from _bounds(value, schema, "minimum", "maximum", "")
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if isinstance(low, int | float) and not isinstance(low, bool) and value <= low:
        yield f"should be above {low}"
    if isinstance(high, int | float) and not isinstance(high, bool) and value >= high:
        yield f"should be below {high}"
    step = schema.get("multipleOf")
    if isinstance(step, int) and isinstance(value, int) and step > 0:
        fits = value % step == 0
    else:
        fits = not isinstance(step, int | float) or step <= 0 or (value / step).is_integer()
    if not fits:
        yield f"should be a multiple of {step}"


def _bounds(size: float, schema: Mapping[str, Any], low: str, high: str, unit: str) -> Iterator[str]:
    least, most = schema.get(low), schema.get(high)
    if isinstance(least, int | float) and size < least:
        yield f"should be at least {least} {unit}".rstrip()
    if isinstance(most, int | float) and size > most:
        yield f"should be at most {most} {unit}".rstrip()


def _of_combination(value: JSON, schema: Mapping[str, Any], root: Any, depth: int) -> Iterator[str]:
    def fits(rule: Any) -> bool:
        return next(_problems(value, rule, root, depth + 1), None) is None

    for rule in _rules(schema, "allOf"):
        yield from _problems(value, rule, root, depth + 1)
    if (rules := _rules(schema, "anyOf")) and not any(map(fits, rules)):
        yield "fits none of several schemas"
    if (rules := _rules(schema, "oneOf")) and sum(map(fits, rules)) != 1:
        yield "should fit one of several schemas"
    if "not" in schema and fits(schema["not"]):
        yield "fits what it should not"


def _rules(schema: Mapping[str, Any], name: str) -> list[Any]:
    rules = schema.get(name)
    return rules if isinstance(rules, list) else []
