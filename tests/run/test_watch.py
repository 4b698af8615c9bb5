"""Watching a training's folder: whole checkpoints only, in order, once each, and on after a kill."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import harness
from harness.registry import load_plugins
from harness.run import watch
from harness.run.spec import RunSpec
from harness.run.watch import Measured, curves, found, why_not_whole
from harness.testing import run_harness, tiny_causal_lm


def checkpoint(folder: Path, *, age: float = 0.0, state: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    save_file({"weight": torch.zeros(64)}, folder / "model.safetensors")
    if state:
        (folder / "trainer_state.json").write_text("{}")
    for file in folder.iterdir():
        os.utime(file, (time.time() - age,) * 2)
    return folder


def test_checkpoints_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1000, 900, 20):
        (tmp_path / f"checkpoint-{number}").mkdir()
    (tmp_path / "checkpoint-5").write_text("a file")
    names = [folder.name for folder in found([str(tmp_path / "checkpoint-*"), str(tmp_path / "*-20")])]
    assert names == ["checkpoint-20", "checkpoint-900", "checkpoint-1000"]


def test_a_link_to_a_checkpoint_is_no_other_one(tmp_path: Path) -> None:
    for name in ("out/checkpoint-20", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for name, target in (("latest", "out/checkpoint-20"), ("best", "elsewhere"), ("gone", "nowhere")):
        (tmp_path / "out" / f"checkpoint-{name}").symlink_to(tmp_path / target)
    names = [folder.name for folder in found([str(tmp_path / "out" / "checkpoint-*")])]
    assert names == ["checkpoint-20", "checkpoint-best"]


def test_a_checkpoint_that_is_removed_while_it_is_looked_at_stops_no_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, kept = (checkpoint(tmp_path / f"checkpoint-{number}") for number in (1, 2))
    look = watch.why_not_whole

    def then_removed(folder: Path, *language: Any) -> str:
        found = look(folder, *language)
        if folder == gone and gone.exists():
            shutil.rmtree(gone)
        return found

    monkeypatch.setattr(watch, "why_not_whole", then_removed)
    watched = watch.Watch(RunSpec(("demo_choice_en",), "hf", output=str(tmp_path)), [str(tmp_path / "checkpoint-*")])
    assert watched.pending() == [kept]


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])


def sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "lacks"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "it has no weights yet"),
        (lambda folder: (folder / "config.json").unlink(), "it has no config.json yet"),
        (lambda folder: (folder / "config.json").write_text('{"model'), "config.json"),
        (lambda folder: (folder / "trainer_state.json").write_text(""), "trainer_state.json is empty"),
        (cut, "where its header announces"),
        (sharded, "lacks model-00002-of-00002.safetensors"),
    ],
)
def test_a_half_written_checkpoint_is_not_whole(spoil: Callable[[Path], Any], lacks: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint-1")
    assert why_not_whole(folder) == ""
    spoil(folder)
    assert lacks in why_not_whole(folder)


@pytest.mark.parametrize(
    ("pattern", "flags", "said"),
    [
        ("a**b", (), "'a**b' is no pattern of folders"),
        ("/", (), "'/' is no pattern of folders, as 'OUT/checkpoint-*' is: it names no folder below another"),
        ("", (), "'' is no pattern of folders"),
        ("~nobody-of-this-name/x", (), "is no pattern of folders"),
        ("file", (), "'file' is a file, and a checkpoint is a folder"),
        ("out/*", ("--model", "nosuch"), "unknown model 'nosuch'"),
        ("out/*", ("--model", "dummy"), "--model dummy: takes no checkpoint"),
        ("out/*", ("--output", "file"), "--output file: a file, not a folder"),
        ("out/*", ("--log_to", "nosuch"), "--log_to: unknown logger 'nosuch'"),
    ],
)
def test_what_no_checkpoint_could_be_measured_by_is_refused_before_there_is_one(
    pattern: str, flags: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    done = run_harness("watch", pattern, "--tasks", "demo_choice_en", "--once", *flags)
    assert done.exit_code == 4
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_what_a_checkpoint_lacks_is_said_in_chinese_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, language in (("LC_ALL", ""), ("LC_MESSAGES", ""), ("LANG", "zh_CN.UTF-8")):
        monkeypatch.setenv(name, language)
    (tmp_path / "checkpoint-1").mkdir()
    (checkpoint(tmp_path / "checkpoint-2") / "config.json").unlink()
    checkpoint(tmp_path / "checkpoint-3", state=False)
    cut(checkpoint(tmp_path / "checkpoint-4"))
    flags = ("--tasks", "demo_choice_en", "--once", "--output", str(tmp_path / "runs"))
    told = run_harness("watch", str(tmp_path / "checkpoint-*"), *flags).stderr.splitlines()
    *others, damaged = [line.partition("等待中: ")[2] for line in told]
    assert others == ["还没有权重", "还没有 config.json", "刚刚有写入"]
    assert "model.safetensors 已损坏或没有复制完：有 " in damaged and damaged.endswith("；请重新获取模型")


def test_without_a_trainers_last_file_a_folder_has_to_be_left_alone(tmp_path: Path) -> None:
    assert why_not_whole(checkpoint(tmp_path / "a", state=False)) == "it was written to just now"
    assert why_not_whole(checkpoint(tmp_path / "b", state=False, age=60)) == ""
    older = checkpoint(tmp_path / "c")
    os.utime(older / "trainer_state.json", (time.time() - 100,) * 2)  # of an earlier training
    assert why_not_whole(older) == "it was written to just now"


def test_times_of_another_clock_keep_no_checkpoint_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "checkpoint-1", state=False, age=-86_400)  # the clock was set back by a day
    now = [0.0]
    monkeypatch.setattr("harness.run.watch.time.monotonic", lambda: now[0])
    watched = watch.Watch(RunSpec(("demo_choice_en",), "hf", output=str(tmp_path)), [str(folder)])
    for seconds in (0.0, 9.0):
        now[0] = seconds
        assert watched.pending() == []
    assert "s ahead of the clock here" in watched.waiting[folder]
    (folder / "more.txt").write_text("still being written")
    for seconds in (12.0, 21.0):
        now[0] = seconds
        assert watched.pending() == []
    now[0] = 23.0
    assert watched.pending() == [folder]


def test_a_watch_whose_runs_were_moved_knows_what_it_measured(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint-1")
    spec = RunSpec(("demo_choice_en",), "hf", output=str(tmp_path / "runs"))
    watched = watch.Watch(spec, [str(folder)])
    run = tmp_path / "runs" / "a-run"
    run.mkdir(parents=True)
    (run / "report.json").write_text("{}")
    known = {str(folder): {"weights": watch.weights_fingerprint([folder / "model.safetensors"]), "run": str(run)}}
    watched.note.write_text(json.dumps(known))
    (tmp_path / "runs").rename(tmp_path / "kept")
    shutil.rmtree(folder)  # a trainer keeps few
    moved = watch.Watch(RunSpec(("demo_choice_en",), "hf", output=str(tmp_path / "kept")), [str(folder)])
    assert moved.measured() == [Measured(folder, tmp_path / "kept" / "a-run")]


def test_an_adapter_is_whole_with_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    assert why_not_whole(folder) == "it has no weights yet"
    save_file({"weight": torch.zeros(64)}, folder / "adapter_model.safetensors")
    (folder / "trainer_state.json").write_text("{}")
    assert why_not_whole(folder) == ""


@pytest.mark.slow
def test_a_curve_says_what_is_best_beyond_chance_and_where_it_fell(tmp_path: Path) -> None:
    def run(name: str, args: str) -> Measured:
        result = harness.evaluate("dummy", args, "demo_choice_en", output=tmp_path)
        return Measured(Path(name), result.path)

    good, again = run("checkpoint-2", "mode=gold"), run("checkpoint-3", "mode=gold")
    poor, other = run("checkpoint-1", "mode=random"), run("checkpoint-4", "mode=random,seed=7")
    (curve,) = curves([poor, good, again, other], load_plugins())
    assert curve.best == Path("checkpoint-2")
    assert curve.above == [Path("checkpoint-1"), Path("checkpoint-4")]
    assert curve.fell == (Path("checkpoint-4"), Path("checkpoint-2"))
    (level,) = curves([good, again], load_plugins())
    assert (level.above, level.fell) == ([], None)


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A folder with three checkpoints, and a fourth that is half written."""
    for number in (2, 10, 30):
        folder = tiny_causal_lm(tmp_path / "out" / f"checkpoint-{number}", seed=number)
        (folder / "trainer_state.json").write_text("{}")
    half = tmp_path / "out" / "checkpoint-40"
    shutil.copytree(tmp_path / "out" / "checkpoint-30", half)
    cut(half)
    return tmp_path / "out"


