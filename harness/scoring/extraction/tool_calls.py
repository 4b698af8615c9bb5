"""Reads the calls of functions out of a reply, in the forms in which families of models write them.

    read_calls('<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')   # (ToolCall("add", {"a": 1}),)
    read_calls("There is nothing to call.")                                       # ()

Nothing is executed. The forms are those of the models' own chat templates: JSON between tags (Hermes, Qwen),
XML-like (Qwen3-Coder, GLM-4.5, MiniMax-M2, DeepSeek-V3.2), marked sections (DeepSeek, Kimi, Mistral, Llama 3,
InternLM, Granite, Hunyuan, gpt-oss, Functionary), bare JSON, and Python; others differ in their tags alone
(`harness.scoring.extraction.call_dialects`). JSON may hold what models often get wrong:
line breaks in texts, commas too many, Python's literals. A call that was cut is none: its arguments would not be those
that were meant.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.later_patterns import later_pattern
from harness.quick import dataclass
from harness.scoring.extraction.call_dialects import as_known_form
from harness.types import JSON


class CallError(ValueError):
    """A reply that begins a call which cannot be read. Its text says why."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function by its name, with arguments by name."""

    name: str
    arguments: Mapping[str, JSON]


_FUNCTION = later_pattern(r"<function=([^>\s]+)>(.*?)(</function>|(?=<function=)|$)", re.DOTALL)
_PARAMETER = later_pattern(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_INVOKE = later_pattern(r"<invoke name=\"?([^\">]+)\"?>(.*?)(</invoke>|(?=<invoke name=)|$)", re.DOTALL)
_DSML_INVOKE = later_pattern(r"<｜DSML｜invoke name=\"([^\">]+)\">(.*?)(</｜DSML｜invoke>|$)", re.DOTALL)
_DSML_PARAMETER = later_pattern(
    r"<｜DSML｜parameter name=\"([^\">]+)\" string=\"(true|false)\">(.*?)</｜DSML｜parameter>", re.DOTALL
)
_HARMONY = later_pattern(r"to=functions\.([\w.-]+).*?<\|message\|>(.*?)(?=<\|call\|>|<\|start\|>|$)", re.DOTALL)
_NAMED_PARAMETER = later_pattern(r"<parameter name=\"?([^\">]+)\"?>\n?(.*?)\n?</parameter>", re.DOTALL)
_ARG_PAIR = later_pattern(r"<arg_key>\s*(.*?)\s*</arg_key>\s*<arg_value>\n?(.*?)\n?</arg_value>", re.DOTALL)
_DEEPSEEK = later_pattern(r"<｜tool▁call▁begin｜>(.*?)<｜tool▁sep｜>(.*?)(?:<｜tool▁call▁end｜>|$)", re.DOTALL)
_KIMI = later_pattern(
    r"<\|tool_call_begin\|>(.*?)<\|tool_call_argument_begin\|>(.*?)(?:<\|tool_call_end\|>|$)", re.DOTALL
)
_KIMI_NAME = later_pattern(r"^(?:functions\.)?(.*?)(?::\d+)?$", re.DOTALL)
_MISTRAL = later_pattern(r"\[TOOL_CALLS\]\s*([\w.-]+)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\])?\s*(?=\{)")
_FUNCTIONARY = later_pattern(r"^>>>([\w.-]+)\n(.*?)(?=^>>>|\Z)", re.DOTALL | re.MULTILINE)
_FENCE = later_pattern(r"^```([A-Za-z_]*)\s*\n(.*?)\n?```$", re.DOTALL)
_LAST_MARK = later_pattern(r"(?:<\|[\w ]+\|>|</s>|<end_of_turn>)$")
_LONGEST_MARK = 64
_PYTHON_TAG = "<|python_tag|>"
_SECTIONS = ("<|tool_call|>", "<|action_start|><|plugin|>", "<tool_calls>")
"""Marks behind which JSON stands: of Granite and Phi, InternLM, and Hunyuan."""
_PYTHON_LIST = later_pattern(r"\[\s*[A-Za-z_][\w.]*\s*\(")
_PYTHON_CALL = later_pattern(r"([A-Za-z_][\w.]*)\s*\(.*\)\s*$", re.DOTALL)
_NAMED_FIRST = later_pattern(r"[\[\s]*\{\s*[\"'](?:name|function)[\"']\s*:")


def read_calls(reply: str, functions: Sequence[Mapping[str, Any]] = ()) -> tuple[ToolCall, ...]:
    """The calls of a reply, in their order; none where it calls nothing. Raises `CallError`.

    functions: their JSON Schemas, by which arguments that are written as text (XML-like forms) get their types.
    """
    types = {str(each.get("name")): _types_of(each) for each in functions}
    reply = as_known_form(reply, types)
    while mark := _LAST_MARK.search(reply[-_LONGEST_MARK:].rstrip()):
        reply = reply.rstrip().removesuffix(mark[0])
    if "<tool_call>" in reply:
        return tuple(_all_tagged(reply, types))
    if "<function=" in reply:
        return tuple(_xml_call(name, body, end, types) for name, body, end in _FUNCTION.findall(reply))
    if "<invoke name=" in reply:
        return tuple(_invoked(name, body, end, types) for name, body, end in _INVOKE.findall(reply))
    if "<｜DSML｜invoke name=" in reply:
        return tuple(_dsml(*match) for match in _DSML_INVOKE.findall(reply))
    if "<｜tool▁call▁begin｜>" in reply:
        return tuple(_deepseek(*match) for match in _DEEPSEEK.findall(reply))
    if "<|tool_call_begin|>" in reply:
        return tuple(_named(_kimi_name(name), body) for name, body in _KIMI.findall(reply))
    if "[TOOL_CALLS]" in reply:
        return tuple(_mistral(reply))
    if _PYTHON_TAG in reply:
        return _behind_python_tag(reply.partition(_PYTHON_TAG)[2].replace(_PYTHON_TAG, "\n").strip(), types)
    if section := next((mark for mark in _SECTIONS if mark in reply), None):
        return _json_calls(reply.partition(section)[2], until="<")
    if "<|message|>" in reply and (harmony := _HARMONY.findall(reply)):
        return tuple(_named(*match) for match in harmony)
    if functionary := [match for match in _FUNCTIONARY.findall(reply) if match[0] != "all"]:
        return tuple(_named(*match) for match in functionary)
    return _bare(reply.strip(), types)


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
        has_form = node.value is None or isinstance(node.value, str | int | float)  # a call with 1j or b"a" is one
        return node.value if has_form else "..." if node.value is Ellipsis else ast.unparse(node)
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        if any(key is None for key in node.keys):
            raise CallError(f"'{ast.unparse(node)[:40]}' is no value")
        return {_key(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key is not None}
    if isinstance(node, ast.BinOp):
        return number_value(node)
    if isinstance(node, ast.UnaryOp):  # whichever sign it is, BFCL takes it for a minus
        if isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, int | float | complex):
            return -node.operand.value
        raise CallError(f"'{ast.unparse(node)[:40]}' is no number")
    if isinstance(node, ast.Call) and node.keywords:
        call = _python_call(node)
        return {call.name: dict(call.arguments)}
    if isinstance(node, ast.Name | ast.Call | ast.Subscript):
        return ast.unparse(node)
    raise CallError(f"'{ast.unparse(node)[:40]}' is no value")


def _key(node: ast.expr) -> Any:
    return ast.unparse(node) if isinstance(node, ast.Tuple) else _value(node)


_OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: _number(a) % _number(b),
    ast.Pow: lambda a, b: _power(_number(a), _number(b)),
    ast.LShift: lambda a, b: a << _short(b),
    ast.RShift: lambda a, b: a >> _short(b),
    ast.BitOr: lambda a, b: a | b,
    ast.BitAnd: lambda a, b: a & b,
    ast.BitXor: lambda a, b: a ^ b,
}


