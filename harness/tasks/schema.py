"""What a task file may say: lm-eval's keys with lm-eval's meaning, and ours. The JSON Schema comes from here too.

A value of the wrong kind, a missing key and an unknown key are errors that name file, line and the nearest known key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from harness.tasks.expressions import Expression, ExpressionError
from harness.tasks.number_templates import pieces_of
from harness.tasks.schema_problems import MISSPELT, first_problem, unknown_key
from harness.tasks.yaml_file import Document, KeyPath, PythonFunction
from harness.types import JSON, OutputType

Template = Annotated[str, Field(description="Jinja, or the name of a column")]
Choices = list[str] | dict[str, str] | str
Words = str | list[str]
Stop = Annotated[str, Field(min_length=1)]
M = TypeVar("M", bound=BaseModel)

# What lm-eval's files may say and this project does not do.
REFUSED: Mapping[str, str] = {
    "use_prompt": "needs promptsource; write the prompt into 'doc_to_text'",
}
# Where `!function` may stand: what is any step of a list is written *.
_PYTHON: frozenset[tuple[str, ...]] = frozenset(
    {
        *((key,) for key in ("process_docs", "process_results", "custom_dataset", "doc_to_decontamination_query")),
        *((key,) for key in ("class", "construct_requests")),
        *((key,) for key in ("doc_to_text", "doc_to_target", "doc_to_choice", "doc_to_image", "doc_to_audio")),
        *(("fewshot_config", key) for key in ("doc_to_text", "doc_to_target", "doc_to_choice")),
        *(("fewshot_config", key) for key in ("process_docs", "samples")),
        *(("metric_list", "*", key) for key in ("metric", "aggregation")),
        *(("filter_list", "*", "filter", "*", key) for key in ("function", "filter_fn")),
        ("aggregate_metric_list", "*", "aggregation"),
        ("aggregate_metric_list", "aggregation"),
        *(("environment", key) for key in ("tools", "state", "policy")),
    }
)

MOST_REPEATS = 10_000
"""Answers to a question, at most; published numbers need 200."""


class Strict(BaseModel):
    """No unknown keys, and no value is bent into another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Open(BaseModel):
    """Named keys are checked; all others are handed on as options."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, defer_build=True)


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
    temperature: Annotated[float, Field(ge=0)] | None = Field(None, description="of sampling")
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
            raise ValueError(f"a mapping whose columns stand in the order of the labels '{self.labels}'")
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


class TaskConfig(Strict):
    """A task: rows, how each becomes a prompt, and how answers become scores."""

    task: str | None = Field(None, description="the name on the command line")
    include: Words | None = Field(None, description="files whose keys are taken over, relative to this one")
    task_alias: str | None = Field(None, description="an older name for 'title'")
    title: Template | None = Field(None, description="what tables call it")
    tag: Words | None = Field(None, description="names that stand for all tasks that carry them")
    group: Words | None = Field(None, description="an older name for 'tag'")
    aliases: Words | dict[str, str] | None = Field(
        None,
        description="names by which people know the task, or name -> what it stands for (`gpqa_diamond: gpqa/diamond`)",
    )
    ability: Words | None = Field(
        None, description="what it measures: knowledge, reading, math, code, ... (`harness tasks`)"
    )
    language: Words | None = Field(None, description="of the questions: zh, en, ...")
    modality: Words | None = Field(None, description="what prompts hold: text, image, ...")
    license: str | None = Field(None, description="of the rows")
    paper: str | None = Field(None, description="where the benchmark and its protocol are described")
    version: str | int | float | None = Field(None, description="of the task file; raise it when scores change")
    metadata: dict[str, JSON] | None = Field(
        None, description="date (when it was published), rows (how many, by split), and whatever else is worth saying"
    )

    dataset_path: str | None = Field(None, description="an id on the hub, or a local file or folder")
    dataset_name: Template | None = Field(None, description="the config; the subset's name where there are subsets")
    dataset_kwargs: dict[str, JSON] | None = Field(
        None, description="how files are read: data_files, field, encoding, ..."
    )
    revision: str | None = Field(None, description="of the data set on the hub")
    sources: dict[str, JSON] | None = Field(
        None,
        description="where the rows are: on a hub (hf, modelscope), in files (github, url), in a mirror (local)",
    )
    training_split: str | None = Field(None, description="examples come from here where nothing else is said")
    validation_split: str | None = Field(None, description="asked where there is no test_split")
    test_split: str | None = Field(None, description="the split that is asked")
    fewshot_split: str | None = Field(None, description="where examples come from")
    custom_dataset: PythonFunction | None = Field(
        None, description="Python that makes the rows of all splits, from `metadata` and `dataset_kwargs`"
    )
    process_docs: PythonFunction | None = Field(
        None, description="Python that changes the rows of a split, all at once (`!function utils.process_docs`)"
    )
    explode: Words | dict[str, list[str]] | None = Field(
        None,
        description="columns of lists: each item is a row of its own; several columns go item by item. A mapping makes "
        "the lists: `{question: [q1, q2], answer: [a1, a2]}` are two rows",
    )
    where: Words | None = Field(None, description="Jinja conditions that a row must meet to be used")
    subsets: dict[str, dict[str, JSON] | str | None] | list[str] | None = Field(
        None, description="name -> fields (title, group, ...), which templates see as {{ subset.title }}"
    )

    output_type: OutputType = Field(
        "generate_until", description="multiple_choice, loglikelihood, loglikelihood_rolling or generate_until"
    )
    description: Template | None = Field(None, description="stands before everything, once")
    doc_to_text: Template | int | PythonFunction | None = Field(
        None, description="the question, as Jinja or the name of a column"
    )
    doc_to_messages: Template | None = Field(
        None,
        description="a conversation that ends with the user's turn, as a list of {role, content}, where an assistant's "
        "turn with the content null is the model's own answer; a model without a chat template is shown doc_to_text "
        "or the turns one below the other",
    )
    doc_to_tools: Template | list[dict[str, JSON]] | None = Field(
        None,
        description="the functions that the model may call, as a list of JSON Schemas {name, description, parameters}, "
        "the same for all rows, or Jinja or a column that gives one; "
        "calls are read from the reply by the filter `tool_calls`, and never executed",
    )
    environment: EnvironmentEntry | None = Field(
        None, description="what the model's calls act on: they are executed, in the sandbox, and it goes on"
    )
    simulated_user: SimulatedUserEntry | None = Field(
        None, description="another model that talks with the measured one, as the user"
    )
    doc_to_image: Words | PythonFunction | None = Field(
        None, description="columns of images, which the prompt speaks of as <image 1>, <image 2>, ..."
    )
    image_sizes: bool = Field(
        False,
        description="whether templates see `width` and `height` of the row's images, in pixels (`{{image.width}}`)",
    )
    doc_to_video: Clips | None = Field(
        None,
        description="columns of videos, or Jinja that gives their files; the prompt speaks of them as <video 1>, ...",
    )
    doc_to_audio: Clips | PythonFunction | None = Field(
        None, description="columns of sounds, or Jinja; in the prompt <audio 1>, ..."
    )
    frames: FramesEntry | Annotated[int, Field(ge=1)] | None = Field(
        None, description="of videos, how many frames are shown (8), or by which rule"
    )
    doc_to_choice: Choices | PythonFunction | None = Field(
        None, description="the options: Jinja that gives a list, a column, a list or a mapping"
    )
    doc_to_target: Template | int | list[str] | PythonFunction | None = Field(
        None, description="what is right: the index of an option, or a text"
    )
    gen_prefix: Template | None = Field(None, description="how the answer begins")
    target_delimiter: str = Field(" ", description="between question and answer")
    fewshot_delimiter: str = Field("\n\n", description="between examples")
    num_fewshot: Annotated[int, Field(ge=0)] | None = Field(
        None, description="how many examples stand before a question"
    )
    fewshot_config: FewshotConfig | None = Field(None, description="which examples, and how they are shown")
    generation_kwargs: GenerationKwargs | None = Field(None, description="how answers are generated")
    repeats: Annotated[int, Field(ge=1, le=MOST_REPEATS)] = Field(1, description="how often each question is asked")

    filter_list: list[FilterEntry] | None = Field(None, description="pipelines that read the answer from a reply")
    metric_list: Annotated[list[MetricEntry], Field(min_length=1)] | None = Field(
        None, description="what is computed; the first is the headline"
    )
    construct_requests: PythonFunction | None = Field(
        None, description="Python that says what is asked about a row; of a task that is a class (`class`)"
    )
    process_results: PythonFunction | None = Field(
        None, description="Python that scores a sample: a value for each metric of `metric_list`"
    )
    average: Literal["micro", "macro"] = Field("micro", description="the headline over subsets; both are reported")
    cluster_key: Template | None = Field(None, description="rows with the same value are one cluster of errors")
    doc_to_date: Template | None = Field(
        None, description="when a row was published, for --after and --before_cutoff: a column or Jinja"
    )
    breakdown: dict[str, Template] | None = Field(
        None,
        description="name -> what rows are told apart by in the report: Jinja or a column; a list counts under each",
    )
    options: OptionsEntry | None = Field(None, description="where the options are, for --modify")
    renewal: RenewalEntry | None = Field(None, description="how numbers are drawn anew, for --modify renew_numbers")
    paraphrases: Annotated[list[str | ParaphraseEntry], Field(min_length=1)] | str | None = Field(
        None,
        description="other wordings for --modify paraphrase: doc_to_text, or keys; or a column with other questions",
    )
    should_decontaminate: bool | None = Field(None, description="has no effect, as in lm-eval")
    doc_to_decontamination_query: str | PythonFunction | None = Field(None, description="has no effect, as in lm-eval")
    unsafe_code: bool | None = Field(None, description="has no effect: what programs do stays in a sandbox")

    variants: dict[str, dict[str, JSON]] | None = Field(None, description="name -> keys to override")
    example: Example | list[Example] | None = Field(
        None, description="rows with the prompt and the scores that they must get: the task tests itself"
    )

    @model_validator(mode="after")
    def _is_whole(self) -> TaskConfig:
        if self.process_results is not None and self.metric_list is None:
            raise ValueError("'process_results' needs 'metric_list': the values that it gives, by name")
        if self.doc_to_target is None and self.output_type in ("loglikelihood", "loglikelihood_rolling"):
            raise ValueError(f"output_type {self.output_type} needs 'doc_to_target', the text that is scored")
        if self.doc_to_messages is not None and self.num_fewshot:
            raise ValueError("'doc_to_messages' is a whole conversation and takes no examples: leave out 'num_fewshot'")
        if self.doc_to_messages is not None and self.paraphrases is not None:
            raise ValueError("'doc_to_messages' and 'paraphrases' cannot be used together")
        self._check_conversation()
        opens = self.doc_to_messages is not None or self.simulated_user is not None
        if self.doc_to_text is None and not opens and self.output_type != "loglikelihood_rolling":
            raise ValueError("missing key 'doc_to_text'")
        if self.output_type == "multiple_choice" and self.doc_to_choice is None:
            raise ValueError("output_type multiple_choice needs 'doc_to_choice'")
        if self.repeats > 1 and self.output_type != "generate_until":
            raise ValueError(f"'repeats' has no meaning for output_type {self.output_type}")
        return self

    def _check_conversation(self) -> None:
        if self.simulated_user is not None and self.environment is None:
            raise ValueError("'simulated_user' needs 'environment': what the model acts on, and the policy it is told")
        if self.environment is None:
            return
        if self.output_type != "generate_until":
            raise ValueError(f"'environment' needs output_type generate_until, found {self.output_type}")
        if self.doc_to_tools is not None:
            raise ValueError("'environment' says itself what is offered: leave out 'doc_to_tools'")
        if self.num_fewshot:
            raise ValueError("'environment' makes whole conversations, without examples: leave out 'num_fewshot'")
        if self.simulated_user is None:
            return
        if self.doc_to_messages is not None or self.doc_to_text is not None:
            raise ValueError("with 'simulated_user', the conversation is opened by it: leave out the other prompts")
        if self.environment.policy is None:
            raise ValueError("'simulated_user' needs 'environment: policy', the system text of the measured model")


class GroupMetricConfig(Strict):
    """How a score of the members becomes one of the group."""

    metric: str
    aggregation: Literal["mean"] | PythonFunction = Field(
        "mean", description="the mean; Python is named and never called, as in lm-eval"
    )
    weight_by_size: bool = True
    filter_list: Words | None = None


class GroupConfig(Open):
    """Tasks that are run, and reported, together. All further keys override those of the members."""

    group: str = Field(description="the name on the command line")
    group_alias: str | None = Field(None, description="an older name for 'title'")
    title: str | None = Field(None, description="what tables call it")
    include: Words | None = Field(None, description="files whose keys are taken over")
    task: str | list[str | dict[str, JSON]] = Field(description="tasks, groups and tags, with overrides or without")
    aggregate_metric_list: list[GroupMetricConfig] | GroupMetricConfig | None = Field(
        None, description="scores over all its tasks"
    )
    tag: Words | None = Field(None, description="names that stand for it")
    metadata: dict[str, JSON] | None = Field(None, description="whatever is worth saying")


def words(value: Words | None) -> tuple[str, ...]:
    """One word, several, or none."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def validate_task(document: Document) -> TaskConfig:
    """Check a whole task. Raises `TaskError`."""
    data = {key: value for key, value in document.data.items() if not (key in REFUSED and value in (None, False))}
    for key, reason in REFUSED.items():
        if key in data:
            raise document.error((key,), f"key '{key}' {reason}")
    config = validate(TaskConfig, data, document)
    for name, changes in (config.variants or {}).items():
        for key in changes:
            if key in REFUSED:
                raise document.error(("variants", name, key), f"key '{key}' {REFUSED[key]}")
            if key in ("task", "variants", "include") or key not in TaskConfig.model_fields:
                known = TaskConfig.model_fields
                raise document.error(("variants", name, key), unknown_key(key, known, f"in variant '{name}'"))
    return config


