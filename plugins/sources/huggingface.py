"""Rows from the Hugging Face hub, through `datasets`. Code that comes with a set is never run.

`HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` mean what they always mean. With `--offline`, and where the hub cannot be
reached, only the cache is read. Images and audio stay the bytes that they are.
"""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from harness import (
    DataError,
    DatasetSpec,
    RetriesExhausted,
    Retryable,
    RetryPolicy,
    Rows,
    asked_pause,
    hookimpl,
    is_throttling,
    may_pass,
)
from harness.data import (
    BUILDERS,
    FileOptions,
    HubSplit,
    Unreachable,
    data_files,
    dataset_title,
    hub_split,
    is_hub_id,
    make_rows,
    match_files,
    missing,
    read_all,
    remedy,
    rows_of_table,
)

CONVERTED = "refs/convert/parquet"
"""The branch where the hub keeps a Parquet copy of sets that a script makes."""
PERMISSION = "accept the terms on the page of the set, then set HF_TOKEN"
# What says how `datasets` loads, and not what. The harness decides these.
IGNORED = ("trust_remote_code", "streaming", "num_proc", "cache_dir", "download_mode", "keep_in_memory", "save_infos")
# `datasets` keeps its settings and its cache's state in module globals, so one thread loads at a time.
_LOADING = threading.RLock()


@hookimpl
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    if spec.path in BUILDERS:
        remote = [name for name in data_files(spec, split) if "://" in name.removeprefix("zip://")]
        place = HubSplit(spec.path, spec.name, None, split) if remote else None
    else:
        place = hub_split(spec, "hf", split) if spec.hub == "hf" else None
    if place is None or not is_hub_id(place.path):
        return None
    try:
        with _LOADING:
            return _open(spec, place)
    except DataError as error:
        raise DataError(f"{error}; {remedy(spec, split)}") from error
    except Exception as error:  # every layer below lets its own errors through
        raise DataError(
            f"{dataset_title(spec)}: could not be loaded: {type(error).__name__}: {_line(error)}"
        ) from error


