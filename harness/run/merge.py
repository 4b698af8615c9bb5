"""One run of all its shards: `harness merge runs`, or `merge([Path("A"), Path("B")])`.

The merged folder is what one process would have left: the same identity, the records of all rows as the shards wrote
them, and a report over all of them. What needs all rows (a metric that looks at the whole corpus, values of groups) is
computed here. The shards stay as they are, and a merge that was stopped goes on.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from harness.errors import HarnessError, Interrupted, UsageError
from harness.quick import dataclass
from harness.record.coverage import Coverage, TaskCoverage, and_more, coverage_of, numbered
from harness.record.manifest import MANIFEST_FILE, model_title, read_manifest, runs_below, shown_differences
from harness.record.manifest_fields import Manifest, SessionFields
from harness.record.manifest_file import FINISHED
from harness.record.run import RunFolder
from harness.registry import Registry, load_plugins
from harness.run.jobs import TaskJob, attempts, close_code, load_jobs, prepare_metrics
from harness.run.rescore import score_missing
from harness.run.result import RunResult
from harness.run.shards import shard_words
from harness.run.spec import Progress, RunSpec, problem_of_saved
from harness.run.summarise import summarise_run, write_submissions
from harness.tasks.build import sample_from_record
from harness.tasks.make import with_files
from harness.tasks.task import Task
from harness.types import JSON, Sample
from harness.words import phrase

_FLAG = re.compile(r"\s--shard(?:=|\s+)\S+")
# What a merged manifest has from its shards as it is.
_OF_ALL = ("versions", "environment", "kind", "command", "spec", "model", "tasks", "data", "plugins")


@dataclass(frozen=True, slots=True)
class Shard:
    """A folder that holds a part of a run, and what its manifest says."""

    path: Path
    manifest: Manifest

    @property
    def place(self) -> Mapping[str, Any]:
        """Its `part`, `of` how many, and the digest of the `rows` that were cut."""
        return cast(Mapping[str, Any], self.manifest["identity"]["shard"])

    @property
    def name(self) -> str:
        return f"{shard_words(self.place)} ({self.path})"

    @property
    def run(self) -> dict[str, JSON]:
        """The identity of the run that it is a part of, with the rows that were cut."""
        return {**self.manifest["identity"], "shard": {"of": self.place["of"], "rows": self.place["rows"]}}


def merge(
    paths: Sequence[Path],
    output: Path | None = None,
    registry: Registry | None = None,
    progress: Progress | None = None,
    *,
    mixed_versions: bool = False,
) -> RunResult:
    """Make one run folder of all shards of a run, below `output` or beside the first of them.

    paths: their folders, or folders that hold them. mixed_versions: take shards that other versions of packages and
    plugins computed, which the manifest then tells. Raises `UsageError`, before anything is written, for shards that
    are missing, overlap, are not finished or are not of one run.
    """
    registry, progress = registry or load_plugins(), progress or Progress()
    shards = sorted(map(_opened, found(paths)), key=lambda shard: int(shard.place["part"]))
    check_one_run(shards, mixed_versions=mixed_versions)
    check_all_there(shards)
    coverage = merged_coverage(shards)
    described, identity = merged_manifest(shards)
    spec = RunSpec.from_json(cast(Mapping[str, JSON], described["spec"]))
    jobs = load_jobs(spec, registry, Progress())
    try:
        _check_tasks(jobs, described, identity)
        prepare_metrics(jobs, spec)
        place = output or shards[0].path.parent
        with RunFolder.open(place, spec.name or model_title(described), identity, described) as folder:
            try:
                return _merged(shards, jobs, folder, coverage, progress)
            except KeyboardInterrupt:
                folder.finish("interrupted")
                raise Interrupted("interrupted; the shards are as they were, and the same command goes on") from None
            except HarnessError:
                folder.finish("failed")
                raise
    finally:
        close_code(jobs)


def found(paths: Sequence[Path]) -> list[Path]:
    """The folders of shards that are named, or lie directly in a folder that is named. Raises `UsageError`."""
    several: dict[Path, Path] = {}
    for path in paths:
        inside = [path]
        if not (path / MANIFEST_FILE).is_file() and path.is_dir():
            inside = list(filter(_is_shard, runs_below(path)))
            if not inside:
                raise UsageError(f"{path}: holds no shard of a run (a folder that --shard made)")
        several.update((each.resolve(), each) for each in inside)
    return list(several.values())


def _is_shard(path: Path) -> bool:
    """Whether a run folder is a shard; one that is damaged is none, and then said to be missing."""
    with contextlib.suppress(UsageError):
        return "shard" in read_manifest(path)["identity"]
    return False


def _opened(path: Path) -> Shard:
    manifest = read_manifest(path)
    if "shard" not in manifest["identity"]:
        raise UsageError(f"{path}: is no shard of a run: its command had no --shard")
    if problem := _problem_of(manifest):
        raise UsageError(f"{path / MANIFEST_FILE}: damaged ({problem}); make the shard again in another --output")
    return Shard(path, manifest)


def _problem_of(manifest: Manifest) -> str | None:
    """What of a shard's manifest cannot be: its place among the shards, its tasks, or what it was told."""
    identity = manifest["identity"]
    shard, tasks = identity["shard"], identity.get("tasks")
    if not isinstance(shard, dict) or not isinstance(shard.get("rows"), str):
        return "identity.shard is no part of a run"
    part, of = shard.get("part"), shard.get("of")
    if type(part) is not int or type(of) is not int or not 1 <= part <= of:
        return f"identity.shard is part {part} of {of}"
    if not isinstance(tasks, dict) or tasks.keys() != manifest.get("tasks", {}).keys():
        return "its tasks are not those of its identity"
    return problem_of_saved(manifest.get("spec", {}))


