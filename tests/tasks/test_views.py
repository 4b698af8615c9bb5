"""How a modified task shows its rows: which prompts, in which order, with which right answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from task_files import build, library, prompts, write

from harness import Asked, DataError, Modifier, PluginError, Sample, TaskError, UsageError, View
from harness.registry import load_plugins
from harness.run.modify import make_modifiers
from harness.tasks.build import sample_from_record
from harness.tasks.task import Task
from harness.types import Record

REGISTRY = load_plugins()
TASK = """\
task: quiz
dataset_path: org/quiz
test_split: test
fewshot_split: dev
num_fewshot: 1
output_type: multiple_choice
description: "Subject.\\n\\n"
doc_to_text: "{{q}}\\nA. {{A}}\\nB. {{B}}\\nC. {{C}}\\nAnswer:"
doc_to_choice: [A, B, C]
doc_to_target: y
options: {columns: [A, B, C], answer: y, question: q}
paraphrases:
  - doc_to_text: "Q: {{q}} ({{A}}|{{B}}|{{C}})"
  - {description: "Well.\\n\\n", target_delimiter: "->"}
"""
ROWS = [
    {"q": "红色？", "A": "草", "B": "血", "C": "雪", "y": "B"},
    {"q": "green?", "A": "grass", "B": "snow", "C": "blood", "y": "A"},
    {"q": "white?", "A": "snow", "B": "grass", "C": "以上都对", "y": "A"},
]
SHOTS = [{"q": "blue?", "A": "sky", "B": "sun", "C": "sand", "y": "A"}]


def modified(folder: Path, *asked: str, text: str = TASK, variant: str = "") -> Task:
    write(folder, "task.yaml", text)
    books = library(folder)
    (ref,) = books.select(["quiz" + variant])
    return books.load(ref, {}, make_modifiers(asked, REGISTRY))


def rows(task: Task, **options: Any) -> list[list[Sample]]:
    """The samples of each row."""
    samples = build(task, ROWS, SHOTS, **options)
    return [[sample for sample in samples if sample.id == number] for number in sorted({s.id for s in samples})]


def view(sample: Sample) -> View:
    assert sample.view is not None
    return sample.view


def test_circular_shows_every_rotation_once_and_the_answer_follows(tmp_path: Path) -> None:
    task = modified(tmp_path, "circular")
    assert task.name == "quiz+circular"
    first, second, _ = rows(task)
    assert [view(sample).order for sample in first] == [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    assert [(view(sample).index, view(sample).count) for sample in first] == [(0, 3), (1, 3), (2, 3)]
    assert [sample.target for sample in first] == [1, 0, 2]
    assert [sample.target for sample in second] == [0, 2, 1]
    assert [text.splitlines()[-4:-1] for text in prompts(first)] == [
        ["A. 草", "B. 血", "C. 雪"],
        ["A. 血", "B. 雪", "C. 草"],
        ["A. 雪", "B. 草", "C. 血"],
    ]
    assert [sample.doc["A"] for sample in first] == ["草", "血", "雪"]


def test_the_first_rotation_asks_what_the_task_itself_asks(tmp_path: Path) -> None:
    plain = build(modified(tmp_path), ROWS, SHOTS)
    assert [views[0].requests for views in rows(modified(tmp_path, "circular"))] == [s.requests for s in plain]
    assert [views[0].requests for views in rows(modified(tmp_path, "paraphrase"))] == [s.requests for s in plain]


def test_all_rotations_share_the_examples_as_one_object(tmp_path: Path) -> None:
    samples = [sample for views in rows(modified(tmp_path, "circular")) for sample in views]
    first = samples[0].requests[0].prompt.prefix
    assert first.endswith("blue?\nA. sky\nB. sun\nC. sand\nAnswer: A\n\n")
    assert all(sample.requests[0].prompt.prefix is first for sample in samples)


def test_options_that_refer_to_each_other_keep_their_order_and_say_why(tmp_path: Path) -> None:
    for modifier in ("circular", "shuffle_options"):
        (kept,) = rows(modified(tmp_path, modifier))[2]
        assert view(kept).order == (0, 1, 2)
        assert view(kept).fixed == "option C refers to others: 以上都对"
        assert kept.target == 0


def test_a_shuffled_order_is_the_rows_own(tmp_path: Path) -> None:
    task = modified(tmp_path, "shuffle_options")
    orders = [view(views[0]).order for views in rows(task, seed=3)]
    assert orders == [view(views[0]).order for views in rows(task, seed=3)]
    assert [view(views[0]).order for views in rows(task, seed=3, limit=1)] == orders[:1]
    many = [{**ROWS[0], "q": str(number)} for number in range(60)]
    drawn = [view(sample).order for sample in build(task, many, SHOTS)]
    assert set(drawn) == {(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)}
    assert drawn != [view(sample).order for sample in build(task, many, SHOTS, seed=4)]


def test_without_its_question_a_row_keeps_options_and_answer(tmp_path: Path) -> None:
    task = modified(tmp_path, "no_question")
    (first,), (second,), (third,) = rows(task)
    assert prompts([first])[0].endswith("\n\n\nA. 草\nB. 血\nC. 雪\nAnswer:")
    assert (first.target, second.target, third.target) == (1, 0, 0)
    assert first.requests[0].prompt.prefix.count("blue?") == 1  # examples keep theirs


def test_a_passage_goes_with_its_question(tmp_path: Path) -> None:
    text = TASK.replace('"{{q}}\\n', '"{{p}} {{q}}\\n').replace("question: q", "question: [q, p]")
    task = modified(tmp_path, "no_question", text=text.replace("num_fewshot: 1", "num_fewshot: 0"))
    (sample,) = build(task, [{**ROWS[0], "p": "passage"}])
    assert prompts([sample]) == ["Subject.\n\n \nA. 草\nB. 血\nC. 雪\nAnswer:"]


def test_modifiers_work_together(tmp_path: Path) -> None:
    task = modified(tmp_path, "shuffle_options", "no_question")
    assert task.name == "quiz+shuffle_options+no_question"
    (first,), *_ = rows(task)
    alone = rows(modified(tmp_path, "shuffle_options"))[0][0]
    assert view(first).order == view(alone).order
    assert view(first).question == ""
    turned = rows(modified(tmp_path, "circular", "shuffle_options"))[0]
    assert sorted(view(sample).order for sample in turned) != [view(alone).order]
    assert len({view(sample).order for sample in turned}) == 3


def test_a_paraphrase_words_question_and_examples(tmp_path: Path) -> None:
    task = modified(tmp_path, "paraphrase")
    own, other, last = prompts(rows(task)[0])
    assert own == "Subject.\n\nblue?\nA. sky\nB. sun\nC. sand\nAnswer: A\n\n红色？\nA. 草\nB. 血\nC. 雪\nAnswer:"
    assert other == "Subject.\n\nQ: blue? (sky|sun|sand) A\n\nQ: 红色？ (草|血|雪)"
    assert last == own.replace("Subject.", "Well.").replace("Answer: A", "Answer:->A")
    first = rows(task)[0]
    assert [sample.requests[0].continuations[0] for sample in first] == [" A", " A", "->A"]
    assert len(rows(modified(tmp_path, "paraphrase=2"))[0]) == 2


def test_a_column_can_hold_other_questions(tmp_path: Path) -> None:
    text = TASK[: TASK.index("paraphrases")] + "paraphrases: others\n"
    task = modified(tmp_path, "paraphrase", text=text.replace("num_fewshot: 1", "num_fewshot: 0"))
    samples = build(task, [{**ROWS[0], "others": ["哪个红？", " ", "red?"]}, {**ROWS[1], "others": None}])
    assert [text.split("\n")[2] for text in prompts(samples)] == ["红色？", "哪个红？", "red?", "green?"]
    with pytest.raises(DataError, match=r"column 'others' should be a list of texts, found int"):
        build(task, [{**ROWS[0], "others": 3}])


def test_a_variant_that_words_the_question_itself_has_no_paraphrases_but_its_own(tmp_path: Path) -> None:
    text = TASK + "variants:\n  brief: {doc_to_text: '{{q}} {{A}} {{B}} {{C}}'}\n  zero: {num_fewshot: 0}\n"
    assert len(modified(tmp_path, "paraphrase", text=text, variant=":zero").paraphrases) == 2
    with pytest.raises(TaskError, match=r"task 'quiz:brief' does not say how else to ask: add 'paraphrases:'"):
        modified(tmp_path, "paraphrase", text=text, variant=":brief")


def test_a_record_is_graded_again_in_the_view_that_was_asked(tmp_path: Path) -> None:
    task = modified(tmp_path, "circular")
    for sample in [sample for views in rows(task) for sample in views]:
        record = Record(
            sample.task, "", sample.id, sample.doc, sample.requests[0].prompt, None, (), (), (), {}, view=sample.view
        )
        again = sample_from_record(task, record)
        assert (again.target, again.choices, again.view) == (sample.target, sample.choices, sample.view)


def test_what_only_modifiers_read_is_no_part_of_a_plain_tasks_digest(tmp_path: Path) -> None:
    bare = TASK[: TASK.index("options:")]
    assert modified(tmp_path, text=bare).digest == modified(tmp_path).digest
    digests = {modified(tmp_path, *asked).digest for asked in ((), ("circular",), ("paraphrase",), ("paraphrase=2",))}
    assert len(digests) == 4
    reworded = TASK.replace("Q: {{q}}", "{{q}}")
    assert modified(tmp_path, "paraphrase", text=reworded).digest != modified(tmp_path, "paraphrase").digest


def test_an_answer_that_does_not_follow_its_option_is_found(tmp_path: Path) -> None:
    task = modified(tmp_path, "circular", text=TASK.replace("answer: y", "answer: z"))
    with pytest.raises(DataError, match=r"task.yaml:11: options: the right answer does not follow its option.*row 0"):
        build(task, ROWS, SHOTS)
    with pytest.raises(TaskError, match="columns A, B, C in this order"):
        modified(tmp_path, "circular", text=TASK.replace("columns: [A, B, C]", "columns: [B, A, C]"))


def test_a_prompt_that_does_not_show_the_options_is_refused(tmp_path: Path) -> None:
    text = TASK.replace("\\nA. {{A}}\\nB. {{B}}\\nC. {{C}}", "").replace("[A, B, C]\ndoc", "'{{[A, B, C]}}'\ndoc")
    task = modified(
        tmp_path, "circular", text=text.replace("doc_to_target: y", "doc_to_target: \"{{'ABC'.index(y)}}\"")
    )
    with pytest.raises(
        TaskError, match=r"task.yaml:8: the prompt of task 'quiz\+circular' does not show what --modify"
    ):
        build(task, ROWS, SHOTS)


@pytest.mark.parametrize(
    ("asked", "removed", "message"),
    [
        (["circular"], "options", "does not say where its options are: add 'options: .* \\(--modify circular needs it"),
        (["shuffle_options"], "options", "--modify shuffle_options needs it"),
        (["no_question"], ", question: q", "does not say which column is the question: add 'question:'"),
        (["paraphrase"], "paraphrases", "does not say how else to ask: add 'paraphrases:'"),
        (["repeats=3"], "nothing", "is scored by log-likelihood, which is the same each time"),
    ],
)
def test_a_task_that_does_not_say_enough_is_refused_with_the_remedy(
    tmp_path: Path, asked: list[str], removed: str, message: str
) -> None:
    text = TASK[: TASK.index(removed)] if removed in ("options", "paraphrases") else TASK.replace(removed, "")
    text = text.replace("doc_to_target: y", "doc_to_target: '{{y}}{{\"\"}}'")  # nothing can be inferred
    with pytest.raises((TaskError, UsageError), match=message):
        modified(tmp_path, *asked, text=text)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["circulr"], r"--modify: unknown modifier 'circulr'; did you mean 'circular'\?"),
        (["circular", "paraphrase"], "circular and paraphrase each show a row several times; give one of them"),
        (["circular", "circular"], "'circular' is given twice"),
        (["circular=2"], "modifier 'circular' takes no value"),
        (["repeats"], "modifier 'repeats' needs the option 'n'"),
        (["repeats=1"], "'1' is not a number of repeats of at least 2"),
        (["repeats=x"], "'x' is not a number of repeats"),
        (["paraphrase=99"], "'99' is not a number of wordings from 2 to 16"),
    ],
)
def test_a_mistake_in_the_flag_is_one_line(asked: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_modifiers(asked, REGISTRY)


class Odd(Modifier):
    name = "odd"
    needs = frozenset({"options"})

    def views(self, asked: Asked) -> Sequence[View]:
        return [View(order=(0, 0, 1))]


class Mute(Modifier):
    name = "mute"

    def views(self, asked: Asked) -> Sequence[View]:
        return []


@pytest.mark.parametrize(("modifier", "message"), [(Odd(), "orders 3 options as"), (Mute(), "in no way at all")])
def test_a_modifier_that_breaks_its_contract_is_named(tmp_path: Path, modifier: Modifier, message: str) -> None:
    write(tmp_path, "task.yaml", TASK)
    books = library(tmp_path)
    task = books.load(books.select(["quiz"])[0], {}, [modifier])
    with pytest.raises(PluginError, match=f"modifier '{modifier.name}' .*{message}"):
        build(task, ROWS, SHOTS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("paraphrases: []", r"task.yaml:12: paraphrases: should be something, not empty"),
        ("paraphrases: [{}]", r"task.yaml:12: .*a mapping with at least one key"),
        (
            "paraphrases: [{doc_to_txt: x}]",
            r"unknown key 'doc_to_txt' in 'paraphrases\[0\]'; did you mean 'doc_to_text'",
        ),
        ("paraphrases: ['{{q']", r"task.yaml:12: doc_to_text: "),
    ],
)
def test_a_mistake_in_paraphrases_names_its_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        modified(tmp_path, text=TASK[: TASK.index("paraphrases")] + line + "\n")


def test_rows_without_an_answer_can_be_turned(tmp_path: Path) -> None:
    text = TASK.replace("doc_to_target: y", "doc_to_target: '{{ y | default(none) }}'")
    task = modified(tmp_path, "circular", text=text.replace("num_fewshot: 1", "num_fewshot: 0"))
    samples = build(task, [{name: value for name, value in ROWS[0].items() if name != "y"}])
    assert [sample.target for sample in samples] == [None, None, None]
    assert json.dumps([sample.doc["A"] for sample in samples], ensure_ascii=False) == '["草", "血", "雪"]'
