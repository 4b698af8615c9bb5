"""A run whose shards other processes do, as an executor plugin has them done: `--executor slurm,shards=8`.

The run is prepared here, so that what cannot work is refused before anything waits in a queue. Shards that are done are
not done again, and all are merged in the end: the same command goes on wherever one before it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.errors import HarnessError, Interrupted, ModelError, stopped
from harness.executor import ShardExecutor, ShardJob
from harness.record.coverage import and_more
from harness.record.manifest import identity_hash, read_manifest, read_report
from harness.record.manifest_file import FINISHED
from harness.record.output import folders_of, unusable
from harness.record.run import REPORT_FILE
from harness.registry import Registry
from harness.run.describe import run_identity
from harness.run.merge import merge
from harness.run.prepare import Narrow, PreparedRun, prepare_run
from harness.run.result import RunResult
from harness.run.shards import RowShare, check_cut, first_share
from harness.run.spec import Progress, RunSpec
from harness.types import JSON
from harness.words import Phrase, phrase


class _Lines(Progress):
    """Tells of a run in the log of its job."""

    def stage(self, name: str | Phrase) -> None:
        self.message(name)

    def message(self, text: str | Phrase) -> None:
        print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class RunShard(ShardJob):
    """A shard of a run, to be done by another process. identity: names its folder."""

    spec: RunSpec
    part: int
    of: int
    identity: str

    def __call__(self) -> str:
        from harness.run.runner import run

        try:
            run(self.spec, progress=_Lines())
        except HarnessError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return " ".join(str(error).split())
        return ""


def run_in_shards(
    spec: RunSpec, executor: ShardExecutor, registry: Registry, progress: Progress, narrow: Narrow = list
) -> RunResult:
    """Have the executor do the shards that are not done, and merge all. Raises `HarnessError`, naming shards that
    failed and their logs."""
    check_cut(spec, executor.name)
    output = Path(spec.output)
    jobs, whole = _jobs(spec, executor.shards, registry, progress, narrow)
    todo = [job for job in jobs if not _is_done(output, job.identity)]
    executor.say = progress.message
    folder = output / f"{executor.name}-{whole}-jobs"
    if todo:
        done = len(jobs) - len(todo)
        known = phrase(", {n} of them done already", n=done) if done else ""
        progress.message(
            phrase(
                "{name}: {n} shards{known}; logs are in {folder}",
                name=executor.name, n=len(jobs), known=known, folder=folder,
            )
        )  # fmt: skip
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(output, error.strerror or str(error)) from error
        progress.stage(phrase("waiting for the shards"))
        try:
            _do(todo, executor, folder, progress)
        finally:
            with suppress(OSError):  # nothing was begun, and so there are no logs
                folder.rmdir()
    paths = [folders_of(output, job.identity)[-1] for job in jobs if folders_of(output, job.identity)]
    return merge(paths, output, registry, progress)


def _jobs(spec: RunSpec, of: int, registry: Registry, progress: Progress, narrow: Narrow) -> tuple[list[RunShard], str]:
    """All shards of a run, and the hash of the run's identity."""
    parts = [replace(spec, executor=None, shard=(part, of)) for part in range(1, of + 1)]
    with prepare_run(parts[0], [spec.model_args], registry, progress, narrow=narrow) as prepared:
        for message in prepared.remarks:
            progress.message(message)
        user = prepared.user.model if prepared.user is not None else None
        model, share = prepared.models[0], prepared.share
        assert share is not None
        specs = [replace(part, model=prepared.specs[0].model) for part in parts]
        identity = run_identity(prepared.specs[0], model, prepared.jobs, user)
    hashes = _hashes(identity, share)
    return [RunShard(each, n, of, name) for n, (each, name) in enumerate(zip(specs, hashes, strict=True), 1)], (
        identity_hash(identity)
    )


def _hashes(identity: Mapping[str, JSON], share: RowShare) -> list[str]:
    """Of the identities of all shards of a run, by which their folders are found. share: any of them."""
    shares = [{**asdict(share), "part": part} for part in range(1, share.of + 1)]
    return [identity_hash({**identity, "shard": each}) for each in shares]


def check_shards(prepared: PreparedRun, of: int) -> None:
    """Refuse folders of shards that the run could not read. prepared: of all rows. Raises `UsageError`."""
    user = prepared.user.model if prepared.user is not None else None
    for spec, model in zip(prepared.specs, prepared.models, strict=True):
        identity = run_identity(spec, model, prepared.jobs, user)
        for name in _hashes(identity, first_share(prepared.jobs, spec, of)):
            _is_done(Path(spec.output), name)


def _is_done(output: Path, identity: str) -> bool:
    """Whether a shard came to its end, and no sample of it failed: one that did is tried again."""
    for path in folders_of(output, identity)[-1:]:
        report = read_report(path / REPORT_FILE)
        failed = report is None or any(task["counts"].get("failed") or task.get("missing") for task in report["tasks"])
        return read_manifest(path).get("status") == FINISHED and not failed
    return False


def _do(todo: Sequence[RunShard], executor: ShardExecutor, folder: Path, progress: Progress) -> None:
    failed = []
    ended = 0
    try:
        for job, error, log in executor.run(todo, folder):
            ended += 1
            how = phrase("failed: {error} (log: {log})", error=error, log=log) if error else phrase("is done")
            progress.message(
                phrase(
                    "shard {part} of {of} {how}; {ended} of {todo}",
                    part=job.part, of=job.of, how=how, ended=ended, todo=len(todo),
                )
            )  # fmt: skip
            failed += [f"shard {job.part} of {job.of}: {error} (log: {log})"] if error else []
    except KeyboardInterrupt:
        raise Interrupted("interrupted, and the jobs are ended; the same command goes on") from None
    if failed:
        what = f"{len(failed)} of {len(todo)} shards failed: {and_more(failed)}"
        raise stopped(ModelError(what), "the others are done, and the same command submits these again")
