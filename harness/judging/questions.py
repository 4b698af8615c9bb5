"""From the answers of a run, and a rubric, to what a judge is asked.

A reply is one question. Of a pair of replies both orders are asked, because judges favour a place; a sample that was
answered several times is judged as often. A sample that failed has no answer, and is a failed judgement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.judging.rubric import Rubric
from harness.quick import dataclass
from harness.reasoning import is_incomplete, strip_reasoning
from harness.scoring.gold import gold_texts
from harness.types import JSON, GenerationParams, Message, Prompt, Record, Request, Response, Sample

# Of a reply that could not be read; a judge that ran on until it was cut off would fill the next prompt with it.
_SHOWN_CHARACTERS = 2000
HIDDEN = "the benchmark keeps its right answer to itself"
SAME = "the two answers are the same"
"""Two answers without a difference are a tie without asking: a judge could only add noise, and cost."""
NO_REFERENCE = "the row has no reference answer"


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that a judge is asked. swapped: of a pair, the second run's answer is shown first."""

    request: Request
    swapped: bool = False


@dataclass(frozen=True, slots=True)
class JudgedSample:
    """One sample that is to be judged.

    records: of the run, or of both runs of a pair. failure: why it cannot be asked about, which counts as a failed
    judgement. skipped: why it need not be asked about, which does not.
    """

    records: tuple[Record, ...]
    questions: tuple[Question, ...] = ()
    failure: str | None = None
    skipped: str | None = None

    @property
    def record(self) -> Record:
        return self.records[0]


