"""Where rows lie: the folder layout that mirrors, local folders and `harness data pull` share.

    <folder>/<org>/<name>/[<config>/]<split>.<ext>
    <folder>/github/<owner>/<repository>/<file>

What a hub itself lays out is also understood: shards (`test-00000-of-00002.parquet`), a `data/` folder, and the
folders of numbered Parquet files that the Hugging Face hub makes (`<config>/<split>/0000.parquet`).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import yaml

from harness.data.data_file import DataFile, zip_members
from harness.data.formats import FILE_NAME
from harness.errors import DataError, suggest
from harness.types import JSON

_SHARD = re.compile(r"^(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})$")
_NUMBERED = re.compile(r"^\d{4,}\.parquet$")
_NOT_SPLITS = frozenset(
    ("dataset_info", "dataset_infos", "dataset_dict", "state", "config", "readme", "license", "licence", "notice")
)
_FILE_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""The names that the Hugging Face hub knows for files of its three splits. `dev` alone is not another name of `val`:
C-Eval has both, and the one is shown to the model where the other is asked."""


def strings(value: JSON) -> Iterable[str]:
    """Every string of nested lists and mappings, in their order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings(item)


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
    try:
        leaves = not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # links in a circle
        raise DataError(f"{path}: cannot be followed: {error}") from error
    if leaves:
        raise DataError(f"{path}: leads out of the folder {root}; nothing outside it is read")
    return path


def find_files(root: Path, patterns: Iterable[str]) -> list[DataFile]:
    """The files that paths, globs, or `zip://FILE::ARCHIVE` name below `root`, in the order of the patterns.

    A pattern that fits nothing adds nothing. Raises DataError when one leaves `root`.
    """
    matched: list[DataFile] = []
    for pattern in patterns:
        if not is_relative(pattern.rpartition("::")[2]):
            raise DataError(f"{pattern}: leads out of the folder {root}; nothing outside it is read")
        matched += [DataFile(inside(root, file.path), file.member) for file in match_files(root, pattern)]
    return list(dict.fromkeys(matched))


def match_files(folder: Path, pattern: str) -> list[DataFile]:
    """The files that one pattern names, which may leave the folder (a user's own files; see `find_files`)."""
    member, _, outer = pattern.removeprefix("zip://").rpartition("::") if "zip://" in pattern else ("", "", pattern)
    path = folder / Path(outer).expanduser()
    paths = [path] if path.is_file() else []
    first = next((number for number, part in enumerate(path.parts) if re.search(r"[*?\[]", part)), None)
    # A name may itself hold brackets, so the literal path is tried before the glob.
    if not paths and first is not None:
        everything = Path(*path.parts[:first]).glob("/".join(path.parts[first:]))
        paths = sorted(file for file in everything if file.is_file())
    if not member:
        return [DataFile(path, "") for path in paths]
    return [DataFile(path, name) for path in paths for name in zip_members(path) if fnmatch.fnmatchcase(name, member)]


def find_split(root: Path, folder: Path, config: str | None, split: str) -> list[DataFile]:
    """The files of one split in a folder of the layout above. DataError when the config or the split is not there.

    The splits `train`, `validation` and `test` are also found under the other names that the hub knows for their files
    (`val`, `dev`, `eval` ...), where exactly one of them is there and the name itself is not. Where the folder has a
    dataset card (`README.md`) that lists the files of the config, the card is right.
    """
    card = folder / "README.md"
    configs = card_files(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else {}
    by_split = card_config(configs, config)
    if files := find_files(folder, by_split.get(split, [])):
        return files
    try:
        place = _config_folder(folder, config)
        splits = splits_in(place)
        # Another name of the split's files, where one alone is there.
        others = [name for name in _FILE_NAMES.get(split, ()) if name in splits]
        if split not in splits and len(others) != 1:
            raise missing("split", split, splits, str(place))
        name = split if split in splits else others[0]
        return [DataFile(inside(root, path)) for path in _whole(splits[name], place, name)]
    except DataError:
        if configs:
            raise _not_on_card(configs, by_split, config, split, str(folder)) from None
        raise


Files = Mapping[str, list[str]]


def _not_on_card(configs: Mapping[str, Files], files: Files, config: str | None, split: str, where: str) -> DataError:
    names = sorted(set(configs) - {""})
    if config is not None and config not in configs:
        return missing("config", config, names, where)
    if not files:
        return DataError(f"{where}: has several configs, say `dataset_name:` (it has: {_listed(names)})")
    if split in files:
        return DataError(
            f"{where}: the files of split '{split}' that its card names are not there ({', '.join(files[split])})"
        )
    return missing("split", split, files, where)


def card_files(text: str) -> dict[str, dict[str, list[str]]]:
    """Config -> split -> paths or globs, as the `configs` of a dataset card's YAML head say.

    https://huggingface.co/docs/hub/datasets-manual-configuration. The default config is also there under "".
    """
    head = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        card = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return {}
    configs: dict[str, dict[str, list[str]]] = {}
    for config in (card.get("configs") if isinstance(card, dict) else None) or []:
        if isinstance(config, dict) and "data_files" in config:
            given = config["data_files"]
            if isinstance(given, list) and all(isinstance(item, dict) and "path" in item for item in given):
                pairs = [(str(item.get("split", "train")), item["path"]) for item in given]
            else:
                pairs = list(given.items()) if isinstance(given, dict) else [("train", given)]
            below = str(config.get("data_dir") or "")
            files = {split: [str(PurePosixPath(below, path)) for path in strings(paths)] for split, paths in pairs}
            configs[str(config.get("config_name", "default"))] = files
            if config.get("default"):
                configs[""] = files
    return configs


def card_config(configs: Mapping[str, dict[str, list[str]]], config: str | None) -> dict[str, list[str]]:
    """The files of a config of `card_files`; without a name, of the default or the only one. Empty if not there."""
    if config is not None:
        return configs.get(config, {})
    only = next(iter(configs.values())) if len(configs) == 1 else {}
    return configs.get("") or configs.get("default") or only


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
    if splits:
        return splits
    numbered = {path.name: sorted(path.glob("*.parquet")) for path in _folders(folder)}
    return {
        name: files for name, files in numbered.items() if files and all(_NUMBERED.match(file.name) for file in files)
    }


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
    stem = stem_of_file(name).lower()
    return stem if any(stem in names for names in _FILE_NAMES.values()) else None


def stem_of_file(name: str) -> str:
    """The name of a file of rows without what says its format (`hard` of `hard.jsonl.gz`); empty for other files."""
    match = FILE_NAME.search(name)
    return name[: match.start() + 1] if match else ""


def is_name_of(name: str, split: str) -> bool:
    """Whether a file called `name` is the split: by that name, or by one that the hub takes for it."""
    return name == split or name in _FILE_NAMES.get(split, ())


def is_data_folder(folder: Path) -> bool:
    """Whether a folder holds rows in the layout, directly or one config below."""
    if not folder.is_dir():
        return False
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    return saved or bool(splits_in(folder)) or any(splits_in(below) for below in _folders(folder))


def _shard(file: Path) -> re.Match[str] | None:
    match = FILE_NAME.search(file.name)
    return _SHARD.match(file.name[: match.start() + 1]) if match else None
