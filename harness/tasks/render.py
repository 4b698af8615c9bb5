"""One row as it is shown: question, choices, and what would be right. Types are decided value by value.

The rules are lm-eval's (api/task.py: `doc_to_text`, `doc_to_choice`, `doc_to_target`): the name of a column stands for
its value; digits that a template of a task with choices renders are an index; a rendered list is a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import cast, get_args

from harness.errors import DataError, suggest
from harness.quick import dataclass
from harness.tasks.functions import TaskFunctions
from harness.tasks.schema import TaskConfig
from harness.tasks.schema_entries import Choices
from harness.tasks.templates import (
    Context,
    FunctionTemplate,
    Template,
    Templates,
    as_literal,
    function_template,
    is_array_of_numpy,
)
from harness.tasks.tools import offered
from harness.tasks.yaml_file import Document, KeyPath, PythonFunction
from harness.types import JSON, NO_CHOICE, Message, OutputType, Role

Gold = int | str | tuple[int, ...] | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row as it is shown.

    contexts: one question a choice where the choices are in the question (winogrande); `continuation` is then what
        follows all of them. target: as the templates gave it, before it was compared with the choices. turns: the
        question as a conversation, which a chat model is shown in the place of `text`. forgiving: as of the templates.
        tools: as of a `Prompt`.
    """

    text: str
    choices: tuple[str, ...]
    target: JSON
    contexts: tuple[str, ...] = ()
    continuation: str = ""
    gen_prefix: str = ""
    turns: tuple[Message, ...] = ()
    forgiving: bool = False
    tools: str = ""


