"""Prompts, to the letter: lm-eval's rules for delimiters, examples, prefixes and chat turns."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import pytest
from task_files import CHOICE, REPLY, build, load, prompts

from harness import DataError, Message, Record, Response, TaskError
from harness.spool import Spool
from harness.tasks.build import sample_from_record

ROWS = [{"q": f"q{n}", "a": n % 2} for n in range(6)]
DEV = [{"q": f"d{n}", "a": n % 2} for n in range(4)]
FIRST = "num_fewshot: 2\nfewshot_config: {sampler: first_n}\n"


def test_first_n_examples_stand_before_every_question(tmp_path: Path) -> None:
    samples = build(load(tmp_path, CHOICE + FIRST), ROWS[:2], DEV)
    before = "Subject.\n\nd0\nAnswer: yes\n\nd1\nAnswer: no\n\n"
    assert prompts(samples) == [before + "q0\nAnswer:", before + "q1\nAnswer:"]
    assert samples[0].requests[0].continuations == (" yes", " no")
    assert [sample.target for sample in samples] == [0, 1]


def test_samples_share_one_prefix(tmp_path: Path) -> None:
    samples = build(load(tmp_path, CHOICE + FIRST), ROWS, DEV)
    assert len({id(sample.requests[0].prompt.prefix) for sample in samples}) == 1


def test_drawn_examples_do_not_depend_on_order_or_limit(tmp_path: Path) -> None:
    task = load(tmp_path, CHOICE + "num_fewshot: 2\n")
    whole = prompts(build(task, ROWS, DEV))
    assert prompts(build(task, ROWS, DEV, limit=3)) == whole[:3]
    assert prompts(build(task, ROWS, DEV, seed=1)) != whole
    assert len({prompt.rpartition("q")[0] for prompt in whole}) > 1


def test_the_question_itself_is_never_an_example(tmp_path: Path) -> None:
    text = CHOICE.replace("fewshot_split: dev", "fewshot_split: test") + FIRST
    for number, prompt in enumerate(prompts(build(load(tmp_path, text), ROWS))):
        assert prompt.count(f"q{number}\n") == 1


def test_an_unnamed_pool_gives_no_copy_of_the_question(tmp_path: Path) -> None:
    text = CHOICE.replace("test_split: test", "validation_split: val")
    text = text.replace("fewshot_split: dev", "training_split: train") + FIRST
    (prompt,) = prompts(build(load(tmp_path, text), [{"q": "d0", "a": 0, "note": "a copy"}], DEV))
    assert prompt == "Subject.\n\nd1\nAnswer: no\n\nd2\nAnswer: yes\n\nd0\nAnswer:"


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="9 few-shot examples are asked for"):
        build(load(tmp_path, CHOICE + "num_fewshot: 9\n"), ROWS, DEV)


def test_examples_may_be_written_into_the_task(tmp_path: Path) -> None:
    text = CHOICE.replace("fewshot_split: dev\n", "") + "num_fewshot: 1\nfewshot_config: {samples: [{q: s, a: 1}]}\n"
    assert prompts(build(load(tmp_path, text), ROWS[:1])) == ["Subject.\n\ns\nAnswer: no\n\nq0\nAnswer:"]


def test_delimiters_and_the_answers_beginning(tmp_path: Path) -> None:
    text = REPLY + "num_fewshot: 1\nfewshot_split: dev\ntarget_delimiter: '=>'\nfewshot_delimiter: '|'\n"
    (prompt,) = prompts(build(load(tmp_path, text), [{"q": "x", "a": "y"}], [{"q": "1", "a": "2"}]))
    assert prompt == "1=>2|x"


def test_a_column_name_stands_for_its_value(tmp_path: Path) -> None:
    text = CHOICE.replace('"{{q}}\\nAnswer:"', "q").replace("['yes', 'no']", "options").replace('"{{a}}"', "a")
    (sample,) = build(load(tmp_path, text), [{"q": "?", "options": ["甲", "乙", "丙"], "a": 2}])
    assert (sample.requests[0].prompt.suffix, sample.choices, sample.target) == ("?", ("甲", "乙", "丙"), 2)


def test_options_are_shuffled_by_a_key_and_not_by_their_place(tmp_path: Path) -> None:
    text = """task: t
