"""Checks tasks and groups without data: metrics, filters, and the examples that a task file states."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.errors import HarnessError, MachineError, UsageError
from harness.metrics import MetricOptions
from harness.registry import Registry
from harness.run.jobs import Job, make_scorer, scored_record
from harness.scoring.groups import MemberScores, problems
from harness.scoring.scorer import Scorer
from harness.tasks.examples import check_examples
from harness.tasks.groups import tree
from harness.tasks.library import TaskLibrary, TaskRef
from harness.tasks.task import Task
from harness.types import Response, Sample


def check_task(task: Task, registry: Registry, note: Callable[[str], None] = lambda text: None) -> list[str]:
    """What is wrong with a task, one line each: metrics and filters that are not there, examples that do not hold.

    note: is told what could not be checked on this machine.
    """
    try:
        scorer = make_scorer(task, registry)
    except UsageError as error:
        return [str(error)]

    try:
        scorer.prepare(MetricOptions(task.file.parent))
    except MachineError as error:
        note(f"task '{task.name}': the scores of its example were not checked: {error}")
        return check_examples(task, None, scorer.needs_unconditional)
    except UsageError as error:
        return [str(error)]

    def score(sample: Sample, responses: Sequence[Response]) -> Mapping[str, Any]:
        record = scored_record(Job(task, scorer), sample, tuple(responses), ())
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
            task = library.load(ref)
            scores[ref.full_name] = Job(task, Scorer(task.scoring, registry.metric, registry.filter)).member_scores()
    for members in tree((ref.full_name, ref.ways) for ref in refs):
        if all(name in scores for name, _ in members.tasks):
            yield from problems(members, scores)