@dataclass(frozen=True, slots=True)
class DocTemplates:
    """How a row becomes a question and an answer.

    forgiving: rows that lm-eval takes, although they are at fault, are rendered as it renders them (`--bad_rows
    lm_eval`): a template of nothing but a null shows `None`, a choice may be empty, and a gold may be none of them.
    """

    text: Template | int | None
    choice: Template | tuple[str, ...] | None
    target: Template | int | tuple[str, ...] | None
    gen_prefix: Template | None
    output_type: OutputType
    messages: Template | None = None
    forgiving: bool = False
    tools: Template | str | None = None

    @property
    def templates(self) -> tuple[Template, ...]:
        parts = (self.text, self.choice, self.target, self.gen_prefix, self.messages)
        return tuple(part for part in parts if isinstance(part, Template))

    def render(self, context: Context, columns: Set[str]) -> Rendered:
        """Render a row. Raises `DataError` for a value that cannot be shown.

        columns: of all rows. A template that is one of them stands for the row's value, and the row must have it.
        """
        choices = self._choices(context, columns)
        target = self._target(context, columns, has_choices=bool(choices))
        text = self._text(context, columns)
        gen_prefix = self._gen_prefix(context, columns)
        if self.messages is not None:
            is_column = _is_column(self.messages, columns)
            value = _column(self.messages, context) if is_column else self.messages.value(context)
            turns = _turns(self.messages, value)
            if self.output_type != "generate_until" and any(turn.is_own for turn in turns):
                what = f"the model's own answers, of which output_type '{self.output_type}' has none"
                raise DataError(f"{self.messages.place}: doc_to_messages: holds {what}")
            shown = str(text)
            if self.text is None:  # the turns one below the other, for models that know no chat
                names = ["" if turn.role == "system" else f"{turn.role.title()}: " for turn in turns]
                lines = [f"{name}{turn.outline}\n\n" for name, turn in zip(names, turns, strict=True)]
                shown = "".join(lines) + "Assistant:"
            return Rendered(shown, choices, target, gen_prefix=gen_prefix, turns=turns, forgiving=self.forgiving)
        index = self._input_index(text, target, choices)
        if index is None:
            return Rendered(str(text), choices, target, gen_prefix=gen_prefix, forgiving=self.forgiving)
        if not 0 <= index < len(choices):
            if not self.forgiving:
                raise DataError(f"doc_to_text: the index {index} is outside the {len(choices)} choices")
            index = NO_CHOICE
        continuation = answer_text(target, ())
        return Rendered("", choices, index, choices, continuation, gen_prefix, forgiving=self.forgiving)

    def offered(self, context: Context, columns: Set[str]) -> str:
        """The functions that the row offers, as of a `Prompt`. Raises `DataError`."""
        if self.tools is None or isinstance(self.tools, str):
            return self.tools or ""
        is_column = _is_column(self.tools, columns)
        value = _column(self.tools, context) if is_column else self.tools.value(context)
        return offered(value, f"{self.tools.place}: doc_to_tools")

    def graded(self, context: Context, columns: Set[str]) -> Rendered:
        """What is right, and only as much of what is shown as it takes to know that. Raises as `render`."""
        if self.output_type == "multiple_choice":  # the text may be an index
            return self.render(context, columns)
        choices = self._choices(context, columns)
        return Rendered("", choices, self._target(context, columns, has_choices=bool(choices)))

    def shown_nulls(self, context: Context, columns: Set[str]) -> tuple[str, ...]:
        """Columns without a value, in the place of which the row's text or answer shows `None`."""
        templates = (part for part in self.templates if part is not self.choice and not _is_column(part, columns))
        return tuple(dict.fromkeys(name for template in templates for name in template.shown_nulls(context)))

    def _input_index(self, text: int | str, target: JSON, choices: tuple[str, ...]) -> int | None:
        """Which of the contexts is right, where `doc_to_text` is an index; None where it is a question.

        A question that happens to be a number ("7") is told by its target: an index or a choice makes it a question.
        """
        if self.output_type != "multiple_choice":
            return None
        if isinstance(text, int):
            return int(text)
        if isinstance(self.text, FunctionTemplate):  # its text is a question, whatever it looks like
            return None
        if not _is_index(text) or isinstance(target, list | int | None) or target in choices:
            return None
        return int(text)

    def _text(self, context: Context, columns: Set[str]) -> int | str:
        if self.text is None or isinstance(self.text, int):
            return "" if self.text is None else self.text
        if _is_column(self.text, columns):
            value = _column(self.text, context)
        else:
            value = self.text.value(context)
            if isinstance(value, bool) or not isinstance(value, int | str | None) or (value is None and self.forgiving):
                value = str(value)  # as Jinja prints it
        if isinstance(value, str | int):
            return value
        raise DataError(f"{self.text.place}: doc_to_text: should be a text, found {describe(value)}")

    def _choices(self, context: Context, columns: Set[str]) -> tuple[str, ...]:
        if self.choice is None or isinstance(self.choice, tuple):
            if self.choice and "" in self.choice and not self.forgiving:
                raise DataError(f"doc_to_choice: choice {self.choice.index('') + 1} is empty")
            return self.choice or ()
        is_column = _is_column(self.choice, columns)
        value = _column(self.choice, context) if is_column else self.choice.value(context)
        if isinstance(value, str):  # a block of YAML ends in a line break, which is no part of the list
            value = as_literal(value.strip(), ("[]", "()"))
        place = self.choice.place

        def bad(what: str) -> DataError:
            return DataError(f"{place}: doc_to_choice: {what}")

        if not isinstance(value, list | tuple):
            if isinstance(value, str) and is_array_of_numpy(value):
                raise bad(f"{_NUMPY_ARRAY}, found {describe(value)}")
            near = suggest(value, columns) if isinstance(value, str) else ""
            if isinstance(value, Mapping):
                near = "; its texts are {{ COLUMN.values() | list }}, its labels {{ COLUMN | list }}"
            raise bad(f"should be a list of texts, found {describe(value)}{near}")
        if not value:
            raise bad("there are no choices")
        for number, item in enumerate(value, 1):
            if not isinstance(item, str):
                fix = "make them texts: {{ ... | map('string') | list }}"
                raise bad(f"choice {number} should be a text, found {describe(item)}; {fix}")
            if not item and not self.forgiving:
                raise bad(f"choice {number} is empty")
        return tuple(value)

    def _target(self, context: Context, columns: Set[str], has_choices: bool) -> JSON:
        if not isinstance(self.target, Template):
            return list(self.target) if isinstance(self.target, tuple) else self.target
        if _is_column(self.target, columns):
            value = _column(self.target, context)
            return int(value) if isinstance(value, bool) and has_choices else value
        value = self.target.value(context)
        if value is None or isinstance(value, list):
            return value
        if isinstance(value, int) and not isinstance(value, bool) and has_choices:
            return value
        text = str(value)
        if has_choices and _is_index(text):
            return int(text)
        listed = as_literal(text)
        if is_array_of_numpy(text):
            raise DataError(f"{self.target.place}: doc_to_target: {_NUMPY_ARRAY}, found {describe(text)}")
        # [2, 3] is a list of right choices, or else the text of an interval: never a list of right texts.
        kinds = {str, int} if has_choices else {str}
        if isinstance(listed, list) and listed and {type(item) for item in listed} <= kinds:
            return listed
        return text

    def _gen_prefix(self, context: Context, columns: Set[str]) -> str:
        if self.gen_prefix is None:
            return ""
        if _is_column(self.gen_prefix, columns):
            value = _column(self.gen_prefix, context)
            return "" if value is None else str(value)
        return self.gen_prefix.text(context)


