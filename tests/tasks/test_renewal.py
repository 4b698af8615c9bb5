"""Other numbers in the place of a row's own: what is calculated, from which templates, and what is refused."""

from __future__ import annotations

import json
import random
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from task_files import build, library, write

from harness import DataError, Sample, TaskError, View
from harness.registry import load_plugins
from harness.run.modify import make_modifiers
from harness.tasks.expressions import Expression, ExpressionError, number_in, shown_number
from harness.tasks.number_templates import NoNumbersError, TemplateError, drawn_numbers, read_template
from harness.tasks.task import Task

ROOT = Path(__file__).parents[2]
REGISTRY = load_plugins()
RULE = """\
task: sums
dataset_path: org/sums
test_split: test
doc_to_text: "{{a}} - {{b}} ="
doc_to_target: "{{answer}}"
metric_list: [{metric: exact_match}]
renewal:
  numbers: {a: "range(1, 50)", b: "range(1, 50)"}
  conditions: ["a > b"]
  columns: {a: "{a}", b: "{b}", answer: "{a - b}"}
"""
TEMPLATED = """\
task: sums
dataset_path: org/sums
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: exact_match}]
renewal: {template: template}
"""
PENS = """\
{who, 小明}有{n, 3}盒铅笔，每盒{k, 8}支，用掉{m, 5}支。还剩几支？
#init:
- who = sample(names)
- $n = range(2, 20)
- $k, $m = sample(range(2, 30), 2)
#conditions:
- m < n * k

#answer: n * k - m
"""
PENS_ROW = {"question": "小明有3盒铅笔，每盒8支，用掉5支。还剩几支？", "answer": "24-5=19\n#### 19", "template": PENS}


def modified(folder: Path, text: str, *asked: str) -> Task:
    write(folder, "task.yaml", text)
    books = library(folder)
    (ref,) = books.select(["sums"])
    return books.load(ref, {}, make_modifiers(asked or ("renew_numbers",), REGISTRY))


def samples(folder: Path, text: str, rows: list[dict[str, Any]], *asked: str) -> list[Sample]:
    return build(modified(folder, text, *asked), rows, [])


def view(sample: Sample) -> View:
    assert sample.view is not None
    return sample.view


def test_arithmetic_is_exact_and_numbers_are_written_as_people_write_them() -> None:
    names = {"n": 40, "p": 25, "kind": "week"}
    for source, expected in {
        "n * (100 - p) / 100": "30",
        "0.1 + 0.2": "0.3",
        "1 / 3": "1/3",
        "n / 16": "2.5",
        "-7 // 2": "-4",
        "int(-3.5)": "-3",
        "round(2.345, 2)": "2.34",
        "7 if kind == 'week' else 30": "7",
        "max(n, p) ** 2": "1600",
        "(n + p) % 7": "2",
        "-1 / 40": "-0.025",
    }.items():
        assert shown_number(Expression(source).value(names)) == expected, source
    assert Expression("divides(n, 8) and is_int(n / 8) and not divides(p, 8)").value(names) is True
    assert (number_in("1,200"), number_in("25%"), number_in("0.5"), number_in("４０")) == (1200, 25, Fraction(1, 2), 40)
    assert number_in("six") is number_in("1e999") is None


@pytest.mark.parametrize(
    "source",
    [
        "__import__('os').system('true')",
        "().__class__",
        "n.real",
        "[x for x in range(3)]",
        "lambda: 1",
        "f'{n}'",
        "open('/etc/passwd')",
        "range(stop=3)",
        "n := 3",
        "n @ n",
        "1 +",
        "(" * 5000 + "1" + ")" * 5000,
        "1j",
        "abs()",
    ],
)
def test_what_is_no_arithmetic_is_refused_before_it_is_evaluated(source: str) -> None:
    with pytest.raises(ExpressionError):
        Expression(source)


@pytest.mark.parametrize(
    "source",
    [
        "9 ** 9 ** 9",
        "2 ** 99999",
        "[1] * 10 ** 9",
        "[[1] * 10 ** 5] * 10 ** 5",
        "range(10 ** 9) + [1]",
        "n / 0",
        "'a' * 9",
        "range(0, 10 ** 9, 0.5)",
        "m",
        "n[0]",
    ],
)
def test_what_has_no_value_says_so_at_once(source: str) -> None:
    started = time.process_time()
    with pytest.raises(ExpressionError):
        Expression(source).value({"n": 4})
    assert time.process_time() - started < 1


def test_a_range_is_not_gone_through_to_find_what_it_cannot_hold() -> None:
    started = time.process_time()
    for source, expected in {
        "n / 8 in range(10 ** 9)": False,
        "'a' not in range(10 ** 9)": True,
        "2.0 in range(3)": True,
    }.items():
        assert Expression(source).value({"n": 4}) is expected, source
    assert time.process_time() - started < 1