def _number(value: Any) -> Any:
    if isinstance(value, str):
        raise TypeError("a text is no number")
    return value


def _power(base: Any, exponent: Any) -> Any:
    """A power that fits: a large one can fill the memory."""
    if abs(exponent) > 64 or abs(base) > 1e9:
        raise ArithmeticError("too large a power")
    return base**exponent


def _short(shift: Any) -> Any:
    if not 0 <= shift <= 64:
        raise ArithmeticError("too large a shift")
    return shift


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


def _bare(reply: str, types: Mapping[str, Mapping[str, str]]) -> tuple[ToolCall, ...]:
    """A reply that is a call as a whole: JSON or Python, alone or in a code fence. Anything else calls nothing."""
    label = ""
    if fence := _FENCE.match(reply):
        label, reply = fence[1], fence[2].strip()
    if reply.startswith(("{", "[{")) or (reply.startswith("[") and reply[1:].lstrip().startswith("{")):
        try:
            return _json_calls(reply)
        except CallError:
            if _NAMED_FIRST.match(reply):  # it begins as a call, and was cut
                raise
            return ()
    if _PYTHON_LIST.match(reply):
        return python_calls(reply)
    if (call := _PYTHON_CALL.match(reply)) and (_without_call(call[1], types) in types or label == "tool_code"):
        return _statements(reply, types)
    return ()


