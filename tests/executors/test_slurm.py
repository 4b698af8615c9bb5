"""Runs as an array of shards, by submitit's own stand-in for Slurm: processes of this machine."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness import HarnessError, MachineError, ModelError, ShardJob, UsageError, load_run
from harness.errors import ExitCode
from harness.record.lock import FolderLock
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec
from harness.words import Phrase
from harness_plugins.executors.slurm import Resumable, Slurm, minutes_of

pytestmark = pytest.mark.filterwarnings("ignore")


class Lines(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str | Phrase) -> None:
        self.said.append(str(text))


def spec(folder: Path, shards: int | None) -> RunSpec:
    executor: Any = None if shards is None else ("slurm", {"shards": shards, "cluster": "local"})
    tasks = ("demo_arithmetic", "demo_choice_zh")
    return RunSpec(tasks=tasks, model="dummy", limit=4, output=str(folder), executor=executor, command="harness ...")


@pytest.mark.slow
def test_an_array_of_shards_leaves_what_one_process_leaves(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    whole = run(spec(tmp_path / "whole", None))
    result = run(spec(tmp_path / "array", 3))
    assert result.path.name == whole.path.name and result.report["tasks"] == whole.report["tasks"]
    for name in ("demo_arithmetic.jsonl", "demo_choice_zh.jsonl", "prompts.jsonl"):
        assert (result.path / name).read_bytes() == (whole.path / name).read_bytes()
    lines = Lines()
    assert run(spec(tmp_path / "array", 3), progress=lines).report["tasks"] == whole.report["tasks"]
    assert not [text for text in lines.said if "slurm" in text]  # all shards are done: nothing is submitted


def test_a_machine_without_slurm_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = replace(spec(tmp_path / "runs", 2), executor=("slurm", {"shards": 2}))
    with pytest.raises(MachineError, match="there is no Slurm on this machine"):
        run(asked)
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.slow
def test_a_shard_that_fails_is_named_with_its_log_and_submitted_again(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    run(replace(spec(tmp_path, None), shard=(2, 2)))
    (shard,) = tmp_path.glob("*-shard-2-of-2-*")
    next(shard.glob("demo_choice_zh.jsonl")).unlink()
    (shard / "report.json").unlink()  # not done, and another process is at it
    lock = FolderLock(shard)
    with pytest.raises(
        ModelError, match=r"1 of 2 shards failed: shard 2 of 2: .* in use by .* \(log: (.*)\)"
    ) as raised:
        run(spec(tmp_path, 2))
    assert raised.value.exit_code == ExitCode.INTERRUPTED and "submits these again" in str(raised.value)
    log = Path(str(raised.value).partition("(log: ")[2].partition(")")[0])
    assert "in use by" in log.read_text(encoding="utf-8")
    lock.release()
    lines = Lines()
    result = run(spec(tmp_path, 2), progress=lines)
    assert any("2 shards, 1 of them done already" in text for text in lines.said)
    assert len(load_run(result.path)) == 24


def test_what_shards_cannot_do_is_refused_in_the_words_of_the_command(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(UsageError, match="--precision does not go with --executor slurm, which cuts the run into shar"):
        run(replace(spec(tmp_path, 2), precision=0.1))
    with pytest.raises(UsageError, match=r"--output_path does not go with --executor slurm.*the same command without"):
        run(replace(spec(tmp_path, 2), output_path=str(tmp_path / "out")))


@dataclass
class Stopped(ShardJob):
    """Waits for a signal at its first start, which ends it as it ends a run; is done at its second."""

    place: str
    part: int = 1
    of: int = 1

    def __call__(self) -> str:
        starts = Path(self.place)
        with starts.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if len(starts.read_text().splitlines()) > 1:
            return ""
        try:
            time.sleep(60)
        except SystemExit:
            return "stopped: SystemExit"  # as a run takes it for a plugin's
        return "nobody stopped it"


@pytest.mark.slow
def test_a_shard_that_is_preempted_goes_back_into_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit")
    from submitit.local.local import LocalJobEnvironment

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the job imports `Stopped`
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=5)
    starts = tmp_path / "starts"
    job = executor.submit(Resumable(), Stopped(str(starts)))
    ends = time.monotonic() + 60
    while not (starts.exists() and starts.read_text()) and time.monotonic() < ends:
        time.sleep(0.1)
    os.kill(int(starts.read_text()), LocalJobEnvironment._usr_sig())  # what Slurm sends before it stops a job
    assert job.result() == "" and len(starts.read_text().splitlines()) == 2


def test_times_are_those_of_slurm_and_what_it_cannot_be_is_a_line(tmp_path: Path) -> None:
    assert [minutes_of(each) for each in (90, "90", "2:00:00", "0:30:10", "1-12", "1-00:00:00", "5:30")] == [
        90, 90, 120, 31, 2160, 1440, 6,
    ]  # fmt: skip
    for given in ("soon", "0", "1:2:3:4", ""):
        with pytest.raises(UsageError, match="time is"):
            minutes_of(given)
    with pytest.raises(UsageError, match="shards is a whole number of at least 1, not '0'"):
        Slurm(shards=0)
    with pytest.raises(UsageError, match="shards is at most 10000, not '99999999999'"):
        Slurm(shards=99_999_999_999)
    for option, value in {"gpus": -1, "cpus": 0, "parallel": 1.5, "restarts": None, "memory": "lots"}.items():
        with pytest.raises(UsageError, match=f"{option} is a .*number .*not '{value}'"):
            Slurm(2, **{option: value})  # type: ignore[arg-type]
    for option in ("setup", "slurm"):
        with pytest.raises(UsageError, match=f"{option} is .*, not '5'"):
            Slurm(2, **{option: 5})  # type: ignore[arg-type]
    assert Slurm(2, partition=3, memory=1.5).parameters["slurm_partition"] == "3"  # type: ignore[arg-type]
    pytest.importorskip("submitit")
    secret = replace(spec(tmp_path, 2), model="openai", model_args={"model": "x", "api_key": "sk-secret"})
    with pytest.raises(UsageError, match="a secret among the arguments would lie in a file of each job") as raised:
        run(secret)
    assert "sk-secret" not in str(raised.value)
    with pytest.raises(HarnessError, match="--shard does not go with --executor slurm"):
        run(replace(spec(tmp_path, 2), shard=(1, 2)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("state", ["NODE_FAIL", "OUT_OF_MEMORY", "CANCELLED by 0", "FAILED"])
def test_a_job_that_leaves_nothing_is_told_with_what_slurm_says_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    submitit = pytest.importorskip("submitit")
    # It waits so long for a result's file to show on a disk that others write to.
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 1)
    programs = {
        "sbatch": "echo Submitted batch job 7",
        "sacct": f"echo 'JobID|State'; echo '7_0|{state}'",
        "srun": "",
        "squeue": "echo 7_1",
        "scancel": "",
    }
    for name, does in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    jobs = [Stopped(str(tmp_path / "starts"), part, 2) for part in (1, 2)]
    ((job, error, log),) = itertools.islice(Slurm(shards=2).run(jobs, tmp_path / "jobs"), 1)
    assert job.part == 1 and log.endswith("7_0_0_log.err")
    assert error == (f"its job ended without a word: cancelled, out of memory, or its node is gone ({state})")