def validate_group(document: Document) -> GroupConfig:
    """Check a group file. Raises `TaskError`."""
    return validate(GroupConfig, document.data, document)


def validate(model: type[M], data: Mapping[str, JSON], document: Document) -> M:
    """Check the content of a file by a model of its keys. Raises `TaskError` with the line of the first problem."""
    _refuse_python(data, document)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise first_problem(error, model, data, document) from None


def functions_in(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, PythonFunction]]:
    """Every `!function` in the content of a file, and where it stands."""
    if isinstance(value, PythonFunction):
        yield path, value
    pairs: Iterable[tuple[str | int, JSON]] = ()
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for step, item in pairs:
        yield from functions_in(item, (*path, step))


def _refuse_python(value: JSON, document: Document) -> None:
    """Refuse Python where no key takes any."""
    for path, function in functions_in(value):
        place = tuple("*" if isinstance(step, int) else step for step in path)
        while place[:2] == ("task", "*"):  # of a group that is written inside a group
            place = place[2:]
        if place not in _PYTHON:
            key = next((step for step in reversed(path) if isinstance(step, str)), "")
            raise document.error(path, f"key '{key}': '{function}' is Python, which cannot stand here; say it in Jinja")


def json_schema() -> dict[str, JSON]:
    """The JSON Schema of task and group files, for editors."""
    task, group = TaskConfig.model_json_schema(), GroupConfig.model_json_schema()
    definitions = {**task.pop("$defs"), **group.pop("$defs"), "TaskConfig": task, "GroupConfig": group}
    changes = {"type": "object", "additionalProperties": {"$ref": "#/$defs/TaskConfig"}}
    task["properties"]["variants"] |= {"anyOf": [changes, {"type": "null"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A task or a group of tasks",
        "if": {"required": ["group"], "properties": {"task": {"type": "array"}}},
        "then": {"$ref": "#/$defs/GroupConfig"},
        "else": {"$ref": "#/$defs/TaskConfig"},
        "$defs": definitions,
    }
