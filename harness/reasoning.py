"""Reasoning: which marks models put around it, how it is taken off a reply, and whether a prompt has opened it."""

from __future__ import annotations

import re

from harness.types import Response

# What opens and what closes a block, as models write them. The last pair is a channel that ends where another begins.
_PAIRS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("<|channel>thought", "<channel|>"),
    ("<思考>", "</思考>"),
    ("<思考过程>", "</思考过程>"),
    ("<思维链>", "</思维链>"),
    ("<推理>", "</推理>"),
    ("<推理过程>", "</推理过程>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<unused94>", "<unused95>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|channel|>commentary<|message|>", "<|end|>"),
)
_LONGEST_MARK = max(len(opening) for opening, _ in _PAIRS)
_FINAL_CHANNEL = re.compile(r"<\|start\|>assistant|<\|channel\|>final<\|message\|>")
_SOLUTION = re.compile(r"<\|(?:begin|end)_of_solution\|>|<\|(?:end|return)\|>|<\|(?:START|END)_(?:RESPONSE|TEXT)\|>")
_OTHER_CASE = re.compile(r"</?(?:think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
# The channels of gpt-oss where a server has dropped the marks between them: all of it, or cut before the final one.
_BARE_CHANNELS = re.compile(r"\Aanalysis(.*?)assistant\s*final", re.DOTALL)
# `analysisPeriod=3` and the like are names in a call.
_BARE_ANALYSIS = re.compile(r"\Aanalysis(?![A-Za-z0-9_]+\s*[=(\[])(?=[^\W\d_]|\s+[A-Z\u4e00-\u9fff])(.*)\Z", re.DOTALL)


def strip_reasoning(reply: str) -> tuple[str, str | None]:
    """Return (answer, reasoning); reasoning is None where the reply has none.

    A closing mark without its opening one (the chat template wrote that) ends the reasoning: the answer is what
    follows. An opening mark that is never closed (the reply was cut) begins reasoning that has no end: the answer is
    what stands before it, most often nothing.
    """
    if reply.startswith("analysis") and (bare := _BARE_CHANNELS.match(reply) or _BARE_ANALYSIS.match(reply)):
        return reply[bare.end() :].strip(), bare[1].strip()
    if "<" not in reply and "[" not in reply and "◁" not in reply:  # as every mark begins; most answers have none
        return reply, None
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


def opened_by(text: str, turn: str = "") -> str | None:
    """The mark by which a rendered prompt has opened reasoning that it does not close; None where it has not.

    turn: the text of the last turn, which may speak of such marks. Only what stands behind it is looked at.
    """
    if not turn.strip():
        # A prompt that is one text may speak of marks anywhere: one at its end is meant.
        return next((opening for opening, _ in _PAIRS if text.rstrip().endswith(opening)), None)
    after = text.rpartition(turn.strip())[2]
    places = [(after.rfind(start), start) for start, end in _PAIRS if after.rfind(end) < after.rfind(start)]
    return max(places)[1] if places else None


def closing_of(opening: str) -> str:
    """The mark that closes what `opening` opens."""
    return dict(_PAIRS)[opening]


def opening_of(reply: str) -> str | None:
    """The mark that begins a reply, if it begins with one."""
    start = reply.lstrip()[:_LONGEST_MARK].lower()
    return next((opening for opening, _ in _PAIRS if start.startswith(opening.lower())), None)


def last_closing(reply: str) -> str | None:
    """The mark of the last place where reasoning is closed; None where none is."""
    # The mark that ends a channel ends answers too.
    marks = [closing for opening, closing in _PAIRS if closing in reply and (closing != "<|end|>" or opening in reply)]
    return max(marks, key=reply.rfind, default=None)


def lone_closing(reply: str) -> str | None:
    """The mark that closes reasoning which the reply itself has not opened; None where there is none."""
    for opening, closing in _PAIRS:
        if closing != "<|end|>" and closing in reply and opening not in reply.partition(closing)[0]:
            return closing
    return None


def speaks_of_reasoning(template: str) -> bool:
    """Whether a chat template knows marks of reasoning, so that its model may write them."""
    return any(opening in template or closing in template for opening, closing in _PAIRS)


def begins_with_reasoning(reply: str) -> bool:
    """Whether the first thing in a reply is reasoning."""
    start = reply.lstrip()[:_LONGEST_MARK]
    return any(start.lower().startswith(opening.lower()) for opening, _ in _PAIRS) or bool(
        _BARE_CHANNELS.match(reply) or _BARE_ANALYSIS.match(reply)
    )


def ends_within_reasoning(reply: str) -> bool:
    """Whether a reply opens reasoning and never closes it: what stands before the mark is no answer either."""
    if _BARE_ANALYSIS.match(reply) and not _BARE_CHANNELS.match(reply):
        return True
    if "<" not in reply and "[" not in reply and "◁" not in reply:
        return False
    lowered = _OTHER_CASE.sub(lambda mark: mark.group().lower(), reply)
    return any(lowered.rfind(closing) < lowered.rfind(opening) for opening, closing in _PAIRS if opening in lowered)


def is_incomplete(response: Response) -> bool:
    """Whether an answer was cut inside its reasoning, so that there is none: it is not scored, and counted as cut.

    Where the model ended it by itself it is an answer, if an empty one.
    """
    if response.text is None or response.finish_reason == "stop":
        return False
    return ends_within_reasoning(response.text) or (response.reasoning is not None and not response.text.strip())
