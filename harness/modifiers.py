"""What a modifier plugin is: it asks the questions of any task in another way, and judges the answers row by row.

    harness --tasks cmmlu --modify circular

A modifier says how each row is to be shown, as one or several `View`s. Everything else of the task stays as it is:
prompts, examples, generation, extraction and scores of each view. Where a row is shown several times, `row_scores` say
what all its views are worth together.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness.metrics import Metric, ScoreKey
from harness.types import JSON, View

OPTIONS, QUESTION, PARAPHRASES, IMAGES = "options", "question", "paraphrases", "images"
NEEDS = frozenset({OPTIONS, QUESTION, PARAPHRASES, IMAGES})


@dataclass(frozen=True, slots=True)
class Asked:
    """A row, before it is shown.

    options: the texts of its options; empty where the task does not say where they are.
    wordings: in how many ways the task words a question, its own included. rewordings: other texts for this row's
    question, from its own columns.
    images: hashes of its images, in their order; images that cannot be shown are left out.
    salt: differs from row to row; seed, task, subset and id decide it, and nothing else.
    """

    options: tuple[str, ...] = ()
    wordings: int = 1
    rewordings: tuple[str, ...] = ()
    salt: str = ""
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowScore:
    """A number about a row as a whole. `metric` sees all its views, with their scores under the key `of`."""

    name: str
    of: str
    metric: Metric
    higher_is_better: bool = True


class Modifier(ABC):
    """Base class of all modifiers. `--modify NAME=VALUE` gives the value to the first argument of `__init__`."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    """What a task must say for this modifier: where its `options`, its `question`, its `images` are; `paraphrases`."""
    several: ClassVar[bool] = False
    """Whether a row is shown several times. `row_scores` then take the place of the task's own scores."""
    value: JSON = None
    """What stood behind `NAME=` on the command line."""

    @property
    def label(self) -> str:
        """The modifier as it was asked for; part of the names of modified tasks."""
        return self.name if self.value is None else f"{self.name}={self.value}"

    def keys(self, task: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Keys that take the place of the task file's own, from the keys of the file."""
        return {}

    def views(self, asked: Asked) -> Sequence[View]:
        """How a row is shown. `index` and `count` are filled in by the harness.

        `order` is over `asked.options`, `image_order` over `asked.images`; a row whose options cannot be moved is shown
        once, as it is.
        """
        return (View(),)

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> Sequence[RowScore]:
        """What is reported of the rows, the headline first; the task's own scores stay where a row is shown once.

        keys: the task's scores of each view. labels: the letters of the options; empty where they are not known.
        """
        return ()