def gold_of(rendered: Rendered, output_type: OutputType) -> Gold:
    """What would be right, in the form of `Sample.target`. Raises `DataError` for a gold that cannot be right."""
    target, choices = rendered.target, rendered.choices
    is_forgiven = rendered.forgiving and output_type == "multiple_choice"
    if target is None:
        return None
    if output_type in ("loglikelihood", "loglikelihood_rolling"):
        if isinstance(target, str) and (target or output_type == "loglikelihood_rolling"):
            return target
        raise DataError(f"doc_to_target: should be the text that is scored, found {describe(target)}")
    if isinstance(target, list):
        if not target:
            raise DataError("doc_to_target: the list of right answers is empty (null means that the answer is hidden)")
        if choices:
            return tuple(_index_in(item, choices, is_forgiven and isinstance(item, int)) for item in target)
        return tuple(_answer(item) for item in target)
    return _index_in(target, choices, is_forgiven) if choices else _answer(target)


def answer_text(target: JSON, choices: tuple[str, ...]) -> str:
    """The answer that a few-shot example shows: the first, where there are several (lm-eval, `build_qa_turn`)."""
    if isinstance(target, list):
        if not target:
            raise DataError("doc_to_target: a few-shot example has no answer")
        target = target[0]
    if isinstance(target, int) and not isinstance(target, bool) and choices:
        return choices[_index_in(target, choices)]
    if target is None:
        raise DataError("doc_to_target: a few-shot example has no answer (null)")
    return target if isinstance(target, str) else _answer(target)


def describe(value: JSON) -> str:
    """A value, short enough for an error's line."""
    return "null" if value is None else f"{short(value)} ({type(value).__name__})"


def short(value: JSON) -> str:
    """A value as Python writes it, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _index_in(target: JSON, choices: tuple[str, ...], is_forgiven: bool = False) -> int:
    """The place of the right choice; where a gold that is none of them is forgiven, `NO_CHOICE`."""
    if is_forgiven and isinstance(target, int | str) and not _is_among(target, choices):
        return NO_CHOICE
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise DataError(f"doc_to_target: should be an index or one of the choices, found {describe(target)}")
    if isinstance(target, str):
        if target not in choices:
            known = short(list(choices))
            letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices)]
            fix = f"; a letter is made an index by {{{{ '{letters}'.index(...) }}}}" if target in [*letters] else ""
            raise DataError(f"doc_to_target: {target!r} is none of the {len(choices)} choices {known}{fix}")
        return choices.index(target)
    if not 0 <= target < len(choices):
        # Digits that a template prints are an index, as in lm-eval; a column's text is a choice.
        hint = f"; the choice '{target}' is meant by the bare name of a column" if str(target) in choices else ""
        raise DataError(f"doc_to_target: the index {target} is outside the {len(choices)} choices{hint}")
    return target


def _is_among(target: int | str, choices: tuple[str, ...]) -> bool:
    return target in choices if isinstance(target, str) else 0 <= target < len(choices)


def _answer(target: JSON) -> str:
    if isinstance(target, str):
        return target
    if target is None or isinstance(target, dict | list):
        raise DataError(f"doc_to_target: should be a text, found {describe(target)}")
    return str(target)


def _is_index(text: JSON) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")


def _is_column(template: Template, columns: Set[str]) -> bool:
    """Whether the value is taken as it is: a column's, or what Python gives."""
    return template.source in columns or isinstance(template, FunctionTemplate)


