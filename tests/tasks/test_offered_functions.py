"""The functions that a task offers are checked before anything is asked: one line says which is wrong, and why."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness import DataError
from harness.tasks.templates import templates_of
from harness.tasks.tools import offered
from harness.tasks.yaml_file import FileLine


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
