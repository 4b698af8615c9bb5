"""What a command writes can be written everywhere, and no text of a task, a row or a server commands the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.terminal import visible

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b]8;;http://example.org\x1b\\here\x9b31m\u202etxt"
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e")
TASK = """\
task: rivers
title: {title}
dataset_path: rivers.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{{{ question }}}}"
doc_to_target: "{{{{ answer }}}}"
metric_list:
  - metric: exact_match
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("t.yaml").write_text(TASK.format(title=json.dumps("河流 " + HOSTILE)), encoding="utf-8")
    row = {"question": "哪一条河？" + HOSTILE, "answer": "长江"}
    Path("rivers.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    return tmp_path


def harness(*arguments: str, encoding: str = "utf-8") -> tuple[int, bytes]:
    """Exit code, and all that was written on stdout and stderr."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "harness", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False)
    return done.returncode, done.stdout


COMMANDS = (
    ("tasks", "--include_path", "."),
    ("show", "t.yaml"),
    ("--tasks", "t.yaml", "--model", "dummy"),
    ("--tasks", "t.yaml", "--model", "dummy", "--dry_run"),
    ("--tasks", "no" + HOSTILE),
    ("--tasks", "t.yaml", "--model", "openai", "--model_args", f"base_url=http://127.0.0.1:9/{HOSTILE},model=m"),
    ("report", "no" + HOSTILE),
)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(each, marks=pytest.mark.slow if "show" in each or "openai" in each or "--dry_run" in each else ())
        for each in COMMANDS
    ],
    ids=lambda arguments: arguments[0].strip("-") + str(len(arguments)),
)
def test_no_text_commands_the_terminal(arguments: tuple[str, ...]) -> None:
    code, written = harness(*arguments)
    text = written.decode("utf-8")
    assert not [sign for sign in OBEYED if sign in text]
    assert "Traceback" not in text
    assert code in (0, 1, 2, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoding", ["cp1252", *(pytest.param(name, marks=pytest.mark.slow) for name in ("latin-1", "gbk", "ascii"))]
)
def test_every_command_ends_well_where_the_terminal_lacks_letters(encoding: str) -> None:
    for arguments in (*COMMANDS[:4], ("report", "runs")):
        code, written = harness(*arguments, encoding=encoding)
        assert code == 0, written.decode(encoding)
        assert b"Traceback" not in written
    assert b"exact_match" in written


def test_what_is_harmless_stays_as_it_is() -> None:
    text = "两行\n\t制表 emoji 😀 👨‍👩‍👧 accents é\u0301"
    assert visible(text) == text
    assert visible("a\x1bb\ud800\r") == "a\\x1bb\\ud800\\r"
