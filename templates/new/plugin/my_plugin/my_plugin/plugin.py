"""A metric, a model and a folder of tasks. Delete what is not needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import Metric, Model, Observation, Request, Response, hookimpl


class MyMetric(Metric):
    """Whether the answer begins as the gold text does. 1 or 0, None where the gold text is not known."""

    name = "my_plugin_begins"
    output_types = frozenset({"generate_until"})

    def __init__(self, characters: int = 3) -> None:
        self.characters = characters

    def score(self, seen: Observation) -> float | None:
        if seen.sample.target is None:
            return None
        answer = seen.predictions[0] or ""
        return float(answer[: self.characters] == str(seen.sample.target)[: self.characters])


class MyModel(Model):
    """Answers every question with the same text."""

    name = "my_plugin_model"
    supports = frozenset({"generate"})

    def __init__(self, says: str = "yes") -> None:
        self.says = says

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"says": self.says}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, _ in enumerate(requests):
            yield index, Response(text=self.says, finish_reason="stop")


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [MyMetric]


@hookimpl
def harness_models() -> list[type[Model]]:
    return [MyModel]


@hookimpl
def harness_tasks() -> list[Path]:
    return [Path(__file__).parent / "tasks"]
