"""Logic grid puzzles: how much of a table that the reply gives as JSON is right (ZebraLogic, Lin et al. 2025,
arXiv 2502.01100), by the rules of WildEval/ZeroEval, src/evaluation/zebra_grid_eval.py.

    metric_list:
      - {metric: puzzle_acc, solution: solution}
      - {metric: cell_acc, solution: solution}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness import Metric, Observation, hookimpl


class _Grid(Metric):
    """Base of the metrics of this file.

    solution: the column with the right table, {header: [House, ...], rows: [[...], ...]}. The reply is read as its last
    complete JSON object, {"solution": {"House 1": {...}}}; cells are compared without case and outer blanks.
    """

    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, solution: str = "solution") -> None:
        self._column = solution

    def cells(self, seen: Observation) -> tuple[list[int], int] | None:
        """How many cells of each reply are right, and how many there are; None where the solution is hidden."""
        table = seen.sample.doc[self._column]
        if not table or not table["rows"] or not seen.predictions:
            return None
        header, rows = table["header"][1:], [row[1:] for row in table["rows"]]
        wanted: dict[tuple[str, str], str] = {}
        for number, row in enumerate(rows, 1):
            wanted.update({(f"House {number}", name): str(cell) for name, cell in zip(header, row, strict=True)})
        if any("___" in cell for cell in wanted.values()):  # the public copy of the rows has blanks for its solutions
            return None
        return [self._right(reply or "", wanted) for reply in seen.predictions], len(wanted)

    def _right(self, reply: str, wanted: Mapping[tuple[str, str], str]) -> int:
        solution = last_json_object(reply)
        table = solution.get("solution") if solution else None
        right = 0
        for (house, name), cell in wanted.items():
            line = table.get(house) if isinstance(table, Mapping) else None
            given = line.get(name) if isinstance(line, Mapping) else None
            given = given[0] if isinstance(given, list) and given else given
            right += given is not None and str(given).lower().strip() == cell.lower().strip()
        return right


class PuzzleAccuracy(_Grid):
    """1 where every cell of the table is right."""

    name = "puzzle_acc"

    def score(self, seen: Observation) -> float | None:
        found = self.cells(seen)
        return None if found is None else sum(right == found[1] for right in found[0]) / len(found[0])


class CellAccuracy(_Grid):
    """The share of all cells that are right. Statistics of a row: right, all."""

    name = "cell_acc"
    aggregation = "self"

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        found = self.cells(seen)
        return None if found is None else (float(sum(found[0])), float(found[1] * len(found[0])))

    def from_means(self, means: tuple[float, ...]) -> float:
        return means[0] / means[1]


def last_json_object(text: str) -> dict[str, Any] | None:
    """The last outermost {...} of a text; None where it is no JSON, as line breaks in its texts are dropped."""
    depth, start, last = 0, 0, ""
    for place, char in enumerate(text):
        if char == "{":
            start = place if depth == 0 else start
            depth += 1
        elif char == "}" and depth:
            depth -= 1
            last = text[start : place + 1] if depth == 0 else last
    try:
        value = json.loads(last.replace("\n", ""))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CellAccuracy, PuzzleAccuracy]
