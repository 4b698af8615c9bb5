"""What a task file may say below its keys: the entries of its lists and mappings, each with its own keys."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from harness.tasks.expressions import Expression, ExpressionError
from harness.tasks.file_models import Open, Strict, Words
from harness.tasks.number_templates import pieces_of
from harness.tasks.schema_problems import MISSPELT
from harness.tasks.yaml_file import PythonFunction
from harness.types import JSON

Template = Annotated[str, Field(description="Jinja, or the name of a column")]
Choices = list[str] | dict[str, str] | str
Stop = Annotated[str, Field(min_length=1)]


class MetricEntry(Open):
    """One score. All further keys are options of the metric."""

    metric: str | PythonFunction = Field(description="its name; all other keys are its options")
    aggregation: str | PythonFunction | None = Field(
        None, description="how scores become one value; the metric's own way by default"
    )
    higher_is_better: bool | None = Field(None, description="the metric's own by default")
    hf_evaluate: bool = Field(False, description="lm-eval's way to name a metric of Hugging Face evaluate")
    weight_by_size: bool | None = Field(None, description="belongs to groups; has no effect here, as in lm-eval")


class FilterStepEntry(Open):
    """One step from raw reply to answer. All further keys are options of the filter."""

    function: str | PythonFunction
    filter_fn: PythonFunction | None = Field(None, description="of lm-eval's filter `custom`")


class FilterEntry(Strict):
    """A named way from raw replies to answers."""

    name: str = Field(description="what scores of this pipeline are called")
    filter: list[FilterStepEntry] = Field(min_length=1, description="steps, each with a `function` and its options")


class FewshotConfig(Strict):
    """Which examples are shown, and how. What is not given is as for the question itself."""

    sampler: Literal["default", "once", "first_n", "lm_eval", "lm_eval_first_n"] | None = Field(
        None,
        description="default: drawn anew for each row, by a hash of seed, task and row; once: drawn once a subset and "
        "seed, so that all rows share what stands before them; first_n: always the first; "
        "lm_eval, lm_eval_first_n: drawn, or the first, as lm-eval has it",
    )
    split: str | None = Field(None, description="where examples come from; wins over fewshot_split")
    samples: list[dict[str, JSON]] | PythonFunction | None = Field(None, description="examples that are written here")
    process_docs: PythonFunction | None = Field(None, description="Python that changes the rows of `split`")
    fewshot_indices: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="the rows of the split that may be shown"
    )
    doc_to_text: Template | int | PythonFunction | None = Field(
        None, description="of examples, where they differ from the question"
    )
    doc_to_choice: Choices | PythonFunction | None = Field(None, description="of examples")
    doc_to_target: Template | int | list[str] | PythonFunction | None = Field(None, description="of examples")
    gen_prefix: Template | None = Field(None, description="of examples")
    fewshot_delimiter: str | None = Field(None, description="between examples; the task's own by default")
    target_delimiter: str | None = Field(None, description="between an example and its answer")


class ClipEntry(Strict):
    """A clip of which a part is shown."""

    file: Template = Field(description="the column, or Jinja that gives a file's name")
    start: Template | None = Field(None, description="where the part begins, in seconds: a column or Jinja")
    end: Template | None = Field(None, description="where it ends, in seconds")
    rate: Annotated[float, Field(gt=0)] | None = Field(
        None, description="how many pictures are a second, where clips are folders of pictures"
    )
    subtitles: Template | None = Field(
        None, description="the file (SRT) of which the prompt shows, as <subtitles>, what is said at the frames"
    )


Clips = Template | ClipEntry | list[Template | ClipEntry]


class FramesEntry(Strict):
    """Which frames of a video are shown."""

    count: Annotated[int, Field(ge=1)] | None = Field(
        8, description="the most of them: distinct whole positions of linspace(0, N-1, count)"
    )
    fps: Annotated[float, Field(gt=0)] | None = Field(None, description="so many a second of the clip, up to `count`")
    scenes: bool = Field(False, description="spaced by how much the picture changes, and not by time")


class GenerationKwargs(Open):
    """How answers are generated. All further keys are handed to the model."""

    until: Stop | list[Stop] | None = Field(None, description="texts that end an answer")
    do_sample: bool | None = Field(
        None, description="draw tokens, or take the likeliest; implied by a temperature above 0"
    )
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(None, description="of sampling")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="sample among the likeliest tokens that together have this probability"
    )
    top_k: int | None = Field(None, description="sample among so many of the likeliest tokens")
    max_gen_toks: Annotated[int, Field(gt=0)] | None = Field(None, description="the most tokens of an answer")
    max_new_tokens: Annotated[int, Field(gt=0)] | None = Field(None, description="the same as max_gen_toks")
    max_tokens: Annotated[int, Field(gt=0)] | None = Field(None, description="the same as max_gen_toks")
    max_completion_tokens: Annotated[int, Field(gt=0)] | None = Field(None, description="the same as max_gen_toks")

    @model_validator(mode="after")
    def _is_spelt_right(self) -> GenerationKwargs:
        """Any key may be a model's own, but one that is a letter away from ours is none."""
        for key in self.model_extra or {}:
            if near := difflib.get_close_matches(key, type(self).model_fields, n=1, cutoff=0.9):
                raise PydanticCustomError(
                    MISSPELT, "unknown key '{key}'; did you mean '{near}'?", {"key": key, "near": near[0]}
                )
        return self


