"""Edits of corrections: those of ChERRANT's characters on sentences where its dictionaries have no say."""

from __future__ import annotations

import pytest

from harness.testing import check_metric, observation
from harness_plugins.metrics.corrections import CorrectionF, edits


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("我去学校", "我去学校", set()),
        ("我去学校", "没有错误", set()),
        ("我去了学校", "我去学校", {(2, 3, "")}),
        ("我去学校", "我去了学校", {(2, 2, "了")}),
        ("他很告兴", "他很高兴", {(2, 3, "高")}),
        ("我吃饭在家", "我在家吃饭", {(1, 5, "在家吃饭")}),
        ("因为下雨也去", "即使下雨，也要去", {(0, 2, "即使"), (4, 4, "，"), (5, 5, "要")}),
    ],
)
def test_neighbouring_changes_are_one_edit(source, target, expected):
    assert edits(source, target) == expected


def test_the_reference_counts_that_is_nearest():
    metric = CorrectionF("{{ s }}")
    row = {"s": "他很告兴的去学校"}
    golds = ("他很高兴地去学校", "他高兴地去学校")
    items = [metric.item(observation(golds, reply, doc=row)) for reply in ("他很高兴的去学校", None)]
    values = metric.measure(items[:1])
    assert values["precision"] == 1 and values["recall"] == 0.5
    assert values["correction_f"] == pytest.approx(1.25 * 0.5 / (0.25 + 0.5))
    assert metric.measure(items[1:])["correction_f"] == 0  # a reply that could not be read changes nothing
    assert metric.item(observation(None, "他", doc=row)) is None
    assert check_metric(CorrectionF("s"), [observation("a", "b", doc={})]) == []
