"""Conversations with the model's own answers: each turn is asked once, in its turn, and survives a kill."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

import harness
from harness import Message, Model, Prompt, Request, Response
from harness.errors import UsageError
from harness.run.conversations import continued, unusable

TASK = """
task: talk
dataset_path: rows.jsonl
test_split: train
subsets: {first: {turn: 1}, second: {turn: 2}, third: {turn: 3}}
doc_to_messages: "{{ asked[: subset.turn] | with_own_answers }}"
doc_to_target: "{{gold}}"
cluster_key: id
where: subset.turn <= asked | length
metric_list: [{metric: exact_match}]
"""
ROWS = [
    {"id": n, "asked": [f"one {n}", f"two {n}", f"three {n}"], "gold": f"three {n}<two {n}<one {n}"} for n in (1, 2)
]


class Chain(Model):
    """Answers a turn with its text and the answer before it; says nothing to what `silent` names, and stops `after`."""

    name: ClassVar[str] = "chain"
    supports: ClassVar[frozenset[str]] = frozenset({"generate"})

    def __init__(self, *, silent: str = "", cut: str = "", after: int = 99) -> None:
        self.silent, self.cut, self.after = silent, cut, after
        self.rounds: list[list[str]] = []

    @property
    def identity(self) -> dict[str, Any]:
        return {"model": "chain"}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        self.rounds.append([request.prompt.messages[-1].text for request in requests])
        for index, request in enumerate(requests):
            if sum(map(len, self.rounds[:-1])) + index >= self.after:
                raise KeyboardInterrupt
            *before, last = (message.text for message in request.prompt.messages)
            if last == self.silent:
                yield index, Response(error="no answer")
            elif last == self.cut:
                yield index, Response(text="", reasoning="hm", finish_reason="length")
            else:
                yield index, Response(text="<".join([last, *before[-1:]]), finish_reason="stop")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    file = tmp_path / "talk.yaml"
    file.write_text(TASK)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return file


def scores(result: Any) -> dict[str, list[float | None]]:
    by_subset: dict[str, list[float | None]] = {}
    for record in result.samples():
        by_subset.setdefault(record.subset, []).append(record.scores["exact_match"])
    return by_subset


def ask(task: Path, model: Model, **options: Any) -> Any:
    return harness.evaluate(model, tasks=task, output=task.parent / "runs", **{"apply_chat_template": True, **options})


def test_later_turns_follow_the_models_own_answers_and_each_turn_is_asked_once(task: Path) -> None:
    model = Chain()
    result = ask(task, model)
    assert model.rounds == [["one 1", "one 2"], ["two 1", "two 2"], ["three 1", "three 2"]]
    assert scores(result) == {"first": [0, 0], "second": [0, 0], "third": [1, 1]}
    third = next(record for record in result.samples() if record.subset == "third")
    assert [message.text for message in third.prompt.messages] == ["one 1", "one 1", "two 1", "two 1<one 1", "three 1"]


def test_a_run_that_was_stopped_asks_no_answered_turn_again(task: Path) -> None:
    with pytest.raises(harness.HarnessError):
        ask(task, Chain(after=3))
    again = Chain()
    result = ask(task, again)
    assert again.rounds == [["two 2", "three 1"], ["three 2"]]
    assert scores(result)["third"] == [1, 1]
    nothing = Chain()
    ask(task, nothing)
    assert nothing.rounds == []


@pytest.mark.parametrize("how", ["silent", "cut"])
def test_what_follows_a_turn_without_an_answer_failed_and_is_no_zero(task: Path, how: str) -> None:
    result = ask(task, Chain(**{how: "two 1"}))
    assert scores(result)["third"] == [None, 1]
    failed = next(record for record in result.samples() if record.subset == "third" and record.id == 0)
    assert failed.error is not None
    assert failed.error.startswith("an earlier turn has no answer")


def test_later_turns_are_shown_answers_without_reasoning_that_stands_in_the_text() -> None:
    request = Request("generate", Prompt(messages=(Message("user", "one"), Message("assistant", "", is_own=True))))
    reply = Response("<think>Let me see.</think>\n\nSeven.", finish_reason="stop")
    assert continued(request, reply).prompt.messages[1].text == "Seven."
    assert unusable(reply) is None
    assert unusable(Response("<think>Let me", finish_reason="length")) is not None


def test_repeats_are_conversations_of_their_own(task: Path) -> None:
    model = Chain()
    sampled = {"do_sample": True, "temperature": 1.0}
    result = ask(task, model, overrides={"talk": {"repeats": 2}}, gen_kwargs=sampled, limit=1)
    assert [len(asked) for asked in model.rounds] == [2, 2, 2]
    assert scores(result)["third"] == [1]


def test_without_chat_turns_such_a_task_is_refused_before_anything_loads(task: Path) -> None:
    with pytest.raises(UsageError, match="add --apply_chat_template"):
        ask(task, Chain(), apply_chat_template=False)


def test_choices_have_no_answers_of_their_own(task: Path) -> None:
    choices = "output_type: multiple_choice\ndoc_to_choice: [a, b]\n"
    task.write_text(TASK.replace('doc_to_target: "{{gold}}"', "doc_to_target: 0").split("metric_list")[0] + choices)
    with pytest.raises(UsageError, match="own answers, of which output_type 'multiple_choice' has none"):
        ask(task, Chain())
