"""Conversations as records hold them, for a reader: who speaks, what is said, which functions are called.

    conversation = conversation_in(response.text)
    pieces_of("I look. <tool_call>{...}</tool_call>")      # a text, and a call

Answers to an environment are JSON (`harness.run.talks`); calls stand in texts as `<tool_call>` blocks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from harness.quick import dataclass
from harness.words import Translate, english

_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
ENDS = {
    "user": "the user ended it",
    "tool": "a function ended it",
    "answer": "it ended with the answer",
    "steps": "it was ended after too many steps",
    "cut": "it was cut",
    "unreadable": "it ended with a call that could not be read",
}
"""`end` of a conversation -> what a page says of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function. arguments: as indented JSON, or what stands in their place. name: empty where it cannot be
    read. is_run: of several that were written at once, only the first is executed."""

    name: str
    arguments: str
    is_run: bool = True

    @property
    def line(self) -> str:
        return f"→ {self.name} {self.arguments}"


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """What one side says."""

    who: str
    pieces: tuple[str | Call, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation that became of a sample. end: one of `ENDS`, or what else the record says."""

    end: str
    turns: tuple[ShownTurn, ...]

    @property
    def first_words(self) -> str:
        """What the user opened it with; empty where the model did, who answers to the prompt."""
        first = self.turns[0] if self.turns else None
        return str(first.pieces[0]) if first is not None and first.who == "user" else ""

    def text(self, t: Translate = english) -> str:
        """All that is said, in plain text; calls below the words around them."""
        turns = [
            (t(turn.who), [each if isinstance(each, str) else each.line for each in turn.pieces]) for turn in self.turns
        ]
        said = [f"[{who}]\n" + "\n".join(pieces) for who, pieces in turns]
        return "\n\n".join([*said, f"({t(ENDS.get(self.end, self.end))})"])


def conversation_in(text: str) -> Conversation | None:
    """The conversation that an answer is; None where it is none."""
    if not text.startswith('{"end":'):
        return None
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    turns = told.get("turns")
    if not isinstance(turns, list) or not isinstance(told["end"], str):
        return None
    known = [turn for turn in turns if isinstance(turn, dict) and isinstance(turn.get("content"), str)]
    return Conversation(told["end"], tuple(_turn(turn) for turn in known)) if len(known) == len(turns) else None


def last_words(text: str) -> str:
    """What the model said last, or which function it called, where an answer is a conversation; else the answer."""
    talk = conversation_in(text)
    if talk is None:
        return text
    last = next((turn for turn in reversed(talk.turns) if turn.who == "assistant"), None)
    return " ".join(each if isinstance(each, str) else f"{each.name}()" for each in last.pieces) if last else ""


def _turn(turn: dict[str, object]) -> ShownTurn:
    who, content, ran = str(turn.get("role")), str(turn["content"]), turn.get("call")
    pieces = pieces_of(content) if who == "assistant" else (content,)
    if not isinstance(ran, dict):
        return ShownTurn(who, pieces)
    calls = [piece for piece in pieces if isinstance(piece, Call)]
    if not calls:  # written in a notation of the model's own, which stays as it is
        return ShownTurn(who, (*pieces, Call(str(ran.get("name")), _as_json(ran.get("arguments")))))
    return ShownTurn(
        who,
        tuple(
            Call(piece.name, piece.arguments, is_run=piece is calls[0]) if isinstance(piece, Call) else piece
            for piece in pieces
        ),
    )


def pieces_of(text: str) -> tuple[str | Call, ...]:
    """A text of the model as words and calls, in their order."""
    return tuple(_pieces(text)) or ("",)


def _pieces(text: str) -> Iterator[str | Call]:
    end = 0
    for block in _BLOCK.finditer(text):
        if words := text[end : block.start()].strip():
            yield words
        yield _read(block[1].strip())
        end = block.end()
    if words := text[end:].strip() if end else text:
        yield words


def _read(body: str) -> Call:
    try:
        call = json.loads(body)
        return Call(str(call["name"]), _as_json(call.get("arguments", call.get("parameters", {}))))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return Call("", body)


def indented(text: str) -> str:
    """JSON on lines of its own; any other text as it is."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return _as_json(json.loads(text))
    except (ValueError, RecursionError):
        return text


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1)
