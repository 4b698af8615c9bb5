"""The run folder: every finished sample is on disk, and the same command finds it again.

with RunFolder.open(Path("runs"), "Qwen3-0.6B", identity, manifest) as run:
    if not run.has("ceval", "law", 0, keys):
        run.write(record)
    run.finish("finished", report)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self

from harness import files
from harness.errors import SaveError, UsageError
from harness.record import environment, manifest
from harness.record.codec import decode_record, decode_responses, encode_record, jsonable, parse_line
from harness.record.html import report_html
from harness.record.journal import UNREADABLE, EncodedRecord, Journal, keys_digest
from harness.record.lock import LEASE_FILE, FolderLock
from harness.record.prompts import PROMPTS_FILE, SharedPrompts
from harness.types import JSON, Record, Response, SampleKey

REPORT_FILE = "report.json"
HTML_FILE = "report.html"
RUNNING, FINISHED = "running", "finished"


class RunFolder:
    """A folder of one configuration's samples, made by `open`, `reopen` or `read`.

    `messages` collects what was repaired or left out, one line each. Errors of the disk are `SaveError`s; what was
    written before one is safe, and the same command goes on from there.
    """

    def __init__(self, path: Path, found: dict[str, JSON], lock: FolderLock | None) -> None:
        self.path = path
        self.messages: list[str] = []
        self._manifest = found
        self._lock = lock
        self._in_session = False
        self._known: dict[str, Response] = {}
        self._prompts = SharedPrompts(path / PROMPTS_FILE)
        self._journals: dict[str, Journal] = {}

    @classmethod
    def open(
        cls, output: Path, model_name: str, identity: Mapping[str, JSON], manifest_fields: Mapping[str, JSON]
    ) -> RunFolder:
        """The folder of this configuration: `output` itself, one below it, or a new one below it.

        identity: all that decides answers and scores, which a limit does not. manifest_fields: what else to write down.
        Raises UsageError when `output` cannot be used, is a run of another configuration, or is in use.
        """
        path = _find_folder(output, model_name, identity)
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(path)
        except OSError as error:
            cause = error.strerror or error
            raise UsageError(f"--output {output}: cannot be written ({cause}); choose another folder") from error
        try:
            found: dict[str, JSON] = {}
            if (path / manifest.MANIFEST_FILE).exists():
                manifest.require_same(path, identity)
                found = manifest.read_manifest(path)
            run = cls(path, found, lock)
            run._begin({**manifest_fields, "identity": manifest.plain(identity)})
            run._recover()
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """An existing run folder, to be changed, whatever its configuration (re-scoring); it has nothing `known`.

        path: the folder, or one that holds no other run.
        """
        path = manifest.the_run(path)
        found = manifest.read_manifest(path)
        try:
            lock = FolderLock(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from error
        run = cls(path, found, lock)
        try:
            run._recover(learn=False)
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def read(cls, path: Path) -> RunFolder:
        """An existing run folder, to be looked at; nothing in it is changed, and a running process is no hindrance.

        path: the folder, or one that holds no other run.
        """
        path = manifest.the_run(path)
        run = cls(path, manifest.read_manifest(path), None)
        run._prompts.load(run.messages.append, repair=False)
        for file in run._record_files():
            run._journal(file.name).survey()
        return run

    @property
    def manifest(self) -> dict[str, JSON]:
        """What `manifest.json` holds."""
        return dict(self._manifest)

    @property
    def known(self) -> Mapping[str, Response]:
        """Request key -> answer, for all answers without error that were on disk when the folder was opened."""
        return MappingProxyType(self._known)

    @property
    def report(self) -> dict[str, JSON] | None:
        """What `report.json` holds; None where the run has none yet. Raises UsageError where it is damaged."""
        return manifest.read_json(self.path / REPORT_FILE)

    def __len__(self) -> int:
        """The number of samples on disk."""
        return sum(len(journal) for journal in self._journals.values())

    def has(self, key: SampleKey, request_keys: Sequence[str]) -> bool:
        """Whether the sample is on disk with answers to exactly these requests, and did not fail."""
        journal = self._journals.get(manifest.record_file(key.task).casefold())
        answered = journal.answered(key) if journal else None
        return answered is not None and answered == keys_digest(request_keys)

    def note(self, **fields: JSON) -> None:
        """Write into the manifest what became known later; a mapping is merged into the one that is there."""
        for name, value in jsonable(fields).items():
            old = self._manifest.get(name)
            self._manifest[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        files.replace_json(self.path / manifest.MANIFEST_FILE, self._manifest)

    def note_session(self, **fields: JSON) -> None:
        """Write into the manifest what became known of this session alone."""
        *earlier, last = self._manifest["sessions"]
        self.note(sessions=[*earlier, {**last, **fields}])

    def write(self, record: Record) -> None:
        """Put a record on disk; a kill right after this call does not lose it. Raises SaveError."""
        line = self._line(record)
        # Prompts first: no record on disk refers to what is not there.
        self._prompts.flush()
        self._journal(manifest.record_file(record.task)).add(line)

    def rewrite(self, task: str, records: Iterable[Record]) -> None:
        """Put new records in the place of all of a task's, at one stroke (re-scoring). Raises SaveError."""

        def lines() -> Iterator[EncodedRecord]:
            for record in records:
                yield self._line(record)
            self._prompts.flush()

        self._journal(manifest.record_file(task)).rewrite(task, lines())

    def records(self, task: str | None = None) -> Iterator[Record]:
        """The records of a task, or all, one at a time, each sample's last line only.

        A line that cannot be read is left out and named in `messages`.
        """
        own = self._journals.get(manifest.record_file(task).casefold()) if task is not None else None
        for journal in list(self._journals.values()) if task is None else [own] if own else []:
            for number, line in journal.read():
                try:
                    fields = parse_line(line)
                    record = decode_record(fields, self._prompts.resolve)
                except UNREADABLE as error:
                    journal.complain(number, error)
                    continue
                if task is None or record.task == task:
                    yield record

    def put_in_order(self) -> None:
        """One line a sample, by subset (in the order of the manifest's `tasks`) and id. Raises SaveError.

        What is computed from the records afterwards does not depend on the order in which a model gave its answers.
        """
        rank = _ranking(self._manifest.get("tasks"))
        ordered = sorted(self._journals.values(), key=lambda journal: journal.rank(rank))
        for journal in ordered:
            journal.compact(rank)
        # After the records: until here every prompt is still there, so that a kill between the two loses nothing.
        self._prompts.compact(prefix for journal in ordered for prefix in journal.prefixes())

    def finish(self, status: str, report: Mapping[str, JSON] | None = None) -> None:
        """End the run: files in order, report written, status in the manifest. Raises SaveError.

        A file then holds one line a sample, by subset (in the order of the manifest's `tasks`) and id, so that a run
        that was killed and resumed leaves the same files as one that was not, `seconds` aside. A run that did not end
        well (any status but `finished`) leaves its files as they are, for the next time.
        """
        if status == FINISHED:
            self.put_in_order()
        if report is not None:
            plain = jsonable(report)
            files.replace_json(self.path / REPORT_FILE, plain)
            page = report_html(plain, self.records())
            files.replace(self.path / HTML_FILE, [page.encode("utf-8", "replace")])
        try:
            self._end_session(status)
        except SaveError:
            # Another error ends this run; that the manifest still says `running` takes nothing from the next one.
            if status == FINISHED:
                raise

    def _end_session(self, status: str) -> None:
        if not self._in_session:  # scored again: the session that asked the model keeps its times
            self.note(rescored=manifest.now())
            return
        *earlier, last = self._manifest["sessions"]
        last = {**last, "finished": manifest.now(), "status": status}
        self.note(status=status, finished=last["finished"], sessions=[*earlier, last])

    def close(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, fields: Mapping[str, JSON]) -> None:
        """Write the manifest first: a folder with records always says what they are."""
        found = self._manifest
        session = {"started": manifest.now(), "command": fields.get("command")}
        sessions = [*found.get("sessions", []), session]
        self._manifest = {
            "format": manifest.FORMAT,
            "status": RUNNING,
            "started": found.get("started", session["started"]),
            **environment.describe(),
            **jsonable(fields),
        }
        self._in_session = True
        self.note(sessions=sessions)

    def _recover(self, learn: bool = True) -> None:
        """Repair and index the files. learn: keep the answers, which nobody asks for where no model will be asked."""
        if self._lock is not None and self._lock.is_lease:
            self.messages.append(f"{self.path}: this file system knows no locks; the file {LEASE_FILE} stands for one")
        for temporary in self.path.glob(f".*{files.UNFINISHED}"):
            temporary.unlink()
        self._prompts.load(self.messages.append, repair=True)
        for file in self._record_files():
            self._journal(file.name).recover(self._learn if learn else self._accept)

    def _accept(self, fields: Mapping[str, JSON]) -> bytes | None:
        """Whether a line is whole and its sample done; see `Journal.recover`."""
        prefix = fields["prompt"].get("prefix")
        if prefix is not None and prefix not in self._prompts:
            raise ValueError(f"its shared prompt {prefix} is not in {PROMPTS_FILE}")
        keys, responses = fields["request_keys"], fields["responses"]
        answers = [response.get("error") is None for _, response in zip(keys, responses, strict=True)]
        return keys_digest(keys) if all(answers) and fields["error"] is None else None

    def _learn(self, fields: Mapping[str, JSON]) -> bytes | None:
        """Accept a line, and learn its answers."""
        answered = self._accept(fields)
        answers = zip(fields["request_keys"], decode_responses(fields), strict=True)
        self._known.update((key, response) for key, response in answers if response.error is None)
        return answered

    def _line(self, record: Record) -> EncodedRecord:
        reference = self._prompts.refer(record.prompt)
        done = record.error is None and all(response.error is None for response in record.responses)
        answered = keys_digest(record.request_keys) if done else None
        return EncodedRecord(record.key, encode_record(record, reference), answered, reference)

    def _record_files(self) -> list[Path]:
        return sorted(file for file in self.path.glob("*.jsonl") if file.name != PROMPTS_FILE)

    def _journal(self, name: str) -> Journal:
        # Names that differ in case alone are one file on some systems, so they are one journal on all.
        folded = name.casefold()
        if folded not in self._journals:
            self._journals[folded] = Journal(self.path / name, self.messages.append)
        return self._journals[folded]


def _find_folder(output: Path, model_name: str, identity: Mapping[str, JSON]) -> Path:
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output}: a file, not a folder; choose another folder")
    if (output / manifest.MANIFEST_FILE).is_file():
        return output
    ending = f"-{manifest.identity_hash(identity)}"
    found = sorted(output.glob(f"*{ending}")) if output.is_dir() else []
    return found[-1] if found else output / manifest.folder_name(model_name, identity)


def _ranking(tasks: JSON) -> Callable[[SampleKey], tuple[int, int]]:
    """Where a task and a subset stand in the run; those that are not in the manifest come last."""
    tasks = tasks if isinstance(tasks, dict) else {}
    task_ranks = {task: rank for rank, task in enumerate(tasks)}
    subset_ranks = {
        (task, subset): rank
        for task, fields in tasks.items()
        if isinstance(fields, dict)
        for rank, subset in enumerate(fields.get("subsets", ()))
    }

    def rank(key: SampleKey) -> tuple[int, int]:
        return task_ranks.get(key[0], len(task_ranks)), subset_ranks.get(key[:2], len(subset_ranks))

    return rank
