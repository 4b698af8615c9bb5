"""The rows of a run's tasks: opened, rendered as samples, or taken along to a machine without network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.data.frame_sampling import FrameRule
from harness.data.mirror import pull
from harness.data.open import forget_large, open_dataset
from harness.data.subtitles import said_at, subtitles_of
from harness.data.video import with_frames
from harness.errors import DataError
from harness.record.sample_keys import SampleKeys
from harness.registry import Registry
from harness.run.jobs import TaskJob, load_jobs
from harness.run.spec import Progress, RunSpec
from harness.stopwatch import Stopwatch
from harness.task_code.client import TaskCode
from harness.tasks.build import build_samples
from harness.tasks.build_options import BuildOptions, SubsetNotes
from harness.tasks.make import with_files
from harness.tasks.rows import needed_splits
from harness.tasks.splits import OpenSplit
from harness.types import DatasetSpec, Media, Message, Prompt, Rows, Sample, SampleKey
from harness.words import phrase


def build_options(
    spec: RunSpec, job: TaskJob, *, shown: bool = True, is_done: Callable[[SampleKey], bool] | None = None
) -> BuildOptions:
    """How this run renders the rows of a task."""
    return BuildOptions(
        seed=spec.seed,
        apply_chat_template=bool(spec.apply_chat_template),
        fewshot_as_multiturn=spec.fewshot_as_multiturn,
        system_instruction=spec.system_instruction,
        gen_kwargs=spec.generation_of(job.task.base_name),
        limit=spec.limit,
        hub=spec.hub,
        mirrors=spec.data,
        offline=spec.offline,
        unconditional=job.scorer.needs_unconditional,
        shown=shown,
        bad_rows=spec.bad_rows,
        after=spec.after,
        code_options={
            # Code runs in a folder of its own: there, a model's folder is found by its full name.
            name: str(Path(value).expanduser().resolve()) if isinstance(value, str) and Path(value).is_dir() else value
            for name, value in spec.model_args.items()
            if isinstance(value, str | int | float)
        },
        is_done=is_done,
    )


def render_samples(
    jobs: Sequence[TaskJob],
    spec: RunSpec,
    registry: Registry,
    progress: Progress,
    clock: Stopwatch,
    *,
    shown: bool = True,
    done: SampleKeys | None = None,
) -> dict[str, str]:
    """Open the rows of every task and render its samples into `job.samples`, with `job.notes` of each subset.

    shown: whether a model looks at the prompts. done: samples that are passed over. Returns split -> fingerprint.
    """
    fingerprints: dict[str, str] = {}
    before = clock.turn("prompts")
    for number, job in enumerate(jobs, 1):
        which = phrase(" (task {n} of {count})", n=number, count=len(jobs)) if len(jobs) > 1 else ""
        progress.stage(phrase("opening rows and rendering prompts of {task}{which}", task=job.task.name, which=which))

        def open_split(dataset: DatasetSpec, split: str, task: str = job.task.name) -> Rows:
            with clock.phase("rows"):
                rows = open_dataset(dataset, split, registry.hook)
            fingerprints["/".join(part for part in (task, dataset.name, split) if part)] = rows.fingerprint
            return rows

        def passed_over(key: SampleKey, job: TaskJob = job) -> bool:
            if done is None or key not in done:
                return False
            job.pass_over(key)
            return True

        def built(job: TaskJob = job, open_split: OpenSplit = open_split) -> Iterator[Sample]:
            for subset in job.task.subsets:
                job.notes[subset.name] = SubsetNotes()
                options = build_options(spec, job, shown=shown, is_done=passed_over if done else None)
                samples = build_samples(job.task, subset, open_split, options, job.notes[subset.name])
                yield from samples_with_frames(samples, job.task.frame_rule) if shown else samples

        job.hold(built())
        if spec.after is not None and not job.count:
            latest = max((notes.latest for notes in job.notes.values() if notes.latest), default=None)
            known = f"; the latest of its rows is of {latest}" if latest else "; none of its rows says a date"
            raise DataError(f"--after {spec.after}: task '{job.task.name}' has no row that is later{known}")
        _refuse_kept(job)
        if isinstance(job.task.code, TaskCode):
            job.task = with_files(job.task, job.task.code.take_read())
    forget_large()
    clock.turn(before)
    return fingerprints


def _refuse_kept(job: TaskJob) -> None:
    """Refuse modifiers that had to leave every row of a task as it is."""
    if not job.task.modifiers:
        return
    views = [sample.view for sample in job.samples if sample.view is not None and not sample.problem]
    if views and all(view.kept and view.is_plain for view in views):
        label = " and ".join(modifier.label for modifier in job.task.modifiers)
        raise DataError(
            f"--modify {label}: none of the {len(views)} rows of task '{job.task.name}' can be changed; the first: "
            f"{views[0].kept}"
        )


def samples_with_frames(samples: Iterable[Sample], rule: FrameRule) -> Iterator[Sample]:
    """The samples with the frames of their videos chosen, and what is said at them. Requests with one prompt go on
    sharing it."""
    chosen: dict[Media, Media] = {}

    def choose(media: Media) -> Media:
        if media.kind != "video" or media.problem:
            return media
        if media not in chosen:
            chosen[media] = with_frames(media, rule)
        return chosen[media]

    for sample in samples:
        if not any(media.kind == "video" for request in sample.requests for media in request.prompt.shown_media):
            yield sample
            continue
        prompts: dict[int, Prompt] = {}
        for request in sample.requests:
            if id(request.prompt) not in prompts:
                messages = tuple(_chosen(message, choose) for message in request.prompt.messages)
                prompts[id(request.prompt)] = replace(request.prompt, messages=messages)
        requests = tuple(replace(request, prompt=prompts[id(request.prompt)]) for request in sample.requests)
        yield replace(sample, requests=requests)


def _chosen(message: Message, choose: Callable[[Media], Media]) -> Message:
    """The message with the frames of its videos, and with the subtitles of each where it speaks of them."""
    if isinstance(message.content, str):
        return message
    parts: list[str | Media] = []
    said: str | None = None
    for part in message.content:
        if not isinstance(part, str):
            part = choose(part)
            said = _said(part) or said
        parts.append(part.replace("<subtitles>", said) if isinstance(part, str) and said is not None else part)
    return replace(message, content=tuple(parts))


def _said(media: Media) -> str | None:
    if media.subtitles is None or media.frames is None:
        return None
    return said_at(subtitles_of(*media.subtitles) if media.subtitles[0] else (), media.frames.times)


def pull_data(spec: RunSpec, registry: Registry, to: Path, progress: Progress) -> list[Path]:
    """Write all rows that the tasks of `spec` ask or show into a mirror folder. Returns the files."""
    progress.stage(phrase("reading tasks"))
    jobs = load_jobs(spec, registry, progress)
    wanted = (need for job in jobs for need in needed_splits(job.task, build_options(spec, job)))
    return pull(wanted, to, registry.hook, progress.message, progress.stage)
