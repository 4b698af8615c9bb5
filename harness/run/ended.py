"""A large run that has ended: the same command finds it done, without rendering a prompt or reading a record.

    digest = digest_of(spec, model, jobs, registry, fingerprints)  # before it asks
    note_ended(folder, digest, report, remarks)                    # once its report is written
    earlier = earlier_run(spec, model, jobs, registry, ...)        # when a command would ask the same

Whether anything has changed is told by two hashes. One is of all that decides what is asked and how it is scored: the
specification, the model's identity, the tasks, every row, the plugins, the versions of packages, and the source of the
harness and of the plugins. The other is of the files of the run. Where either differs, or where more than that decides
(Python of a task, media, another model), all is rendered and looked for as ever.

A run notes the same now and then while it goes on. Where it is killed, the next command renders and asks what was not
yet written then, and reads none of the records before that.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import files, spool
from harness.data.open import open_dataset
from harness.errors import HarnessError
from harness.model import Model
from harness.quick import dataclass
from harness.record.begun import Begun, read_begun
from harness.record.environment import versions
from harness.record.lock import LEASE_FILE
from harness.record.manifest import MANIFEST_FILE, read_manifest, read_report
from harness.record.manifest_fields import EndedFields
from harness.record.manifest_file import FINISHED
from harness.record.report_fields import Report
from harness.record.run import REPORT_FILE, RunFolder
from harness.registry import Registry
from harness.run.describe import manifest, run_identity
from harness.run.jobs import TaskJob
from harness.run.samples import build_options
from harness.run.spec import Progress, RunSpec
from harness.stopwatch import Stopwatch
from harness.tasks.rows import needed_splits
from harness.words import phrase

_HERE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run as it ended. report: what it came to; stats: size and time of each of its files, as they were hashed."""

    path: Path
    fields: EndedFields
    report: Report
    stats: Mapping[str, tuple[int, int]]

    def require_same(self) -> None:
        """Raise SaveError where somebody has written to the files since they were hashed."""
        if self.stats != _stats(self.path):
            raise files.disturbed(self.path)


def digest_of(
    spec: RunSpec, model: Model, jobs: Sequence[TaskJob], registry: Registry, fingerprints: Mapping[str, str]
) -> str | None:
    """A hash of all that decides what a run asks and what it comes to; None where more decides it than can be hashed.

    fingerprints: of the rows, by task and split. Files are hashed as they are now: of a run, that is before it asks, as
    one that is changed meanwhile is not what it was made from.
    """
    told = [spec.log_to, spec.output_path, spec.shard, spec.executor, spec.user_model, spec.precision]
    told += [spec.until_decided, spec.budget, spec.budget_tokens]
    if any(each not in (None, ()) for each in told) or not all(map(_is_plain, jobs)):
        return None
    try:
        sources = _sources(registry)
        task_files = {str(file): _hash([file]) for job in jobs for file in (*job.task.files, *job.task.document.files)}
    except OSError:  # a link to nothing, a file that is being replaced: the next command looks at all
        return None
    if sources is None:
        return None
    described: dict[str, Any] = {**manifest(spec, model, jobs, registry, fingerprints)}
    described["command"] = None
    described["spec"] = {**described["spec"], "command": None, "output": None}
    described["tasks"] = {name: {**fields, "samples": None} for name, fields in described["tasks"].items()}
    groups = [repr(job.memberships) for job in jobs]
    machine = [versions(), platform.python_version()]
    basis = [described, run_identity(spec, model, jobs), machine, sources, task_files, groups]
    return hashlib.sha256(json.dumps(basis, sort_keys=True, default=repr).encode()).hexdigest()


def _is_plain(job: TaskJob) -> bool:
    """Whether rows and files that are known alone decide the samples of a task, and each sample its own scores."""
    config, task = job.task.config, job.task
    others: list[object] = [task.code_files, task.modifiers, task.lite, task.templates.media, config.environment]
    others += [config.doc_to_image, config.doc_to_audio, config.doc_to_video, config.custom_dataset, job.read_scoring]
    others += [job.scorer.batches, (config.metadata or {}).get("submission")]
    others += [template.open_ended for template in task.templates.all]  # the row may say which templates it reads
    return not any(others)


