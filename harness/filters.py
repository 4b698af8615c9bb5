"""What a filter plugin is: one step from raw replies to answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from harness.types import Sample


class Filter(ABC):
    """Base class of all filters. Options of the `filter` entry arrive as keywords of `__init__`."""

    name: ClassVar[str]
    joins: ClassVar[bool] = False
    """Whether it makes one answer of a sample's replies; metrics of all replies (pass@k) leave it out."""

    @abstractmethod
    def apply(self, replies: Sequence[str | None], sample: Sample) -> Sequence[str | None]:
        """Transform a sample's replies, one a repeat. None stands for an answer that could not be read."""