def of_runs(runs: Path) -> dict[str, Any]:
    reports = [json.loads(path.read_text()) for path in runs.glob("*/report.json")]
    return {
        Path(each["model"]["args"]["pretrained"]).name: [task["metrics"] for task in each["tasks"]] for each in reports
    }


@pytest.mark.slow
def test_each_whole_checkpoint_is_measured_once_and_a_bad_one_stops_no_other(training: Path, tmp_path: Path) -> None:
    (training / "checkpoint-10" / "tokenizer.json").unlink()
    command = ["watch", str(training / "checkpoint-*"), "--tasks", "demo_choice_en", "--limit", "2", "--once"]
    command += ["--output", str(tmp_path / "runs")]
    first = run_harness(*command)
    assert first.exit_code == 1
    assert sorted(of_runs(tmp_path / "runs")) == ["checkpoint-2", "checkpoint-30"]
    assert "checkpoint-10: not measured: " in first.stderr and "checkpoint-40: waited for: " in first.stderr
    shutil.copy(training / "checkpoint-2" / "tokenizer.json", training / "checkpoint-10")
    shutil.copy(training / "checkpoint-30" / "model.safetensors", training / "checkpoint-40")
    (training / "checkpoint-40" / "trainer_state.json").write_text("{}")
    second = run_harness(*command)
    assert second.exit_code == 0, second.stderr
    assert len(of_runs(tmp_path / "runs")) == 4
    assert "checkpoint-30\n" not in second.stdout  # it was measured before
    assert "has the best value" in second.stdout or "is best, beyond chance" in second.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_adapters_are_measured_on_their_base_which_is_loaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from harness.run.spec import Progress, RunSpec
    from harness.run.watch import Watch
    from harness_plugins.models.hf import HuggingFace

    base, family = tiny_causal_lm(tmp_path / "base"), AutoModelForCausalLM
    for number in (1, 2):
        adapted = get_peft_model(family.from_pretrained(base), LoraConfig(r=2, target_modules="all-linear"))
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3 * number)
        folder = tmp_path / "out" / f"checkpoint-{number}"
        adapted.save_pretrained(folder)
        (folder / "trainer_state.json").write_text("{}")
    loads: list[str] = []
    load = HuggingFace._open_base
    monkeypatch.setattr(HuggingFace, "_open_base", lambda *given: [loads.append("base"), load(*given)][1])
    spec = RunSpec(("demo_choice_en",), "hf", limit=2, output=str(tmp_path / "runs"))
    watch = Watch(spec, [str(tmp_path / "out" / "checkpoint-*")])
    done = [folder.name for folder in watch.measure(watch.pending(), load_plugins(), Progress())]
    assert done == ["checkpoint-1", "checkpoint-2"] and not watch.failed
    assert loads == ["base"]
    assert Watch(spec, watch.patterns).pending() == []
    alone = harness.evaluate(
        "hf",
        {"pretrained": str(base), "peft": str(tmp_path / "out" / "checkpoint-2")},
        "demo_choice_en",
        limit=2,
        output=tmp_path / "alone",
    )
    with_others = harness.load_run(watch.measured()[1].run).records()
    assert [record.logprobs for record in alone.samples()] == [record.logprobs for record in with_others]


