"""Takes a model's thinking off its reply. The record keeps the raw text; what is scored is the answer."""

from __future__ import annotations

import re

# What opens and what closes a block, as models write them. The last pair is a channel that ends where another begins.
_PAIRS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<unused94>", "<unused95>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
)
_FINAL_CHANNEL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>")
_SOLUTION = re.compile(r"<\|(?:begin|end)_of_solution\|>|<\|(?:end|return)\|>|<\|(?:START|END)_(?:RESPONSE|TEXT)\|>")
_OTHER_CASE = re.compile(r"</?(?:think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
# The channels of gpt-oss where a server has dropped the marks between them.
_BARE_CHANNELS = re.compile(r"\Aanalysis(?=[A-Z\W])(.*?)assistantfinal", re.DOTALL)


def strip_reasoning(reply: str) -> tuple[str, str | None]:
    """Return (answer, reasoning); reasoning is None where the reply has none.

    A closing mark without its opening one (the chat template wrote that) ends the reasoning: the answer is what
    follows. An opening mark that is never closed (the reply was cut) begins reasoning that has no end: the answer is
    what stands before it, most often nothing.
    """
    if bare := _BARE_CHANNELS.match(reply):
        return reply[bare.end() :].strip(), bare[1].strip()
    answer = _OTHER_CASE.sub(lambda mark: mark.group().lower(), reply) if "<" in reply else reply
    thoughts: list[str] = []
    for opening, closing in _PAIRS:
        if opening in answer or closing in answer:
            answer = _without_blocks(answer, opening, closing, thoughts)
    if not thoughts:
        return reply, None
    answer = _SOLUTION.sub("", _FINAL_CHANNEL.sub("", answer))
    return answer.strip(), "\n".join(thought.strip() for thought in thoughts)


def _without_blocks(text: str, opening: str, closing: str, thoughts: list[str]) -> str:
    """Take off whole blocks, then what stands before a lone closing or after a lone opening mark."""
    kept: list[str] = []
    while (start := text.find(opening)) >= 0 and (end := text.find(closing, start)) >= 0:
        lone_end = text.find(closing, 0, start)
        if lone_end >= 0:
            thoughts.append(text[:lone_end])
            kept.clear()
            text = text[lone_end + len(closing) :]
            continue
        kept.append(text[:start])
        thoughts.append(text[start + len(opening) : end])
        text = text[end + len(closing) :]
    if start >= 0:
        thoughts.append(text[start + len(opening) :])
        text = text[:start]
    before, mark, after = text.rpartition(closing)
    # The mark that ends a channel also ends the answer; there it begins nothing.
    if mark and closing != "<|end|>":
        thoughts += [*kept, before]
        return after
    return "".join(kept) + text
