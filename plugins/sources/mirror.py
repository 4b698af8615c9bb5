"""Rows from mirror folders (`--data DIR`, `HARNESS_DATA`), which are asked before any hub.

DIR/<org>/<name>/[<config>/]<split>.<ext>
DIR/github/<owner>/<repository>/<file>      with `sources: {github: {repo: ..., files: {test: ...}}}`
DIR/<folder>/<file>                         with `sources: {local: {path: FOLDER, files: {test: ...}}}`
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import DataError, DatasetSpec, Rows, hookimpl
from harness.data import (
    BUILDERS,
    DataFile,
    FileOptions,
    data_files,
    file_source,
    find_files,
    find_split,
    hub_split,
    inside,
    is_hub_id,
    make_rows,
    mirror_folders,
    read_all,
)


@hookimpl(tryfirst=True)
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    if spec.path in BUILDERS:  # lm-eval's way to name local files; no mirror holds those
        return None
    complaint: DataError | None = None
    for name in spec.mirrors:
        root = Path(name).expanduser()
        if not root.is_dir():
            raise DataError(f"{name}: is not a folder (--data or HARNESS_DATA names where rows lie)")
        for look in _places(root, spec, split):
            try:
                files, options = look()
                if files:
                    return make_rows(read_all(files, options), f"mirror {files[0]}")
            except DataError as error:
                # Another place may still have it; the first complaint is the one that the user is shown.
                complaint = complaint or error
    if complaint:
        raise complaint
    return None


Found = tuple[list[DataFile], FileOptions]


def _places(root: Path, spec: DatasetSpec, split: str) -> Iterator[Callable[[], Found]]:
    """Where a split may lie below a mirror folder, as functions that look there."""
    if spec.sources:
        yield lambda: _github_copy(root, spec, split)
    if (own := hub_split(spec, "local", split)) and own.patterns:
        files = functools.partial(find_files, inside(root, root / own.path), own.patterns)
        yield lambda: (files(), own.options)
    for place in mirror_folders(spec, split):
        folder = inside(root, root / place.path)
        if folder.is_dir():
            found = functools.partial(find_split, root, folder, place.name, place.split)
            yield functools.partial(_with_options, found, spec)
    if spec.path and is_hub_id(spec.path) and (chosen := data_files(spec, split)):
        found = functools.partial(find_files, inside(root, root / spec.path), chosen)
        yield functools.partial(_with_options, found, spec)


def _with_options(find: Callable[[], list[DataFile]], spec: DatasetSpec) -> Found:
    files = find()
    # `harness data pull` writes JSON lines in UTF-8, whatever the files of the hub are like.
    if all(file.name.endswith(".jsonl") for file in files):
        return files, FileOptions()
    return files, FileOptions.of(spec.kwargs, "dataset_kwargs", ignore=tuple(spec.kwargs))


def _github_copy(root: Path, spec: DatasetSpec, split: str) -> Found:
    source = file_source(spec, split)
    if source is None or not source.repository:
        return [], FileOptions()
    folder = inside(root, root / "github" / source.repository)
    by_pattern = {pattern: find_files(folder, [pattern]) for pattern in source.patterns if folder.is_dir()}
    files = list(dict.fromkeys(file for found in by_pattern.values() for file in found))
    absent = [pattern for pattern, found in by_pattern.items() if not found]
    if files and absent:  # a part of the rows, or rows without their answers, would pass for all of them
        names = ", ".join(absent)
        raise DataError(f"{folder}: has no {names}, which split '{split}' needs beside {files[0].path.name}")
    return files, source.options
