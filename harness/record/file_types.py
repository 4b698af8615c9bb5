"""The files of a run folder as they lie on disk: their kinds, their versions, and the types of their fields.

What is read is checked once, at the door; inside, nothing is guessed. A file of an earlier version is read as if it had
been written today (`upgraded_...`); one of a later version is refused. A field that is not named here is left alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NotRequired, final

from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from harness.types import JSON, BadRows

FORMAT = 2
"""Of a run folder and its report.

1: no `kind`; rows with keys like `$float` of their own could not be told from numbers; records without `rules`.
2: as described here.
"""
Kind = Literal["run", "judgement"]
"""What a folder holds: the answers of a model to tasks, or what a judge said of the answers of a run."""

Number = float | Literal["NaN", "Infinity", "-Infinity"]
"""JSON has no number that is not finite, so that these stand by their names."""


class FramesFields(TypedDict):
    """Which frames of a video were shown (`indices`, from 0, of `total`), when each is seen (seconds), by what rule."""

    indices: list[int]
    times: list[float]
    total: int
    fps: float
    size: list[int]
    rule: str
    decoder: str


class MediaFields(TypedDict):
    """An image, video or clip without its bytes: what it is, and the file (or member of a zip) that held it.

    start, end: the part of a video or an audio clip that was shown, in seconds. frames: of a video.
    """

    kind: Literal["image", "video", "audio"]
    sha256: str
    mime: str
    path: NotRequired[str]
    member: NotRequired[str]
    problem: NotRequired[str]
    start: NotRequired[float]
    end: NotRequired[float]
    frames: NotRequired[FramesFields]


class MessageFields(TypedDict):
    """A turn of a chat."""

    role: str
    content: str | list[str | MediaFields] | None


class PromptFields(TypedDict, total=False):
    """A prompt; what is missing is empty. prefix: the reference to its shared part in `prompts.jsonl`."""

    prefix: str
    suffix: str
    messages: list[MessageFields]
    prefill: str
    media: list[MediaFields]
    tools: str


class SharedPromptFields(TypedDict):
    """A line of `prompts.jsonl`: a text or turns that many prompts begin with, and the hash that names it."""

    hash: str
    text: NotRequired[str]
    messages: NotRequired[list[MessageFields]]


class ResponseFields(TypedDict, total=False):
    """An answer; what is missing is as by default.

    What was counted on the way (tokens, what was cut) is no part of the answer: a count that is none is unknown.
    """

    text: str | None
    logprobs: list[Number]
    is_greedy: list[bool]
    token_counts: list[int]
    reasoning: str | None
    finish_reason: str | None
    prompt_tokens: JSON
    completion_tokens: JSON
    reasoning_tokens: JSON
    cached_tokens: JSON
    truncated: JSON
    error: str | None
    by_batch: bool
    user: ResponseFields


class ViewFields(TypedDict):
    """How a modified task shows a row; see `View`."""

    index: int
    count: int
    order: NotRequired[list[int]]
    wording: NotRequired[int]
    question: NotRequired[str | None]
    fixed: NotRequired[str]
    images: NotRequired[bool]
    image_order: NotRequired[list[int]]
    stand_in: NotRequired[str]
    image_rows: NotRequired[list[int]]


class ScoredByFields(TypedDict):
    """See `ScoredBy`."""

    fingerprint: str
    truncated: int


class AskedFields(TypedDict):
    """One reply of a judge: to which question, in which attempt, and why it could not be read."""

    question: int
    attempt: int
    problem: NotRequired[str]


class JudgeFields(TypedDict):
    """Who judged, by which rubric, and what was asked for each of the replies."""

    asked: list[AskedFields]
    skipped: NotRequired[str]


class RecordLine(TypedDict):
    """A line of `<task>.jsonl`: one sample, or one judgement of a sample. See `Record`."""

    task: str
    subset: str
    id: int
    view: NotRequired[ViewFields]
    kind: NotRequired[Literal["sample", "judgement"]]
    format: NotRequired[int]
    target: int | str | list[int] | list[str] | None
    choices: list[str]
    prompt: PromptFields
    contexts: NotRequired[list[PromptFields]]
    continuation: NotRequired[str]
    responses: list[ResponseFields]
    scores: dict[str, Number | list[Number] | None]
    answers: dict[str, list[str | None]]
    cluster: str | None
    unparsed: bool
    error: str | None
    request_keys: list[str]
    rules: NotRequired[str]
    scored_by: NotRequired[dict[str, ScoredByFields]]
    judge: NotRequired[JudgeFields]
    doc: dict[str, JSON]
    seconds: NotRequired[list[Number | None] | None]


class ProfileFields(TypedDict):
    """Where the time of a command went. seconds: by the clock, from the reading of tasks to the end, and by phase
    (`harness.stopwatch.PHASES`), which add up to it. processor: seconds of processor of this process and of those that
    it waited for, in the same time. peak_memory: the most bytes of main memory that this process has had; 0 where the
    system does not say."""

    seconds: float
    processor: float
    peak_memory: int
    phases: dict[str, float]


class SessionFields(TypedDict, total=False):
    """One command that worked on the folder. samples: how many records it wrote. profile: where its time went.

    versions, environment: where they were others than those of the manifest, which are the last session's that wrote.
    shard: of a merged run, the part that the command asked; merged: how many parts the command merged.
    """

    started: str
    finished: str
    status: str
    command: str | None
    samples: int
    incidents: list[dict[str, JSON]]
    profile: ProfileFields
    versions: dict[str, str]
    environment: EnvironmentFields
    shard: str
    merged: int


class EnvironmentFields(TypedDict, total=False):
    """The interpreter, the machine, and the environment variables that can change a number or a speed."""

    python: str
    platform: str
    machine: str
    cpus: int | None
    settings: dict[str, str]


class TaskFields(TypedDict, total=False):
    """What a manifest says of a task. samples: how many there are to be, the views of a row each counted. code: the
    files of its Python, with the hashes of their content. modified_by: modifier -> where its texts or numbers come
    from."""

    file: str
    digest: str
    num_fewshot: int | None
    split: str
    modifiers: list[str]
    modified_by: dict[str, dict[str, JSON]]
    title: str
    date: str | None
    version: JSON
    config: dict[str, JSON]
    subsets: list[str]
    samples: int
    code: dict[str, str]


class ModelFields(TypedDict, total=False):
    """What a manifest says of a model. Beside these stands what the model says of itself."""

    name: str
    args: dict[str, JSON]
    identity: dict[str, JSON]


class RubricFields(TypedDict, total=False):
    """By what a judge judged; see `Rubric`."""

    name: str
    digest: str
    title: str
    file: str
    pairwise: bool
    criteria: list[str]
    system: str | None
    prompt: str
    format: str
    score: str


class JudgedRunFields(TypedDict, total=False):
    """A run that was judged: its folder, the hash of its identity, and the name of its model."""

    run: str
    identity: str
    model: str


class EndedFields(TypedDict):
    """What tells that a run has ended, and that nothing has changed since.

    digest: of all that decides what is asked and how it is scored. files: name -> hash of the content. samples: by
    task. remarks: what the run said before it asked.
    """

    digest: str
    files: dict[str, str]
    samples: dict[str, int]
    remarks: list[str]


class BegunFields(TypedDict):
    """What tells the next command how much of a run that did not come to its end needs no second look.

    digest, remarks: as of `EndedFields`. files: name -> size and SHA-256 of what was written of it.
    """

    digest: str
    files: dict[str, tuple[int, str]]
    remarks: list[str]


class Manifest(TypedDict, total=False):
    """`manifest.json`: what the folder is, and how it came about.

    scoring_files: of each task, what its Python read while it scored, as paths from the folder of the task file, with
    the hashes of the files' content.
    """

    format: int
    kind: Kind
    status: str
    started: str
    finished: str
    rescored: str
    command: str | None
    identity: dict[str, JSON]
    spec: dict[str, JSON]
    model: ModelFields
    tasks: dict[str, TaskFields]
    data: dict[str, str]
    plugins: list[dict[str, JSON]]
    versions: dict[str, str]
    environment: EnvironmentFields
    sessions: list[SessionFields]
    rubric: RubricFields
    judged: list[JudgedRunFields]
    judges: list[dict[str, JSON]]
    opened_reasoning: str
    corrected: CorrectionFields
    scoring_files: dict[str, dict[str, str]]
    ended: EndedFields


class MetricFields(TypedDict):
    """A value. average, filter, missing: of a group of tasks, see `build_report`."""

    metric: str
    value: Number | None
    n: int
    stderr: Number | None
    interval: list[Number] | None
    higher_is_better: bool
    aggregation: str
    bounds: NotRequired[list[Number]]
    scorer: NotRequired[dict[str, JSON]]
    setting: NotRequired[str]
    truncated: NotRequired[int]
    reasoned: NotRequired[int]
    unknown: NotRequired[int]
    error: NotRequired[str]
    average: NotRequired[str]
    filter: NotRequired[str]
    missing: NotRequired[list[str]]


class CorrectionFields(TypedDict):
    """Of a run with corrected golds: the run and the file that it is made of, how many golds changed, how many stood so
    already, how many are of samples that the run does not have, and the values of each task before.
    """

    of: str
    file: str
    changed: int
    as_before: int
    unknown: int
    before: dict[str, list[MetricFields]]


class ResultFields(TypedDict):
    """The numbers of a task, a group of tasks, or a part of a task."""

    counts: dict[str, int]
    metrics: list[MetricFields]
    average: NotRequired[str | None]
    by_average: NotRequired[dict[str, list[MetricFields]]]


class PartCoverage(TypedDict):
    """How many subsets were asked, of how many."""

    subsets: int
    of_subsets: int


class PartFields(ResultFields):
    """The numbers of a subset or a group of subsets, whose names are its members."""

    name: str
    title: str
    covers: NotRequired[PartCoverage]
    members: NotRequired[list[str]]


class CategoryFields(PartFields):
    """The numbers of the samples of one category of a breakdown; its title is its name."""

    breakdown: str


class MissingFields(TypedDict):
    """Samples that were asked and cannot be read back: how many, and the names of the first of them."""

    n: int
    first: list[str]


class BadRowFields(TypedDict):
    """Rows that cannot be used as they are: what became of them, and by subset each one's number and what is wrong."""

    handling: BadRows
    by_subset: dict[str, dict[str, str]]


