"""Conversations that nobody knows beforehand: a model acts on an environment, and another plays its user.

    steps = talk(task, sample, request)
    step = next(steps)
    while True:
        step = steps.send(answer_to(step))        # until StopIteration, whose value is the conversation as one answer

The protocol is tau-bench's (sierra-research/tau-bench: envs/base.py, envs/user.py, agents/tool_calling_agent.py; Yao et
al. 2024, arXiv 2406.12045). Each step is a request like any other: it has a key, it is asked in one batch with those of
all other conversations, and it is found on disk when a run goes on. Calls run in the sandbox of the task's Python.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from harness.errors import DataError
from harness.model import Model
from harness.quick import dataclass
from harness.reasoning import strip_reasoning
from harness.run.answers import plugin_errors
from harness.run.budget import Account, asked_within
from harness.run.conversations import unusable
from harness.scoring.extraction.tool_calls import CallError, ToolCall, read_calls
from harness.tasks.file_models import words
from harness.tasks.generation import generation_params
from harness.tasks.plain_rows import row_context
from harness.tasks.task import Task
from harness.types import JSON, GenerationParams, Message, Prompt, Request, Response, Sample

Who = Literal["model", "user"]
End = Literal["user", "tool", "answer", "steps", "cut", "unreadable"]
_USER_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be asked next, and of whom."""

    who: Who
    request: Request


@dataclass(slots=True)
class SimulatedUser:
    """The model that plays the user, for all models of a run; it loads when it is first asked."""

    model: Model
    is_loaded: bool = False

    def answers(
        self, requests: Sequence[Request], stage: Callable[[str], None], account: Account | None = None
    ) -> Iterator[tuple[int, Response]]:
        """What it says, as `harness.run.answers.answers`. stage: is told of its loading. account: what it may spend."""
        name = self.model.name
        if not self.is_loaded:
            stage(f"loading the simulated user, {name}")
            with plugin_errors(name, "could not be loaded"):
                self.model.load()
            self.is_loaded = True
        yield from asked_within(account, self.model, name, requests)


def user_prompt(task: Task, sample: Sample) -> str:
    """What the model that plays the user is told of a row; empty where nobody plays it. Raises `DataError`."""
    template = task.templates.simulated_user
    return "" if template is None else template.text(row_context(sample.doc, task.subset(sample.subset)))


def as_it_goes_on(sample: Sample) -> Sample:
    """The sample with a conversation such as it may become: a model that cannot be shown it is refused beforehand."""

    def longer(request: Request) -> Request:
        prompt = request.prompt
        said = prompt.messages[-1:] and prompt.messages[-1].role == "user"
        call = ToolCall(str(json.loads(prompt.tools)[0]["function"]["name"]), {})
        more = (Message("assistant", _written(call), call=(call.name, "{}")), Message("tool", "It is done."))
        return replace(
            request,
            prompt=replace(prompt, messages=(*prompt.messages, *(() if said else (Message("user", "Hello."),)), *more)),
        )

    return replace(sample, requests=tuple(map(longer, sample.requests)))


def talk(task: Task, sample: Sample, request: Request) -> Generator[Step, Response, Response]:
    """The steps of a conversation. Its value is the whole of it as one answer; an error where a step has none.

    request: what opens it. The answer's text is JSON: `end`, why it is over (the user ended it, a function did, the
    model answered where there is no user, it took too many steps, it was cut, or a call could not be read), and
    `turns`, in which an assistant's turn has the call that was executed. Its tokens are those of the measured model,
    and those of its `user` stand apart; of a conversation that failed too.
    """
    answered: dict[Who, list[Response]] = {"model": [], "user": []}
    turns: list[dict[str, JSON]] = []
    text: str | None = None
    finish: Literal["stop", "length"] | None = None
    problem: str | None = None
    try:
        end = yield from _steps(task, sample, request, turns, answered)
    except (DataError, _NoAnswer) as error:
        problem = str(error)
    else:
        text = json.dumps({"end": end, "turns": turns}, ensure_ascii=False)
        finish = "length" if end in ("cut", "steps") else "stop"
    took = _together(answered["model"])
    user = replace(_together(answered["user"]), text="") if answered["user"] else None
    return replace(took, text=text, finish_reason=finish, error=problem, user=user)


class _NoAnswer(Exception):
    """A step that nobody answered. Its text says why."""


