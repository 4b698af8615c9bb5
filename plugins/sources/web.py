"""Rows from plain files on the web: those of a GitHub repository, or any address.

    sources: {github: {repo: owner/name, revision: COMMIT, files: {test: data/test.jsonl}}}
    sources: {url: {files: {test: https://example.org/test.jsonl}}}

Files are kept below `$XDG_CACHE_HOME/harness`; the server is asked each time whether it has a newer one, unless
`revision` is a commit. `HARNESS_GITHUB_RAW` names a mirror of GitHub's file server.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from harness import DataError, DatasetSpec, Rows, hookimpl
from harness.data import (
    DataFile,
    FileSource,
    Server,
    Unreachable,
    cache_folder,
    file_source,
    make_rows,
    match_files,
    read_all,
    remedy,
)

GITHUB_RAW = "https://raw.githubusercontent.com"


@hookimpl(trylast=True)
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    source = file_source(spec, split)
    if source is None:
        return None
    try:
        files = [file for pattern in source.patterns for file in _files(source, pattern, spec.offline)]
        return make_rows(read_all(files, source.options), f"{source.repository or 'web'} {source.patterns[0]}")
    except DataError as error:
        raise DataError(f"{error}; {remedy(spec, split)}") from error


def _files(source: FileSource, pattern: str, offline: bool) -> list[DataFile]:
    """The file that a pattern names, or those of `zip://FILE::ARCHIVE`."""
    inner, _, outer = pattern.rpartition("::") if pattern.startswith("zip://") else ("", "", pattern)
    path = _bring(source, outer, offline)
    if not inner:
        return [DataFile(path)]
    files = match_files(path.parent, f"{inner}::{path.name}")
    if not files:
        raise DataError(f"{pattern}: there is no such file in the archive")
    return files


def _bring(source: FileSource, name: str, offline: bool) -> Path:
    if source.repository:
        if re.search(r"[*?\[]", name):
            raise DataError(f"{source.repository}: {name}: a pattern can only be read from a mirror folder")
        base = os.environ.get("HARNESS_GITHUB_RAW", GITHUB_RAW).rstrip("/")
        url = f"{base}/{source.repository}/{quote(source.revision)}/{quote(name)}"
        to = cache_folder("github", *source.repository.split("/"), source.revision, *name.split("/"))
        title = f"{source.repository}, {name}"
    else:
        url, title = name, name
        to = cache_folder("url", *re.sub(r"^\w+://", "", name).split("/"))
    is_commit = re.fullmatch(r"[0-9a-f]{40}", source.revision) is not None
    if to.is_file() and (offline or (is_commit and source.repository)):
        return to
    if offline:
        raise DataError(f"{title}: --offline forbids the network, and the cache does not hold it")
    try:
        return Server("the server", "the file is not public; give it by --data DIR").fetch(url, to, title)
    except Unreachable:
        if to.is_file():
            return to
        raise
