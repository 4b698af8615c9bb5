"""How a run renders the rows of a subset, and what is worth knowing of them beside their samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import Any

from harness.quick import dataclass
from harness.types import JSON, BadRows, SampleKey


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a run renders rows. limit: rows a subset, or a fraction of them below 1. shown: whether a model looks at the
    prompts; where none does, rows may come without their columns of images. bad_rows: what becomes of rows that cannot
    be asked or scored: their sample fails, they are left out, or they are scored as lm-eval scores them. code_options:
    what `custom_dataset` gets beside the task's metadata: the model's arguments, as in lm-eval. after: only rows that
    are dated later than this are asked. is_done: whether a sample is passed over, as it needs no look."""

    seed: int = 1234
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    gen_kwargs: Mapping[str, JSON] = field(default_factory=dict)
    limit: int | float | None = None
    hub: Any = "hf"
    mirrors: tuple[str, ...] = ()
    offline: bool = False
    unconditional: bool = False
    shown: bool = True
    after: str | None = None
    bad_rows: BadRows = "refuse"
    code_options: Mapping[str, JSON] = field(default_factory=dict)
    is_done: Callable[[SampleKey], bool] | None = None


@dataclass(slots=True)
class SubsetNotes:
    """What is worth knowing of a subset beside its samples.

    rows: how many it has, whatever the limit; asked: how many of them, from the first. chosen: the numbers of those
    that are asked, where they are not the first; drawn_from: of those that they were drawn from. own_examples: numbers
    of those that were drawn as their own few-shot example, which was left out. fewer_examples: how many of them see
    fewer examples for it. undated: how many rows say no date, and latest: the latest date of the others, where dates
    decide what is asked. bad: number of a row that cannot be used as it is, and is not refused -> why.
    """

    rows: int = 0
    asked: int = 0
    own_examples: list[int] = field(default_factory=list)
    fewer_examples: int = 0
    bad: dict[int, str] = field(default_factory=dict)
    chosen: Collection[int] | None = None
    drawn_from: Collection[int] | None = None
    undated: int = 0
    latest: str | None = None
