"""`--modify renew_numbers` from specification to report: who calculates, and who remembers."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import DataError, Model, Request, Response, hookimpl
from harness.registry import Registry, load_plugins
from harness.run.compare import compare_runs
from harness.run.rescore import score_run
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec

TASK = """\
task: sums
dataset_path: rows.jsonl
test_split: test
doc_to_text: "{{a}} + {{b}} ="
doc_to_target: "{{answer}}"
metric_list: [{metric: exact_match}]
renewal:
  numbers: {a: "range(100, 1000)", b: "range(100, 1000)"}
  columns: {a: "{a}", b: "{b}", answer: "{a + b}"}
"""
ROWS = [{"a": n, "b": 2 * n, "answer": 3 * n} for n in range(1, 21)]


class Adder(Model):
    """Adds, or knows the sums of the rows by heart."""

    name = "adder"
    supports = frozenset({"generate"})

    def __init__(self, by_heart: bool = False) -> None:
        self.by_heart = by_heart

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"by_heart": self.by_heart}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            first, second = (int(part) for part in request.prompt.text.removesuffix(" =").split(" + "))
            known = not self.by_heart or second == 2 * first < 100
            yield index, Response(text=str(first + second) if known else "7", finish_reason="stop")


class Listener(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def registry() -> Registry:
    module = types.ModuleType("adder_plugin")
    module.harness_models = hookimpl(lambda: [Adder])  # type: ignore[attr-defined]
    registry = load_plugins()
    registry.register(module, package="test-package", name="adder_plugin")
    return registry


def spec_of(folder: Path, *modify: str, rows: Sequence[Mapping[str, Any]] = ROWS, by_heart: bool = True) -> RunSpec:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sums.yaml").write_text(TASK)
    tasks, output = (str(folder / "sums.yaml"),), str(folder / "runs")
    return RunSpec(tasks=tasks, model="adder", model_args={"by_heart": by_heart}, modify=modify, output=output)


def metrics_of(report: Mapping[str, Any]) -> dict[str, Any]:
    (task,) = report["tasks"]
    return {metric["metric"]: metric for metric in task["metrics"]}


def test_who_knows_the_answers_by_heart_loses_them_with_the_numbers(registry: Registry, tmp_path: Path) -> None:
    result = run(spec_of(tmp_path, "renew_numbers=2"), registry)
    found = metrics_of(result.report)
    assert {name: (metric["value"], metric["n"]) for name, metric in found.items()} == {
        "renewed_exact_match": (0.0, 20),
        "vanilla_exact_match": (1.0, 20),
        "loss_exact_match": (1.0, 20),
        "worst_renewed_exact_match": (0.0, 20),
        "kept_numbers": (0.0, 20),
    }
    assert found["loss_exact_match"]["interval"][0] > 0.5
    able = metrics_of(run(spec_of(tmp_path, "renew_numbers=2", by_heart=False), registry).report)
    assert (able["loss_exact_match"]["value"], able["worst_renewed_exact_match"]["value"]) == (0.0, 1.0)
    low, high = able["loss_exact_match"]["interval"]
    assert low < 0 < high  # that no row was lost does not mean that none can be
    first = score_run(result.path, registry).report
    assert metrics_of(first) == found  # the records hold the rows as they were shown


def test_rows_that_keep_their_numbers_are_counted_and_are_in_no_difference(registry: Registry, tmp_path: Path) -> None:
    rows = [*ROWS[:8], {"a": 1, "b": 2, "answer": 4}]
    listener = Listener()
    result = run(spec_of(tmp_path, "renew_numbers=1", rows=rows, by_heart=False), registry, listener)
    found = metrics_of(result.report)
    assert [found[name]["n"] for name in ("renewed_exact_match", "vanilla_exact_match", "loss_exact_match")] == [8] * 3
    assert found["kept_numbers"]["value"] == pytest.approx(1 / 9)
    assert listener.lines == [
        "sums+renew_numbers=1: 1 of 9 rows stay as they are; the first is 8: with its own numbers, 'answer' is 3, and "
        "the row has 4"
    ]


def test_a_run_with_other_numbers_is_compared_with_a_plain_one_row_by_row(registry: Registry, tmp_path: Path) -> None:
    plain = run(spec_of(tmp_path), registry)
    renewed = run(spec_of(tmp_path, "renew_numbers"), registry)
    found = metrics_of(renewed.report)
    assert [(name, found[name]["value"]) for name in found] == [
        ("exact_match", 0.0),
        ("renewed_exact_match", 0.0),
        ("kept_numbers", 0.0),
    ]
    (comparison,) = compare_runs(plain.path, renewed.path, registry, across=True)
    assert (comparison.difference, len(comparison.losses)) == (-1.0, 20)
    assert comparison.interval is not None and comparison.interval[1] < -0.7


def test_where_no_row_can_get_other_numbers_there_is_no_run(registry: Registry, tmp_path: Path) -> None:
    rows = [{"a": 1, "b": 2, "answer": 4}, {"a": 1, "b": 1, "answer": 3}]
    with pytest.raises(DataError, match=r"none of the 2 rows of task 'sums\+renew_numbers' can be changed"):
        run(spec_of(tmp_path, "renew_numbers", rows=rows), registry)
