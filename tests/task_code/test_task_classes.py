"""Tasks of lm-eval that are Python classes: what they ask, read and score is theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import TaskError, evaluate

CLASS = """\
from functools import partial

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask


def share(key, items):
    return sum(item[key] for item in items) / len(items)


class Rivers(ConfigurableTask):
    VERSION = 2
    DATASET_PATH = "rivers.jsonl"
    DATASET_NAME = None

    def __init__(self, config=None):
        super().__init__(config={"metadata": {"version": self.VERSION}})
        self.ask = (config or {}).get("ask", "Where?")

    def has_validation_docs(self):
        return True

    def validation_docs(self):
        return self.dataset["validation"].filter(lambda doc: doc["n"] != 1)

    def doc_to_text(self, doc):
        return f"{self.ask} {doc['n']}"

    def doc_to_target(self, doc):
        return " east"

    def construct_requests(self, doc, ctx, **kwargs):
        return [
            Instance("generate_until", doc, (ctx, {"until": ["."], "max_gen_toks": 5}), 0, **kwargs),
            Instance("loglikelihood", doc, (ctx, " nowhere"), 0, **kwargs),
            Instance("loglikelihood_rolling", doc, ("All of it.",), 0, **kwargs),
        ]

    def process_results(self, doc, results):
        text, (value, greedy), whole = results
        if doc["n"] == 3:
            import os

            os._exit(1)
        return {"east": text == "east", "sum": {"n": doc["n"], "whole": whole, "greedy": greedy}}

    def aggregation(self):
        return {"east": mean, "sum": partial(share, "whole")}

    def higher_is_better(self):
        return {"east": True, "sum": False}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rivers.py").write_text(CLASS)
    (tmp_path / "rivers.yaml").write_text(
        "group: waters\ntask: rivers\nclass: !function rivers.Rivers\nmetadata: {ask: x}\n"
    )
    rows = "".join(json.dumps({"n": n}) + "\n" for n in range(5))
    (tmp_path / "rivers.jsonl").write_text(rows)
    return tmp_path


def test_a_class_runs_by_consent_alone(folder: Path) -> None:
    with pytest.raises(TaskError, match=r"rivers.yaml:3: key 'class': .*rivers\.py.*--trust_task_code"):
        evaluate("dummy", {}, "rivers.yaml")


@pytest.mark.slow
def test_a_class_asks_and_scores_by_its_own_methods(folder: Path) -> None:
    result = evaluate(
        "dummy", {"mode": "fixed", "text": "east"}, "rivers.yaml",
        trust_task_code=".", output="runs", output_path="out", log_samples=True,
    )  # fmt: skip
    (task,) = result.report["tasks"]  # a file with a class is a task, not a group that names itself
    values = {
        metric["metric"]: (metric["value"], metric["n"], metric["higher_is_better"]) for metric in task["metrics"]
    }
    # A rolling score of the dummy is a point a character. The row whose code ends the process fails alone.
    assert values == {"east": (1.0, 3, True), "sum": (-10.0, 3, False)}
    assert (task["counts"]["n"], task["counts"]["failed"], task["version"]) == (4, 1, 2)
    first = next(result.samples())
    assert (first.prompt.text, first.target) == ("Where? 0", " east")
    assert [bool(response.text) for response in first.responses] == [True, False, False]
    (logged,) = (folder / "out").rglob("samples_rivers_*.jsonl")
    line = json.loads(logged.read_text().splitlines()[0])
    assert line["arguments"] == {
        "gen_args_0": {"arg_0": "Where? 0", "arg_1": {"until": ["."], "max_gen_toks": 5}},
        "gen_args_1": {"arg_0": "Where? 0", "arg_1": " nowhere"},
        "gen_args_2": {"arg_0": "All of it."},
    }
    text, pair, whole = line["filtered_resps"]
    assert (text, len(pair), whole) == ("east", 2, "-10.0")
    assert line["resps"] == [[text], [pair], [whole]]


@pytest.mark.slow
def test_a_class_that_cannot_be_made_is_refused_with_its_reason(folder: Path) -> None:
    (folder / "rivers.py").write_text(CLASS.replace("VERSION = 2", "VERSION = 1 / 0"))
    with pytest.raises(TaskError, match=r"rivers.yaml:3: key 'class': .*ZeroDivisionError"):
        evaluate("dummy", {}, "rivers.yaml", trust_task_code=".")
