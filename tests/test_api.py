"""Runs from Python: parameters have names, what is given wrongly is one line, and a result is short to look at."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import UsageError
from harness.run.spec import RunSpec


def test_the_parameters_of_evaluate_are_those_of_a_run_with_their_defaults() -> None:
    parameters = inspect.signature(harness.evaluate).parameters
    spec = RunSpec(())
    assert set(parameters) == {field.name for field in dataclasses.fields(RunSpec)} - {"command"}
    for name, parameter in parameters.items():
        default = getattr(spec, name)
        assert parameter.default == (default or parameter.default), name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": object()}, r"model: should be the name of a model plugin, found object: .*save_pretrained\(DIR\)"),
        ({"model": RunSpec}, "model: should be the name of a model plugin, found RunSpec"),
        ({"model_args": "mode"}, "model_args: 'mode' is not of the form key=value"),
        ({"model_args": ["mode=gold"]}, "model_args: should be a mapping or a text like 'pretrained=DIR', found list"),
        ({"gen_kwargs": 7}, "gen_kwargs: should be a mapping or a text like 'pretrained=DIR', found int"),
        ({"tasks": 7}, "tasks: should be a text or a list of texts, found 7"),
        ({"tasks": [7]}, r"tasks: should be a text or a list of texts, found \[7\]"),
        ({"tasks": None}, "tasks: should be a text or a list of texts, found None"),
        ({"metrics": "ece("}, r"metrics: .* is missing at the end|metrics: 'ece\(' is not of the form"),
        ({"metrics": [7]}, "metrics: should be names or entries"),
        ({"overrides": {"demo": 7}}, "overrides: should be {task: {key: value}}"),
        ({"data": 7}, "data: should be a text or a list of texts, found 7"),
    ],
)
def test_what_is_given_wrongly_is_one_line(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        harness.evaluate(**{"model": "dummy", "tasks": ["demo_choice_zh"], "output": tmp_path, **given})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_arguments_may_be_written_as_on_the_command_line(tmp_path: Path) -> None:
    written = harness.evaluate("dummy", "mode=fixed,index=1", "demo_choice_zh,demo_choice_en", limit=2, output=tmp_path)
    named = harness.evaluate(
        "dummy", {"mode": "fixed", "index": 1}, ["demo_choice_zh", "demo_choice_en"], limit=2, output=str(tmp_path)
    )
    assert written.path == named.path
    assert [task["task"] for task in written.report["tasks"]] == ["demo_choice_zh", "demo_choice_en"]


def test_a_result_is_short_to_look_at(tmp_path: Path) -> None:
    result = harness.evaluate("dummy", "mode=gold", "demo_choice_zh", limit=2, output=tmp_path)
    assert repr(result) == f"<RunResult {result.path}: demo_choice_zh: acc 1.0000 (n = 10)>"


def test_several_models_take_a_list_of_arguments(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="model_args: should be a list"):
        harness.evaluate_each("dummy", {"mode": "gold"}, "demo_choice_zh", output=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes no parameter 'limits'"):
        harness.evaluate_each("dummy", ["mode=gold"], "demo_choice_zh", limits=2)
    results = harness.evaluate_each(
        "dummy", ["mode=gold", {"mode": "fixed"}], "demo_choice_zh", limit=2, output=tmp_path
    )
    assert len({result.path for result in results}) == 2
