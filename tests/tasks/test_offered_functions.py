"""The functions that a task offers are checked before anything is asked: one line says which is wrong, and why."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness import DataError, evaluate
from harness.tasks.templates import templates_of
from harness.tasks.tools import offered
from harness.tasks.yaml_file import FileLine
from harness.testing import run_harness


def function(**parameters: Any) -> dict[str, Any]:
    return {"name": "add", "parameters": parameters}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"name": "add"}, "should be a list of functions"),
        ([{"parameters": {}}], "is no function {name, parameters}"),
        ([{"name": "", "parameters": {}}], "is no function {name, parameters}"),
        ([{"name": "add", "parameters": [1]}], "the parameters of 'add' are no JSON Schema: it should be a mapping"),
        ([function(properties=["a"])], "'properties' should be a mapping"),
        ([function(properties={"a": "integer"})], "'a' should be a mapping with a type, found 'integer'"),
        ([function(properties={"a": {"type": 5}})], "'a' should be a mapping with a type"),
        ([function(required="a")], "'required' should be a list of names, found 'a'"),
        ([function(), function()], "there are two functions 'add'"),
    ],
)
def test_what_is_no_function_is_said(given: Any, problem: str) -> None:
    with pytest.raises(DataError) as refused:
        offered(given, "task.yaml:7: doc_to_tools")
    assert str(refused.value).startswith("task.yaml:7: doc_to_tools: ")
    assert problem in str(refused.value)


def test_functions_are_offered_in_one_form() -> None:
    alone = function(type="object", properties={"a": {"type": ["integer", "null"]}, "b": True}, required=["a"])
    (one,) = json.loads(offered([alone], "x"))
    assert one == {"type": "function", "function": alone}
    assert offered([one], "x") == offered([alone], "x")
    assert offered([], "x") == ""


def test_functions_that_are_the_same_for_all_rows_may_stand_in_the_task(tmp_path: Path) -> None:
    """An expression without variables is a value as any other is."""
    place = FileLine(tmp_path / "task.yaml", 1)
    for source, value in (("{{ [{'name': 'add'}] }}", [{"name": "add"}]), ("{{ 3 }}", 3), ("{{ 3 }}4", "34")):
        assert templates_of(tmp_path, ()).compile(source, "doc_to_tools", place).value({}) == value


@pytest.mark.slow
def test_a_list_of_functions_in_the_task_file_is_offered_with_every_row(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"q": "1 + 1?", "a": "2"}\n', encoding="utf-8")
    task = {"task": "adds", "dataset_path": "rows.jsonl", "test_split": "test", "doc_to_text": "{{ q }}"}
    task |= {"doc_to_target": "{{ a }}", "metric_list": [{"metric": "exact_match"}]}
    path = tmp_path / "adds.yaml"
    path.write_text(json.dumps(task | {"doc_to_tools": [function(type="object")]}), encoding="utf-8")
    run = evaluate("dummy", tasks=[str(path)], apply_chat_template=True, output=tmp_path)
    (record,) = run.samples("adds")
    assert json.loads(record.prompt.tools) == [{"type": "function", "function": function(type="object")}]
    path.write_text(json.dumps(task | {"doc_to_tools": [{"name": "add", "parameters": [1]}]}), encoding="utf-8")
    said = run_harness("check", str(path)).output
    assert said.startswith(f"{path}:1: doc_to_tools: the parameters of 'add' are no JSON Schema")
