"""Joins description, examples and question into the prompt, as a string or as chat turns.

Where blanks and delimiters go is lm-eval's rule, to the byte (api/task.py: `fewshot_context`, `build_qa_turn`;
api/utils.py: `maybe_delimit`, `multiturn_to_singleturn`).
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.quick import dataclass
from harness.tasks.render import Rendered, answer_text
from harness.types import Message, Prompt, Role


@dataclass(frozen=True, slots=True)
class Turn:
    """One side of a question and its answer. `delimiter` follows it in a string prompt, and is no part of a chat."""

    role: Role
    content: str
    delimiter: str = ""

    @property
    def text(self) -> str:
        return self.content + self.delimiter


@dataclass(frozen=True, slots=True)
class Style:
    """How turns are joined. The delimiters are the question's own and those of the examples."""

    chat: bool
    multiturn: bool
    target_delimiter: str
    shot_target_delimiter: str
    shot_delimiter: str


@dataclass(frozen=True, slots=True)
class Opening:
    """What stands before a question: the system text and the examples, joined once for all rows that share them."""

    text: str
    messages: tuple[Message, ...]
    body: str


def shot_turns(shot: Rendered, style: Style) -> tuple[Turn, ...]:
    """An example: its question and its answer."""
    if shot.contexts:
        question, answer = shot.contexts[shot.target], shot.continuation
    else:
        question, answer = shot.text, answer_text(shot.target, shot.choices)
    prefix = shot.gen_prefix
    if not answer:
        ask = Turn("user", question, style.shot_target_delimiter if prefix and _apart(question, prefix) else "")
        return (ask, Turn("assistant", prefix)) if prefix else (ask,)
    needs_blank = not prefix or _apart(question, prefix)
    return (
        Turn("user", question, style.shot_target_delimiter if needs_blank else ""),
        Turn("assistant", join(prefix, answer, " "), style.shot_delimiter),
    )


def opening(system: str, shots: Sequence[tuple[Turn, ...]], style: Style) -> Opening:
    """Join what stands before the question."""
    turns = [turn for shot in shots for turn in shot]
    body = "".join(turn.text for turn in turns)
    messages: tuple[Message, ...] = (Message("system", system),) if system else ()
    if style.multiturn:
        messages += tuple(Message(turn.role, turn.content) for turn in turns)
    return Opening(system + body, messages, body)


def prompt(
    before: Opening,
    question: str,
    gen_prefix: str,
    style: Style,
    *,
    is_context: bool = False,
    turns: tuple[Message, ...] = (),
    tools: str = "",
) -> Prompt:
    """The whole prompt. `is_context`: the question already holds a choice, and no delimiter follows it.

    turns: the question as a conversation. Where it begins with a system text, that follows the task's own. One that
    holds the model's own answers is a chat prompt whatever the style: a string has no place for them, nor for tools.
    """
    if not style.chat and not tools and not any(turn.is_own for turn in turns):
        delimiter = "" if is_context or not (gen_prefix and _apart(question, gen_prefix)) else style.target_delimiter
        return Prompt(prefix=before.text, suffix=question + delimiter + gen_prefix)
    asked = question if style.multiturn else before.body + question
    if turns and before.messages and turns[0].role == "system":
        system = Message("system", join(before.messages[0].text, turns[0].text, "\n\n"))
        return Prompt(messages=(system, *turns[1:]), prefill=gen_prefix, tools=tools)
    return Prompt(
        messages=(*before.messages, *(turns or (Message("user", asked),))),
        shared_messages=len(before.messages),
        prefill=gen_prefix,
        tools=tools,
    )


def choice_delimiter(gen_prefix: str, style: Style) -> str:
    """What stands between prompt and choice. A chat template brings its own line break, so there it is nothing."""
    if not style.chat:
        return style.target_delimiter
    return style.target_delimiter if gen_prefix and not gen_prefix[-1].isspace() else ""


def join(first: str, second: str, delimiter: str) -> str:
    """Join two texts, with the delimiter unless one of them brings white space to the seam."""
    if not first or not second:
        return first or second
    return first + (delimiter if _apart(first, second) else "") + second


def system_text(instruction: str | None, description: str, delimiter: str) -> str:
    """`--system_instruction` and the task's description, as one system text."""
    return join(instruction or "", description, delimiter)


def _apart(first: str, second: str) -> bool:
    if not first or not second:
        return False
    return not (first[-1].isspace() or second[0].isspace())
