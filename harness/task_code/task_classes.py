"""lm-eval's tasks that are Python classes (`class: !function MODULE.CLASS`), as functions for each of their methods.

Runs in the process of task code alone. `described` says what a class brings, as keys of a task file, in which a
method is `!function MODULE.CLASS:METHOD`; `method` finds it again.
"""

from __future__ import annotations

import contextlib
import inspect
import statistics
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_SPLITS = (("test_split", "test_docs"), ("validation_split", "validation_docs"), ("training_split", "training_docs"))
_TEMPLATES = ("doc_to_text", "doc_to_target", "doc_to_choice")


class Settings(dict[str, Any]):
    """What a class finds as `self.config`: keys as attributes, with the defaults of lm_eval/config/task.py."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        stop = given.get("fewshot_delimiter", "\n\n")
        generation = {"temperature": 0.0, "do_sample": False, "max_gen_toks": 256, "until": [stop]}
        defaults = {
            "output_type": "generate_until", "description": "", "target_delimiter": " ", "fewshot_delimiter": "\n\n",
            "repeats": 1, "generation_kwargs": generation, "should_decontaminate": False, "unsafe_code": False,
        }  # fmt: skip
        super().__init__({**defaults, **given})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class _Splits(dict[str, list[Any]]):
    """Rows that are not there yet: notes which split is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __missing__(self, split: str) -> list[Any]:
        self.asked.append(split)
        return []


def made(kind: Any, given: Mapping[str, Any]) -> Any:
    """An instance, as lm-eval makes it (lm_eval/tasks/_factory.py)."""
    parameters = inspect.signature(kind.__init__).parameters
    takes = "config" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    instance = kind(config=dict(given)) if takes else kind()
    if not isinstance(getattr(instance, "config", None), Settings):
        instance.config = Settings(given)
    for name, value in given.items():
        instance.config.setdefault(name, value)
    return instance


def described(instance: Any, base: type, means: tuple[Any, ...]) -> dict[str, Any]:
    """What a class brings: `keys` of a task file, the `methods` that are its own, and its metrics."""
    keys: dict[str, Any] = {}
    for key, name in (("dataset_path", "DATASET_PATH"), ("dataset_name", "DATASET_NAME"), ("version", "VERSION")):
        if getattr(instance, name, None) is not None:
            keys[key] = getattr(instance, name)
    keys.update(_splits(instance))
    own = [name for name in (*_TEMPLATES, "construct_requests", "process_results") if _is_own(instance, base, name)]
    metrics = []
    if _is_own(instance, base, "aggregation"):
        better = instance.higher_is_better() if _is_own(instance, base, "higher_is_better") else {}
        for name, how in instance.aggregation().items():
            is_mean = how in (statistics.mean, *means) or getattr(how, "__name__", "") == "mean"
            metrics.append({"metric": name, "is_mean": is_mean, "higher_is_better": bool(better.get(name, True))})
    return {"keys": keys, "methods": own, "metrics": metrics}


def _is_own(instance: Any, base: type, name: str) -> bool:
    return getattr(type(instance), name, None) is not getattr(base, name, None)


def _splits(instance: Any) -> Iterator[tuple[str, str]]:
    """The names of the splits that a class reads, by the keys of a task file."""
    before = getattr(instance, "dataset", None)
    for key, method in _SPLITS:
        if not getattr(instance, f"has_{method}", lambda: False)():
            continue
        instance.dataset = probe = _Splits()
        with contextlib.suppress(Exception):  # it finds no rows; which split it wanted is known by then
            list(getattr(instance, method)() or ())
        if probe.asked:
            yield key, probe.asked[0]
    instance.dataset = before


def method(instance: Any, name: str) -> Callable[..., Any]:
    """A method by the name that `described` gave it: `docs`, `aggregation:METRIC`, or its own."""
    name, _, metric = name.partition(":")
    if name == "docs":
        return lambda dataset: _docs(instance, dataset)
    if name == "aggregation":
        found: Callable[..., Any] = instance.aggregation()[metric]
        return found
    if name == "construct_requests":
        return lambda doc, ctx: _requests(instance, doc, ctx)
    own: Callable[..., Any] = getattr(instance, name)
    return own


def _docs(instance: Any, dataset: Any) -> Any:
    """The rows of a split as the class gives them."""
    instance.dataset = {str(dataset.split): dataset}
    for _, name in _SPLITS:
        with contextlib.suppress(KeyError):
            if getattr(instance, f"has_{name}", lambda: False)() and (rows := getattr(instance, name)()) is not None:
                return rows
    return dataset


def _requests(instance: Any, doc: Any, ctx: str) -> list[list[Any]]:
    """[kind, arguments] of each request of a row, in the order of its results."""
    named = inspect.signature(instance.construct_requests).parameters
    chat = {"apply_chat_template": False, "chat_template": None}
    told = {name: value for name, value in chat.items() if name in named}
    built = instance.construct_requests(doc, ctx, metadata=(None, None, 1), **told)
    several = built if isinstance(built, list | tuple) else [built]
    return [[each.request_type, list(each.args)] for each in several]
