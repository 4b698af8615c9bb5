"""Rows from plain files on the web: those of a GitHub repository, or any address.

    sources: {github: {repo: owner/name, revision: COMMIT, files: {test: data/test.jsonl}}}
    sources: {url: {files: {test: https://example.org/test.jsonl}}}

Files are kept below `$XDG_CACHE_HOME/harness`. `HARNESS_GITHUB_RAW` names a mirror of the file server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from harness import DataError, DatasetSpec, Rows, hookimpl
from harness.tasks import DataFile, FileSource, Server, cache_folder, file_source, make_rows, read_all, remedy

GITHUB_RAW = "https://raw.githubusercontent.com"


@hookimpl(trylast=True)
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    source = file_source(spec, split)
    if source is None:
        return None
    try:
        files = [*_bring(source, spec.offline)]
        return make_rows(read_all(files, source.options), f"{source.repository or 'web'} {source.patterns[0]}")
    except DataError as error:
        raise DataError(f"{error}; {remedy(spec, split)}") from error


def _bring(source: FileSource, offline: bool) -> Iterator[DataFile]:
    for pattern in source.patterns:
        if source.repository:
            if re.search(r"[*?\[]", pattern):
                raise DataError(f"{source.repository}: {pattern}: a pattern can only be read from a mirror folder")
            base = os.environ.get("HARNESS_GITHUB_RAW", GITHUB_RAW).rstrip("/")
            url = f"{base}/{source.repository}/{source.revision}/{pattern}"
            owner, name = source.repository.split("/")
            to = cache_folder("github", owner, name, source.revision, *pattern.split("/"))
            title = f"{source.repository}, {pattern}"
        else:
            url, title = pattern, pattern
            to = cache_folder("url", *re.sub(r"^\w+://", "", pattern).split("/"))
        if offline and not to.is_file():
            raise DataError(f"{title}: is not in the cache, and --offline forbids the network")
        yield DataFile(_server().fetch(url, to, title))


def _server() -> Server:
    delay = float(os.environ.get("HARNESS_RETRY_DELAY", "1"))
    return Server("the server", "the file is not public; give it by --data DIR", delay=delay)