def test_a_long_expression_is_named_by_its_start() -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression("1 +" * 600)
    assert len(str(caught.value)) < 150


def test_a_template_is_asked_with_numbers_that_meet_its_conditions() -> None:
    template = read_template(PENS)
    assert template.answer.value(template.own) == 19
    found = drawn_numbers(template.draws, template.conditions, template.own, random.Random(1))
    for _, values in zip(range(50), found, strict=False):
        assert values["m"] < values["n"] * values["k"] and values["k"] != values["m"]
        asked = f"小明有{values['n']}盒铅笔，每盒{values['k']}支，用掉{values['m']}支。还剩几支？"
        assert template.question(values) == asked


def test_words_and_lists_that_nobody_knows_stay_as_they_are() -> None:
    text = "{n,Ann} eats {f, half} of {k, 12} {item,Figs}; {item,figs} are {m, twice} as dear.\n#init:\n"
    template = read_template(
        text + "- n = sample(names)\n- $f = sample(fractions)\n- $k = range(20, 30, 2)\n#answer: {int(f * k) * m}"
    )
    assert (template.own["f"], template.own["m"], template.answer.value(template.own)) == (Fraction(1, 2), 2, 12)
    asked = template.question({**template.own, "k": 24})
    assert asked == "Ann eats half of 24 Figs; figs are twice as dear."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{n, 3} pens\n#init:\n- $n = range(2, 9)", "no '#answer:'"),
        ("{n, 3} pens\n#answer: n", "none of its numbers is drawn"),
        ("{n, 3} pens\n#init:\n- $n = range(2, 9)\n#answer: k", "there is no 'k'"),
        ("{n, 3} pens, {n, 4}\n#init:\n- $n = range(2, 9)\n#answer: n", "'3' at one place and '4' at another"),
        ("{n, many} pens\n#init:\n- $n = sample(amounts)\n#answer: n", "the list 'amounts' is not known"),
        ("{n, 3} pens\n#init:\n- $n\n#answer: n", "says nothing of the form"),
        ("", "no '#answer:'"),
        ("{{n, 3}} pens\n#init:\n- $n = range(2, 9)\n#answer: n", "a brace stands alone"),
        ("{n, 3} " * 10_000, "a template of 70,000 characters; 50,000 are the most"),
    ],
)
def test_a_template_that_cannot_be_used_says_why(text: str, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        read_template(text)


def test_conditions_that_nothing_meets_come_to_an_end() -> None:
    template = read_template("{n, 3} pens\n#init:\n- $n = range(2, 9)\n#conditions:\n- n > 10\n#answer: n")
    with pytest.raises(NoNumbersError, match="no other numbers meet the conditions in 20,000 draws"):
        next(drawn_numbers(template.draws, template.conditions, template.own, random.Random(1)))


@pytest.mark.parametrize("condition", ["a > b + 1000", "a > 1 / (b - b)"])
def test_a_rule_that_nothing_meets_is_refused_once_and_not_at_each_row(tmp_path: Path, condition: str) -> None:
    with pytest.raises(TaskError, match=r"renewal: no other numbers meet the conditions in 20,000 draws"):
        modified(tmp_path, RULE.replace("a > b", condition))


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("#### １９", ""),
        ("nineteen", "with its own numbers, the template's answer is 19, and not one that can be read"),
        ("-19", "with its own numbers, the template's answer is 19, and not -19"),
        ("19/2", "with its own numbers, the template's answer is 19, and not 19/2"),
    ],
)
def test_an_answer_that_cannot_be_compared_is_not_trusted(tmp_path: Path, answer: str, kept: str) -> None:
    (sample,) = samples(tmp_path, TEMPLATED, [{**PENS_ROW, "answer": answer}])
    assert view(sample).kept == kept


def test_a_rule_draws_for_each_row_the_same_numbers_each_time(tmp_path: Path) -> None:
    rows = [{"a": 9, "b": 4, "answer": 5}, {"a": 30, "b": 1, "answer": "29"}]
    first, second = samples(tmp_path, RULE, rows), samples(tmp_path, RULE, rows)
    assert [sample.doc for sample in first] == [sample.doc for sample in second]
    for sample, row in zip(first, rows, strict=True):
        doc = sample.doc
        assert doc["a"] > doc["b"] and str(doc["a"] - doc["b"]) == sample.target != str(row["answer"])
        assert type(doc["answer"]) is type(row["answer"])
    several = samples(tmp_path, RULE, rows, "renew_numbers=3")
    assert [view(sample).renewal for sample in several] == [0, 1, 2, 3] * 2
    assert several[0].doc == rows[0] and several[1].doc == first[0].doc