class CoverageFields(PartCoverage):
    """What of a task a report is about, see `TaskCoverage`. by_subset: how many rows were asked of how many."""

    rows: int
    of_rows: int | None
    limit: float | None
    by_subset: dict[str, list[int | None]]
    bad_rows: NotRequired[BadRowFields]
    chosen: NotRequired[dict[str, list[int]]]
    drawn_from: NotRequired[dict[str, int | list[int]]]


class DecisionFields(TypedDict):
    """Whether a run is better than another on all rows that rows were drawn from. difference: the 95 % interval."""

    run: str
    difference: list[float]
    verdict: Literal["better", "worse", "equal", "open"]


class DrawnFields(TypedDict):
    """What rows that were drawn say of all of them. interval: of the headline over all rows, valid at every look."""

    rows: int
    of_rows: int
    interval: list[float]
    against: NotRequired[DecisionFields]


class LiteFields(TypedDict):
    """What the rows of a lite set say of the whole task. models: on how many other models its error was measured."""

    task: str
    metric: str
    value: float
    interval: list[float] | None
    rows: int
    of_rows: int
    method: str
    models: int


class ProbeFields(TypedDict):
    """What one probe says of a model. effect: in nats, or a rank from -1/2 to 1/2. p: None where nothing can be said.
    left_out: reason -> rows or shards that could not be used. verbatim: what the model would write word for word.
    unseen: with how many rows they were compared."""

    probe: str
    n: int
    effect: float | None
    p: float | None
    left_out: dict[str, int]
    verbatim: int | None
    unseen: int | None


