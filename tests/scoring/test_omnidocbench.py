"""OmniDocBench's scores against its authors' script.

`omnidocbench_pages.json` holds made-up pages with replies that cut, swap, join and spoil them, and what the script of
version 1.5 says of each (with pylatexenc 3.0a30).
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness import Observation, Response, Sample
from harness.errors import Undecided
from harness.scoring import official
from harness.scoring.official import omnidocbench
from harness.scoring.official.omnidocbench.page import page_scores
from harness.scoring.official.omnidocbench.teds import Node, teds, tree_distance
from harness_plugins.metrics.documents import (
    PACKAGES,
    OmniDocBenchOverallEdit,
    OmniDocBenchTableTeds,
    OmniDocBenchTextEdit,
)

pytestmark = pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="needs the extra `documents`")
PAGES = json.loads((Path(__file__).parent / "omnidocbench_pages.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_made_up_pages_score_as_the_script_scores_them() -> None:
    for number, case in enumerate(PAGES):
        assert page_scores(case["page"], case["reply"]) == pytest.approx(case["scores"], abs=1e-9), number


def page(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"layout_dets": [{"anno_id": n, "order": n + 1, **block} for n, block in enumerate(blocks)], "extra": {}}


TEXT = {"category_type": "text_block", "text": "The boat sails."}
TABLE = {"category_type": "table", "html": "<table><tr><td>a</td><td>b</td></tr></table>", "latex": ""}


def seen(row: dict[str, Any], reply: str | None) -> Observation:
    sample = Sample("t", "", 0, row, (), "")
    return Observation(sample, (Response(text=reply),), predictions=(reply,))


def test_a_page_is_scored_in_a_process_of_its_own_and_only_what_it_has() -> None:
    scores = official.omnidocbench_page(page(TEXT), "The boat sails.")
    assert (scores["text_edit"], scores["order_edit"]) == (0, 0)
    assert (scores["formula_edit"], scores["table_teds"]) == (None, None)
    assert OmniDocBenchTextEdit().score(seen(page(TEXT), None)) == 1.0
    assert OmniDocBenchTableTeds().score(seen(page(TEXT), "x")) is None
    assert OmniDocBenchTextEdit().score(seen({"layout_dets": [], "extra": {}}, "x")) is None


def test_the_overall_distance_is_the_mean_of_the_means_over_the_pages_that_have_a_kind() -> None:
    metric = OmniDocBenchOverallEdit(page="answer")
    rows = [{"answer": json.dumps(page(TEXT, TABLE))}, {"answer": json.dumps(page(TEXT))}]
    scores = [metric.score(seen(row, "The boat sails.")) for row in rows]
    assert all(scores)
    # Text and order are right on both pages, the only table is missing, and there are no formulas.
    assert metric.aggregate([score for score in scores if score]) == pytest.approx((0 + 1 + 0) / 3)
    with pytest.raises(ValueError, match="no page"):
        metric.from_sums((0.0,) * 8, 1)


@pytest.mark.slow
def test_a_reply_that_takes_too_long_fails_its_sample_and_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(omnidocbench, "SECONDS", 0.2)
    with pytest.raises(Undecided, match=r"no result within 0.2 s|too busy"):
        official.omnidocbench_page(page(TEXT), "\\begin{tabular}" * 60_000)
    monkeypatch.undo()
    assert official.omnidocbench_page(page(TEXT), "The boat sails")["text_edit"] == 0


def test_trees_are_as_far_apart_as_the_least_edits_say() -> None:
    def row(*cells: str) -> Node:
        return Node("tr", children=[Node("td", (1, 1), tuple(cell)) for cell in cells])

    table = Node("table", children=[row("ab", "c"), row("d")])
    assert tree_distance(table, table) == 0
    assert tree_distance(table, Node("table", children=[row("ab", "c"), *row("d").children])) == 1  # a row taken out
    assert tree_distance(table, Node("table", children=[row("ab", "c", "d")])) == 3  # and its cell put elsewhere
    assert tree_distance(row("ab"), row("ac")) == 0.5
    assert tree_distance(Node("td", (1, 1), ("a",)), Node("td", (2, 1), ("a",))) == 1


def test_what_is_no_table_or_has_no_number_for_a_span_is_unlike_any() -> None:
    table = "<html><body><table><tr><td>a</td></tr></table></body></html>"
    assert teds(table, table) == 1
    assert teds("", table) == teds("<p>a</p>", table) == teds(table.replace("<td>", '<td colspan="x">'), table) == 0


@pytest.mark.slow
def test_a_table_that_is_repeated_until_it_is_cut_is_scored_in_the_time_of_a_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(omnidocbench, "SECONDS", 12.0)
    rows = "".join(f"<tr>{''.join(f'<td>{row * cell}</td>' for cell in range(8))}</tr>" for row in range(40))
    gold = {"category_type": "table", "html": f"<table>{rows}</table>", "latex": ""}
    scores = official.omnidocbench_page(page(TEXT, gold), f"The boat sails.\n\n<table>{rows * 6}</table>")
    nodes = 40 * (1 + 8)
    assert scores["table_teds"] == scores["table_teds_structure"] == pytest.approx(1 - 5 * nodes / (6 * nodes))
