"""What a shell offers after TAB, and what other tools' names and forms are understood as."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.errors import UsageError
from harness.model import ModelOptions
from harness.registry import load_plugins
from harness.testing import run_harness


def asked(line: str) -> dict[str, str]:
    """What a shell sets when it asks the command for completions."""
    return {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_HARNESS_COMPLETE": "bash_complete"}


def completed(line: str) -> list[str]:
    said = CliRunner().invoke(main, prog_name="harness", env=asked(line)).stdout
    return [item.partition(",")[2] for item in said.split()]


def test_a_shell_gets_completions_from_a_process() -> None:
    command = [sys.executable, "-c", "from harness.cli.main import main; main(prog_name='harness')"]
    environment = {**os.environ, **asked("harness --ta")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "plain,--tasks" in done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("harness --ta", "--tasks"),
        ("harness --tasks ceval,cmml", "ceval,cmmlu"),
        ("harness --tasks cmmlu/anat", "cmmlu/anatomy"),
        ("harness run --model dum", "dummy"),
        ("harness --metrics lucky", "lucky_guess"),
        ("harness comp", "compare"),
    ],
)
def test_flags_tasks_models_and_metrics_complete(line: str, offered: str) -> None:
    assert offered in completed(line)


def test_runs_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_harness("--tasks", "demo_arithmetic", "--model", "dummy", "--limit", "1", "--name", "第一")
    (run,) = completed("harness report runs/2")
    assert "第一" in run


CONFIG = {
    "lines": "tasks: |\n  demo_arithmetic\n  demo_choice_zh\n",
    "list": "tasks: [demo_arithmetic, demo_choice_zh]\n",
    "mapping": "tasks:\n  demo_arithmetic: {num_fewshot: 1}\n  demo_choice_zh:\n",
    "entries": "tasks:\n- demo_choice_zh\n- {task: demo_arithmetic, num_fewshot: 1}\n",
    "names with keys": "tasks:\n- demo_choice_zh\n- demo_arithmetic: {num_fewshot: 1}\n",
}


@pytest.mark.parametrize("form", CONFIG)
def test_a_configuration_file_names_tasks_in_the_forms_that_people_write(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(CONFIG[form] + "model: dummy\nlimit: 1\n", encoding="utf-8")
    done = run_harness("--config", "run.yaml", "--dry_run")
    assert done.exit_code == 0, done.output
    assert "demo_arithmetic: 1 sample" in done.output and "demo_choice_zh: 5 samples" in done.output


def test_quiet_writes_the_table_alone_and_verbose_shows_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_harness("--tasks", "demo_arithmetic", "--model", "dummy", "--limit", "1", "--quiet")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("task ")
    short = run_harness("--tasks", "no_such_task")
    assert short.exit_code == 4 and "no_such_task" in short.stderr and "Traceback" not in short.stderr
    command = [sys.executable, "-m", "harness", "--tasks", "no_such_task", "-v"]
    assert "Traceback" in subprocess.run(command, capture_output=True, text=True, check=False).stderr


def test_models_of_lm_eval_are_understood_or_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    at = "base_url=http://127.0.0.1:9/v1,model=m,tokenized_requests=False,eos_string=x,batch_size=4"
    done = run_harness(
        "--tasks", "demo_arithmetic", "--model", "local-chat-completions", "--model_args", at, "--dry_run"
    )
    assert done.exit_code == 0, done.output
    done = run_harness(
        "--tasks", "demo_choice_zh", "--model", "openai-chat-completions", "--model_args", at, "--dry_run"
    )
    assert "cannot answer task" in done.output  # by chat there are no log-probabilities
    for name, said in (
        ("gguf", "llama.cpp's server"),
        ("sglang", "SGLang's server"),
        ("mamba_ssm", "--model hf"),
        ("trtllm", "TensorRT"),
    ):
        done = run_harness("--tasks", "demo_arithmetic", "--model", name)
        assert done.exit_code == 4
        assert said in done.output


def test_an_argument_of_another_tool_says_what_to_write_here() -> None:
    registry = load_plugins()
    with pytest.raises(UsageError, match=r"--model_args: 'seed' of lm-eval is not here: --seed N draws samples"):
        registry.model("local-completions").create({"model": "x", "seed": 3}, ModelOptions())
    registry.model("hf").create({"pretrained": "x", "truncation": False, "delta": None}, ModelOptions())
