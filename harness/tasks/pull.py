"""Writes rows into a mirror folder, which `--data DIR` gives to a machine without network."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import DataError, SaveError
from harness.tasks.build import BuildOptions, dataset_spec
from harness.tasks.data import dataset_title, open_dataset
from harness.tasks.places import BUILDERS, mirror_folders
from harness.tasks.task import Task
from harness.types import JSON, DatasetSpec

NOTE = """\
Rows of public benchmarks, written by `harness data pull`, one line a split below. Their licences are those of the sets,
which the task files name.
"""


def needs(task: Task, options: BuildOptions) -> Iterator[tuple[DatasetSpec, str, bool]]:
    """(spec, split, required) of all the rows that a task asks or shows. Examples of a zero-shot task are optional."""
    config = task.config
    own = config.fewshot_config.split if config.fewshot_config else None
    shots = own or config.fewshot_split or (config.training_split if config.num_fewshot else None)
    for subset in task.subsets:
        spec = dataset_spec(task, subset, options)
        yield spec, task.eval_split, True
        if shots and shots != task.eval_split:
            yield spec, shots, bool(config.num_fewshot)


def pull(
    wanted: Iterable[tuple[DatasetSpec, str, bool]], to: Path, hook: Any, message: Callable[[str], None]
) -> list[Path]:
    """Open every split and write it below `to`, where the mirror source finds it. Returns the files.

    A split that is there already with the same rows is left as it is. Raises `DataError` and `SaveError`.
    """
    written: dict[Path, str] = {}
    for spec, split, required in wanted:
        if spec.path in BUILDERS or Path(spec.base, str(spec.path)).exists():
            message(f"{dataset_title(spec)}: is a local file, which travels with its task")
            continue
        try:
            rows = open_dataset(spec, split, hook)
        except DataError as error:
            if required:
                raise
            message(f"left out: {error}")
            continue
        place = mirror_folders(spec, split)[0]
        target = to / PurePosixPath(place.path, place.name or "", place.split)
        file = _write_rows(target, rows.rows)
        written[file] = f"{file.relative_to(to)}: {len(rows.rows)} rows, sha256 {rows.fingerprint}, from {rows.origin}"
        message(written[file])
    _write_note(to, list(written.values()))
    return list(written)


def _write_rows(target: Path, rows: Sequence[Mapping[str, JSON]]) -> Path:
    """JSON lines; Parquet where rows hold bytes, which JSON does not know."""
    if any(_holds_bytes(value) for row in rows for value in row.values()):
        return _replace(target.with_name(target.name + ".parquet"), lambda path: _save_parquet(path, rows))
    return _replace(target.with_name(target.name + ".jsonl"), lambda path: _save_lines(path, rows))


def _holds_bytes(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_bytes(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_bytes(item) for item in value)
    return isinstance(value, bytes | bytearray)


def _save_lines(path: Path, rows: Sequence[Mapping[str, JSON]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def _save_parquet(path: Path, rows: Sequence[Mapping[str, JSON]]) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def _replace(file: Path, save: Callable[[Path], None]) -> Path:
    """Write a file beside its place, then move it there at one stroke."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
        os.close(descriptor)
        partial = Path(name)
        try:
            save(partial)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(f"{file}: could not be written: {error.strerror}; --to needs a folder with room") from error
    return file


def _write_note(to: Path, lines: Sequence[str]) -> None:
    """Keep a README that says of each file where it came from; lines of earlier pulls stay."""
    note = to / "README.md"
    known = {}
    if note.is_file():
        for line in note.read_text(encoding="utf-8").splitlines():
            if line.startswith("- "):
                known[line.partition(":")[0]] = line
    known.update({f"- {line}".partition(":")[0]: f"- {line}" for line in lines})
    text = NOTE + "\n" + "\n".join(known[name] for name in sorted(known)) + "\n"

    def save(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    _replace(note, save)
