"""Slurm: `--executor slurm,partition=gpu,shards=8,time=2:00:00,gpus=1` submits a run as an array of shards.

The command waits for them and merges them. A shard whose time runs out, or that is pre-empted, is put back into the
queue and goes on in its folder.
"""

from __future__ import annotations

import json
import logging
import math
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import MachineError, ShardExecutor, ShardJob, UsageError, hookimpl, one_line

_POLL = 2.0
_LOST = "its job ended without a word: cancelled, out of memory, or its node is gone"
_MOST_SHARDS = 10_000
JOBS_FILE = "jobs.json"
"""Which job has which shard: a command that follows one that was killed waits for jobs that still run."""


class Resumable:
    """Does a shard, as submitit calls it; one that is stopped by Slurm before its end goes back into the queue."""

    def __init__(self) -> None:
        self.is_requeued = False

    def __call__(self, job: ShardJob) -> str:
        try:
            error = job()
        finally:
            if self.is_requeued:  # what ended the run was Slurm's signal, and its next start has the last word
                from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

                raise SystemExit(LOCAL_REQUEUE_RETURN_CODE)
        return error

    def checkpoint(self, job: ShardJob) -> Any:
        """What submitit puts into the queue: the same, since the run folder knows how far it is."""
        from submitit.helpers import DelayedSubmission

        self.is_requeued = True
        return DelayedSubmission(Resumable(), job)


class Slurm(ShardExecutor):
    """An array of jobs, each of which does a shard of the run; the folders must be seen by all nodes.

    shards: how many. partition, account, qos, constraint: as of sbatch. time: of each, as 2:00:00 or in minutes
    [default: 60 minutes]; restarts: how often one may run out of it and go on. gpus, cpus, memory: what each takes,
    memory in GB. parallel: how many run at once [default: all]. setup: a command before each. slurm: other options of
    sbatch by name. cluster: `local` runs them as processes of this machine.
    """

    name = "slurm"
    needs = "submitit"
    extra = "slurm"

    def __init__(
        self,
        shards: int,
        partition: str | None = None,
        time: str | int = 60,
        gpus: int | None = None,
        cpus: int | None = None,
        memory: float | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        parallel: int | None = None,
        setup: str | Sequence[str] = (),
        restarts: int = 3,
        slurm: Mapping[str, Any] | None = None,
        cluster: str = "slurm",
    ) -> None:
        counts = {"gpus": (gpus, 0), "cpus": (cpus, 1), "parallel": (parallel, 1), "restarts": (restarts, 0)}
        for name, (value, least) in {"shards": (shards, 1), **counts}.items():
            is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not is_whole and (value is not None or name in ("shards", "restarts")):
                raise UsageError(f"{name} is a whole number of at least {least}, not '{value}'")
        if shards > _MOST_SHARDS:
            raise UsageError(f"shards is at most {_MOST_SHARDS}, not '{shards}'")
        if memory is not None and not (type(memory) in (int, float) and 0 < memory < math.inf):
            raise UsageError(f"memory is a number of GB above 0, not '{memory}'")
        if cluster not in ("slurm", "local"):
            raise UsageError(f"cluster is slurm or local, not '{cluster}'")
        commands = [setup] if isinstance(setup, str) else setup
        if not isinstance(commands, list | tuple) or not all(isinstance(each, str) for each in commands):
            raise UsageError(f"setup is a command, or a list of them, not '{setup}'")
        if slurm is not None and not isinstance(slurm, Mapping):
            raise UsageError(f"slurm is options of sbatch by name, as in slurm={{mail-type: END}}, not '{slurm}'")
        self.shards, self.cluster, self.restarts = shards, cluster, restarts
        named = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
        asked = {
            "timeout_min": minutes_of(time),
            "gpus_per_node": gpus,
            "cpus_per_task": cpus,
            "mem_gb": memory,
            **{f"slurm_{name}": None if value is None else str(value) for name, value in named.items()},
            "slurm_array_parallelism": parallel or shards,
            "slurm_setup": list(commands) or None,
            "slurm_additional_parameters": dict(slurm) if slurm else None,
        }
        self.parameters = {name: value for name, value in asked.items() if value is not None}

    def run(self, jobs: Sequence[ShardJob], folder: Path) -> Iterator[tuple[ShardJob, str | None, str]]:
        waiting = self._submitted(jobs, folder)
        try:
            while waiting:
                for part in [
                    part for part, (_, submitted) in waiting.items() if submitted.done() or _is_lost(submitted)
                ]:
                    job, submitted = waiting.pop(part)
                    error = _error_of(submitted) if submitted.done() else _LOST
                    yield job, error, str(submitted.paths.stderr)
                if waiting:
                    time.sleep(_POLL)
        finally:
            for _, submitted in waiting.values():
                submitted.cancel(check=False)

    def _submitted(self, jobs: Sequence[ShardJob], folder: Path) -> dict[int, tuple[ShardJob, Any]]:
        """The jobs by their parts, each with what submitit knows of it; those that still run from before stay."""
        import submitit

        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns at each look where there is no sacct
        try:
            executor = submitit.AutoExecutor(folder, cluster=self.cluster, slurm_max_num_timeout=self.restarts)
        except (RuntimeError, ValueError) as error:
            raise MachineError(f"--executor slurm: there is no Slurm on this machine ({one_line(error)})") from None
        folder.mkdir(parents=True, exist_ok=True)
        known = _read(folder / JOBS_FILE)
        running = {}
        for job in jobs:
            if job_id := known.get(str(job.part)):
                kind = submitit.SlurmJob if self.cluster == "slurm" else submitit.LocalJob
                submitted: submitit.Job[Any] = kind(folder=folder, job_id=job_id)
                if not (submitted.done(force_check=True) or _is_lost(submitted)):
                    running[job.part] = (job, submitted)
        todo = [job for job in jobs if job.part not in running]
        try:
            executor.update_parameters(name="harness", **self.parameters)
            made = executor.map_array(Resumable(), todo) if todo else []
        except Exception as error:
            raise MachineError(f"--executor slurm: the jobs could not be submitted: {one_line(error)}") from None
        waiting = {**running, **{job.part: (job, submitted) for job, submitted in zip(todo, made, strict=True)}}
        ids = {**known, **{str(part): submitted.job_id for part, (_, submitted) in waiting.items()}}
        whole = folder / f".{JOBS_FILE}"  # a kill must not leave half a file: jobs would be submitted twice
        whole.write_text(json.dumps(ids), encoding="utf-8")
        whole.replace(folder / JOBS_FILE)
        if running:
            self.say(f"slurm: {len(running)} jobs of an earlier command are waited for")
        return waiting


