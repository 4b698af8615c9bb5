"""What ends a run before its end: a full disk, a full output, a model that goes away. Exit code 2, and how to go on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import ModelError, Request, Response
from harness.registry import load_plugins
from harness.testing import run_harness

ARGV = ("--tasks", "sums.yaml", "--model", "dummy", "--model_args", "mode=random")
LIMITED = """\
import resource, sys
from harness.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""


@pytest.fixture(autouse=True)
def _a_task_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    write_rows(8)
    Path("sums.yaml").write_text(
        "task: sums\ndataset_path: sums.jsonl\ntest_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{ question }}"\ndoc_to_choice: ["even", "odd"]\ndoc_to_target: "{{ answer }}"\n'
        "metric_list: [{metric: acc}]\n",
        encoding="utf-8",
    )


def write_rows(count: int) -> None:
    rows = [{"question": f"{n}+{n}=", "answer": n % 2} for n in range(count)]
    Path("sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def with_file_size(limit: int, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose files may not grow beyond so many bytes, which ends a write as a full disk does."""
    command = [sys.executable, "-c", LIMITED, str(limit), *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def scores(path: Path) -> Any:
    return [json.loads(line)["scores"] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("rows", "file"),
    [
        (240, "sums.jsonl"),
        pytest.param(8, "manifest.json", marks=pytest.mark.slow),
        pytest.param(24, "report.html", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_stops_a_run_that_then_goes_on(rows: int, file: str) -> None:
    write_rows(rows)
    assert run_harness(*ARGV, "--output", "clean").exit_code == 0
    (clean,) = Path("clean").iterdir()
    sizes = {path.name: path.stat().st_size for path in clean.iterdir()}
    if file != "manifest.json":
        assert max(sizes, key=lambda name: sizes[name]) == file
    done = with_file_size(300 if file == "manifest.json" else sizes[file] - 200, *ARGV)
    assert done.returncode == 2
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: runs/")
    assert f"{file}: cannot be written: File too large; raise the file size limit (`ulimit -f`)" in error
    assert "Traceback" not in done.stderr
    if file != "manifest.json":  # before, there is nothing to go on with
        assert error.endswith("go on with: harness --tasks sums.yaml --model dummy --model_args mode=random")
    again = run_harness(*ARGV)
    assert again.exit_code == 0
    (folder,) = Path("runs").iterdir()
    assert scores(folder / "sums.jsonl") == scores(clean / "sums.jsonl")
    assert len(scores(folder / "sums.jsonl")) == rows
    report, wanted = (json.loads((path / "report.json").read_text(encoding="utf-8")) for path in (folder, clean))
    assert report["tasks"][0]["metrics"] == wanted["tasks"][0]["metrics"]


def test_a_full_disk_while_scoring_again_leaves_the_old_scores() -> None:
    write_rows(60)
    assert run_harness(*ARGV).exit_code == 0
    (folder,) = Path("runs").iterdir()
    before = {path.name: path.read_bytes() for path in folder.glob("[!.]*")}
    done = with_file_size(5_000, "score", str(folder))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.glob("[!.]*")} == before


OTHERS = (("tasks",), ("schema",), ("show", "sums.yaml", "--model", "dummy"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="runs where there is a /dev/full")
@pytest.mark.parametrize("argv", [ARGV, *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)])
def test_an_output_that_cannot_be_written_is_one_line(argv: Sequence[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "harness", *argv]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: the output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("answers", "code"), [(0, 4), (3, 2)])
def test_a_model_that_goes_away_can_be_gone_on_with_once_it_answered(
    monkeypatch: pytest.MonkeyPatch, answers: int, code: int
) -> None:
    model = load_plugins().model("dummy")
    respond = model.respond

    def goes(self: Any, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for count, answer in enumerate(respond(self, requests)):
            if count == answers:
                raise ModelError("the server is gone")
            yield answer

    monkeypatch.setattr(model, "respond", goes)
    done = run_harness(*ARGV)
    assert done.exit_code == code
    assert "error: the server is gone" in done.stderr
    assert ("go on with: harness --tasks sums.yaml" in done.stderr) is (code == 2)


@pytest.mark.parametrize("place", ["rows.txt", "rows.txt/below", "rows.txt/x.json"])
def test_an_output_path_that_is_a_file_is_refused_before_anything_runs(place: str) -> None:
    Path("rows.txt").touch()
    done = run_harness(*ARGV, "--output_path", place)
    assert done.exit_code == 4
    assert f"--output_path {place}: " in done.stderr
    assert not Path("runs").exists()