class ExampleAnswer(Open):
    """An answer, and the scores that it must get. All further keys are scores, named as in a record."""

    reply: str | None = None
    replies: list[str] | None = Field(None, description="one a repeat")
    logprobs: list[float] | None = Field(None, description="one a choice, in nats")


class Example(Strict):
    """A row, what it must become, and what some answers to it must score. The task tests itself with it, offline."""

    row: dict[str, JSON] = Field(description="a row as the data has it")
    subset: str | None = Field(None, description="the subset that it is in")
    shots: list[dict[str, JSON]] = Field([], description="few-shot rows to show; none by default")
    prompt: str | None = Field(None, description="the whole prompt, description and shots included")
    choices: list[str] | None = Field(None, description="what the options must be")
    target: int | str | list[int] | list[str] | None = Field(None, description="what the gold must be")
    scores: list[ExampleAnswer] = Field(
        [], description="answers and what they must score: {reply: B, exact_match: 1}, {logprobs: [-1, -2], acc: 1}"
    )


def _distinct(labels: str) -> str:
    if len(set(labels)) < len(labels):
        raise ValueError("letters that all differ")
    return labels


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None
    return text


def _arithmetic(text: str) -> str:
    try:
        Expression(text)
    except ExpressionError as error:
        raise ValueError(f"arithmetic ({error})") from None
    return text


def _braces(text: str) -> str:
    try:
        pieces_of(text)
    except ExpressionError as error:
        raise ValueError(f"a text with arithmetic in its braces ({error})") from None
    return text


Arithmetic = Annotated[str, AfterValidator(_arithmetic)]


class OptionsEntry(Strict):
    """Where a row's options are, so that `--modify` can move them. Columns can be reached into: `choices.text`."""

    columns: Annotated[list[str], Field(min_length=2)] | str = Field(
        description="a column for each option, or the one that holds them all (a list, or a text with separators)"
    )
    answer: str | None = Field(None, description="the column that says which option is right")
    form: Literal["letter", "index", "text"] | None = Field(
        None, description="how it says so; by default numbers are indices from 0, and letters are letters"
    )
    question: Words | None = Field(None, description="the column of the question; further ones hold what belongs to it")
    labels: Annotated[str, AfterValidator(_distinct)] = Field(
        "ABCDEFGHIJ", min_length=2, description="the letters of the options"
    )
    separator: Stop | None = Field(None, description="between options in a text; a line break by default")
    prefix: Annotated[str, AfterValidator(_pattern)] | None = Field(
        None, description="pattern of the letter in front of an option's text: '[A-D]\\. '"
    )

    @model_validator(mode="after")
    def _in_order(self) -> OptionsEntry:
        columns = self.columns if isinstance(self.columns, list) else []
        if len(columns) > len(self.labels):
            raise ValueError(f"a mapping with labels for all {len(columns)} columns")
        letters = "".join(columns).upper()
        single = all(len(name) == 1 and name.upper() in self.labels for name in columns)
        if columns and single and letters != self.labels[: len(letters)]:
            wanted = ", ".join(self.labels[: len(letters)])
            raise ValueError(f"a mapping with columns {wanted} in this order, or with `labels: {letters}`")
        return self