def _behind_python_tag(text: str, types: Mapping[str, Mapping[str, str]]) -> tuple[ToolCall, ...]:
    """What Llama 3 writes behind `<|python_tag|>`: JSON, calls in Python, or a program for its interpreter.

    `f.call(x="1")`, the form of the family's built-in tools, calls f; statements are read as vLLM's parsers and BFCL's
    handlers for Llama do; and what is no call is the `code` of the interpreter, where one was offered. Raises
    `CallError`.
    """
    if _NAMED_FIRST.match(text) or text.startswith("{"):
        return _json_calls(text, until="<")
    interpreter = next((name for name in _INTERPRETERS if name in types), None)
    try:
        calls = _statements(text, types)
    except CallError:
        if interpreter is None:
            raise
        calls = ()
    if interpreter and not (calls and all(call.name in types for call in calls)):
        return (ToolCall(interpreter, {next(iter(types[interpreter]), "code"): text}),)
    return calls


_INTERPRETERS = ("code_interpreter", "python", "ipython")


def _statements(text: str, types: Mapping[str, Mapping[str, str]]) -> tuple[ToolCall, ...]:
    """Calls in Python, in a list, or one behind or below the other. Raises `CallError`."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        body = []
    if len(body) > 1 and all(isinstance(each, ast.Expr) for each in body):
        calls = tuple(_python_call(each.value) for each in body if isinstance(each, ast.Expr))
    else:
        calls = python_calls(text)
    return tuple(ToolCall(_without_call(call.name, types), call.arguments) for call in calls)


def _without_call(name: str, types: Mapping[str, Mapping[str, str]]) -> str:
    """The function that Llama's `f.call(...)` calls."""
    return name if name in types else name.removesuffix(".call")


def _json_calls(text: str, until: str = "") -> tuple[ToolCall, ...]:
    """JSON of one call or several, one below the other or in a list. until: the letter at which other text begins."""
    calls = []
    at = _next_value(text, 0)
    while at < len(text) and not (until and text[at] == until):
        value, at = _read_json(text, at)
        if isinstance(value, Mapping) and isinstance(value.get("tool_calls"), list):  # a message of OpenAI's API
            value = value["tool_calls"]
        calls += [_call_of(each) for each in (value if isinstance(value, list) else [value])]
        at = _next_value(text, at)
    return tuple(calls)


