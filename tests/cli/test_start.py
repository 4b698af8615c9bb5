"""`harness start`: its questions, its flags, and what it says where nobody can be asked."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from harness.cli.main import main
from harness.cli.tasks import is_offline, open_library
from harness.testing import run_harness
from harness.words import translator


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on a machine without caches, mirrors and GPUs."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HOME", "MODELSCOPE_CACHE", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache" / name))
    for name in ("HARNESS_DATA", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def talk(monkeypatch: pytest.MonkeyPatch, typed: str, *flags: str, columns: int = 60) -> tuple[int, str]:
    """What is said, and the exit code, when somebody types so at a terminal."""
    monkeypatch.setattr("harness.cli.start.Interview.can_ask", True)
    monkeypatch.setenv("COLUMNS", str(columns))
    done = CliRunner().invoke(main, ["start", *flags], input=typed)
    return done.exit_code, done.output


def model(folder: Path, **config: object) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", **config}))
    (folder / "model.safetensors").write_bytes(b"")


def test_the_shortest_way_measures_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = talk(monkeypatch, "1\n1\n1\n1\nn\n")
    assert code == 0
    assert "harness --tasks demo --limit 20" in said
    assert all(cell_len(text) <= 60 for text in said.splitlines()), said


def test_models_and_mirrors_of_this_machine_are_offered(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model(here / "cache/HF_HUB_CACHE/models--Qwen--Qwen2.5-0.5B/snapshots/abc")
    model(here / "models/my-vlm", vision_config={})
    (here / "models/half").mkdir()
    mirror = here / "mirror/haonan-li/cmmlu"
    mirror.mkdir(parents=True)
    code, said = talk(monkeypatch, "1\n2\ncmmlu\n50\nn\n")
    assert code == 0 and "Qwen/Qwen2.5-0.5B" in said and "models/my-vlm" in said and "half" not in said
    command = "harness --tasks cmmlu --model hf --model_args pretrained=Qwen/Qwen2.5-0.5B --limit 50 --data mirror"
    assert command in said.replace("\n", " ")
    code, said = talk(monkeypatch, "1\nmodels/my-vlm\n1\n2\nn\n")
    assert "harness --tasks demo_vision --model hf_vlm --model_args pretrained=models/my-vlm --data mirror" in said


def test_it_speaks_chinese_by_the_locale_or_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = talk(monkeypatch, "1\n1\n1\n1\nn\n", "--lang", "zh")
    assert code == 0 and "您想做什么" in said and "现在运行吗" in said
    assert all(cell_len(text) <= 60 for text in said.splitlines()), said
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert "您想做什么" in talk(monkeypatch, "")[1]
    assert run_harness("start", "--lang", "fr").exit_code == 4


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "say --goal evaluate|compare|judge|benchmark"),
        (("--goal", "evaluate"), "say --model"),
        (("--goal", "evaluate", "--model", "demo"), "say --tasks"),
        (("--goal", "evaluate", "--model", "demo", "--tasks", "demo"), "say --limit"),
        (("--goal", "evaluat"), "did you mean 'evaluate'?"),
        (("--goal", "compare"), "no finished runs"),
        (("--goal", "judge", "--run", "runs/a"), "say --rubric"),
        (("--goal", "benchmark"), "say --name"),
        (("--goal", "evaluate", "--model", "http://localhost:1/v1", "--tasks", "demo"), "URL,NAME"),
        (("--data", "nowhere"), "there is no folder 'nowhere'"),
    ],
)
def test_without_a_terminal_one_line_names_the_flag(flags: tuple[str, ...], said: str) -> None:
    done = run_harness("start", *flags)
    assert done.exit_code == 4
    assert said in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


def test_every_answer_is_a_flag() -> None:
    for flags, command in {
        ("--goal", "evaluate", "--model", "demo", "--tasks", "demo", "--limit", "all"): "harness --tasks demo",
        (
            "--goal", "evaluate", "--model", "http://localhost:1/v1,qwen", "--tasks", "gsm8k", "--limit", "5",
        ): "harness --tasks gsm8k --model openai --model_args base_url=http://localhost:1/v1,model=qwen --limit 5",
        ("--goal", "compare", "--run", "a", "--run", "b c"): "harness compare a 'b c'",
        (
            "--goal", "judge", "--run", "a", "--rubric", "quality_zh", "--model", "M",
        ): "harness judge a --rubric quality_zh --model hf --model_args pretrained=M",
        ("--goal", "benchmark", "--name", "mine", "--from", "rows.csv"): "harness new task mine --from rows.csv",
    }.items():  # fmt: skip
        assert run_harness("start", *flags).stdout.splitlines() == [command, "(--yes runs it)"]


def test_it_runs_what_it_shows(here: Path) -> None:
    done = run_harness("start", "--goal", "benchmark", "--name", "mine", "--from", "none", "--yes")
    assert done.exit_code == 0 and (here / "mine.yaml").is_file()
    assert run_harness("start", "--goal", "benchmark", "--name", "Mine", "--from", "none", "--yes").exit_code == 4


@pytest.mark.slow
def test_leaving_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a real terminal of sixty columns."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "60", "TERM": "dumb"}

    def at_the_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background is started with it ignored

    with subprocess.Popen(
        [sys.executable, "-m", "harness", "start"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
        preexec_fn=at_the_terminal,
    ) as process:
        said = b""
        try:
            while b"> " not in said and select.select([master], [], [], 60)[0]:
                said += os.read(master, 1000)
            # Between prompt and wait for a key, readline notes an interrupt and waits on: press until it is heard.
            for _ in range(40):
                os.write(master, b"\x03")
                while b"interrupted" not in said and select.select([master], [], [], 0.5)[0]:
                    said += os.read(master, 1000)
                if b"interrupted" in said:
                    break
            assert process.wait(20) == 2
        finally:
            process.kill()
    os.close(slave)
    os.close(master)
    assert b"interrupted; go on with: harness start" in said and b"Traceback" not in said
    code, written = talk(monkeypatch, "1\n")  # the end of the input
    assert code == 2 and "interrupted; go on with" in written


def test_no_word_of_the_questions_lacks_its_chinese() -> None:
    source = (Path(__file__).parents[2] / "harness/cli/start.py").read_text(encoding="utf-8")
    said = set(re.findall(r'\bt\(\s*"([^"]+)"', source)) | {"folder", "Hugging Face", "ModelScope"}
    assert len(said) > 35
    chinese = translator("zh")
    assert not [text for text in said if not re.search("[\u4e00-\u9fff]", chinese(text))]


def test_rows_that_come_from_the_network_or_from_nowhere_are_not_said_to_be_here(tmp_path: Path) -> None:
    entries = {entry.name: entry for entry in open_library(()).entries()}
    (tmp_path / "url" / "rows" / "WikiBench.zip-0ed02a72").mkdir(parents=True)
    assert is_offline(entries["mrcr_generated"], ())
    for name in ("wikibench_cn", "cblue_cdn", "mathbench_cn", "cluener2020", "dureader_2", "ifeval"):
        assert not is_offline(entries[name], ()), name
    assert is_offline(entries["wikibench_cn"], (tmp_path,)) and not is_offline(entries["cluener2020"], (tmp_path,))
