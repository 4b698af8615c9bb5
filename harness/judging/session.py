"""One judge at work: what it said already is taken from disk, the rest is asked, and each reply is written at once.

A reply that cannot be read is asked for again, with what was wrong with it; a judgement is complete when each of its
questions has a verdict, an error, or no attempt left. Every attempt stays in the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.judging.questions import SAME, JudgedSample, Question, QuestionMaker, prompt_hash
from harness.judging.replies import ReplyError
from harness.judging.verdicts import WIN_RATE
from harness.metrics import Observation, ScoreKey
from harness.model import Model
from harness.reasoning import strip_reasoning
from harness.record.codec import encode_messages
from harness.record.keys import KeyMaker
from harness.record.run import RunFolder
from harness.run.answers import description, plugin_errors
from harness.run.budget import Account, asked_within
from harness.run.spec import Progress
from harness.types import JSON, Prompt, Record, Request, Response
from harness.words import phrase


@dataclass(slots=True)
class Attempt:
    """One reply to a question. `problem` says why it could not be read."""

    request: Request
    key: str
    response: Response
    problem: str | None = None


@dataclass(slots=True)
class QuestionState:
    """A question, and the replies to it so far. It is over with a verdict, a failure, or the last attempt."""

    asked: Question
    number: int
    attempts: list[Attempt] = field(default_factory=list)
    verdict: dict[str, JSON] | None = None
    error: str | None = None
    over: bool = False


@dataclass(slots=True)
class SampleState:
    """How far a sample is: the states of its questions."""

    sample: JudgedSample
    questions: list[QuestionState]

    @property
    def waiting(self) -> int:
        return sum(not question.over for question in self.questions)


class Session:
    """Asks one judge about many samples. `judged_by` is what every record says of the judge and the rubric.

    is_loaded: whether the model is, as another session may have left it.
    """

    def __init__(
        self,
        maker: QuestionMaker,
        keys: Sequence[ScoreKey],
        model: Model,
        name: str,
        folder: RunFolder,
        progress: Progress,
        judged_by: Mapping[str, JSON],
        retries: int,
        account: Account | None = None,
        *,
        is_loaded: bool = False,
    ) -> None:
        self.maker, self.keys, self.model, self.name = maker, keys, model, name
        self.folder, self.progress, self.judged_by, self.retries = folder, progress, judged_by, retries
        self.account, self.is_loaded = account, is_loaded
        self.answered = False
        self._known = folder.known
        self._maker = KeyMaker(model.identity)
        self._pending: dict[str, tuple[Request, list[tuple[SampleState, QuestionState]]]] = {}

    def go(self, samples: Sequence[JudgedSample]) -> None:
        """Judge all of them; what is known is not asked. Raises `HarnessError`; what is done by then is on disk."""
        states = [self._state(sample) for sample in samples]
        totals: dict[str, list[int]] = {}
        for state in states:
            total = totals.setdefault(state.sample.record.task, [0, 0])
            total[0] += 1
            total[1] += not state.waiting
        self.progress.started([(task, n, done) for task, (n, done) in totals.items()], self.name)
        for state in states:
            if not state.waiting:
                self.folder.write(self._record(state))
        if not self._pending:
            return
        self.model.folder = self.folder.path
        if not self.is_loaded:
            self.progress.stage(phrase("loading judge {name}: its weights, or a connection", name=self.name))
            with plugin_errors(self.name, "could not be loaded"):
                self.model.load()
            self.is_loaded = True
        self.folder.note_model(description(self.model, self.name))
        if self.model.answers_samples:
            with plugin_errors(self.name, "could not look at the samples"):
                self.model.take_samples([self.maker.sample(sample) for sample in samples])
        self.progress.stage(phrase("waiting for the first judgement"))
        while self._pending:
            self._round()
        # A model may know more of itself by now.
        self.folder.note_model(description(self.model, self.name, self.progress.message))

    def _state(self, sample: JudgedSample) -> SampleState:
        state = SampleState(
            sample, [QuestionState(question, number) for number, question in enumerate(sample.questions)]
        )
        for question in state.questions:
            self._advance(state, question)
        return state

    def _advance(self, state: SampleState, question: QuestionState) -> None:
        """Go through the attempts that are on disk, up to one that is not, which is put in line."""
        while not question.over:
            request = self._next_request(state, question)
            key = self._key(state, question, request)
            known = self._known.get(key)
            if known is None:
                self._pending.setdefault(key, (request, []))[1].append((state, question))
                return
            self._take(question, Attempt(request, key, known))

    def _next_request(self, state: SampleState, question: QuestionState) -> Request:
        if not question.attempts:
            return question.asked.request
        last = question.attempts[-1]
        prompt = self.maker.again(last.request.prompt, last.response.text or "", last.problem or "")
        return self.maker.request(state.sample.record, question.number, len(question.attempts), prompt)

    def _key(self, state: SampleState, question: QuestionState, request: Request) -> str:
        key = self._maker.key(request)
        if not self.model.answers_samples:
            return key
        # The answers of such a model belong to the sample: equal prompts may get different ones.
        record = state.sample.record
        return f"{key}:{'/'.join(map(str, record.key))}/{question.number}"

    def _round(self) -> None:
        """Ask all that waits. What cannot be read waits again, for the next round."""
        batch, self._pending = self._pending, {}
        keys = list(batch)
        asked, is_new = [request for request, _ in batch.values()], not (self._known or self.answered)
        for index, response in asked_within(self.account, self.model, self.name, asked, is_new=is_new):
            self.answered = self.answered or response.error is None
            request, askers = batch[keys[index]]
            for state, question in askers:
                self._take(question, Attempt(request, keys[index], response))
                self._advance(state, question)
                record = self._record(state)
                self.folder.write(record)
                if not state.waiting:
                    self.progress.sample_done(record, self.keys[0].name)

    def _take(self, question: QuestionState, attempt: Attempt) -> None:
        """Read a reply, and say whether the question needs another one."""
        question.attempts.append(attempt)
        question.error = attempt.response.error
        if question.error is None:
            try:
                question.verdict = self.maker.rubric.format.parse(strip_reasoning(attempt.response.text or "")[0])
            except ReplyError as error:
                cut = "it was cut off at its limit of tokens; " if attempt.response.finish_reason == "length" else ""
                attempt.problem = f"{cut}{error}"
        again = attempt.problem is not None and len(question.attempts) <= self.retries
        question.over = not again

    def _record(self, state: SampleState) -> Record:
        sample, judged = state.sample, state.sample.record
        attempts = [attempt for question in state.questions for attempt in question.attempts]
        read = self._answers(state)
        responses = tuple(attempt.response for attempt in attempts)
        error = next((question.error for question in state.questions if question.error is not None), sample.failure)
        # The views of a row are judged one by one, but are no independent samples.
        of_view = judged.cluster is None and judged.view is not None
        cluster = f"{judged.subset}/{judged.id}" if of_view else judged.cluster
        if error is None and state.waiting:
            error = f"not finished: {state.waiting} of {len(state.questions)} replies of the judge are still to come"
        return Record(
            task=judged.task,
            subset=judged.subset,
            id=judged.id,
            doc=judged.doc,
            prompt=sample.questions[0].request.prompt if sample.questions else Prompt(),
            target=judged.target,
            choices=judged.choices,
            responses=responses,
            request_keys=tuple(attempt.key for attempt in attempts),
            scores=self._scores(state, read, responses, error),
            answers=read,
            cluster=cluster,
            unparsed=any(question.over and question.attempts[-1].problem is not None for question in state.questions),
            error=error,
            view=judged.view,
            judge={
                **self.judged_by,
                "asked": [item for question in state.questions for item in self._asked(question)],
                **({"skipped": sample.skipped} if sample.skipped else {}),
            },
        )

    def _answers(self, state: SampleState) -> dict[str, tuple[str | None, ...]]:
        """What was read, by key of the reply: one a question."""
        form = self.maker.rubric.format
        read = [form.answers(question.verdict) if question.verdict else {} for question in state.questions]
        return {
            each.name: tuple(values.get(each.name) for values in read) for each in form.fields if each.type != "text"
        }

    def _scores(
        self,
        state: SampleState,
        read: Mapping[str, tuple[str | None, ...]],
        responses: tuple[Response, ...],
        error: str | None,
    ) -> dict[str, float | tuple[float, ...] | None]:
        if state.sample.skipped == SAME:
            tie: dict[str, float | None] = {WIN_RATE: 0.5, "win": 0.0, "loss": 0.0, "tie": 1.0}
            return {key.name: tie.get(key.name) for key in self.keys}
        if error is not None or not state.questions:
            return {key.name: None for key in self.keys}
        sample = self.maker.sample(state.sample)
        return {
            key.name: key.metric.score(Observation(sample, responses, predictions=read[key.pipeline]))
            for key in self.keys
        }

    def _asked(self, question: QuestionState) -> Iterator[dict[str, Any]]:
        """What was asked for each reply, in their order."""
        for number, attempt in enumerate(question.attempts):
            prompt = attempt.request.prompt
            turns = encode_messages(prompt.messages[prompt.shared_messages :])
            sent = {"messages": turns} if prompt.is_chat else {"text": prompt.suffix}
            yield {
                "question": question.number,
                "attempt": number,
                **({"order": "BA" if question.asked.swapped else "AB"} if self.maker.rubric.pairwise else {}),
                "prompt_hash": prompt_hash(prompt),
                **({"problem": attempt.problem} if attempt.problem else {}),
                # The first prompt is the record's own; the others are here, so that the log holds all that was sent.
                **({} if question.number == number == 0 else sent),
            }
