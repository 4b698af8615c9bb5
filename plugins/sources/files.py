"""Rows from local files and folders: `dataset_path: FOLDER`, `dataset_path: rows.jsonl`, and lm-eval's
`dataset_path: json` (csv, parquet, text) with `dataset_kwargs: {data_files: ...}`.
"""

from __future__ import annotations

import glob
from dataclasses import replace
from pathlib import Path

from harness import DataError, DatasetSpec, Rows, hookimpl
from harness.data import (
    BUILDERS,
    DataFile,
    FileOptions,
    data_files,
    find_split,
    is_name_of,
    local_path,
    make_rows,
    match_files,
    missing,
    read_all,
    read_saved,
    split_of_file,
    stem_of_file,
)

# Keys of `dataset_kwargs` that say how `datasets` loads, not how a file is read.
LOADER_KEYS = (
    "cache_dir",
    "data_dir",
    "data_files",
    "download_mode",
    "features",
    "keep_in_memory",
    "num_proc",
    "streaming",
    "token",
    "trust_remote_code",
    "verification_mode",
)
# What a file can be whose name is no split: the three splits, and other names that people have for them.
SPLITS = ("test", "train", "validation", "dev", "eval", "evaluation", "testing", "training", "val", "valid")
FORMAT_OF_BUILDER = {"json": None, "csv": "csv", "parquet": "parquet", "text": "text"}


@hookimpl(tryfirst=True)
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    if not spec.path:
        return None
    if spec.path in BUILDERS:
        return _from_builder(spec, split)
    path = local_path(spec)
    if path is None:
        return None
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder{_meant(path)} (dataset_path: {spec.path})")
    if path.is_file():
        return _from_one_file(path, spec, split)
    if "data_files" in spec.kwargs:
        return _rows(_found([path / _data_dir(spec)], data_files(spec, split)), spec)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return make_rows(read_saved(path, split), f"folder {path}")
    return _rows(find_split(path, path / _data_dir(spec), spec.name, split), spec)


def _meant(path: Path) -> str:
    """What was most likely meant: a path with slashes, or a file with another ending."""
    with_slashes = Path(str(path).replace("\\", "/"))
    if with_slashes != path and with_slashes.exists():
        return "; paths are written with /"
    beside = path.parent.glob(f"{glob.escape(path.stem)}.*") if path.parent.is_dir() else ()
    alike = ", ".join(sorted(other.name for other in beside))
    return f"; there is {alike}" if alike else ""


def _from_one_file(path: Path, spec: DatasetSpec, split: str) -> Rows:
    """A single file is the split that its name says; where it says none, the one split that the task asks."""
    named = split_of_file(path.name)
    if named and not is_name_of(named, split):
        raise DataError(f"{path}: is the split '{named}', and '{split}' is asked for")
    if not named and split not in SPLITS and split != stem_of_file(path.name):
        raise missing("split", split, SPLITS[:3], f"{path} (one file)")
    return _rows([DataFile(path)], spec)


def _from_builder(spec: DatasetSpec, split: str) -> Rows | None:
    chosen = data_files(spec, split)
    remote = [name for name in chosen if "://" in name.removeprefix("zip://")]
    if spec.path not in FORMAT_OF_BUILDER or remote:
        return None
    if not chosen:
        raise DataError(f"dataset_path: {spec.path}: needs `dataset_kwargs: {{data_files: {{{split}: FILE}}}}`")
    return _rows(_found([Path(spec.base) / _data_dir(spec), Path.cwd() / _data_dir(spec)], chosen), spec)


def _data_dir(spec: DatasetSpec) -> str:
    return str(spec.kwargs.get("data_dir") or "")


def _found(folders: list[Path], patterns: list[str]) -> list[DataFile]:
    """The files that each pattern names, in the first folder that has any."""
    files: list[DataFile] = []
    for pattern in patterns:
        found = next((found for folder in folders if (found := match_files(folder, pattern))), [])
        if not found:
            looked = " and ".join(dict.fromkeys(str(folder) for folder in folders))
            raise DataError(f"data_files: there is no file {pattern} (looked in {looked})")
        files += found
    return files


def _rows(files: list[DataFile], spec: DatasetSpec) -> Rows:
    options = FileOptions.of(spec.kwargs, "dataset_kwargs", ignore=LOADER_KEYS)
    if kind := FORMAT_OF_BUILDER.get(str(spec.path)):
        # Who names lm-eval's reader of CSV gets its types, too; `types: text` reads a cell as it is.
        types = "inferred" if kind == "csv" and "types" not in spec.kwargs else options.types
        options = replace(options, format=options.format or kind, types=types)
    return make_rows(
        read_all(files, options), f"file {files[0]}" + (f" and {len(files) - 1} more" if files[1:] else "")
    )