@pytest.mark.slow
def test_a_watch_goes_on_after_it_was_killed_at_any_moment(training: Path, tmp_path: Path) -> None:
    def command(runs: str) -> list[str]:
        head = [sys.executable, "-m", "harness", "watch", str(training / "checkpoint-*")]
        return [*head, "--tasks", "demo_choice_en", "--limit", "8", "--once", "--output", str(tmp_path / runs)]

    began = time.monotonic()
    subprocess.run(command("straight"), check=True, capture_output=True)
    length = time.monotonic() - began
    draw = random.Random(5)
    for _ in range(6):
        process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(draw.uniform(0.3, 1.0) * length)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    subprocess.run(command("killed"), check=True, capture_output=True)
    assert of_runs(tmp_path / "killed") == of_runs(tmp_path / "straight")
    assert list(of_runs(tmp_path / "killed")) and len(list((tmp_path / "killed").glob("*/report.json"))) == 3


def test_a_pattern_that_names_nothing_yet_is_said(tmp_path: Path) -> None:
    done = run_harness("watch", str(tmp_path / "checkpoint-*"), "--tasks", "demo_choice_en", "--once")
    assert done.exit_code == 0
    assert f"no checkpoint yet: {tmp_path / 'checkpoint-*'}" in done.stderr


def test_a_watch_says_what_it_waits_for(tmp_path: Path) -> None:
    watch = [
        sys.executable,
        "-m",
        "harness",
        "watch",
        "OUT/checkpoint-*",
        "--tasks",
        "demo_choice_en",
        "--every",
        "0.1",
    ]
    process = subprocess.Popen(watch, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == "no checkpoint yet: OUT/checkpoint-*\n"
    finally:
        process.terminate()
        rest = process.communicate()[1]
    assert rest.startswith("stopped; go on with") and rest.count("\n") == 1, rest
