"""A metric, a model, a folder of tasks and a folder of templates, announced by four hooks."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import Metric, Model, Observation, Request, Response, UsageError, hookimpl

HERE = Path(__file__).parent


class Similarity(Metric):
    """How alike the answer and the nearest gold text are, from 0 to 1: twice the matching characters over all."""

    name = "similarity"
    output_types = frozenset({"generate_until"})

    def __init__(self, ignore_case: bool = False) -> None:
        self.ignore_case = ignore_case

    def score(self, seen: Observation) -> float | None:
        gold = seen.sample.target
        if gold is None:
            return None
        answer = (seen.predictions[0] if seen.predictions else None) or ""
        return max(self._ratio(answer, str(text)) for text in (gold if isinstance(gold, tuple) else (gold,)))

    def _ratio(self, one: str, other: str) -> float:
        if self.ignore_case:
            one, other = one.casefold(), other.casefold()
        return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


class Echo(Model):
    """The baseline that a reading benchmark must beat: it repeats one line of the prompt.

    `line` counts from 0; negative numbers count from the end. Of several choices it prefers the one that shares most
    characters with that line.
    """

    name = "echo"
    supports = frozenset({"generate", "loglikelihood"})

    def __init__(self, line: int = 0) -> None:
        if isinstance(line, bool) or not isinstance(line, int):
            raise UsageError(f"--model_args: line={line!r} is not a whole number")
        self.line = line

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"line": self.line}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            said = self._said(self.render(request.prompt))
            if request.kind == "generate":
                yield index, Response(text=said, finish_reason="stop")
            else:
                yield index, self._preferred(said, request.continuations)

    def _said(self, prompt: str) -> str:
        lines = [line.strip() for line in prompt.splitlines() if line.strip()] or [""]
        return lines[max(-len(lines), min(self.line, len(lines) - 1))]

    def _preferred(self, said: str, continuations: Sequence[str]) -> Response:
        shared = [1 + sum(character in said for character in set(text)) for text in continuations]
        return Response(
            logprobs=tuple(math.log(count / sum(shared)) for count in shared),
            is_greedy=tuple(count == max(shared) for count in shared),
            token_counts=tuple(len(text) for text in continuations),
        )


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [Similarity]


@hookimpl
def harness_models() -> list[type[Model]]:
    return [Echo]


@hookimpl
def harness_tasks() -> list[Path]:
    return [HERE / "tasks"]


@hookimpl
def harness_templates() -> list[Path]:
    return [HERE / "templates"]
