"""Where the options of rows seem to be: a column each, or one that holds them all, in any of the forms people write."""

from __future__ import annotations

import ast
import json
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.quick import dataclass
from harness.types import JSON

Row = Mapping[str, JSON]

LABELS = "ABCDEFGHIJ"
LABEL_IN_FRONT = r"[A-Ja-j][.、．:：)）]\s*"
"""How the letter of an option stands in front of its text."""
_NAMES = ("options", "choices", "选项", "選項", "candidates", "answers", "endings")
_STEMS = "option|choice|opt|op|ans|answer|ending|sol|选项|選項"
_NUMBERED = re.compile(rf"(?P<stem>(?:{_STEMS})?[ _-]?)(?P<place>[A-J]|\d)", re.IGNORECASE)
_SEPARATORS = "\n|;；\t"
_TEXT_KEYS = ("text", "content", "value", "option", "answer")
_NOT_IN_JINJA = {"true", "false", "none", "self", "loop", "column", "subset", "range", "dict"}


@dataclass(frozen=True, slots=True)
class OptionColumns:
    """columns: one an option, or the one that holds them all; none where rows have no options. listed: Jinja that gives
    the texts as a list. movable: what `options.columns` says; None where it cannot say it. labelled: whether each text
    begins with its letter. optional: whether some rows have fewer than others. separator: of texts in one text.
    """

    columns: tuple[str, ...] = ()
    listed: str = ""
    movable: JSON = None
    labelled: bool = False
    optional: bool = False
    separator: str = ""

    def texts(self, row: Row) -> list[str]:
        """The texts of a row's options."""
        if self.separator:
            return str(row[self.columns[0]]).split(self.separator)
        if len(self.columns) == 1:
            return _listed(_reached(row, self.columns[0]))[1]
        return [str(row[column]) for column in self.columns if row.get(column) not in (None, "")]


def find_option_columns(columns: Sequence[str], rows: Sequence[Row]) -> OptionColumns:
    """Columns A, B, C ... (option_a, choice1, ...), or one that holds a list, a mapping, or a text that spells one."""
    families: dict[str, list[str]] = {}
    for column in columns:
        if match := _NUMBERED.fullmatch(column.strip()):
            families.setdefault(match["stem"].lower(), []).append(column)
    for family in families.values():
        family.sort(key=lambda column: column.strip()[-1].lower())
        places = "".join(column.strip()[-1].lower() for column in family)
        if len(family) >= 2 and any(
            alphabet.startswith(places) for alphabet in ("abcdefghij", "0123456789", "123456789")
        ):
            listed = f"[{', '.join(map(jinja_name, family))}]"
            optional = any(row.get(column) in (None, "") for row in rows for column in family)
            listed += " | reject('in', ['', none]) | list" if optional else ""
            return _with_labels(OptionColumns(tuple(family), listed, family, optional=optional), rows)
    named = [column for column in columns if column.lower() in _NAMES]
    for column in [*named, *(column for column in columns if column not in named)]:
        forms = {_listed(row.get(column))[0] for row in rows}
        if len(forms) == 1 and (form := forms.pop()):
            return _with_labels(_in_one_column(column, form, rows), rows)
    for column, mark in ((column, mark) for column in named for mark in _SEPARATORS):
        if all(mark in str(row.get(column)) for row in rows):
            listed = f"{jinja_name(column)}.split({json.dumps(mark)})"
            return _with_labels(OptionColumns((column,), listed, column, separator=mark), rows)
    return OptionColumns()


def jinja_name(column: str) -> str:
    """How a template names a column."""
    plain = column.isidentifier() and not keyword.iskeyword(column) and column.lower() not in _NOT_IN_JINJA
    return column if plain else f"column({column!r})"


def _in_one_column(column: str, form: str, rows: Sequence[Row]) -> OptionColumns:
    movable: JSON = column if form in ("{}", "{}.splitlines()") else None
    if form == "{}.text":
        return OptionColumns((f"{column}.text",), f"{jinja_name(column)}.text", f"{column}.text")
    keys = {tuple(row[column]) for row in rows} if form.startswith("{}.values()") else set()
    if len(keys) == 1:
        movable = [f"{column}.{key}" for key in keys.pop()]
    return OptionColumns((column,), form.replace("{}", jinja_name(column)), movable)


def _with_labels(found: OptionColumns, rows: Sequence[Row]) -> OptionColumns:
    texts = [found.texts(row) for row in rows]
    labelled = any(texts) and all(
        re.match(LABEL_IN_FRONT, text) and text[0].upper() == LABELS[place]
        for row in texts
        for place, text in enumerate(row[: len(LABELS)])
    )
    return replace(found, labelled=labelled)


def _listed(value: JSON) -> tuple[str, list[str]]:
    """Jinja that makes a list of texts of a value like this one ({} is its column), and the list; empty for no list."""
    if isinstance(value, list | tuple) and len(value) >= 2:
        if all(isinstance(item, str) for item in value):
            return "{}", list(value)
        if all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
            return "{} | map('string') | list", [str(item) for item in value]
        if all(isinstance(item, Mapping) for item in value):
            key = next((key for key in _TEXT_KEYS if all(isinstance(item.get(key), str) for item in value)), None)
            return (f"{{}} | map(attribute='{key}') | list", [item[key] for item in value]) if key else ("", [])
    if isinstance(value, Mapping) and "answer_start" not in value:
        if isinstance(value.get("text"), list) and _listed(value["text"])[0] == "{}":
            return "{}.text", list(value["text"])
        there = [str(item) for item in value.values() if item is not None]
        if len(there) >= 2 and "".join(map(str, value)).upper() in (LABELS[: len(value)], "0123456789"[: len(value)]):
            return "{}.values() | reject('none') | map('string') | list", there
    return _spelled(value) if isinstance(value, str) else ("", [])


def _spelled(text: str) -> tuple[str, list[str]]:
    """The same of a text: JSON, a literal of Python, or a line an option, each with its letter."""
    lines = text.splitlines()
    if len(lines) >= 2 and all(re.match(LABEL_IN_FRONT, line) for line in lines):
        return "{}.splitlines()", lines
    if text[:1] not in ("[", "{"):
        return "", []
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return "", []
    form, texts = ("", []) if isinstance(value, str) else _listed(value)
    return form.replace("{}", "({} | parsed)"), texts


def _reached(row: Row, path: str) -> JSON:
    """A column, or what a path such as `choices.text` reaches in it."""
    if path in row:
        return row[path]
    column, _, key = path.rpartition(".")
    inner = row.get(column)
    return inner.get(key) if isinstance(inner, Mapping) else None
