"""Run folders of version 1 are read, resumed, compared, judged on and scored again.

`version_1/` was written by the commands of the first test at the last version that wrote it; HTML pages, locks and
lists of plugins are left out.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness import evaluate
from harness.cli.main import main
from harness.record.file_types import FORMAT
from harness.record.run import RunFolder

GOLD, FIXED = "runs/2026-11-28-dummy-06ac3f57", "runs/2026-11-28-dummy-6e0551be"
JUDGEMENT = f"{GOLD}/judgements/2026-11-28-correctness_en-dummy-725db067"
RUN = "--tasks task/sums.yaml,task/pick.yaml --model dummy --model_args mode=gold --output runs"
JUDGE = f"judge {GOLD} --rubric correctness_en --model dummy --model_args mode=gold --tasks sums"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = Path(__file__).parent / "version_1"
    shutil.copytree(kept / "task", tmp_path / "task")
    shutil.copytree(kept / "folders", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def harness(command: str) -> Result:
    return CliRunner().invoke(main, command.split())


def tasks(path: str) -> list[dict[str, Any]]:
    """The numbers of a run's report, but for what later versions say in addition, and the time it took."""
    counts = ("n", "failed", "unparsed", "truncated", "empty")
    return [
        {
            "task": task["task"],
            "counts": {name: task["counts"][name] for name in counts},
            "metrics": [
                {name: metric[name] for name in ("metric", "value", "n", "stderr")} for metric in task["metrics"]
            ],
        }
        for task in json.loads(Path(path, "report.json").read_text())["tasks"]
    ]


def test_the_same_command_goes_on_and_asks_nothing() -> None:
    before, records = tasks(GOLD), {file: file.read_bytes() for file in Path(GOLD).glob("*.jsonl")}
    done = harness(RUN)
    assert done.exit_code == 0, done.output
    assert "7 of them on disk already" in done.output
    assert len(list(Path("runs").iterdir())) == 2
    assert tasks(GOLD) == before
    assert {file: file.read_bytes() for file in Path(GOLD).glob("*.jsonl")} == records
    assert json.loads(Path(GOLD, "report.json").read_text())["format"] == FORMAT


def test_only_what_changed_since_is_scored_again() -> None:
    file = Path("task/sums.jsonl")
    file.write_text(file.read_text().replace('"a": "6"', '"a": "66"'))
    done = harness(RUN)
    assert "sums: of 1 sample the row or the scoring has changed since" in done.output
    scores = [record.scores["exact_match@number"] for record in RunFolder.read(Path(GOLD)).records("sums")]
    assert scores == [1.0, 1.0, 1.0, 0.0]


def test_records_and_reports_are_read() -> None:
    run, judgement = RunFolder.read(Path(GOLD)), RunFolder.read(Path(JUDGEMENT))
    assert (run.kind, judgement.kind) == ("run", "judgement")
    assert len(list(run.records())) == 7
    assert len(list(judgement.records())) == 4
    assert (run.messages, judgement.messages) == ([], [])
    for path in (GOLD, JUDGEMENT):
        shown = harness(f"report {path}")
        assert shown.exit_code == 0, shown.output
        assert "sums" in shown.output


def test_runs_are_compared() -> None:
    found = harness(f"compare {GOLD} {FIXED}")
    assert found.exit_code == 0, found.output
    assert "sums: exact_match@number  1.0000  0.2500  -0.7500" in found.output


def test_a_run_is_scored_again() -> None:
    before = tasks(FIXED)
    done = harness(f"score {FIXED}")
    assert done.exit_code == 0, done.output
    assert tasks(FIXED) == before
    refused = harness(f"score {JUDGEMENT}")
    assert refused.exit_code == 4
    assert "holds judgements" in refused.output


def test_judgements_go_on_and_ask_nothing() -> None:
    before = tasks(JUDGEMENT)
    done = harness(JUDGE)
    assert done.exit_code == 0, done.output
    assert "4 of them on disk already" in done.output
    assert len(list(Path(GOLD, "judgements").iterdir())) == 1
    assert tasks(JUDGEMENT) == before


def test_python_finds_them_too() -> None:
    result = evaluate("dummy", {"mode": "gold"}, ["task/sums.yaml", "task/pick.yaml"], output="runs")
    assert result.path == Path(GOLD)