class OverlapFields(TypedDict):
    """What of a task stands in a corpus. first, first_alike: the first rows, and rows with pictures, and where."""

    corpus: str
    rows: int
    found: int
    too_short: int
    documents: int
    pictured: int
    alike: int
    pictures: int
    first: list[list[str]]
    first_alike: list[list[str]]


class ContaminationFields(TypedDict, total=False):
    """Whether a model may have seen a task. date: the day of the last look."""

    date: str
    probes: list[ProbeFields]
    corpus: OverlapFields


class SideFields(TypedDict):
    """The rows on one side of a model's cut-off. value, interval: None without a scored row, or with one alone."""

    n: int
    value: float | None
    interval: list[float] | None


class DatedFields(TypedDict):
    """The headline over rows that are dated up to a model's cut-off, and later. difference: later minus earlier."""

    cutoff: str
    before: SideFields
    after: SideFields
    undated: int
    difference: float | None
    interval: list[float] | None


class FailureFields(TypedDict):
    """How many samples failed for one cause, and one of the messages."""

    n: int
    message: str


class UsageFields(TypedDict):
    """What the answers of a task cost, see `Usage`; user: those of its simulated user, judges: those of its judges."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: NotRequired[int]
    cached_tokens: NotRequired[int]
    batch_prompt_tokens: NotRequired[int]
    batch_completion_tokens: NotRequired[int]
    batch_cached_tokens: NotRequired[int]
    replies_without_tokens: NotRequired[int]
    answers: NotRequired[int]
    cost: NotRequired[float | None]
    truncated_tokens: int
    seconds: Number
    user: NotRequired[UsageFields]
    judges: NotRequired[UsageFields]


class DepartureFields(TypedDict):
    """What was not done as it was published: `words` to be translated, and the `values` of the names in them."""

    words: str
    values: Mapping[str, str | int | None]


class PublishedFields(TypedDict):
    """A value that somebody published beside the run's own, see `harness.record.published`.

    verdict: agrees, above, below, unclear (no interval), or no value. interval: of the difference. differs: what
    was not done as it was published, a few words each; differs_words: the same, as other languages need it.
    """

    metric: str
    value: float
    source: str
    date: str
    note: str
    verdict: str
    difference: float | None
    interval: list[float] | None
    differs: list[str]
    differs_words: NotRequired[list[DepartureFields]]


@final
class TaskReport(ResultFields):
    """The numbers of a task."""

    task: str
    groups: list[PartFields]
    subsets: list[PartFields]
    categories: NotRequired[list[CategoryFields]]
    title: NotRequired[str]
    version: NotRequired[JSON]
    num_fewshot: NotRequired[int | None]
    usage: NotRequired[UsageFields]
    missing: NotRequired[MissingFields]
    date: NotRequired[str | None]
    split: NotRequired[str]
    covers: NotRequired[CoverageFields]
    drawn: NotRequired[DrawnFields]
    lite: NotRequired[LiteFields]
    dated: NotRequired[DatedFields]
    contamination: NotRequired[ContaminationFields]
    failures: NotRequired[list[FailureFields]]
    published: NotRequired[PublishedFields]


@final
class GroupReport(ResultFields):
    """The numbers of a group of tasks."""

    group: str
    title: str
    members: list[str]
    tasks: list[str]
    version: NotRequired[JSON]


class RangeFields(TypedDict):
    """A value with its 95 % interval."""

    value: float
    interval: list[float] | None


class AbilityFields(TypedDict):
    """The mean over the tasks of an ability, see `AbilityScore`."""

    ability: str
    tasks: list[str]
    n: int
    raw: RangeFields | None
    corrected: RangeFields | None
    left_out: list[str]


class WorkFields(TypedDict, total=False):
    """What the judgements of a task took, see `Work`. cost: None where no prices are known."""

    judged: int
    scored: int
    skipped: dict[str, int]
    failed: dict[str, int]
    replies: int
    asked_again: int
    unreadable: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    replies_without_tokens: int
    batch_prompt_tokens: NotRequired[int]
    batch_completion_tokens: NotRequired[int]
    cost: float | None


class PairFields(TypedDict):
    """Of two runs that were compared, how many samples the second one won; see `PairTally`."""

    wins: int
    losses: int
    ties: int
    p_value: float | None


class ShardFields(TypedDict):
    """Which part of a run a folder holds: the `part`th, from 1, `of` so many."""

    part: int
    of: int


class Report(TypedDict):
    """`report.json`: what was found, and what `build_report` takes from the manifest. shard: where it is of a part.

    Of a judge's, also: rubric, judged (the runs), prices_per_million, work and pairs (both by task).
    """

    format: NotRequired[int]
    kind: Kind
    command: NotRequired[str | None]
    model: NotRequired[ModelFields]
    plugins: NotRequired[list[dict[str, JSON]]]
    versions: NotRequired[dict[str, str]]
    environment: NotRequired[EnvironmentFields]
    started: NotRequired[str]
    spec: NotRequired[dict[str, JSON]]
    data: NotRequired[dict[str, str]]
    seconds: NotRequired[Number | None]
    incidents: NotRequired[list[dict[str, JSON]]]
    tasks: list[TaskReport]
    groups: NotRequired[list[GroupReport]]
    cutoff: NotRequired[str | None]
    abilities: NotRequired[list[AbilityFields]]
    rubric: NotRequired[RubricFields]
    judged: NotRequired[list[JudgedRunFields]]
    prices_per_million: NotRequired[list[float] | None]
    work: NotRequired[dict[str, WorkFields]]
    pairs: NotRequired[dict[str, PairFields]]
    corrected: NotRequired[CorrectionFields]
    shard: NotRequired[ShardFields]


def upgraded(fields: Mapping[str, JSON]) -> dict[str, JSON]:
    """A manifest or a report as today's version has it. Version 1 told a judge's by their rubric alone."""
    kind: Kind = "judgement" if "rubric" in fields else "run"
    return {**fields, "kind": fields.get("kind", kind)}


def problem_of(fields: Mapping[str, JSON], kind: type) -> str | None:
    """What is wrong with the fields of one of the types above, in one line; None where all is well."""
    try:
        _validator(kind)(fields, strict=True)
    except ValueError as error:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            raise
        first = error.errors(include_url=False, include_context=False)[0]
        # Of a value that may be of several types, each type complains; their names in the path are no part of the file.
        parts = [str(part) for part in first["loc"]]
        path = ".".join(part for part in parts if "[" not in part and part not in ("float", "int", "str", "none"))
        return f"{path}: {first['msg'].lower()}" if path else str(first["msg"]).lower()
    except RecursionError:
        return "nested too deeply"
    return None


@functools.cache
def _validator(kind: type) -> Callable[..., Any]:
    # pydantic takes a while to import, and whoever reads no file of a run needs none of it.
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validator.validate_python