dataset_path: rows.jsonl
doc_to_text: "{{ [column('Right One'), x, y] | shuffled(q) | join(' ') }}"
doc_to_target: "{{ [column('Right One'), 0, 0] | shuffled(q) }}"
test_split: test
"""
    rows = [{"q": f"q{n}", "Right One": "r", "x": "x", "y": "y"} for n in range(60)]
    samples = build(load(tmp_path, text), rows, [])
    assert len(set(prompts(samples))) == 6
    assert prompts(build(load(tmp_path, text), rows[::-1], []))[::-1] == prompts(samples)
    assert all(sample.target.index("r") == sample.requests[0].prompt.text.split().index("r") for sample in samples)


def test_a_column_that_is_asked_for_by_its_text_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    text = "task: t\ndataset_path: x.jsonl\ntest_split: test\ndoc_to_target: a\n"
    task = load(tmp_path, text + "doc_to_text: \"{{ column('Right Won') }}\"\n")
    with pytest.raises(TaskError, match="no field 'Right Won'; did you mean 'Right One'"):
        build(task, [{"a": "1", "Right One": "r"}], [])


def test_columns_with_spaces_and_texts_that_spell_values_can_be_read(tmp_path: Path) -> None:
    text = CHOICE.replace('"{{q}}\\nAnswer:"', "\"{{ column('the question') }}\"")
    text = text.replace("['yes', 'no']", '"{{ (options | parsed).values() | list }}"')
    task = load(tmp_path, text)
    rows = [{"the question": "?", "options": "{'A': '甲', 'B': '乙'}", "a": 1}]
    (sample,) = build(task, rows)
    assert (sample.requests[0].prompt.suffix, sample.choices) == ("?", ("甲", "乙"))
    (sample,) = build(task, [{**rows[0], "options": '{"A": "甲", "B": "乙"}'}])
    assert sample.choices == ("甲", "乙")
    with pytest.raises(DataError, match="neither JSON nor a Python literal"):
        build(task, [{**rows[0], "options": "甲乙"}])


def test_several_contexts_with_one_continuation(tmp_path: Path) -> None:
    """Winogrande's way: the target says what follows, the choices are what stands before."""
    text = CHOICE.replace('"{{q}}\\nAnswer:"', '"{{a}}"').replace("['yes', 'no']", '"{{[q1, q2]}}"')
    text = text.replace('doc_to_target: "{{a}}"', "doc_to_target: rest").replace('description: "Subject.\\n\\n"\n', "")
    (sample,) = build(load(tmp_path, text), [{"q1": "Ann", "q2": "Bob", "a": 1, "rest": "left."}])
    assert [request.prompt.text for request in sample.requests] == ["Ann", "Bob"]
    assert {request.continuations for request in sample.requests} == {(" left.",)}
    assert sample.target == 1


def test_chat_turns_with_a_system_message(tmp_path: Path) -> None:
    (sample, *_) = build(
        load(tmp_path, CHOICE + FIRST), ROWS, DEV, apply_chat_template=True, system_instruction="Be brief."
    )
    prompt = sample.requests[0].prompt
    assert prompt.messages[0] == Message("system", "Be brief.\n\nSubject.\n\n")
    assert [message.role for message in prompt.messages[1:]] == ["user", "assistant", "user", "assistant", "user"]
    assert prompt.messages[2].content == "yes"
    assert prompt.messages[-1].content == "q0\nAnswer:"
    assert sample.requests[0].continuations == ("yes", "no"), "no blank after a chat template, as in lm-eval"


def test_one_user_turn_when_examples_are_not_turns(tmp_path: Path) -> None:
    options = {"apply_chat_template": True, "fewshot_as_multiturn": False}
    (sample, *_) = build(load(tmp_path, CHOICE + FIRST), ROWS, DEV, **options)
    assert [message.role for message in sample.requests[0].prompt.messages] == ["system", "user"]


