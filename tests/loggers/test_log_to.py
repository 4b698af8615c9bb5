"""A run in experiment trackers: what arrives there, and that nothing of theirs touches the run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.registry import Registry, load_plugins
from harness.run.log import LogError, LogTarget, send, targets_of
from harness.run.runner import run
from harness.run.spec import RunSpec
from harness.secret import Secret
from harness.testing import run_harness

STAND_IN = Path(__file__).parent / "stand_in"
KEY = "sk-not-to-be-seen"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_plugins()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Path:
    spec = RunSpec(("demo_choice_zh",), "dummy", limit=2, output=str(tmp_path_factory.mktemp("runs")))
    return run(spec, registry).path


@pytest.fixture
def ended(tmp_path: Path, finished: Path) -> Path:
    """A run of the test's own, that no tracker knows."""
    import shutil

    return Path(shutil.copytree(finished, tmp_path / finished.name))


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the stand-in for W&B was told: a function that reads it."""
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "calls"))
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    path = tmp_path / "calls"
    return lambda: [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def test_tensorboard_reads_back_every_score_with_its_error(ended: Path, registry: Registry, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    is_new, where = send(ended, LogTarget("tensorboard", {"dir": str(tmp_path / "logs")}), registry)
    events = EventAccumulator(where)
    events.Reload()
    seen = {tag: make_ndarray(events.Tensors(tag)[0].tensor_proto) for tag in events.Tags()["tensors"]}
    report = json.loads((ended / "report.json").read_text("utf-8"))
    for metric in report["tasks"][0]["metrics"]:
        name = f"demo_choice_zh/{metric['metric']}"
        assert seen[name] == pytest.approx(metric["value"])
        assert seen[f"{name}_stderr"] == pytest.approx(metric["stderr"])
    assert seen["demo_choice_zh/n"] == 10
    assert str(seen["samples"].item(), "utf-8").count("\n") == 11  # a header, and all ten
    assert is_new and Path(where).is_dir()


def test_a_tracker_gets_nothing_twice_and_goes_on_in_one_run(
    ended: Path, registry: Registry, calls: Any, tmp_path: Path
) -> None:
    target = LogTarget("wandb", {"project": "P", "api_key": Secret(KEY)})
    assert send(ended, target, registry)[0]
    assert not send(ended, target, registry)[0]
    # The key comes from the environment the next time: it is the same place for all that.
    assert not send(ended, LogTarget("wandb", {"project": "P"}), registry)[0]
    assert send(ended, LogTarget("wandb", {"project": "P", "samples": 3}), registry)[0]
    inits = [call for call in calls() if call["what"] == "init"]
    assert len(inits) == 2 and inits[0]["id"] == inits[1]["id"] and inits[0]["resume"] == "allow"
    assert inits[0]["settings"]["api_key"] == KEY
    last = [call for call in calls() if call["what"] == "log"][-1]
    assert len(last["tables"]["samples"][1]) == 3
    assert [target.name for target in targets_of(ended)] == ["wandb"]
    assert KEY not in "".join(path.read_text("utf-8") for path in ended.rglob("*.json"))


@pytest.mark.parametrize(("mode", "steps"), [("online", [None, None]), ("offline", [0, 1])])
def test_an_offline_run_that_goes_on_has_later_steps(
    ended: Path, registry: Registry, calls: Any, mode: str, steps: list[int | None]
) -> None:
    """Each offline run of W&B begins at step 0, and a sync puts those of one id together."""
    for samples in (3, 4):
        send(ended, LogTarget("wandb", {"mode": mode, "samples": samples}), registry)
    assert [call["step"] for call in calls() if call["what"] == "log"] == steps
    assert len({call["id"] for call in calls() if call["what"] == "init"}) == 1


def test_another_project_is_another_run_of_the_tracker(ended: Path, registry: Registry, calls: Any) -> None:
    for project in ("P", "Q"):
        send(ended, LogTarget("wandb", {"project": project}), registry)
    assert len({call["id"] for call in calls() if call["what"] == "init"}) == 2


def test_a_value_that_nobody_answered_for_is_left_out_and_counted(
    ended: Path, registry: Registry, calls: Any, tmp_path: Path
) -> None:
    path = ended / "report.json"
    report = json.loads(path.read_text("utf-8"))
    report["tasks"][0]["metrics"][0] |= {"value": None, "stderr": None, "interval": None, "n": 0}
    report["tasks"][0]["counts"]["failed"] = 10
    path.write_text(json.dumps(report), "utf-8")
    send(ended, LogTarget("wandb", {}), registry)
    (values,) = [call["values"] for call in calls() if call["what"] == "log"]
    assert "demo_choice_zh/acc" not in values
    assert values["demo_choice_zh/failed"] == 10


def test_a_tracker_that_fails_gets_it_later(
    ended: Path, registry: Registry, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "raise")
    with pytest.raises(LogError, match="wandb did not take the run: ConnectionError: no such host"):
        send(ended, LogTarget("wandb", {}), registry)
    monkeypatch.delenv("STAND_IN_FAILS")
    again = run_harness("log", str(ended))
    assert again.exit_code == 0 and "wandb: sent: https://wandb.example/" in again.stdout
    assert "has everything already" in run_harness("log", str(ended)).stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("wanbd", "unknown logger 'wanbd'; did you mean 'wandb'?"),
        ("tensorboard,dri=logs", "logger 'tensorboard' takes no option 'dri'; did you mean 'dir'? (it takes: dir)"),
        ("wandb,mode=of", "mode should be one of online, offline, not 'of'"),
        ("tensorboard,wait=long", "wait is a number of at least 0, not 'long'"),
        ("project=P", "does not begin with the name of a logger (as in wandb,project=NAME)"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(given: str, message: str, tmp_path: Path) -> None:
    told = run_harness("--tasks", "demo_choice_zh", "--model", "dummy", "--output", str(tmp_path), "--log_to", given)
    assert told.exit_code == 4
    assert message in told.stderr and len(told.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_not_there_is_named_with_its_extra(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.logger.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package swanlab: pip install 'harness-eval\[swanlab\]'"):
        LogTarget("swanlab").make(registry)


def test_a_run_says_where_it_is_and_a_tracker_that_hangs_holds_nobody_up(
    tmp_path: Path, calls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "hang")
    config = tmp_path / "eval.yaml"
    config.write_text(
        "tasks: demo_choice_zh\nmodel: dummy\nlimit: 1\nlog_to:\n"
        f"  - wandb: {{api_key: {KEY}, wait: 0.5}}\n  - tensorboard: {{dir: {tmp_path / 'logs'}}}\n",
        encoding="utf-8",
    )
    done = run_harness("--config", str(config), "--output", str(tmp_path / "runs"))
    assert done.exit_code == 0
    (path,) = (tmp_path / "runs").iterdir()
    assert f"wandb has not taken the results; to send what it missed: harness log {path} --to wandb,wait=0.5" in (
        done.stderr
    )
    assert f"tensorboard: this run is at {tmp_path / 'logs' / path.name}" in done.stderr
    assert KEY not in (path / "manifest.json").read_text("utf-8") + done.stderr
    assert {target.name for target in targets_of(path)} >= {"tensorboard"}
