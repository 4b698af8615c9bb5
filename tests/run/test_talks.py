"""Conversations with a simulated user in an environment: the calls run, the end state counts, a kill loses no step."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sandboxed import needs_sandbox
from scripted_server import Reply, ScriptedServer, chat

import harness
from harness import Model, Request, Response
from harness.cli.new import copy_scaffold, find_scaffold
from harness.errors import UsageError
from harness.record.cost import cost_lines
from harness.run.rescore import score_run
from harness.scoring import read_calls
from harness.task_code import environments
from harness.testing import run_harness
from harness.types import Sample


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


class Librarian(Model):
    """Does what the last turn asks for, and stops `after` so many answers."""

    name: ClassVar[str] = "librarian"
    supports: ClassVar[frozenset[str]] = frozenset({"generate"})
    takes_tools: ClassVar[bool] = True

    def __init__(self, *, after: int = 99, wrong: str = "") -> None:
        self.after, self.wrong = after, wrong
        self.asked: list[list[str]] = []
        self.roles: list[list[str]] = []

    @property
    def identity(self) -> dict[str, Any]:
        return {"wrong": self.wrong}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        self.asked.append([request.prompt.messages[-1].text for request in requests])
        for index, request in enumerate(requests):
            if sum(map(len, self.asked[:-1])) + index >= self.after:
                raise KeyboardInterrupt
            self.roles.append([message.role for message in request.prompt.messages])
            yield (
                index,
                Response(
                    text=self.reply_to(request.prompt.messages[-1].text),
                    finish_reason="stop",
                    prompt_tokens=10,
                    completion_tokens=2,
                ),
            )

    def reply_to(self, last: str) -> str:
        if self.wrong and "Emma" in last:
            return self.wrong
        said = {
            "Emma please": call("find", title="Emma"),
            "Emma: on the shelf": "Yes."
            + call("lend", title="Emma", reader="Ann")
            + call("lend", title="Ulysses", reader="A"),
            '{"lent": "Emma", "weeks": 2}': "Emma is yours for 2 weeks.",
            "Here is Ulysses": call("take_back", titles=["Ulysses"]),
            "thank you": "Good bye.",
            "I complain": call("call_the_head"),
        }
        return said[last]


def said(text: str) -> Response:
    return Response(text=text, finish_reason="stop", prompt_tokens=100, completion_tokens=10)


class Reader(Model):
    """Plays the readers."""

    name: ClassVar[str] = "reader"
    supports: ClassVar[frozenset[str]] = frozenset({"generate"})
    identity: ClassVar[dict[str, Any]] = {}
    silent = ""

    def __init__(self) -> None:
        self.asked = 0

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        wishes = {"Ann": "Emma please", "Bob": "Here is Ulysses", "Cid": "I complain"}
        for index, request in enumerate(requests):
            self.asked += 1
            told, *turns = request.prompt.messages
            wish = next(wish for name, wish in wishes.items() if f"You are {name}" in told.text)
            if len(turns) == 1:
                assert turns[0].text == "Hi! How can I help you today?"
                yield index, Response(error="no line") if wish == self.silent else said(wish)
            else:
                yield index, said("Thanks. ###STOP###")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    copy_scaffold(find_scaffold("environment"), "my_environment", "lending", tmp_path / "lending")
    return tmp_path / "lending" / "lending.yaml"


def ask(task: Path, model: Model, user: Model | None, **options: Any) -> Any:
    given = {"apply_chat_template": True, "trust_task_code_in_process": [task.parent], **options}
    return harness.evaluate(model, tasks=task, user_model=user, output=task.parent / "runs", **given)


def scores(result: Any) -> list[float | None]:
    return [record.scores["end_state"] for record in sorted(result.samples(), key=lambda record: record.id)]


def test_calls_run_on_the_state_of_their_conversation_and_the_end_state_is_compared(task: Path) -> None:
    model, user = Librarian(), Reader()
    result = ask(task, model, user)
    assert scores(result) == [1, 1, 1]
    assert [len(asked) for asked in model.asked] == [3, 2, 1]  # all conversations in one batch
    assert model.roles[0] == ["system", "user"]
    assert model.roles[-1] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    (first, *_) = sorted(result.samples(), key=lambda record: record.id)
    (answer,) = first.responses
    told = json.loads(answer.text or "")
    assert told["end"] == "user"
    assert [turn["role"] for turn in told["turns"]] == ["user", *["assistant", "tool"] * 2, "assistant"]
    assert told["turns"][3]["call"] == {
        "name": "lend",
        "arguments": {"title": "Emma", "reader": "Ann"},
    }  # the first of two
    assert (answer.prompt_tokens, answer.completion_tokens) == (30, 6)


def test_what_the_user_takes_is_in_the_cost_and_in_the_budget(task: Path) -> None:
    """The model takes 12 tokens a step, six steps in all; its user 110 an answer, five of them."""
    prices = {"prices": "in=1000000,out=0", "user_prices": "in=0,out=1000000"}
    result = ask(task, Librarian(), Reader(), **prices)
    (usage,) = (each["usage"] for each in result.report["tasks"])
    assert (usage["prompt_tokens"], usage["cost"]) == (60, 60)
    assert (usage["user"]["prompt_tokens"], usage["user"]["completion_tokens"], usage["user"]["cost"]) == (500, 50, 50)
    lines = list(cost_lines(result.report))
    assert lines[1] == "tokens of the simulated user: 500 of prompts, 50 of answers; cost 50.0000"
    again = score_run(result.path).report["tasks"][0]["usage"]
    assert again["user"] == usage["user"]

    runs = task.parent / "runs"
    runs.rename(task.parent / "before")
    user = Reader()
    with pytest.raises(harness.HarnessError, match="the budget is spent: 390 tokens, 1 requests"):
        ask(task, Librarian(), user, budget_tokens=400)
    assert user.asked == 3
    unpriced = ask(task, Librarian(), Reader(), prices="in=1,out=1").report["tasks"][0]["usage"]
    assert unpriced["user"]["cost"] is None and unpriced["cost"] > 0
    with pytest.raises(UsageError, match="--user_prices in="):
        ask(task, Librarian(), Reader(), prices="in=1,out=1", budget=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "end"),
    [
        ("No.", "user"),
        ("<tool_call>{oops</tool_call>", "unreadable"),
        (call("lend", title="Emma", reader="Ann"), "user"),  # 2 weeks are not said
        (call("find", title="Emma"), "steps"),
    ],
)
def test_what_did_not_do_what_was_wished_scores_0(task: Path, wrong: str, end: str) -> None:
    model = Librarian(wrong=wrong)
    if end == "user" and wrong != "No.":
        model.reply_to = lambda last: wrong if last == "Emma please" else "Done."  # type: ignore[method-assign]
    if end == "steps":
        model.reply_to = lambda last: wrong  # type: ignore[method-assign]
    (record,) = ask(task, model, Reader(), limit=1).samples()
    assert record.scores["end_state"] == 0
    assert json.loads(record.responses[0].text or "")["end"] == end


def test_a_run_that_was_stopped_asks_no_step_again(task: Path) -> None:
    with pytest.raises(harness.HarnessError):
        ask(task, Librarian(after=4), Reader())
    model, user = Librarian(), Reader()
    result = ask(task, model, user)
    assert scores(result) == [1, 1, 1]
    assert ([len(asked) for asked in model.asked], user.asked) == ([2], 2)
    nobody = Librarian()
    ask(task, nobody, Reader())
    assert nobody.asked == []


@pytest.mark.slow
def test_where_the_user_says_nothing_the_sample_failed_and_is_no_zero(task: Path) -> None:
    user = Reader()
    user.silent = "I complain"
    result = ask(task, Librarian(), user)
    assert scores(result) == [1, 1, None]
    assert "the simulated user has no answer: no line" in str([record.error for record in result.samples()])


@pytest.mark.slow
def test_scores_are_made_again_without_a_model(task: Path) -> None:
    result = ask(task, Librarian(), Reader())
    assert scores(score_run(result.path)) == [1, 1, 1]


@pytest.mark.slow
def test_what_is_missing_is_said_before_anything_loads(task: Path) -> None:
    with pytest.raises(UsageError, match="a user whom another model plays: add --user_model"):
        ask(task, Librarian(), None)
    with pytest.raises(UsageError, match="runs by consent alone: add --trust_task_code"):
        ask(task, Librarian(), Reader(), trust_task_code_in_process=[])
    text = task.read_text()
    task.write_text("".join(line for line in text.splitlines(keepends=True) if "policy:" not in line))
    with pytest.raises(UsageError, match="needs 'environment: policy'"):
        ask(task, Librarian(), Reader())
    task.write_text(text.replace("environment:", "doc_to_tools: '[]'\nenvironment:"))
    with pytest.raises(UsageError, match="leave out 'doc_to_tools'"):
        ask(task, Librarian(), Reader())
    task.write_text(text.replace("{{ wish }}", "{{ whish }}"))
    with pytest.raises(harness.HarnessError, match="whish"):
        ask(task, Librarian(), Reader())


@pytest.mark.slow
def test_without_a_user_it_ends_with_the_models_answer(task: Path) -> None:
    lines = (
        task.read_text().split("simulated_user:")[0] + "doc_to_text: Emma please\nmetric_list: [{metric: end_state}]\n"
    )
    task.write_text(lines)
    (record,) = ask(task, Librarian(), None, limit=1).samples()
    assert json.loads(record.responses[0].text or "")["end"] == "answer" and record.scores["end_state"] == 1


@needs_sandbox
@pytest.mark.slow
def test_the_same_in_the_sandbox(task: Path) -> None:
    result = ask(task, Librarian(), Reader(), trust_task_code_in_process=[], trust_task_code=[task.parent])
    assert scores(result) == [1, 1, 1]


def test_a_function_says_what_it_takes_by_its_signature() -> None:
    def book(state: object, city: str, nights: int, tags: list[str] | None = None, at: float = 0.5) -> str:
        """Books a room."""
        return city

    (schema,) = environments.offered([book])
    assert schema == {
        "name": "book",
        "description": "Books a room.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "nights": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "at": {"type": "number"},
            },
            "required": ["city", "nights"],
        },
    }


def test_an_exception_is_what_the_function_returns_and_equal_states_have_one_digest() -> None:
    def put(state: dict[str, Any], key: str) -> None:
        state[key] = {"b", "a"}

    tools = [put]
    one = environments.played("x", tools, dict, {}, [["put", {"key": "k"}], ["put", {"key": "l"}]])
    other = environments.played("y", tools, dict, {}, [["put", {"key": "l"}], ["put", {"key": "k"}]])
    assert one.digest == other.digest
    assert environments.played("z", tools, dict, {}, [["put", {}], ["drop", {}]]).observations == [
        "Error: test_an_exception_is_what_the_function_returns_and_equal_states_have_one_digest.<locals>.put() "
        "missing 1 required positional argument: 'key'",
        "Unknown action drop",
    ]


@pytest.mark.slow
def test_one_server_can_be_both_and_no_secret_is_written_down(task: Path) -> None:
    librarian, reader = Librarian(), {"Ann": "Emma please", "Bob": "Here is Ulysses", "Cid": "I complain"}
    server = ScriptedServer()

    def reply(asked: Any) -> Reply:
        first, *turns = asked.body["messages"]
        if "tools" not in asked.body:
            wish = next(wish for name, wish in reader.items() if f"You are {name}" in first["content"])
            return chat(wish if len(turns) == 1 else "###STOP###")
        text = librarian.reply_to(turns[-1]["content"])
        if (calls := read_calls(text)) == ():
            return chat(text)
        function = {"name": calls[0].name, "arguments": json.dumps(calls[0].arguments)}
        return chat(None, "tool_calls", tool_calls=[{"id": "1", "type": "function", "function": function}])

    server.answer = reply
    who = f"base_url={server.url},num_concurrent=4,api=chat"
    told = ["--tasks", task, "--trust_task_code_in_process", task.parent, "--apply_chat_template", "--model", "openai"]
    told += ["--model_args", f"model=agent,{who}", "--user_model", f"openai,model=user,api_key=sk-hidden,{who}"]
    with contextlib.closing(server):
        run = run_harness(*told, "--output", task.parent / "runs")
        asked = len(server.asked)
        assert run_harness(*told, "--output", task.parent / "runs").exit_code == 0
        assert len(server.asked) == asked
    assert run.exit_code == 0, run.stderr
    assert "end_state  1.0000" in run.stdout
    agent = next(asked.body for asked in server.asked if "tool" in [turn["role"] for turn in asked.body["messages"]])
    assert [turn["role"] for turn in agent["messages"][:4]] == ["system", "user", "assistant", "tool"]
    assert agent["messages"][2]["tool_calls"][0]["id"] == agent["messages"][3]["tool_call_id"]
    for file in (task.parent / "runs").rglob("*.json*"):
        assert "sk-hidden" not in file.read_text()


@pytest.mark.slow
def test_repeats_are_conversations_of_their_own(task: Path) -> None:
    model = Librarian()
    result = ask(task, model, Reader(), repeats=2, metrics="pass_hat_k(k=2)", limit=1, gen_kwargs={"temperature": 1})
    assert [len(asked) for asked in model.asked] == [2, 2, 2]
    (record,) = result.samples()
    assert len(record.responses) == 2 and record.scores == {"end_state": 1, "pass_hat_k": 1}
    assert len(set(record.request_keys)) == 2


@pytest.mark.slow
def test_a_model_that_cannot_be_shown_what_functions_return_is_refused_beforehand(task: Path) -> None:
    class Strict(Librarian):
        name = "strict"

        def inspect_samples(self, samples: Sequence[Sample]) -> None:
            roles = {
                message.role for sample in samples for request in sample.requests for message in request.prompt.messages
            }
            if "tool" in roles:
                raise UsageError("the chat template shows no turns of tools")

    with pytest.raises(UsageError, match="shows no turns of tools"):
        ask(task, Strict(), Reader())
