"""The runs that the viewer shows: found below some folders, read when they are looked at and when they change."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.manifest import MANIFEST_FILE, read_manifest, read_report
from harness.record.manifest_fields import Manifest
from harness.record.report_fields import AbilityFields, Report, TaskReport
from harness.record.run import REPORT_FILE
from harness.record.shown import short_title
from harness.view.index import SampleIndex
from harness.view.media import MediaFinder
from harness.words import english

_DEPTH = 3


@dataclass(frozen=True, slots=True)
class ShelvedRun:
    """A run as lists show it. key: its name in addresses.

    report: None while it has none. problem: why its files cannot be read.
    """

    key: str
    path: Path
    manifest: Manifest
    report: Report | None
    problem: str | None = None

    @property
    def title(self) -> str:
        """What a reader calls the model."""
        return short_title(self.manifest) if self.manifest else self.key

    @property
    def started(self) -> str:
        return str(self.manifest.get("started") or "")[:16].replace("T", " ")

    @property
    def status(self) -> str:
        return str(self.manifest.get("status") or "")

    @property
    def tasks(self) -> Sequence[TaskReport]:
        """The tasks of the report; none while there is no report."""
        return self.report["tasks"] if self.report else ()

    @property
    def abilities(self) -> Sequence[AbilityFields]:
        """The abilities of the report that have a value."""
        return [each for each in self.report.get("abilities", ()) if each["raw"] is not None] if self.report else ()

    def task(self, name: str) -> TaskReport | None:
        return next((task for task in self.tasks if task["task"] == name), None)


class NotShown(UsageError):
    """What a page says where it cannot show what is asked for. words, values: for its translation."""

    def __init__(self, words: str, **values: object) -> None:
        super().__init__(english(words, **values))
        self.words, self.values = words, values


class BeingIndexed(NotShown):
    """What a page says that needs the whole index of a run; a browser asks again by itself. share: how much is done."""

    def __init__(self, run: str, share: float) -> None:
        words = "{run}: its samples are being indexed ({percent} %); load the page again in a moment"
        super().__init__(words, run=run, percent=f"{100 * share:.0f}")


class Shelf:
    """The runs in and below some folders, by keys that stay while the folders do.

    Of thousands of runs only what lists show is kept; one that is asked for by its key is read as a whole.

    mirrors: folders in which the pictures of their rows are looked for. media: what finds them.
    """

    def __init__(self, folders: Sequence[Path], mirrors: Sequence[Path] = ()) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self.media = MediaFinder(mirrors)
        self._read: dict[Path, tuple[tuple[float, ...], ShelvedRun]] = {}
        self._at_work: dict[Path, _Indexing] = {}
        self._lock = threading.Lock()

    def runs(self) -> list[ShelvedRun]:
        """All runs, the newest first. What was read before is read again only where it has changed."""
        with self._lock:
            paths = dict.fromkeys(path for folder in self._folders for path in _runs_in(folder, _DEPTH))
            keys = _keys(list(paths))
            found = [self._run(path, key) for path, key in zip(paths, keys, strict=True)]
            self._read = {path: known for path, known in self._read.items() if path in paths}
        return sorted(found, key=lambda run: (run.manifest.get("started") or "", run.key), reverse=True)

    def get(self, key: str) -> ShelvedRun:
        """The run of a key. Raises UsageError where there is none."""
        return self.several([key])[0]

    def several(self, keys: Sequence[str]) -> list[ShelvedRun]:
        """The runs of some keys, in their order. Raises UsageError where there is one that is not here."""
        known = {run.key: run for run in self.runs()} if keys else {}
        for key in keys:
            if key in known:
                known[key] = _read_run(known[key].path, key)
            else:
                raise NotShown("there is no run '{run}' here", run=key)
        return [known[key] for key in keys]

    def progress(self, run: ShelvedRun) -> float | None:
        """None where the index of a run says all that its files hold; else how far it is, and it is being made."""
        with self._lock:
            at_work = self._at_work.get(run.path)
            if at_work is None or not at_work.is_alive():
                with SampleIndex.of(run.path) as index:
                    if index.is_current():
                        return None
                at_work = self._at_work[run.path] = _Indexing(run.path)
                at_work.start()
        at_work.join(0.3)  # a small run is there at once
        if at_work.is_alive():
            return at_work.share
        with self._lock:
            self._at_work.pop(run.path, None)
        if at_work.problem:
            raise NotShown("{run}: cannot be indexed: {why}", run=run.path, why=at_work.problem)
        return None  # what a run has written in the meantime is seen the next time

    def _run(self, path: Path, key: str) -> ShelvedRun:
        state = tuple(_changed(path / name) for name in (MANIFEST_FILE, REPORT_FILE))
        known = self._read.get(path)
        if known is None or known[0] != state or known[1].key != key:
            known = self._read[path] = (state, _listed(_read_run(path, key)))
        return known[1]


def _read_run(path: Path, key: str) -> ShelvedRun:
    """The run as far as it can be read: one with a damaged report still has its manifest and its samples."""
    manifest: Manifest = {}
    try:
        manifest = read_manifest(path)
        return ShelvedRun(key, path, manifest, read_report(path / REPORT_FILE))
    except UsageError as error:
        return ShelvedRun(key, path, manifest, None, str(error))


_FOR_LISTS = ("kind", "started", "status", "spec", "model")
_TOO_MUCH = ("subsets", "groups", "categories", "by_average", "failures")


def _listed(run: ShelvedRun) -> ShelvedRun:
    """The run without what only its own pages show."""
    manifest: Any = {name: value for name, value in run.manifest.items() if name in _FOR_LISTS}
    if run.report is None:
        return replace(run, manifest=manifest)
    report: Any = {name: run.report.get(name) for name in (*_FOR_LISTS, "seconds") if name in run.report}
    report["tasks"] = [
        {**{name: value for name, value in task.items() if name not in _TOO_MUCH}, "subsets": [], "groups": []}
        for task in run.report["tasks"]
    ]
    report["abilities"] = [*run.report.get("abilities", ())]
    return replace(run, manifest=manifest, report=report)


class _Indexing(threading.Thread):
    """Brings the index of a run up to date."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.share = 0.0
        self.problem: str | None = None

    def run(self) -> None:
        def progress(done: int, total: int) -> None:
            self.share = done / total if total else 1.0

        try:
            with SampleIndex.of(self.path) as index:
                index.update(progress)
        except Exception as error:  # whatever it was: the page that waits for the index says it
            self.problem = " ".join(str(error).split()) or type(error).__name__


def _runs_in(folder: Path, depth: int) -> Iterator[Path]:
    try:
        if (folder / MANIFEST_FILE).is_file():
            yield folder
        if depth and folder.is_dir():
            for child in sorted(folder.iterdir()):
                if child.is_dir() and not child.name.startswith("."):
                    yield from _runs_in(child, depth - 1)
    except OSError:  # a folder that may not be read shows no runs
        return


def _keys(paths: Sequence[Path]) -> list[str]:
    """The folders' names; those that stand twice are numbered in the order of their paths."""
    counts: dict[str, int] = {}
    keys = []
    for path in paths:
        counts[path.name] = number = counts.get(path.name, 0) + 1
        keys.append(path.name if number == 1 else f"{path.name}~{number}")
    return keys


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0.0