def test_a_row_that_no_template_fits_is_asked_as_it_is_and_says_why(tmp_path: Path) -> None:
    wrong = {**PENS_ROW, "answer": "#### 20"}
    broken = {**PENS_ROW, "template": "{n, 3}"}
    rows = [PENS_ROW, {**PENS_ROW, "template": None}, wrong, broken, {**PENS_ROW, "template": 7}]
    written = '{template: template, columns: {question: "{question}", answer: "#### {answer}"}}'
    changed, *kept = samples(tmp_path, TEMPLATED.replace("{template: template}", written), rows)
    assert changed.doc["question"] != PENS_ROW["question"] and changed.doc["answer"].startswith("#### ")
    assert [view(sample).kept for sample in kept] == [
        "it has no template",
        "with its own numbers, the template's answer is 19, and not 20",
        "it has no '#answer:'",
        "its template is no text, but int",
    ]
    assert [sample.doc for sample in kept] == rows[1:]


def test_templates_of_a_file_go_to_the_rows_that_they_name(tmp_path: Path) -> None:
    rows = [PENS_ROW, {"question": "?", "answer": "1"}]
    entries = [{"row": 0, "template": PENS}]
    for name, content in {
        "one.jsonl": json.dumps(entries[0]) + "\n",
        "one.json": json.dumps(entries),
        "many/0.json": json.dumps({"id_orig": 0, "question_annotated": PENS}),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
        text = TEMPLATED.replace("template: template", f"file: {name.partition('/0')[0]}")
        first, second = samples(tmp_path, text, rows)
        assert (view(first).renewal, view(second).kept) == (1, "it has no template")
    for content, said in {
        "[]": "holds no templates",
        "{": "not JSON",
        "[3]": "mappings with 'row' and 'template'",
        '{"row": "x", "template": ""}': "should have 'row', a number",
    }.items():
        (tmp_path / "one.json").write_text(content)
        with pytest.raises(DataError, match=said):
            modified(tmp_path, TEMPLATED.replace("template: template", "file: one.json"))
    with pytest.raises(DataError, match=r"none\.json: cannot be read: No such file"):
        modified(tmp_path, TEMPLATED.replace("template: template", "file: none.json"))
    with pytest.raises(TaskError, match=r"names no templates .*--set sums\.renewal\.file=PATH"):
        modified(tmp_path, TEMPLATED.replace("{template: template}", '{columns: {answer: "{answer}"}}'))


def test_a_task_that_does_not_say_how_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="does not say how its numbers are drawn anew"):
        modified(tmp_path, TEMPLATED.replace("renewal: {template: template}\n", ""))


def test_an_answer_that_does_not_follow_its_numbers_is_found(tmp_path: Path) -> None:
    text = TEMPLATED.replace('"{{answer}}"', '"{{gold}}"')
    with pytest.raises(
        DataError, match=r"the right answer is still 19 where the numbers are others; 'renewal\.columns'"
    ):
        samples(tmp_path, text, [{**PENS_ROW, "gold": "19"}])
    (kept,) = samples(tmp_path, RULE.replace("{a - b}", "{a + b}"), [{"a": 9, "b": 4, "answer": 5}])
    assert view(kept).kept == "with its own numbers, 'answer' is 13, and the row has 5"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('["a > b"]', '["a >"]', r"conditions.*arithmetic \('a >' is no arithmetic expression\)"),
        ('"range(1, 50)", b', '"open(3)", b', "there is no function 'open'"),
        ('"{a - b}"', '"{a.real}"', "Attribute is not part of arithmetic"),
        ("  numbers:", "  template: x\n  numbers:", "one of 'numbers', 'template' and 'file'"),
        ('  columns: {a: "{a}", b: "{b}", answer: "{a - b}"}\n', "", "'columns' beside 'numbers'"),
    ],
)
def test_mistakes_in_the_task_file_are_found_with_their_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in RULE
    with pytest.raises(TaskError, match=said):
        modified(tmp_path, RULE.replace(old, new))


@pytest.mark.parametrize("subset", ["zh", "en"])
def test_every_shipped_template_gives_its_row_and_other_ones(subset: str) -> None:
    rows = (ROOT / "tasks" / "math" / "word_sums" / subset / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 22
    for row in map(json.loads, rows):
        template = read_template(row["template"])
        assert (template.question(template.own), template.answer.value(template.own)) == (
            row["question"],
            row["answer"],
        )
        assert all(condition.value(template.own) for condition in template.conditions), row["question"]
        found = drawn_numbers(template.draws, template.conditions, template.own, random.Random(7))
        answers = [template.answer.value(values) for _, values in zip(range(40), found, strict=False)]
        assert all(isinstance(answer, int) and answer >= 0 for answer in answers), row["question"]
        assert len(set(answers)) > 8, row["question"]