def check_one_run(shards: Sequence[Shard], *, mixed_versions: bool = False) -> None:
    """Refuse shards of different runs, and those that different versions computed. Raises `UsageError`."""
    first = shards[0]
    for other in shards[1:]:
        both, where = f"{first.path} and {other.path}", ("in the first", "in the second")
        asked = _asked(first), _asked(other)
        if differing := shown_differences(*asked, *where) or shown_differences(*_common(_files, first, other), *where):
            raise UsageError(f"{both} are no shards of one run: {differing}")
        versions = shown_differences(*_common(_versions, first, other), *where)
        if versions and not mixed_versions:
            remedy = "run one of them again by the other's, or merge with --mixed_versions"
            raise UsageError(f"{both} were computed by different versions: {versions}; {remedy}")


def _asked(shard: Shard) -> dict[str, JSON]:
    """What is the same in all shards of a run. Rows that differ are named by their data set, where they are known."""
    spec = shard.manifest.get("spec", {})
    return {
        **{name: spec.get(name) for name in ("limit", "after")},
        "data": cast(JSON, shard.manifest.get("data", {})),
        **shard.run,
    }


def _versions(shard: Shard) -> dict[str, JSON]:
    plugins = {f"plugins of {each['package']}": each["version"] for each in shard.manifest.get("plugins", ())}
    return {**shard.manifest.get("versions", {}), **plugins}


def _files(shard: Shard) -> dict[str, JSON]:
    """What the Python of tasks has read while it scored, with its hash."""
    read = shard.manifest.get("scoring_files", {})
    return {f"{task}: {name}": content for task, files in read.items() for name, content in files.items()}


def _common(
    told: Callable[[Shard], dict[str, JSON]], first: Shard, second: Shard
) -> tuple[dict[str, JSON], dict[str, JSON]]:
    """What both say of the things that both have: what one machine has more of took no part in the other's answers."""
    ours, theirs = told(first), told(second)
    both = [name for name in ours if name in theirs]
    return {name: ours[name] for name in both}, {name: theirs[name] for name in both}


def check_all_there(shards: Sequence[Shard]) -> None:
    """Refuse shards that are missing, there twice, or not finished. Raises `UsageError`."""
    of = int(shards[0].place["of"])
    by_part: dict[int, Shard] = {}
    for shard in shards:
        part = int(shard.place["part"])
        if part in by_part:
            raise UsageError(f"{by_part[part].path} and {shard.path} are both {shard_words(shard.place)}; name one")
        by_part[part] = shard
    if missing := [f"{part}/{of}" for part in range(1, of + 1) if part not in by_part]:
        which = "shard is" if len(missing) == 1 else "shards are"
        flag, known = f"--shard {missing[0]}", str(shards[0].manifest.get("command") or "")
        command, found = re.subn(r"--shard[= ]\S+", flag, known)
        if known and not found:  # a file of flags names the shard: the flag goes before it
            command = f"{known} {flag}"
        how = f"; run {'it' if len(missing) == 1 else 'the first'} with{':' * bool(command)} {command or flag}"
        raise UsageError(f"{len(missing)} {which} missing: {and_more(missing)}{how}")
    for shard in shards:
        with RunFolder.read(shard.path) as folder:
            there, asked = len(folder), sum(task.get("samples", 0) for task in folder.manifest["tasks"].values())
            if shard.manifest.get("status") != FINISHED or there < asked or folder.report is None:
                go_on = f"; go on with: {shard.manifest['command']}" if shard.manifest.get("command") else ""
                raise UsageError(f"{shard.name} is not finished: it holds {there} of {asked} samples{go_on}")


