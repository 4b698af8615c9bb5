"""One judge at work: what it said already is taken from disk, the rest is asked, and each reply is written at once.

A reply that cannot be read is asked for again, with what was wrong with it; a judgement is complete when each of its
questions has a verdict, an error, or no attempt left. Every attempt stays in the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.judging.questions import SAME, Asking, Matter, Question, prompt_hash
from harness.judging.replies import ReplyError
from harness.judging.verdicts import WIN_RATE
from harness.metrics import Observation, ScoreKey
from harness.model import Model
from harness.record.codec import encode_messages
from harness.record.keys import KeyMaker
from harness.record.run import RunFolder
from harness.run.answers import answers, plugin_errors
from harness.run.spec import Progress
from harness.scoring.extraction.reasoning import strip_reasoning
from harness.types import JSON, Prompt, Record, Request, Response


@dataclass(slots=True)
class Attempt:
    """One reply to a question. `problem` says why it could not be read."""

    request: Request
    key: str
    response: Response
    problem: str | None = None


@dataclass(slots=True)
class Course:
    """A question's way to a verdict. It is over when there is one, the judge failed, or it was asked enough."""

    question: Question
    number: int
    attempts: list[Attempt] = field(default_factory=list)
    verdict: dict[str, JSON] | None = None
    error: str | None = None
    over: bool = False


@dataclass(slots=True)
class AskedSample:
    """A sample and the courses of its questions."""

    matter: Matter
    courses: list[Course]

    @property
    def waiting(self) -> int:
        return sum(not course.over for course in self.courses)


