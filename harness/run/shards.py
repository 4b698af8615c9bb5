"""A run in parts: `--shard 3/16` asks a sixteenth of its rows, and `harness merge` makes one run of all parts.

Every shard renders all rows, so that each cuts them alike without a word to the others. Rows lie in the order of
tasks and subsets, those that are generated and those that are scored apart, and each part is a stretch of both: what
begins alike stays together, and no part gets only the slow tasks.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.coverage import RowNumbers
from harness.record.manifest import MANIFEST_FILE
from harness.record.row_set import RowSet
from harness.run.cuts import opening_of, parts_of, weight_of
from harness.run.jobs import TaskJob
from harness.run.spec import RunSpec
from harness.secret import secrets_in


@dataclass(frozen=True, slots=True)
class RowShare:
    """Which part of a run one command asks: the `part`th (from 1) `of` so many.

    rows: digest of all rows of the run and of what each weighs, which decide the cuts: parts of one run have the same.
    """

    part: int
    of: int
    rows: str


def check_shard(spec: RunSpec) -> None:
    """Refuse what cannot be known from a part of the rows. Raises `UsageError`."""
    if spec.shard is None:
        return
    part, of = spec.shard
    if not 1 <= part <= of:
        raise UsageError(f"--shard {part}/{of}: the first is 1/{of}, the last {of}/{of}")
    later = "does not go with --shard; after `harness merge`, the same command without --shard"
    if spec.precision is not None or spec.until_decided is not None:
        flag = "--precision" if spec.precision is not None else "--until_decided"
        raise UsageError(f"{flag} does not go with --shard: when to stop is decided over all rows")
    if spec.output_path is not None:
        raise UsageError(f"--output_path {later} writes that file, and asks nothing")


def check_cut(spec: RunSpec, executor: str) -> None:
    """Refuse what an executor that cuts the run into shards cannot do. Raises `UsageError`."""
    if spec.shard is not None:
        raise UsageError(f"--shard does not go with --executor {executor}, which cuts the run itself")
    cuts = f"does not go with --executor {executor}, which cuts the run into shards"
    if spec.precision is not None or spec.until_decided is not None:
        flag = "--precision" if spec.precision is not None else "--until_decided"
        raise UsageError(f"{flag} {cuts}: when to stop is decided over all rows")
    if spec.output_path is not None:
        how = "the same command without --executor, afterwards, writes that file, and asks nothing"
        raise UsageError(f"--output_path {cuts}; {how}")
    if next(secrets_in([spec.model_args, spec.user_model, spec.log_to]), None) is not None:
        raise UsageError(
            f"--executor {executor}: a secret among the arguments would lie in a file of each job; "
            "set it in the environment instead"
        )
    if (Path(spec.output) / MANIFEST_FILE).is_file():
        raise UsageError(
            f"--output {spec.output}: a run folder, and --executor {executor} makes one of each shard; name the folder "
            "that is to hold them"
        )


def take_share(jobs: Sequence[TaskJob], spec: RunSpec) -> RowShare | None:
    """Leave the jobs the rows of the run's shard, in their samples and notes. None where all rows are asked."""
    if spec.shard is None:
        return None
    share = RowShare(*spec.shard, "")
    own, rows = _cut(jobs, spec, share)
    for job in jobs:
        name = job.task.name
        job.hold(each for each in job.samples if each.id in own.get((name, each.subset), ()))
        for subset, notes in job.notes.items():
            asked = own.get((name, subset), RowSet())
            notes.chosen, notes.asked = asked, len(asked)
            notes.bad = {number: why for number, why in notes.bad.items() if number in asked}
            notes.own_examples = [number for number in notes.own_examples if number in asked]
            notes.fewer_examples = 0  # counted over all rows: how many of these it is, is not known
    return replace(share, rows=rows)


def first_share(jobs: Sequence[TaskJob], spec: RunSpec, of: int) -> RowShare:
    """The first of so many shares of the jobs' rows, all of which the jobs keep."""
    share = RowShare(1, of, "")
    return replace(share, rows=_cut(jobs, spec, share)[1])


def _cut(jobs: Sequence[TaskJob], spec: RunSpec, share: RowShare) -> tuple[dict[tuple[str, str], RowSet], str]:
    """The rows of a share, by task and subset, and the digest of all rows."""
    digest = hashlib.blake2b(digest_size=8)
    own: dict[tuple[str, str], RowSet] = {}
    for generates in (True, False):
        of_kind = [job for job in jobs if (job.task.config.output_type == "generate_until") is generates]
        line = [rows for job in of_kind for rows in _weighed(job, spec)]
        groups, weights = array("I"), array("q")
        for group, rows in enumerate(line):
            groups.extend(array("I", [group]) * len(rows.weights))
            weights.extend(rows.weights)
        places = iter(parts_of(groups, weights, share.of))
        for rows in line:
            chosen = own.setdefault((rows.task, rows.subset), RowSet())
            for number, weight, place in zip(rows.numbers, rows.weights, places, strict=False):
                digest.update(f"{rows.task}\0{rows.subset}\0{number}\0{weight}\n".encode("utf-8", "surrogatepass"))
                if place == share.part - 1:
                    chosen.add(number)
    return own, digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a subset in their order, each with the work that all of its samples are."""

    task: str
    subset: str
    numbers: RowNumbers
    weights: array[int]


def _weighed(job: TaskJob, spec: RunSpec) -> Iterator[_Rows]:
    """The rows of a task. One that is left out as a bad row has no sample, and weighs nothing."""
    by_number: dict[str, array[int]] = {}
    opening: tuple[str, ...] | None = None
    for sample in job.samples:
        weight = 1
        for request in sample.requests:
            weight += weight_of(request, opening)
            opening = opening_of(request.prompt)
        weights = by_number.setdefault(sample.subset, array("q"))
        if sample.id >= len(weights):
            weights.extend(array("q", [0]) * (sample.id + 1 - len(weights)))
        weights[sample.id] += weight
    coverage = job.coverage(spec.limit)
    for subset in coverage.asked:
        numbers, weights = coverage.of_subset(subset), by_number.get(subset, array("q"))
        own = array("q", (weights[number] if number < len(weights) else 0 for number in numbers))
        yield _Rows(job.task.name, subset, numbers, own)


def shard_words(shard: Mapping[str, object]) -> str:
    """`shard 3 of 16`, of what a manifest's identity says."""
    return f"shard {shard['part']} of {shard['of']}"