def _open(spec: DatasetSpec, place: HubSplit) -> Rows:
    title = dataset_title(spec)
    if place.path in BUILDERS:
        with _settings(offline=spec.offline):
            return _loaded(spec, place, "", title)
    if spec.offline:
        commit, closed = place.revision or "", f"{title}: --offline forbids the network"
    else:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        # What the hub said is believed for five minutes.
        commit, closed = _commit(endpoint, place.path, place.revision, int(time.monotonic() // 300))
    with _settings(offline=bool(closed)):
        try:
            if place.patterns:
                return _files(place, place.revision, place.patterns, place.options, title)
            return _loaded(spec, place, commit, title)
        except Unreachable as error:
            raise DataError(f"{closed}, and the cache does not hold it" if closed else str(error)) from error


@functools.lru_cache(maxsize=1024)
def _commit(endpoint: str, path: str, revision: str | None, _: int) -> tuple[str, str]:
    """The commit that a revision is now, and why the hub cannot be asked (empty when it can).

    All subsets of a set are read at one commit, so that a run does not mix two; and a hub that is away is waited for
    once. Raises DataError when the set is not there.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint)
    try:
        return _attempt(f"dataset '{path}'", lambda: api.dataset_info(path, revision=revision, timeout=20).sha), ""
    except Unreachable as error:
        return revision or "", str(error)


def _loaded(spec: DatasetSpec, place: HubSplit, commit: str, title: str) -> Rows:
    """A split by `datasets.load_dataset`, without a copy in memory of what is large."""
    import datasets

    kwargs = {key: value for key, value in spec.kwargs.items() if key not in IGNORED}

    def load() -> Any:
        return datasets.load_dataset(place.path, place.name, split=place.split, revision=commit or None, **kwargs)

    try:
        loaded = _attempt(title, load)
    except (_Script, Unreachable) as error:
        return _instead(place, error, title)
    except DataError:
        raise
    except Exception as error:
        _refuse(error, title, place)
    held = _commit_of_cache(loaded)
    if re.fullmatch(r"[0-9a-f]{40}", commit) and held and held != commit:
        # Where the hub cannot be asked, `datasets` takes whatever revision its cache holds.
        raise DataError(f"{title}: the cache holds revision {held[:12]}, and {commit[:12]} is asked for")
    origin = f"Hugging Face {place.path} at {held or commit or 'cache'}"
    return make_rows(rows_of_table(_with_bytes(loaded)), origin, loaded.features.to_dict())


def _instead(place: HubSplit, error: Exception, title: str) -> Rows:
    """The hub's Parquet copy of a set that a script makes. Offline, the copy is all that the cache can have of it."""
    from huggingface_hub import constants

    if isinstance(error, Unreachable) and (place.revision or not constants.HF_HUB_OFFLINE):
        raise error
    reason = f"{title}: is made by a script of its own, and such code is never run"
    if place.revision:
        raise DataError(f"{reason}; without `revision` the hub's Parquet copy would be read") from error
    try:
        return _converted(place, title)
    except _NoRevision as absent:
        raise DataError(f"{reason}; name the files that hold its rows by `sources: {{hf: {{files: ...}}}}`") from absent


def _commit_of_cache(loaded: Any) -> str:
    """The commit that a loaded set was made from, which `datasets` keeps as the name of a cache folder."""
    for file in loaded.cache_files:
        commits = [part for part in Path(file["filename"]).parts if re.fullmatch(r"[0-9a-f]{40}", part)]
        if commits:
            return commits[-1]
    return ""


def _with_bytes(loaded: Any) -> Any:
    """The Arrow table with its media as bytes, where it only holds the paths of files in the cache."""
    table = loaded.data.table
    media = [name for name, feature in loaded.features.items() if type(feature).__name__ in ("Image", "Audio", "Video")]
    first = table.slice(0, 1).to_pylist()
    if any(isinstance(row[name], dict) and row[name].get("bytes") is None for row in first for name in media):
        from datasets.table import embed_table_storage

        return embed_table_storage(table)
    return table


def _converted(place: HubSplit, title: str) -> Rows:
    """The hub's own Parquet copy of a set that a script makes, `<config>/<split>/0000.parquet`."""
    listed = [Path(name).parts for name in _listing(place.path, CONVERTED, title) if name.endswith(".parquet")]
    configs = {parts[0] for parts in listed}
    config = place.name or ("default" if "default" in configs else min(configs, default="default"))
    if config not in configs or (place.name is None and len(configs) > 1 and config != "default"):
        raise missing("config", place.name or "default", configs, title)
    splits = {parts[1] for parts in listed if parts[0] == config}
    if place.split not in splits:
        raise missing("split", place.split, splits, f"{title}, config '{config}'")
    return _files(place, CONVERTED, (f"{config}/{place.split}/*.parquet",), FileOptions(), title)


def _files(place: HubSplit, revision: str | None, patterns: tuple[str, ...], options: FileOptions, title: str) -> Rows:
    """Rows of files of the repository, which the task names itself."""
    # The archive of `zip://FILE::ARCHIVE` is what is fetched.
    wanted = [pattern.rpartition("::")[2] if pattern.startswith("zip://") else pattern for pattern in patterns]
    folder = _snapshot(place.path, revision, wanted, title)
    files = [file for pattern in patterns for file in match_files(folder, pattern)]
    if not files:
        raise DataError(f"{title}: there is no file {', '.join(patterns)} in the repository or its cached copy")
    return make_rows(read_all(files, options), f"Hugging Face {place.path} at {folder.name}, {patterns[0]}")


def _snapshot(path: str, revision: str | None, wanted: list[str] | None, title: str) -> Path:
    """The folder of the cache that holds the wanted files of a revision. It is named by the commit."""
    from huggingface_hub import snapshot_download

    def fetch() -> str:
        return str(snapshot_download(path, repo_type="dataset", revision=revision, allow_patterns=wanted))

    return Path(_attempt(title, fetch))


def _listing(path: str, revision: str, title: str) -> list[str]:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        folder = _snapshot(path, revision, None, title)
        return [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    files = _attempt(title, lambda: HfApi().list_repo_files(path, repo_type="dataset", revision=revision))
    return [str(name) for name in files]


class _Script(DataError):
    """The set is made by a script."""


class _NoRevision(DataError):
    """The hub has the set, and not this revision of it."""


def _attempt(title: str, ask: Callable[[], Any]) -> Any:
    """Ask the hub, again where that can help. Raises DataError; Unreachable when no attempt got through."""
    from huggingface_hub import constants

    def asked() -> Any:
        try:
            return ask()
        except Exception as error:  # every layer below lets its own errors through
            failure = _failure(error, title)
            if failure is error:
                raise
            raise failure from error

    policy = RetryPolicy.for_data()
    if constants.HF_HUB_OFFLINE:  # what is not in the cache now is not there a second later
        policy = replace(policy, retries=0)
    try:
        return policy.call(asked)
    except RetriesExhausted as error:
        raise Unreachable(f"{title}: the Hugging Face hub cannot be reached ({_line(error)})") from error


def _failure(error: Exception, title: str) -> Exception:
    """What an error of the hub's libraries is: `Retryable`, Unreachable, the DataError of an answer that is final, or
    itself where it has nothing to do with the hub."""
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    chain = list(_chain(error))
    reply = next((reply for link in chain if _status(reply := getattr(link, "response", None))), None)
    status = _status(reply)

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    # `datasets` has no type for scripts, and drops the cause of a `DatasetNotFoundError`: words are all there is.
    if any(isinstance(link, RuntimeError) and "scripts are no longer supported" in str(link) for link in chain):
        return _Script(f"{title}: is made by a script of its own, and such code is never run")
    not_found = str(error) if isinstance(error, DatasetNotFoundError) else ""
    if caused_by(GatedRepoError) or status == 403 or "is a gated dataset" in not_found:
        return DataError(f"{title}: needs permission: {PERMISSION}")
    if caused_by(RevisionNotFoundError) or re.search(r"Revision '.*' doesn't exist", not_found):
        return _NoRevision(f"{title}: the Hugging Face hub has no such revision")
    unreachable = Unreachable(f"{title}: the Hugging Face hub cannot be reached ({_line(error)})")
    if not status and caused_by(OfflineModeIsEnabled, LocalEntryNotFoundError):
        return unreachable
    if status in (401, 404) or caused_by(DatasetNotFoundError):
        return DataError(
            f"{title}: is not on the Hugging Face hub ({status or 404}), or is private (then set HF_TOKEN)"
        )
    if status and may_pass(status):
        pause = asked_pause(reply.headers, "") if reply is not None else None
        return Retryable(_line(error), pause=pause, throttled=is_throttling(status, pause))
    if status:
        return unreachable
    # The HTTP library below the hub's, and so the types of its errors, differs from version to version.
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if {"ConnectError", "ConnectTimeout"} & names:  # nobody answers, and will not a second later
        return unreachable
    torn = isinstance(error, OSError) and "Consistency check failed" in str(error)  # a plain OSError of the hub's
    if torn or {"TransportError", "ConnectionError", "TimeoutError", "IncompleteRead"} & names:
        return Retryable(_line(error))
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(reply: Any) -> int:
    """The HTTP status of a reply, 0 where there is none."""
    code = getattr(reply, "status_code", 0)
    return code if isinstance(code, int) else 0


def _refuse(error: Exception, title: str, place: HubSplit) -> NoReturn:
    """Raise the one line for an error that `datasets` has with what was asked for."""
    text = _line(error)
    names = re.findall(r"'([^']+)'", text.partition("[")[2])
    if place.name and re.search(r"BuilderConfig '.*' not found|Couldn't find cache for .* for config", text):
        raise missing("config", place.name, names, title) from error
    if "Config name is missing" in text:
        raise DataError(f"{title}: has several configs, say `dataset_name:` (it has: {', '.join(names)})") from error
    if "Unknown split" in text or "Bad split" in text:
        raise missing("split", place.split, names, title) from error
    # `datasets` wraps what happened in an error of its own that says nothing.
    cause = error.__cause__ or error if type(error).__name__ == "DatasetGenerationError" else error
    raise DataError(f"{title}: could not be loaded: {type(cause).__name__}: {_line(cause)}") from error


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:300]


@contextmanager
def _settings(offline: bool) -> Iterator[None]:
    """Quiet loading, and no network where it is forbidden: the libraries may have read their settings long ago."""
    import datasets.config
    import huggingface_hub.constants as hub
    from datasets.utils import logging
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    bars, verbosity, was = datasets.are_progress_bars_disabled(), logging.get_verbosity(), hub.HF_HUB_OFFLINE
    theirs = datasets.config.HF_HUB_OFFLINE
    hub_bars = are_progress_bars_disabled()
    datasets.disable_progress_bars()
    disable_progress_bars()
    logging.set_verbosity_error()
    hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = offline or was, offline or theirs
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = was, theirs
        logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()
        if not hub_bars:
            enable_progress_bars()
