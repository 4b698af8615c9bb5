"""The fields of a record, one line of a run folder's `<task>.jsonl`, and of what it is made of, as they lie on disk."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from harness.record.file_types import Number
from harness.types import JSON


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
