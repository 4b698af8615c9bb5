"""Where the options of a multiple-choice row are, and the same row with its options at other places.

A task says so once (`options:`), and every modifier can act on the row before it is rendered: prompts, examples,
extraction and scores need not know.

    options: {columns: [A, B, C, D], answer: answer, question: question}
    options: {columns: choices, answer: answer}                           # one column that holds them all
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.errors import DataError, suggest
from harness.quick import dataclass
from harness.tasks.file_models import words
from harness.tasks.references import place_reference
from harness.tasks.schema_entries import OptionsEntry
from harness.types import JSON

Row = Mapping[str, JSON]
_BETWEEN = " \t,，、;；"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one row, as the row has them.

    values: as they stand in the row, without what belongs to the place. labels: what belongs to each place ("A."), in
    front of the option. golds: which are right; empty where the answer is hidden. fixed: why none may be moved.
    """

    values: tuple[JSON, ...]
    labels: tuple[str, ...]
    golds: tuple[int, ...]
    fixed: str

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(map(str, self.values))


def find_options(row: Row, entry: OptionsEntry) -> Options:
    """Find the options of a row. Options that are missing at the end (null, empty) are none.

    Raises `DataError` for a row that is not as `options` says.
    """
    values = _values(row, entry)
    while values and values[-1] in (None, ""):
        values.pop()
    if len(values) > len(entry.labels):
        raise DataError(f"options: {len(values)} options, but labels for {len(entry.labels)}: lengthen options.labels")
    # What of an option's text is its letter belongs to the place, where it is the place's own letter.
    letters = [re.match(entry.prefix, item) if entry.prefix and isinstance(item, str) else None for item in values]
    labels = [match[0] if match and entry.labels[place] in match[0] else "" for place, match in enumerate(letters)]
    fixed = ""
    if any(labels) and not all(labels):
        fixed, labels = "only some options carry letters in their texts", [""] * len(values)
    bare = [value[len(label) :] if label else value for value, label in zip(values, labels, strict=True)]
    if not fixed and any(value in (None, "") for value in bare):
        fixed = "an option is empty"
    fixed = fixed or place_reference([str(item) for item in bare], question_of(row, entry), entry.labels)
    return Options(tuple(bare), tuple(labels), _golds(row, entry, values), fixed)


def question_of(row: Row, entry: OptionsEntry | None) -> str:
    """The text of a row's question, with what belongs to it; empty where the task does not say which it is."""
    return "\n".join(str(value(row, name)) for name in words(entry.question)) if entry is not None else ""


def moved(row: Row, entry: OptionsEntry, found: Options, order: Sequence[int], texts: Sequence[str] = ()) -> Row:
    """The row with option `order[i]` at place `i`, and its answer after it. texts: in the place of the options' own."""
    values: Sequence[JSON] = texts or found.values
    items = [f"{label}{values[old]}" if label else values[old] for label, old in zip(found.labels, order, strict=True)]
    changed = dict(row)
    if isinstance(entry.columns, str):
        whole = [*items, *_values(row, entry)[len(items) :]]
        as_text = isinstance(value(row, entry.columns), str)
        put(changed, entry.columns, _separator(entry).join(map(str, whole)) if as_text else whole)
    else:
        for name, item in zip(entry.columns, items, strict=False):
            put(changed, name, item)
    if entry.answer is not None and found.golds:
        answer = value(row, entry.answer)
        if texts and entry.form == "text":
            new = dict(zip(found.values, texts, strict=True))
            several = isinstance(answer, list | tuple)
            put(changed, entry.answer, [new[item] for item in answer] if several else new[answer])
        else:
            put(changed, entry.answer, _answer(answer, entry, order))
    return changed


def asking(row: Row, entry: OptionsEntry, question: str) -> Row:
    """The row with another question. An empty one takes what belongs to it (a passage) away, too."""
    changed = dict(row)
    first, *others = words(entry.question)
    put(changed, first, question)
    for name in () if question else others:
        put(changed, name, "")
    return changed


