"""How a file of rows is read, where its name does not say: the keys of `dataset_kwargs` that say so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields

from harness.errors import DataError, suggest
from harness.quick import dataclass
from harness.types import JSON

Row = dict[str, JSON]
FORMATS = ("json", "jsonl", "csv", "tsv", "parquet", "squad", "text", "conll")
TYPES = ("text", "inferred")
_ALIASES = {"sep": "delimiter", "names": "column_names"}


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How a file is read, where its name does not say.

    format: one of FORMATS. field: the key that holds the rows of a JSON object. encoding: a Python codec.
    delimiter, quotechar, header, column_names: of CSV and TSV. `column_names` alone means that there is no header line;
    with `header: true` they replace the header's names. TSV has no quoting unless `quotechar` says so. `column_names`
    also name the items of JSON rows that are arrays.
    keyed_by: the rows are the values of a JSON object; the column of this name gets their keys.
    broken: the column that holds a line of JSON lines that is none, so that a task's `where` can leave out what its
    authors have broken; without it such a line is an error.
    block: the name of each line of a text file's blocks; an empty name skips its line. skip_lines: of a text file.
    record_start: a pattern; in a text file that has it, a row is the lines from one that matches to the next.
    side_by_side: the files of a split are texts of equal length, one beside another; each gets its line a column of
    these names (parallel corpora).
    join_by: the first file of a split has the rows; each other is an object whose keys are values of this column, or
    rows that have it, and adds its columns (answers that are kept apart). `COLUMN=THEIRS` where they call it otherwise.
    history: a column; a row gets a list `history` of it, from the rows before that have the same `history_by`.
    A file in the format conll has a token and its tag a line and a blank line between sentences; its rows are
    `{tokens: [...], tags: [...]}`.
    explode: a list in each row of JSON, of which each item becomes a row: its own keys (or, where it is no object,
    itself under the list's name) beside the row's others. Several names are parallel lists, which are taken together.
    types: of CSV and TSV. `text`: a cell is what it says. `inferred`: a column of numbers or booleans is one, and an
    empty cell, NA, null and the like are null, as `datasets` (and so lm-eval) reads such files.
    """

    format: str | None = None
    field: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quotechar: str | None = None
    header: bool | None = None
    column_names: tuple[str, ...] | None = None
    block: tuple[str, ...] | None = None
    skip_lines: int = 0
    record_start: str | None = None
    keyed_by: str | None = None
    broken: str | None = None
    side_by_side: tuple[str, ...] = ()
    join_by: str | None = None
    history: str | None = None
    history_by: str | None = None
    explode: tuple[str, ...] = ()
    types: str = "text"

    @classmethod
    def of(cls, settings: Mapping[str, JSON], where: str, ignore: Sequence[str] = ()) -> FileOptions:
        """Build from a mapping, which may also hold the keys in `ignore`. DataError on any other key or a bad value.

        `sep` and `names`, as pandas and lm-eval's files say, are understood.
        """
        known = [field.name for field in fields(cls)]
        values: dict[str, JSON] = {}
        for key, value in settings.items():
            name = _ALIASES.get(key, key)
            if name in known:
                values[name] = _checked(name, value, where)
            elif key not in ignore:
                raise DataError(f"{where}: unknown key '{key}'{suggest(key, [*known, *ignore])}")
        return cls(**values)


def _checked(name: str, value: JSON, where: str) -> JSON:
    if value is None:
        # pandas' `header: null` says that there is none; elsewhere null is as good as nothing.
        return {
            "encoding": "utf-8",
            "header": False,
            "types": "text",
            "explode": (),
            "side_by_side": (),
            "skip_lines": 0,
        }.get(name)
    if name in ("column_names", "block", "explode", "side_by_side"):
        value = (value,) if name == "explode" and isinstance(value, str) else value
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise DataError(f"{where}: '{name}' must be a list of names")
    if name == "skip_lines":
        if isinstance(value, str) and value.isdecimal():  # a template's
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise DataError(f"{where}: 'skip_lines' must be a number of lines")
    if name == "header":
        # pandas' spelling, which lm-eval's `dataset_kwargs` pass on: 0 is the first line.
        if isinstance(value, bool) or value == 0:
            return value is not False
        raise DataError(f"{where}: 'header' must be true or false")
    if name == "record_start":
        try:
            return re.compile(value).pattern
        except (re.error, TypeError) as error:
            raise DataError(f"{where}: 'record_start' must be a pattern ({error})") from None
    if not isinstance(value, str) or (name in ("delimiter", "quotechar") and len(value) != 1):
        kind = "character" if name in ("delimiter", "quotechar") else "string"
        raise DataError(f"{where}: '{name}' must be a {kind}")
    known = {"format": FORMATS, "types": TYPES}.get(name)
    if known and value not in known:
        raise DataError(f"{where}: unknown {name} '{value}'{suggest(value, known)} (known: {', '.join(known)})")
    return value
