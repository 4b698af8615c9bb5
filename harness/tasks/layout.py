"""Where rows lie: the folder layout that mirrors, local folders and `harness data pull` share.

    <folder>/<org>/<name>/[<config>/]<split>.<ext>
    <folder>/github/<owner>/<repository>/<file>

What a hub itself lays out is also understood: shards (`test-00000-of-00002.parquet`), a `data/` folder, and the
folders of numbered Parquet files that the Hugging Face hub makes (`<config>/<split>/0000.parquet`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import DataError, suggest
from harness.tasks.formats import FILE_NAME, DataFile, FileOptions, is_data_file, zip_members
from harness.types import JSON, DatasetSpec

BUILDERS = ("json", "csv", "parquet", "text", "arrow", "imagefolder", "audiofolder", "webdataset")
"""`dataset_path` values that name a way of reading `data_files`, not a set."""
FILE_SOURCES = ("github", "url")
_SHARD = re.compile(r"^(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})$")
_NUMBERED = re.compile(r"^\d{4,}\.parquet$")
_NOT_SPLITS = frozenset(
    ("dataset_info", "dataset_infos", "dataset_dict", "state", "config", "readme", "license", "licence", "notice")
)
_SYNONYMS = (("train", "training"), ("validation", "valid", "val", "dev"), ("test", "testing", "eval", "evaluation"))
_HUB_KEYS = ("path", "name", "revision", "splits", "files")


@dataclass(frozen=True, slots=True)
class HubSplit:
    """One split as one hub calls it. `patterns` are its files there, where the task names them."""

    path: str
    name: str | None
    revision: str | None
    split: str
    patterns: tuple[str, ...] = ()
    options: FileOptions = FileOptions()


def hub_split(spec: DatasetSpec, hub: str, split: str) -> HubSplit | None:
    """What `hub` ('hf', 'modelscope', 'local') calls this split, or None when the task gives no id for that hub.

    `dataset_path` is the Hugging Face id where `sources` names no other. A source is an id, or a mapping with `path`,
    `name`, `revision`, `splits` (the task's name of a split -> the hub's) and `files` (split -> paths, globs or
    `zip://FILE::ARCHIVE` in the repository, with the keys of `FileOptions` beside it). What it leaves out is the
    task's own.
    """
    source = spec.sources.get(hub)
    revision = spec.revision if hub == "hf" else None
    if source is None:
        is_id = hub == "hf" and spec.path and spec.path not in BUILDERS
        return HubSplit(str(spec.path), spec.name, revision, split) if is_id else None
    if isinstance(source, str):
        return HubSplit(source, spec.name, revision, split)
    where = f"sources: {hub}"
    if not isinstance(source, Mapping) or not isinstance(source.get("splits", {}), Mapping):
        raise DataError(f"{where}: must be an id or a mapping with {', '.join(_HUB_KEYS)}")
    options = FileOptions.of(source, where, ignore=_HUB_KEYS)
    path = source.get("path", spec.path)
    if not path:
        return None
    files = tuple(patterns_of(source["files"], split, where)) if source.get("files") else ()
    name, revision = source.get("name", spec.name), source.get("revision", revision)
    return HubSplit(str(path), name, revision, source.get("splits", {}).get(split, split), files, options)


def is_hub_id(path: str) -> bool:
    """Whether a `dataset_path` can be an id such as `openai/gsm8k`, and not a path of files."""
    return re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", path) is not None and not is_data_file(path)


def mirror_folders(spec: DatasetSpec, split: str) -> list[HubSplit]:
    """The places below a mirror folder where a split may lie, most particular first."""
    own = HubSplit(spec.path, spec.name, None, split) if spec.path and spec.path not in BUILDERS else None
    local, hf, modelscope = (hub_split(spec, hub, split) for hub in ("local", "hf", "modelscope"))
    places = [place for place in (local, own, hf, modelscope) if place and is_relative(place.path)]
    if not places and (source := file_source(spec, None)):
        name = f"github/{source.repository}" if source.repository else "url"
        places = [HubSplit(name, None, None, split)]
    chosen = _chosen_files(spec)
    found = []
    for place in places:
        shared = chosen and (spec.kwargs.get("data_files") or not place.name)
        path, name = (f"{place.path}/rows/{chosen}", None) if shared else (place.path, place.name)
        found.append(HubSplit(path, name, None, place.split))
    return list(dict.fromkeys(found))


def _chosen_files(spec: DatasetSpec) -> str:
    """A folder name for a spec that picks files of its set: two such specs of one set must not share a place."""
    picked: JSON = {key: spec.kwargs[key] for key in ("data_files", "data_dir") if key in spec.kwargs}
    if not picked and not spec.path:
        picked = [source["files"] for source in spec.sources.values() if isinstance(source, Mapping) and "files" in source]
    if not picked:
        return ""
    canonical = json.dumps(picked, sort_keys=True, ensure_ascii=False)
    first = next(iter(_strings(picked)), "files")
    stem = re.sub(r"[^\w.-]+", "_", PurePosixPath(first).name).strip("._")
    return f"{stem}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


def _strings(value: JSON) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


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
        repository = _repository(source, where) if kind == "github" else ""
        if split is not None and spec.path and split not in source["files"]:
            return None
        patterns = () if split is None else tuple(patterns_of(source["files"], split, where))
        return FileSource(repository, source.get("revision", "HEAD"), patterns, options)
    return None


def _repository(source: Mapping[str, JSON], where: str) -> str:
    repository = source.get("repo")
    if isinstance(repository, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", repository) and ".." not in repository:
        return repository
    raise DataError(f"{where}: needs `repo: owner/name`")


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


def missing(what: str, name: str, known: Iterable[str], where: str) -> DataError:
    """The error for a split or config that is not there: it names those that are."""
    there = sorted(known)
    return DataError(f"{where}: has no {what} '{name}'{suggest(name, there)} (it has: {_listed(there)})")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20]) or "none"
    return f"{shown}, and {len(names) - 20} more" if len(names) > 20 else shown


def is_relative(path: str) -> bool:
    """Whether a path stays below the folder that it is joined to."""
    return not (path.startswith(("/", "~", "\\")) or re.match(r"^[A-Za-z]:", path) or ".." in re.split(r"[/\\]", path))


def inside(root: Path, path: Path) -> Path:
    """Return `path`; DataError when it leaves `root`, by `..` or by a symbolic link."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{path}: leads out of the folder {root}; nothing outside it is read")
    return path