@dataclass(frozen=True, slots=True)
class QuestionMaker:
    """How a rubric's questions are put: as chat turns or as one text, and how replies are drawn.

    against_references: the other side of each pair is the row's reference answer (the first, where it has several).
    """

    rubric: Rubric
    chat: bool
    generation: GenerationParams
    seed: int
    against_references: bool = False

    def judged_sample(self, records: tuple[Record, ...]) -> JudgedSample:
        """The sample with its questions. Raises `TaskError` and `DataError` where the rubric cannot show it."""
        failed = [record for record in records if _texts(record) is None]
        if failed:
            return JudgedSample(records, failure=f"there is no answer to judge: {failed[0].error or 'it has no text'}")
        if any(is_incomplete(response) for record in records for response in record.responses):
            return JudgedSample(records, skipped="the answer was cut inside its reasoning")
        try:
            # None where the benchmark keeps them to itself.
            first = records[0]
            asked = Sample(first.task, first.subset, first.id, first.doc, (), first.target, first.choices)
            references = gold_texts(asked)
        except ValueError as error:
            return JudgedSample(records, failure=str(error))
        if references is None and (self.rubric.needs_reference or self.against_references):
            return JudgedSample(records, skipped=HIDDEN)
        if self.against_references:
            if not references or not references[0].strip():
                return JudgedSample(records, skipped=NO_REFERENCE)
            # As often as the sample was answered; and the judge is not told which side is the reference.
            written = tuple(Response(text=references[0]) for _ in first.responses)
            records, references = (replace(first, responses=written, answers={}), first), None
        if self.rubric.pairwise and _texts(records[0]) == _texts(records[1]):
            return JudgedSample(records, skipped=SAME)
        questions = []
        for number, (swapped, shown) in enumerate(self._shown(records)):
            prompt = self._prompt({**self._shared(records[0], references), **shown})
            questions.append(Question(self.request(records[0], number, 0, prompt), swapped))
        return JudgedSample(records, tuple(questions))

    def _shown(self, records: tuple[Record, ...]) -> Iterator[tuple[bool, dict[str, str | None]]]:
        """(whether the order is swapped, what is shown of the replies) of each question."""
        columns = [_answers_of(record) for record in records]
        for answers in zip(*columns, strict=False):  # runs with different numbers of repeats: the pairs that there are
            if not self.rubric.pairwise:
                yield False, answers[0]
                continue
            for swapped in (False, True):
                first, second = reversed(answers) if swapped else answers
                shown = {f"{name}_a": value for name, value in first.items()}
                shown |= {f"{name}_b": value for name, value in second.items()}
                yield swapped, shown

    def _shared(self, record: Record, references: tuple[str, ...] | None) -> dict[str, JSON]:
        # What the judged model was asked: the last turn of the user, or the prompt without its few-shot examples.
        turns = [message.text for message in record.prompt.messages if message.role == "user"]
        return {
            "criteria": list(self.rubric.criteria),
            "format": self.rubric.format.instruction(),
            "task": record.task,
            "subset": record.subset,
            "question": (turns[-1] if turns else record.prompt.suffix).strip(),
            "conversation": [{"role": each.role, "content": each.text} for each in record.prompt.messages],
            "reference": None if references is None else "\n".join(references),
            "choices": list(record.choices),
            "doc": record.doc,
        }

    def _prompt(self, context: Mapping[str, JSON]) -> Prompt:
        text = self.rubric.prompt.text(context)
        if context["format"] and "format" not in self.rubric.prompt.names and not self.rubric.prompt.open_ended:
            text = f"{text.rstrip()}\n\n{context['format']}"
        system = self.rubric.system.text(context) if self.rubric.system else ""
        if not self.chat:
            return Prompt(text.rstrip() + "\n", f"{system.rstrip()}\n\n" if system else "")
        before = (Message("system", system),) if system else ()
        return Prompt(messages=(*before, Message("user", text)), shared_messages=len(before))

    def again(self, prompt: Prompt, reply: str, problem: str) -> Prompt:
        """What was asked, followed by the reply that could not be read and what was wrong with it.

        No two attempts are alike, so that a judge that always takes the likeliest word can do better.
        """
        shown, note = strip_reasoning(reply)[0][:_SHOWN_CHARACTERS], self.rubric.format.again(problem)
        if not self.chat:
            return replace(prompt, suffix=f"{prompt.suffix}\n{shown}\n\n{note}\n")
        return replace(prompt, messages=(*prompt.messages, Message("assistant", shown), Message("user", note)))

    def request(self, record: Record, number: int, attempt: int, prompt: Prompt) -> Request:
        """The request of a question's attempt. A sampled reply has a seed of its own, which no other attempt has."""
        if not self.generation.do_sample:
            return Request("generate", prompt, generation=self.generation)
        text = "\0".join(map(str, (self.seed, *record.key, number, attempt)))
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
        return Request("generate", prompt, generation=replace(self.generation, seed=seed))

    def sample(self, judged: JudgedSample) -> Sample:
        """What a model may look at before it loads. The choices are replies that can be read, the best one is right.

        So the `dummy` model can try a rubric: in gold, at random, or always the same.
        """
        record, replies = judged.record, self.rubric.format.examples()
        requests = tuple(question.request for question in judged.questions)
        best = len(replies) - 1 if self.rubric.higher_is_better else 0
        return Sample(record.task, record.subset, record.id, record.doc, requests, best, replies)


def prompt_hash(prompt: Prompt) -> str:
    """16 hexadecimal digits of the SHA-256 of what is asked, whichever model it is asked."""
    turns: Any = [[turn.role, turn.text] for turn in prompt.messages] if prompt.is_chat else prompt.text
    return hashlib.sha256(json.dumps(turns).encode()).hexdigest()[:16]


def _texts(record: Record) -> list[str] | None:
    """The replies of a sample; None where one of them is not there."""
    texts = [response.text for response in record.responses if response.error is None and response.text is not None]
    return texts if record.responses and len(texts) == len(record.responses) else None


def _answers_of(record: Record) -> list[dict[str, str | None]]:
    """What can be shown of each reply: as it came, without its reasoning, and what the task's first filter read."""
    texts = _texts(record) or []
    extracted = next(iter(record.answers.values()), ())
    # A filter that joins repeats leaves fewer answers than there are replies; its last one stands for the rest.
    read = [extracted[min(place, len(extracted) - 1)] if extracted else None for place in range(len(texts))]
    return [
        {"reply": text, "answer": strip_reasoning(text)[0], "extracted": extract}
        for text, extract in zip(texts, read, strict=True)
    ]
