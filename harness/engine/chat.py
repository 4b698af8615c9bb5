"""Chat turns as the string that a model is shown, by its tokenizer's template or by one that the user gives.

Templates differ in what they take: a turn's content as a text or as a list of parts, a system turn or none. Each form
is tried until one shows every turn: a template that drops a text (it walks over parts, say, and was given a string)
would otherwise make all questions the same.
"""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError, one_line
from harness.quick import dataclass
from harness.reasoning import strip_reasoning
from harness.time_limit import TooSlowError, time_limit
from harness.types import Media, Message, Prompt

log = logging.getLogger(__name__)

# A template takes milliseconds; one that has taken this long never ends.
_SECONDS = 10.0
_SHOWN_CHARACTERS = 40
_PROBE = "Is the content of a turn shown?"
_WRITTEN_PARTS = re.compile(r"""\{["']type["']: ?["']text["']""")


def read_template(value: str | None) -> str | None:
    """A chat template given as Jinja text, or as the path of a file that holds it."""
    if value is None or "{" in value or "\n" in value:
        return value
    path = Path(value).expanduser()
    if not path.is_file():
        raise UsageError(f"--model_args: chat_template={value} is neither Jinja text nor a file")
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Form:
    """How turns are given to a template. parts: content as a list. folded: the system turn before the first user's.

    named: calls of functions by themselves, as `tool_calls`, and not in the text as the model wrote them.
    """

    parts: bool = False
    folded: bool = False
    named: bool = False


class ChatTemplate:
    """Renders chat prompts. `template` None means the tokenizer's own; `extra` are variables for the template."""

    def __init__(
        self, tokenizer: Any, template: str | None, extra: Mapping[str, Any], where: str, seconds: float = _SECONDS
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.extra = dict(extra)
        self.where = where
        self.seconds = seconds
        self._has_warned = False
        self.image_mark = ""

    def with_variables(self, variables: Mapping[str, Any]) -> ChatTemplate:
        """The same template with these variables over its own."""
        other = ChatTemplate(self.tokenizer, self.template, {**self.extra, **variables}, self.where, self.seconds)
        other.image_mark = self.image_mark
        return other

    @property
    def text(self) -> str | None:
        """The Jinja text in use; None where the tokenizer has none."""
        own = self.template if self.template is not None else getattr(self.tokenizer, "chat_template", None)
        return own.get("default") if isinstance(own, dict) else own

    @functools.cached_property
    def wants_parts(self) -> bool:
        """Whether the template shows a turn only where its content is a list of parts. Part of a model's identity."""
        if self.text is None:
            return False
        turn = Message("user", _PROBE)
        for form in (_Form(), _Form(parts=True)):
            try:
                with time_limit(self.seconds, "it"):
                    shown = self._apply([turn], "", form)
            except TooSlowError:
                return False
            except Exception:  # whatever code of somebody else raises
                continue
            if _dropped([turn], shown) is None and not _WRITTEN_PARTS.search(shown):
                return form.parts
        return False

    def render(self, prompt: Prompt) -> str:
        """The prompt up to where the assistant's answer begins, or after its `prefill`.

        Raises UsageError where there is no template, where it raises, never ends, or does not show a turn's text.
        """
        if self.text is None:
            raise UsageError(
                f"{self.where} has no chat template: give one with --model_args chat_template=FILE, "
                "or run without --apply_chat_template"
            )
        reason = ""
        for form in self._forms(prompt):
            messages = _fold_system(prompt.messages) if form.folded else prompt.messages
            messages = tuple(map(_without_call, messages)) if form.named else messages
            try:
                with time_limit(self.seconds, "it"):
                    shown = self._apply(messages, prompt.prefill, form, prompt.tools)
            except Exception as error:  # whatever code of somebody else raises
                reason = reason or f"the chat template refuses the prompt: {one_line(error)}"
                if isinstance(error, TooSlowError):
                    break
                continue
            if form.parts and _WRITTEN_PARTS.search(shown):
                continue  # the template wants a text, and wrote the list as Python would
            images = sum(1 for _ in prompt.shown_media)
            if images and shown.count(self.image_mark) < images:
                reason = reason or "the chat template drops an image"
                continue
            if lacking := next((name for name in tool_names(prompt.tools) if name not in shown), None):
                reason = reason or f"the chat template shows no functions (it leaves out '{lacking}')"
                continue
            dropped = _dropped(messages, shown)
            if dropped is None:
                if form.folded and not self._has_warned:
                    self._has_warned = True
                    log.warning(
                        "%s: the chat template takes no system turn; it is put before the first user turn", self.where
                    )
                return shown
            start = " ".join(dropped.text.split())[:_SHOWN_CHARACTERS]
            reason = reason or f"the chat template drops the text of a turn ({dropped.role}: '{start}')"
        raise UsageError(f"{self.where}: {reason}: give another with --model_args chat_template=FILE")

    def _forms(self, prompt: Prompt) -> Iterator[_Form]:
        """The forms to try. Their order is the template's own, so that no prompt depends on those before it.

        With images, parts come first: a template that takes them knows where an image goes.
        """
        has_system = any(message.role == "system" for message in prompt.messages)
        wants_parts = self.wants_parts or any(True for _ in prompt.shown_media)
        for named in (False, True) if any(message.call for message in prompt.messages) else (False,):
            for folded in (False, True) if has_system else (False,):
                for parts in (wants_parts, not wants_parts):
                    yield _Form(parts, folded, named)

    def _apply(self, messages: Sequence[Message], prefill: str, form: _Form, tools: str = "") -> str:
        def content(shown: str | tuple[str | Media, ...]) -> Any:
            parts = (shown,) if isinstance(shown, str) else shown
            if form.parts:
                return [{"type": "text", "text": p} if isinstance(p, str) else {"type": p.kind} for p in parts]
            return "".join(part if isinstance(part, str) else self.image_mark for part in parts)

        turns: list[dict[str, Any]] = [{"role": turn.role, "content": content(turn.content)} for turn in messages]
        if form.named:
            _name_calls(turns, messages)
        options = {"tokenize": False, "chat_template": self.template, **self.extra}
        if tools:
            options["tools"] = json.loads(tools)
        if not prefill:
            return str(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, **options))
        turns.append({"role": "assistant", "content": content(prefill)})
        try:
            return str(self.tokenizer.apply_chat_template(turns, continue_final_message=True, **options))
        except ValueError:
            # Templates that trim an answer hide where it ended.
            return str(self.tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, **options)) + prefill