def _steps(
    task: Task, sample: Sample, request: Request, turns: list[dict[str, JSON]], answered: dict[Who, list[Response]]
) -> Generator[Step, Response, End]:
    environment, simulated = task.config.environment, task.config.simulated_user
    assert environment is not None and task.code is not None
    functions = [each["function"] for each in json.loads(request.prompt.tools)]
    shown = list(request.prompt.messages)
    actions: list[tuple[str, JSON]] = []
    user = _User(task, sample, request, answered["user"]) if simulated is not None else None

    def hear(role: Literal["user", "tool"], text: str) -> None:
        shown.append(Message(role, text))
        turns.append({"role": role, "content": text})

    if user is not None:
        hear("user", (yield from user.says()))
    for _ in range(environment.steps):
        asked = replace(request, prompt=replace(request.prompt, messages=tuple(shown)))
        answer = yield Step("model", asked)
        answered["model"].append(answer)
        if answer.error:
            raise _NoAnswer(f"step {len(answered['model'])} of the conversation has no answer: {answer.error}")
        text = strip_reasoning(answer.text or "")[0]
        if answer.finish_reason == "length" and not text.strip():
            return "cut"
        try:
            calls = read_calls(text, functions)
        except CallError:
            turns.append({"role": "assistant", "content": text})
            return "unreadable"
        if calls:
            call = calls[0]  # as tau-bench's agent: one at a time
            named = (call.name, json.dumps(call.arguments, ensure_ascii=False))
            shown.append(Message("assistant", text if len(calls) == 1 else _written(call), call=named))
            turns.append(
                {"role": "assistant", "content": text, "call": {"name": call.name, "arguments": call.arguments}}
            )
            actions.append((call.name, call.arguments))
            observations, _ = task.code.play(environment.functions, sample.doc, actions)
            hear("tool", observations[-1])
            if call.name in words(environment.ends):
                return "tool"
            continue
        shown.append(Message("assistant", text))
        turns.append({"role": "assistant", "content": text})
        if user is None:
            return "answer"
        said = yield from user.says(text)
        if user.stop in said:
            return "user"
        hear("user", said)
    return "steps"


class _User:
    """The simulated user: what it was told and has said, from its own side. answered: takes each of its answers."""

    def __init__(self, task: Task, sample: Sample, request: Request, answered: list[Response]) -> None:
        simulated = task.config.simulated_user
        assert simulated is not None
        own = simulated.generation_kwargs
        given = own.model_dump(exclude_none=True) if own else {"do_sample": True, "max_gen_toks": _USER_TOKENS}
        prompt = user_prompt(task, sample)
        self.stop = simulated.stop
        self._answered = answered
        self._opening = simulated.opening
        self._messages = [Message("system", prompt)]
        self._generation = _seeded(generation_params(given, {}, ()), f"{prompt}\0{request.repeat}")
        self._repeat = request.repeat

    def says(self, heard: str | None = None) -> Generator[Step, Response, str]:
        """What the user says to what the model has said; first, to the opening."""
        self._messages.append(Message("user", self._opening if heard is None else heard))
        prompt = Prompt(messages=tuple(self._messages))
        answer = yield Step("user", Request("generate", prompt, generation=self._generation, repeat=self._repeat))
        self._answered.append(answer)
        if problem := answer.error or unusable(answer):
            raise _NoAnswer(f"the simulated user has no answer: {problem}")
        said = strip_reasoning(answer.text or "")[0].strip()
        self._messages.append(Message("assistant", said))
        return said


def _written(call: ToolCall) -> str:
    """A call alone, where more were written with it than are executed."""
    body = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def _seeded(generation: GenerationParams, text: str) -> GenerationParams:
    if not generation.do_sample:
        return generation
    return replace(generation, seed=int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1)


def _together(answers: Sequence[Response]) -> Response:
    """What several answers took, without what they say."""
    return Response(
        prompt_tokens=_sum(answer.prompt_tokens for answer in answers),
        completion_tokens=_sum(answer.completion_tokens for answer in answers),
        reasoning_tokens=_sum(answer.reasoning_tokens for answer in answers),
        cached_tokens=_sum(answer.cached_tokens for answer in answers),
        truncated=sum(answer.truncated for answer in answers),
        by_batch=bool(answers) and all(answer.by_batch for answer in answers),
    )


def _sum(values: Iterable[int | None]) -> int | None:
    """A sum; None where a part of it is not known."""
    known: Sequence[Any] = list(values)
    return None if not known or None in known else sum(known)
