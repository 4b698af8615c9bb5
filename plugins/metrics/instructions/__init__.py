"""Instructions that a program can check: at least 300 words, no commas, exactly three bullet points.

    metric_list:
      - metric: prompt_level_strict_acc     # all instructions of a prompt are followed
      - metric: inst_level_strict_acc       # instructions followed, of all there are
      - metric: prompt_level_loose_acc      # the same for the best of eight versions of the reply: without its first or
      - metric: inst_level_loose_acc        # last line, or both, and each of these without asterisks

A row lists its instructions by name (`instruction_id_list`) and the arguments of each (`kwargs`). The checks of a
benchmark are a mapping from names to functions; another benchmark adds a module with its own, and names it in `CHECKS`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from harness import Metric, MetricOptions, Observation, UsageError, hookimpl

from . import ifbench, ifeval, ifeval_zh

CHECKS: Mapping[str, Mapping[str, ifeval.Check]] = {
    "ifeval": ifeval.CHECKS,
    "ifeval_zh": ifeval_zh.CHECKS,
    "ifbench": {**ifeval.CHECKS, **ifbench.CHECKS},
}
"""Sets of checks by the name that the option `checks` gives them."""


NEEDS = {"ifbench": ("emoji", "syllapy")}
"""The packages that only some checks need; they are in an extra of the set's name."""


class _Followed(Metric):
    """Base of the metrics of this file. An empty reply follows nothing.

    checks: which set of checks. ids, arguments: the columns with the instructions' names and their arguments, a mapping
    each, in which null means that there is none; their names may hold fields of the subset (`turn_{turn}_kwargs`).
    """

    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)
    loose = False

    def __init__(self, checks: str = "ifeval", ids: str = "instruction_id_list", arguments: str = "kwargs") -> None:
        if checks not in CHECKS:
            raise ValueError(f"checks is '{checks}'; it can be one of {', '.join(CHECKS)}")
        self._name = checks
        self._checks = CHECKS[checks]
        self._columns = (ids, arguments)

    def prepare(self, options: MetricOptions) -> None:
        missing = [name for name in NEEDS.get(self._name, ()) if find_spec(name) is None]
        if missing:
            what = f"metric '{self.name}' needs {' and '.join(missing)}"
            raise UsageError(f"{what}: pip install harness-eval[{self._name}]")

    def followed(self, seen: Observation) -> list[list[bool]]:
        """For each reply, which of the row's instructions it follows. Raises `ValueError` for a row that lacks one."""
        fields = seen.sample.subset_fields
        ids, arguments = (_listed(seen.sample.doc, column.format_map(fields)) for column in self._columns)
        if len(ids) != len(arguments):
            raise ValueError(f"the row has {len(ids)} instructions and arguments for {len(arguments)}")
        if unknown := next((name for name in ids if name not in self._checks), None):
            raise ValueError(f"the row's instruction '{unknown}' is none that can be checked")
        pairs: list[tuple[str, dict[str, Any]]] = []
        for name, given in zip(ids, arguments, strict=True):
            own = json.loads(given) if isinstance(given, str) else given
            # Hubs give every row the columns of all others, as null.
            pairs.append((str(name), {key: value for key, value in (own or {}).items() if value is not None}))
        return [[self._follows(reply or "", *pair) for pair in pairs] for reply in seen.predictions]

    def _follows(self, reply: str, name: str, arguments: Mapping[str, Any]) -> bool:
        versions = loosened(reply) if self.loose else [reply]
        try:
            return any(version.strip() and self._checks[name](version, **arguments) for version in versions)
        except TypeError as error:  # the words of Python about missing or unknown keywords, of the row's data
            raise ValueError(f"instruction '{name}': {error}") from error


class _PromptLevel(_Followed):
    def score(self, seen: Observation) -> float | None:
        replies = self.followed(seen)
        return sum(map(all, replies)) / len(replies) if replies else None


class _InstructionLevel(_Followed):
    aggregation = "self"

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        replies = self.followed(seen)
        return (float(sum(map(sum, replies))), float(sum(map(len, replies)))) if replies else None

    def from_means(self, means: tuple[float, ...]) -> float:
        if not means[1]:
            raise ValueError("no row has an instruction")
        return means[0] / means[1]


class PromptStrict(_PromptLevel):
    """1 where a reply follows all instructions of its prompt."""

    name = "prompt_level_strict_acc"


class InstructionStrict(_InstructionLevel):
    """The share of all instructions that are followed. Statistics of a row: followed, all."""

    name = "inst_level_strict_acc"


class PromptLoose(_PromptLevel):
    """1 where each instruction of the prompt is followed by some version of the reply."""

    name = "prompt_level_loose_acc"
    loose = True


class InstructionLoose(_InstructionLevel):
    """The share of all instructions that some version of the reply follows. Statistics of a row: followed, all."""

    name = "inst_level_loose_acc"
    loose = True


def loosened(reply: str) -> list[str]:
    """The versions of a reply of which one has to follow an instruction (`evaluation_lib.py` of IFEval)."""
    lines = reply.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    versions = [reply, *cut]
    return list(dict.fromkeys([*versions, *(version.replace("*", "") for version in versions)]))


def _listed(doc: Mapping[str, Any], column: str) -> Sequence[Any]:
    """A list of the row, which some copies of the data hold as a text of JSON."""
    value = doc[column]
    value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, list | tuple):
        raise ValueError(f"the row's '{column}' is no list")
    return value


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [InstructionLoose, InstructionStrict, PromptLoose, PromptStrict]
