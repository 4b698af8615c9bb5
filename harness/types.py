"""What flows through the harness: frozen values, one for each arrow of the straight line.

    Task (YAML) -> Sample (one row, rendered) -> Request -> Response -> Record (one JSON line)

Every room may import this module; it imports none of them but the errors and `quick`.
"""

from __future__ import annotations

import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.encodings import opened_zip
from harness.errors import DataError
from harness.quick import dataclass

OutputType = Literal["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"]
RequestKind = Literal["loglikelihood", "rolling", "generate"]
Role = Literal["system", "user", "assistant", "tool"]
JSON = Any
UNREADABLE = (
    *(OSError, EOFError, KeyError, ValueError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What reading a file, or a member of a zip, may raise where it is gone or broken."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames of a video are shown, and by what rule; a score hangs on it.

    indices: of the whole clip's frames in the order in which they are seen, from 0; times: when each is seen, seconds.
    total: how many frames the clip has. fps: their mean number in a second. size: (width, height) in pixels, upright.
    """

    indices: tuple[int, ...]
    times: tuple[float, ...]
    total: int
    fps: float
    size: tuple[int, int]
    rule: str
    decoder: str


@dataclass(frozen=True, slots=True)
class Media:
    """An image, video or audio clip that a prompt refers to, named by the hash of its bytes, and opened when needed.

    path: the file that holds it, or the zip of which it is the `member`; data: its bytes, where no file has them.
    problem: why it cannot be shown; a sample with such media is answered by that as its error.
    start, end: which part of a video or an audio clip is shown, in seconds; None from its beginning, to its end.
    frames: of a video, which of its frames are shown, once they are chosen.
    frame: of an image that is a frame of a video (whose hash it has), the frame's index. subtitles: the file, and the
    member of a zip, with what is said in a video; a prompt shows of it what is said at its frames. rate: of a video
    that is a folder of pictures (`path`), how many of them are a second.
    """

    kind: Literal["image", "video", "audio"]
    sha256: str
    data: bytes = field(default=b"", repr=False, compare=False)
    mime: str = ""
    path: str = field(default="", compare=False)
    member: str = field(default="", compare=False)
    problem: str = field(default="", compare=False)
    start: float | None = None
    end: float | None = None
    frames: Frames | None = None
    frame: int | None = None
    subtitles: tuple[str, str] | None = field(default=None, compare=False)
    rate: float | None = None

    def read(self) -> bytes:
        """The bytes. Raises DataError, one line, where the file is gone or has changed."""
        if self.data or not self.path:
            return self.data
        try:
            if self.member:
                with opened_zip(self.path) as archive:
                    data = archive.read(self.member)
            else:
                data = Path(self.path).read_bytes()
        except UNREADABLE as error:
            raise DataError(f"{self.place}: the {self.kind} cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise DataError(
                f"{self.place}: the {self.kind} has changed since the rows were read: run the command again"
            )
        return data

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.path}/{self.member}" if self.member else self.path or f"{self.kind} {self.sha256[:12]}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. `content` is text, or text and `Media` in the order in which they are shown.

    is_own: the model's own answer to what stands before it, as long as it is not known; `content` is then empty.
    call: of an answer that calls a function whose return is the next turn, (name, arguments as JSON), which `content`
    has as the model wrote it; some chat templates want it by itself.
    """

    role: Role
    content: str | tuple[str | Media, ...]
    is_own: bool = False
    call: tuple[str, str] | None = field(default=None, compare=False)

    @property
    def outline(self) -> str:
        """The text, with the kind and the hash of each image, video or clip in its place."""
        if self.is_own:
            return "[the model's own answer]"
        if isinstance(self.content, str):
            return self.content
        return "".join(part if isinstance(part, str) else f"[{part.kind} {part.sha256[:12]}]" for part in self.content)

    @property
    def text(self) -> str:
        """The text alone, media left out."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is shown, either as a string or as chat turns.

    A string prompt is `prefix + suffix`; `prefix` is the part that many samples share (description and few-shot
    examples) and is one Python object for all of them. A chat prompt is `messages`, of which the first
    `shared_messages` are shared; `prefix` and `suffix` are then empty. `prefill` is how the assistant's answer begins
    (chat prompts only; in a string prompt it is already part of `suffix`). `media` belongs to a string prompt. `tools`
    are the functions that a chat prompt offers to the model, as JSON: a list in the form of OpenAI's API.
    """

    suffix: str = ""
    prefix: str = ""
    messages: tuple[Message, ...] = ()
    shared_messages: int = 0
    prefill: str = ""
    media: tuple[Media, ...] = ()
    tools: str = ""

    @property
    def is_chat(self) -> bool:
        return bool(self.messages)

    @property
    def text(self) -> str:
        """The string prompt (empty for a chat prompt, whose string only the model's chat template knows)."""
        return self.prefix + self.suffix

    @property
    def shown_media(self) -> Iterator[Media]:
        """All media that it shows, in their order."""
        yield from self.media
        for message in self.messages:
            if not isinstance(message.content, str):
                yield from (part for part in message.content if not isinstance(part, str))


@dataclass(frozen=True, slots=True)
class GenerationParams:
    """How an answer is generated. `None` leaves the choice to the model.

    `seed` is given exactly when the answer is sampled. It belongs to the request, so that the same request gives the
    same sample in any batch. `extra` holds what only some backends know (`repetition_penalty`, ...).
    """

    until: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    extra: tuple[tuple[str, JSON], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One self-contained question to a model.

    kind           what is asked for                              answer in `Response`
    loglikelihood  log P(continuation | prompt), each of them     logprobs, is_greedy, token_counts: one a continuation
    rolling        log P(prompt.text), from the first token on    logprobs, token_counts: one value
    generate       a text that follows the prompt                 text

    `unconditional` marks the extra request of `acc_mutual_info` (the choices without their question).
    `repeat` numbers the repetitions of one prompt.
    """

    kind: RequestKind
    prompt: Prompt
    continuations: tuple[str, ...] = ()
    generation: GenerationParams | None = None
    repeat: int = 0
    unconditional: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """A model's answer to one request. Natural logarithms, in nats.

    `truncated` counts the prompt tokens that were cut from the left because the window was too small.
    `reasoning` is a thinking block that was taken off `text`; `reasoning_tokens` are its part of the completion,
    and `cached_tokens` of the `prompt_tokens` the server had computed before. `error` says why there is no answer.
    `by_batch`: asked by a batch API, which has prices of its own. `user`: of a conversation, what its simulated user
    took, as one answer without words.
    `finish_reason` is `refused` where the server's moderation, or the model itself, declined: then there is an `error`,
    and no `text`.
    """

    text: str | None = None
    logprobs: tuple[float, ...] = ()
    is_greedy: tuple[bool, ...] = ()
    token_counts: tuple[int, ...] = ()
    reasoning: str | None = None
    finish_reason: Literal["stop", "length", "refused"] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    truncated: int = 0
    seconds: float | None = None
    error: str | None = None
    by_batch: bool = False
    user: Response | None = None


class ScoreName(NamedTuple):
    """The name of a score: a metric, and the filter pipeline that read the answer; "" where the task has only one."""

    metric: str
    pipeline: str = ""

    @classmethod
    def parse(cls, text: str) -> ScoreName:
        """Read what `str` writes: `metric`, or `metric@pipeline`."""
        metric, _, pipeline = text.partition("@")
        return cls(metric, pipeline)

    def __str__(self) -> str:
        return f"{self.metric}@{self.pipeline}" if self.pipeline else self.metric


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One entry of a task's `metric_list`. `None` leaves the choice to the metric. `where`: `file:line`, for errors."""

    metric: str
    aggregation: str | None = None
    higher_is_better: bool | None = None
    options: Mapping[str, JSON] = field(default_factory=dict)
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class FilterStep:
    """One step of a filter pipeline. `where`: `file:line`, for errors."""

    function: str
    options: Mapping[str, JSON] = field(default_factory=dict)
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class FilterPipeline:
    """A named way from raw replies to answers, one entry of `filter_list`. A task without any has one, `none`."""

    name: str = "none"
    steps: tuple[FilterStep, ...] = ()
    where: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """All that decides how a task's samples become numbers."""

    output_type: OutputType
    metrics: tuple[MetricSpec, ...]
    pipelines: tuple[FilterPipeline, ...] = (FilterPipeline(),)
    average: Literal["micro", "macro"] = "micro"


@dataclass(frozen=True, slots=True)
class View:
    """One of the ways in which a modified task shows a row: number `index`, from 0, of `count`.

    order: which of the row's options stands at each place; empty where it is not known what the options are.
    wording: which of the task's wordings asks; 0 is its own.
    question: what stands in the place of the row's question; None leaves it. Empty: neither question nor passage.
    fixed: why the options keep their places although a modifier moves options; empty where they do not have to.
    images: whether the row's images are shown.
    image_order: which of the row's images stands at each place, from 0; empty leaves them.
    stand_in: what is shown in the place of each image: `blank`, a grey one of its size; `other`, one of another row.
    image_rows: numbers of the rows whose images are shown for it, filled in by the harness.
    renewal: which drawing of other numbers the row is shown with, from 1; 0 is its own numbers.
    options: texts that take the place of the row's options, in the row's order; empty leaves them.
    kept: why numbers or options stay as they are although a modifier renews them; empty where they do not have to.
    """

    index: int = 0
    count: int = 1
    order: tuple[int, ...] = ()
    wording: int = 0
    question: str | None = None
    fixed: str = ""
    images: bool = True
    image_order: tuple[int, ...] = ()
    stand_in: Literal["", "blank", "other"] = ""
    image_rows: tuple[int, ...] = ()
    renewal: int = 0
    options: tuple[str, ...] = ()
    kept: str = ""

    @property
    def is_moved(self) -> bool:
        """Whether options stand at other places than in the row."""
        return self.order != tuple(range(len(self.order)))

    @property
    def is_plain(self) -> bool:
        """Whether the row is shown as the task itself shows it."""
        asks_the_same = self.wording == 0 and self.question is None and self.renewal == 0 and not self.options
        return asks_the_same and not self.is_moved and self.shows_own_images

    @property
    def shows_own_images(self) -> bool:
        """Whether the images are those of the row, in their order."""
        in_order = self.image_order == tuple(range(len(self.image_order)))
        return self.images and in_order and not self.stand_in


class SampleKey(NamedTuple):
    """What names a sample in a run: its task, its subset, the number of its row, and the index of the view of it."""

    task: str
    subset: str
    id: int
    view: int = 0


BadRows = Literal["refuse", "fail", "skip", "lm_eval"]
"""What becomes of rows that cannot be asked or scored."""
NO_CHOICE = -100
"""The gold index of a row whose gold is none of its choices, where such a row counts as wrong, as in lm-eval."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of a benchmark, rendered: what is asked and what would be right.

    target: the gold index, or indices, where the sample has choices; the gold text, or texts, elsewhere; None where
            the benchmark keeps its answers to itself.
    cluster: samples with the same value share an image or a passage; their errors are not independent.
    view: how the row is shown, where the task is modified; `doc` is then the row as it is shown.
    nulls: columns without a value, in the place of which the prompt (or its examples) shows `None`.
    problem: why nothing can be asked about the row; the sample has no requests then, and fails.
    """

    task: str
    subset: str
    id: int
    doc: Mapping[str, JSON]
    requests: tuple[Request, ...]
    target: int | str | tuple[int, ...] | tuple[str, ...] | None
    choices: tuple[str, ...] = ()
    cluster: str | None = None
    subset_fields: Mapping[str, JSON] = field(default_factory=dict)
    view: View | None = None
    nulls: tuple[str, ...] = ()
    problem: str = ""

    @property
    def key(self) -> SampleKey:
        return SampleKey(self.task, self.subset, self.id, self.view.index if self.view is not None else 0)


@dataclass(frozen=True, slots=True)
class ScoredBy:
    """Which state of a metric gave a sample's score, where more decides it than the task file: a model, other samples.

    fingerprint: a hash of `BatchMetric.identity`. truncated: how many texts were longer than the metric's window and
    were cut.
    """

    fingerprint: str
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class GroupMetric:
    """One entry of a group's `aggregate_metric_list`.

    weight_by_size: the mean over samples (micro) and not over tasks (macro). filters: the filter pipelines that count;
    None for all that the tasks have. where: its line, for messages. uncalled: the Python that the entry names as its
    aggregation, which nothing calls.
    """

    metric: str
    weight_by_size: bool = True
    filters: tuple[str, ...] | None = None
    where: str = ""
    uncalled: str = ""


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """A group of tasks, as its file names it. warnings: what in the file was read as it is meant, with the line."""

    name: str
    title: str = ""
    version: str | None = None
    metrics: tuple[GroupMetric, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupMembers:
    """A group of a run with what it holds: `children` directly (tasks and groups), `tasks` at any depth.

    tasks: (name, its subsets that the group names; None for all of them).
    """

    group: TaskGroup
    children: tuple[str, ...]
    tasks: tuple[tuple[str, tuple[str, ...] | None], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One finished sample: a line of `<task>.jsonl`.

    scores: metric -> value, or a tuple of sufficient statistics, or None where the sample was not scored. The key is
            `metric`, or `metric@pipeline` where the task has more than one filter pipeline.
    answers: pipeline -> what was read from each reply; None where nothing could be read.
    request_keys: hashes of what decides each answer, in the order of `responses`.
    view: as in `Sample`. The views of a row have its subset and id in common.
    rules: a hash of what scored it: the task file's metrics and filters with their options. Empty where nobody knows.
    scored_by: metric (or `metric@pipeline`) -> what scored it, for metrics that score in batches.
    judge: of a judgement, who judged by which rubric, and what was asked for each of the `responses`; else empty.
    contexts: the prompt of each request, where a choice is part of the question (winogrande) and `prompt` is but the
            first of them; else empty. `continuation` is then what was scored behind each.
    """

    task: str
    subset: str
    id: int
    doc: Mapping[str, JSON]
    prompt: Prompt
    target: int | str | tuple[int, ...] | tuple[str, ...] | None
    choices: tuple[str, ...]
    responses: tuple[Response, ...]
    request_keys: tuple[str, ...]
    scores: Mapping[str, float | tuple[float, ...] | None]
    answers: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    cluster: str | None = None
    unparsed: bool = False
    error: str | None = None
    view: View | None = None
    scored_by: Mapping[str, ScoredBy] = field(default_factory=dict)
    judge: Mapping[str, JSON] = field(default_factory=dict)
    contexts: tuple[Prompt, ...] = ()
    continuation: str = ""
    rules: str = ""

    @property
    def key(self) -> SampleKey:
        return SampleKey(self.task, self.subset, self.id, self.view.index if self.view is not None else 0)

    @property
    def text(self) -> str | None:
        """The first reply."""
        return self.responses[0].text if self.responses else None

    @property
    def logprobs(self) -> tuple[float, ...]:
        """Log-probabilities of the continuations, in nats, over all requests but unconditional ones."""
        return self.responses[0].logprobs if len(self.responses) == 1 else self._joined_logprobs()

    def _joined_logprobs(self) -> tuple[float, ...]:
        values = [value for response in self.responses for value in response.logprobs]
        return tuple(values[: len(self.choices)]) if self.choices else tuple(values)

    @property
    def truncated(self) -> bool:
        return any(response.truncated for response in self.responses)

    @property
    def seconds(self) -> float | None:
        known = [response.seconds for response in self.responses if response.seconds is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """Where a task's rows are. Jinja in the YAML is already rendered.

    path: the id on the hub, or a local file or folder. name: the config. hub: which hub to ask first.
    sources: ids by hub (`hf`, `modelscope`, `url`, `local`), where they differ from `path`.
    mirrors: folders laid out `<org>/<name>/[<config>/]<split>.<ext>`, asked before any hub.
    base: the folder of the task's YAML file, against which relative paths are read.
    """

    path: str | None
    name: str | None = None
    revision: str | None = None
    kwargs: Mapping[str, JSON] = field(default_factory=dict)
    sources: Mapping[str, JSON] = field(default_factory=dict)
    hub: Literal["hf", "modelscope"] = "hf"
    mirrors: tuple[str, ...] = ()
    offline: bool = False
    base: str = "."


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one split. `fingerprint` is a hash of the rows; `origin` says in words where they came from.

    made: rows that are made when they are looked at, all with the same columns; no more of them are than are asked.
    features: the types of the columns as `datasets` writes them, where the source knows them.
    """

    rows: Sequence[Mapping[str, JSON]]
    fingerprint: str
    origin: str
    made: bool = False
    features: JSON = None


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One reported value. `stderr` and `interval` are None where they are not defined (n < 2).

    bounds: the least and the greatest value that there can be, where there are such (`Metric.bounds`).
    scorer: what decides the scores beside the task file (`BatchMetric.identity`): a model's weights, for example.
    truncated: how many samples had a text that the metric cut. reasoned: how many were scored with their reasoning.
    unknown: how many groups of samples that are right together it leaves out (`SetValue`).
    error: why there is no value, where the samples are not the reason. setting: what a table says beside the metric's
    name.
    """

    metric: str
    value: float | None
    n: int
    stderr: float | None = None
    interval: tuple[float, float] | None = None
    higher_is_better: bool = True
    aggregation: str = "mean"
    bounds: tuple[float, float] | None = None
    scorer: Mapping[str, JSON] | None = None
    truncated: int = 0
    reasoned: int = 0
    unknown: int = 0
    error: str | None = None
    setting: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many samples there were, and how many of them are in doubt.

    truncated: their prompt was cut to the window. cut: their answer was cut at the limit of tokens.
    refused: of those that failed, how many because moderation or the model itself declined to answer.
    """

    n: int = 0
    failed: int = 0
    unparsed: int = 0
    truncated: int = 0
    empty: int = 0
    cut: int = 0
    refused: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.n + other.n,
            self.failed + other.failed,
            self.unparsed + other.unparsed,
            self.truncated + other.truncated,
            self.empty + other.empty,
            self.cut + other.cut,
            self.refused + other.refused,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The numbers of a subset, a group of subsets, or a whole task.

    `level` says which; `average` says how a value over subsets was formed (None for a single subset). A `category` is
    what the rows of a task are told apart by (`breakdown`), of which `title` is the name and `name` the value.
    members: of a group, its subsets.
    """

    task: str
    name: str
    level: Literal["subset", "group", "category", "task"]
    counts: Counts
    metrics: tuple[MetricResult, ...]
    average: Literal["micro", "macro"] | None = None
    title: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupScore:
    """One value over the tasks of a group. `missing` are its tasks that have no such value.

    pipeline: the filter pipeline of the tasks that it stands for.
    """

    result: MetricResult
    average: Literal["micro", "macro"]
    pipeline: str = "none"
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The numbers of a group of tasks. `others` are the same scores by the average that the group did not ask for."""

    members: GroupMembers
    counts: Counts
    scores: tuple[GroupScore, ...] = ()
    others: tuple[GroupScore, ...] = ()
