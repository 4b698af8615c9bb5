"""The metrics of the help's example score a task as they stand there, with small models in their folders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_clip import picture
from tiny_encoders import tiny_bert, tiny_clip

from harness.testing import run_harness

pytest.importorskip("evaluate")
PAGE = (Path(__file__).parents[2] / "harness" / "help" / "scores.md").read_text(encoding="utf-8")
ROUGE = """\
import datasets
import evaluate


class Rouge(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        same = sum(a == b for a, b in zip(predictions, references)) / len(references)
        return {"rouge1": same, "rouge2": same, "rougeL": same}
"""


def test_the_example_of_the_help_scores_a_task(tmp_path: Path, evaluate_caches: None) -> None:
    (example,) = re.findall(r"## Metrics that read meaning.*?```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    tiny_bert(tmp_path / "models" / "bert-base-chinese", layers=8)
    tiny_bert(tmp_path / "models" / "bge-small-zh")
    tiny_clip(tmp_path / "models" / "clip-vit-base-patch32")
    (tmp_path / "metrics" / "rouge").mkdir(parents=True)
    (tmp_path / "metrics" / "rouge" / "rouge.py").write_text(ROUGE, encoding="utf-8")
    (tmp_path / "red.png").write_bytes(picture("red"))
    rows = [{"photo": "red.png", "caption": text} for text in ("the red cat", "今天天气很好", "a dog")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    head = [
        "task: captions",
        "dataset_path: rows.jsonl",
        "test_split: test",
        "doc_to_text: Go.",
        "doc_to_target: caption",
    ]
    (tmp_path / "captions.yaml").write_text("\n".join([*head, example]), encoding="utf-8")
    answers = ["--model", "dummy", "--model_args", "mode=gold", "--output", str(tmp_path / "runs")]
    done = run_harness("--tasks", str(tmp_path / "captions.yaml"), *answers)
    assert done.exit_code == 0, done.stderr
    (file,) = (tmp_path / "runs").glob("*/report.json")
    metrics = json.loads(file.read_text(encoding="utf-8"))["tasks"][0]["metrics"]
    values = {metric["metric"]: metric["value"] for metric in metrics}
    assert list(values) == [
        "bertscore_f1", "bertscore_precision", "bertscore_recall", "embedding_similarity", "clip_score",
        "evaluate/rouge_rouge1", "evaluate/rouge_rougeL",
    ]  # fmt: skip
    perfect = {name: value for name, value in values.items() if name != "clip_score"}
    assert perfect == {name: pytest.approx(1.0) for name in perfect}
    assert 0 < values["clip_score"] < 2.5
    assert {metric["scorer"].get("model", "code") for metric in metrics} == {
        "bert-base-chinese", "bge-small-zh", "clip-vit-base-patch32", "code",
    }  # fmt: skip
