"""The fields of a run folder's `manifest.json`, as they lie on disk."""

from __future__ import annotations

from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from harness.record.file_types import Kind
from harness.record.score_fields import CorrectionFields
from harness.types import JSON


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
    """One command that worked on the folder. samples: how many records it wrote. profile: where its time went. seconds:
    from its begin to its end, whatever the clock by which these are named was set to meanwhile.

    versions, environment: where they were others than those of the manifest, which are the last session's that wrote.
    shard: of a merged run, the part that the command asked; merged: how many parts the command merged.
    """

    started: str
    finished: str
    seconds: float
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
