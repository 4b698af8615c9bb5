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
    parameters = dict(inspect.signature(harness.evaluate).parameters)
    # What is shown while it runs, what belongs to a model in memory, and who judges what it has answered.
    for name in ("progress", "tokenizer", "judge", "judge_prices"):
        del parameters[name]
    spec = RunSpec(())
    assert set(parameters) == {field.name for field in dataclasses.fields(RunSpec)} - {"command"}
    for name, parameter in parameters.items():
        default = getattr(spec, name)
        assert parameter.default == (default or parameter.default), name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"model": object()},
            "model: should be the name of a model plugin, a model of .* found object",
        ),
        ({"model": RunSpec}, "model: should be the name of a model plugin, .* found RunSpec"),
        ({"model_args": "mode"}, "model_args: 'mode' is not of the form key=value"),
        ({"model_args": ["mode=gold"]}, "model_args: should be a mapping or a text like 'pretrained=DIR', found list"),
        ({"gen_kwargs": 7}, "gen_kwargs: should be a mapping or a text like 'pretrained=DIR', found int"),
        ({"budget": float("nan"), "prices": "in=1,out=1"}, "budget: is nan, which is not a finite number"),
        ({"budget": 0, "prices": "in=1,out=1"}, "should be finite numbers above 0"),
        ({"prices": {"in": "1", "out": 1}}, "in='1' is not a price of a million tokens"),
        ({"user_prices": 7}, "user_prices: should be a mapping, a text like 'in=1,out=2' or a file, found int"),
        ({"judge": 7}, "judge: should be a text like 'openai,model=NAME,base_url=URL', or a list of them"),
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


class Echo(harness.Model):
    """Answers with what it was made with."""

    name = "echo"
    supports = frozenset({"generate"})

    def __init__(self, reply: str = "2") -> None:
        self.reply, self.closed = reply, 0

    @property
    def identity(self) -> dict[str, Any]:
        return {"reply": self.reply}

    def respond(self, requests: Any) -> Any:
        yield from ((index, harness.Response(text=self.reply)) for index, _ in enumerate(requests))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def sums(tmp_path: Path) -> str:
    (tmp_path / "rows.jsonl").write_text('{"q": "1 + 1 ="}\n{"q": "2 + 2 ="}\n', encoding="utf-8")
    task = "task: sums\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: generate_until\n"
    task += "doc_to_text: q\ndoc_to_target: '2'\nmetric_list: [{metric: exact_match}]\n"
    (tmp_path / "sums.yaml").write_text(task, encoding="utf-8")
    return str(tmp_path / "sums.yaml")


def test_a_model_that_no_plugin_brings_is_taken_as_a_class_and_as_an_object(tmp_path: Path, sums: str) -> None:
    made, other = Echo("2"), Echo("3")
    results = [
        harness.evaluate(made, tasks=sums, output=tmp_path / "runs"),
        harness.evaluate(other, tasks=sums, output=tmp_path / "runs"),
        harness.evaluate(Echo, {"reply": "2"}, sums, output=tmp_path / "runs"),
    ]
    assert [result.report["tasks"][0]["metrics"][0]["value"] for result in results] == [1.0, 0.0, 1.0]
    assert results[0].path == results[2].path != results[1].path
    assert made.closed
    with pytest.raises(UsageError, match="the model is made already"):
        harness.evaluate(made, {"reply": "3"}, sums, output=tmp_path / "runs")
    with pytest.raises(UsageError, match="takes no argument 'replies'"):
        harness.evaluate(Echo, {"replies": "3"}, sums, output=tmp_path / "runs")


def test_a_plugins_own_class_means_the_plugin(tmp_path: Path) -> None:
    from harness_plugins.models.dummy import DummyModel

    by_name = harness.evaluate("dummy", "mode=gold", "demo_choice_zh", limit=1, output=tmp_path)
    assert harness.evaluate(DummyModel, "mode=gold", "demo_choice_zh", limit=1, output=tmp_path).path == by_name.path


WRONG: dict[str, list[Any]] = {
    "limit": ["many", [3], -1, float("nan")],
    "num_fewshot": ["3", -1, 1.5],
    "seed": ["x", None],
    "batch_size": [object(), 0],
    "max_batch_size": ["8", 0],
    "device": [3, None],
    "apply_chat_template": [3],
    "fewshot_as_multiturn": ["maybe"],
    "system_instruction": [5],
    "hub": [5, "nowhere"],
    "sandbox": [None],
    "offline": ["maybe"],
    "log_samples": ["maybe"],
    "cutoff": ["soon"],
    "name": [5],
    "output": [5, None],
    "output_path": [5],
    "modify": [5],
    "include_path": [5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_parameter_of_a_wrong_kind_is_one_line_that_names_it(
    name: str, value: Any, tmp_path: Path, sums: str
) -> None:
    given = {"model": "dummy", "tasks": sums, "output": tmp_path / "runs", name: value}
    with pytest.raises(UsageError) as caught:
        harness.evaluate(**given)
    assert str(caught.value).startswith(f"{name}: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()
