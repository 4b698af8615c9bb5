"""Results and samples as frames: what a notebook works with."""

from __future__ import annotations

import json
from pathlib import Path

import harness

TASK = """
task: quiz
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{ q }}"
doc_to_target: a
generation_kwargs: {max_gen_toks: 8}
metric_list: [{metric: exact_match}]
"""


def test_frames_hold_what_the_report_and_the_records_hold(tmp_path: Path) -> None:
    (tmp_path / "quiz.yaml").write_text(TASK, encoding="utf-8")
    rows = [{"q": f"问题{n}", "a": str(n)} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "said.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in "012"[:2] + "9"))
    result = harness.evaluate(
        "replay", {"path": str(tmp_path / "said.jsonl")}, [tmp_path / "quiz.yaml"], output=tmp_path / "runs", name="甲"
    )

    values = harness.frames([result.path, result.path])
    assert list(values["model"]) == ["甲", "甲"]
    assert values["value"].round(3).tolist() == [0.667, 0.667] and values["n"].tolist() == [3, 3]
    samples = result.samples_frame()
    assert harness.load_run(result.path).samples_frame().equals(samples)
    assert samples["score.exact_match"].tolist() == [1.0, 1.0, 0.0]
    assert samples["text"].tolist() == ["0", "1", "9"] and samples["doc.q"].tolist()[0] == "问题0"
    samples.to_parquet(tmp_path / "samples.parquet")
    assert "<table>" in result._repr_html_() and "exact_match" in result._repr_html_()
