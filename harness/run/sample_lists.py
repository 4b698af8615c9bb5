"""Tables that people make of samples, by hand or in a spreadsheet: a line a sample, named by task and id.

    for listed in read_sample_list(Path("fixes.csv"), "gold"):
        listed.key, listed.text("gold")

CSV, TSV, JSON or JSON lines, in UTF-8, UTF-16 or GB 18030, with a header: `task`, `id`, and what is said of the sample.
The id is the number of its row, behind the name of its subset where there are such: a column `subset`, or `law/12`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.data.data_file import DataFile
from harness.data.file_options import FileOptions
from harness.data.formats import read_rows
from harness.errors import UsageError, suggest
from harness.quick import dataclass
from harness.types import JSON, SampleKey

_ID = re.compile(r"(?:(?P<subset>.*)/)?(?P<id>[0-9]{1,15})(?:\.0)?")


@dataclass(frozen=True, slots=True)
class ListedSample:
    """A line: where it stands in the file, the sample that it names (its first view), and its cells by column."""

    where: str
    key: SampleKey
    cells: Mapping[str, JSON]

    def text(self, column: str) -> str:
        """The cell of a column; empty where it has none."""
        value = self.cells.get(column)
        return "" if value is None else str(value).strip()


def read_sample_list(path: Path, flag: str, column: str) -> list[ListedSample]:
    """Read a table with columns task, id and `column`. Raises UsageError that names the flag, the file and the row."""
    if not path.is_file():
        why = "is a folder, no file" if path.is_dir() else "there is no such file"
        raise UsageError(f"{flag} {path}: {why}")
    named = []
    for number, row in enumerate(_rows(path), 1):
        where = f"{path}: row {number}"
        cells = {str(name).strip().casefold(): value for name, value in row.items() if name is not None}
        for needed in ("task", "id", column):
            if needed not in cells:
                has = ", ".join(cells) or "none"
                raise UsageError(f"{where}: has no column '{needed}'{suggest(needed, cells)} (it has: {has})")
        found = _ID.fullmatch(str(cells["id"]).strip())
        if found is None:
            raise UsageError(f"{where}: id '{cells['id']}' is no number of a row; write 12, or law/12 with its subset")
        subset = found["subset"] or str(cells.get("subset") or "").strip()
        named.append(ListedSample(where, SampleKey(str(cells["task"]).strip(), subset, int(found["id"])), cells))
    if not named:
        raise UsageError(f"{flag} {path}: has no rows")
    return named


def _rows(path: Path) -> Sequence[Mapping[str, JSON]]:
    options = FileOptions(encoding=_encoding(path.read_bytes()))
    if path.suffix.lower() == ".json":
        for field in ("notes", "fixes"):  # as the viewer and a corrected run keep them
            with suppress(UsageError):
                return read_rows(DataFile(path), FileOptions(field=field, encoding=options.encoding))
    if path.suffix.lower() in (".csv", ".txt", ""):
        head = path.read_bytes()[:10_000].decode(options.encoding, "ignore").partition("\n")[0]
        delimiter = max(",;\t", key=head.count)  # a spreadsheet writes that of its country
        options = FileOptions(format="csv", encoding=options.encoding, delimiter=delimiter)
    return read_rows(DataFile(path), options)


def _encoding(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8"


class SampleNames:
    """The samples of a run by the names that people give them.

    Where a list leaves the subset out, a task without subsets, or one subset, is meant.
    """

    def __init__(self, keys: Sequence[SampleKey]) -> None:
        self._keys = set(keys)
        self._subsets: dict[str, set[str]] = {}
        for key in keys:
            self._subsets.setdefault(key.task, set()).add(key.subset)

    def find(self, listed: ListedSample) -> SampleKey | None:
        """The key of a listed sample; None where the run has none such. Raises UsageError where it could be several."""
        subsets = self._subsets.get(listed.key.task, set())
        key = listed.key
        if not key.subset and key not in self._keys:
            if len(subsets) > 1:
                raise UsageError(
                    f"{listed.where}: task '{key.task}' has {len(subsets)} subsets; say which in a column 'subset', or "
                    f"as id: {min(subsets)}/{key.id}"
                )
            key = key._replace(subset=next(iter(subsets), ""))
        return key if key in self._keys else None

    def unknown_task(self, task: str) -> str | None:
        """What to say of a task that the run does not have; None where it has it."""
        return None if task in self._subsets else f"the run has no task '{task}'{suggest(task, self._subsets)}"
