"""A worker that dies costs nothing but time, and the report says which it was; when all die, the run goes on later."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from harness import ModelError, Record, evaluate
from harness.engine import TorchModel
from harness.engine.limits import EngineLimits
from harness.engine.worker_failures import WorkerFailure, ending
from harness.record.html import report_html
from harness.registry import load_plugins
from harness.run.result import RunResult
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec
from harness.testing import run_harness, tiny_causal_lm

pytestmark = pytest.mark.slow

TASK = """\
task: sums
dataset_path: rows.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "Question: How many apples are left? Answer: 42\\nQuestion: {{question}} Answer:"
doc_to_choice: [" 1", " 42", " 是正确的选项。"]
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}]
"""
ROWS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deaths")
    rows = [{"question": f"{n} + {n * n} = ?", "answer": n % 3} for n in range(ROWS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "sums.yaml").write_text(TASK, encoding="utf-8")
    tiny_causal_lm(folder / "model")
    return folder


def spec(folder: Path, output: str, device: str) -> RunSpec:
    args = {"pretrained": str(folder / "model"), "dtype": "float32"}
    task = str(folder / "sums.yaml")
    return RunSpec(tasks=(task,), model="hf", model_args=args, output=str(folder / output), device=device)


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> RunResult:
    return run(spec(folder, "undisturbed", "cpu"))


class Killer(Progress):
    """Kills workers once some samples are done."""

    def __init__(self, pids: list[int], victims: int, by: signal.Signals = signal.SIGKILL) -> None:
        self.pids, self.victims, self.by, self.done = pids, victims, by, 0

    def sample_done(self, record: Record, headline: str) -> None:
        self.done += 1
        if self.done == 10:
            for pid in self.pids[: self.victims]:
                os.kill(pid, self.by)


@pytest.fixture
def pids(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes of the workers, as they start. Their pieces of work are small, so that each gets several."""
    from harness.engine import workers

    monkeypatch.setattr(TorchModel, "limits", EngineLimits(work_item=64))
    found: list[int] = []
    start = workers._start

    def noted(index: int, device: str) -> Any:
        worker = start(index, device)
        found.append(worker.process.pid)
        return worker

    monkeypatch.setattr(workers, "_start", noted)
    return found


def assert_same(found: RunResult, expected: RunResult) -> None:
    assert found.report["tasks"][0]["metrics"] == expected.report["tasks"][0]["metrics"]
    for one, other in zip(found.samples(), expected.samples(), strict=True):
        assert (one.id, one.scores, one.error) == (other.id, other.scores, None)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_killed_worker_is_named_and_costs_no_sample(folder: Path, undisturbed: RunResult, pids: list[int]) -> None:
    for attempt in range(5):
        pids.clear()
        result = run(spec(folder, f"killed{attempt}", "cpu:0,1"), load_plugins(), Killer(pids, 1))
        assert_same(result, undisturbed)
        (incident,) = result.report["incidents"]
        if incident["returned"]:  # else it had just answered all that it had
            break
    assert (incident["worker"], incident["device"], incident["pid"]) == ("worker 0", "cpu", pids[0])
    assert (incident["signal"], incident["failed"]) == ("SIGKILL", 0)
    assert incident["returned"] > 0
    assert incident["done_by"] == {f"worker 1 (cpu, pid {pids[1]})": incident["returned"]}
    line = f"worker 0 (cpu, pid {pids[0]}) was killed by SIGKILL"
    assert line in " ".join(result.summary().split())
    assert line in report_html(result.report, [])
    # Scored again, and read again, the report still says so.
    assert run_harness("score", str(result.path)).exit_code == 0
    assert line in " ".join(run_harness("report", str(result.path)).stdout.split())


def test_when_all_workers_die_the_run_goes_on_later(folder: Path, undisturbed: RunResult, pids: list[int]) -> None:
    with pytest.raises(ModelError) as error:
        run(spec(folder, "dead", "cpu:0,1"), load_plugins(), Killer(pids, 2))

    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("all workers died: worker ")
    assert all(f"pid {pid}) was killed by SIGKILL" in text for pid in pids)
    (path,) = (folder / "dead").iterdir()
    assert f"what is done is in {path}" in text
    done = (path / "sums.jsonl").read_text(encoding="utf-8").count("\n")
    assert 10 <= done < ROWS

    again = run(spec(folder, "dead", "cpu"))

    assert again.path == path
    assert_same(again, undisturbed)
    assert {incident["pid"] for incident in again.report["incidents"]} == set(pids)


def test_a_run_without_incidents_says_nothing_of_them(undisturbed: RunResult) -> None:
    assert undisturbed.report["incidents"] == []
    assert "On the way" not in report_html(undisturbed.report, [])


def test_what_a_lost_worker_is_called() -> None:
    lost = WorkerFailure("worker 2", "cuda:2", 47, ending(1), 1, returned=5, failed=2)
    lost.done_by("worker 0 (cuda:0, pid 45)", [1, 1, 2])

    assert lost.text == (
        "worker 2 (cuda:2, pid 47) ended with status 1; 5 requests went back to the queue: worker 0 (cuda:0, pid 45) "
        "did 2, 2 failed, for two workers had died of them"
    )
    assert lost.to_dict()["signal"] is None
    assert ending(-signal.SIGSEGV) == "was killed by SIGSEGV"


def test_a_model_of_python_that_knows_no_incidents_runs_as_before(tmp_path: Path) -> None:
    result = evaluate("dummy", {"mode": "gold"}, ["demo_choice_zh"], output=str(tmp_path), limit=1)

    assert result.report["incidents"] == []


def test_a_worker_that_ctrl_c_reaches_ends_without_a_word(
    folder: Path, pids: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    found = run(spec(folder, "interrupted", "cpu:0,1"), load_plugins(), Killer(pids, 1, signal.SIGINT))

    (lost,) = json.loads((found.path / "manifest.json").read_text(encoding="utf-8"))["sessions"][-1]["incidents"]
    assert (lost["pid"], lost["signal"]) == (pids[0], "SIGINT")
    assert "Traceback" not in capfd.readouterr().err