def find_files(root: Path, patterns: Iterable[str]) -> list[DataFile]:
    """The files that paths, globs, or `zip://FILE::ARCHIVE` name below `root`, in the order of the patterns.

    A pattern that fits nothing adds nothing. Raises DataError when one leaves `root`.
    """
    found: list[DataFile] = []
    for pattern in patterns:
        if not is_relative(pattern.rpartition("::")[2]):
            raise DataError(f"{pattern}: leads out of the folder {root}; nothing outside it is read")
        found += [DataFile(inside(root, file.path), file.member) for file in match_files(root, pattern)]
    return list(dict.fromkeys(found))


def match_files(folder: Path, pattern: str) -> list[DataFile]:
    """The files that one pattern names, which may leave the folder (a user's own files; see `find_files`)."""
    member, _, outer = pattern.removeprefix("zip://").rpartition("::") if "zip://" in pattern else ("", "", pattern)
    paths = _matching(folder / Path(outer).expanduser())
    return [DataFile(path, name) for path in paths for name in (_members(path, member) if member else [""])]


def _members(path: Path, pattern: str) -> list[str]:
    return [name for name in zip_members(path) if fnmatch.fnmatchcase(name, pattern)]


def _matching(path: Path) -> list[Path]:
    # A name may itself hold brackets, so the literal path is tried before the glob.
    if path.is_file():
        return [path]
    parts = path.parts
    first = next((number for number, part in enumerate(parts) if re.search(r"[*?\[]", part)), None)
    if first is None:
        return []
    return sorted(found for found in Path(*parts[:first]).glob("/".join(parts[first:])) if found.is_file())


