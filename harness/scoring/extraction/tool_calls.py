"""Reads the calls of functions out of a reply, in the forms in which families of models write them.

    read_calls('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')   # (ToolCall("add", {"a": 1}),)
    read_calls("There is nothing to call.")                                       # ()

Nothing is executed. The forms are those of the models' own chat templates: JSON between tags (Hermes, Qwen),
XML-like (Qwen3-Coder, GLM-4.5, MiniMax-M2), marked sections (DeepSeek, Kimi, Mistral, Llama, Functionary), bare JSON,
and Python.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.types import JSON


class CallError(ValueError):
    """A reply that begins a call which cannot be read. Its text says why."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function by its name, with arguments by name."""

    name: str
    arguments: Mapping[str, JSON]


_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)
_FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|$)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_INVOKE = re.compile(r"<invoke name=\"?([^\">]+)\"?>(.*?)(?:</invoke>|$)", re.DOTALL)
_NAMED_PARAMETER = re.compile(r"<parameter name=\"?([^\">]+)\"?>\n?(.*?)\n?</parameter>", re.DOTALL)
_ARG_PAIR = re.compile(r"<arg_key>\s*(.*?)\s*</arg_key>\s*<arg_value>\n?(.*?)\n?</arg_value>", re.DOTALL)
_DEEPSEEK = re.compile(r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)(?:<｜tool▁call▁end｜>|$)", re.DOTALL)
_KIMI = re.compile(r"<\|tool_call_begin\|>(.*?)<\|tool_call_argument_begin\|>(.*?)(?:<\|tool_call_end\|>|$)", re.DOTALL)
_KIMI_NAME = re.compile(r"^(?:functions\.)?(.*?)(?::\d+)?$", re.DOTALL)
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*([\w.-]+)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\])?\s*(?=\{)")
_FUNCTIONARY = re.compile(r"^>>>([\w.-]+)\n(.*?)(?=^>>>|\Z)", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^```[A-Za-z_]*\s*\n(.*?)\n?```$", re.DOTALL)


def read_calls(reply: str, functions: Sequence[Mapping[str, Any]] = ()) -> tuple[ToolCall, ...]:
    """The calls of a reply, in their order; none where it calls nothing. Raises `CallError`.

    functions: their JSON Schemas, by which arguments that are written as text (XML-like forms) get their types.
    """
    types = {str(each.get("name")): _types_of(each) for each in functions}
    if "<tool_call>" in reply:
        return tuple(call for part in _TAGGED.findall(reply) for call in _tagged(part.strip(), types))
    if "<function=" in reply:
        return tuple(_xml_call(name, body, types) for name, body in _FUNCTION.findall(reply))
    if "<invoke name=" in reply:
        return tuple(
            ToolCall(name, _texts(_NAMED_PARAMETER, body, name, types)) for name, body in _INVOKE.findall(reply)
        )
    if "<｜tool▁call▁begin｜>" in reply:
        return tuple(_deepseek(*match) for match in _DEEPSEEK.findall(reply))
    if "<|tool_call_begin|>" in reply:
        return tuple(_named(_kimi_name(name), body) for name, body in _KIMI.findall(reply))
    if "[TOOL_CALLS]" in reply:
        return tuple(_mistral(reply))
    if "<|python_tag|>" in reply:
        return _json_calls(reply.partition("<|python_tag|>")[2].removesuffix("<|eom_id|>").strip())
    if functionary := [match for match in _FUNCTIONARY.findall(reply) if match[0] != "all"]:
        return tuple(_named(*match) for match in functionary)
    return _bare(reply.strip())


def python_calls(text: str) -> tuple[ToolCall, ...]:
    """Calls in Python's form, `[f(a=1), g.h(b="x")]`, as BFCL reads them.

    The rules are those of bfcl_eval, model_handler/utils.py, `default_decode_ast_prompting` and `ast_parse`: arguments
    without a name are left out, names are texts. Raises `CallError`.
    """
    text = text.strip().strip("`\n ")
    text = text if text.startswith("[") else f"[{text}"
    text = text if text.endswith("]") else f"{text}]"
    try:
        tree = ast.parse(text.strip("'"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CallError(f"it is no Python: {error}") from None
    items = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
    return tuple(_python_call(item) for item in items)


def _python_call(node: ast.expr) -> ToolCall:
    if not isinstance(node, ast.Call):
        raise CallError(f"'{ast.unparse(node)[:40]}' is no call")
    return ToolCall(ast.unparse(node.func), {each.arg or "": _value(each.value) for each in node.keywords})


def _value(node: ast.expr) -> JSON:
    """A written value; what is none of Python's literals is its text."""
    if isinstance(node, ast.Constant):
        return "..." if node.value is Ellipsis else node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return {
            _value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None
        }
    if isinstance(node, ast.UnaryOp | ast.BinOp):
        return number_value(node)
    if isinstance(node, ast.Call) and node.keywords:
        call = _python_call(node)
        return {call.name: dict(call.arguments)}
    if isinstance(node, ast.Name | ast.Call | ast.Subscript):
        return ast.unparse(node)
    raise CallError(f"'{ast.unparse(node)[:40]}' is no value")


_OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def number_value(node: ast.expr) -> Any:
    """The value of a sum, a product and the like of numbers, or of texts that are joined. Nothing else is computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = number_value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and (operation := _OPERATIONS.get(type(node.op))):
        try:
            return operation(*_alike(number_value(node.left), number_value(node.right)))
        except (ArithmeticError, TypeError) as error:
            raise CallError(f"'{ast.unparse(node)[:40]}': {error}") from None
    raise CallError(f"'{ast.unparse(node)[:40]}' is no number")


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Two numbers, or two texts: a text that is repeated can fill the memory."""
    if isinstance(left, str) != isinstance(right, str):
        raise TypeError("a text and a number")
    return left, right


def _bare(reply: str) -> tuple[ToolCall, ...]:
    """A reply that is a call as a whole: JSON or Python, alone or in a code fence. Anything else calls nothing."""
    if fence := _FENCE.match(reply):
        reply = fence[1].strip()
    if reply.startswith(("{", "[{")) or (reply.startswith("[") and reply[1:].lstrip().startswith("{")):
        try:
            return _json_calls(reply)
        except CallError:
            return ()
    if reply.startswith("["):
        return () if reply == "[]" else python_calls(reply)
    return ()


def _json_calls(text: str) -> tuple[ToolCall, ...]:
    """JSON of one call or several, one below the other or in a list."""
    calls = []
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise CallError(f"it is no JSON: {error}") from None
        calls += [_call_of(each) for each in (value if isinstance(value, list) else [value])]
        while at < len(text) and text[at] in " \n\r\t;,":
            at += 1
    return tuple(calls)


def _call_of(value: JSON) -> ToolCall:
    """A call as JSON spells it: {name, arguments}, where these may be `parameters`, and all may stand in `function`."""
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    name = value.get("name") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or not name:
        raise CallError("it names no function")
    arguments: JSON = next((value[key] for key in ("arguments", "parameters", "args") if key in value), {})
    return ToolCall(name, _arguments(arguments))


def _arguments(value: JSON) -> Mapping[str, JSON]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError) as error:
            raise CallError(f"its arguments are no JSON: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise CallError("its arguments are no mapping")
    return {str(key): item for key, item in value.items()}


def _named(name: str, body: str) -> ToolCall:
    return ToolCall(name.strip(), _arguments(body.strip()))


def _tagged(part: str, types: Mapping[str, Mapping[str, str]]) -> Iterator[ToolCall]:
    """What stands in a `<tool_call>`."""
    if "<function=" in part:
        yield from (_xml_call(name, body, types) for name, body in _FUNCTION.findall(part))
    elif "<arg_key>" in part or not part.startswith(("{", "[")):
        name = part.partition("<arg_key>")[0].strip()
        if not re.fullmatch(r"[\w.-]+", name):
            raise CallError(f"'{part[:40]}' names no function")
        yield ToolCall(name, _texts(_ARG_PAIR, part, name, types))
    else:
        yield from _json_calls(part)


def _xml_call(name: str, body: str, types: Mapping[str, Mapping[str, str]]) -> ToolCall:
    if body.strip().startswith("{"):  # Llama 3.1 and Functionary write JSON inside
        return _named(name, body)
    return ToolCall(name, _texts(_PARAMETER, body, name, types))


def _texts(pattern: re.Pattern[str], body: str, name: str, types: Mapping[str, Mapping[str, str]]) -> dict[str, JSON]:
    """Arguments that are written as text: each is JSON unless the function says that it is a text."""
    own = types.get(name, {})
    return {key: value if own.get(key) == "string" else _typed(value) for key, value in pattern.findall(body)}


def _typed(text: str) -> JSON:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text.strip(), text)


def _types_of(function: Mapping[str, Any]) -> dict[str, str]:
    properties = (function.get("parameters") or {}).get("properties") or {}
    return {name: str(each.get("type", "")) for name, each in properties.items() if isinstance(each, Mapping)}


def _deepseek(before: str, after: str) -> ToolCall:
    if before.strip() == "function":  # V3 and R1: the name stands behind, and the arguments in a code fence
        name, _, rest = after.partition("\n")
        fence = re.search(r"```(?:json)?\s*\n(.*?)\n?```", rest, re.DOTALL)
        return _named(name, fence[1] if fence else rest)
    return _named(before, after)


def _kimi_name(text: str) -> str:
    match = _KIMI_NAME.match(text.strip())
    return match[1] if match else text


def _mistral(reply: str) -> Iterator[ToolCall]:
    named = list(_MISTRAL.finditer(reply))
    if not named:
        yield from _json_calls(reply.partition("[TOOL_CALLS]")[2].strip().removesuffix("</s>"))
    for match in named:
        try:
            value, _ = json.JSONDecoder().raw_decode(reply, match.end())
        except (ValueError, RecursionError) as error:
            raise CallError(f"its arguments are no JSON: {error}") from None
        yield ToolCall(match[1], _arguments(value))