class ParaphraseEntry(Strict):
    """Another wording of the question; what is not given stays as it is."""

    doc_to_text: Template | None = None
    description: Template | None = None
    gen_prefix: Template | None = None
    target_delimiter: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ParaphraseEntry:
        if not self.model_fields_set:
            raise ValueError("a mapping with at least one key, such as 'doc_to_text'")
        return self


class RenewalEntry(Strict):
    """How a row gets other numbers, for `--modify renew_numbers`: by a rule for all rows, or by a template a row."""

    numbers: Annotated[dict[str, Arithmetic], Field(min_length=1)] | None = Field(
        None, description="name -> what it is drawn from, anew for each row: range(1, 100), [5, 10, 20]"
    )
    conditions: list[Arithmetic] = Field([], description="what must hold of the numbers of a rule")
    template: str | None = Field(None, description="the column of a row's template, as GSM-Symbolic has them")
    file: str | None = Field(
        None, description="a file or folder of templates, each with the number of its row: {row: 12, template: ...}"
    )
    columns: Annotated[dict[str, Annotated[str, AfterValidator(_braces)]], Field(min_length=1)] = Field(
        {"question": "{question}", "answer": "{answer}"},
        description="column -> its new value, with arithmetic in braces; a template gives {question} and {answer}",
    )

    @model_validator(mode="after")
    def _is_one_way(self) -> RenewalEntry:
        if sum(way is not None for way in (self.numbers, self.template, self.file)) > 1:
            raise ValueError("a mapping with one of 'numbers', 'template' and 'file'")
        if self.conditions and self.numbers is None:
            raise ValueError("a mapping with 'conditions' only beside 'numbers'")
        if self.numbers is not None and "columns" not in self.model_fields_set:
            raise ValueError("a mapping with 'columns' beside 'numbers': what they change")
        return self


class EnvironmentEntry(Strict):
    """What a model may act on: functions of the task's Python, which run in the sandbox, and what they change."""

    tools: PythonFunction = Field(
        description="a list of Python functions f(state, ...) whose signature and docstring say what is offered, or of "
        "classes with get_info() and invoke(data, ...), as tau-bench has them"
    )
    state: PythonFunction | None = Field(
        None, description="makes what the functions are given first, anew for each conversation; may take the row"
    )
    policy: str | PythonFunction | None = Field(None, description="the system text, or Python that holds or makes it")
    ends: Words | None = Field(None, description="functions whose call ends the conversation")
    steps: Annotated[int, Field(ge=1)] = Field(30, description="the most answers of the model")

    @property
    def functions(self) -> dict[str, PythonFunction]:
        """Its Python, by what it is for."""
        given = {"tools": self.tools, "state": self.state, "policy": self.policy}
        return {name: value for name, value in given.items() if isinstance(value, PythonFunction)}


class SimulatedUserEntry(Strict):
    """The user of a conversation, whom another model (`--user_model`) plays."""

    prompt: Template = Field(description="the system text of that model: Jinja, which sees the row")
    opening: str = Field(
        "Hi! How can I help you today?", description="what it is told first, in the place of the measured model"
    )
    stop: Stop = Field("###STOP###", description="what it writes to end the conversation")
    generation_kwargs: GenerationKwargs | None = Field(None, description="how it answers")
