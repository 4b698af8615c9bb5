"""Metrics that score many samples at once, and metrics of whole sets, in runs from beginning to end."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness import BatchMetric, CorpusMetric, MetricOptions, Observation, Outcome, Sample, UsageError, hookimpl
from harness.errors import ExitCode, Interrupted
from harness.registry import Registry, load_plugins
from harness.run.compare import compare_runs
from harness.run.merge import merge
from harness.run.rescore import score_run
from harness.run.result import RunResult
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec

TASK = """\
task: echo
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"]}
metric_list: METRICS
"""


class Shares(BatchMetric):
    """The share of the gold's characters that the answer has, and back. Counts what it is asked."""

    name = "shares"
    output_types = frozenset({"generate_until"})
    values = ("forth", "back")
    batches: ClassVar[list[int]] = []
    observed: ClassVar[list[int]] = []
    weights: ClassVar[str] = "v1"
    trouble: ClassVar[Any] = None
    """Called with the texts of a batch, to raise; or a mapping of a text to its outcome."""

    def prepare_corpus(self, samples: Iterable[Sample]) -> None:
        self.observed.append(len(list(samples)))

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"model": "shares", "weights": self.weights}

    def score_batch(self, seen: Sequence[Observation]) -> Sequence[Outcome]:
        self.batches.append(len(seen))
        texts = [each.predictions[0] or "" for each in seen]
        if callable(self.trouble):
            self.trouble(texts)
        special = self.trouble if isinstance(self.trouble, dict) else {}
        return [
            special.get(text, Outcome(_shares(text, str(each.sample.target)), truncated=int(len(text) > 8)))
            for text, each in zip(texts, seen, strict=True)
        ]


class Distinct(CorpusMetric):
    """How many different answers there are, and how many in all; answers that say so have no item."""

    name = "distinct"
    output_types = frozenset({"generate_until"})

    def __init__(self, resamples: int = 0, fails: bool = False) -> None:
        self.resamples, self.fails = resamples, fails

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"code": "distinct 1"}

    def item(self, seen: Observation) -> str | None:
        if seen.sample.id == 1 and self.fails:
            raise ValueError("one is unlucky")
        return seen.predictions[0]

    def measure(self, items: Sequence[str]) -> Mapping[str, float]:
        return {"": len(set(items)), "share": len(set(items)) / len(items)}


def _shares(text: str, gold: str) -> tuple[float, float]:
    shared = len(set(text) & set(gold))
    return shared / len(set(gold)), shared / max(1, len(set(text)))


@pytest.fixture
def registry() -> Registry:
    Shares.batches, Shares.observed, Shares.weights, Shares.trouble = [], [], "v1", None
    module = types.ModuleType("shares_plugin")
    module.harness_metrics = hookimpl(lambda: [Shares, Distinct])  # type: ignore[attr-defined]
    registry = load_plugins()
    registry.register(module, package="test-package", name="shares_plugin")
    return registry


def test_shards_leave_what_needs_all_rows_to_the_merge(tmp_path: Path, registry: Registry) -> None:
    spec = spec_of(tmp_path, "[{metric: shares}, {metric: distinct}]", rows=30)
    for part in (1, 2, 3):
        run(replace(spec, shard=(part, 3)), registry)
    assert Shares.batches == Shares.observed == []
    merged = merge([tmp_path / "runs"], registry=registry)
    assert Shares.observed == [30] and sum(Shares.batches) == 30
    whole = run(replace(spec, output=str(tmp_path / "whole")), registry)
    assert merged.report["tasks"] == whole.report["tasks"]
    assert (merged.path / "echo.jsonl").read_bytes() == (whole.path / "echo.jsonl").read_bytes()


def spec_of(folder: Path, metrics: str = "[{metric: shares}]", rows: int = 600, **changes: Any) -> RunSpec:
    """A task whose answers are its golds; `subset` halves it."""
    lines = [{"question": f"say {n}", "answer": f"{n}", "half": "ab"[n % 2]} for n in range(rows)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "echo.yaml").write_text(TASK.replace("METRICS", metrics), encoding="utf-8")
    chosen: dict[str, Any] = {"model": "dummy", "model_args": {"mode": "gold"}, "output": str(folder / "runs")}
    return RunSpec(tasks=(str(folder / "echo.yaml"),), **{**chosen, **changes})


def metrics_of(result: RunResult) -> dict[str, Mapping[str, Any]]:
    return {metric["metric"]: metric for metric in result.report["tasks"][0]["metrics"]}


def test_samples_come_in_batches_and_every_value_is_reported(registry: Registry, tmp_path: Path) -> None:
    result = run(spec_of(tmp_path), registry)
    assert Shares.batches == [256, 256, 88] and Shares.observed == [600]
    assert result.exit_code is ExitCode.OK
    found = metrics_of(result)
    assert {name: (metric["value"], metric["n"]) for name, metric in found.items()} == {
        "shares_forth": (1.0, 600),
        "shares_back": (1.0, 600),
    }
    assert found["shares_forth"]["scorer"] == {"model": "shares", "weights": "v1"}
    told = "echo: shares_forth, shares_back by model shares, weights v1"
    assert told in result.summary() and told in (result.path / "report.html").read_text(encoding="utf-8")
    record = next(result.samples())
    assert record.scores == {"shares_forth": 1.0, "shares_back": 1.0}
    assert list(record.scored_by) == ["shares"] and len(record.scored_by["shares"].fingerprint) == 12


