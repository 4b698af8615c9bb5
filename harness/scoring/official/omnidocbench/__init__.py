"""OmniDocBench (Ouyang et al. 2025): how near a page in Markdown is to the page, by its authors' script, version 1.5.

    omnidocbench_page(row, reply)["text_edit"]        # 0.12; None where the page has no text

A page is scored in a process of its own, which has two minutes of processor time: what a model repeats until it is cut
can cost the script's patterns and trees hours.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
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
    return _compared(page, reply)[0]


def cdm_missing(mode: str = "auto") -> str:
    """What is missing to draw formulas here, in a line with what to install; empty if nothing is. mode: of sandbox."""
    from harness.scoring.official.cdm import missing  # what draws reads tables of names, and few runs draw

    return missing(mode)


def omnidocbench_cdm(
    page: Mapping[str, Any], reply: str, mode: str = "auto", folder: Path | None = None
) -> float | None:
    """The mean CDM of a page's displayed formulas, 0 to 1; None where it has none. See `harness.scoring.official.cdm`.

    A formula that the reply has read as text is compared as text, and not here. mode, folder: as `cdm` has them.
    Raises `Undecided`, and `MachineError` where LaTeX cannot run.
    """
    from harness.scoring.official.cdm import cdm

    formulas = _compared(page, reply)[1]
    scores = cdm(formulas, mode, folder)
    return sum(scores) / len(scores) if scores else None


_Compared = tuple[Mapping[str, float | None], tuple[tuple[str, str], ...]]


def _compared(page: Mapping[str, Any], reply: str) -> _Compared:
    asked = json.dumps({"layout_dets": page["layout_dets"], "extra": page.get("extra") or {}}, sort_keys=True)
    found = _answer(asked, reply)
    if isinstance(found, str):
        raise Undecided(found)
    return found


@functools.lru_cache(maxsize=8)  # several metrics ask for the same page
def _answer(page: str, reply: str) -> _Compared | str:
    """What the process found, or why it is undecided."""
    try:
        answer = _worker.ask({"page": json.loads(page), "reply": reply}, SECONDS)
    except Undecided as error:
        return str(error)
    return MappingProxyType(answer["scores"]), tuple((gold, given) for gold, given in answer["formulas"])
