"""Other numbers in the place of a row's own: how a task says which, and the row with them (`--modify renew_numbers`).

    renewal:                                                        # by a rule for all rows
      numbers: {a: "range(1, 100)", b: "range(1, 100)"}
      conditions: ["a > b"]
      columns: {a: "{a}", b: "{b}", answer: "{a - b}"}

    renewal: {template: template}                                   # by a template in a column of each row
    renewal: {file: sums.jsonl}                                     # or in a file that names rows by their numbers

Nothing is taken on trust: with its own numbers, a rule or template must give what the row has, or the row is kept.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from fractions import Fraction
from pathlib import Path

from harness import files
from harness.errors import DataError
from harness.quick import dataclass
from harness.tasks.answer_options import Row, put, value
from harness.tasks.expressions import Expression, ExpressionError, Value, number_in, shown_number
from harness.tasks.number_templates import Draw, NoNumbersError, TemplateError, drawn_numbers, pieces_of, read_template
from harness.tasks.schema_entries import RenewalEntry
from harness.tasks.yaml_file import Document
from harness.types import JSON

TEMPLATE_KEYS = ("template", "question_annotated")
NUMBER_KEYS = ("row", "id_orig")
"""What a file of templates may call them and the numbers of their rows; the second as GSM-Symbolic does."""
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


class _KeptError(ValueError):
    """Why a row keeps its numbers."""


@dataclass(frozen=True, slots=True)
class Renewals:
    """How the rows of a task get other numbers. templates: (subset, number) -> template, of those that a file holds;
    a subset of "" stands for any. digest: of the file."""

    entry: RenewalEntry
    columns: Mapping[str, tuple[str | Expression, ...]]
    draws: tuple[Draw, ...] = ()
    conditions: tuple[Expression, ...] = ()
    templates: Mapping[tuple[str, int], str] = field(default_factory=dict)
    file: Path | None = None
    digest: str = ""

    def renewed(self, row: Row, place: tuple[str, int], salt: str) -> tuple[Row, str]:
        """The row with other numbers, which `salt` decides; or the row as it is, and why. place: subset and number."""
        generator = random.Random(hashlib.sha256(salt.encode("utf-8", "surrogatepass")).digest())
        try:
            several = self._by_rule(row, generator) if self.draws else self._by_template(row, place, generator)
            for columns in several:
                if (found := self._with(row, columns)) is not None:
                    return found, ""
        except (_KeptError, TemplateError, NoNumbersError, ExpressionError) as error:
            return row, str(error)
        return row, "all other numbers give the same question or answer"

    def _by_rule(self, row: Row, generator: random.Random) -> Iterator[dict[str, Value]]:
        known = {name: _read(item) for name, item in row.items() if isinstance(item, str | int | float)}
        drawn = [name for draw in self.draws for name in draw.names]
        if all(name in known for name in drawn):
            for name, item in self._columns(known).items():
                has = value(row, name)
                if shown_number(item) != shown_number(_read(has)):
                    raise _KeptError(f"with its own numbers, '{name}' is {shown_number(item)}, and the row has {has!r}")
        for values in drawn_numbers(self.draws, self.conditions, known, generator):
            yield self._columns(values)

    def _by_template(self, row: Row, place: tuple[str, int], generator: random.Random) -> Iterator[dict[str, Value]]:
        text = self._template(row, place)
        template = read_template(text)
        own = template.answer.value(template.own)
        for name, pieces in self.columns.items():
            if any(isinstance(piece, Expression) and "answer" in piece.names for piece in pieces):
                said = _said(value(row, name), own)
                if own != said:
                    said = "one that can be read" if said is None else said
                    raise _KeptError(
                        f"with its own numbers, the template's answer is {shown_number(own)}, and not {said}"
                    )
        for values in drawn_numbers(template.draws, template.conditions, template.own, generator):
            answer = template.answer.value(values)
            if answer != own:
                yield self._columns({"question": template.question(values), "answer": answer})

    def _template(self, row: Row, place: tuple[str, int]) -> str:
        if self.entry.template is None:
            found: JSON = self.templates.get(place) or self.templates.get(("", place[1]))
        else:
            try:
                found = value(row, self.entry.template)
            except DataError:
                found = None
        if found in (None, ""):
            raise _KeptError("it has no template")
        if not isinstance(found, str):
            raise _KeptError(f"its template is no text, but {type(found).__name__}")
        return found

    def _columns(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Column -> its value: a number where its text is one pair of braces, else a text. Raises `ExpressionError`."""
        found: dict[str, Value] = {}
        for name, pieces in self.columns.items():
            parts = [piece if isinstance(piece, str) else piece.value(values) for piece in pieces]
            found[name] = parts[0] if len(parts) == 1 else "".join(map(shown_number, parts))
        return found

    def _with(self, row: Row, columns: Mapping[str, Value]) -> Row | None:
        """The row with these values; None where they change nothing, or leave a number that follows from others."""
        changed = dict(row)
        drawn = {name for draw in self.draws for name in draw.names}
        is_other = False
        for name, new in columns.items():
            old = value(row, name)
            same = shown_number(_read(old)) == shown_number(new)
            if same and isinstance(new, int | Fraction) and name not in drawn:
                return None
            is_other = is_other or not same
            put(changed, name, _as_written(old, new))
        return changed if is_other else None