def test_answers_are_on_disk_before_a_batch_is_scored_and_a_kill_loses_one_batch(
    registry: Registry, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path)

    def killed(texts: list[str]) -> None:
        if len(Shares.batches) == 2:
            raise KeyboardInterrupt

    Shares.trouble = staticmethod(killed)
    with pytest.raises(Interrupted):
        run(spec, registry)
    (file,) = (tmp_path / "runs").glob("*/echo.jsonl")
    assert len({json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines()}) == 600
    Shares.trouble, Shares.batches = None, []
    seen: list[tuple[int, int]] = []

    class Watch(Progress):
        def started(self, tasks: Sequence[tuple[str, int, int]], model: str) -> None:
            seen.append(tasks[0][1:])

    result = run(spec, registry, Watch())
    assert seen == [(600, 600)] and Shares.batches == [256, 88]
    assert metrics_of(result)["shares_forth"]["n"] == 600
    Shares.batches = []
    assert run(spec, registry).exit_code is ExitCode.OK and Shares.batches == []


def test_what_goes_wrong_with_a_batch_is_null_and_counted_and_tried_again(registry: Registry, tmp_path: Path) -> None:
    spec = spec_of(tmp_path)

    def broken(texts: list[str]) -> None:
        if "0" in texts:
            raise RuntimeError("out of\nmemory")

    Shares.trouble = staticmethod(broken)
    result = run(spec, registry)
    assert result.exit_code is ExitCode.SAMPLES_FAILED
    assert result.report["tasks"][0]["counts"]["failed"] == 256
    assert metrics_of(result)["shares_forth"]["n"] == 344
    first = next(result.samples())
    assert first.scores == {"shares_forth": None, "shares_back": None}
    assert first.error.startswith(f"metric shares: RuntimeError: out of memory ({__file__}:")
    Shares.trouble, Shares.batches = None, []
    assert metrics_of(run(spec, registry))["shares_forth"]["n"] == 600 and Shares.batches == [256]


def test_one_sample_may_fail_alone(registry: Registry, tmp_path: Path) -> None:
    Shares.trouble = {
        "1": Outcome((float("nan"), 1.0)),
        "2": Outcome(error="no picture"),
        "3": Outcome(None),
        "4": Outcome((1.0, 1.0, 1.0)),
        "5": Outcome((0.25, 0.5)),
    }
    result = run(spec_of(tmp_path, rows=6), registry)
    records = {record.id: record for record in result.samples()}
    assert records[1].error == "metric shares: ValueError: score[0] is nan, which is not a finite number"
    assert records[2].error == "metric shares: no picture"
    assert records[3].error is None and records[3].scores["shares_back"] is None
    assert records[4].error == "metric shares: ValueError: it gave 3 numbers and names 2: forth, back"
    assert records[5].scores == {"shares_forth": 0.25, "shares_back": 0.5}
    assert result.report["tasks"][0]["counts"]["failed"] == 3 and metrics_of(result)["shares_back"]["n"] == 2


def test_a_metric_that_forgets_a_sample_scores_none_of_the_batch(registry: Registry, tmp_path: Path) -> None:
    class Forgetful(Shares):
        name = "forgetful"

        def score_batch(self, seen: Sequence[Observation]) -> Sequence[Outcome]:
            return super().score_batch(seen)[1:]

    module = types.ModuleType("forgetful_plugin")
    module.harness_metrics = hookimpl(lambda: [Forgetful])  # type: ignore[attr-defined]
    registry.register(module, package="test-package", name="forgetful_plugin")
    result = run(spec_of(tmp_path, "[{metric: forgetful}]", rows=3), registry)
    assert {record.error for record in result.samples()} == {
        "metric forgetful: ValueError: it gave 2 scores for 3 samples"
    }


def test_another_model_behind_the_metric_scores_all_again_and_asks_for_no_answer(
    registry: Registry, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, rows=5)
    first = run(spec, registry)
    Shares.weights, Shares.batches = "v2", []
    second = run(spec, registry)
    assert second.path == first.path and Shares.batches == [5]
    assert metrics_of(second)["shares_back"]["scorer"]["weights"] == "v2"


def test_old_answers_are_scored_again_in_batches(registry: Registry, tmp_path: Path) -> None:
    result = run(spec_of(tmp_path), registry)
    Shares.batches, Shares.observed = [], []
    Shares.trouble = {"7": Outcome(error="no")}
    again = score_run(result.path, registry)
    assert Shares.batches == [256, 256, 88] and Shares.observed == [600]
    assert again.report["tasks"][0]["counts"]["failed"] == 1


