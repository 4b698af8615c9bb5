"""Scores answers that are on disk: those that a metric takes many of at once, and all of them for new scores.

Both read the records as a stream and hold one batch of them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from harness.run.jobs import Job
from harness.run.spec import Progress
from harness.scoring.batches import BatchScorer
from harness.tasks.build import regrade
from harness.types import Record, Sample

BATCH = 256
"""Samples that a metric is given at once. Enough to sort texts by length; few enough to hold all their embeddings."""
_PATIENCE = 30.0  # seconds without a word

Read = Callable[[], Iterable[Record]]
T = TypeVar("T")


def score_missing(job: Job, batches: BatchScorer, records: Read, progress: Progress) -> Iterator[Record]:
    """The records of a job's samples that a metric had yet to score, with their scores, batch by batch."""
    samples = {sample.key: sample for sample in job.samples}

    def waiting() -> Iterator[tuple[Sample, Record]]:
        for record in records():
            sample = samples.get(record.key)
            if sample is not None and batches.lack(record):
                yield sample, record

    batches.prepare_corpus(lambda: job.samples)
    done, told = 0, time.monotonic()
    try:
        for batch in _batched(waiting()):
            if not done:
                progress.message(f"{job.task.name}: answers are on disk, and now scored by {batches.title}")
            yield from batches.complete([sample for sample, _ in batch], [record for _, record in batch])
            done += len(batch)
            if time.monotonic() - told > _PATIENCE:
                progress.message(f"{job.task.name}: {done} answers scored")
                told = time.monotonic()
    finally:
        batches.close()


def score_again(job: Job, records: Read) -> Iterator[Record]:
    """All records of a job, scored by the task as it is now, from what the records themselves hold."""
    batches = job.scorer.batches
    if batches is not None:
        batches.prepare_corpus(lambda: (regrade(job.task, record) for record in records()))
    for batch in _batched(records()):
        samples = [regrade(job.task, record) for record in batch]
        again = [_scored(job, sample, record) for sample, record in zip(samples, batch, strict=True)]
        yield from again if batches is None else batches.complete(samples, again, before=batch)
    if batches is not None:
        batches.close()


def _scored(job: Job, sample: Sample, record: Record) -> Record:
    """The record with what scoring decides, all of it anew."""
    scored = job.scorer.score(sample, record.responses)
    return replace(
        record,
        target=sample.target,
        choices=sample.choices,
        cluster=sample.cluster,
        scores=scored.scores,
        answers=scored.answers,
        unparsed=scored.unparsed,
        error=scored.error,
        scored_by={},
        judge={},
    )


def _batched(items: Iterable[T]) -> Iterator[Sequence[T]]:
    stream = iter(items)
    while batch := list(itertools.islice(stream, BATCH)):
        yield batch
