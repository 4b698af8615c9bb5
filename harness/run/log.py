"""What of a run folder goes to an experiment tracker, and the note beside the run that says what is there already.

    send(Path("runs/A"), LogTarget("tensorboard", {"dir": "logs"}), registry)

The note is `RUN/trackers/<name>-<hash>.json`: no part of the run's identity, and never with a secret in it.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import secrets
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, cast

from harness import files
from harness.errors import ExitCode, HarnessError, UsageError
from harness.logger import LoggedResults, LoggedRun, Logger, RunStatus, Table
from harness.quick import dataclass
from harness.record.keys import canonical_json
from harness.record.manifest import model_title, safe_name
from harness.record.manifest_fields import Manifest
from harness.record.report_fields import Report
from harness.record.result_rows import DOUBTS
from harness.record.run import HTML_FILE, REPORT_FILE, RunFolder
from harness.record.shown import finite
from harness.registry import Registry
from harness.run.frames import value_rows
from harness.scoring.construct import construct
from harness.secret import MASK, revealed, shown
from harness.types import JSON, Record

FOLDER = "trackers"
SAMPLES, MOST_SAMPLES = 64, 1_000
"""How many samples of each task a tracker is shown, and how many of all."""
WAIT = 20.0
"""Seconds for which a command waits at its end for a tracker to take the results."""
_CELL = 2_000  # characters
_OWN_OPTIONS = ("samples", "wait")
_KEY_LENGTH = 16
_SAMPLE_COLUMNS = ("task", "subset", "id", "prompt", "target", "answer", "reply", "scores", "error")


class LogError(HarnessError):
    """A tracker that did not take what it was sent."""

    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where a run is logged: the name of a logger, and its options, secrets among them as `Secret`s.

    Two options are for any logger: samples (of each task, `SAMPLES`), and wait (seconds, `WAIT`).
    """

    name: str
    options: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def own(self) -> dict[str, JSON]:
        return {name: value for name, value in self.options.items() if name not in _OWN_OPTIONS}

    @property
    def samples(self) -> int:
        return int(self._number("samples", SAMPLES))

    @property
    def wait(self) -> float:
        return self._number("wait", WAIT)

    def __str__(self) -> str:
        """As it is written after `--log_to`, without secrets: those come from a tracker's environment variable."""
        visible = _without_secrets(self.options)
        pairs = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in visible.items()]
        return ",".join([self.name, *pairs])

    def make(self, registry: Registry) -> Logger:
        """The logger, which has contacted nobody yet. Raises `UsageError` for what it cannot be or is not told."""
        for name in _OWN_OPTIONS:
            self._number(name, 0)
        logger = construct("logger", self.name, registry.logger, revealed(self.own), "--log_to")
        logger.require()
        return logger

    def _number(self, name: str, default: float) -> float:
        value = self.options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise UsageError(f"--log_to: {self.name}: {name} is a number of at least 0, not '{value}'")
        return value


