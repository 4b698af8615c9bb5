"""Rows that carry dates: only those later than one, and the score before and after a model's cut-off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import DataError, UsageError, evaluate
from harness.tasks.dates import is_later, read_date

TASK = """\
task: news
dataset_path: rows.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: ["yes", "no"]
doc_to_target: a
doc_to_date: published
metric_list: [{metric: acc}]
"""


@pytest.fixture(autouse=True)
def _a_task_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Right (the first choice) before July, and every third time after it.
    rows = [{"q": f"{n}", "a": 0, "published": f"2025-0{1 + n % 6}-15T08:00:00"} for n in range(30)]
    rows += [{"q": f"late {n}", "a": int(n % 3 > 0), "published": "2025/8/3"} for n in range(12)]
    rows.append({"q": "undated", "a": 0, "published": None})
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("news.yaml").write_text(TASK)


def measured(**more: Any) -> Any:
    return evaluate("dummy", "mode=fixed", "news.yaml", **more)


@pytest.mark.parametrize(
    ("said", "date"),
    [
        ("2025-06-30T12:00:00Z", "2025-06-30"),
        ("2025/6/3", "2025-06-03"),
        ("20250630", "2025-06-30"),
        ("2025年6月3日", "2025-06-03"),
        ("\uff12\uff10\uff12\uff15年\uff16月\uff13日", "2025-06-03"),  # full-width digits
        ("2025-06", "2025-06"),
        (2025, "2025"),
        (None, None),
        ("", None),
    ],
)
def test_dates_are_read_as_data_sets_write_them(said: Any, date: str | None) -> None:
    assert read_date(said) == date


@pytest.mark.parametrize("said", ["soon", "06/30/2025", True, 12.5, "20251", ["2025"]])
def test_what_is_no_date_is_named(said: Any) -> None:
    with pytest.raises(DataError, match="is no date such as 2025"):
        read_date(said)


def test_what_is_known_less_exactly_is_later_as_a_whole() -> None:
    assert is_later("2025-07-01", "2025-06")
    assert not is_later("2025-06-30", "2025-06")
    assert not is_later("2025-06", "2025-06-15")
    assert is_later("2025-06-16", "2025-06-15")
    assert not is_later("2025", "2025-06")


def test_only_later_rows_are_asked_by_their_own_numbers() -> None:
    result = measured(after="2025-05")
    ids = [record.id for record in result.samples()]
    assert ids == [n for n in range(30) if n % 6 == 5] + list(range(30, 42))
    assert result.report["tasks"][0]["covers"]["chosen"] == {"": ids}
    assert [record.id for record in measured(after="2025-05", limit=3).samples()] == [5, 11, 17]


@pytest.mark.slow
def test_no_later_row_and_no_dates_are_one_line() -> None:
    with pytest.raises(DataError, match="has no row that is later; the latest of its rows is of 2025-08-03"):
        measured(after="2025-08")
    Path("news.yaml").write_text(TASK.replace("doc_to_date: published\n", ""))
    with pytest.raises(UsageError, match="rows of task 'news' carry no date"):
        measured(after="2025-08")
    Path("news.yaml").write_text(TASK.replace("doc_to_date: published", "doc_to_date: q"))
    with pytest.raises(DataError, match="row 0"):
        measured(after="2025-08")


def test_the_score_before_and_after_a_cutoff_with_the_interval_of_the_difference() -> None:
    result = measured(cutoff="2025-06")
    dated = result.report["tasks"][0]["dated"]
    assert (dated["before"]["n"], dated["before"]["value"]) == (30, 1.0)
    assert (dated["after"]["n"], dated["after"]["value"]) == (12, pytest.approx(1 / 3))
    assert dated["undated"] == 1
    # Newcombe's method 10 of 4/12 and 30/30, from Wilson's intervals (0.1381, 0.6094) and (0.8865, 1).
    assert dated["interval"] == pytest.approx([-2 / 3 - 0.1953, -2 / 3 + 0.2985], abs=1e-3)
    assert "acc 0.3333 of 12 rows later than the cut-off 2025-06, 1.0000 of 30 rows up to it" in " ".join(
        result.summary(200).split()
    )