def _next_value(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \n\r\t;,":
        at += 1
    return at


def _read_json(text: str, at: int) -> tuple[JSON, int]:
    """A value that begins at a place of a text, and where it ends. Raises `CallError`."""
    try:
        value, end = _DECODER.raw_decode(text, at)
        return value, end
    except (ValueError, RecursionError) as error:
        problem = CallError(f"it is no JSON: {error}")
    end = _closed(text, at)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            return _as_json(ast.literal_eval(_WORDS.sub(_python_word, text[at:end]))), end
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise problem from None


_DECODER = json.JSONDecoder(strict=False)
_WORDS = later_pattern(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|\b(?:true|false|null)\b""", re.DOTALL)


def _python_word(match: re.Match[str]) -> str:
    """A word of JSON as Python has it; a text as it is, with its line breaks written out."""
    if match[1]:
        return match[1].replace("\n", "\\n")
    return {"true": "True", "false": "False", "null": "None"}[match[0]]


def _closed(text: str, at: int) -> int:
    """Where the bracket that opens at a place of a text is closed, whatever quotes hold. Raises `CallError`."""
    depth, quote, escaped = 0, "", False
    for place in range(at, len(text)):
        letter = text[place]
        if quote:
            quote = "" if letter == quote and not escaped else quote
            escaped = letter == "\\" and not escaped
        elif letter in "\"'":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
            if depth <= 0:
                return place + 1
    raise CallError("it is no JSON: it is not closed")


def _as_json(value: Any) -> JSON:
    """A literal of Python as JSON has it. Raises `ValueError` for what JSON has no form for."""
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if not isinstance(value, str | int | float | bool | None):
        raise ValueError(type(value).__name__)
    return value


def _call_of(value: JSON) -> ToolCall:
    """A call as JSON spells it: {name, arguments}, where these may be `parameters`, and all may stand in `function`."""
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    name = value.get("name", value.get("tool_name")) if isinstance(value, Mapping) else None
    if not isinstance(name, str) or not name:
        raise CallError("it names no function")
    arguments: JSON = next((value[key] for key in ("arguments", "parameters", "args") if key in value), {})
    return ToolCall(name, _arguments(arguments))


def _arguments(value: JSON) -> Mapping[str, JSON]:
    if isinstance(value, str):
        try:
            text = value.strip()
            value, end = _read_json(text, 0) if text else ({}, 0)
        except CallError as error:
            raise CallError(f"its arguments: {error}") from None
        if text[end:].strip():
            raise CallError("its arguments: behind them stands other text")
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise CallError("its arguments are no mapping")
    return {str(key): item for key, item in value.items()}


def _named(name: str, body: str) -> ToolCall:
    return ToolCall(name.strip(), _arguments(body.strip()))


def _all_tagged(reply: str, types: Mapping[str, Mapping[str, str]]) -> Iterator[ToolCall]:
    """The calls of all `<tool_call>`. What ends one may stand in a text of its JSON."""
    at = reply.find("<tool_call>")
    while at >= 0:
        at += len("<tool_call>")
        start = _next_value(reply, at)
        if reply[start : start + 1] in ("{", "["):
            yield from _json_calls(reply[start : (end := _json_end(reply, start))])
        else:
            end = reply.find("</tool_call>", at)
            yield from _tagged(reply[at : end if end >= 0 else None].strip(), types, is_closed=end >= 0)
            end = end if end >= 0 else len(reply)
        at = reply.find("<tool_call>", end)


def _json_end(text: str, at: int) -> int:
    """Where the values that begin at a place of a text end."""
    while text[at : at + 1] in ("{", "["):
        at = _next_value(text, _read_json(text, at)[1])
    return at


def _tagged(part: str, types: Mapping[str, Mapping[str, str]], *, is_closed: bool) -> Iterator[ToolCall]:
    """What stands in a `<tool_call>`, where it is no JSON."""
    if "<function=" in part:
        yield from (_xml_call(name, body, end, types) for name, body, end in _FUNCTION.findall(part))
    elif fence := re.search(r"^([\w.-]*)\s*```(?:json)?\s*\n(.*?)\n?```", part, re.DOTALL):
        yield from [_named(fence[1], fence[2])] if fence[1] else _json_calls(fence[2])
    else:
        name = part.partition("<arg_key>")[0].strip()
        if not re.fullmatch(r"[\w.-]+", name):
            raise CallError(f"'{part[:40]}' names no function")
        if not is_closed or part.count("<arg_key>") != len(_ARG_PAIR.findall(part)):
            raise CallError(f"the call of '{name}' is cut")
        yield ToolCall(name, _texts(_ARG_PAIR, part, name, types))


def _xml_call(name: str, body: str, end: str, types: Mapping[str, Mapping[str, str]]) -> ToolCall:
    if body.strip().startswith("{"):  # Llama 3.1 and Functionary write JSON inside
        return _named(name, body)
    if not end or body.count("<parameter=") != len(_PARAMETER.findall(body)):
        raise CallError(f"the call of '{name}' is cut")
    return ToolCall(name, _texts(_PARAMETER, body, name, types))


def _invoked(name: str, body: str, end: str, types: Mapping[str, Mapping[str, str]]) -> ToolCall:
    if not end or body.count("<parameter name=") != len(_NAMED_PARAMETER.findall(body)):
        raise CallError(f"the call of '{name}' is cut")
    return ToolCall(name, _texts(_NAMED_PARAMETER, body, name, types))


def _dsml(name: str, body: str, end: str) -> ToolCall:
    pairs = _DSML_PARAMETER.findall(body)
    if not end or body.count("<｜DSML｜parameter") != len(pairs):
        raise CallError(f"the call of '{name}' is cut")
    return ToolCall(name, {key: value if is_text == "true" else _typed(value) for key, is_text, value in pairs})


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
        yield from _json_calls(reply.partition("[TOOL_CALLS]")[2].strip())
    for match in named:
        value, _ = _read_json(reply, match.end())
        yield ToolCall(match[1], _arguments(value))
