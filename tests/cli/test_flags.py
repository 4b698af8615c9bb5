"""From argv, configuration file and environment to the settings of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import pytest

from harness.cli import run
from harness.cli.main import main
from harness.errors import UsageError


def settings(*argv: str) -> dict[str, Any]:
    group = main.make_context("harness", ["--tasks", "unused"])
    context = run.command.make_context("run", list(argv), parent=group)
    return run.settings_of(context, context.params)


def test_nothing_given_leaves_every_default_to_the_run() -> None:
    assert settings() == {}


def test_every_flag_of_lm_eval_has_its_name() -> None:
    given = settings(
        *("--tasks", "ceval,cmmlu", "--model", "hf", "--model_args", "pretrained=DIR,dtype=float32"),
        *("--num_fewshot", "0", "--batch_size", "auto:4", "--max_batch_size", "64", "--device", "cuda:0"),
        *("--gen_kwargs", "temperature=0.5", "--limit", "0.5", "--seed", "0,1,2,3", "--apply_chat_template"),
        *("--system_instruction", "答", "--fewshot_as_multiturn", "false", "--output_path", "out", "--log_samples"),
    )
    assert given == {
        "tasks": ("ceval", "cmmlu"),
        "model": "hf",
        "model_args": {"pretrained": "DIR", "dtype": "float32"},
        "num_fewshot": 0,
        "batch_size": "auto",
        "max_batch_size": 64,
        "device": "cuda:0",
        "gen_kwargs": {"temperature": 0.5},
        "limit": 0.5,
        "seed": 3,
        "apply_chat_template": True,
        "system_instruction": "答",
        "fewshot_as_multiturn": False,
        "output_path": "out",
        "log_samples": True,
    }


def test_dashes_are_underscores_and_short_forms_are_known() -> None:
    long = settings("--num-fewshot", "5", "--model-args=a=1", "--tasks", "x", "--limit", "3", "--batch-size=2")
    assert long == settings("-f", "5", "-a", "a=1", "-t", "x", "-L", "3", "-b", "2")
    assert settings("-m", "hf", "-o", "p", "-s") == settings("-M", "hf", "--output-path", "p", "--log-samples")


def test_tasks_and_arguments_may_be_spread_over_several_words() -> None:
    spread = settings("--tasks", "a", "b,c", "--model_args", "x=1", "y=2", "-t", "c", "d", "--limit", "2")
    assert spread == {"tasks": ("a", "b", "c", "d"), "model_args": {"x": 1, "y": 2}, "limit": 2}


def test_a_chat_template_may_be_named() -> None:
    assert settings("--apply_chat_template", "tool_use", "--tasks", "x")["apply_chat_template"] == "tool_use"
    assert settings("--apply_chat_template", "--tasks", "x")["apply_chat_template"] is True


def test_overrides_are_gathered_by_task() -> None:
    given = settings("--set", "a.num_fewshot=3", "--set", "a.description=''", "--set", "b:v.num_fewshot=0")
    assert given == {"overrides": {"a": {"num_fewshot": 3, "description": ""}, "b:v": {"num_fewshot": 0}}}


def test_folders_come_from_flags_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    monkeypatch.setenv("HARNESS_DATA", f"{one}{os.pathsep}{two}")
    assert settings() == {"data": (str(one), str(two))}
    assert settings("--data", str(two)) == {"data": (str(two),)}
    assert settings("--data", str(two), "--data", str(one))["data"] == (str(two), str(one))
    with pytest.raises(UsageError, match="--include_path: there is no folder 'nowhere'"):
        settings("--include_path", "nowhere")


def test_a_file_gives_what_the_command_line_does_not(tmp_path: Path) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text(
        "tasks: [ceval, cmmlu]\nmodel: hf\nmodel_args: {pretrained: DIR, revision: '8'}\nnum-fewshot: 5\n"
        "limit: 0.5\nlog_samples: true\nset:\n  cmmlu: {num_fewshot: 0}\ndevice:\n",
        encoding="utf-8",
    )
    assert settings("--config", str(file), "--limit", "3", "-f", "0") == {
        "tasks": ("ceval", "cmmlu"),
        "model": "hf",
        "model_args": {"pretrained": "DIR", "revision": "8"},
        "num_fewshot": 0,
        "limit": 3,
        "log_samples": True,
        "overrides": {"cmmlu": {"num_fewshot": 0}},
    }


def test_the_file_takes_a_changed_key_as_the_flag_has_it(tmp_path: Path) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text("set:\n  cmmlu.num_fewshot: 3\n  gsm8k.generation_kwargs.temperature: 0.6\n", encoding="utf-8")
    flags = settings("--set", "cmmlu.num_fewshot=3", "--set", "gsm8k.generation_kwargs.temperature=0.6")
    assert settings("--config", str(file)) == flags


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: demo\nmodle: hf\n", ":2: unknown key 'modle'; did you mean 'model'?"),
        ("tasks: demo\n\nlimit: -3\n", ":3: limit: '-3' is neither a count of rows"),
        ("num_fewshot: many\n", ":1: num_fewshot: 'many' is not a valid integer"),
        ("model_args: pretrained\n", ":1: model_args: 'pretrained' is not of the form key=value"),
        ("model: [a, b]\n", ":1: model: a single value is expected"),
        ("set: {cmmlu: 3}\n", ":1: set: keys and values are expected below 'cmmlu'"),
        ("hub: github\n", ":1: hub: 'github' is not one of"),
        ("- tasks\n", ":1: keys and values are expected"),
        ("tasks: [a\n", ":2: not YAML"),
        ("config: x.yaml\n", ":1: unknown key 'config'"),
    ],
)
def test_a_mistake_in_the_file_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        settings("--config", str(file))
    assert str(caught.value).startswith(f"{file}{message}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--config: cannot read 'no\.yaml': No such file"):
        settings("--config", "no.yaml")
    empty = tmp_path / "empty.yaml"
    empty.touch()
    assert settings("--config", str(empty)) == {}


def test_a_flag_without_its_value_is_refused() -> None:
    with pytest.raises(click.BadOptionUsage):
        settings("--limit")