def minutes_of(time: str | int) -> int:
    """Minutes of `90`, `2:00:00` or `1-12:00:00`, rounded up. Raises `UsageError`."""
    read = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d\d))?(?::(\d\d))?", str(time).strip())
    if read is None:
        raise UsageError(f"time is minutes, H:MM:SS or D-HH:MM:SS, not '{time}'")
    days, first, second, third = (int(part or 0) for part in read.groups())
    if read[1] is not None or read[4] is not None:  # days, hours, minutes, seconds
        minutes = days * 1440 + first * 60 + second + -(-third // 60)
    elif read[3] is not None:  # minutes and seconds
        minutes = first + -(-second // 60)
    else:
        minutes = first
    if minutes < 1:
        raise UsageError(f"time is at least a minute, not '{time}'")
    return minutes


def _is_lost(submitted: Any) -> bool:
    """Whether a job is in no queue and left no result. Where Slurm keeps no accounts (sacct), nothing else says so."""
    if submitted.state != "UNKNOWN":
        return False
    listed = subprocess.run(["squeue", "-h", "-j", submitted.job_id], capture_output=True, text=True, check=False)
    gone = "Invalid job id" in listed.stderr if listed.returncode else not listed.stdout.strip()
    return gone and not submitted.paths.result_pickle.exists()


def _error_of(submitted: Any) -> str | None:
    """Why a job did not do its shard, in a line."""
    try:
        failure = submitted.exception()
        if failure is None:
            return str(submitted.result()) or None
    except Exception as error:
        failure = error
    lines = [line.strip() for line in str(failure).splitlines() if line.strip(" -")]
    told = [line for line in lines if re.match(r"[\w.]*(?:Error|Exception|Exit|Interrupt)\b", line)]
    if not told and not submitted.paths.result_pickle.exists():
        return f"{_LOST} ({submitted.state})"
    return (told or lines[:1] or [type(failure).__name__])[-1]


def _read(path: Path) -> dict[str, str]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(part): str(job_id) for part, job_id in read.items()} if isinstance(read, dict) else {}


@hookimpl
def harness_executors() -> list[type[ShardExecutor]]:
    return [Slurm]
