"""What a rendered row asks of a model: its prompt, and what is to be scored or generated behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import DataError
from harness.tasks.fewshot import Row
from harness.tasks.generation import generation_params, task_generation
from harness.tasks.prompts import Opening, Style, choice_delimiter, prompt
from harness.tasks.render import Rendered, gold_of
from harness.tasks.task import Subset, Task
from harness.types import JSON, GenerationParams, Message, Prompt, Request


class RequestMaker:
    """Makes the requests of the rows of one subset.

    gen_kwargs: what a run says of generation. seed: of a run, from which each sampled answer has one of its own.
    unconditional: whether choices are scored without their question, too.
    """

    def __init__(
        self, task: Task, subset: Subset, gen_kwargs: Mapping[str, JSON], seed: int, *, unconditional: bool
    ) -> None:
        self.task, self.subset, self.gen_kwargs, self.seed = task, subset, gen_kwargs, seed
        self.unconditional = unconditional
        self.generation = task_generation(task.config, gen_kwargs)

    def requests(self, number: int, row: Row, rendered: Rendered, before: Opening, style: Style) -> tuple[Request, ...]:
        """All that a row asks. number: of the row; before: what stands before its question."""
        kind = self.task.config.output_type
        if (function := self.task.config.construct_requests) is not None and self.task.code is not None:
            shown = prompt(before, rendered.text, rendered.gen_prefix, style, turns=rendered.turns)
            asked = self.task.code.requests(function, row, shown.text)
            return tuple(self._made(each, arguments, shown) for each, arguments in asked)
        if kind == "loglikelihood_rolling":
            return (Request("rolling", Prompt(suffix=str(gold_of(rendered, kind) or ""))),)
        talk, tools = rendered.turns, rendered.tools
        shown = prompt(before, rendered.text, rendered.gen_prefix, style, turns=talk, tools=tools)
        if kind == "loglikelihood":
            return (Request("loglikelihood", shown, (str(gold_of(rendered, kind) or ""),)),)
        if kind == "generate_until":
            repeats = range(self.task.config.repeats)
            return tuple(
                Request("generate", shown, generation=self._generation_of(number, repeat, talk), repeat=repeat)
                for repeat in repeats
            )
        return self._of_choices(rendered, shown, before, style)

    def _made(self, kind: str, arguments: Sequence[Any], shown: Prompt) -> Request:
        """A request as a class of lm-eval made it. shown: the prompt that it was given. Raises `DataError`."""
        if kind == "loglikelihood_rolling":
            return Request("rolling", Prompt(suffix=str(arguments[0])))
        asks = shown if arguments[0] == shown.text else Prompt(suffix=str(arguments[0]))
        if kind == "loglikelihood":
            return Request("loglikelihood", asks, (str(arguments[1]),))
        if kind == "generate_until":
            stop = (self.task.config.fewshot_delimiter,)
            return Request("generate", asks, generation=generation_params(arguments[1], self.gen_kwargs, stop))
        raise DataError(f"construct_requests: '{kind}' is no kind of request")

    def _of_choices(self, rendered: Rendered, shown: Prompt, before: Opening, style: Style) -> tuple[Request, ...]:
        delimiter = choice_delimiter(rendered.gen_prefix, style)
        continuations = tuple(delimiter + choice for choice in rendered.choices)
        if rendered.contexts:
            follows = (delimiter + rendered.continuation,)
            prompts = [prompt(before, text, rendered.gen_prefix, style, is_context=True) for text in rendered.contexts]
            requests = tuple(Request("loglikelihood", item, follows) for item in prompts)
        else:
            requests = (Request("loglikelihood", shown, continuations),)
        if self.unconditional:
            requests += (Request("loglikelihood", Prompt(), continuations, unconditional=True),)
        return requests

    def _generation_of(self, number: int, repeat: int, turns: Sequence[Message]) -> GenerationParams:
        """How an answer to a row is generated. All turns of a conversation, whichever subset asks them, have one seed:
        the earlier answer that a later turn builds on is then the one that was scored."""
        if not self.generation.do_sample:
            return self.generation
        place = f"{self.subset.name}\0{number}"
        if turns:
            first = next((index for index, turn in enumerate(turns) if turn.role == "assistant"), len(turns))
            place = "\0".join(turn.outline for turn in turns[:first])
        text = f"{self.seed}\0{self.task.base_name}\0{place}\0{repeat}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
        return GenerationParams(
            **{name: getattr(self.generation, name) for name in self.generation.__slots__ if name != "seed"}, seed=seed
        )
