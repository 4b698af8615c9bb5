"""Whole pages read into Markdown: OmniDocBench.

metric_list:
  - metric: omnidocbench_overall            # of version 1.5: text, tables and formulas (CDM)
  - metric: omnidocbench_cdm                # formulas compared by their pictures: needs LaTeX and Ghostscript
  - metric: omnidocbench_overall_edit       # the mean of four edit distances: text, formulas, tables, reading order
  - metric: omnidocbench_text_edit          # and formula_edit, table_edit, order_edit
  - metric: omnidocbench_table_teds         # and table_teds_structure
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from harness import MachineError, Metric, MetricOptions, Observation, hookimpl
from harness.data import cache_folder
from harness.scoring.official import cdm_missing, omnidocbench_cdm, omnidocbench_page

log = logging.getLogger(__name__)
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

    def _read(self, seen: Observation) -> tuple[Any, str] | None:
        """The page and the reply; None where there is nothing to compare."""
        page: Any = seen.sample.doc if self._page is None else seen.sample.doc[self._page]
        page = json.loads(page) if isinstance(page, str) else page
        return (page, seen.predictions[0] or "") if page.get("layout_dets") and seen.predictions else None

    def _scores(self, seen: Observation) -> Mapping[str, float | None] | None:
        read = self._read(seen)
        return None if read is None else omnidocbench_page(*read)


class _DrawnMetric(_PageMetric):
    """A metric that draws formulas. Where they cannot be drawn here, it has no score, and a line says why."""

    name: ClassVar[str]

    def __init__(self, page: str | None = None) -> None:
        super().__init__(page)
        self._sandbox = "auto"
        self._folder = cache_folder("formulas")
        self._missing: str | None = None

    def prepare(self, options: MetricOptions) -> None:
        super().prepare(options)
        self._sandbox = options.sandbox

    def _can_draw(self) -> bool:
        if self._missing is None:
            self._missing = cdm_missing(self._sandbox)
            if self._missing:
                log.warning("%s stays null: %s", self.name, self._missing)
        return not self._missing


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
    """The same of displayed formulas in LaTeX."""

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


class OmniDocBenchCdm(_DrawnMetric):
    """How alike a page's displayed formulas and those of the reply look: CDM, the F1 of the signs in their pictures.

    Needs LaTeX and Ghostscript. Without them it is null, never 0, and so is `omnidocbench_overall`.
    """

    name = "omnidocbench_cdm"
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        read = self._read(seen)
        return omnidocbench_cdm(*read, self._sandbox, self._folder) if read is not None and self._can_draw() else None


class OmniDocBenchOverall(_DrawnMetric):
    """Overall of version 1.5: the mean of 1 less the text edit distance, table TEDS and formula CDM, 0 to 1.

    Each is a mean over the pages that have it. The authors write it as a percentage. Where formulas cannot be drawn, or
    a set has none of a kind, there is none.
    """

    name = "omnidocbench_overall"
    aggregation = "self"

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        read = self._read(seen)
        if read is None or not self._can_draw():
            return None
        scores = omnidocbench_page(*read)
        text = scores["text_edit"]
        found = [
            None if text is None else 1 - text,
            scores["table_teds"],
            omnidocbench_cdm(*read, self._sandbox, self._folder),
        ]
        return _counted(found)

    def from_sums(self, sums: tuple[float, ...], n: int) -> float:
        if not all(sums[1::2]):
            raise ValueError("the pages have no text, no table or no formula, and Overall is of all three")
        return sum(total / pages for total, pages in zip(sums[::2], sums[1::2], strict=True)) / 3


def _counted(scores: Iterable[float | None]) -> tuple[float, ...]:
    """Each score, or 0 where there is none, and behind it whether there is one."""
    return tuple(number for score in scores for number in (score or 0.0, float(score is not None)))


class OmniDocBenchOverallEdit(_PageMetric):
    """The mean of four edit distances (text, formulas, tables, order), each a mean over the pages that have it.

    That is `Overall` of the paper; version 1.5 has another one, `omnidocbench_overall`. Of a set that has none of a
    kind it is the mean of the others.
    """

    name = "omnidocbench_overall_edit"
    aggregation = "self"
    higher_is_better = False

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        scores = self._scores(seen)
        if scores is None:
            return None
        return _counted(scores[part] for part in _OVERALL)

    def from_sums(self, sums: tuple[float, ...], n: int) -> float:
        means = [total / pages for total, pages in zip(sums[::2], sums[1::2], strict=True) if pages > 0]
        if not means:
            raise ValueError("no page has texts, formulas or tables")
        return sum(means) / len(means)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [
        OmniDocBenchCdm,
        OmniDocBenchFormulaEdit,
        OmniDocBenchOrderEdit,
        OmniDocBenchOverall,
        OmniDocBenchOverallEdit,
        OmniDocBenchTableEdit,
        OmniDocBenchTableStructure,
        OmniDocBenchTableTeds,
        OmniDocBenchTextEdit,
    ]
