"""What a modifier plugin is: it asks the questions of any task in another way, and judges the answers row by row.

    harness --tasks cmmlu --modify circular

A modifier says how each row is to be shown, as one or several `View`s. Everything else of the task stays as it is:
prompts, examples, generation, extraction and scores of each view. Where a row is shown several times, `row_scores` say
what all its views are worth together.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import ClassVar

from harness.metrics import Metric, ScoreKey
from harness.quick import dataclass
from harness.types import JSON, View

OPTIONS, QUESTION, PARAPHRASES, IMAGES, RENEWAL = "options", "question", "paraphrases", "images", "renewal"
NEEDS = frozenset({OPTIONS, QUESTION, PARAPHRASES, IMAGES, RENEWAL})


@dataclass(frozen=True, slots=True)
class Asked:
    """A row, before it is shown.

    options: the texts of its options; empty where the task does not say where they are.
    wordings: in how many ways the task words a question, its own included. rewordings: other texts for this row's
    question, from its own columns.
    question: the text of its question; empty where the task does not say which it is.
    kept_options: why its options may not be changed one by one; empty where they may.
    images: hashes of its images, in their order; images that cannot be shown are left out.
    salt: differs from row to row; seed, task, subset and id decide it, and nothing else.
    """

    options: tuple[str, ...] = ()
    wordings: int = 1
    rewordings: tuple[str, ...] = ()
    salt: str = ""
    images: tuple[str, ...] = ()
    question: str = ""
    kept_options: str = ""


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
    """What a task must say for this modifier: where its `options`, its `question`, its `images` are; `paraphrases`;
    `renewal`, how its numbers are drawn anew."""
    several: bool = False
    """Whether a row is shown several times. `row_scores` then take the place of the task's own scores."""
    value: JSON = None
    """What stood behind `NAME=` on the command line."""

    @property
    def label(self) -> str:
        """The modifier as it was asked for; part of the names of modified tasks."""
        return self.name if self.value is None else f"{self.name}={self.value}"

    @property
    def identity(self) -> Mapping[str, JSON]:
        """What decides its views beside its name and its value (the content of a file); kept in the run's manifest."""
        return {}

    def keys(self, task: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Keys that take the place of the task file's own, from the keys of the file."""
        return {}

    def views(self, asked: Asked) -> Sequence[View]:
        """How a row is shown. `index` and `count` are filled in by the harness.

        `order` is over `asked.options`, `image_order` over `asked.images`, `options` has a text for each of
        `asked.options`; a row whose options cannot be moved is shown once, as it is, and so is one for which no other
        numbers can be drawn (`renewal`).
        """
        return (View(),)

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> Sequence[RowScore]:
        """What is reported of the rows, the headline first; the task's own scores stay where a row is shown once.

        keys: the task's scores of each view. labels: the letters of the options; empty where they are not known.
        """
        return ()
