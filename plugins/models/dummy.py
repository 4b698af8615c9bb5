"""A model that is none: it knows the answer, repeats one answer, or guesses. For trying out tasks and the harness.

    harness --model dummy --model_args mode=gold --tasks cmmlu

`gold` shows whether a task can be answered at all (a score below 1 is a fault of the task), `fixed` what always saying
the same scores, `random` what chance scores. A token is a character here.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from harness import Model, Request, Response, Sample, UsageError, hookimpl
from harness.scoring import gold_indices, gold_texts

MODES = ("gold", "fixed", "random")
# Far enough apart that no normalisation by length, and no difference to the unconditional choice, turns them round.
LIKELY = -1e-6
UNLIKELY_PER_CHARACTER = -10.0


class DummyModel(Model):
    """`--model dummy --model_args mode=gold|fixed|random`.

    mode   gold: the right choice or text; fixed: the choice number `index`, or `text`; random: drawn from the request
           and `seed`, so that the same request gets the same answer in any run
    text   what is generated; `{answer}` stands for the gold text, the fixed choice or the guess, so that
           `text="The answer is {answer}."` passes a filter that looks for that sentence
    """

    name = "dummy"
    supports: ClassVar = frozenset({"loglikelihood", "rolling", "generate"})
    modalities: ClassVar = frozenset({"text", "image", "video", "audio"})
    answers_samples = True

    def __init__(self, mode: str = "random", text: str = "{answer}", index: int = 0, seed: int = 0) -> None:
        if mode not in MODES:
            raise UsageError(f"--model_args: dummy knows no mode '{mode}' (it knows: {', '.join(MODES)})")
        for name, value in (("index", index), ("seed", seed)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UsageError(f"--model_args: {name} must be a whole number of 0 or more, not {value!r}")
        self.mode, self.text, self.index, self.seed = mode, str(text), index, seed
        self._asked: dict[int, tuple[Sample, int]] = {}
        self._prefix: tuple[str | None, Any] = None, None
        self._random = random.Random()

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"mode": self.mode, "text": self.text, "index": self.index, "seed": self.seed}

    def take_samples(self, samples: Sequence[Sample]) -> None:
        """Remember which sample asks, and which of its contexts, by the identity of its requests."""
        asked = ((sample, place, request) for sample in samples for place, request in enumerate(sample.requests))
        self._asked = {id(request): (sample, place) for sample, place, request in asked}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            yield index, self._answer(request)

    def close(self) -> None:
        self._asked.clear()

    def _answer(self, request: Request) -> Response:
        if request.kind == "rolling":
            length = len(request.prompt.text)
            return Response(logprobs=(-float(length),), token_counts=(length,))
        sample, place = self._asked.get(id(request), (None, 0))
        try:
            if request.kind == "generate":
                text = self.text
                if "{answer}" in text:
                    text = text.replace("{answer}", self._text(request, sample))
                return Response(text=text, finish_reason="stop", completion_tokens=len(text))
            return self._score(request, sample, place)
        except ValueError as error:
            return Response(error=str(error))

    def _text(self, request: Request, sample: Sample | None) -> str:
        if self.mode == "gold":
            return str(_gold(gold_texts, sample)[0])
        choices = sample.choices if sample is not None else ()
        if self.mode == "fixed":
            return choices[self.index % len(choices)] if choices else str(self.index)
        draw = self._draw(request)
        return draw.choice(choices) if choices else str(draw.randrange(100))

    def _score(self, request: Request, sample: Sample | None, place: int) -> Response:
        lengths = tuple(map(len, request.continuations))
        if self.mode == "random":
            draw = self._draw(request)
            values = tuple(draw.random() - 1.0 for _ in lengths)  # whatever their length: `acc` is at chance
            top = max(values, default=0.0)
            return Response(logprobs=values, is_greedy=tuple(value == top for value in values), token_counts=lengths)
        likely = self._likely(request, sample, place)
        values = tuple(
            LIKELY if number in likely else UNLIKELY_PER_CHARACTER * max(length, 1)
            for number, length in enumerate(lengths)
        )
        return Response(logprobs=values, is_greedy=tuple(value == LIKELY for value in values), token_counts=lengths)

    def _likely(self, request: Request, sample: Sample | None, place: int) -> set[int]:
        """Which continuations of this request are likely: none of the choices without their question."""
        if request.unconditional:
            return set()
        contexts = sum(not other.unconditional for other in sample.requests) if sample is not None else 1
        if contexts == 1 and len(request.continuations) == 1:
            return {0} if self.mode == "gold" or self.index == 0 else set()
        fixed = self.index % (contexts if contexts > 1 else len(request.continuations))
        wanted = _gold(gold_indices, sample) if self.mode == "gold" else (fixed,)
        # With a context for each choice, this request holds the choice of its own place and no other.
        return {number - place for number in wanted} if contexts > 1 else set(wanted)

    def _draw(self, request: Request) -> random.Random:
        """A generator that depends on what is asked, and on nothing else."""
        prompt = request.prompt
        if prompt.prefix is not self._prefix[0]:
            self._prefix = prompt.prefix, hashlib.blake2b(_bytes(f"{self.seed}\0{prompt.prefix}"), digest_size=8)
        digest = self._prefix[1].copy()  # a long prefix that many samples share is hashed once
        turns = (message.text for message in prompt.messages)
        rest = (prompt.suffix, *turns, prompt.prefill, *request.continuations, request.kind, str(request.repeat))
        digest.update(_bytes("\0".join(rest)))
        self._random.seed(int.from_bytes(digest.digest(), "big"))  # twice as fast as to make a new one
        return self._random


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _gold(find: Any, sample: Sample | None) -> Any:
    """The gold of a sample, or a ValueError that says why there is none."""
    if sample is None:
        raise ValueError("dummy has not seen the sample of this request, so it does not know the gold answer")
    gold = find(sample)
    if not gold:
        raise ValueError("dummy cannot answer in gold: the benchmark keeps the gold answer of this sample to itself")
    return gold


@hookimpl
def harness_models() -> list[type[Model]]:
    return [DummyModel]
