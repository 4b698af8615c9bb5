"""What a task file may say: lm-eval's keys with lm-eval's meaning, and ours. The JSON Schema comes from here too.

A value of the wrong kind, a missing key and an unknown key are errors that name file, line and the nearest known key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.tasks.file_models import Open, Strict, Words, validate
from harness.tasks.schema_entries import (
    Choices,
    Clips,
    EnvironmentEntry,
    Example,
    FewshotConfig,
    FilterEntry,
    FramesEntry,
    GenerationKwargs,
    MetricEntry,
    OptionsEntry,
    ParaphraseEntry,
    RenewalEntry,
    SimulatedUserEntry,
    Template,
)
from harness.tasks.schema_problems import unknown_key
from harness.tasks.yaml_file import Document, PythonFunction
from harness.types import JSON, OutputType

# What lm-eval's files may say and this project does not do.
REFUSED: Mapping[str, str] = {
    "use_prompt": "needs promptsource; write the prompt into 'doc_to_text'",
}

MOST_REPEATS = 10_000
"""Answers to a question, at most; published numbers need 200."""


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
        if self.output_type == "multiple_choice" and self.doc_to_choice == []:
            raise ValueError("doc_to_choice: there are no choices")
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
