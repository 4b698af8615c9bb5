"""A whole run, from task files to report, with models that the test controls."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Metric, Model, ModelError, Observation, Request, Response, UsageError, hookimpl
from harness.errors import ExitCode, Interrupted
from harness.registry import Plugin, Registry, load_plugins
from harness.run.open_requests import PendingSample
from harness.run.rescore import score_run
from harness.run.result import load_run
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec

TASK = """\
task: sums
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"]}
metric_list: [{metric: METRIC}]
"""


class Adder(Model):
    """Answers `a+b=`, and does what the test wants on the way."""

    name = "adder"
    supports = frozenset({"generate"})
    asked: list[str] = []  # noqa: RUF012
    before_answer: Any = None

    def __init__(self, weights: str = "v1") -> None:
        self.weights = weights

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"weights": self.weights}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            question = request.prompt.text
            type(self).asked.append(question)
            if type(self).before_answer:
                type(self).before_answer(question)
            left, right = question.rstrip("=").split("+")
            yield index, Response(text=str(int(left) + int(right)))


class Hasty(Adder):
    """Answers the last question first, and the first two wrongly."""

    name = "hasty"

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index in reversed(range(len(requests))):
            yield index, Response(text="no") if index < 2 else next(iter(super().respond([requests[index]])))[1]


class Touchy(Metric):
    """Exact match that raises on one gold."""

    name = "touchy"

    def score(self, seen: Observation) -> float:
        if seen.sample.target == "4":
            raise ValueError("four is unlucky")
        return float(seen.predictions[0] == seen.sample.target)


@pytest.fixture
def registry() -> Registry:
    Adder.asked, Adder.before_answer = [], None
    return make_registry()


def make_registry() -> Registry:
    module = types.ModuleType("adder_plugin")
    module.harness_models = hookimpl(lambda: [Adder, Hasty])  # type: ignore[attr-defined]
    module.harness_metrics = hookimpl(lambda: [Touchy])  # type: ignore[attr-defined]
    registry = load_plugins()
    registry.register(module, package="test-package", name="adder_plugin")
    return registry


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return make_spec(tmp_path, "exact_match")


def make_spec(folder: Path, metric: str, **changes: Any) -> RunSpec:
    rows = [{"question": f"{n}+{n}=", "answer": str(2 * n)} for n in range(5)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    task = folder / "sums.yaml"
    task.write_text(TASK.replace("METRIC", metric), encoding="utf-8")
    return RunSpec(tasks=(str(task),), model="adder", output=str(folder / "runs"), **changes)


def headline(report: Mapping[str, Any]) -> tuple[float | None, int]:
    (metric,) = report["tasks"][0]["metrics"]
    return metric["value"], metric["n"]


def test_a_run_ends_in_a_report_and_a_record_for_every_sample(registry: Registry, spec: RunSpec) -> None:
    result = run(spec, registry)
    assert result.exit_code is ExitCode.OK
    assert headline(result.report) == (1.0, 5)
    assert [(record.id, record.text, record.scores) for record in result.samples("sums")] == [
        (n, str(2 * n), {"exact_match": 1.0}) for n in range(5)
    ]


def test_samples_of_a_task_that_was_not_run_are_an_error(registry: Registry, spec: RunSpec) -> None:
    with pytest.raises(UsageError, match=r"no task 'sum'; did you mean 'sums'\? \(it has: sums\)"):
        run(spec, registry).samples("sum")


def test_an_unknown_task_names_the_plugins_that_are_broken(registry: Registry, spec: RunSpec) -> None:
    registry.plugins.append(Plugin("exams", "exam-package", "1", "exams", "ImportError: no module named 'tables'"))
    with pytest.raises(UsageError, match=r"unknown task 'entrance'.*exams of exam-package: ImportError"):
        run(replace(spec, tasks=("entrance",)), registry)


def test_the_same_command_again_asks_nothing(registry: Registry, spec: RunSpec) -> None:
    first = run(spec, registry)
    Adder.asked.clear()
    again = run(spec, registry)
    assert Adder.asked == []
    assert again.path == first.path
    assert headline(again.report) == (1.0, 5)


def test_error_bars_are_the_same_in_whatever_order_the_answers_came(registry: Registry, tmp_path: Path) -> None:
    spec = dataclasses.replace(make_spec(tmp_path, "chrf"), model="hasty")
    (fresh,), (again,) = (run(spec, registry).report["tasks"][0]["metrics"] for _ in range(2))
    assert fresh["stderr"] > 0
    assert fresh == again


def test_other_weights_never_get_the_old_answers(registry: Registry, spec: RunSpec, tmp_path: Path) -> None:
    first = run(spec, registry)
    Adder.asked.clear()
    second = run(make_spec(tmp_path, "exact_match", model_args={"weights": "v2"}), registry)
    assert len(Adder.asked) == 5
    assert second.path != first.path


def test_a_larger_limit_asks_only_for_what_is_new(registry: Registry, tmp_path: Path) -> None:
    run(make_spec(tmp_path, "exact_match", limit=2), registry)
    Adder.asked.clear()
    result = run(make_spec(tmp_path, "exact_match", limit=4), registry)
    assert Adder.asked == ["2+2=", "3+3="]
    assert headline(result.report) == (1.0, 4)


def test_a_smaller_limit_reports_only_what_was_asked_for(registry: Registry, tmp_path: Path) -> None:
    run(make_spec(tmp_path, "exact_match"), registry)
    assert headline(run(make_spec(tmp_path, "exact_match", limit=2), registry).report) == (1.0, 2)


def test_equal_requests_are_asked_once(registry: Registry, spec: RunSpec, tmp_path: Path) -> None:
    rows = [{"question": "1+1=", "answer": "2"}] * 3
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert headline(run(spec, registry).report) == (1.0, 3)
    assert Adder.asked == ["1+1="]


def test_an_interrupted_run_goes_on_where_it_stopped(registry: Registry, spec: RunSpec) -> None:
    def interrupt(question: str) -> None:
        if question == "3+3=":
            raise KeyboardInterrupt

    Adder.before_answer = staticmethod(interrupt)
    with pytest.raises(Interrupted) as stopped:
        run(spec, registry)
    assert stopped.value.exit_code is ExitCode.INTERRUPTED
    Adder.before_answer = None
    Adder.asked.clear()
    assert headline(run(spec, registry).report) == (1.0, 5)
    assert Adder.asked == ["3+3=", "4+4="]


def test_a_large_run_is_asked_in_parts_and_holds_what_is_open_of_one_part_alone(
    registry: Registry, spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.run.runner.PART", 2)
    numbers = [0, 1, 2, 3, 1, 4, 5, 6, 7]  # 1+1= is asked in the first part, and known in the third
    rows = [{"question": f"{n}+{n}=", "answer": str(2 * n)} for n in numbers]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    still_open = []

    def look(question: str) -> None:
        items = (each for each in gc.get_objects() if type(each) is PendingSample)
        still_open.append(sum(item.job.task.file.parent == tmp_path for item in items))
        if question == "5+5=":
            raise KeyboardInterrupt

    Adder.before_answer = staticmethod(look)
    with pytest.raises(Interrupted):
        run(spec, registry)
    assert Adder.asked == [f"{n}+{n}=" for n in range(6)]
    assert max(still_open) <= 3  # of nine: a part, and the one that was finished last
    Adder.before_answer = None
    Adder.asked.clear()
    in_parts = run(spec, registry)
    assert Adder.asked == ["5+5=", "6+6=", "7+7="]
    assert headline(in_parts.report) == (1.0, 9)
    Adder.asked.clear()
    assert headline(run(spec, registry).report) == (1.0, 9)
    assert Adder.asked == []


def test_a_model_that_raises_is_one_line_and_what_was_done_stays(registry: Registry, spec: RunSpec) -> None:
    def fail(question: str) -> None:
        if question == "2+2=":
            raise RuntimeError("the weights\nare haunted")

    Adder.before_answer = staticmethod(fail)
    with pytest.raises(ModelError, match="model 'adder' stopped: RuntimeError: the weights are haunted"):
        run(spec, registry)
    Adder.before_answer = None
    Adder.asked.clear()
    run(spec, registry)
    assert Adder.asked == ["2+2=", "3+3=", "4+4="]


def test_a_metric_that_raises_fails_that_sample_alone(registry: Registry, tmp_path: Path) -> None:
    result = run(make_spec(tmp_path, "touchy"), registry)
    assert result.exit_code is ExitCode.SAMPLES_FAILED
    assert headline(result.report) == (1.0, 4)
    assert result.report["tasks"][0]["counts"]["failed"] == 1
    (failed,) = [record for record in result.samples() if record.error]
    assert failed.id == 2
    assert "four is unlucky" in str(failed.error)


def test_a_failed_answer_is_asked_for_again(registry: Registry, spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def flaky(self: Adder, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, _ in enumerate(requests):
            yield index, Response(text="0") if index else Response(error="server said 500")

    with monkeypatch.context() as patch:
        patch.setattr(Adder, "respond", flaky)
        first = run(spec, registry)
    assert first.exit_code is ExitCode.SAMPLES_FAILED
    again = run(spec, registry)
    assert Adder.asked == ["0+0="]
    assert again.exit_code is ExitCode.OK


def test_a_request_without_an_answer_is_a_failed_sample(
    registry: Registry, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Adder, "respond", lambda self, requests: iter([(0, Response(text="0"))]))
    result = run(spec, registry)
    assert result.report["tasks"][0]["counts"]["failed"] == 4


def test_an_observer_that_raises_is_reported_once_and_stops_nothing(registry: Registry, spec: RunSpec) -> None:
    class Listener(Progress):
        lines: list[str] = []  # noqa: RUF012

        def message(self, text: str) -> None:
            self.lines.append(text)

    def explode(record: Any) -> None:
        raise OSError("the webhook is gone")

    module = types.ModuleType("observer")
    module.harness_record_written = hookimpl(explode)  # type: ignore[attr-defined]
    registry.register(module, package="test-package", name="observer")
    assert headline(run(spec, registry, Listener()).report) == (1.0, 5)
    assert [line for line in Listener.lines if "webhook" in line] == [
        "plugin observer of test-package: OSError: the webhook is gone"
    ]


def test_a_task_that_the_model_cannot_do_is_refused_before_it_loads(
    registry: Registry, spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Adder, "load", lambda self: pytest.fail("the model was loaded"))
    text = (tmp_path / "sums.yaml").read_text(encoding="utf-8").replace("generate_until", "loglikelihood_rolling")
    (tmp_path / "sums.yaml").write_text(text.replace("exact_match", "word_perplexity"), encoding="utf-8")
    with pytest.raises(UsageError, match="cannot answer task 'sums': it needs rolling"):
        run(spec, registry)


def test_scoring_again_uses_the_task_file_as_it_is_now(registry: Registry, spec: RunSpec, tmp_path: Path) -> None:
    first = run(spec, registry)
    text = (tmp_path / "sums.yaml").read_text(encoding="utf-8").replace('"{{answer}}"', '"{{answer}}0"')
    (tmp_path / "sums.yaml").write_text(text, encoding="utf-8")
    Adder.asked.clear()
    (tmp_path / "rows.jsonl").unlink()
    again = score_run(first.path, registry)
    assert Adder.asked == []
    assert headline(again.report) == (0.0, 5)
    assert [record.target for record in load_run(first.path).records("sums")] == ["00", "20", "40", "60", "80"]


KILLED = """\
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_runner import Adder, make_registry, make_spec, run
Adder.before_answer = staticmethod(lambda question: time.sleep(0.2))
run(make_spec(Path({folder!r}), "exact_match"), make_registry())
"""


def test_after_kill_9_the_same_command_goes_on(registry: Registry, spec: RunSpec, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    expected = run(make_spec(undisturbed, "exact_match"), registry)
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    log = wait_for_lines(tmp_path / "runs", 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = log.read_text(encoding="utf-8").count("\n")
    Adder.asked.clear()
    result = run(make_spec(tmp_path, "exact_match"), registry)
    assert len(Adder.asked) == 5 - done
    assert result.path == log.parent
    assert [(r.id, r.text, r.scores) for r in result.samples()] == [
        (r.id, r.text, r.scores) for r in expected.samples()
    ]


def wait_for_lines(folder: Path, lines: int, process: subprocess.Popen[bytes]) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for log in folder.glob("*/sums.jsonl"):
            if log.read_text(encoding="utf-8").count("\n") >= lines:
                return log
        time.sleep(0.005)
    raise AssertionError("the run wrote nothing in time")
