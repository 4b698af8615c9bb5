"""Where a task's rows are: what each hub calls a split, and which folder of a mirror holds it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path, PurePosixPath

from harness.data.file_options import FileOptions
from harness.data.folders import is_data_folder, is_relative, missing, strings
from harness.data.formats import is_data_file
from harness.errors import DataError
from harness.quick import dataclass
from harness.types import JSON, DatasetSpec

BUILDERS = ("json", "csv", "parquet", "text", "arrow", "imagefolder", "audiofolder", "webdataset")

"""`dataset_path` values that name a way of reading `data_files`, not a set."""


FILE_SOURCES = ("github", "url")

_HUB_KEYS = ("path", "name", "revision", "splits", "files")


@dataclass(frozen=True, slots=True)
class HubSplit:
    """One split as one hub calls it. `patterns` are its files there, where the task names them."""

    path: str
    name: str | None
    revision: str | None
    split: str
    patterns: tuple[str, ...] = ()
    options: FileOptions = field(default_factory=FileOptions)


def hub_split(spec: DatasetSpec, hub: str, split: str) -> HubSplit | None:
    """What `hub` ('hf', 'modelscope', 'local') calls this split, or None when the task gives no id for that hub.

    `dataset_path` is the Hugging Face id where `sources` names no other. A source is an id, or a mapping with `path`,
    `name`, `revision`, `splits` (the task's name of a split -> the hub's) and `files` (split -> paths, globs or
    `zip://FILE::ARCHIVE` in the repository, with the keys of `FileOptions` beside it). What it leaves out is the
    task's own. Raises DataError when `files` leaves out the split.
    """
    place, source = _place(spec, hub, split), spec.sources.get(hub)
    if place is None or not isinstance(source, Mapping) or "files" not in source:
        return place
    where = f"sources: {hub}"
    files = tuple(patterns_of(source["files"], split, where))
    return replace(place, patterns=files, options=FileOptions.of(source, where, ignore=_HUB_KEYS))


def is_on_hub(spec: DatasetSpec, hub: str) -> bool:
    """Whether the task gives an id for a hub."""
    return _place(spec, hub, "") is not None


def _place(spec: DatasetSpec, hub: str, split: str) -> HubSplit | None:
    """`hub_split` without the files."""
    source = spec.sources.get(hub)
    own = spec.revision if hub == "hf" else None
    if source is None:
        is_id = hub == "hf" and spec.path and spec.path not in BUILDERS
        return HubSplit(str(spec.path), spec.name, own, split) if is_id else None
    if isinstance(source, str):
        return HubSplit(source, spec.name, own, split)
    where = f"sources: {hub}"
    if not isinstance(source, Mapping) or not isinstance(source.get("splits", {}), Mapping):
        raise DataError(f"{where}: must be an id or a mapping with {', '.join(_HUB_KEYS)}")
    FileOptions.of(source, where, ignore=_HUB_KEYS)
    path, name = source.get("path", spec.path), source.get("name", spec.name)
    theirs = source.get("splits", {}).get(split, split)
    return HubSplit(str(path), name, source.get("revision", own), theirs) if path else None


def is_hub_id(path: str) -> bool:
    """Whether a `dataset_path` can be an id such as `openai/gsm8k`, and not a path of files."""
    return re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path) is not None and not is_data_file(path)


def local_path(spec: DatasetSpec) -> Path | None:
    """The file or folder that `dataset_path` names, beside the task's file or below the working directory.

    None when it is the id of a hub. The path is not there when the user named a file that is missing.
    """
    if not spec.path or spec.path in BUILDERS:
        return None
    path, is_id = Path(spec.path).expanduser(), is_hub_id(spec.path)
    for folder in (Path(spec.base), Path.cwd()):
        place = folder / path
        if place.is_file() or is_data_folder(place) or (place.is_dir() and not is_id):
            return place
    return None if is_id else Path(spec.base) / path


def mirror_folders(spec: DatasetSpec, split: str) -> list[HubSplit]:
    """The places below a mirror folder where a split may lie, most particular first."""
    own = HubSplit(spec.path, spec.name, None, split) if spec.path and spec.path not in BUILDERS else None
    local, hf, modelscope = (_place(spec, hub, split) for hub in ("local", "hf", "modelscope"))
    places = [place for place in (local, own, hf, modelscope) if place and is_relative(place.path)]
    if not places and (source := file_source(spec, None)):
        home = f"github/{source.repository}" if source.repository else "url"
        places = [HubSplit(home, None, None, split)]
    chosen = _chosen_files(spec)
    folders = []
    for place in places:
        shared = chosen and (spec.kwargs.get("data_files") or not place.name)
        path, name = (f"{place.path}/rows/{chosen}", None) if shared else (place.path, place.name)
        folders.append(HubSplit(path, name, None, place.split))
    return list(dict.fromkeys(folders))


def _chosen_files(spec: DatasetSpec) -> str:
    """A folder name for a spec that picks files of its set: two such specs of one set must not share a place."""
    picked: JSON = {key: spec.kwargs[key] for key in ("data_files", "data_dir") if key in spec.kwargs}
    if not picked and not spec.path:
        picked = [
            source["files"] for source in spec.sources.values() if isinstance(source, Mapping) and "files" in source
        ]
    if not picked:
        return ""
    canonical = json.dumps(picked, sort_keys=True, ensure_ascii=False)
    first = next(iter(strings(picked)), "files")
    stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(first).name).strip("._")
    return f"{stem}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class FileSource:
    """Files that are a set's home: those of a GitHub repository, or plain addresses (`repository` is then empty)."""

    repository: str
    revision: str
    patterns: tuple[str, ...]
    options: FileOptions


