"""Streams that are closed or full, an early Ctrl-C, and files that are no files: one line each, and no traceback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HARNESS = shutil.which("harness", path=str(Path(sys.executable).parent)) or "harness"
TASK = """\
task: sums
dataset_path: sums.jsonl
test_split: test
doc_to_text: "{{ q }} ="
doc_to_target: "{{ a }}"
metric_list: [{metric: exact_match}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sums.yaml").write_text(TASK, encoding="utf-8")
    (tmp_path / "sums.jsonl").write_text('{"q": "1 + 1", "a": "2"}\n', encoding="utf-8")
    return tmp_path


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    line = line.replace("RUN", f"{HARNESS} --tasks sums.yaml --model dummy --model_args mode=gold")
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("RUN >&-", 0),
        ("RUN 2>&-", 0),
        ("RUN >&- 2>&-", 0),
        ("RUN 2>/dev/full", 0),
        ("RUN >/dev/full", 2),
        (f"{HARNESS} report nowhere 2>/dev/full", 4),
        (f"{HARNESS} report nowhere 2>&-", 4),
    ],
)
def test_streams_that_cannot_be_written_cost_no_run(folder: Path, line: str, code: int) -> None:
    done = shell(folder, line)
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr
    if "report" not in line:
        assert len(list(folder.glob("runs/*/sums.jsonl"))) == 1
        assert (next(folder.glob("runs/*/sums.jsonl")).read_bytes()).startswith(b'{"task": "sums"')


@pytest.mark.parametrize("later", [0.0, 0.05, 0.2])
def test_ctrl_c_at_the_start_leaves_no_traceback(folder: Path, later: float) -> None:
    command = [HARNESS, "--tasks", "sums.yaml", "--model", "dummy"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_interrupts)
    for state in (True, False):  # until the interpreter has its own handler, and the program has taken it away
        while process.poll() is None and catches_interrupts(process.pid) is not state:
            time.sleep(0.001)
    time.sleep(later)
    had_ended = process.poll() == 0  # on a machine as fast as that
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert process.returncode in (2, -signal.SIGINT) or had_ended


def heeds_interrupts() -> None:
    """What is started in the background by a shell ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def catches_interrupts(process: int) -> bool:
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.parametrize(
    "name",
    [
        "sums.jsonl",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("manifest.json", "prompts.jsonl", "report.json")),
    ],
)
@pytest.mark.parametrize(
    "command", ["RUN", *(pytest.param(name, marks=pytest.mark.slow) for name in ("score", "report", "compare"))]
)
def test_a_pipe_in_the_place_of_a_file_is_named_at_once(folder: Path, name: str, command: str) -> None:
    assert shell(folder, "RUN").returncode == 0
    (run,) = (folder / "runs").iterdir()
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    line = command if command == "RUN" else f"{HARNESS} {command} {run}" + f" {run}" * (command == "compare")
    done = shell(folder, f"timeout 30 {line}" if command != "RUN" else line)
    assert "Traceback" not in done.stdout + done.stderr
    if name == "report.json" and command in ("RUN", "score"):
        assert done.returncode == 0  # it is written anew
    else:
        assert done.returncode == 4
        assert f"{name}: " in done.stderr
        assert "no regular file" in done.stderr