def merged_coverage(shards: Sequence[Shard]) -> Coverage:
    """What all shards together are about, as one process would say it."""
    parts = []
    for shard in shards:
        with RunFolder.read(shard.path) as folder:
            assert folder.report is not None  # see `check_all_there`
            parts.append(coverage_of(folder.report))
    whole = {}
    for name, first in parts[0].items():
        of_task = [part[name] for part in parts]
        rows = {
            subset: numbered(number for each in of_task for number in each.of_subset(subset)) for subset in first.asked
        }
        bad = {
            subset: {number: why for each in of_task for number, why in each.bad.get(subset, {}).items()}
            for subset in first.asked
        }
        whole[name] = TaskCoverage(
            {subset: len(numbers) for subset, numbers in rows.items()},
            first.rows,
            first.of_subsets,
            first.limit,
            {subset: why for subset, why in bad.items() if why},
            first.bad_rows,
            {subset: numbers for subset, numbers in rows.items() if isinstance(numbers, frozenset)},
        )
    return whole


def merged_manifest(shards: Sequence[Shard]) -> tuple[Manifest, dict[str, JSON]]:
    """What the manifest of one process would say, and the identity of its run."""
    first = shards[0].manifest
    command = _FLAG.sub("", first.get("command") or "")
    told: Mapping[str, Any] = first
    described: dict[str, Any] = {name: told[name] for name in _OF_ALL if name in told}
    described["command"] = command
    described["spec"] = {**first["spec"], "shard": None, "command": command}
    described["tasks"] = {
        name: {**fields, "samples": sum(shard.manifest["tasks"][name].get("samples", 0) for shard in shards)}
        for name, fields in first["tasks"].items()
    }
    read: dict[str, dict[str, str]] = {}
    for shard in shards:
        for task, files in shard.manifest.get("scoring_files", {}).items():
            read[task] = {**read.get(task, {}), **files}
    if read:
        described["scoring_files"] = read
    return cast(Manifest, described), {name: value for name, value in first["identity"].items() if name != "shard"}


def _check_tasks(jobs: Sequence[TaskJob], described: Manifest, identity: Mapping[str, Any]) -> None:
    """Refuse to sum up by task files that are not those of the shards."""
    for job in jobs:
        code: Mapping[str, str] = described["tasks"].get(job.task.name, {}).get("code", {})
        if identity["tasks"].get(job.task.name) != _with_read(job.task, code).digest:
            raise UsageError(
                f"{job.task.file}: task '{job.task.name}' is not here what it was where the shards ran; merge with the "
                "same version of harness and of the task file"
            )


def _with_read(task: Task, code: Mapping[str, str]) -> Task:
    """A task with the files that its Python read in the shards while it made prompts, which it has not done here.

    code: all files that a shard's task was made of, with their hashes, at their places there.
    """
    known = {(Path(path).name, content) for path, content in task.code_files.items()}
    return with_files(task, {path: each for path, each in code.items() if (Path(path).name, each) not in known})


def _merged(
    shards: Sequence[Shard], jobs: Sequence[TaskJob], folder: RunFolder, coverage: Coverage, progress: Progress
) -> RunResult:
    samples = {name: fields.get("samples", 0) for name, fields in folder.manifest["tasks"].items()}
    progress.stage(phrase("merging"))
    progress.started([(name, n, 0) for name, n in samples.items()], phrase("{n} shards", n=len(shards)))
    headlines = {job.task.name: job.scorer.headline for job in jobs}
    for shard in shards:
        with RunFolder.read(shard.path) as part:
            for record in part.records():
                folder.write(record)
                progress.sample_done(record, headlines.get(record.task, ""))
            folder.messages += part.take_messages()
    if folder.manifest["status"] != FINISHED:  # something was written
        *earlier, own = folder.manifest["sessions"]
        kept = [session for session in earlier if "shard" not in session]
        folder.note(sessions=[*kept, *_sessions(shards), {**own, "merged": len(shards)}])
    for job in jobs:
        if job.scorer.batches is not None and job.scorer.batches.needs_all:
            job.hold(_samples(job, folder))
            records = functools.partial(folder.records, job.task.name)
            for record in score_missing(job, job.scorer.batches, records, progress):
                folder.write(record)
    summary = summarise_run(jobs, folder, coverage)
    write_submissions(jobs, folder, progress.message)
    for message in [*folder.take_messages(), *attempts(jobs)]:
        progress.message(message)
    return RunResult(folder.path, summary.asked, coverage, summary.larger, jobs)


def _samples(job: TaskJob, folder: RunFolder) -> Iterator[Sample]:
    """What is right for each record of a task, from the records themselves."""
    for record in folder.records(job.task.name):
        if record.responses or not record.error:
            yield sample_from_record(job.task, record, job.bad_rows)


def _sessions(shards: Sequence[Shard]) -> Iterator[SessionFields]:
    """The sessions of all shards, each with its shard, and with its versions and machine where they are not those of
    the first."""
    first = shards[0].manifest
    for shard in shards:
        differing: SessionFields = {}
        if shard.manifest.get("versions") != first.get("versions"):
            differing["versions"] = shard.manifest["versions"]
        if shard.manifest.get("environment") != first.get("environment"):
            differing["environment"] = shard.manifest["environment"]
        for session in shard.manifest.get("sessions", ()):
            yield {**differing, **session, "shard": f"{shard.place['part']}/{shard.place['of']}"}
