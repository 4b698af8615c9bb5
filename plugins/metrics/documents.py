"""Whole pages read into Markdown: OmniDocBench.

metric_list:
  - metric: omnidocbench_overall_edit       # the mean of four edit distances: text, formulas, tables, reading order
  - metric: omnidocbench_text_edit          # and formula_edit, table_edit, order_edit
  - metric: omnidocbench_table_teds         # and table_teds_structure
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from harness import MachineError, Metric, MetricOptions, Observation, hookimpl
from harness.scoring.official import omnidocbench_page

PACKAGES = {
    "bs4": "beautifulsoup4",
    "lxml": "lxml",
    "pylatexenc": "pylatexenc",
    "rapidfuzz": "rapidfuzz",
    "scipy": "scipy",
}
_OVERALL = ("text_edit", "formula_edit", "table_edit", "order_edit")


class _PageMetric(Metric):
    """page: the column that holds a page as JSON; without it, the row is the page (`layout_dets`, `extra`)."""

    output_types = frozenset({"generate_until"})

    def __init__(self, page: str | None = None) -> None:
        self._page = page

    def prepare(self, options: MetricOptions) -> None:
        missing = [package for module, package in PACKAGES.items() if not importlib.util.find_spec(module)]
        if missing:
            raise MachineError(f"needs {', '.join(missing)}: pip install 'harness-eval[documents]'")

    def _scores(self, seen: Observation) -> Mapping[str, float | None] | None:
        page: Any = seen.sample.doc if self._page is None else seen.sample.doc[self._page]
        page = json.loads(page) if isinstance(page, str) else page
        if not page.get("layout_dets") or not seen.predictions:
            return None
        return omnidocbench_page(page, seen.predictions[0] or "")


class _PartMetric(_PageMetric):
    part: ClassVar[str]

    def score(self, seen: Observation) -> float | None:
        scores = self._scores(seen)
        return None if scores is None else scores[self.part]


class OmniDocBenchTextEdit(_PartMetric):
    """How far a page's texts are from those of the reply: edits over the longer length, matched as the authors do.

    Captions, notes, headers and page numbers do not count. A page without the kind has no score.
    """

    name = "omnidocbench_text_edit"
    part = "text_edit"
    higher_is_better = False


class OmniDocBenchFormulaEdit(_PartMetric):
    """The same of displayed formulas in LaTeX. (CDM compares pictures of them and needs LaTeX: it is not here.)"""

    name = "omnidocbench_formula_edit"
    part = "formula_edit"
    higher_is_better = False


class OmniDocBenchTableEdit(_PartMetric):
    """The same of tables in HTML, tags included."""

    name = "omnidocbench_table_edit"
    part = "table_edit"
    higher_is_better = False


class OmniDocBenchTableTeds(_PartMetric):
    """How alike a page's tables and those of the reply are: 1 less the tree edit distance over the number of nodes."""

    name = "omnidocbench_table_teds"
    part = "table_teds"


class OmniDocBenchTableStructure(_PartMetric):
    """TEDS without what is written in the cells."""

    name = "omnidocbench_table_teds_structure"
    part = "table_teds_structure"


class OmniDocBenchOrderEdit(_PartMetric):
    """How far the order of the texts is from the page's reading order: edits over the longer length."""

    name = "omnidocbench_order_edit"
    part = "order_edit"
    higher_is_better = False


class OmniDocBenchOverall(_PageMetric):
    """The mean of four edit distances (text, formulas, tables, order), each a mean over the pages that have it.

    That is `Overall` of the paper. Version 1.5 makes another of text, TEDS and CDM, which needs LaTeX. Of a set
    that has none of a kind it is the mean of the others.
    """

    name = "omnidocbench_overall_edit"
    aggregation = "self"
    higher_is_better = False

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        scores = self._scores(seen)
        if scores is None:
            return None
        found = [scores[part] for part in _OVERALL]
        return tuple(number for value in found for number in (value or 0.0, float(value is not None)))

    def from_sums(self, sums: tuple[float, ...], n: int) -> float:
        means = [total / pages for total, pages in zip(sums[::2], sums[1::2], strict=True) if pages > 0]
        if not means:
            raise ValueError("no page has texts, formulas or tables")
        return sum(means) / len(means)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [
        OmniDocBenchFormulaEdit,
        OmniDocBenchOrderEdit,
        OmniDocBenchOverall,
        OmniDocBenchTableEdit,
        OmniDocBenchTableStructure,
        OmniDocBenchTableTeds,
        OmniDocBenchTextEdit,
    ]
