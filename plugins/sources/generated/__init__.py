"""Rows that are made when they are needed: no data to fetch, any length, the same rows from the same seed.

    sources: {generated: ruler}
    dataset_name: niah_single_1        # which of the recipe's tasks; the subset's name where there are subsets
    dataset_kwargs: {length: 4096, rows: 500, seed: 42, tokenizer: DIR}

length: tokens of prompt and answer together. rows: how many. tokenizer: a folder or a hub id whose tokens count;
without one they are estimated, a little high. A row hangs on seed, task, length and its number alone, so that a limit
changes nothing. Any length from the command line: `--set ruler.dataset_kwargs.length=100000`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness import DataError, DatasetSpec, Rows, hookimpl

from . import mrcr, ruler, ruler_qa

RECIPES: Mapping[str, Callable[..., Callable[[int], dict[str, Any]]]] = {
    "mrcr": mrcr.recipe,
    "ruler": ruler.recipe,
    "ruler_qa": ruler_qa.recipe,
}
KEYS = ("length", "rows", "seed", "tokenizer")


class MadeRows(Sequence[Mapping[str, Any]]):
    """Rows that are made at the first look at them, and kept."""

    def __init__(self, makers: Sequence[Callable[[], dict[str, Any]]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    def __getitem__(self, index: Any) -> Any:
        made = self._makers[index]
        return MadeRows(made) if isinstance(index, slice) else made()


@hookimpl
def harness_open_dataset(spec: DatasetSpec, split: str) -> Rows | None:
    name = spec.sources.get("generated")
    if name is None:
        return None
    if name not in RECIPES:
        raise DataError(f"sources: generated: there is no recipe '{name}' (there are: {', '.join(RECIPES)})")
    options = dict(spec.kwargs)
    length, rows, seed, tokenizer = (options.pop(key, None) for key in KEYS)
    for key, value in (("length", length), ("rows", rows)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise DataError(f"dataset_kwargs: {key} is {value!r}; it must be a number of at least 1")
    count = token_counter(str(tokenizer), spec.offline) if tokenizer else estimated_tokens
    try:
        make = RECIPES[name](spec.name or "", int(length), str(seed), count, **options)
    except TypeError as error:  # Python's words for a key that the recipe does not have
        raise DataError(f"dataset_kwargs: {error}") from None
    # What decides the rows stands for them, so that not all of them have to be made to be told from others.
    decided = json.dumps([name, spec.name, length, rows, seed, tokenizer, options], sort_keys=True)
    digest = hashlib.sha256(decided.encode()).hexdigest()
    makers = [functools.cache(functools.partial(make, index)) for index in range(int(rows))]
    return Rows(MadeRows(makers), digest, f"made at run time by '{name}' ({length} tokens, seed {seed})", made=True)


def estimated_tokens(text: str) -> int:
    """About as many tokens as most tokenizers make of a text, rather a few more: at most 6 letters or 3 digits each."""
    return sum(1 for _ in re.finditer(r"[^\W\d_]{1,6}|\d{1,3}|[^\w\s]|_", text))


@functools.cache
def token_counter(name: str, offline: bool) -> Callable[[str], int]:
    """Counts tokens by a tokenizer of transformers. Raises `DataError` where there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=offline)
    except (OSError, ValueError) as error:
        raise DataError(
            f"dataset_kwargs: tokenizer '{name}' cannot be loaded: {' '.join(str(error).split())}"
        ) from None
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
