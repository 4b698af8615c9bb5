"""Why samples failed: told with the table, counted in the report, and an end of the run where all fail alike."""

from __future__ import annotations

import json
import os
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import Metric, Model, Observation, Request, Response, hookimpl
from harness.cli.report import print_report
from harness.errors import ExitCode, ModelError, PluginError, UsageError
from harness.registry import Registry, load_plugins
from harness.run.early_stop import ALIKE, ALIKE_REPLIES
from harness.run.result import load_run
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec
from harness.words import Phrase

ROWS = 3 * ALIKE


class Echo(Model):
    """Answers with the question; `refuse` says which one is an error instead."""

    name = "echo"
    supports = frozenset({"generate"})
    refuse: Callable[[str], str | None] = staticmethod(lambda text: None)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            error = type(self).refuse(request.prompt.text)
            yield index, Response(error=error) if error else Response(text=request.prompt.text)


class Fragile(Metric):
    """Exact match that does what the test wants."""

    name = "fragile"
    trouble: Callable[[str], None] = staticmethod(lambda text: None)

    def score(self, seen: Observation) -> float:
        type(self).trouble(str(seen.predictions[0]))
        return 1.0


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = load_plugins()
    module = types.ModuleType("fragile_plugin")
    module.harness_models = hookimpl(lambda: [Echo])  # type: ignore[attr-defined]
    module.harness_metrics = hookimpl(lambda: [Fragile])  # type: ignore[attr-defined]
    found.register(module, package="fragile", name="fragile")
    monkeypatch.setattr(Echo, "refuse", staticmethod(lambda text: None))
    monkeypatch.setattr(Fragile, "trouble", staticmethod(lambda text: None))
    return found


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    rows = [{"q": str(number)} for number in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "t.yaml").write_text(
        "task: t\ndataset_path: rows.jsonl\ntest_split: test\ndoc_to_text: q\ndoc_to_target: q\n"
        "metric_list: [{metric: fragile}]\n"
    )
    return RunSpec((str(tmp_path / "t.yaml"),), "echo", output=str(tmp_path / "runs"))


