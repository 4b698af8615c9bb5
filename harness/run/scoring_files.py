"""Which local files the Python of a task reads first while it scores, and whether they are what they were.

A run is named before it scores, so that such a file is no part of its task's digest: its hash is written into the
manifest when it is read. Where it has changed since, what was scored by it is scored again.

    files = ScoringFiles(folder)
    files.changed(job)          # names, before anything is scored
    files.note(job)             # after a sample is scored
    files.settle(job)           # once all are
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from harness.record.run import RunFolder
from harness.run.jobs import TaskJob
from harness.task_code.client import TaskCode, hashed


class ScoringFiles:
    """Those of the tasks of one run folder."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def changed(self, job: TaskJob) -> list[str]:
        """The files that an earlier session noted and whose content is another now, or that are gone."""
        then, now = self._noted(job), self._as_now(job)
        return [name for name, content in then.items() if now.get(name) != content]

    def note(self, job: TaskJob) -> None:
        """Write down what the task's code has read while it scored; what an earlier session noted stays as it is, until
        all is scored again."""
        if self._read(job):
            noted = self._noted(job)
            if job.read_scoring.keys() - noted.keys():
                self._write(job, {**job.read_scoring, **noted})

    def settle(self, job: TaskJob) -> None:
        """Say of each file what it is now, once every score is by it; one that is gone is left out."""
        self._read(job)
        noted = self._noted(job)
        now = {**self._as_now(job), **job.read_scoring}
        if now != noted:
            self._write(job, now)

    def _read(self, job: TaskJob) -> bool:
        """Take what was read, into `job.read_scoring`: code may keep what it has read, for the next model of a run."""
        code = job.task.code
        if not isinstance(code, TaskCode):
            return False
        if not code.has_read_scoring(job.task.name):
            return bool(job.read_scoring)
        home = job.task.file.parent
        known = {*job.task.code_files, *(str(_path(home, name)) for name in job.read_scoring)}
        for path, content in code.take_read_scoring(job.task.name, known).items():
            job.read_scoring[Path(os.path.relpath(path, home.resolve())).as_posix()] = content
        return bool(job.read_scoring)

    def _noted(self, job: TaskJob) -> Mapping[str, str]:
        return self._folder.manifest.get("scoring_files", {}).get(job.task.name, {})

    def _as_now(self, job: TaskJob) -> dict[str, str]:
        paths = {str(_path(job.task.file.parent, name)): name for name in self._noted(job)}
        return {paths[path]: content for path, content in hashed(paths).items()}

    def _write(self, job: TaskJob, read: Mapping[str, str]) -> None:
        self._folder.note(scoring_files={job.task.name: dict(sorted(read.items()))})


def _path(home: Path, name: str) -> Path:
    return (home.resolve() / name).resolve()


def changed_files(job: TaskJob, names: list[str], what: str) -> str:
    """One line on files that have changed. what: becomes of the scores."""
    have = "has" if len(names) == 1 else "have"
    return f"{job.task.name}: {', '.join(names)}, read by its code while it scores, {have} changed since; {what}"