def test_texts_that_were_cut_are_counted(registry: Registry, tmp_path: Path) -> None:
    Shares.trouble = {"1": Outcome((1.0, 1.0), truncated=2)}
    result = run(spec_of(tmp_path, rows=3), registry)
    assert metrics_of(result)["shares_forth"]["truncated"] == 1
    assert "echo: 1 sample has a text longer than the window of shares_forth, shares_back" in result.summary(200)


def test_filter_pipelines_are_scored_together(registry: Registry, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, rows=3)
    task = tmp_path / "echo.yaml"
    pipelines = (
        "filter_list:\n- {name: a, filter: [{function: take_first}]}\n- {name: b, filter: [{function: lowercase}]}\n"
    )
    task.write_text(task.read_text(encoding="utf-8") + pipelines, encoding="utf-8")
    assert list(metrics_of(run(spec, registry))) == [
        "shares_forth@a", "shares_back@a", "shares_forth@b", "shares_back@b",
    ]  # fmt: skip
    assert Shares.batches == [6]


def test_a_metric_that_cannot_work_is_refused_before_the_model_is_asked(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Shares, options: MetricOptions) -> None:
        raise UsageError(f"{options.base / 'weights'} is not there")

    monkeypatch.setattr(Shares, "prepare", refuse)
    with pytest.raises(UsageError, match=r"echo\.yaml:8: metric 'shares': .*weights is not there$"):
        run(spec_of(tmp_path), registry)
    assert not (tmp_path / "runs").exists()


def test_runs_that_two_models_scored_are_not_compared(registry: Registry, tmp_path: Path) -> None:
    runs = []
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        Shares.weights = name
        runs.append(run(spec_of(tmp_path / name, rows=5), registry).path)
    with pytest.raises(UsageError, match=r"'shares_forth' was scored with weights v1 in .* and v2 in .*: score both"):
        compare_runs(*runs, registry)


def test_runs_are_compared_by_a_metric_that_scores_samples(registry: Registry, tmp_path: Path) -> None:
    runs = []
    for name, text in (("right", "{answer}"), ("wrong", "no {answer}")):
        (tmp_path / name).mkdir()
        spec = spec_of(tmp_path / name, "[{metric: distinct}, {metric: exact_match}]", rows=9)
        runs.append(run(replace(spec, model_args={"mode": "gold", "text": text}), registry).path)
    (comparison,) = compare_runs(*runs, registry)
    assert (comparison.name, comparison.difference, comparison.n) == ("echo: exact_match", -1.0, 9)


def test_a_metric_of_a_whole_set_reports_what_it_finds(registry: Registry, tmp_path: Path) -> None:
    result = run(spec_of(tmp_path, "[{metric: distinct, resamples: 50}]", rows=8), registry)
    found = metrics_of(result)
    assert (found["distinct"]["value"], found["distinct_share"]["value"]) == (8.0, 1.0)
    assert found["distinct"]["aggregation"] == "whole set" and found["distinct"]["n"] == 8
    assert 0 < found["distinct_share"]["stderr"] < 1 and found["distinct_share"]["interval"][1] <= 1
    assert [record.scores for record in result.samples()] == [{}] * 8
    again = score_run(result.path, registry)
    assert metrics_of(again)["distinct"] == found["distinct"]


def test_a_sample_without_an_item_fails_and_is_left_out(registry: Registry, tmp_path: Path) -> None:
    result = run(spec_of(tmp_path, "[{metric: distinct, fails: true}]", rows=8), registry)
    assert result.report["tasks"][0]["counts"]["failed"] == 1
    assert metrics_of(result)["distinct"]["n"] == 7


def test_a_set_that_cannot_be_measured_has_no_value_and_says_why(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Distinct, "measure", lambda self, items: {"": float("nan")})
    result = run(spec_of(tmp_path, "[{metric: distinct}]", rows=4), registry)
    assert metrics_of(result)["distinct"]["value"] is None
    assert result.exit_code is ExitCode.SAMPLES_FAILED
    assert "echo: distinct has no value: ValueError: the value is nan, which is not a finite number" in result.summary()


def test_subsets_of_a_whole_set_have_their_own_values_and_a_mean(registry: Registry, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "[{metric: distinct}]", rows=6)
    task = tmp_path / "echo.yaml"
    halves = "subsets: [a, b]\nwhere: half == subset.name\ndataset_name: null\n"
    text = task.read_text(encoding="utf-8").replace("task: echo\n", f"task: echo\n{halves}")
    task.write_text(text, encoding="utf-8")
    result = run(replace(spec, model_args={"mode": "fixed", "text": "same"}), registry)
    (found,) = result.report["tasks"]
    assert [subset["metrics"][0]["value"] for subset in found["subsets"]] == [1.0, 1.0]
    shares = {name: metrics[1]["value"] for name, metrics in found["by_average"].items()}
    assert shares == {"micro": pytest.approx(1 / 6), "macro": pytest.approx(1 / 3)}
