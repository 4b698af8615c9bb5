"""Rows from the ModelScope hub (`--hub modelscope`), by its file API; no further package is needed.

`MODELSCOPE_API_TOKEN` opens what needs permission, `MODELSCOPE_ENDPOINT` names another server. Files are kept below
`$XDG_CACHE_HOME/harness/modelscope`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness import DataError, DatasetSpec, Rows, hookimpl
from harness.tasks import (
    FileOptions,
    HubSplit,
    Server,
    cache_folder,
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
LOADER_KEYS = ("cache_dir", "data_dir", "data_files", "features", "streaming", "token", "trust_remote_code")


@hookimpl
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    place = hub_split(spec, "modelscope", split) if spec.hub == "modelscope" else None
    if place is None:
        return None
    try:
        return _open(spec, place, data_files(spec, split))
    except DataError as error:
        raise DataError(f"{error}; {remedy(spec, split)}") from error


def _open(spec: DatasetSpec, place: HubSplit, chosen: list[str]) -> Rows:
    revision = place.revision or "master"
    root = cache_folder("modelscope", *place.path.split("/"), revision)
    if not spec.offline:
        _bring(root, place, revision, chosen)
    elif not root.is_dir():
        raise DataError(f"{dataset_title(spec)}: is not in the cache, and --offline forbids the network")
    files = find_files(root, chosen) if chosen else find_split(root, root, place.name, place.split)
    options = FileOptions.of(spec.kwargs, "dataset_kwargs", ignore=LOADER_KEYS)
    return make_rows(read_all(files, options), f"ModelScope {place.path} at {revision}")


def _bring(root: Path, place: HubSplit, revision: str, chosen: list[str]) -> None:
    """Fetch the files that the split may be in: those that were named, or those of its config."""
    title = f"dataset '{place.path}'"
    listed = [entry for entry in _listing(place.path, revision) if is_data_file(str(entry.get("Path")))]
    wanted = [entry for entry in listed if _is_wanted(entry["Path"], place, chosen)]
    if not wanted:
        if place.name:
            folders = {part for entry in listed for part in Path(entry["Path"]).parts[:-1]} - {"data"}
            raise missing("config", place.name, folders, title)
        names = {Path(entry["Path"]).name for entry in listed}
        raise missing("file", ", ".join(chosen) or place.split, names, title)
    for entry in wanted:
        url = f"{_endpoint()}/api/v1/datasets/{place.path}/repo?Revision={revision}&FilePath={entry['Path']}"
        target = root / entry["Path"]
        if not target.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{title}: lists a file outside its folder ({entry['Path']})")
        _server().fetch(url, target, f"{title}, {entry['Path']}", entry.get("Size"), entry.get("Sha256"))


def _is_wanted(path: str, place: HubSplit, chosen: list[str]) -> bool:
    if chosen:
        return any(Path(path).match(pattern) for pattern in chosen)
    parents = Path(path).parts[:-1]
    return place.name is None or place.name in parents or not set(parents) - {"data"}


def _listing(path: str, revision: str) -> list[dict[str, Any]]:
    url = f"{_endpoint()}/api/v1/datasets/{path}/repo/tree"
    entries: list[dict[str, Any]] = []
    page = 1
    while True:
        params = {"Revision": revision, "Recursive": "True", "PageNumber": page, "PageSize": PAGE_SIZE}
        reply = _server().json(url, f"dataset '{path}'", params)
        data = reply.get("Data") if isinstance(reply, dict) else None
        files = data.get("Files") if isinstance(data, dict) else data
        if not isinstance(files, list):
            message = reply.get("Message") if isinstance(reply, dict) else "its reply is no list of files"
            raise DataError(f"dataset '{path}': ModelScope says: {message}")
        entries += [entry for entry in files if entry.get("Type") != "tree"]
        if len(files) < PAGE_SIZE:
            return entries
        page += 1


def _endpoint() -> str:
    return os.environ.get("MODELSCOPE_ENDPOINT", ENDPOINT).rstrip("/")


def _server() -> Server:
    token = os.environ.get("MODELSCOPE_API_TOKEN")
    headers = {"Cookie": f"m_session_id={token}"} if token else {}
    permission = "accept the terms on the page of the set, then set MODELSCOPE_API_TOKEN"
    return Server("ModelScope", permission, headers, float(os.environ.get("HARNESS_RETRY_DELAY", "1")))
