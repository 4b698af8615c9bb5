"""Files that take the place of others, and what kills leave of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import files

KILLED = """\
import os, signal, sys
from pathlib import Path
from harness import files
with files.replacing(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(path: Path) -> Path:
    """What a process left that was killed while it wrote `path`."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, timeout=60)
    return Path(done.stdout.strip())


@pytest.fixture(autouse=True)
def nothing_cleared_yet() -> None:
    files.clear_left.cache_clear()


def test_what_a_kill_left_is_cleared_by_the_next_that_writes_there(tmp_path: Path) -> None:
    left = killed(tmp_path / "samples.parquet")
    assert left.read_bytes() == b"half"
    (tmp_path / ".of-an-editor.tmp").write_text("not ours")
    files.replace(tmp_path / "other.json", [b"{}"])
    assert sorted(file.name for file in tmp_path.iterdir()) == [".of-an-editor.tmp", "other.json"]


def test_what_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"whole")
        files.clear_left.cache_clear()
        files.replace(tmp_path / "b", [b""])
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_of_another_machine_it_is_left_for_a_day(tmp_path: Path) -> None:
    young, old = (tmp_path / f".{number:016x}-0badc0de-1.tmp" for number in (1, 2))
    for file in (young, old):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 100_000,) * 2)
    files.replace(tmp_path / "b", [b""])
    assert young.exists() and not old.exists()


def test_a_folder_in_its_place_is_no_file_of_ours(tmp_path: Path) -> None:
    folder = tmp_path / f".{1:016x}.tmp"
    folder.mkdir()
    os.utime(folder, (0, 0))
    files.replace(tmp_path / "b", [b""])
    assert folder.is_dir()
