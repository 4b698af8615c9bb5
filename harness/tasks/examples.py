"""Has a task test itself: its `example` must give the prompt and the scores that it states. Needs no data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.errors import DataError, HarnessError
from harness.tasks.answer_options import find_options, moved
from harness.tasks.build import build_samples
from harness.tasks.build_options import BuildOptions
from harness.tasks.plain_rows import row_context
from harness.tasks.render import gold_of
from harness.tasks.renewal import read_renewals
from harness.tasks.schema_entries import Example, ExampleAnswer, FewshotConfig
from harness.tasks.task import Task
from harness.tasks.views import check_gold
from harness.types import JSON, DatasetSpec, Prompt, Response, Rows, Sample, View

Score = Callable[[Sample, Sequence[Response]], Mapping[str, JSON]]


def check_examples(task: Task, score: Score | None, unconditional: bool = False) -> list[str]:
    """What is wrong with the examples of a task, one line each; empty when all is well.

    score: scores one sample by the task's metrics and raises `HarnessError` where that fails; None scores nothing.
    """
    given = task.config.example
    examples = given if isinstance(given, list) else [given] if given else []
    where = task.document.place(("example",))
    problems: list[str] = []
    for number, example in enumerate(examples):
        name = f"example {number}" if len(examples) > 1 else "example"
        try:
            of_example = [*_check(task, example, score, unconditional)]
        except HarnessError as error:
            of_example = [str(error)]
        problems += [f"{where}: task '{task.name}', {name}: {problem}" for problem in of_example]
    return problems


def _check(task: Task, example: Example, score: Score | None, unconditional: bool) -> Iterator[str]:
    sample = _sample_of(task, example, unconditional)
    stated = example.model_fields_set
    shown = [request.prompt for request in sample.requests if not request.unconditional]
    if "prompt" in stated and example.prompt not in [_as_text(prompt) for prompt in shown]:
        yield _differs("prompt", example.prompt, _as_text(shown[0] if shown else Prompt()))
    if "choices" in stated and list(example.choices or ()) != list(sample.choices):
        yield _differs("choices", example.choices, list(sample.choices))
    if "target" in stated and _listed(example.target) != _listed(sample.target):
        yield _differs("target", example.target, sample.target)
    yield from _check_modifiable(task, sample)
    if score is None:
        return
    for answer in example.scores:
        scores = score(sample, _responses(sample, answer))
        for key, expected in (answer.model_extra or {}).items():
            if key not in scores:
                yield f"scores: the task has no score '{key}' (it has: {', '.join(scores)})"
            elif not _equal(expected, scores[key]):
                said = f"reply {answer.reply!r}" if answer.replies is None else f"replies {answer.replies!r}"
                said = said if answer.logprobs is None else f"logprobs {answer.logprobs}"
                yield f"scores: {said} should get {key} {expected}, but gets {scores[key]}"


def _as_text(prompt: Prompt) -> str:
    """A prompt as an example states it: of chat turns the texts, with <image 1>, ... where an image is shown."""
    if not prompt.is_chat:
        return prompt.text
    numbers: dict[str, int] = {}
    text = ""
    for message in prompt.messages:
        for part in (message.content,) if isinstance(message.content, str) else message.content:
            if isinstance(part, str):
                text += part
            else:
                text += f"<{part.kind} {numbers.setdefault(part.sha256, len(numbers) + 1)}>"
    return text


def _check_modifiable(task: Task, sample: Sample) -> Iterator[str]:
    """That `options`, `renewal` and `paraphrases` are of this row: modifiers will rely on them."""
    subset = task.subset(sample.subset)
    columns = sample.doc.keys()
    for wording in task.paraphrases:
        wording.templates.doc.render(row_context(sample.doc, subset), columns)
    renewal = task.config.renewal
    if renewal is not None and (renewal.numbers is not None or renewal.template is not None):
        _, problem = read_renewals(renewal, task.document, "").renewed(sample.doc, (sample.subset, sample.id), "")
        yield from [f"renewal: its numbers cannot be drawn anew: {problem}"] if problem else ()
    entry = task.config.options
    if entry is None:
        return
    options = find_options(sample.doc, entry)
    order = (*range(1, len(options.values)), 0)
    shown = task.templates.doc.render(row_context(moved(sample.doc, entry, options, order), subset), columns)
    check_gold(task, View(order=order), sample.target, gold_of(shown, task.config.output_type))
    if task.config.paraphrases and isinstance(task.config.paraphrases, str) and not entry.question:
        yield "paraphrases: a column of other questions needs 'options.question', the column that they replace"


def _sample_of(task: Task, example: Example, unconditional: bool) -> Sample:
    """The example's row, built as a run would, with the example's shots in the place of drawn ones."""
    own = task.config.fewshot_config or FewshotConfig.model_validate({})
    shots = {"samples": example.shots, "sampler": "first_n", "split": None, "fewshot_indices": None}
    changes: dict[str, JSON] = {
        "num_fewshot": len(example.shots),
        "fewshot_config": own.model_copy(update=shots),
        "fewshot_split": None,
    }
    alone = replace(task, config=task.config.model_copy(update=changes))
    subset = task.all_subsets[0] if example.subset is None else task.subset(example.subset)
    rows = Rows([example.row], "", "the example")

    def open_split(spec: DatasetSpec, split: str) -> Rows:
        return rows

    samples = list(build_samples(alone, subset, open_split, BuildOptions(unconditional=unconditional)))
    if not samples:
        raise DataError("'where' leaves the row out")
    return samples[0]


def _responses(sample: Sample, answer: ExampleAnswer) -> list[Response]:
    """What a model would have answered."""
    if answer.logprobs is None:
        replies = answer.replies if answer.replies is not None else [answer.reply or ""] * len(sample.requests)
        return [Response(text=reply, finish_reason="stop") for reply in replies]
    left = list(answer.logprobs)
    responses = []
    for request in sample.requests:
        count = max(1, len(request.continuations))
        mine, left = left[:count], left[count:]
        mine += [0.0] * (count - len(mine))
        greedy = tuple(value == max(mine) for value in mine)
        responses.append(Response(logprobs=tuple(mine), is_greedy=greedy, token_counts=(1,) * count))
    return responses


def _differs(what: str, stated: JSON, found: JSON) -> str:
    """Say where two texts part, with a little of what is around it."""
    if not (isinstance(stated, str) and isinstance(found, str)):
        return f"{what} should be {stated!r}, but is {found!r}"
    pairs = zip(stated, found, strict=False)
    at = next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(stated), len(found)))
    start = max(0, at - 20)
    return f"{what} differs at character {at}: should be {stated[start : at + 20]!r}, but is {found[start : at + 20]!r}"


def _listed(value: JSON) -> list[JSON]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _equal(expected: JSON, found: JSON) -> bool:
    if expected is None or found is None:
        return expected is found
    pairs = list(zip(_listed(expected), _listed(found), strict=False))
    same_length = len(_listed(expected)) == len(_listed(found))
    return same_length and all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in pairs)
