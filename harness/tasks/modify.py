"""What a task must say to be modified, and what can be known of it without its saying so."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.errors import UsageError
from harness.modifiers import IMAGES, OPTIONS, PARAPHRASES, QUESTION, RENEWAL, Modifier
from harness.tasks.file_models import words
from harness.tasks.schema import TaskConfig
from harness.tasks.schema_entries import OptionsEntry
from harness.tasks.yaml_file import Document

_VARIABLE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
_NAME = re.compile(r"[A-Za-z_]\w*")
_ITEM = re.compile(r"\{\{\s*([A-Za-z_]\w*)\[(\d+)\]\s*\}\}")
_SHOWN = re.compile(r"\s*([A-Za-z_]\w*)(?:\.strip\(\))?\s*")
_MARKUP = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_LETTERS = "ABCDEFGHIJ"
_REMEDY = {
    OPTIONS: "where its options are: add 'options: {columns: [A, B, C, D], answer: answer}'",
    QUESTION: "which column is the question: add 'question:' to its 'options:'",
    IMAGES: "which columns hold images: add 'doc_to_image:'",
    RENEWAL: "how its numbers are drawn anew: add 'renewal:' (`harness help tasks`)",
    PARAPHRASES: "how else to ask: add 'paraphrases:', a list of other texts for 'doc_to_text'",
}


def labels_of(modifiers: Sequence[Modifier]) -> str:
    """What modifiers add to the name of a task: `+circular`."""
    return "".join(f"+{modifier.label}" for modifier in modifiers)


def refuse_together(modifiers: Sequence[Modifier]) -> None:
    """Raises `UsageError` for modifiers that cannot be used together."""
    names = [modifier.name for modifier in modifiers]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--modify: '{name}' is given twice")
    several = [modifier.name for modifier in modifiers if modifier.several]
    if len(several) > 1:
        raise UsageError(f"--modify: {' and '.join(several)} each show a row several times; give one of them")


def checked_needs(modifiers: Sequence[Modifier], config: TaskConfig, document: Document, name: str) -> TaskConfig:
    """The task's keys, with `options` where they can be known from its prompt.

    Raises `TaskError` where the task does not say what a modifier needs.
    """
    needs = {need: modifier.label for modifier in reversed(modifiers) for need in sorted(modifier.needs)}
    if config.options is None and needs.keys() & {OPTIONS, QUESTION}:
        config = config.model_copy(update={"options": infer_options(config)})
    said = {
        OPTIONS: config.options is not None,
        QUESTION: config.options is not None and bool(config.options.question),
        PARAPHRASES: config.paraphrases is not None,
        IMAGES: config.doc_to_image is not None or config.doc_to_video is not None,
        RENEWAL: config.renewal is not None,
    }
    for need, label in needs.items():
        if not said.get(need, False):
            path = (OPTIONS,) if need == QUESTION and said[OPTIONS] else ("doc_to_text",)
            raise document.error(path, f"task '{name}' does not say {_REMEDY[need]} (--modify {label} needs it)")
    if isinstance(config.paraphrases, str) and PARAPHRASES in needs and not said[QUESTION]:
        what = f"'paraphrases' names a column of other questions, and task '{name}' does not say "
        raise document.error((PARAPHRASES,), what + _REMEDY[QUESTION])
    return config


def option_labels(config: TaskConfig) -> str:
    """The letters that a row's options can have; an empty text where it is not known what the options are."""
    if config.options is None:
        return ""
    columns, choices = config.options.columns, config.doc_to_choice
    most = len(columns) if isinstance(columns, list) else len(choices) if isinstance(choices, list) else None
    return config.options.labels[:most]


def infer_options(config: TaskConfig) -> OptionsEntry | None:
    """Where the options are, as far as only one reading of the task's prompt and choices is possible; else None.

    The prompt shows the options by name (`{{A}}`, with choices A, B, ...) or by number (`{{choices[0]}}`), or the
    choices are a column; the answer is a column. Every row that is built is checked against it.
    """
    answer = _name_in(config.doc_to_target)
    columns = _columns(config)
    if answer is None or columns is None:
        return None
    question = _question(config, columns, answer)
    return OptionsEntry.model_validate({"columns": columns, "answer": answer, "question": question})


def _columns(config: TaskConfig) -> list[str] | str | None:
    text = config.doc_to_text if isinstance(config.doc_to_text, str) else ""
    choice = config.doc_to_choice
    if (column := _name_in(choice)) is not None:
        return column
    if not isinstance(choice, list) or "".join(choice) != _LETTERS[: len(choice)] or len(choice) < 2:
        return None
    if set(choice) <= set(_VARIABLE.findall(text)):
        return choice
    items = _ITEM.findall(text)
    names = {name for name, _ in items}
    if len(names) == 1 and {int(index) for _, index in items} == set(range(len(choice))):
        return str(names.pop())
    return None


def _question(config: TaskConfig, columns: list[str] | str, answer: str) -> str | None:
    """The one column besides the options that the prompt shows; None where it does more than show columns."""
    text = config.doc_to_text if isinstance(config.doc_to_text, str) else ""
    left = set()
    for part in _MARKUP.findall(_ITEM.sub("", text)):
        if (found := _SHOWN.fullmatch(part)) is None:
            return None
        left.add(found[1])
    left -= {*words(columns), answer, "subset"}
    return left.pop() if len(left) == 1 and "{%" not in text else None


def _name_in(value: object) -> str | None:
    """The column that a template is: `answer`, or `{{ answer }}`."""
    text = value.strip() if isinstance(value, str) else ""
    variable = _VARIABLE.fullmatch(text)
    return variable[1] if variable else text if _NAME.fullmatch(text) else None
