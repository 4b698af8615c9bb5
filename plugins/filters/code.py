"""A filter that takes a program out of a chat model's reply."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import strip_reasoning

# A block may be left open where the reply was cut, and may be indented in a list.
_BLOCK = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


class CodeBlock(Filter):
    """The program in a reply: a fenced block, or all of the reply where there is none; reasoning is left out.

    naming: a field of the row. Of several blocks the first that has its value as a word counts (a block that only says
    how to install something does not), or else the first. take: `last`, where the last of several counts.
    """

    name = "code_block"

    def __init__(self, naming: str | None = None, take: str = "first") -> None:
        if take not in ("first", "last"):
            raise ValueError(f"take is '{take}'; it must be 'first' or 'last'")
        self._naming = naming
        self._last = take == "last"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        name = str(sample.doc[self._naming]) if self._naming else ""
        return [None if reply is None else _program(strip_reasoning(reply)[0], name, self._last) for reply in replies]


def _program(reply: str, name: str, last: bool) -> str | None:
    blocks = _BLOCK.findall(reply)[:: -1 if last else 1]
    word = re.compile(rf"\b{re.escape(name)}\b")
    found = next((block for block in blocks if word.search(block)), blocks[0] if blocks else reply)
    return found if found.strip() else None


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [CodeBlock]
