"""Values that a call in Java or JavaScript writes as texts, as BFCL reads them.

The rules are those of ShishirPatil/gorilla, bfcl_eval/eval_checker/ast_eval/type_convertor/ (java_type_converter.py,
js_type_converter.py), patterns included. A text that is no value of its type stays a text. Types that the script does
not convert raise `NotImplementedError`, as there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from harness.later_patterns import later_pattern
from harness.types import JSON

Language = Literal["java", "javascript"]

TYPES: Mapping[Language, Mapping[str, type]] = {
    "java": {
        "byte": int, "short": int, "integer": int, "float": float, "double": float, "long": int, "boolean": bool,
        "char": str, "Array": list, "ArrayList": list, "Set": set, "HashMap": dict, "Hashtable": dict, "Queue": list,
        "Stack": list, "String": str, "any": str,
    },
    "javascript": {
        "String": str, "integer": int, "float": float, "Bigint": int, "Boolean": bool, "dict": dict, "array": list,
        "any": str,
    },
}  # fmt: skip
WITH_ITEMS = frozenset({"Array", "ArrayList", "array"})
"""Types whose items have one, which the function names."""
_INTEGER = later_pattern(r"^-?\d+$")
_NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?"
_JAVA_NUMBERS = {
    **dict.fromkeys(("byte", "short", "integer"), (_INTEGER, int)),
    "long": (re.compile(r"^-?\d+[lL]$"), int),
    "float": (re.compile(_NUMBER + "[fF]$"), float),
    "double": (re.compile(_NUMBER + "$"), float),
}
_AS_LIST = later_pattern(r"new\s+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)")
_ADDED = later_pattern(r"new\s+ArrayList<\w*>\(\)\s*\{\{\s*(.+?)\s*\}\}", re.DOTALL)
_EMPTY_LIST = later_pattern(r"new\s+ArrayList<\w*>\(\)")
_ARRAY = later_pattern(r"new\s+\w+\[\]\s*\{(.*?)\}")
_MAP = later_pattern(r"new\s+HashMap<.*?>\s*\(\)\s*\{\s*\{?\s*(.*?)\s*\}?\s*\}", re.DOTALL)
_EMPTY_MAP = later_pattern(r"new\s+HashMap<.*?>\s*\(\)")
_JS_ROWS = later_pattern(r"\[\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\]|\bnew\s+Array\(\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\)")
_JS_ARRAY = later_pattern(r"\[(.*?)\]|\bnew\s+Array\((.*?)\)")
_JS_PAIRS = later_pattern(r"([^:]+):\s*(.*?)(?:,\s*(?=[^,]+:)|$)")


def literal_value(language: Language, text: str, kind: str, items: str | None) -> JSON:
    """The value that a text writes. kind: its type in the function's description; items: that of its items."""
    return _java(text, kind, items) if language == "java" else _javascript(text, kind, items)


def _java(text: str, kind: str, items: str | None = None) -> JSON:
    if kind in _JAVA_NUMBERS:
        pattern, make = _JAVA_NUMBERS[kind]
        return make(re.sub(r"[lLfF]$", "", text)) if pattern.match(text) else text
    if kind == "boolean":
        return text == "true" if text in ("true", "false") else text
    if kind == "ArrayList":
        return _java_list(text, items)
    if kind == "Array":
        match = _ARRAY.search(text)
        parts = [part.strip() for part in match[1].split(",") if part.strip()] if match else []
        return text if match is None else [_java(part, items) if items else _java_any(part) for part in parts]
    if kind == "HashMap":
        return _java_map(text)
    if kind in ("char", "String", "any"):
        return text
    raise NotImplementedError(kind)


def _java_list(text: str, items: str | None) -> JSON:
    if match := _AS_LIST.search(text):
        parts = match[1].split(",")
    elif match := _ADDED.search(text):
        parts = re.findall(r"add\((.+?)\)", match[1])
    else:
        return [] if _EMPTY_LIST.search(text) else text
    stripped = [part.strip() for part in parts]
    if items in ("char", "String"):
        return [part[1:-1] for part in stripped]
    return [_java(part, items) if items else _java_any(part) for part in stripped]


def _java_map(text: str) -> JSON:
    match = _MAP.search(text)
    if match is None:
        return {} if _EMPTY_MAP.search(text) else text
    puts = re.findall(r"put\(\"(.*?)\",\s*(.*?)\)", match[1])
    return {key: _java_any(value.strip()) for key, value in puts}


def _java_any(text: str) -> JSON:
    """A value of which no type is known."""
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"') and text.endswith('"'):
        return text[1:-1]
    for kind in ("long", "float"):
        pattern, make = _JAVA_NUMBERS[kind]
        if pattern.match(text):
            return make(text[:-1])
    return _number(text)


def _number(text: str) -> JSON:
    for make in (int, float):
        try:
            return make(text)
        except ValueError:
            continue
    return text


def _javascript(text: str, kind: str, items: str | None = None) -> JSON:
    if kind == "String":
        return text[1:-1] if _is_quoted(text) else text
    if kind == "integer":
        return int(text) if _INTEGER.match(text) else text
    if kind == "float":
        return float(text) if re.match(r"^-?\d+(\.\d+)?$", text) else text
    if kind == "Bigint":
        return int(text[:-1]) if re.match(r"^-?\d+n$", text) else text
    if kind == "Boolean":
        return text == "true" if text in ("true", "false") else text
    if kind == "array":
        return _js_array(text.strip(), items)
    if kind == "dict":
        return _js_object(text.strip())
    return text


def _js_array(text: str, items: str | None = None) -> JSON:
    if match := _JS_ROWS.match(text):
        rows = re.findall(r"\[(.*?)\]", match[0])
        rows = [row.strip() for row in rows]
        rows[:1] = [row.removeprefix("[") for row in rows[:1]]
        return [[_js_any(part.strip()) for part in row.split(",")] for row in rows]
    match = _JS_ARRAY.match(text)
    if match is None:
        return text
    inner = (match[1] if match[1] is not None else match[2]).strip()
    parts = [part.strip() for part in inner.split(",")] if inner else []
    return [_javascript(part, items) if items else _js_any(part) for part in parts]


def _js_object(text: str) -> JSON:
    if text == "{}":
        return {}
    match = re.match(r"\{(.*?)\}", text)
    if match is None:
        return text
    found = {}
    for key, value in _JS_PAIRS.findall(match[1]):
        value = value.strip()
        is_list, is_object = value[:1] + value[-1:] == "[]", value[:1] + value[-1:] == "{}"
        made = _js_array(value) if is_list else _js_object(value) if is_object else _js_any(value.strip("'\""))
        found[key.strip().strip("'\"")] = made
    return found


def _js_any(text: str) -> JSON:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    return text[1:-1] if _is_quoted(text) else _number(text)


def _is_quoted(text: str) -> bool:
    return any(text.startswith(mark) and text.endswith(mark) for mark in "\"'")
