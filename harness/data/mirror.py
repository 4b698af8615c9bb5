"""Writes rows into a mirror folder, which `--data DIR` gives to a machine without network."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from harness import files
from harness.data.arrow import TableRows
from harness.data.folders import is_relative
from harness.data.locations import BUILDERS, local_path, mirror_folders
from harness.data.open import dataset_title, load_split, plain
from harness.errors import DataError, SaveError
from harness.types import JSON, DatasetSpec, Rows
from harness.words import Phrase, phrase

NOTE = "ORIGIN.md"
HEAD = """\
Rows of public benchmarks, written by `harness data pull`, one line a split below. Their licences are those of the sets,
which the task files name.
"""


def pull(
    wanted: Iterable[tuple[DatasetSpec, str, bool]],
    to: Path,
    hook: Any,
    message: Callable[[str], None],
    stage: Callable[[Phrase], None] = lambda _: None,
) -> list[Path]:
    """Write every split below `to`, where the mirror source finds it, and read it back. Returns the files.

    A file that is there already with the same rows is left as it is. stage: is told what is fetched, which may take
    hours. Raises `DataError` and `SaveError`;
    `UsageError`, before anything is fetched, where `to` cannot be written.
    """
    files.check_folder("--to", to)
    written: dict[Path, str] = {}
    try:
        _write_all(wanted, to, hook, message, stage, written)
    except BaseException:
        with suppress(SaveError):  # what is there already is told of, too
            _write_note(to, list(written.values()))
        raise
    _write_note(to, list(written.values()))
    return list(written)


def _write_all(
    wanted: Iterable[tuple[DatasetSpec, str, bool]],
    to: Path,
    hook: Any,
    message: Callable[[str], None],
    stage: Callable[[Phrase], None],
    written: dict[Path, str],
) -> None:
    local: set[str] = set()
    for spec, split, required in wanted:
        if spec.path in BUILDERS or local_path(spec):
            if (title := dataset_title(spec)) not in local:
                message(f"{title}: is a local file, which travels with its task")
            local.add(title)
            continue
        # Rows that an earlier pull put here are what may be out of date.
        others = tuple(folder for folder in spec.mirrors if Path(folder).expanduser().resolve() != to.resolve())
        stage(phrase("fetching {title}, split '{split}'", title=dataset_title(spec), split=split))
        try:
            rows = load_split(replace(spec, mirrors=others), split, hook)
        except DataError as error:
            if required:
                raise
            message(f"left out: {error}")
            continue
        file = _write_rows(_target(spec, split, to), rows.rows)
        _read_back(spec, split, file, to, hook, rows)
        written[file] = f"{file.relative_to(to)}: {len(rows.rows)} rows, sha256 {rows.fingerprint}, from {rows.origin}"
        message(written[file])


def _target(spec: DatasetSpec, split: str, to: Path) -> Path:
    """Where the rows go, without the extension."""
    place = mirror_folders(spec, split)[0]
    path = PurePosixPath(place.path, place.name or "", place.split)
    if not is_relative(str(path)):
        raise DataError(f"{dataset_title(spec)}, split '{split}': has no place of its own below {to} ({path})")
    return to / path


def _read_back(spec: DatasetSpec, split: str, file: Path, to: Path, hook: Any, rows: Rows) -> None:
    """Make sure that a run with `--data` will see these very rows. A file that it would not read so is taken away."""
    try:
        copy = load_split(replace(spec, mirrors=(str(to),), offline=True), split, hook)
        if copy.fingerprint != rows.fingerprint:
            title = f"{dataset_title(spec)}, split '{split}'"
            raise DataError(f"{title}: {copy.origin} gives other rows than {rows.origin}; pull into an empty folder")
    except DataError:
        file.unlink()
        raise


def _write_rows(target: Path, rows: Sequence[Mapping[str, JSON]]) -> Path:
    """JSON lines; Parquet where rows hold bytes, which JSON does not know."""
    if any(_holds_bytes(value) for row in rows for value in row.values()):
        return _replace(target.with_name(target.name + ".parquet"), lambda path: _save_parquet(path, rows))

    def save_lines(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as handle:
            handle.writelines(json.dumps(row, ensure_ascii=False, default=plain) + "\n" for row in rows)

    return _replace(target.with_name(target.name + ".jsonl"), save_lines)


def _holds_bytes(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_bytes(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_bytes(item) for item in value)
    return isinstance(value, bytes | bytearray)


def _save_parquet(path: Path, rows: Sequence[Mapping[str, JSON]]) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        table = rows.table if isinstance(rows, TableRows) else pa.Table.from_pylist([dict(row) for row in rows])
        pq.write_table(table, path)
    except pa.ArrowException as error:
        raise SaveError(f"{path}: these rows do not fit a table: {' '.join(str(error).split())}") from error


def _replace(file: Path, save: Callable[[Path], None]) -> Path:
    """Write a file beside its place, then move it there at one stroke, unless it is there already."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(file) as partial:
            save(partial)
            if file.is_file() and filecmp.cmp(partial, file, shallow=False):
                partial.unlink()
    except OSError as error:
        raise SaveError(f"{file}: could not be written: {error.strerror}; --to needs a folder with room") from error
    return file


def _write_note(to: Path, lines: Sequence[str]) -> None:
    """Keep a note that says of each file where it came from; lines of earlier pulls stay."""
    if not lines:
        return
    note = to / NOTE
    earlier = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
    known = {line.partition(":")[0]: line for line in [*earlier, *(f"- {line}" for line in lines)] if line[:2] == "- "}
    text = HEAD + "\n" + "\n".join(known[name] for name in sorted(known)) + "\n"

    def save(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    _replace(note, save)
