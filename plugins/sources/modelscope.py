"""Rows from the ModelScope hub (`--hub modelscope`), by its file API; no further package is needed.

`MODELSCOPE_API_TOKEN` opens what needs permission, `MODELSCOPE_ENDPOINT` names another server. Files are kept below
`$XDG_CACHE_HOME/harness/modelscope`, and fetched again only where the hub lists another hash.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from harness import DataError, DatasetSpec, Rows, hookimpl
from harness.data import (
    FileOptions,
    HubSplit,
    Server,
    Unreachable,
    cache_folder,
    card_config,
    card_files,
    data_files,
    dataset_title,
    find_files,
    find_split,
    hub_split,
    is_data_file,
    make_rows,
    missing,
    read_all,
    remedy,
)

ENDPOINT = "https://modelscope.cn"
PAGE_SIZE = 200
CARD = "README.md"
Entry = dict[str, Any]


@hookimpl
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    place = hub_split(spec, "modelscope", split) if spec.hub == "modelscope" else None
    if place is None:
        return None
    try:
        return _open(spec, place, list(place.patterns) or data_files(spec, split))
    except DataError as error:
        raise DataError(f"{error}; {remedy(spec, split)}") from error


def _open(spec: DatasetSpec, place: HubSplit, chosen: list[str]) -> Rows:
    """Bring the files that the split may be in, and read them. Without network the cache must have them."""
    title, revision = dataset_title(spec), place.revision or "master"
    root = cache_folder("modelscope", *place.path.split("/"), revision)
    closed = f"{title}: --offline forbids the network" if spec.offline else _bring(root, place, revision, chosen)
    if closed and not root.is_dir():
        raise DataError(f"{closed}, and the set is not in the cache")
    files = find_files(root, chosen) if chosen else find_split(root, root, place.name, place.split)
    if not files:
        raise DataError(f"{title}: there is no file {', '.join(chosen)}")
    own = FileOptions.of(spec.kwargs, "dataset_kwargs", ignore=tuple(spec.kwargs))
    return make_rows(
        read_all(files, place.options if place.patterns else own), f"ModelScope {place.path} at {revision}"
    )


def _bring(root: Path, place: HubSplit, revision: str, chosen: list[str]) -> str:
    """Fetch what is wanted and drop what the hub no longer lists. Returns why the hub cannot be asked, or nothing."""
    title = f"dataset '{place.path}'"
    listed, closed = _listing(_endpoint(), place.path, revision, int(time.monotonic() // 300))
    if closed:
        if not root.is_dir():
            raise DataError(closed)
        return closed
    entries = {entry["Path"]: entry for entry in listed}
    # Files of our cache that the hub does not list any more would be taken for splits.
    known = {root / path for path in entries}
    for file in root.rglob("*") if root.is_dir() else ():
        if file.is_file() and file not in known and not file.name.startswith("."):
            file.unlink(missing_ok=True)
    card = _fetch(root, place, revision, entries[CARD]) if CARD in entries else None
    wanted = _wanted(entries, place, chosen, card)
    if not wanted:
        raise _nothing(entries, place, chosen, title)
    for path in wanted:
        _fetch(root, place, revision, entries[path])
    return ""


def _wanted(entries: Iterable[str], place: HubSplit, chosen: list[str], card: Path | None) -> list[str]:
    """The files to fetch: those that were named, those that the dataset card names, or those of the config."""
    if not chosen and card is not None:
        configs = card_files(card.read_text(encoding="utf-8", errors="replace"))
        chosen = card_config(configs, place.name).get(place.split, [])
    outer = [pattern.rpartition("::")[2] if pattern.startswith("zip://") else pattern for pattern in chosen]
    if outer:
        return [path for path in entries if any(fnmatch.fnmatchcase(path, pattern) for pattern in outer)]
    rows = [path for path in entries if is_data_file(path)]
    mine = [path for path in rows if place.name in PurePosixPath(path).parts[:-1]]
    flat = [path for path in rows if not set(PurePosixPath(path).parts[:-1]) - {"data"}]
    return mine or (flat if place.name else rows)


def _nothing(entries: Iterable[str], place: HubSplit, chosen: list[str], title: str) -> DataError:
    rows = [PurePosixPath(path) for path in entries if is_data_file(path)]
    if chosen:
        return missing("file", ", ".join(chosen), [str(path) for path in rows], title)
    if place.name:
        return missing("config", place.name, {part for path in rows for part in path.parts[:-1]} - {"data"}, title)
    return DataError(
        f"{title}: has no file of rows that can be read; name one by `sources: {{modelscope: {{files: ...}}}}`"
    )


def _fetch(root: Path, place: HubSplit, revision: str, entry: Entry) -> Path:
    path, title = str(entry["Path"]), f"dataset '{place.path}'"
    target = root / path
    if ".." in PurePosixPath(path).parts or not target.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{title}: lists a file outside its folder ({path})")
    query = f"Revision={quote(revision, safe='')}&FilePath={quote(path, safe='')}"
    url = f"{_endpoint()}/api/v1/datasets/{quote(place.path)}/repo?{query}"
    return _server().fetch(url, target, f"{title}, {path}", entry.get("Size"), entry.get("Sha256") or None)


@functools.lru_cache(maxsize=256)
def _listing(endpoint: str, path: str, revision: str, _: int) -> tuple[list[Entry], str]:
    """The files of a set, and why the hub cannot be asked (empty when it can), believed for five minutes.

    Raises DataError when the set is not there or needs permission.
    """
    url = f"{endpoint}/api/v1/datasets/{quote(path)}/repo/tree"
    entries: list[Entry] = []
    page = 1
    while True:
        params = {"Revision": revision, "Recursive": "True", "PageNumber": page, "PageSize": PAGE_SIZE}
        try:
            reply = _server().json(url, f"dataset '{path}'", params)
        except Unreachable as error:
            return [], str(error)
        data = reply.get("Data") if isinstance(reply, dict) else None
        files = data.get("Files") if isinstance(data, dict) else data
        if not isinstance(files, list):
            message = reply.get("Message") if isinstance(reply, dict) else "its reply is no list of files"
            raise DataError(f"dataset '{path}': ModelScope says: {message}")
        entries += [entry for entry in files if entry.get("Type") != "tree"]
        if len(files) < PAGE_SIZE:
            return entries, ""
        page += 1


def _endpoint() -> str:
    return os.environ.get("MODELSCOPE_ENDPOINT", ENDPOINT).rstrip("/")


def _server() -> Server:
    token = os.environ.get("MODELSCOPE_API_TOKEN")
    # The older half of the API reads the cookie, the newer one the header. Neither follows a redirect elsewhere.
    headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
    permission = "accept the terms on the page of the set, then set MODELSCOPE_API_TOKEN"
    return Server("ModelScope", permission, headers)
