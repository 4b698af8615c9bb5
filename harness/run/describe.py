"""What a run says of itself: its identity, its manifest, its remarks, and never a secret."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.model import Model
from harness.record.manifest_fields import Manifest, TaskFields
from harness.registry import Registry
from harness.run.jobs import TaskJob
from harness.run.shards import RowShare
from harness.run.spec import RunSpec
from harness.secret import MASK, Secret, revealed, secrets_in, shown, shown_urls
from harness.tasks.generation import with_one_name
from harness.tasks.task import Task
from harness.types import JSON


def run_identity(
    spec: RunSpec, model: Model, jobs: Sequence[TaskJob], user: Model | None = None, share: RowShare | None = None
) -> dict[str, Any]:
    """What decides the answers and the scores of a run, and so which run folder it belongs to.

    A shard has a folder of its own: `share` is the part of the rows that it asks.
    """
    return {
        "model": {"name": spec.model, **model.identity},
        "tasks": {job.task.name: job.task.digest for job in jobs},
        "subsets": {job.task.name: [subset.name for subset in job.task.subsets] for job in jobs},
        "apply_chat_template": spec.apply_chat_template,
        "fewshot_as_multiturn": spec.fewshot_as_multiturn,
        "system_instruction": spec.system_instruction,
        "gen_kwargs": with_one_name(spec.gen_kwargs),
        **({"task_gen_kwargs": spec.task_gen_kwargs} if spec.task_gen_kwargs else {}),
        "seed": spec.seed,
        **({"user_model": {"name": user.name, **user.identity}} if user is not None else {}),
        **({"bad_rows": spec.bad_rows} if spec.bad_rows != "refuse" else {}),
        **({"shard": asdict(share)} if share is not None else {}),
    }


def manifest(
    spec: RunSpec,
    model: Model,
    jobs: Sequence[TaskJob],
    registry: Registry,
    fingerprints: Mapping[str, str],
    user: Model | None = None,
) -> Manifest:
    """What `manifest.json` says of a run beyond its identity."""
    args = shown_args(spec.model_args, model.secrets)
    call = f"harness.evaluate({spec.model!r}, {dict(spec.model_args)!r}, {list(spec.tasks)!r})"
    command = without_secrets(spec.command or call, spec.model_args, model.secrets)
    user_name, user_args = spec.user_model or ("", {})
    if user is not None:
        command = without_secrets(command, user_args, user.secrets)
    told = [spec.executor, *spec.log_to]
    for secret in secrets_in([each[1] for each in told if each is not None]):
        command = secret.hide_in(command)
    return {
        "kind": "run",
        "command": command,
        "spec": {
            **asdict(replace(spec, model_args={}, user_model=None, executor=None, log_to=(), command=command)),
            # Who scores the run again may do so from another folder.
            "include_path": [str(Path(folder).absolute()) for folder in spec.include_path],
            "model_args": args,
            **({"user_model": [user_name, shown_args(user_args, user.secrets)]} if user is not None else {}),
            **({"executor": [spec.executor[0], shown(spec.executor[1])]} if spec.executor is not None else {}),
            "log_to": [[name, shown(options)] for name, options in spec.log_to],
        },
        "model": {"name": spec.model, "args": args, "identity": dict(model.identity)},
        "tasks": {
            job.task.name: {
                "file": str(job.task.file),
                "digest": job.task.digest,
                "num_fewshot": config.num_fewshot,
                "split": job.task.eval_split,
                "modifiers": [modifier.label for modifier in job.task.modifiers],
                **_renewing(job.task),
                "title": job.task.title,
                "date": str((config.metadata or {}).get("date") or "") or None,
                "version": config.version if config.version is not None else (config.metadata or {}).get("version"),
                "config": config.model_dump(
                    mode="json", exclude_unset=True, exclude={"example", "subsets", "variants"}
                ),
                "subsets": [subset.name for subset in job.task.subsets],
                "samples": job.count,
                **({"code": dict(job.task.code_files)} if job.task.code_files else {}),
            }
            for job in jobs
            for config in (job.task.config,)
        },
        "data": dict(fingerprints),
        "plugins": [asdict(plugin) for plugin in registry.plugins],
    }


def _renewing(task: Task) -> TaskFields:
    """Where other numbers and texts come from, where modifiers bring some."""
    told: dict[str, dict[str, JSON]] = {
        modifier.label: dict(modifier.identity) for modifier in task.modifiers if modifier.identity
    }
    if task.renewals is not None and task.renewals.file is not None:
        told["renewal"] = {"file": str(task.renewals.file), "digest": task.renewals.digest}
    return {"modified_by": told} if told else {}


def shown_args(args: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    """A model's arguments as they may be written down. `secrets` are the names of those that may not."""
    return {name: MASK if name in secrets else shown(value) for name, value in args.items()}


def without_secrets(text: str, args: Mapping[str, Any], secrets: Iterable[str]) -> str:
    """The text without the values of secret arguments, also where they lie inside a JSON object."""
    values = {leaf for name in secrets for leaf in _leaves(revealed(args.get(name)))}
    values |= {secret.reveal() for secret in secrets_in(args)}
    for value in sorted(values, key=len, reverse=True):
        text = Secret(value).hide_in(text)
    return shown_urls(text)


