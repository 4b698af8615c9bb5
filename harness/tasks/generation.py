"""How answers are generated: what a task says, under what the run asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import UsageError
from harness.tasks.schema import TaskConfig
from harness.tasks.schema_entries import GenerationKwargs
from harness.tasks.schema_problems import in_our_words
from harness.types import JSON, GenerationParams

_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SAMPLING = ("temperature", "top_p", "top_k")


def task_generation(config: TaskConfig, asked: Mapping[str, JSON]) -> GenerationParams:
    """The task's `generation_kwargs` under those of the run. Stops at the few-shot delimiter where none is named.

    The names of the token limit, and when an answer is sampled, are lm-eval's (models/utils.py, normalize_gen_kwargs).
    """
    own = config.generation_kwargs
    given = own.model_dump(exclude_none=True) if own else {}
    return generation_params(given, asked, (config.fewshot_delimiter,))


def generation_params(own: Mapping[str, JSON], asked: Mapping[str, JSON], until: Sequence[str]) -> GenerationParams:
    """What a file says under what the run asks for; `until` where neither names a stop. Raises `UsageError`."""
    given = dict(own)
    try:
        asked = GenerationKwargs.model_validate(dict(asked)).model_dump(exclude_none=True)
    except ValueError as error:
        errors: list[dict[str, Any]] = getattr(error, "errors", list)()
        where = "".join(f"{step}: " for step in errors[0]["loc"][:1]) if errors else ""
        what = where + in_our_words(errors[0]["msg"], "should be ") if errors else str(error)
        raise UsageError(f"--gen_kwargs: {' '.join(what.split())}") from error
    if any(name in asked for name in _MAX_TOKENS):  # the run's limit wins, by whichever of its names
        given = {name: value for name, value in given.items() if name not in _MAX_TOKENS}
    given |= asked
    until = given.pop("until", until)
    limits = [given.pop(name) for name in _MAX_TOKENS if name in given]
    temperature = given.get("temperature")
    do_sample = given.pop("do_sample", None)
    samples = bool(temperature) if do_sample is None else do_sample and temperature != 0
    sampling = {name: value for name in _SAMPLING if (value := given.pop(name, None)) is not None and samples}
    return GenerationParams(
        until=(until,) if isinstance(until, str) else tuple(until),
        max_new_tokens=limits[0] if limits else None,
        do_sample=bool(samples),
        extra=tuple(sorted(given.items())),
        **sampling,
    )


def with_one_name(asked: Mapping[str, JSON]) -> dict[str, JSON]:
    """Generation parameters with the token limit under the first of its names: they all mean one thing."""
    limits = [asked[name] for name in _MAX_TOKENS if asked.get(name) is not None]
    others = {name: value for name, value in asked.items() if name not in _MAX_TOKENS}
    return {**others, **({_MAX_TOKENS[0]: limits[0]} if limits else {})}
