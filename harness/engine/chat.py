"""Chat turns as the string that a model is shown, by its tokenizer's template or by one that the user gives."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import ChatTemplateError, UsageError
from harness.types import Message, Prompt

log = logging.getLogger(__name__)


def read_template(value: str | None) -> str | None:
    """A chat template given as Jinja text, or as the path of a file that holds it."""
    if value is None or "{" in value or "\n" in value:
        return value
    path = Path(value).expanduser()
    if not path.is_file():
        raise UsageError(f"--model_args: chat_template={value} is neither Jinja text nor a file")
    return path.read_text(encoding="utf-8")


class ChatTemplate:
    """Renders chat prompts. `template` None means the tokenizer's own; `extra` are variables for the template."""

    def __init__(self, tokenizer: Any, template: str | None, extra: Mapping[str, Any], where: str) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.extra = dict(extra)
        self.where = where
        self._folds_system = False

    @property
    def text(self) -> str | None:
        """The Jinja text in use; None where the tokenizer has none."""
        found = self.template if self.template is not None else getattr(self.tokenizer, "chat_template", None)
        return found.get("default") if isinstance(found, dict) else found

    def render(self, prompt: Prompt) -> str:
        """The prompt up to where the assistant's answer begins, or after its `prefill`. Raises UsageError."""
        if self.text is None:
            raise ChatTemplateError(
                f"{self.where} has no chat template: give one with --model_args chat_template=FILE, "
                "or run without --apply_chat_template"
            )
        if not self._folds_system:
            try:
                return self._apply(prompt.messages, prompt.prefill)
            except _template_errors() as error:
                if not any(message.role == "system" for message in prompt.messages):
                    raise UsageError(f"{self.where}: the chat template refuses the prompt: {error}") from None
                self._folds_system = True
                log.warning(
                    "%s: the chat template takes no system turn; it is put before the first user turn", self.where
                )
        try:
            return self._apply(_fold_system(prompt.messages), prompt.prefill)
        except _template_errors() as error:
            raise UsageError(f"{self.where}: the chat template refuses the prompt: {error}") from None

    def _apply(self, messages: Sequence[Message], prefill: str) -> str:
        turns = [{"role": message.role, "content": message.text} for message in messages]
        options = {"tokenize": False, "chat_template": self.template, **self.extra}
        if not prefill:
            return str(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, **options))
        turns.append({"role": "assistant", "content": prefill})
        try:
            return str(self.tokenizer.apply_chat_template(turns, continue_final_message=True, **options))
        except ValueError:
            # Templates that trim an answer hide where it ended.
            return str(self.tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, **options)) + prefill


def _fold_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    system = "\n\n".join(message.text for message in messages if message.role == "system")
    turns = [message for message in messages if message.role != "system"]
    for index, message in enumerate(turns):
        if message.role == "user":
            turns[index] = Message("user", f"{system}\n\n{message.text}")
            return tuple(turns)
    return (Message("user", system), *turns)


def _template_errors() -> tuple[type[Exception], ...]:
    from jinja2.exceptions import TemplateError

    return (TemplateError,)
