"""A run as tables and files that others read: Arrow, Parquet, the hub's results, Every Eval Ever."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import harness
from harness.record.every_eval_ever import SCHEMA_VERSION
from harness.record.published import read_eval_results
from harness.record.run import RunFolder
from harness.run.recipes import note_published
from harness.testing import run_harness

TASK = """
task: quiz
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{ q }}"
doc_to_target: a
generation_kwargs: {max_gen_toks: 8, temperature: 0.5, do_sample: true}
metric_list: [{metric: exact_match}]
"""
ROWS: list[dict[str, Any]] = [
    {"q": "问题 🙂", "a": "0", "level": 1},
    {"q": "half \ud800 of one", "a": "1", "level": 1.5},
    {"q": "=SUM(A1)", "a": "2", "level": 2},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("quiz")
    (folder / "quiz.yaml").write_text(TASK, encoding="utf-8")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    said = [{"id": 0, "text": "0"}, {"id": 1, "text": "7"}]
    (folder / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said), encoding="utf-8")
    args = {"path": str(folder / "said.jsonl"), "missing": "sample"}
    result = harness.evaluate("replay", args, [folder / "quiz.yaml"], output=folder / "runs", name="<b>甲</b>")
    return harness.load_run(result.path)


def test_a_parquet_file_holds_every_sample_in_one_schema(run: RunFolder, tmp_path: Path) -> None:
    from pyarrow import parquet

    told = run_harness("export", str(run.path), "--parquet", str(tmp_path / "deep" / "samples.parquet"))
    assert told.exit_code == 0 and "3 samples" in told.stdout
    table = parquet.read_table(tmp_path / "deep" / "samples.parquet")
    assert table.column("doc.level").to_pylist() == [1.0, 1.5, 2.0]
    assert table.column("doc.q").to_pylist()[1:] == ["half ? of one", "=SUM(A1)"]
    scores = table.column("score.exact_match").to_pylist()
    assert scores[0] == 1.0 and scores[1] == 0.0
    assert table.equals(harness.samples_frame(run.records(), "arrow"))


def test_an_unfinished_run_is_exported_as_a_part(run: RunFolder, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["status"] = "running"
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    lines = (copy / "quiz.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (copy / "quiz.jsonl").write_text("".join(lines[:2]), encoding="utf-8")
    told = run_harness("export", str(copy), "--parquet", str(tmp_path / "samples.parquet"))
    assert told.exit_code == 0 and "2 samples" in told.stdout
    assert "partial: the run has not ended and asks 3 samples; its command goes on with it" in told.stderr
    assert "partial" not in run_harness("export", str(run.path), "--parquet", str(tmp_path / "b.parquet")).stderr
    refused = run_harness("export", str(run.path), "--parquet", str(copy / "quiz.jsonl" / "c.parquet"))
    assert refused.exit_code == 4 and "quiz.jsonl' is a file; name a folder" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_frames_come_in_each_library(run: RunFolder) -> None:
    values = harness.frames(run.path, "arrow")
    assert values.column("metric").to_pylist() == ["exact_match"]
    with pytest.raises(harness.UsageError, match="library: there is none 'polar'; did you mean 'polars'"):
        harness.frames(run.path, "polar")  # type: ignore[call-overload]
    polars = pytest.importorskip("polars")
    assert isinstance(harness.samples_frame(run.records(), "polars"), polars.DataFrame)


def test_a_notebook_shows_a_table_in_which_no_text_is_markup(run: RunFolder) -> None:
    shown = run._repr_html_()
    assert shown.startswith("<table>") and "exact_match" in shown
    assert "<b>" not in shown and "&lt;b&gt;甲&lt;/b&gt;" in shown


def hub_run(run: RunFolder, tmp_path: Path) -> Path:
    """The run as if its rows had come from the hub."""
    copy = tmp_path / "run"
    copy.mkdir()
    for file in run.path.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((copy / "manifest.json").read_text("utf-8"))
    manifest["tasks"]["quiz"]["config"] |= {"dataset_path": "openai/gsm8k", "dataset_name": "main"}
    (copy / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return copy


def test_the_hub_gets_a_file_a_task_and_the_details(run: RunFolder, tmp_path: Path) -> None:
    path = hub_run(run, tmp_path)
    told = run_harness("export", str(path), "--format", "hub", "--to", str(tmp_path), "--source_url", "https://x/y")
    assert told.exit_code == 0
    (entry,) = yaml.safe_load((tmp_path / ".eval_results" / "quiz.yaml").read_text("utf-8"))
    assert entry["dataset"] == {"id": "openai/gsm8k", "task_id": "main"}
    assert entry["value"] == harness.load_run(path).report["tasks"][0]["metrics"][0]["value"]  # type: ignore[index]
    assert entry["source"]["url"] == "https://x/y" and len(entry["date"]) == 10
    assert "exact_match" in entry["notes"] and "n = " in entry["notes"]
    assert (tmp_path / "details" / "quiz.parquet").is_file()


def test_what_was_written_for_the_hub_is_read_back_and_agrees(run: RunFolder, tmp_path: Path) -> None:
    """The values of a run in the folder of its model are those that the next run of it is held against."""
    path = hub_run(run, tmp_path)
    run_harness("export", str(path), "--format", "hub", "--to", str(tmp_path))
    folder = harness.load_run(path)
    report = folder.report
    assert report is not None
    value = report["tasks"][0]["metrics"][0]["value"]
    (entry,) = read_eval_results(tmp_path)
    assert (entry["published"], entry["task_id"]) == (value, "main")
    manifest = {**folder.manifest, "model": {"name": "hf", "args": {"pretrained": str(tmp_path)}}}
    note_published(report, manifest)
    published = report["tasks"][0]["published"]
    assert (published["verdict"], published["difference"]) == ("agrees", 0)


def test_a_part_of_a_task_is_written_for_the_hub_only_when_asked_for(run: RunFolder, tmp_path: Path) -> None:
    path = hub_run(run, tmp_path)
    report = json.loads((path / "report.json").read_text("utf-8"))
    report["tasks"][0]["covers"] |= {"rows": 3, "of_rows": 10}
    (path / "report.json").write_text(json.dumps(report), "utf-8")
    command = ("export", str(path), "--format", "hub", "--to", str(tmp_path))
    told = run_harness(*command)
    assert "quiz: left out of the hub's results: only 3 of 10 rows were asked (--partial" in told.stdout
    assert not (tmp_path / ".eval_results").exists()
    run_harness(*command, "--partial")
    (entry,) = yaml.safe_load((tmp_path / ".eval_results" / "quiz.yaml").read_text("utf-8"))
    assert "PARTIAL, 3 of 10 rows" in entry["notes"]


def test_what_the_hub_cannot_place_is_said(run: RunFolder, tmp_path: Path) -> None:
    told = run_harness("export", str(run.path), "--format", "hub", "--to", str(tmp_path))
    assert "quiz: left out of the hub's results: its rows are not of the hub" in told.stdout
    assert not (tmp_path / ".eval_results").exists()


def test_every_eval_ever_gets_what_its_schema_asks_for(run: RunFolder, tmp_path: Path) -> None:
    arguments = ("--format", "every_eval_ever", "--to", str(tmp_path), "--organization", "Lab")
    told = run_harness("export", str(run.path), *arguments, "--relationship", "first_party")
    assert "quiz: 1 samples without a score are left out" in told.stdout
    (file,) = tmp_path.rglob("*.json")
    made = json.loads(file.read_text("utf-8"))
    needed = {"schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "eval_library", "model_info"}
    assert needed | {"evaluation_results"} <= made.keys() and made["schema_version"] == SCHEMA_VERSION == "0.3.0"
    assert made["source_metadata"]["evaluator_relationship"] == "first_party"
    (result,) = made["evaluation_results"]
    assert {"evaluation_name", "source_data", "metric_config", "score_details"} <= result.keys()
    assert result["metric_config"]["lower_is_better"] is False
    assert {"min_score", "max_score"} <= result["metric_config"].keys()
    details = result["score_details"]
    assert all(isinstance(text, str) for text in details["details"].values()) and details["details"]["failed"] == "1"
    assert details["uncertainty"]["num_samples"] == 2
    assert result["generation_config"]["generation_args"]["max_tokens"] == 8
    samples = made["detailed_evaluation_results"]
    lines = [json.loads(line) for line in (tmp_path / samples["file_path"]).read_text("utf-8").splitlines()]
    assert len(lines) == samples["total_rows"] == 2
    assert samples["additional_details"] == {"unscored_samples": "1"}
    assert [line["evaluation"]["is_correct"] for line in lines] == [True, False]
    assert all(line["evaluation_id"] == made["evaluation_id"] and line["messages"] is None for line in lines)


def test_the_same_run_is_written_to_the_same_files(run: RunFolder, tmp_path: Path) -> None:
    for _ in range(2):
        run_harness("export", str(run.path), "--format", "every_eval_ever", "--to", str(tmp_path))
    assert len(list(tmp_path.rglob("*.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to write: --parquet FILE"),
        (("--format", "hub"), "say where to, as in --to upload"),
        (("--format", "hbu", "--to", "x"), "hbu"),
    ],
)
def test_an_export_without_a_place_is_one_line(run: RunFolder, arguments: tuple[str, ...], message: str) -> None:
    told = run_harness("export", str(run.path), *arguments)
    assert told.exit_code == 4 and message in told.stderr and len(told.stderr.strip().splitlines()) == 1


def test_a_chart_is_a_figure_that_a_notebook_shows(run: RunFolder) -> None:
    figure = harness.plot_scores([run.path])
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    with pytest.raises(harness.UsageError, match="a radar needs 3 abilities, and these runs have 0"):
        harness.plot_abilities(run.path)