def test_rows_that_are_odd_still_render(tmp_path: Path) -> None:
    rows = [{"q": "😀\r\n", "a": "x"}, {"q": "{{ a }}", "a": "x"}, {"q": 7, "a": "x"}]
    assert prompts(build(load(tmp_path, REPLY), rows)) == ["😀\r\n", "{{ a }}", "7"]


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_question_that_is_not_there_is_an_error(tmp_path: Path, value: object) -> None:
    with pytest.raises(DataError, match=r"doc_to_text: should be a text, found null .*row 0"):
        build(load(tmp_path, REPLY), [{"q": value, "a": "x"}])


@pytest.mark.parametrize(("limit", "count"), [(2, 2), (0.5, 3), (99, 6), (None, 6)])
def test_limits_count_rows_or_a_share_of_them(tmp_path: Path, limit: float | None, count: int) -> None:
    assert len(build(load(tmp_path, CHOICE), ROWS, limit=limit)) == count


def test_repeats_have_seeds_of_their_own_that_last(tmp_path: Path) -> None:
    text = REPLY + "repeats: 3\ngeneration_kwargs: {do_sample: true, temperature: 0.7, until: [x]}\n"
    rows = [{"q": "1", "a": "2"}, {"q": "3", "a": "4"}]
    seeds = [
        [request.generation.seed for request in s.requests if request.generation]
        for s in build(load(tmp_path, text), rows)
    ]
    again = [
        [request.generation.seed for request in s.requests if request.generation]
        for s in build(load(tmp_path, text), rows, limit=1)
    ]
    assert len({seed for many in seeds for seed in many}) == 6
    assert again == seeds[:1]


def test_gen_kwargs_of_the_command_line_win(tmp_path: Path) -> None:
    text = REPLY + 'generation_kwargs: {max_gen_toks: 7, until: ["\\n"]}\n'
    (sample,) = build(load(tmp_path, text), [{"q": "1", "a": "2"}], gen_kwargs={"max_new_tokens": 9})
    params = sample.requests[0].generation
    assert params is not None and (params.max_new_tokens, params.until) == (9, ("\n",))


def test_a_record_is_graded_again_without_its_prompt(tmp_path: Path) -> None:
    task = load(tmp_path, CHOICE.replace("['yes', 'no']", "['no', 'yes']"))
    (sample, *_) = build(task, ROWS)
    old = Record(
        "exam", "", 3, {"q": "q", "a": 1}, sample.requests[0].prompt, 0, ("yes", "no"), (Response(),), ("k",), {}
    )
    again = sample_from_record(task, old)
    assert (again.id, again.target, again.choices, again.requests) == (3, 1, ("no", "yes"), ())


@pytest.mark.parametrize(
    ("text", "row", "nulls"),
    [
        ("{{q}} ({{hint}})", {"hint": None}, ("hint",)),
        ("{{q}} ({{hint}})", {"hint": "None"}, ()),
        ("{{q}} ({{hint or ''}})", {"hint": None}, ()),
        ("{{q}}{% if hint %} ({{hint}}){% endif %}", {"hint": None}, ()),
        ("{{q}} {{hint}}{% if note %}{{note}}{% endif %}", {"hint": None, "note": None}, ("hint",)),
        ("{{q}} {{more.hint}}", {"more": {"hint": None}}, ("more",)),
        ("{{q}} {% for item in more %}{{item}}{% endfor %}", {"more": ["a", None]}, ("more",)),
        ("{{q}} {{hint}} {{more.hint}}", {"hint": None, "more": {"hint": None}}, ("hint", "more")),
    ],
)
def test_a_null_that_a_prompt_shows_is_known(
    tmp_path: Path, text: str, row: dict[str, object], nulls: tuple[str, ...]
) -> None:
    task = load(tmp_path, CHOICE.replace('doc_to_text: "{{q}}\\nAnswer:"', f"doc_to_text: {json.dumps(text)}"))
    full = {"q": "1", "a": 0, "hint": "h", "note": "n", "more": {"hint": "h"}}
    samples = build(task, [full, {**full, **row}])
    assert [sample.nulls for sample in samples] == [(), nulls]
    assert ("None" in prompts(samples)[1]) is bool(nulls or row.get("hint"))


