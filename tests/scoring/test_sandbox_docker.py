"""The docker sandbox against a client of docker that is a script: what it is asked, and what becomes of its failures.

The script writes down how it was called. Where it is told to work, it starts the runner as a container would.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import MetricOptions, Observation, Response, Sample, Undecided
from harness.errors import MachineError
from harness.scoring import sandbox
from harness.scoring.sandbox import Limits, execute
from harness.testing import run_harness
from harness_plugins.metrics.code import PassAtK

CLIENT = """\
#!{python}
import json, os, pathlib, signal, sys, time
here = pathlib.Path({here!r})
plan = json.loads((here / "plan.json").read_text())
argv = sys.argv[1:]
with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({{"argv": argv, "folder": sorted(os.listdir())}}) + chr(10))
if argv[0] == "kill":
    os.kill(int((here / "pid").read_text()), signal.SIGTERM)
    sys.exit(0)
(here / "pid").write_text(str(os.getpid()))
if plan.get("says"):
    print(plan["says"], file=sys.stderr)
    sys.exit(plan.get("code", 125))
if plan.get("hangs"):
    print(plan["hangs"], file=sys.stderr, flush=True)
    time.sleep(600)
image = next(i for i, word in enumerate(argv[1:], 1) if not word.startswith("-"))
assert argv[image + 1] == "python"
os.execv(sys.executable, [sys.executable, *argv[image + 2:]])
"""


class Docker:
    """What the script is to do, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        client = folder / "docker"
        client.write_text(CLIENT.format(python=sys.executable, here=str(folder)), encoding="utf-8")
        client.chmod(client.stat().st_mode | stat.S_IXUSR)
        self.plan()

    def plan(self, **plan: Any) -> None:
        (self.folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")

    @property
    def calls(self) -> list[dict[str, Any]]:
        file = self.folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []

    def options(self) -> list[str]:
        """The options of the last `docker run`."""
        argv = [call["argv"] for call in self.calls if call["argv"][0] == "run"][-1]
        return argv[1 : next(index for index, word in enumerate(argv[1:], 1) if not word.startswith("-"))]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HARNESS_SANDBOX", "docker")
    monkeypatch.delenv("HARNESS_SANDBOX_IMAGE", raising=False)
    execute._problem.cache_clear()
    yield Docker(tmp_path)
    execute._problem.cache_clear()


def test_programs_pass_and_fail_in_a_container(docker: Docker) -> None:
    outcomes = list(sandbox.run_programs(["print('你好')", "assert 1 == 2, 'no'", "import os; os._exit(0)"]))

    assert [outcome.passed for outcome in outcomes] == [True, False, False]
    assert outcomes[0].output == "你好\n"
    assert [outcome.reason for outcome in outcomes[1:]] == ["AssertionError: no", "ended before its end (exit code 0)"]
    # Containers that end by themselves are not killed.
    assert {call["argv"][0] for call in docker.calls} == {"run"}


def test_a_container_reaches_nothing(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a secret")
    limits = Limits(memory=512 << 20, space=8 << 20, processes=5)
    assert sandbox.run_program("pass", limits).passed

    options = docker.options()
    assert {
        "--rm", "--interactive", "--init", "--pull=never", "--network=none", "--read-only", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", "--user=65534:65534", "--ipc=private", f"--shm-size={256 << 20}",
        "--log-driver=none",
        f"--memory={512 << 20}", f"--memory-swap={512 << 20}", "--pids-limit=8",
        f"--tmpfs=/tmp:rw,nosuid,nodev,size={8 << 20}",
    } <= {*options}  # fmt: skip
    refused = ("-v", "--volume", "--mount", "--privileged", "--cap-add", "--device", "--env-file", "--publish", "--pid")
    assert not [option for option in options if option.split("=")[0] in refused]
    assert [option for option in options if option.startswith("--network")] == ["--network=none"]
    assert not any("secret" in word for call in docker.calls for word in call["argv"])
    # The client itself works in an empty folder.
    assert all(call["folder"] == [] for call in docker.calls)


def test_the_image_is_that_of_the_environment(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted, image in (("registry.local/py:1", "registry.local/py:1"), ("", "python:3.11-slim")):
        monkeypatch.setenv("HARNESS_SANDBOX_IMAGE", wanted)
        assert sandbox.run_program("pass").passed
        argv = docker.calls[-1]["argv"]
        assert argv[argv.index("python") - 1] == image


def test_each_container_has_a_name_of_its_own(docker: Docker) -> None:
    list(sandbox.run_programs(["pass"] * 3))
    names = [word for call in docker.calls for word in call["argv"] if word.startswith("--name=")]
    assert len(names) == len(set(names)) == 4  # a first one for the try


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (
            "docker: Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?\n\n"
            "Run 'docker run --help' for more information",
            "docker: Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?",
        ),
        (
            "Unable to find image 'python:3.11-slim' locally\n"
            "docker: Error response from daemon: No such image: python:3.11-slim.\nSee 'docker run --help'.",
            "docker: Error response from daemon: No such image: python:3.11-slim",
        ),
        (
            'docker: Error response from daemon: failed to create task: exec: "python": executable file not found',
            'docker: Error response from daemon: failed to create task: exec: "python": executable file not found',
        ),
        (
            "Traceback:\n  File\nModuleNotFoundError: No module named 'json'",
            "ModuleNotFoundError: No module named 'json'",
        ),
    ],
)
def test_a_docker_that_does_not_work_is_one_line_before_anything_is_asked(
    docker: Docker, says: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.plan(says=says)
    with pytest.raises(MachineError) as caught:
        sandbox.usable()

    remedy = "start docker and pull the image (HARNESS_SANDBOX_IMAGE), or choose another --sandbox"
    assert str(caught.value) == f"programs cannot be run safely here: {told}; {remedy}"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"ask": "f"}\n', encoding="utf-8")
    (tmp_path / "inc.yaml").write_text(
        "task: inc\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: generate_until\n"
        "doc_to_text: '{{ask}}'\ndoc_to_target: x\nmetric_list: [{metric: pass_at_k, program: '{{reply}}'}]\n",
        encoding="utf-8",
    )
    done = run_harness("--tasks", "inc.yaml", "--model", "dummy", "--sandbox", "docker")
    assert done.exit_code == 4
    assert done.stderr == f"error: inc.yaml:7: metric 'pass_at_k': {caught.value}\n"
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_program_that_is_late_is_killed_by_the_name_of_its_container(docker: Docker) -> None:
    outcome = sandbox.run_program("import time; time.sleep(600)", Limits(seconds=1, patience=1))

    assert (outcome.passed, outcome.reason, outcome.decided) == (False, "out of time", True)
    run, kill = (call["argv"] for call in docker.calls[-2:])
    assert kill == ["kill", next(word for word in run if word.startswith("--name=")).removeprefix("--name=")]


@pytest.mark.slow
def test_a_container_that_never_stands_is_killed_too(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sandbox.usable() == "docker"
    monkeypatch.setattr(execute, "_STARTING", 2.0)
    docker.plan(hangs="waiting for the daemon")
    outcome = sandbox.run_program("pass")

    assert (outcome.passed, outcome.decided) == (False, False)
    assert outcome.reason == "the sandbox did not start: waiting for the daemon"
    assert docker.calls[-1]["argv"][0] == "kill"


def test_a_daemon_that_goes_away_fails_samples_and_scores_none_of_them(docker: Docker) -> None:
    metric = PassAtK("{{reply}}")
    metric.prepare(MetricOptions())
    seen: Callable[[str], Observation] = lambda reply: Observation(  # noqa: E731
        Sample("t", "", 0, {}, (), ""), (Response(text=reply),), (), (reply,)
    )
    assert metric.score(seen("x = 1")) == 1.0

    docker.plan(says="docker: Cannot connect to the Docker daemon. Is the docker daemon running?")
    with pytest.raises(Undecided, match=r"the sandbox did not start: docker: Cannot connect"):
        metric.score(seen("x = 2"))
    docker.plan()
    assert metric.score(seen("x = 2")) == 1.0  # and is not remembered as a failure of the program