def _leaves(value: Any) -> Iterator[str]:
    """The texts in a value, also in one that is JSON itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            yield from _leaves(json.loads(value))
    if isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(item)
    elif value:
        yield str(value)


def remarks(jobs: Sequence[TaskJob]) -> Iterator[str]:
    """What is worth knowing of a run before it asks, one line each."""
    for job in jobs:
        facts, generation = job.facts, job.facts.generation
        if job.task.config.repeats > 1 and generation is not None and not generation.do_sample:
            yield (
                f"{job.task.name}: each question is asked {job.task.config.repeats} times, but greedily, which gives "
                "the same answer each time; sample with --gen_kwargs temperature=0.7"
            )
        yield from _frame_remarks(job)
        yield from _image_order_remarks(job)
        yield from _null_remarks(job)
        yield from _example_remarks(job)
        if undated := sum(notes.undated for notes in job.notes.values()):
            yield f"{job.task.name}: {undated} rows say no date and are left out"
        if 0 < facts.hidden < facts.samples:
            yield f"{job.task.name}: {facts.hidden} of {facts.samples} samples have no gold answer (null) and no score"
        if 0 < facts.empty_golds < facts.samples:
            yield (
                f"{job.task.name}: {facts.empty_golds} of {facts.samples} samples have an empty text as gold answer, "
                "which only an empty answer equals (null says that the answer is hidden)"
            )
        if facts.twin_golds:
            yield (
                f"{job.task.name}: {facts.twin_golds} of {facts.samples} samples have the text of the right choice "
                "twice, of which only one counts as right"
            )
        if facts.single_choices:
            yield (
                f"{job.task.name}: {facts.single_choices} of {facts.samples} samples have a single choice, "
                "which is right whatever the model is"
            )
        for what, kept in (("keep the order of their options", facts.fixed), ("stay as they are", facts.kept)):
            if kept.rows:
                where = " ".join(map(str, kept.first)).strip()
                yield (
                    f"{job.task.name}: {kept.rows} of {facts.first_views} rows {what}; the first is {where}: "
                    f"{kept.reason}"
                )


def _image_order_remarks(job: TaskJob) -> Iterator[str]:
    """How many rows have no other order of their images (`--modify shuffle_images`)."""
    kept, of = job.facts.own_order, job.facts.samples
    if kept:
        which = f"all {kept} rows" if kept == of else f"{kept} of {job.facts.ordered} rows"
        remedy = ": nothing is changed, ask without the modifier" if kept == of else ""
        yield f"{job.task.name}: {which} have no two images that differ and could change places{remedy}"


def _frame_remarks(job: TaskJob) -> Iterator[str]:
    """How many frames of their videos the samples of a task are shown, and by which rule."""
    frames = job.facts.frames
    if frames:
        least, most = min(frames), max(frames)
        rule, decoder = job.facts.frame_rule
        yield (
            f"{job.task.name}: {frames.total()} videos are shown as {least if least == most else f'{least} to {most}'} "
            f"frames each, {sum(number * videos for number, videos in frames.items()):,} in all "
            f"({rule}, {decoder}); --set frames=N changes it"
        )


def _example_remarks(job: TaskJob) -> Iterator[str]:
    """Rows whose question stands among their own few-shot examples, as far as those were drawn."""
    rows = [(subset, number) for subset, notes in job.notes.items() for number in notes.own_examples]
    if rows:
        fewer = sum(notes.fewer_examples for notes in job.notes.values())
        where = " ".join(map(str, rows[0])).strip()
        yield (
            f"{job.task.name}: {len(rows)} of {job.facts.rows} rows were drawn among their own few-shot examples (the "
            f"same question, first: row {where}); such an example is left out"
            + (f", and {fewer} of these rows see fewer examples" if fewer else "")
        )


def examples_of_their_own(job: TaskJob) -> str:
    """What it costs that rows see other examples than their neighbours, in a line; empty where they share them."""
    lengths: dict[str, dict[object, int]] = {}
    for sample in job.samples if job.task.config.num_fewshot else ():
        for request in sample.requests[:1]:
            prompt = request.prompt
            opening = prompt.messages[: prompt.shared_messages] if prompt.is_chat else prompt.prefix
            length = sum(len(message.text) for message in opening) if not isinstance(opening, str) else len(opening)
            lengths.setdefault(sample.subset, {})[opening] = length
    own = sum(map(len, lengths.values()))
    if not own or 2 * own <= len(job.samples):
        return ""
    drawn = sum(sum(each.values()) for each in lengths.values())
    shared = sum(max(each.values()) for each in lengths.values())
    return (
        f"{job.task.name}: {own:,} of {len(job.samples):,} samples have examples of their own, {drawn:,} characters of "
        f"them; drawn once a subset they are about {shared:,}: --fewshot_sampler once"
    )


def _null_remarks(job: TaskJob) -> Iterator[str]:
    """A null is shown as `None`, as lm-eval does, so that prompts stay comparable; who reads the score has to know."""
    for column, nulls in job.facts.nulls.items():
        where = " ".join(map(str, nulls.first)).strip()
        yield (
            f"{job.task.name}: prompts of {nulls.rows} of {job.facts.rows} rows show None where '{column}' is "
            f"null, as lm-eval does (first: row {where}); {{{{ {column} or '' }}}} shows nothing"
        )