def _column(template: Template, context: Context) -> JSON:
    if isinstance(template, FunctionTemplate):
        return template.value(context)
    if template.source not in context:
        raise DataError(f"{template.place}: {template.key}: the row has no '{template.source}', which other rows have")
    return context[template.source]


def _turns(template: Template, value: JSON) -> tuple[Message, ...]:
    """A conversation as the row holds it. Raises `DataError` for what is none.

    An assistant's turn whose content is null, behind a turn of the user, is the model's own answer to that.
    """
    turns: list[Message] = []
    for turn in value if isinstance(value, list | tuple) else ():
        shown = turn if isinstance(turn, Mapping) else {}
        role, content = shown.get("role"), shown.get("content")
        is_own = role == "assistant" and shown.get("content", "") is None and turns[-1:] and turns[-1].role == "user"
        if not is_own and (role not in get_args(Role) or not isinstance(content, str)):
            raise DataError(f"{template.place}: doc_to_messages: {describe(turn)} is no turn {{role, content}}")
        turns.append(Message(cast(Role, role), content or "", is_own=bool(is_own)))
    if not turns or turns[-1].role != "user":
        what = "should be a list of turns {role, content} of which the last is the user's"
        raise DataError(f"{template.place}: doc_to_messages: {what}, found {describe(value)}")
    return tuple(turns)


def compile_doc(
    config: TaskConfig, document: Document, compiler: Templates, code: TaskFunctions | None
) -> DocTemplates:
    """The templates of the question itself. code: runs those that are Python."""
    return _compile(config, config, document, compiler, code, ())


def compile_shot(
    config: TaskConfig, document: Document, compiler: Templates, code: TaskFunctions | None
) -> DocTemplates:
    """The templates of few-shot examples: those of `fewshot_config`, and the question's own for the rest."""
    return _compile(config, config.fewshot_config or config, document, compiler, code, ("fewshot_config",))


def _compile(
    config: TaskConfig,
    first: object,
    document: Document,
    compiler: Templates,
    code: TaskFunctions | None,
    prefix: KeyPath,
) -> DocTemplates:
    def one(
        key: str, value: int | list[str] | Choices | PythonFunction | None
    ) -> Template | int | tuple[str, ...] | None:
        own = prefix and getattr(first, key) is not None and first is not config
        path: KeyPath = (*prefix, key) if own else (key,)
        if isinstance(value, PythonFunction):
            return function_template(value, ".".join(map(str, path)), document.place(path), code)
        if isinstance(value, str):
            return compiler.compile(value, ".".join(map(str, path)), document.place(path))
        if isinstance(value, dict):
            return tuple(value.values())
        return tuple(value) if isinstance(value, list) else value

    def pick(key: str) -> Template | int | tuple[str, ...] | None:
        value = getattr(first, key)
        return one(key, value if value is not None else getattr(config, key))

    text, choice, target, gen_prefix = (pick(f"{key}") for key in _KEYS)
    assert not isinstance(text, tuple) and not isinstance(choice, int)
    assert gen_prefix is None or isinstance(gen_prefix, Template)
    messages = one("doc_to_messages", config.doc_to_messages) if first is config else None
    tools: Template | str | None = None
    if first is config and (given := config.doc_to_tools):
        place = document.place(("doc_to_tools",))
        if isinstance(given, list):
            tools = offered(given, f"{place}: doc_to_tools")
        else:
            tools = compiler.compile(given, "doc_to_tools", place)
    assert isinstance(messages, Template | None)
    return DocTemplates(text, choice, target, gen_prefix, config.output_type, messages, tools=tools)


_NUMPY_ARRAY = "is an array as NumPy prints it, whose texts no comma divides; write the rows as JSON lines or Parquet"
_KEYS = ("doc_to_text", "doc_to_choice", "doc_to_target", "gen_prefix")