def note_ended(folder: RunFolder, digest: str | None, report: Report, remarks: Sequence[str]) -> None:
    """Note of a large run that has come to its end what tells the next command so, where no sample failed."""
    counts = {task["task"]: task["counts"] for task in report["tasks"]}
    n = sum(count["n"] for count in counts.values())
    whole = not any(count["failed"] for count in counts.values()) and not any("missing" in t for t in report["tasks"])
    if digest is None or n <= spool.FEW or not whole:
        return
    fields: EndedFields = {
        "digest": digest,
        "files": {name: _hash([folder.path / name]) for name in _stats(folder.path)},
        "samples": {name: count["n"] for name, count in counts.items()},
        "remarks": list(remarks),
    }
    if folder.manifest.get("ended") != fields:
        folder.note_ended(fields)


def earlier_run(
    spec: RunSpec, model: Model, jobs: Sequence[TaskJob], registry: Registry, progress: Progress, clock: Stopwatch
) -> EndedRun | Begun | None:
    """The run that this one would be, where it has ended or come some way and nothing has changed since; else None."""
    try:
        path = RunFolder.folder_of(Path(spec.output), run_identity(spec, model, jobs))
        fields = read_manifest(path) if path is not None else {}
        ended = fields.get("ended") if fields.get("status") == FINISHED else None
        begun = read_begun(path) if path is not None else None
        if path is None or (ended is None and begun is None):
            return None
        progress.stage(phrase("looking whether anything has changed"))
        with clock.phase("rows"):
            fingerprints = _fingerprints(spec, jobs, registry)
        digest = digest_of(spec, model, jobs, registry, fingerprints)
        with clock.phase("known"):
            if ended is not None and digest == ended["digest"]:
                return _ended_run(path, ended)
            if begun is not None and digest == begun["digest"]:
                return Begun.of(path, begun)
    except (HarnessError, OSError, LookupError, TypeError, ValueError):  # what is wrong is said where all is looked at
        pass
    return None


def _ended_run(path: Path, ended: EndedFields) -> EndedRun | None:
    stats = _stats(path)
    if {name: _hash([path / name]) for name in stats} != ended["files"]:
        return None
    report = read_report(path / REPORT_FILE)
    return None if report is None else EndedRun(path, ended, report, stats)


def _fingerprints(spec: RunSpec, jobs: Sequence[TaskJob], registry: Registry) -> dict[str, str]:
    """Those of the rows that a run is known to open, as `render_samples` names them."""
    found = {}
    for job in jobs:
        for dataset, split, is_needed in needed_splits(job.task, build_options(spec, job)):
            if is_needed:
                rows = open_dataset(dataset, split, registry.hook)
                found["/".join(part for part in (job.task.name, dataset.name, split) if part)] = rows.fingerprint
    return found


def _stats(path: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of all files of a run, of which any may go into its report, but the manifest."""
    found = {}
    others = (MANIFEST_FILE, LEASE_FILE)
    for file in sorted(file for file in path.glob("[!.]*") if file.is_file() and file.name not in others):
        status = file.stat()
        found[file.name] = status.st_size, status.st_mtime_ns
    return found


def _sources(registry: Registry) -> dict[str, str] | None:
    """Hashes of the source of the harness and of all plugins, and of shared templates; None where one has no file."""
    places = [_HERE]
    for plugin in registry.plugins:
        if plugin.error is None:  # of one that is broken, the error is known
            place = _place_of(plugin.module.partition(":")[0])
            if place is None:
                return None
            places.append(place)
    files = {str(place): _hash(_files(place)) for place in dict.fromkeys(places)}
    return files | {str(folder): _hash(_files_below(folder)) for _, folder in registry.template_folders()}


def _place_of(module: str) -> Path | None:
    """The folder of all that a plugin may import as its own; None where its source is in no file.

    That is the outermost package around it, or, of a module in none, the folder in which it and others lie.
    """
    parts = module.split(".")
    for name in (".".join(parts[:count]) for count in range(1, len(parts) + 1)):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and name != "__main__" and Path(file).is_file():
            return Path(file).parent
    return None


def _files(folder: Path) -> Iterator[Path]:
    """All files of a package; of a folder that is none, the modules that lie in it."""
    return _files_below(folder) if (folder / "__init__.py").is_file() else iter(sorted(folder.glob("*.py")))


def _files_below(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.suffix != ".pyc" and not file.is_dir())


def _hash(paths: Iterator[Path] | Sequence[Path]) -> str:
    """A hash of the names and the content of some files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest())
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
