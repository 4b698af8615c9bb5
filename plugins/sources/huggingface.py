"""Rows from the Hugging Face hub, through `datasets`. Code that comes with a set is never run.

`HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` mean what they always mean. With `--offline` only the cache is read.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from typing import Any

from harness import DataError, DatasetSpec, Rows, hookimpl
from harness.tasks import (
    HubSplit,
    Server,
    dataset_title,
    hub_split,
    is_hub_id,
    make_rows,
    missing,
    remedy,
    rows_of_table,
)

ATTEMPTS = 3
PERMISSION = "accept the terms on the page of the set, then set HF_TOKEN"
LOADER_KEYS = ("data_dir", "data_files", "field", "sep", "delimiter", "names", "column_names", "encoding")


@hookimpl
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    place = hub_split(spec, "hf", split) if spec.hub == "hf" else None
    if place is None or not is_hub_id(place.path) or "/" not in place.path:
        return None
    try:
        table, revision = _load(spec, place)
    except DataError as error:
        raise DataError(f"{error}; {remedy(spec, split)}") from error
    return make_rows(rows_of_table(table), f"Hugging Face {place.path} at {revision}")


@functools.cache
def _unreachable(path: str) -> str:
    """Why the hub cannot be asked for a set now; empty when it can. Raises DataError when the set is not there.

    `datasets` would find out too, after half a minute of retries for every subset.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = os.environ.get("HF_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    server = Server("the Hugging Face hub", PERMISSION, headers, _delay())
    try:
        server.json(f"{endpoint}/api/datasets/{path}", f"dataset '{path}'")
    except DataError as error:
        if "reached" not in str(error):
            raise
        return str(error)
    return ""


def _load(spec: DatasetSpec, place: HubSplit) -> tuple[Any, str]:
    """The Arrow table of a split, media still encoded, and its revision."""
    title = dataset_title(spec)
    closed = f"{title}: --offline forbids the network" if spec.offline else _unreachable(place.path)
    if closed:
        _go_offline()
    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    kwargs = {name: value for name, value in spec.kwargs.items() if name in LOADER_KEYS}
    cause: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(_delay() * 2 ** (attempt - 1))
        try:
            loaded = datasets.load_dataset(place.path, place.name, split=place.split, revision=place.revision, **kwargs)
            return loaded.data.table, place.revision or "its newest revision"
        except Exception as error:  # `datasets` lets every layer's own errors through
            cause = error
            if closed and not _names_what_is_there(error):
                raise DataError(f"{closed}, and the cache does not hold it") from error
            if not _can_pass(error):
                raise _explained(error, title, place) from error
    raise DataError(f"{title}: the Hugging Face hub could not be reached after {ATTEMPTS} attempts ({_line(cause)})")


def _delay() -> float:
    return float(os.environ.get("HARNESS_RETRY_DELAY", "1"))


def _go_offline() -> None:
    """Forbid the network to libraries that may have been imported already."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    import datasets.config
    import huggingface_hub.constants

    datasets.config.HF_HUB_OFFLINE = True
    huggingface_hub.constants.HF_HUB_OFFLINE = True


def _can_pass(error: BaseException | None) -> bool:
    """Whether another attempt can help: a server in trouble, a connection that broke."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None:
            return bool(status >= 500 or status in (408, 429))
        if type(error).__module__.split(".")[0] in ("httpx", "httpcore", "requests", "urllib3", "aiohttp"):
            return True
        error = error.__cause__ or error.__context__
    return False


def _names_what_is_there(error: Exception) -> bool:
    """Whether the set is at hand, and only the config or the split is wrong."""
    return bool(re.search(r"BuilderConfig|Config name is missing|Unknown split", str(error)))


def _explained(error: Exception, title: str, place: HubSplit) -> DataError:
    """The one line for an error that is final."""
    text, kind = _line(error), type(error).__name__
    names = re.findall(r"'([^']+)'", text.partition("[")[2])
    if "gated" in text.lower() or re.search(r"\b40[13]\b|Unauthorized|Forbidden", text):
        return DataError(f"{title}: needs permission: {PERMISSION}")
    if kind == "DatasetNotFoundError" or "404" in text:
        return DataError(f"{title}: is not on the Hugging Face hub, or is private (then set HF_TOKEN)")
    if "BuilderConfig" in text and place.name:
        return missing("config", place.name, names, title)
    if "Config name is missing" in text:
        return DataError(f"{title}: has several configs, say `dataset_name:` (it has: {', '.join(names)})")
    if "Unknown split" in text:
        return missing("split", place.split, names, title)
    if "script" in text.lower():
        return DataError(f"{title}: is made by a script of its own, and such code is never run")
    return DataError(f"{title}: could not be loaded: {kind}: {text}")


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:300]