def file_source(spec: DatasetSpec, split: str | None) -> FileSource | None:
    """What `sources: {github: {repo, files, ...}}` or `sources: {url: {files, ...}}` says of a split (None: of any).

    None when the task has neither, or has a hub id beside it and no file for this split. The mapping also takes the
    keys of `FileOptions`.
    """
    for kind in FILE_SOURCES:
        source = spec.sources.get(kind)
        if source is None:
            continue
        where = f"sources: {kind}"
        if not isinstance(source, Mapping) or "files" not in source:
            raise DataError(f"{where}: needs `files: {{split: path, glob or list}}`")
        options = FileOptions.of(source, where=where, ignore=("repo", "files", "revision"))
        repository: JSON = source.get("repo") if kind == "github" else ""
        if kind == "github" and not (
            isinstance(repository, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", repository) and ".." not in repository
        ):
            raise DataError(f"{where}: needs `repo: owner/name`")
        if split is not None and spec.path and split not in source["files"]:
            return None
        patterns = () if split is None else tuple(patterns_of(source["files"], split, where))
        return FileSource(repository, source.get("revision", "HEAD"), patterns, options)
    return None


def patterns_of(files: JSON, split: str, where: str) -> list[str]:
    """The paths or globs that `files` (a mapping from split to one or several) gives for a split."""
    if not isinstance(files, Mapping):
        raise DataError(f"{where}: `files` must map each split to a path, a glob, or a list of these")
    if split not in files:
        raise missing("split", split, list(files), where)
    value = files[split]
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(item, str) for item in patterns) or not patterns:
        raise DataError(f"{where}: split '{split}' must be a path, a glob, or a list of these")
    return list(patterns)


def data_files(spec: DatasetSpec, split: str) -> list[str]:
    """The files that `dataset_kwargs: {data_files: ...}` gives for a split; empty without `data_files`.

    As everywhere where lm-eval's files run, files that are not given by split are the split `train`.
    """
    files = spec.kwargs.get("data_files")
    if files is None:
        return []
    by_split = files if isinstance(files, Mapping) else {"train": files}
    return patterns_of(by_split, split, "dataset_kwargs: data_files")
