"""Filters that take a program out of a model's reply."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import fenced_blocks, program_in, sanitized_code, strip_reasoning

TAKEN = ("first", "last", "between_last_fences")


class CodeBlock(Filter):
    """The program in a reply: a fenced block, or where there is none the longest part that is Python.

    Reasoning is left out.

    naming: a field of the row with the name that the program must define. Of several blocks the last one that defines
    it counts, or, without a name, the last one that defines anything but tests.
    take: `first` or `last`, where a benchmark's authors take that block, whatever is in it. `between_last_fences`: what
    stands between the last two lines that hold three backticks, and nothing where there are fewer, as LiveCodeBench's
    script has it (lcb_runner/utils/extraction_utils.py, `extract_code`).
    """

    name = "code_block"

    def __init__(self, naming: str | None = None, take: str | None = None) -> None:
        if take not in (None, *TAKEN):
            raise ValueError(f"take is '{take}'; it must be one of {', '.join(TAKEN)}")
        self._naming = naming
        self._take = take

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        name = str(sample.doc[self._naming]) if self._naming else ""
        return [None if reply is None else self._program(strip_reasoning(reply)[0], name) for reply in replies]

    def _program(self, reply: str, name: str) -> str | None:
        if self._take == "between_last_fences":
            return _between_last_fences(reply)
        blocks = fenced_blocks(reply) if self._take else []
        if not blocks:
            return program_in(reply, name)
        block = blocks[0 if self._take == "first" else -1]
        return block if block.strip() else None


def _between_last_fences(reply: str) -> str | None:
    lines = reply.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    program = "\n".join(lines[fences[-2] + 1 : fences[-1]]) if len(fences) > 1 else ""
    return program if program.strip() else None


class UntilClosed(Filter):
    """A completion up to the brace that closes the block in which it began, for languages with braces.

    Braces are counted wherever they stand, as the authors of HumanEval-X do (codegeex/benchmark/utils.py).
    A completion that does not close it ends at its last brace, or stays as it is where it has none.

    suffix: what closes the rest of the prompt: `"\\n}"` for the class around a method; only behind what is closed.
    """

    name = "until_closed"

    def __init__(self, suffix: str = "") -> None:
        self._suffix = suffix

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._cut(reply) for reply in replies]

    def _cut(self, reply: str) -> str:
        depth = 1
        for place, character in enumerate(reply):
            depth += (character == "{") - (character == "}")
            if depth == 0:
                return reply[: place + 1] + self._suffix
        return reply[: reply.rfind("}") + 1] or reply


class SanitizedCode(Filter):
    """What EvalPlus and BigCodeBench run of a reply: its longest part that is Python, and of that the imports and what
    the function that is asked for reaches.

    Reasoning is left out.

    naming: a field of the row with the name of that function. Without it, all definitions are kept.
    """

    name = "sanitized_code"

    def __init__(self, naming: str | None = None) -> None:
        self._naming = naming

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        name = str(sample.doc[self._naming]) if self._naming else ""
        return [None if reply is None else sanitized_code(strip_reasoning(reply)[0], name) for reply in replies]


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [CodeBlock, SanitizedCode, UntilClosed]