def value(row: Row, path: str) -> JSON:
    """The value of a column; `choices.text` reaches into a mapping. Raises `DataError` where it is not there."""
    if path in row:
        return row[path]
    current: JSON = row
    for name in path.split("."):
        if not isinstance(current, Mapping) or name not in current:
            raise DataError(f"options: the row has no '{path}'{suggest(path, row)} (it has: {', '.join(row)})")
        current = current[name]
    return current


def put(row: dict[str, JSON], path: str, new: JSON) -> None:
    """Replace a value in a row of one's own, by its path as in `value`; mappings on the way are copied."""
    first, _, rest = path.partition(".")
    if path in row or not rest:
        row[path] = new
        return
    inner = dict(row[first])
    put(inner, rest, new)
    row[first] = inner


def _values(row: Row, entry: OptionsEntry) -> list[JSON]:
    if not isinstance(entry.columns, str):
        return [value(row, name) for name in entry.columns]
    whole = value(row, entry.columns)
    if isinstance(whole, str):
        return list(whole.split(_separator(entry)))
    if isinstance(whole, list | tuple):
        return list(whole)
    kind = type(whole).__name__
    raise DataError(f"options: column '{entry.columns}' should be a list or a text, found {kind}")


def _separator(entry: OptionsEntry) -> str:
    return entry.separator or "\n"


def _golds(row: Row, entry: OptionsEntry, values: Sequence[JSON]) -> tuple[int, ...]:
    """Which options are right, from 0. A leaderboard's rows have no answer column, or an empty one."""
    if entry.answer is None:
        return ()
    try:
        answer = value(row, entry.answer)
    except DataError:
        return ()
    if answer is None or answer in ("", [], ()):
        return ()
    items = answer if isinstance(answer, list | tuple) else [answer]
    golds = tuple(gold for item in items for gold in _places(item, entry, values))
    if any(not 0 <= gold < len(values) for gold in golds):
        raise DataError(f"options: the answer {answer!r} is none of the {len(values)} options (see options.answer)")
    return golds


def _places(item: JSON, entry: OptionsEntry, values: Sequence[JSON]) -> list[int]:
    if isinstance(item, int) and not isinstance(item, bool) and entry.form in (None, "index"):
        return [item]
    if entry.form == "text":
        if list(values).count(item) != 1:
            raise DataError(f"options: the answer {item!r} is not the text of exactly one option (see options.form)")
        return [list(values).index(item)]
    text = str(item).strip()
    if entry.form in (None, "letter") and (found := letters_in(text, entry.labels)):
        return found
    if text.isascii() and text.isdigit() and entry.form in (None, "index"):
        return [int(text)]
    raise DataError(f"options: the answer {item!r} is neither letters nor an index; say what it is with options.form")


def _answer(answer: JSON, entry: OptionsEntry, order: Sequence[int]) -> JSON:
    """The answer as it was written, for the options at their new places."""
    place_of = {old: new for new, old in enumerate(order)}
    if isinstance(answer, list | tuple):
        return [_answer(item, entry, order) for item in answer]
    if entry.form == "text":
        return answer
    if isinstance(answer, int):
        return place_of[answer]
    text = str(answer)
    places = letters_in(text, entry.labels) if entry.form != "index" else None
    if not places:
        return str(place_of[int(text)])
    letters = iter(sorted(entry.labels[place_of[place]] for place in places))
    return "".join(
        letter if letter in _BETWEEN else next(letters).lower() if letter.islower() else next(letters)
        for letter in text
    )


def letters_in(text: str, labels: str) -> list[int] | None:
    """The options that a text of letters names ("B", "AC", "a, c"); None for any other text."""
    letters = [letter.upper() for letter in text if letter not in _BETWEEN]
    if not letters or any(letter not in labels for letter in letters):
        return None
    return [labels.index(letter) for letter in letters]