def test_the_commonest_causes_are_counted_and_told(
    registry: Registry, spec: RunSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(text: str) -> str | None:
        number = int(text)
        return f"timed out after {number}.5 s (request 'r{number}')" if number % 3 else "" if number % 2 else "too long"

    Echo.refuse = staticmethod(refuse)
    result = run(spec, registry)
    assert result.exit_code is ExitCode.SAMPLES_FAILED
    (task,) = result.report["tasks"]
    assert task["failures"] == [
        {"n": 40, "message": "timed out after 1.5 s (request 'r1')"},
        {"n": 10, "message": "too long"},
    ]
    print_report(result.report, result.path)
    assert capsys.readouterr().err.splitlines()[:3] == [
        "50 samples failed, and the same command tries them again:",
        "  40 of t: timed out after 1.5 s (request 'r1')",
        "  10 of t: too long",
    ]


@pytest.mark.parametrize("error", [ValueError("no luck"), SystemExit(3)])
def test_an_exception_says_its_type_its_message_its_file_and_its_line(
    registry: Registry, spec: RunSpec, error: BaseException
) -> None:
    def trouble(text: str) -> None:
        if text == "7":
            raise error

    Fragile.trouble = staticmethod(trouble)
    result = run(spec, registry)
    (failed,) = [record for record in result.samples() if record.error]
    line = trouble.__code__.co_firstlineno + 2
    assert failed.error == f"metric fragile: {type(error).__name__}: {error} ({__file__}:{line})"


def test_a_metric_that_fails_the_first_samples_alike_ends_the_run(registry: Registry, spec: RunSpec) -> None:
    def trouble(text: str) -> None:
        raise KeyError(f"field {text}")

    Fragile.trouble = staticmethod(trouble)
    with pytest.raises(PluginError, match=f"t: the first {ALIKE} samples all fail alike.*KeyError: 'field") as caught:
        run(spec, registry)
    assert caught.value.exit_code is ExitCode.INTERRUPTED
    (folder,) = Path(spec.output).iterdir()
    assert len(list(load_run(folder).records())) == ALIKE

    Fragile.trouble = staticmethod(lambda text: None)
    counts = run(spec, registry).report["tasks"][0]["counts"]
    assert (counts["n"], counts["failed"]) == (ROWS, 0)


def test_one_sample_that_does_not_fail_so_is_enough_to_go_on(registry: Registry, spec: RunSpec) -> None:
    def trouble(text: str) -> None:
        if text != "0":
            raise KeyError("field")

    Fragile.trouble = staticmethod(trouble)
    assert run(spec, registry).report["tasks"][0]["counts"]["failed"] == ROWS - 1


def test_replies_that_fail_each_for_its_own_length_are_asked_to_the_end(registry: Registry, spec: RunSpec) -> None:
    Echo.refuse = staticmethod(lambda text: f"the request is {text} tokens longer than the window")
    assert run(spec, registry).report["tasks"][0]["counts"]["failed"] == ROWS


def test_replies_that_all_fail_for_one_cause_end_the_run_and_leave_no_folder(registry: Registry, spec: RunSpec) -> None:
    Echo.refuse = staticmethod(lambda text: "401 unauthorized")
    with pytest.raises(ModelError, match=f"the first {ALIKE_REPLIES} requests all fail alike.*: 401 unauthorized"):
        run(spec, registry)
    assert not list(Path(spec.output).iterdir())

    Echo.refuse = staticmethod(lambda text: None if text == "0" else "401 unauthorized")
    assert run(spec, registry).report["tasks"][0]["counts"]["failed"] == ROWS - 1
    assert run(spec, registry).report["tasks"][0]["counts"]["failed"] == ROWS - 1  # asked again, and to the end


def test_a_model_that_raises_says_in_which_line(registry: Registry, spec: RunSpec) -> None:
    def trouble(text: str) -> str | None:
        raise KeyError("field")

    Echo.refuse = staticmethod(trouble)
    line = trouble.__code__.co_firstlineno + 1
    with pytest.raises(ModelError, match=re.escape(f"model 'echo' stopped: KeyError: 'field' ({__file__}:{line})")):
        run(spec, registry)


class Panic(BaseException):
    """As code in Rust ends in Python: no `Exception`."""


@pytest.mark.parametrize("kind", [Panic, SystemExit])
def test_what_is_no_exception_fails_its_sample_alone(
    registry: Registry, spec: RunSpec, kind: type[BaseException]
) -> None:
    def trouble(text: str) -> None:
        if text == "5":
            raise kind("index out of bounds")

    Fragile.trouble = staticmethod(trouble)
    (task,) = run(spec, registry).report["tasks"]
    assert (task["counts"]["n"], task["counts"]["failed"]) == (ROWS, 1)


@pytest.mark.parametrize("kind", [Panic, SystemExit])
def test_a_model_that_ends_by_no_exception_is_one_line(
    registry: Registry, spec: RunSpec, kind: type[BaseException]
) -> None:
    def trouble(text: str) -> str | None:
        raise kind("gone")

    Echo.refuse = staticmethod(trouble)
    with pytest.raises(ModelError, match=f"model 'echo' stopped: {kind.__name__}: gone"):
        run(spec, registry)


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_a_model_that_cannot_be_closed_costs_nothing(
    registry: Registry, spec: RunSpec, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lines(Progress):
        def message(self, text: str | Phrase) -> None:
            told.append(str(text))

    def close(model: Model) -> None:
        raise kind("the connection is gone")

    told: list[str] = []
    monkeypatch.setattr(Echo, "close", close)
    (task,) = run(spec, registry, Lines()).report["tasks"]
    assert task["counts"]["n"] == ROWS
    assert any(f"model 'echo' could not be closed: {kind.__name__}: the connection is gone" in line for line in told)


def test_a_metric_that_ends_the_process_as_it_is_made_is_one_line(
    registry: Registry, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(metric: Metric) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(Fragile, "__init__", leave)
    with pytest.raises(UsageError, match="metric 'fragile' refuses its options: 3"):
        run(spec, registry)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_copy_that_a_model_forks_does_not_go_on_with_the_run(registry: Registry, spec: RunSpec) -> None:
    def fork(text: str) -> None:
        if text == "5":
            if not os.fork():
                raise SystemExit(0)
            assert os.waitstatus_to_exitcode(os.wait()[1]) == 1

    Echo.refuse = staticmethod(fork)
    result = run(spec, registry)
    assert result.report["tasks"][0]["counts"]["n"] == ROWS
    assert json.loads((result.path / "manifest.json").read_text(encoding="utf-8"))["status"] == "finished"
