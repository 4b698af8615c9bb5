"""The fields of a run folder's `report.json`, as they lie on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired, final

from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from harness.record.file_types import Kind, Number
from harness.record.manifest_fields import EnvironmentFields, JudgedRunFields, ModelFields, RubricFields
from harness.record.score_fields import CorrectionFields, MetricFields
from harness.types import JSON, BadRows


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