class Session:
    """Asks one judge about many samples. `stamp` is what every record says of the judge and the rubric."""

    def __init__(
        self,
        asking: Asking,
        keys: Sequence[ScoreKey],
        model: Model,
        name: str,
        folder: RunFolder,
        progress: Progress,
        stamp: Mapping[str, JSON],
        retries: int,
    ) -> None:
        self.asking, self.keys, self.model, self.name = asking, keys, model, name
        self.folder, self.progress, self.stamp, self.retries = folder, progress, stamp, retries
        self.answered = False
        self._known = folder.known
        self._maker = KeyMaker(model.identity)
        self._pending: dict[str, tuple[Request, list[tuple[AskedSample, Course]]]] = {}

    def go(self, matters: Sequence[Matter]) -> None:
        """Judge all of them; what is known is not asked. Raises `HarnessError`; what is done by then is on disk."""
        cases = [self._case(matter) for matter in matters]
        totals: dict[str, list[int]] = {}
        for case in cases:
            total = totals.setdefault(case.matter.record.task, [0, 0])
            total[0] += 1
            total[1] += not case.waiting
        self.progress.started([(task, n, done) for task, (n, done) in totals.items()], self.name)
        for case in cases:
            if not case.waiting:
                self.folder.write(self._record(case))
        if not self._pending:
            return
        with plugin_errors(self.name, "could not be loaded"):
            self.model.load()
        self.folder.note(model=dict(self.model.describe()))
        while self._pending:
            self._round()
        self.folder.note(model=dict(self.model.describe()))  # a model may know more of itself by now

    def _case(self, matter: Matter) -> AskedSample:
        case = AskedSample(matter, [Course(question, number) for number, question in enumerate(matter.questions)])
        for course in case.courses:
            self._advance(case, course)
        return case

    def _advance(self, case: AskedSample, course: Course) -> None:
        """Go through the attempts that are on disk, up to one that is not, which is put in line."""
        while not course.over:
            request = self._next_request(case, course)
            key = self._key(case, course, request)
            known = self._known.get(key)
            if known is None:
                self._pending.setdefault(key, (request, []))[1].append((case, course))
                return
            self._take(course, Attempt(request, key, known))

    def _next_request(self, case: AskedSample, course: Course) -> Request:
        if not course.attempts:
            return course.question.request
        last = course.attempts[-1]
        prompt = self.asking.again(last.request.prompt, last.response.text or "", last.problem or "")
        return self.asking.request(case.matter.record, course.number, len(course.attempts), prompt)

    def _key(self, case: AskedSample, course: Course, request: Request) -> str:
        key = self._maker.key(request)
        if not self.model.answers_samples:
            return key
        # The answers of such a model belong to the sample: equal prompts may get different ones.
        record = case.matter.record
        return f"{key}:{'/'.join(map(str, record.key))}/{course.number}"

    def _round(self) -> None:
        """Ask all that waits. What cannot be read waits again, for the next round."""
        batch, self._pending = self._pending, {}
        keys = list(batch)
        for index, response in answers(self.model, self.name, [request for request, _ in batch.values()]):
            self.answered = True
            request, askers = batch[keys[index]]
            for case, course in askers:
                self._take(course, Attempt(request, keys[index], response))
                self._advance(case, course)
                record = self._record(case)
                self.folder.write(record)
                if not case.waiting:
                    self.progress.sample_done(record, self.keys[0].name)

    def _take(self, course: Course, attempt: Attempt) -> None:
        """Read a reply, and say whether the question needs another one."""
        course.attempts.append(attempt)
        course.error = attempt.response.error
        if course.error is None:
            try:
                course.verdict = self.asking.rubric.format.parse(strip_reasoning(attempt.response.text or "")[0])
            except ReplyError as error:
                cut = "it was cut off at its limit of tokens; " if attempt.response.finish_reason == "length" else ""
                attempt.problem = f"{cut}{error}"
        again = attempt.problem is not None and len(course.attempts) <= self.retries
        course.over = not again

    def _record(self, case: AskedSample) -> Record:
        matter, judged = case.matter, case.matter.record
        attempts = [attempt for course in case.courses for attempt in course.attempts]
        found = self._answers(case)
        responses = tuple(attempt.response for attempt in attempts)
        error = next((course.error for course in case.courses if course.error is not None), matter.failure)
        if error is None and case.waiting:
            error = f"not finished: {case.waiting} of {len(case.courses)} replies of the judge are still to come"
        return Record(
            task=judged.task,
            subset=judged.subset,
            id=judged.id,
            doc=judged.doc,
            prompt=matter.questions[0].request.prompt if matter.questions else Prompt(),
            target=judged.target,
            choices=judged.choices,
            responses=responses,
            request_keys=tuple(attempt.key for attempt in attempts),
            scores=self._scores(case, found, responses, error),
            answers=found,
            cluster=_cluster(judged),
            unparsed=any(course.over and course.attempts[-1].problem is not None for course in case.courses),
            error=error,
            view=judged.view,
            judge={**self.stamp, **self._story(case)},
        )

    def _answers(self, case: AskedSample) -> dict[str, tuple[str | None, ...]]:
        """What was read, by key of the reply: one a question."""
        form = self.asking.rubric.format
        read = [form.answers(course.verdict) if course.verdict else {} for course in case.courses]
        return {
            each.name: tuple(values.get(each.name) for values in read) for each in form.fields if each.type != "text"
        }

    def _scores(
        self,
        case: AskedSample,
        found: Mapping[str, tuple[str | None, ...]],
        responses: tuple[Response, ...],
        error: str | None,
    ) -> dict[str, float | tuple[float, ...] | None]:
        if case.matter.skipped == SAME:
            tie: dict[str, float | None] = {WIN_RATE: 0.5, "win": 0.0, "loss": 0.0, "tie": 1.0}
            return {key.name: tie.get(key.name) for key in self.keys}
        if error is not None or not case.courses:
            return {key.name: None for key in self.keys}
        sample = self.asking.sample(case.matter)
        return {
            key.name: key.metric.score(Observation(sample, responses, predictions=found[key.pipeline]))
            for key in self.keys
        }

    def _story(self, case: AskedSample) -> dict[str, JSON]:
        """What was asked for each reply, in their order."""
        asked = [item for course in case.courses for item in self._asked(course)]
        return {"asked": asked, **({"skipped": case.matter.skipped} if case.matter.skipped else {})}

    def _asked(self, course: Course) -> Iterator[dict[str, Any]]:
        for number, attempt in enumerate(course.attempts):
            prompt = attempt.request.prompt
            yield {
                "question": course.number,
                "attempt": number,
                **({"order": "BA" if course.question.swapped else "AB"} if self.asking.rubric.pairwise else {}),
                "prompt_hash": prompt_hash(prompt),
                **({"problem": attempt.problem} if attempt.problem else {}),
                # The first prompt is the record's own; the others are here, so that the log holds all that was sent.
                **({} if course.number == number == 0 else _told(prompt)),
            }


def _cluster(record: Record) -> str | None:
    """The views of a row are judged one by one, but are no independent samples."""
    return f"{record.subset}/{record.id}" if record.cluster is None and record.view is not None else record.cluster


def _told(prompt: Prompt) -> dict[str, JSON]:
    if prompt.is_chat:
        return {"messages": encode_messages(prompt.messages[prompt.shared_messages :])}
    return {"text": prompt.suffix}
