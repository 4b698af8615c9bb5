"""Scores answers that are on disk: those that a metric takes many of at once, and all of them for new scores.

Both read the records as a stream and hold one batch of them.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from harness.errors import UsageError
from harness.record.run import RunFolder
from harness.registry import Registry, load_plugins
from harness.run.gold_fixes import GoldFixes, corrected_copy, fixes_in
from harness.run.jobs import AddedMetric, TaskJob, added_name, attempts, close_code, load_jobs, prepare_metrics
from harness.run.result import RunResult
from harness.run.scoring_files import ScoringFiles, changed_files
from harness.run.shards import shard_words
from harness.run.spec import Progress, RunSpec
from harness.run.summarise import summarise_run
from harness.scoring.batches import BatchScorer
from harness.tasks.build import sample_from_record
from harness.types import Record, Sample

BATCH = 256
"""Samples that a metric is given at once. Enough to sort texts by length; few enough to hold all their embeddings."""
_PATIENCE = 30.0  # seconds without a word

Read = Callable[[], Iterable[Record]]
T = TypeVar("T")


def score_run(
    path: str | Path,
    registry: Registry | None = None,
    metrics: Sequence[AddedMetric] = (),
    progress: Progress | None = None,
    gold_fixes: str | Path | None = None,
) -> RunResult:
    """Score the records of a run again, with the task files as they are now. Needs neither the model nor the rows.

    metrics: what to report beside the tasks' own metrics, where it can score them: names, or entries with options.
    gold_fixes: a file of corrected golds (see `harness.run.gold_fixes`); the run stays as it is, and a copy below it
    is scored.
    """
    registry, progress = registry or load_plugins(), progress or Progress()
    for name in map(added_name, metrics):
        if registry.metric(name).needs_unconditional:
            raise UsageError(f"--metrics: '{name}' needs answers that a run holds only when it was asked for there")
    if gold_fixes is None:
        return _score_folder(Path(path), registry, metrics, progress)
    with corrected_copy(Path(path), Path(gold_fixes), progress.message) as (copy, place):
        result = _score_folder(copy, registry, metrics, progress)
    return replace(result, path=place)


def _score_folder(path: Path, registry: Registry, metrics: Sequence[AddedMetric], progress: Progress) -> RunResult:
    with RunFolder.reopen(path) as folder:
        if folder.kind == "judgement":
            raise UsageError(f"{path}: holds judgements; their command again reads the replies again, and asks nothing")
        if "shard" in folder.manifest["identity"]:
            raise UsageError(f"{path}: holds {shard_words(folder.manifest['identity']['shard'])}; score the merged run")
        spec = RunSpec.from_json(folder.manifest["spec"])
        spec = replace(spec, metrics=(*spec.metrics, *(entry for entry in metrics if entry not in spec.metrics)))
        jobs = load_jobs(spec, registry, Progress())
        prepare_metrics(jobs, spec)
        fixes = fixes_in(folder.path)
        scoring_files = ScoringFiles(folder)
        for job in jobs:
            name = job.task.name
            if names := scoring_files.changed(job):
                progress.message(changed_files(job, names, "the scores are by what it is now"))
            folder.rewrite(name, rescored(job, functools.partial(folder.records, name), fixes))
        summary = summarise_run(jobs, folder)
        for job in jobs:
            scoring_files.settle(job)
        for message in [*folder.take_messages(), *attempts(jobs), *_own_code(jobs, fixes)]:
            progress.message(message)
        close_code(jobs)
        return RunResult(folder.path, summary.asked, summary.coverage, jobs=jobs)


def _own_code(jobs: Sequence[TaskJob], fixes: GoldFixes | None) -> Iterator[str]:
    """Of tasks to which a corrected gold may not come through."""
    corrected = {key.task for key in fixes.golds} if fixes else set()
    for task in (job.task for job in jobs):
        if task.name in corrected and task.config.process_results is not None:
            yield f"{task.name}: is scored by Python of its own, which may read the gold elsewhere than in its target"


def score_missing(job: TaskJob, batches: BatchScorer, records: Read, progress: Progress) -> Iterator[Record]:
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
            if not done and batches.title:
                progress.message(f"{job.task.name}: answers are on disk, and now scored by {batches.title}")
            yield from batches.complete([sample for sample, _ in batch], [record for _, record in batch])
            done += len(batch)
            if time.monotonic() - told > _PATIENCE:
                progress.message(f"{job.task.name}: {done} answers scored")
                told = time.monotonic()
    finally:
        batches.close()


def rescored(job: TaskJob, records: Read, fixes: GoldFixes | None = None) -> Iterator[Record]:
    """All records of a job, scored by the task as it is now, from what the records themselves hold.

    fixes: golds in the place of the rows' own.
    """

    def read_again(record: Record) -> Sample:
        if not record.responses and record.error:  # nothing could be asked about its row
            return Sample(record.task, record.subset, record.id, record.doc, (), None, problem=record.error)
        sample = sample_from_record(job.task, record, job.bad_rows)
        return sample if fixes is None else fixes.applied(sample, record)

    batches = job.scorer.batches
    if batches is not None:
        batches.prepare_corpus(lambda: map(read_again, records()))
    for batch in _batched(records()):
        samples = list(map(read_again, batch))
        again = [scored_again(job, sample, record) for sample, record in zip(samples, batch, strict=True)]
        yield from again if batches is None else batches.complete(samples, again, before=batch)
    if batches is not None:
        batches.close()


def scored_again(job: TaskJob, sample: Sample, record: Record) -> Record:
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
        rules=job.task.digest,
        scored_by={},
        judge={},
    )


def _batched(items: Iterable[T]) -> Iterator[Sequence[T]]:
    stream = iter(items)
    while batch := list(itertools.islice(stream, BATCH)):
        yield batch