def test_a_null_in_an_example_counts_for_the_rows_that_see_it(tmp_path: Path) -> None:
    task = load(tmp_path, CHOICE.replace("{{q}}\\nAnswer:", "{{q}} {{hint}}") + "num_fewshot: 1\n")
    shots = [{"q": "0", "a": 1, "hint": None}]
    samples = build(task, [{"q": "1", "a": 0, "hint": "h"}, {"q": "2", "a": 0, "hint": None}], shots)
    assert [sample.nulls for sample in samples] == [("hint",), ("hint",)]


def test_a_text_as_an_index_says_what_to_write(tmp_path: Path) -> None:
    task = load(tmp_path, CHOICE.replace("{{q}}\\nAnswer:", "{{ ['x', 'y'][n] }}"))
    with pytest.raises(
        TaskError, match=r"the index '1' of a list is a text, as all cells of a CSV file are; .* name | int"
    ):
        build(task, [{"n": "1", "a": 0}])
    assert prompts(build(task, [{"n": 1, "a": 0}])) == ["Subject.\n\ny"]


TALK = REPLY.replace('doc_to_text: "{{q}}"', "doc_to_messages: turns")
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Again"},
]


def test_a_conversation_of_the_row_is_asked_turn_by_turn(tmp_path: Path) -> None:
    (sample,) = build(load(tmp_path, TALK), [{"turns": TURNS[1:], "a": 0}], apply_chat_template=True)
    assert sample.requests[0].prompt.messages == tuple(Message(turn["role"], turn["content"]) for turn in TURNS[1:])


def test_a_conversation_that_is_json_text_is_read_by_parsed(tmp_path: Path) -> None:
    task = load(tmp_path, TALK.replace("doc_to_messages: turns", 'doc_to_messages: "{{turns | parsed}}"'))
    (sample,) = build(task, [{"turns": json.dumps(TURNS), "a": 0}], apply_chat_template=True)
    assert [message.text for message in sample.requests[0].prompt.messages] == ["Be brief.", "Hello", "Yes?", "Again"]


def test_the_tasks_own_system_text_stands_before_that_of_a_conversation(tmp_path: Path) -> None:
    task = load(tmp_path, TALK + "description: Rules.\n")
    (sample,) = build(task, [{"turns": TURNS, "a": 0}], apply_chat_template=True)
    messages = sample.requests[0].prompt.messages
    assert messages[0] == Message("system", "Rules.\n\nBe brief.")
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]


def test_without_a_chat_template_a_conversation_is_one_text(tmp_path: Path) -> None:
    samples = build(load(tmp_path, TALK), [{"turns": TURNS, "a": 0}])
    assert prompts(samples) == ["Be brief.\n\nUser: Hello\n\nAssistant: Yes?\n\nUser: Again\n\nAssistant:"]
    own = load(tmp_path, TALK + 'doc_to_text: "{{turns[-1].content}}"\n')
    assert prompts(build(own, [{"turns": TURNS, "a": 0}])) == ["Again"]


@pytest.mark.parametrize(
    "turns, what",
    [
        ([], "a list of turns"),
        ("Hello", "a list of turns"),
        (TURNS[:3], "the last is the user's"),
        ([{"role": "robot", "content": "x"}], "is no turn"),
        ([{"role": "tool", "content": "x"}], "the last is the user's"),
        ([{"role": "user", "content": 5}], "is no turn"),
        (["Hello"], "is no turn"),
    ],
)
def test_what_is_no_conversation_is_refused(tmp_path: Path, turns: object, what: str) -> None:
    with pytest.raises(DataError, match=what):
        build(load(tmp_path, TALK), [{"turns": turns, "a": 0}])


@pytest.mark.parametrize("key", ["num_fewshot: 1", "paraphrases: [x]"])
def test_a_conversation_takes_no_examples_and_no_other_wordings(tmp_path: Path, key: str) -> None:
    with pytest.raises(TaskError, match="doc_to_messages"):
        load(tmp_path, TALK + key + "\n")


def test_rows_that_lie_in_a_file_are_let_go_with_the_last_sample(tmp_path: Path) -> None:
    rows = Spool(ROWS, block=1)
    is_there = weakref.ref(rows)
    samples = build(load(tmp_path, CHOICE), rows, DEV)
    del rows
    assert (len(samples), is_there()) == (len(ROWS), None)
