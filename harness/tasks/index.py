"""What every task file says about itself, read once and kept on disk, so that finding a task parses only what changed.

The cache is keyed by each file's time and size, those of its includes too, and each file is looked at once, however
many include it: a library of 13,000 files is known within a fraction of a second. The cache can always be deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import SaveError, TaskError
from harness.quick import dataclass
from harness.tasks.file_models import words
from harness.tasks.yaml_file import Document, PythonFunction, load_document, read_text
from harness.types import JSON

# Raise it when an entry's fields change: older caches are then read anew.
_VERSION = 7
_NAMED = re.compile(r"^(task|group):[ \t]*['\"]?([\w.:+-]+)['\"]?[ \t]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task or a group, as `harness tasks` lists it. `members` are what a group names; empty for a task.

    aliases: other name -> the expression that it stands for. date: when the benchmark was published (`2023-05`).
    rows: how many are asked, as its authors published it. metric: the one of the headline. titles: of subsets.
    places: folders of a mirror that may hold the rows. error: why the file cannot be read; `name` is then its own.
    """

    name: str
    package: str
    path: Path
    title: str = ""
    ability: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    license: str = ""
    paper: str = ""
    tags: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    subsets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    members: tuple[JSON, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    rows: int | None = None
    num_fewshot: int = 0
    output_type: str = ""
    metric: str = ""
    places: tuple[str, ...] = ()
    error: str = ""

    @property
    def is_group(self) -> bool:
        return bool(self.members)


def read_folder(folder: Path, package: str, cache_dir: Path) -> list[TaskEntry]:
    """The entries of all task files below `folder`, in the order of their paths."""
    cache_file = cache_dir / f"tasks-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.json"
    known: dict[str, Any] = {}
    stamps: dict[str, list[int]] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # without a cache to trust, all is read
        cache = json.loads(cache_file.read_bytes())
        if cache["version"] == _VERSION:
            known, stamps = dict(cache["rows"]), dict(cache["stamps"])
    # Before anything is read: what changes meanwhile is then found changed the next time.
    now = {path: _stamp(path) for path in stamps}
    current = {path for path, stamp in stamps.items() if now[path] == stamp != []}
    fresh: dict[str, Any] = {}
    for path in sorted(_yaml_files(folder)):
        row = known.get(path)
        # One that could not be read may have lacked another file, which is there now.
        if row is None or not current.issuperset(row["files"]) or "error" in (row["entry"] or ()):
            now.setdefault(path, _stamp(path))
            row = _read_row(Path(path))
        fresh[path] = row
    needed = dict.fromkeys(file for row in fresh.values() for file in row["files"])
    found = {file: now.get(file) or _stamp(file) for file in needed}
    if fresh != known or found != stamps:  # a checkout may leave other times with the same text
        kept = {"version": _VERSION, "stamps": found, "rows": fresh}
        data = json.dumps(kept, ensure_ascii=False).encode("utf-8", "surrogatepass")
        with contextlib.suppress(OSError, SaveError):  # a folder that cannot be written costs time, nothing else
            cache_file.parent.mkdir(parents=True, exist_ok=True)
            files.replace(cache_file, [data])
    return [entry_of(Path(path), package, row) for path, row in fresh.items() if row["entry"] is not None]


def read_file(path: Path, package: str) -> TaskEntry | None:
    """The entry of one file; None for a file that holds neither a task nor a group."""
    row = _read_row(path)
    return None if row["entry"] is None else entry_of(path, package, row)


def entry_of(path: Path, package: str, row: Mapping[str, Any]) -> TaskEntry:
    """An entry from its cached form, in which tuples are lists and what is empty is left out."""
    fields: dict[str, Any] = {
        name: tuple(value) if type(value) is list else value for name, value in row["entry"].items()
    }
    if "subsets" in fields:
        fields["subsets"] = {name: tuple(groups) for name, groups in fields["subsets"].items()}
    return TaskEntry(package=package, path=path, **fields)


def _yaml_files(folder: Path) -> Iterator[str]:
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")) and name != "recipes")
        # A scaffold is a text to copy, not a task.
        here = str(Path(root))
        start = "" if here == "." else f"{here}{os.sep}"
        for name in names:
            if name.endswith((".yaml", ".yml")) and not name.startswith("."):
                yield start + name


def _stamp(path: str) -> list[int]:
    """Time and size of a file; [] where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for each of 13,000 files takes longer than looking at them
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_size]


def _read_row(path: Path) -> dict[str, Any]:
    try:
        document = load_document(path)
    except TaskError as error:
        # What it seems to be called, so that who asks for it is told what is wrong.
        named: dict[str, str] = {}
        with contextlib.suppress(TaskError):
            named = dict(_NAMED.findall(read_text(path)))
        name = named.get("group") or named.get("task") or path.stem
        return {"files": [str(path)], "entry": {"name": name, "error": str(error)}}
    entry = _describe(document)
    kept = None if entry is None else {key: value for key, value in entry.items() if value or key == "name"}
    return {"files": [str(file) for file in document.files], "entry": kept}


def _describe(document: Document) -> dict[str, Any] | None:
    """What the index keeps of a file. Wrong types are left to `load`, which says what is wrong with them."""
    data = document.data
    name, group = data.get("task"), data.get("group")
    # A text `task` beside `group` is the only member, unless the file says what a task alone says.
    is_member = isinstance(name, str) and not {"output_type", "class"} & data.keys()
    if isinstance(group, str) and (isinstance(name, list) or is_member):
        members = _plain(name if isinstance(name, list) else [name])
        return {"name": group, "title": _text(data, "title", "group_alias"), "members": members}
    if not isinstance(name, str):
        return None
    subsets, titles = _subsets(data.get("subsets"))
    aliases, metadata, metrics = data.get("aliases"), _mapping(data, "metadata"), data.get("metric_list")
    # `metadata.rows`: a number, or one for each split, of which that counts which is asked.
    rows = metadata.get("rows")
    if isinstance(rows, dict):
        rows = rows.get(_text(data, "test_split", "validation_split", "training_split"))
    first = metrics[0] if isinstance(metrics, list) and metrics else metrics
    return {
        "name": name,
        "title": _text(data, "title", "task_alias"),
        **{key: _listed(data.get(key)) for key in ("ability", "language", "modality")},
        "license": _text(data, "license"),
        "paper": _text(data, "paper"),
        "tags": [*_listed(data.get("tag")), *_listed(group)],
        "groups": list(dict.fromkeys(group for groups in subsets.values() for group in groups)),
        "variants": list(data["variants"]) if isinstance(data.get("variants"), dict) else [],
        "subsets": subsets,
        "titles": titles,
        "aliases": (
            {alias: target for alias, target in aliases.items() if isinstance(target, str)}
            if isinstance(aliases, dict)
            else dict.fromkeys(_listed(aliases), name)
        ),
        "date": str(metadata.get("date") or ""),
        "rows": rows if isinstance(rows, int) else None,
        "num_fewshot": data["num_fewshot"] if isinstance(data.get("num_fewshot"), int) else 0,
        "output_type": _text(data, "output_type") or "generate_until",
        "metric": _text(first, "metric") if isinstance(first, dict) else first if isinstance(first, str) else "",
        "places": _places(data),
    }


def _mapping(data: Mapping[str, JSON], key: str) -> Mapping[str, JSON]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _places(data: Mapping[str, JSON]) -> list[str]:
    """Where a mirror would hold the rows: by the id of each hub, by the repository or the name of files (a pattern)."""
    path, sources = _text(data, "dataset_path"), _mapping(data, "sources")
    places = [path] if path else []
    for hub in ("hf", "modelscope"):
        source = sources.get(hub)
        identity = source.get("path") if isinstance(source, dict) else source
        places += [identity] if isinstance(identity, str) else []
    repo = _mapping(sources, "github").get("repo")
    places += [f"github/{repo}"] if isinstance(repo, str) else []
    local = sources.get("local")
    local = local.get("path") if isinstance(local, dict) else local
    places += [local] if isinstance(local, str) else []
    for given in _mapping(_mapping(sources, "url"), "files").values():
        for file in given if isinstance(given, list) else [given]:
            name = re.sub(r"{{.*?}}", "*", str(file)).rsplit("/", 1)[-1]
            pattern = re.sub("[*]+", "*", re.sub(r"[^\w.*-]+", "_", name))
            places.append(f"url/rows/{pattern}-*")
    return list(dict.fromkeys(places))


def _subsets(given: JSON) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Name -> groups of the subsets, and name -> title of those that have one."""
    if not isinstance(given, dict):
        return ({str(name): [] for name in given} if isinstance(given, list) else {}), {}
    groups = {name: _listed(fields.get("group")) if isinstance(fields, dict) else [] for name, fields in given.items()}
    titles = {name: value.get("title") if isinstance(value, dict) else value for name, value in given.items()}
    return groups, {name: title for name, title in titles.items() if isinstance(title, str)}


def _listed(value: JSON) -> list[str]:
    if isinstance(value, str):
        return list(words(value))
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _text(data: Mapping[str, JSON], *keys: str) -> str:
    return next((value for key in keys if isinstance(value := data.get(key), str)), "")


def _plain(value: Any) -> Any:
    """The value as JSON keeps it: Python functions by their names."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, PythonFunction) else value


def as_json(entries: Sequence[TaskEntry]) -> list[dict[str, Any]]:
    """Entries as plain values."""
    return [{**asdict(entry), "path": str(entry.path)} for entry in entries]