@dataclass
class TrackerNote:
    """What is known of a run in one tracker. sent: a digest of the results that it has. times: how often it got any."""

    path: Path
    to: str
    options: dict[str, Any]
    key: str
    seen_at: str = ""
    sent: str = ""
    times: int = 0

    @classmethod
    def of(cls, run: Path, target: LogTarget) -> TrackerNote:
        """The note of this run and this place; a new one where there is none, or none that can be read."""
        own = _without_secrets(target.own)  # with another key, or one from the environment, it is the same place
        digest = hashlib.sha256(canonical_json([target.name, own], "the options of --log_to")).hexdigest()[:8]
        path = run / FOLDER / f"{safe_name(target.name)}-{digest}.json"
        note = cls(path, target.name, _without_secrets(target.options), secrets.token_hex(_KEY_LENGTH // 2))
        for name, value in _read(path).items():
            if name in ("key", "seen_at", "sent", "times") and type(value) is type(getattr(note, name)):
                setattr(note, name, value)
        return note

    def save(self) -> None:
        """Raises SaveError; makes no run folder where there is none any more."""
        try:
            self.path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise files.save_error(self.path, error) from error
        fields = {name: getattr(self, name) for name in ("to", "options", "key", "seen_at", "sent", "times")}
        files.replace_json(self.path, fields)


def targets_of(run: Path) -> list[LogTarget]:
    """Where a run was logged before; secrets are not known any more."""
    notes = [_read(path) for path in sorted((run / FOLDER).glob("*.json"))]
    return [
        LogTarget(note["to"], _without_secrets(note.get("options", {})))
        for note in notes
        if isinstance(note.get("to"), str) and isinstance(note.get("options", {}), Mapping)
    ]


def _without_secrets(options: Mapping[str, JSON]) -> dict[str, JSON]:
    return {name: value for name, value in shown(dict(options)).items() if value != MASK}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class Delivery:
    """Brings one run to one tracker: `begin` while it is at work, `complete` when it has ended."""

    def __init__(self, run: Path, target: LogTarget, registry: Registry) -> None:
        self.run, self.target = run, target
        self.logger = target.make(registry)
        self.note = TrackerNote.of(run, target)
        self.began = False

    def begin(self) -> str:
        """Open the tracker's run; returns where it can be seen."""
        folder = RunFolder.read(self.run)
        self.note.save()  # before the tracker knows it, so that a kill between the two makes no second run
        self.note.seen_at = self.logger.start(
            LoggedRun(self.note.key, _title(folder.manifest), config_of(folder.manifest, self.run), self.run.resolve())
        )
        self.note.save()
        self.began = True
        return self.note.seen_at

    def complete(self, status: RunStatus) -> bool:
        """Send the results, if there are any that the tracker has not, and close its run. False: it had all."""
        folder = RunFolder.read(self.run)
        report = folder.report if status == "finished" else None
        digest = _digest(report, self.target.samples) if report else ""
        if not self.began and (report is None or digest == self.note.sent):
            return False
        if not self.began:
            self.begin()
        is_new = report is not None and digest != self.note.sent
        if report is not None and is_new:
            self.logger.results(results_of(folder, report, self.target.samples, self.note.times))
        self.logger.end(status)
        if is_new:
            self.note.sent, self.note.times = digest, self.note.times + 1
            self.note.save()
        return is_new


def send(run: Path, target: LogTarget, registry: Registry) -> tuple[bool, str]:
    """Send a run that has ended, now and here: (whether the tracker lacked anything, where it can be seen).

    Raises `UsageError` where the run has no report, `LogError` where the tracker fails.
    """
    from harness.scoring.scores import located

    folder = RunFolder.read(run)
    if folder.report is None:
        raise UsageError(f"{run}: has no report yet: the run has not ended; its command goes on with it")
    delivery = Delivery(folder.path, target, registry)
    try:
        return delivery.complete("finished"), delivery.note.seen_at
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        raise LogError(f"{target.name} did not take the run: {located(error)}; the same command tries again") from error


def later_command(run: Path, target: LogTarget) -> str:
    """The command that sends what a tracker has missed."""
    return shlex.join(["harness", "log", str(run), "--to", str(target)])


def _title(manifest: Manifest) -> str:
    return str(manifest.get("spec", {}).get("name") or Path(model_title(manifest)).name or "model")


def _digest(report: Report, samples: int) -> str:
    whole = {"tasks": report["tasks"], "groups": report.get("groups", []), "samples": samples}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def config_of(manifest: Manifest, run: Path) -> dict[str, JSON]:
    """The configuration that a tracker shows: what was asked of which model, by which versions. It holds no secrets."""
    known = cast(dict[str, Any], manifest)
    shown_of_task = ("num_fewshot", "split", "version", "digest", "samples", "modifiers")
    tasks = {
        name: {key: task[key] for key in shown_of_task if task.get(key) not in (None, [])}
        for name, task in known.get("tasks", {}).items()
    }
    settings = {
        name: value
        for name, value in known.get("spec", {}).items()
        if value not in (None, [], {}, "") and name not in ("model", "model_args", "tasks", "command", "log_to")
    }
    parts = {name: known[name] for name in ("model", "versions", "environment") if known.get(name)}
    return {
        "run": run.resolve().name,
        "command": known.get("command"),
        "started": known.get("started"),
        **parts,
        "tasks": tasks,
        "settings": settings,
    }


def results_of(folder: RunFolder, report: Report, samples: int, step: int) -> LoggedResults:
    """What a tracker is sent of a run that has ended."""
    kept = [folder.path / name for name in (REPORT_FILE, HTML_FILE)]
    return LoggedResults(
        scores=dict(_scores(report)),
        values=_table(list(value_rows(folder.path.name, report))),
        samples=sample_table(folder, [task["task"] for task in report["tasks"]], samples),
        step=step,
        files=[path for path in kept if path.is_file()],
    )


def _scores(report: Report) -> Iterator[tuple[str, float]]:
    parts = [(task["task"], task) for task in report["tasks"]]
    for name, part in [*parts, *((group["group"], group) for group in report.get("groups", ()))]:
        for metric in part["metrics"]:
            for key, value in ((metric["metric"], metric["value"]), (f"{metric['metric']}_stderr", metric["stderr"])):
                if (number := finite(value)) is not None:
                    yield f"{name}/{key}", number
        yield f"{name}/n", part["counts"]["n"]
        yield from ((f"{name}/{doubt}", part["counts"].get(doubt, 0)) for doubt in DOUBTS)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = tuple(rows[0]) if rows else ()
    return Table(columns, tuple(tuple(_cell(row[column]) for column in columns) for row in rows))


def sample_table(folder: RunFolder, tasks: Sequence[str], samples: int) -> Table:
    """Some samples of each task: those whose hashes are least, so that they stay the same when a run goes on."""
    each = min(samples, max(1, MOST_SAMPLES // max(1, len(tasks)))) if samples else 0
    drawn: list[Record] = []
    for task in tasks if each else ():
        drawn += heapq.nsmallest(each, folder.records(task), key=_place)
    return Table(_SAMPLE_COLUMNS, tuple(tuple(map(_cell, _sample_row(record))) for record in drawn))


def _place(record: Record) -> bytes:
    return hashlib.blake2b(json.dumps(record.key).encode(), digest_size=8).digest()


def _sample_row(record: Record) -> Iterable[Any]:
    read = next(iter(record.answers.values()), ())
    target: Any = record.target
    if isinstance(target, int) and 0 <= target < len(record.choices):
        target = record.choices[target]
    answer = read[0] if read else None
    if answer is None and record.choices and len(record.logprobs) == len(record.choices):
        answer = record.choices[record.logprobs.index(max(record.logprobs))]
    scores = json.dumps(shown(dict(record.scores)), ensure_ascii=False)
    where = (record.task, record.subset, record.id)
    return (*where, record.prompt.text, target, answer, record.text, scores, record.error)


def _cell(value: Any) -> str | float | int | None:
    """A value as any tracker takes it: short, and without halves of characters."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text if len(text) <= _CELL else f"{text[:_CELL]}... ({len(text):,} characters)"