def _without_call(message: Message) -> Message:
    """An answer that calls a function, with what was said before the call alone."""
    said = message.text.partition("<tool_call>")
    return replace(message, content=said[0].strip() if said[1] else "") if message.call else message


def _name_calls(turns: list[dict[str, Any]], messages: Sequence[Message]) -> None:
    """Give turns that call a function the call by itself, and the turn behind it, which returns, its id."""
    for place, message in enumerate(messages):
        if message.call is not None:
            name, arguments = message.call
            function = {"name": name, "arguments": json.loads(arguments)}
            turns[place]["tool_calls"] = [{"id": f"call{place:05}", "type": "function", "function": function}]
            if place + 1 < len(turns):
                turns[place + 1].update(tool_call_id=f"call{place:05}", name=name)


def tool_names(tools: str) -> list[str]:
    """The names of the functions of `Prompt.tools`."""
    return [str(each["function"]["name"]) for each in json.loads(tools or "[]")]


def _dropped(messages: Sequence[Message], shown: str) -> Message | None:
    """The first turn whose text is not shown. White space, and the thoughts of earlier answers, may be left out."""
    squeezed = ""
    for message in messages:
        parts = (message.content,) if isinstance(message.content, str) else message.content
        for text in (part for part in parts if isinstance(part, str)):
            text = strip_reasoning(text)[0] if message.role == "assistant" else text
            if not text.strip() or text.strip() in shown:
                continue
            squeezed = squeezed or "".join(shown.split())
            if "".join(text.split()) not in squeezed:
                return message
    return None


def _fold_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    system = "\n\n".join(message.text for message in messages if message.role == "system")
    turns = [message for message in messages if message.role != "system"]
    for index, message in enumerate(turns):
        if message.role == "user":
            whole = isinstance(message.content, str)
            content = f"{system}\n\n{message.text}" if whole else (f"{system}\n\n", *message.content)
            turns[index] = Message("user", content)
            return tuple(turns)
    return (Message("user", system), *turns)
