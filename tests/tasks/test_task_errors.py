"""What is wrong with a task file is one line with file, line and the near name."""

from __future__ import annotations

from pathlib import Path

import pytest
from task_files import CHOICE, REPLY, build, library, load, write

from harness import DataError, HarnessError, TaskError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("test_split", "tset_split"), r"task.yaml:3: unknown key 'tset_split'; did you mean 'test_split'\?"),
        (("doc_to_text: ", "doc_to_text: [1]\nx: "), r"task.yaml:\d"),
        (("output_type: multiple_choice", "output_type: multiple"), r"task.yaml:5: .*output_type"),
        (("doc_to_target", "num_fewshot: -1\ndoc_to_target"), r"task.yaml:9: .*num_fewshot"),
        (("doc_to_target", "repeats: 1000000000\ndoc_to_target"), r"task.yaml:9: repeats: .*or equal to 10000"),
        (("doc_to_choice: ['yes', 'no']\n", ""), r"needs 'doc_to_choice'"),
        (('"{{q}}\\nAnswer:"', '"{{q"'), r"task.yaml:7: .*doc_to_text"),
        (("task: exam", "task: exam\nprocess_docs: !function utils.f"), r"task.yaml:2: .*process_docs.* is Python"),
        (("metric_list: [{metric: acc}]", "metric_list: [{metrics: acc}]"), r"task.yaml:10"),
        (("dataset_path: org/exam\n", ""), r"missing key 'dataset_path'"),
        (("test_split: test\n", ""), r"missing key 'test_split'"),
        (("['yes', 'no']", "['yes', 'no'"), r"task.yaml:\d+"),
        (("task: exam", "\ttask: exam"), r"task.yaml:1"),
        (("['yes', 'no']", "[yes, no]"), r"task.yaml:8: .*found the boolean true \(a text needs quotes\)"),
        (("task: exam", "task: 5"), r"task.yaml:1: task: .*found the number 5 \(a text needs quotes\)"),
        (("doc_to_target", "subsets: [a, b, a]\ndoc_to_target"), r"task.yaml:9: subsets: 'a' is given twice"),
        (("doc_to_target", "generation_kwargs: {until: ['']}\ndoc_to_target"), r"task.yaml:9: .*until"),
        (("[{metric: acc}]", "[]"), r"task.yaml:10: metric_list: should be something, not empty"),
    ],
)
def test_a_mistake_names_its_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = write(tmp_path, "task.yaml", CHOICE.replace(*change))
    books = library(tmp_path)
    with pytest.raises(TaskError, match=message) as wrong:
        (ref,) = books.select([str(path)])
        books.load(ref)
    assert "\n" not in str(wrong.value)


def test_a_mistake_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, "base_yaml", "doc_to_text: '{{q}}'\nmetirc_list: []\n")
    text = "task: talk\ninclude: base_yaml\ndataset_path: x/y\ntest_split: test\ndoc_to_target: a\n"
    with pytest.raises(TaskError, match=r"base_yaml:2: unknown key 'metirc_list'"):
        load(tmp_path, text)


def test_includes_in_a_circle_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "include: b.yaml\ntask: t\n")
    write(tmp_path, "b.yaml", "include: a.yaml\n")
    with pytest.raises(TaskError, match="include"):
        library(tmp_path).select([str(tmp_path / "a.yaml")])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_windows_line_ends_a_byte_order_mark_and_chinese_names_are_fine(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "任务 一.yaml"
    path.write_bytes(REPLY.replace("talk", "谈话").replace("\n", "\r\n").encode(encoding))
    books = library(tmp_path)
    (ref,) = books.select(["谈话"])
    (sample,) = build(books.load(ref), [{"q": "甲😀", "a": "乙"}])
    assert sample.requests[0].prompt.text == "甲😀"


def test_a_field_that_no_row_has_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    task = load(tmp_path, REPLY.replace("{{q}}", "{{question}}"))
    with pytest.raises(HarnessError, match=r"no field 'question'.*it has: questio, a.*row 0") as wrong:
        build(task, [{"questio": "1", "a": "2"}])
    assert "did you mean 'questio'?" in str(wrong.value)


def test_of_very_many_fields_the_first_are_named(tmp_path: Path) -> None:
    row = {str(number): {"q": "x"} for number in range(9000)}
    with pytest.raises(TaskError, match=r"no field 'a' \(it has: 0, 1, .*, 19, and 8980 more\)"):
        build(load(tmp_path, CHOICE), [row])


@pytest.mark.parametrize("gold", ["maybe", 2, -1, 1.5])
def test_a_gold_answer_outside_the_choices_names_the_row(tmp_path: Path, gold: object) -> None:
    task = load(tmp_path, CHOICE.replace('"{{a}}"', "a"))
    with pytest.raises(DataError, match=r"doc_to_target.*row 1"):
        build(task, [{"q": "1", "a": 0}, {"q": "2", "a": gold}])


@pytest.mark.parametrize("limit", [-1, 0, -0.5])
def test_a_limit_below_one_row_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(HarnessError, match="limit"):
        build(load(tmp_path, REPLY), [{"q": "1", "a": "2"}], limit=limit)
