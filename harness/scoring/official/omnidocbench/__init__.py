"""OmniDocBench (Ouyang et al. 2025): how near a page in Markdown is to the page, by its authors' script, version 1.5.

    omnidocbench_page(row, reply)["text_edit"]        # 0.12; None where the page has no text

A page is scored in a process of its own, which has two minutes of processor time: what a model repeats until it is cut
can cost the script's patterns and trees hours.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.errors import Undecided
from harness.limited import LimitedWorker

SECONDS = 120.0
SCORES = ("text_edit", "formula_edit", "table_edit", "table_teds", "table_teds_structure", "order_edit")
"""Edit distances over the longer length, of all that a page has of a kind: 0 is best. TEDS: 1 is best."""
_worker = LimitedWorker("harness.scoring.official.omnidocbench.page_worker", "compares pages")


def omnidocbench_page(page: Mapping[str, Any], reply: str) -> Mapping[str, float | None]:
    """A number for each of SCORES; None where the page has nothing of the kind. Raises `Undecided` after the time.

    page: `layout_dets` and `extra` as the data set has them. Needs the packages of the extra `documents`.
    """
    asked = json.dumps({"layout_dets": page["layout_dets"], "extra": page.get("extra") or {}}, sort_keys=True)
    scores, problem = _scored(asked, reply)
    if problem is not None:
        raise Undecided(problem)
    return scores


@functools.lru_cache(maxsize=8)  # several metrics ask for the same page
def _scored(page: str, reply: str) -> tuple[Mapping[str, float | None], str | None]:
    try:
        return MappingProxyType(_worker.ask({"page": json.loads(page), "reply": reply}, SECONDS)), None
    except Undecided as error:
        return {}, str(error)
