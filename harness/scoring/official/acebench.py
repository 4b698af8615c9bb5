"""ACEBench's reading of replies and comparison of calls.

The rules are those of chenchen0103/ACEBench: eval_main.py, model_eval/checker.py, model_eval/utils.py and
model_inference/utils.py. What these leave unchecked is unchecked here, too: of an argument that is a number or a
boolean, only the type is compared, and a wanted text may stand anywhere in the one that is given. Where the script
would stop with an exception, the answer counts as wrong.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.scoring.extraction.tool_calls import CallError, number_value
from harness.types import JSON

Call = Mapping[str, Mapping[str, JSON]]
"""A call: function -> argument -> value."""

_TYPES: Mapping[str, type] = {
    "string": str, "integer": int, "float": float, "boolean": bool, "array": list, "tuple": list, "dict": dict,
    "any": str, "list": list, "object": dict, "objectArray": list, "list(string)": list, "list(enum)": list,
    "int": int, "enum": enumerate, "number": int,
}  # fmt: skip
_NESTED = frozenset({"array", "tuple", "list(string)", "list(enum)", "object", "objectArray"})
_SPARED = re.compile(r"[ \,\.\/\-\_\*\^]")
_NUMBERED = re.compile(r"_\d+$")
_TRUTHS = {"true": True, "false": False}


def acebench_calls(reply: str, *, several_turns: bool) -> list[dict[str, dict[str, Any]]]:
    """The calls of a reply. Raises `CallError` where it is not read.

    several_turns: of the categories with several turns, where the reply is read as a whole, without its blanks. In the
    others, its first part in square brackets is read.
    """
    text = "".join(reply.split()) if several_turns else _bracketed(reply)
    try:
        body = ast.parse(text, mode="eval").body
        if not isinstance(body, ast.List | ast.Tuple | ast.Set):
            raise CallError("it is no list of calls")
        return [_call(item) for item in body.elts]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise CallError(f"it is no list of calls: {error}") from None


def _bracketed(text: str) -> str:
    """The first part in square brackets, inner ones included. Raises `CallError` where there is none."""
    start, depth = -1, 0
    for index, letter in enumerate(text):
        if letter == "[":
            start = index if depth == 0 else start
            depth += 1
        elif letter == "]":
            depth -= 1
            if depth == 0 and start != -1:
                return text[start : index + 1]
    raise CallError("nothing stands in square brackets")


def _call(node: ast.expr) -> dict[str, dict[Any, Any]]:
    if not isinstance(node, ast.Call):
        raise CallError(f"'{ast.unparse(node)[:40]}' is no call")
    parts, function = [], node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if isinstance(function, ast.Name):
        parts.append(function.id)
    return {".".join(reversed(parts)): {each.arg: _value(each.value) for each in node.keywords}}


def _value(node: ast.expr | None) -> Any:
    match node:
        case ast.Constant(value=value):
            return "..." if value is Ellipsis else value
        case ast.UnaryOp(operand=ast.Constant(value=int() | float() | complex() as value)):  # any sign is a minus
            return -value
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.Dict(keys=keys, values=values):
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.BinOp():
            return number_value(node)
        case ast.Name(id=name):
            return name
        case ast.Call():
            return _call(node)
        case ast.Subscript(value=value, slice=index):
            return f"{ast.unparse(value)}[{ast.unparse(index)}]"
    raise CallError(f"'{ast.unparse(node)[:40] if node else '**'}' is no value")


def acebench_correct(functions: Sequence[Mapping[str, Any]], calls: Sequence[Call], truths: JSON) -> bool:
    """Whether calls are those of a row of `normal_*`.

    functions: what was offered. truths: the wanted calls, function -> argument -> value, or a list of such; a function
    that is wanted several times is numbered (`f_1`, `f_2`).
    """
    for truth in truths if isinstance(truths, list) else [truths]:
        try:
            if _are_right(functions, calls, truth):
                return True
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # the script stops here
            continue
    return False


def acebench_notices(category: str, reply: str, truth: JSON) -> bool:
    """Whether the reply to a row of `special_*` says what is wrong with the request, in the words it was told to use.

    truth: of `incomplete`, function -> names of its missing parameters; of `error_param`, parameter -> wrong values.
    """
    if "incomplete" in category:
        return all(
            "Missing necessary parameters" in reply and name in reply and all(each in reply for each in missing)
            for name, missing in truth.items()
        )
    if "error" in category:
        return all("There is incorrect value" in reply and all(each in reply for each in v) for v in truth.values())
    return "the limitations of the function" in reply


def _are_right(functions: Sequence[Mapping[str, Any]], calls: Sequence[Call], truth: Call) -> bool:
    if len(calls) != len(truth):
        return False
    wanted = [(key, _NUMBERED.sub("", key), arguments) for key, arguments in truth.items()]
    if Counter(name for call in calls for name in call) != Counter(name for _, name, _ in wanted):
        return False
    for key, name, arguments in wanted:
        function = next(each for each in functions if each["name"] in key)
        made = [given for call in calls for own, given in call.items() if own == name]
        if not any(_is_right(function, name, given, arguments) for given in made):
            return False
    return True


def _is_right(function: Mapping[str, Any], name: str, given: Mapping[str, JSON], wanted: Mapping[str, JSON]) -> bool:
    parameters = function["parameters"]
    if not given or parameters == {}:
        return not given and parameters == {}
    described = parameters["properties"]
    if wanted == described:
        return True
    if wanted == {} or function["name"] != name:
        return False
    if any(each not in given for each in parameters["required"]):
        return False
    return all(
        each in described and each in wanted and _argument_is_right(described[each], value, wanted[each])
        for each, value in given.items()
    )


def _argument_is_right(described: Mapping[str, Any], value: JSON, wanted: JSON) -> bool:
    kind = described["type"]
    expected, inner = _TYPES[kind], _TYPES[_inner_type(described)] if kind in _NESTED else None
    if kind == "tuple" and type(value) is tuple:
        value = list(value)
    if kind == "float" and type(value) is int:
        value = float(value)
    fits, is_settled = _type_fits(value, wanted, expected, inner)
    if not fits or is_settled:
        return fits
    if expected is dict:
        return _dict_is_right(value, wanted)
    if expected is list and inner is dict:
        return kind != "objectArray" and _dicts_are_right(value, wanted)  # at an `objectArray` the script stops
    if expected is str:
        return _plain(wanted) in _plain(value)
    if expected is list:
        return [*map(_plain_text, value)] == [*map(_plain_text, wanted)]
    return True


def _inner_type(described: Mapping[str, Any]) -> str:
    try:
        return str(described["items"]["type"])
    except (LookupError, TypeError):
        return next((kind for kind in ("string", "enum") if kind in described["type"]), "dict")


def _type_fits(value: JSON, wanted: JSON, expected: type, inner: type | None) -> tuple[bool, bool]:
    """Whether a value has the type that is described, or that of what is wanted, and whether no more is compared."""
    wanted_type = None if wanted == "" else type(wanted)
    value = _truth(value)
    is_expected = type(value) is expected
    if is_expected:
        is_settled = wanted_type not in (None, expected)
        if inner is None:
            return True, is_settled
        for each in wanted:
            if type(each) is not list or all(_type_fits(item, each, inner, None)[0] for item in value):
                return True, is_settled
        return False, False
    return wanted_type is not None and (type(value) is wanted_type or bool(wanted == value)), True


def _dict_is_right(value: JSON, wanted: Mapping[str, JSON]) -> bool:
    if not isinstance(value, dict) or not isinstance(wanted, dict) or len(value) != len(wanted):
        return False
    for key, each in value.items():
        each = _truth(each)
        if key not in wanted:
            return False
        if isinstance(wanted[key], dict):
            if not _dict_is_right(each, wanted[key]):
                return False
        elif str(_plain_text(wanted[key])) not in str(_plain_text(each)):
            return False
    return True


def _dicts_are_right(values: Sequence[JSON], wanted: Sequence[Mapping[str, JSON]]) -> bool:
    return len(values) == len(wanted) and all(map(_dict_is_right, values, wanted))


def _truth(value: JSON) -> JSON:
    return _TRUTHS.get(value, value) if type(value) is str else value


def _plain_text(value: JSON) -> JSON:
    return _plain(value) if type(value) is str else value


def _plain(text: str) -> str:
    """A text without blanks and the signs that dates and names differ by."""
    return _SPARED.sub("", text).lower().replace("'", '"')
