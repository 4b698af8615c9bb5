"""BFCL's comparison of calls by their syntax tree.

The rules are those of ShishirPatil/gorilla, bfcl_eval/eval_checker/ast_eval/ast_checker.py. A call is right where its
function is, each argument has a type and one of the values that the row allows, and none is missing that the row does
not allow to be left out (an allowed value ""). In the categories of Java and JavaScript, arguments are texts that
write a value (`bfcl_literals.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from harness.scoring.extraction.tool_calls import ToolCall
from harness.scoring.official.bfcl_literals import TYPES, WITH_ITEMS, Language, literal_value
from harness.types import JSON

_TYPES: Mapping[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}
_SPARED = re.compile(r"[ \,\.\/\-\_\*\^]")


def calls_match(
    functions: Sequence[Mapping[str, Any]],
    calls: Sequence[ToolCall],
    truths: Sequence[Mapping[str, Mapping[str, Sequence[JSON]]]],
    category: str,
    *,
    underscores: bool = True,
) -> bool:
    """Whether the calls are those of the row.

    functions: what was offered, in BFCL's schema. truths: of each call that is wanted, function -> argument -> allowed
    values. category: BFCL's name of it: of a `parallel` one the order does not matter. underscores: whether `math_add`
    is `math.add`, since many servers take no dot in a name (`convert_func_name` there).
    """
    if len(calls) != len(truths):
        return False
    by_name = {each["name"]: each for each in functions}
    language: Language | None = "javascript" if "javascript" in category else "java" if "java" in category else None
    if "parallel" not in category:
        function = by_name.get(next(iter(truths[0])), {}) if "multiple" in category else functions[0]
        return _call_matches(function, calls[0], truths[0], underscores, language)
    left = list(calls)
    for truth in truths:
        function = by_name.get(next(iter(truth)), {})
        place = next(
            (index for index, call in enumerate(left) if _call_matches(function, call, truth, underscores, language)),
            None,
        )
        if place is None:
            return False
        del left[place]
    return True


def _call_matches(
    function: Mapping[str, Any],
    call: ToolCall,
    truth: Mapping[str, Mapping[str, Sequence[JSON]]],
    underscores: bool,
    language: Language | None,
) -> bool:
    (allowed,) = list(truth.values())[:1]
    properties = function["parameters"]["properties"]
    names = {function["name"], function["name"].replace(".", "_")} if underscores else {function["name"]}
    if call.name not in names:
        return False
    if any(name not in call.arguments for name in function["parameters"].get("required", ())):
        return False
    for name, value in call.arguments.items():
        if name not in properties or name not in allowed:
            return False
        if not _value_matches(value, properties[name], allowed[name], language):
            return False
    return all(name in call.arguments or "" in values for name, values in allowed.items())


def _value_matches(
    value: JSON, described: Mapping[str, Any], allowed: Sequence[JSON], language: Language | None
) -> bool:
    kind = described["type"]
    types = _TYPES if language is None else TYPES[language]
    expected = types[kind]
    items = described["items"]["type"] if kind in (("array", "tuple") if language is None else WITH_ITEMS) else None
    inner = None if items is None else types[items]
    if language is not None:
        if not isinstance(value, str):
            return False
        value = literal_value(language, value, kind, items)
    if kind == "tuple" and isinstance(value, tuple):
        value = list(value)
    if language is None and kind == "float" and type(value) is int:
        value = float(value)
    fits, is_variable = _type_fits(value, allowed, expected, inner)
    if not fits:
        return False
    if not is_variable:
        if expected is dict:
            return _dict_matches(value, allowed)
        if expected is list and inner is dict:
            return any(_dicts_match(value, each) for each in allowed)
        if expected is str:
            return _plain(value) in [_plain(each) for each in allowed if isinstance(each, str)]
        if expected is list:
            return list(map(_plain, value)) in [list(map(_plain, each)) for each in allowed]
    return value in allowed


def _type_fits(value: JSON, allowed: Sequence[JSON], expected: type, inner: type | None) -> tuple[bool, bool]:
    """Whether a value has the type of the function or of what is allowed, and whether it stands for a variable."""
    allowed_type = next((type(each) for each in allowed if each != ""), None)
    if type(value) is expected:
        is_variable = allowed_type is not None and allowed_type is not expected
        if inner is None:
            return True, is_variable
        lists = [each for each in allowed if isinstance(each, list)]
        items = cast(Sequence[JSON], value)  # only lists have an inner type
        fits = len(lists) < len(allowed) or any(
            all(_type_fits(item, each, inner, None)[0] for item in items) for each in lists
        )
        return fits, is_variable
    return allowed_type is not None and type(value) is allowed_type, True


def _dict_matches(value: Mapping[str, JSON], allowed: Sequence[JSON]) -> bool:
    for each in allowed:
        if each == "":
            continue
        known = all(key in each and _plain(item) in list(map(_plain, each[key])) for key, item in value.items())
        if known and all(key in value or "" in items for key, items in each.items()):
            return True
    return False


def _dicts_match(values: Sequence[Mapping[str, JSON]], allowed: Sequence[JSON]) -> bool:
    pairs = zip(values, allowed, strict=False)
    return len(values) == len(allowed) and all(_dict_matches(value, [each]) for value, each in pairs)


def _plain(value: JSON) -> JSON:
    """A text without blanks and the signs that dates and names differ by; anything else as it is."""
    return _SPARED.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value