def read_renewals(entry: RenewalEntry, document: Document, label: str) -> Renewals:
    """The compiled `renewal` of a task file. Raises `TaskError`, and `DataError` for a file that cannot be used."""
    columns = {name: pieces_of(text) for name, text in entry.columns.items()}
    if entry.numbers is not None:
        draws = tuple(Draw((name,), Expression(text)) for name, text in entry.numbers.items())
        conditions = tuple(map(Expression, entry.conditions))
        _check_rule(draws, conditions, document)
        return Renewals(entry, columns, draws, conditions)
    if entry.template is not None:
        return Renewals(entry, columns)
    if entry.file is None:
        name = document.data.get("task")
        raise document.error(
            ("renewal",),
            f"renewal: names no templates (--modify {label} needs them): say --set {name}.renewal.file=PATH, a file or "
            "folder of templates",
        )
    path = Path(entry.file).expanduser()
    beside = document.files[0].parent / path
    path = beside if beside.exists() else path
    templates, digest = _read_file(path)
    return Renewals(entry, columns, templates=templates, file=path, digest=digest)


def _check_rule(draws: Sequence[Draw], conditions: Sequence[Expression], document: Document) -> None:
    """Refuse a rule that gives no row any numbers, where that does not depend on a row: each row would need all draws
    to find it out. Raises `TaskError`."""
    drawn: set[str] = set()
    for draw in draws:
        if not draw.source.names <= drawn:
            return
        drawn.update(draw.names)
    if all(condition.names <= drawn for condition in conditions):
        try:
            next(drawn_numbers(draws, conditions, {}, random.Random(0)))
        except NoNumbersError as error:
            raise document.error(("renewal",), f"renewal: {error}") from None


def _read_file(path: Path) -> tuple[dict[tuple[str, int], str], str]:
    """(subset, number) -> template, of a JSON or JSON lines file or a folder of such; and a hash of all of it."""
    names = [path]
    if path.is_dir():
        names = sorted(child for child in path.iterdir() if child.suffix in (".json", ".jsonl"))
    hashed = hashlib.sha256()
    found: dict[tuple[str, int], str] = {}
    for name in names:
        try:
            text = files.read_text(name)
        except (OSError, ValueError) as error:
            cause = getattr(error, "strerror", None) or error
            raise DataError(f"renewal: {name}: cannot be read: {cause}") from None
        hashed.update(text.encode("utf-8", "surrogatepass"))
        for where, each in _entries(name, text):
            number = next((each[key] for key in NUMBER_KEYS if key in each), None)
            template = next((each[key] for key in TEMPLATE_KEYS if key in each), None)
            if not isinstance(number, int) or not isinstance(template, str):
                raise DataError(f"renewal: {where}: should have 'row', a number, and 'template', a text")
            found[str(each.get("subset", "")), number] = template
    if not found:
        raise DataError(f"renewal: {path}: holds no templates (JSON lines with 'row' and 'template')")
    return found, hashed.hexdigest()[:16]


def _entries(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, JSON]]]:
    """The entries of a file, each with its place."""
    parts: Sequence[tuple[str, str]] = [(str(path), text)]
    if path.suffix == ".jsonl":
        lines = enumerate(text.splitlines(), 1)
        parts = [(f"{path}:{number}", line) for number, line in lines if line.strip()]
    for where, part in parts:
        try:
            read = json.loads(part)
        except (ValueError, RecursionError) as error:
            raise DataError(f"renewal: {where}: not JSON ({error})") from None
        for each in read if isinstance(read, list) else [read]:
            if not isinstance(each, dict):
                raise DataError(f"renewal: {where}: should hold mappings with 'row' and 'template'")
            yield where, each


def _read(item: JSON) -> Value:
    """What a row has, as expressions see it: numbers are exact, texts of digits are numbers."""
    if isinstance(item, bool) or item is None:
        return item
    if isinstance(item, int | float):
        return number_in(repr(item)) if number_in(repr(item)) is not None else str(item)
    if isinstance(item, str):
        number = number_in(item)
        return item if number is None else number
    return str(item)


def _said(item: JSON, own: Value) -> Value:
    """The number that an answer ends with (`... #### 10`), in full-width digits too; None where there is none. All of
    it where the template's own answer is no number but a text."""
    text = unicodedata.normalize("NFKC", str(item))
    if isinstance(own, str):
        return text.strip()
    found = _NUMBER.findall(text)
    return number_in(found[-1]) if found else None


def _as_written(old: JSON, new: Value) -> JSON:
    """A new value in the type of the old one."""
    if isinstance(old, int | float) and not isinstance(old, bool) and isinstance(new, int | Fraction):
        return int(new) if Fraction(new).denominator == 1 else float(new)
    return shown_number(new)