def find_split(root: Path, folder: Path, config: str | None, split: str) -> list[DataFile]:
    """The files of one split in a folder of the layout above. DataError when the config or the split is not there.

    A split is also found under the hub's synonyms (`dev`, `val`, `valid`, `validation`; `test`, `eval`; ...) where
    exactly one of them is there and the name itself is not.
    """
    place = _config_folder(folder, config)
    splits = splits_in(place)
    name = split if split in splits else _synonym(split, splits)
    if name is None:
        raise missing("split", split, splits, str(place))
    return [DataFile(inside(root, path)) for path in _whole(splits[name], place, name)]


def _config_folder(folder: Path, config: str | None) -> Path:
    if config is not None and is_relative(config) and (folder / config).is_dir():
        return folder / config
    configs = [path.name for path in _folders(folder) if path.name != "data" and splits_in(path)]
    if config is not None and configs:
        raise missing("config", config, configs, str(folder))
    if splits_in(folder) or not configs:
        return folder
    if len(configs) == 1 or "default" in configs:
        return folder / ("default" if "default" in configs else configs[0])
    raise DataError(f"{folder}: has several configs, say `dataset_name:` (it has: {_listed(configs)})")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def splits_in(folder: Path) -> dict[str, list[Path]]:
    """Split -> its files, of a folder that holds them directly, in `data/`, or as folders of numbered Parquet files."""
    splits: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        match = FILE_NAME.search(path.name)
        stem = path.name[: match.start() + 1] if match else ""
        if stem and not stem.startswith(".") and stem.lower() not in _NOT_SPLITS and path.is_file():
            shard = _SHARD.match(stem)
            splits.setdefault(shard["split"] if shard else stem, []).append(path)
    if not splits and (folder / "data").is_dir() and folder.name != "data":
        splits = splits_in(folder / "data")
    return splits or _numbered_splits(folder)


def _numbered_splits(folder: Path) -> dict[str, list[Path]]:
    found = {path.name: sorted(path.glob("*.parquet")) for path in _folders(folder)}
    return {name: files for name, files in found.items() if files and all(_NUMBERED.match(file.name) for file in files)}


def _synonym(split: str, splits: Mapping[str, JSON]) -> str | None:
    for names in _SYNONYMS:
        if split in names:
            there = [name for name in names if name in splits]
            return there[0] if len(there) == 1 else None
    return None


def _whole(files: list[Path], folder: Path, split: str) -> list[Path]:
    """Check that the files of a split are one file, or all of its shards."""
    if len(files) == 1 and not _shard(files[0]):
        return files
    counts = {int(shard["count"]) for file in files if (shard := _shard(file))}
    if all(_NUMBERED.match(file.name) for file in files) or counts == {len(files)}:
        return files
    if len(counts) == 1 and all(_shard(file) for file in files):
        raise DataError(f"{folder}: split '{split}' has {len(files)} of its {counts.pop()} shards; fetch the others")
    names = ", ".join(file.name for file in files)
    raise DataError(f"{folder}: split '{split}' is there more than once ({names}); keep one")


def split_of_file(name: str) -> str | None:
    """The split that a file's name says it is (`dev.csv`), or None when the name says nothing of the kind."""
    match = FILE_NAME.search(name)
    stem = name[: match.start() + 1].lower() if match else ""
    return stem if any(stem in names for names in _SYNONYMS) else None


def same_split(first: str, second: str) -> bool:
    """Whether two names mean one split on the hubs, such as `dev` and `validation`."""
    return first == second or any(first in names and second in names for names in _SYNONYMS)


def is_data_folder(folder: Path) -> bool:
    """Whether a folder holds rows in the layout, directly or one config below."""
    if not folder.is_dir():
        return False
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    return saved or bool(splits_in(folder)) or any(splits_in(below) for below in _folders(folder))


def _shard(file: Path) -> re.Match[str] | None:
    match = FILE_NAME.search(file.name)
    return _SHARD.match(file.name[: match.start() + 1]) if match else None
