"""Calls of functions that differ only in their tags from a form that `read_calls` knows: they are written in that form.

The forms are those of the models' chat templates, or of what their makers' documentation has them write: Gemma 4 and
FunctionGemma, Command, Step3, LongCat, LFM2, Olmo 3, Llama 4, Nemotron, GLM-4, and Qwen2's functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

_TAGS = (
    ("<longcat_tool_call>", (("<longcat_", "<"), ("</longcat_", "</"))),
    ("<steptml:invoke", (("<steptml:", "<"), ("</steptml:", "</"))),
    ("<TOOLCALL>", (("<TOOLCALL>", "<tool_calls>"), ("</TOOLCALL>", "</tool_calls>"))),
    ("<|START_ACTION|>", (("<|START_ACTION|>", "<tool_calls>"), ("<|END_ACTION|>", "</tool_calls>"))),
)
"""LongCat, Step3, Nemotron, Command: what stands in a reply, and which of its tags are written otherwise."""
_GEMMA = (("<|tool_call>", "<tool_call|>", '<|"|>'), ("<start_function_call>", "<end_function_call>", "<escape>"))
"""Gemma 4 and FunctionGemma: what begins and what ends a call, and what stands around texts."""
_GEMMA_CALL = re.compile(r"\s*call:([\w.-]++)\s*(\{.*\})\s*", re.DOTALL)
_KEY = re.compile(r"([{,]\s*)([A-Za-z_][\w.-]*)\s*:")
_PYTHON = (
    ("<|python_start|>", "<|python_end|>"),
    ("<|tool_call_start|>", "<|tool_call_end|>"),
    ("<function_calls>", "</function_calls>"),
)
"""Llama 4, LFM2, Olmo 3: marks around calls in Python, in a list or one below the other."""
_QWEN2 = re.compile(r"✿FUNCTION✿:\s*([\w.-]+)\s*✿ARGS✿:([^✿]*)")
_NAME_ABOVE = re.compile(r"\s*([\w.-]++)[^\S\n]*\n\s*(\{.*\})\s*", re.DOTALL)


def as_known_form(reply: str, names: Collection[str]) -> str:
    """The reply, its calls in a form that `read_calls` knows. names: of the functions that were offered."""
    for mark, pairs in _TAGS:
        if mark in reply:
            for other, known in pairs:
                reply = reply.replace(other, known)
            return reply
    for begin, end, quote in _GEMMA:
        if begin in reply:
            return "\n".join(_gemma(part, end, quote) for part in reply.split(begin)[1:])
    for begin, end in _PYTHON:
        if begin in reply and not reply.partition(begin)[2].lstrip().startswith("{"):
            body = reply.partition(begin)[2].partition(end)[0].strip()
            return body if body.startswith("[") else f"[{', '.join(filter(None, map(str.strip, body.splitlines())))}]"
    if found := _QWEN2.findall(reply):
        return "\n".join(_hermes(name, arguments.strip()) for name, arguments in found)
    if (above := _NAME_ABOVE.fullmatch(reply)) and above[1] in names:  # GLM-4
        return _hermes(above[1], above[2])
    return reply


def _gemma(part: str, end: str, quote: str) -> str:
    """One call: its texts stand between marks, and its keys without quotes. One that was cut is no call."""
    body, closed, _ = part.partition(end)
    call = _GEMMA_CALL.fullmatch(body)
    if not closed or call is None:
        return f"<tool_call>{body}"
    pieces = call[2].split(quote)
    written = [json.dumps(each) if place % 2 else _KEY.sub(r'\1"\2":', each) for place, each in enumerate(pieces)]
    return _hermes(call[1], "".join(written))


def _hermes(name: str, arguments: str) -> str:
    return f'<tool_call>{{"name": {json.dumps(name)}, "arguments": {arguments or "{}"}}}</tool_call>'
