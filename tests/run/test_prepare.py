"""What is done before weights load is one thing: what a run refuses, its dry run and `harness show` refuse too."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness import UsageError
from harness.registry import load_plugins
from harness.run.jobs import load_jobs
from harness.run.prepare import prepare_run
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec
from harness.tasks import library
from harness.testing import run_harness, tiny_causal_lm
from harness.words import Phrase

TASK = """\
task: sums
dataset_path: rows.jsonl
test_split: test
fewshot_split: test
num_fewshot: 1
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"]}
metric_list: [{metric: exact_match}]
"""


SLURM = "slurm,shards=2,cluster=local"


@pytest.fixture(autouse=True)
def _a_task_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    rows = [{"question": f"{n}+1=", "answer": str(n + 1)} for n in range(4)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("sums.yaml").write_text(TASK)
    (Path("answers.jsonl")).write_text('{"id": 0, "text": "1"}\n')


@pytest.mark.parametrize(
    "flags",
    [
        ("--model", "dummy", "--model_args", "mode=wrong"),
        ("--model", "hf", "--model_args", "pretrained=model", "--gen_kwargs", "foo=1"),
        ("--model", "replay", "--model_args", "path=answers.jsonl,missing=error"),
        ("--model", "dummy", "--output_path", "sums.yaml/results"),
        ("--model", "dummy", "--output", "sums.yaml"),
        ("--model", "dummy", "--output", "sums.yaml/deep/er"),
        ("--model", "dummy", "--judge", "dummy"),
        ("--model", "dummy", "--sweep", "temperature=1"),
        ("--model", "dummy", "--executor", f"{SLURM},memory=lots"),
        ("--model", "dummy", "--executor", f"{SLURM},nodes=2"),
        ("--model", "dummy", "--executor", SLURM, "--shard", "1/2"),
        ("--model", "dummy", "--executor", SLURM, "--precision", "0.1"),
        ("--model", "dummy", "--executor", SLURM, "--output_path", "out"),
        ("--model", "dummy", "--executor", SLURM, "--output", "sums.yaml"),
        ("--model", "nosuch", "--executor", SLURM),
        (
            "--model",
            "openai",
            "--model_args",
            "model=x,api_key=sk-1,base_url=http://localhost:9/v1",
            "--executor",
            SLURM,
        ),
    ],
    ids=lambda flags: " ".join(flags),
)
def test_a_dry_run_refuses_what_the_run_refuses(flags: tuple[str, ...]) -> None:
    if "hf" in flags:
        tiny_causal_lm(Path("model"))
    if "--executor" in flags:
        pytest.importorskip("submitit")
    dry, real = run_harness("--tasks", "sums.yaml", *flags, "--dry_run"), run_harness("--tasks", "sums.yaml", *flags)

    (error,) = [line for line in dry.stderr.splitlines() if line.startswith("error: ")]
    assert error in real.stderr.splitlines()
    assert (dry.exit_code, real.exit_code) == (4, 4)
    assert not Path("runs").exists()


def test_a_dry_run_refuses_the_folder_of_another_run_as_the_run_does() -> None:
    run_harness("--tasks", "sums.yaml", "--model", "dummy")
    (made,) = Path("runs").iterdir()
    flags = ("--tasks", "sums.yaml", "--model", "dummy", "--model_args", "mode=gold", "--output", str(made))
    dry, real = run_harness(*flags, "--dry_run"), run_harness(*flags)

    assert "a run of another configuration" in dry.stderr
    assert (dry.exit_code, dry.stderr.splitlines()[-1]) == (real.exit_code, real.stderr.splitlines()[-1])
    if find_spec("submitit"):
        dry, real = run_harness(*flags, "--executor", SLURM, "--dry_run"), run_harness(*flags, "--executor", SLURM)
        assert "a run folder, and --executor slurm makes one of each shard" in dry.stderr
        assert (dry.exit_code, dry.stderr) == (4, real.stderr)


def test_a_dry_run_refuses_the_damaged_folder_of_a_shard_as_the_run_does() -> None:
    pytest.importorskip("submitit")
    flags = ("--tasks", "sums.yaml", "--model", "dummy")
    run_harness(*flags, "--shard", "2/2")
    next(Path("runs").glob("*/manifest.json")).write_text("{")
    dry, real = (run_harness(*flags, "--executor", SLURM, *more) for more in (("--dry_run",), ()))
    assert "manifest.json: not JSON" in dry.stderr
    assert (dry.exit_code, dry.stderr) == (real.exit_code, real.stderr)


def test_a_dry_run_of_a_sweep_counts_its_runs() -> None:
    told = run_harness("--tasks", "sums.yaml", "--model", "demo", "--sweep", "temperature=0,1", "--dry_run")
    assert ", 2 times" in told.stdout, told.stdout + told.stderr


def test_a_wrong_generation_parameter_is_refused_by_show_too() -> None:
    tiny_causal_lm(Path("model"))
    flags = ("--model", "hf", "--model_args", "pretrained=model", "--gen_kwargs", "foo=1")
    shown, real = run_harness("show", "sums.yaml", *flags), run_harness("--tasks", "sums.yaml", *flags)
    assert (shown.exit_code, shown.stderr) == (4, real.stderr)


def test_flags_change_a_task_before_it_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    make = library.make_task
    monkeypatch.setattr(library, "make_task", lambda *args: loaded.append(args) or make(*args))
    (job,) = load_jobs(RunSpec(("sums.yaml",), num_fewshot=2, metrics=("f1",)), load_plugins(), Progress())

    assert len(loaded) == 1
    assert job.task.config.num_fewshot == 2
    assert [(item.metric, item.where) for item in job.task.scoring.metrics] == [
        ("exact_match", "sums.yaml:10"),
        ("f1", "--metrics"),
    ]


def test_every_stage_is_named_as_it_starts() -> None:
    stages: list[str] = []

    class Listener(Progress):
        def stage(self, name: str | Phrase) -> None:
            stages.append(str(name))

        def started(self, tasks: object, model: str) -> None:
            stages.append("started")

    run(RunSpec(("sums.yaml",), "dummy"), progress=Listener())
    assert stages == [
        "reading tasks",
        "preparing metrics",
        "preparing model dummy: its configuration and tokenizer",
        "opening rows and rendering prompts of sums",
        "checking prompts for model dummy",
        "started",
        "loading model dummy: its weights, or a connection",
        "waiting for the first answer",
        "summing up",
    ]


def test_models_are_closed_where_one_of_them_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    dummy = load_plugins().model("dummy")
    monkeypatch.setattr(dummy, "close", lambda self: closed.append(self.mode))
    with pytest.raises(UsageError, match="knows no mode"):
        prepare_run(RunSpec(("sums.yaml",), "dummy"), [{"mode": "gold"}, {"mode": "fixed"}, {"mode": "no"}])
    assert closed == ["fixed", "gold"]
