"""A filter that takes a program out of a chat model's reply."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import fenced_blocks, program_in, strip_reasoning


class CodeBlock(Filter):
    """The program in a reply: a fenced block, or where there is none the longest part that is Python.

    Reasoning is left out.

    naming: a field of the row with the name that the program must define. Of several blocks the last one that defines
    it counts, or, without a name, the last one that defines anything but tests.
    take: `first` or `last`, where a benchmark's authors take that block, whatever is in it.
    """

    name = "code_block"

    def __init__(self, naming: str | None = None, take: str | None = None) -> None:
        if take not in (None, "first", "last"):
            raise ValueError(f"take is '{take}'; it must be 'first' or 'last'")
        self._naming = naming
        self._take = take

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        name = str(sample.doc[self._naming]) if self._naming else ""
        return [None if reply is None else self._program(strip_reasoning(reply)[0], name) for reply in replies]

    def _program(self, reply: str, name: str) -> str | None:
        blocks = fenced_blocks(reply) if self._take else []
        if not blocks:
            return program_in(reply, name)
        block = blocks[0 if self._take == "first" else -1]
        return block if block.strip() else None


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [CodeBlock]
