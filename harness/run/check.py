"""Checks tasks and groups without data: metrics, filters, and the examples that a task file states."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.errors import HarnessError, MachineError, UsageError, suggest
from harness.registry import Registry
from harness.run.jobs import load_job, prepare_metrics, scored_record
from harness.run.spec import RunSpec
from harness.scoring.groups import MemberScores, problems
from harness.tasks.abilities import ABILITIES, ability_name
from harness.tasks.examples import check_examples
from harness.tasks.file_models import words
from harness.tasks.groups import group_members
from harness.tasks.library import TaskLibrary, TaskRef
from harness.types import Response, Sample


def check_task(
    library: TaskLibrary, ref: TaskRef, registry: Registry, note: Callable[[str], None] = lambda text: None
) -> list[str]:
    """What is wrong with a task, one line each: metrics and filters that are not there, examples that do not hold.

    note: is told what could not be checked on this machine.
    """
    spec = RunSpec((ref.full_name,))
    try:
        job = load_job(library, ref, spec, registry)
    except HarnessError as error:
        return [str(error)]
    task, scorer = job.task, job.scorer
    for warning in task.document.warnings:
        note(warning)
    for ability in words(task.config.ability):
        if ability_name(ability) not in ABILITIES:
            said = f"task '{task.name}': ability '{ability}' is none that tables and maps group by"
            note(f"{said}{suggest(ability, ABILITIES)}")
    try:
        prepare_metrics([job], spec)
    except MachineError as error:
        note(f"task '{task.name}': the scores of its example were not checked: {error}")
        return check_examples(task, None, scorer.needs_unconditional)
    except UsageError as error:
        return [str(error)]

    def score(sample: Sample, responses: Sequence[Response]) -> Mapping[str, Any]:
        record = scored_record(job, sample, tuple(responses), ())
        if scorer.batches is not None:
            scorer.batches.prepare_corpus(lambda: [sample])
            (record,) = scorer.batches.complete([sample], [record])
        if record.error:
            raise UsageError(record.error)
        return record.scores

    return check_examples(task, score, scorer.needs_unconditional)


def check_groups(library: TaskLibrary, refs: Sequence[TaskRef], registry: Registry) -> Iterator[str]:
    """What the groups that named these tasks ask for and none of them has, where all of a group can be read."""
    scores: dict[str, MemberScores] = {}
    for ref in refs:
        with contextlib.suppress(HarnessError):  # a task that cannot be read is told of on its own
            scores[ref.full_name] = load_job(library, ref, RunSpec((ref.full_name,)), registry).member_scores()
    for members in group_members((ref.full_name, ref.memberships) for ref in refs):
        if all(name in scores for name, _ in members.tasks):
            yield from problems(members, scores)
