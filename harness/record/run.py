"""The run folder: every finished sample is on disk, and the same command finds it again.

with RunFolder.open(Path("runs"), "Qwen3-0.6B", identity, manifest) as run:
    if run.find(sample, keys, rules) is not OnDisk.DONE:
        run.write(record)
    run.finish("finished", report)
"""

from __future__ import annotations

import contextlib
import functools
import shlex
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from harness import files
from harness.errors import SaveError, UsageError
from harness.record import manifest
from harness.record.begun import BEGUN_FILE, INDEX_FILE, Begun, BegunIndex, NotedSums, forget_begun
from harness.record.codec import (
    decode_record,
    encode_record,
    jsonable,
    key_in,
    line_digest,
    line_key,
    parse_line,
    row_digest,
)
from harness.record.coverage import coverage_of
from harness.record.file_types import Kind
from harness.record.journal import UNREADABLE, EncodedRecord, Journal, keys_digest
from harness.record.known_answers import KnownAnswers
from harness.record.line_positions import Knowledge, LinePosition
from harness.record.lock import LEASE_FILE, FolderLock
from harness.record.manifest_fields import BegunFields, EndedFields, Manifest, ModelFields, SessionFields, TaskFields
from harness.record.manifest_file import FINISHED, ManifestFile
from harness.record.output import check_output, find_folder, renamed_runs, unusable
from harness.record.prompts import PROMPTS_FILE, SharedPrompts
from harness.record.record_fields import RecordLine
from harness.record.report_fields import Report
from harness.record.steps import Steps
from harness.types import JSON, Record, Response, Sample, SampleKey
from harness.words import locale_language, translator

if TYPE_CHECKING:
    from harness.record.html import PageSamples

REPORT_FILE = "report.json"
HTML_FILE = "report.html"
GATHERED = 64 << 10
"""Bytes of records that are written at once where they are gathered."""


class OnDisk(Enum):
    """How far a sample is in a run folder.

    DONE: it did not fail, was asked this, and its scores are of this row by these rules. OUTDATED: what is right, or
    how it is scored, has changed since, and its answers are there. ASKED_OTHERWISE: what it is asked has changed.
    """

    DONE = auto()
    OUTDATED = auto()
    ASKED_OTHERWISE = auto()
    ABSENT = auto()


class RunFolder:
    """A folder of one configuration's samples, made by `open`, `reopen` or `read`.

    `messages` collects what was repaired or left out, one line each. Errors of the disk are `SaveError`s; what was
    written before one is safe, and the same command goes on from there.
    """

    def __init__(self, path: Path, fields: Manifest, lock: FolderLock | None) -> None:
        self.path = path
        self.messages: list[str] = []
        self._manifest = ManifestFile(path, fields)
        self._lock = lock
        self._is_new = False
        self._known = KnownAnswers()
        self._prompts = SharedPrompts(path / PROMPTS_FILE)
        self._journals: dict[str, Journal] = {}
        self._file = files.GrowingFile()
        self._index: BegunIndex | None = None
        self.noted_sums = NotedSums()
        """What earlier sessions have noted that the records on disk add up to."""
        self.steps = Steps(path, self.messages.append)

    @classmethod
    def folder_of(cls, output: Path, identity: Mapping[str, JSON]) -> Path | None:
        """Where `open` finds a run of this configuration; None where there is none. Raises UsageError."""
        path = find_folder(output, "", identity)
        return path if (path / manifest.MANIFEST_FILE).is_file() else None

    @classmethod
    def check(cls, output: Path, identity: Mapping[str, JSON]) -> None:
        """Refuse, without a change, what `open` refuses: an output that cannot be used, or is a run of another
        configuration. Raises UsageError."""
        check_output(output)
        path = find_folder(output, "", identity)
        if (path / manifest.MANIFEST_FILE).exists():
            manifest.require_same(path, identity)

    @classmethod
    def open(
        cls,
        output: Path,
        model_name: str,
        identity: Mapping[str, JSON],
        manifest_fields: Manifest,
        *,
        is_done: bool = False,
        begun: Begun | None = None,
        noting: bool = False,
    ) -> RunFolder:
        """The folder of this configuration: `output` itself, one below it, or a new one below it.

        identity: all that decides answers and scores, which a limit does not. manifest_fields: what else to write down.
        is_done: nothing is left to do in it, so that its records are not read; `end_unchanged` is all that follows.
        begun: what an earlier session has noted of it, of which the records are not read. noting: whether
        `note_begun` will be called.
        Raises UsageError when `output` cannot be used, is a run of another configuration, or is in use.
        """
        path = find_folder(output, model_name, identity)
        is_new = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(path)
        except OSError as error:
            raise unusable(output, error.strerror or str(error)) from error
        try:
            fields: Manifest = {}
            if (path / manifest.MANIFEST_FILE).exists():
                manifest.require_same(path, identity)
                fields = manifest.read_manifest(path)
            run = cls(path, fields, lock)
            run._is_new = is_new
            for other in renamed_runs(output, identity) if is_new else ():
                go_on = f"--output {shlex.quote(str(other))} goes on with it"
                run.messages.append(f"{other}: is a run of this configuration, too; {go_on}")
            run._manifest.begin_session({**manifest_fields, "identity": manifest.plain(identity)}, run.messages.append)
            run._index = BegunIndex(path, begun) if noting and not is_done else None
            if not is_done:
                run._recover(begun=begun)
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
        fields = manifest.read_manifest(path)
        try:
            lock = FolderLock(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from error
        run = cls(path, fields, lock)
        try:
            run._recover(learn=False)
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def read(cls, path: Path) -> Self:
        """An existing run folder, to be looked at; nothing in it is changed, and a running process is no hindrance.

        path: the folder, or one that holds no other run.
        """
        path = manifest.the_run(path)
        run = cls(path, manifest.read_manifest(path), None)
        record_files = run._record_files()
        run._prompts.load(run.messages.append, repair=False)
        for file in record_files:
            run._journal(file.name).survey()
        run._tell_lost()
        return run

    @property
    def manifest(self) -> Manifest:
        """What `manifest.json` holds."""
        return self._manifest.fields.copy()

    def take_messages(self) -> list[str]:
        """The messages that came since they were last taken, each once; of many lines that cannot be read, how many."""
        uncounted = filter(None, (journal.take_untold() for journal in self._journals.values()))
        taken = list(dict.fromkeys([*self.messages, *uncounted]))
        self.messages.clear()
        return taken

    @property
    def kind(self) -> Kind:
        """What the folder holds."""
        return self._manifest.fields["kind"]

    @property
    def unreadable(self) -> int:
        """How many lines of its files are no records, as far as that is known."""
        return sum(journal.unreadable for journal in self._journals.values())

    @property
    def known(self) -> Mapping[str, Response]:
        """Request key -> answer, for all answers without error on disk; none once the files are put in order."""
        return self._known

    @property
    def report(self) -> Report | None:
        """What `report.json` holds; None where the run has none yet. Raises UsageError where it is damaged."""
        return manifest.read_report(self.path / REPORT_FILE)

    def _repr_html_(self) -> str:
        """The result table, as a notebook shows it, in the language of the locale."""
        from harness.record.report_table import report_table

        t, report = translator(locale_language(None)), self.report
        if report is None:
            told = t("{run}: {n} samples, no report yet", run=self.path, n=f"{len(self):,}")
            return report_table({"kind": "run", "tasks": []}, told, t)
        return report_table(report, str(self.path), t)

    def __len__(self) -> int:
        """The number of samples on disk."""
        return sum(len(journal) for journal in self._journals.values())

    def find(self, sample: Sample, request_keys: Sequence[str], rules: str) -> OnDisk:
        """How far a sample is, that is asked these requests and scored by these rules (`Record.rules`)."""
        journal = self._journals.get(manifest.record_file(sample.task).casefold())
        known = journal.known(sample.key) if journal else None
        if known is None or known.answered is None:
            return OnDisk.ABSENT
        if known.answered != keys_digest(request_keys):
            return OnDisk.ASKED_OTHERWISE
        row = row_digest(sample.doc, sample.target, sample.choices, sample.cluster)
        return OnDisk.DONE if (known.row, known.rules) == (row, rules) else OnDisk.OUTDATED

    def note(self, **fields: Unpack[Manifest]) -> None:
        """Write into the manifest what became known later; a mapping is merged into the one that is there."""
        self.begin_work()
        self._manifest.note(fields)

    def note_model(self, described: Mapping[str, JSON]) -> None:
        """Write into the manifest what the model says of itself."""
        self.note(model=cast(ModelFields, dict(described)))

    def note_session(self, **fields: Unpack[SessionFields]) -> None:
        """Write into the manifest what became known of this session alone."""
        self._manifest.note_session(fields)

    def note_ended(self, fields: EndedFields) -> None:
        """Write into the manifest what tells the next command that nothing is left to do."""
        self._manifest.note_ended(fields)

    def note_begun(self, digest: str, remarks: Sequence[str], sums: Mapping[str, Any]) -> None:
        """Write down how far the files are, for a session that would ask the same. Raises SaveError.

        sums: what came since the last call, as `noted_sums` has all of them.
        """
        self._file.flush()
        beginnings = {journal.path.name: journal.beginning for journal in self._journals.values()}
        known = {name: beginning for name, beginning in beginnings.items() if beginning is not None}
        if self._index is None or len(known) < len(beginnings):
            return
        fields: BegunFields = {
            "digest": digest,
            "files": {**known, INDEX_FILE: self._index.note(sums)},
            "remarks": list(remarks),
        }
        files.replace_json(self.path / BEGUN_FILE, fields)

    def forget_begun(self) -> None:
        """Take away what `note_begun` wrote: the run has come to its end."""
        if self._index is not None:
            self._index.close()
        self._index = None
        forget_begun(self.path)

    def end_unchanged(self) -> None:
        """End a session that found all done. Raises SaveError."""
        self._manifest.end_session(FINISHED)

    def begin_work(self) -> None:
        """Say that this session is about to ask or to write something, and what it is told, in the manifest.

        Until then the manifest tells of the earlier sessions, with the bare fact of this one: a command that finds
        everything done changes nothing. What the model has said of itself stays until it says something else.
        """
        self._manifest.begin_work()

    def write(self, record: Record) -> None:
        """Put a record on disk; a kill right after this call does not lose it, unless `gathering`. Raises SaveError."""
        line = self._line(record)
        journal = self._journal(manifest.record_file(record.task))
        if journal.says(line):
            return
        if self._lock is not None and self._lock.is_lost:
            raise files.disturbed(self.path)
        self.begin_work()
        # Prompts first: no record on disk refers to what is not there.
        self._prompts.flush()
        place = journal.add(line)
        answers = zip(record.request_keys, record.responses, strict=True)
        keys = [key for key, response in answers if response.error is None]
        self._note_line(
            journal.path, line.key, place, keys, failed=record.error is not None or len(keys) < len(record.responses)
        )
        self._manifest.count_record()

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Within, records are written some at a time, which costs less than one by one: of a model that computes
        nothing, a kill loses no work."""
        self._file.gathers = GATHERED
        try:
            yield
        finally:
            self._file.gathers = 0
            self._file.flush()

    def rewrite(self, task: str, records: Iterable[Record]) -> None:
        """Put new records in the place of all of a task's, at one stroke (re-scoring). Raises SaveError."""

        def lines() -> Iterator[EncodedRecord]:
            for record in records:
                yield self._line(record)
            self._prompts.flush()

        self._journal(manifest.record_file(task)).rewrite(task, lines())

    def records(self, task: str | None = None, skip: int = 0) -> Iterator[Record]:
        """The records of a task, or all, one at a time, each sample's last line only.

        A line that cannot be read is left out and named in `messages`; where the sample has an earlier one, that comes
        last. skip: so many of the first are left out, of a file in which each sample has one line.
        """
        own = self._journals.get(manifest.record_file(task).casefold()) if task is not None else None
        for journal in list(self._journals.values()) if task is None else [own] if own else []:
            unread: set[SampleKey] = set()
            for number, line in journal.read(skip):
                try:
                    fields = parse_line(line, is_known=journal.is_looked_at)
                    record = decode_record(fields, self._prompts.resolve)
                except UNREADABLE as error:
                    journal.complain(number, error)
                    if not journal.is_looked_at and (key := line_key(line)) is not None:
                        unread.add(key)
                    continue
                if task is None or record.task == task:
                    yield record
            for record in self._earlier(journal.path, unread) if unread else ():
                if task is None or record.task == task:
                    yield record

    def _earlier(self, file: Path, keys: Collection[SampleKey]) -> Iterator[Record]:
        """The last records that can be read of samples whose last line cannot."""
        found: dict[SampleKey, Record] = {}
        for _, _, line in files.lines(file):
            if (key := line_key(line)) is not None and key in keys:
                with contextlib.suppress(*UNREADABLE):
                    found[key] = decode_record(parse_line(line), self._prompts.resolve)
        yield from found.values()

    def record(self, key: SampleKey) -> Record:
        """The record of a sample that is on disk. Raises SaveError where its line is not as it was."""
        line = self._journal(manifest.record_file(key.task)).line(key)
        return decode_record(parse_line(line, is_known=True), self._prompts.resolve)

    def count(self, task: str) -> int:
        """How many samples are in the file of a task."""
        own = self._journals.get(manifest.record_file(task).casefold())
        return len(own) if own is not None else 0

    def is_as_written(self, task: str) -> bool:
        """Whether the file of a task holds what this process has written or looked at, and nothing else."""
        return self._journal(manifest.record_file(task)).is_as_written

    def put_in_order(self) -> None:
        """One line a sample, by subset (in the order of the manifest's `tasks`) and id. Raises SaveError.

        What is computed from the records afterwards does not depend on the order in which a model gave its answers.
        """
        self._manifest.end_work()
        self._known.forget()
        rank = _ranking(self._manifest.fields.get("tasks", {}))
        ordered = sorted(self._journals.values(), key=lambda journal: journal.rank(rank))
        for journal in ordered:
            journal.compact(rank)
        # After the records: until here every prompt is still there, so that a kill between the two loses nothing.
        self._prompts.compact(prefix for journal in ordered for prefix in journal.prefixes())

    def finish(self, status: str, report: Report | None = None, page: PageSamples | None = None) -> None:
        """End the run: files in order, report written, status in the manifest. Raises SaveError.

        A file then holds one line a sample, by subset (in the order of the manifest's `tasks`) and id, so that a run
        that was killed and resumed leaves the same files as one that was not, `seconds` aside. A run that did not end
        well (any status but `finished`) leaves its files as they are, for the next time.
        page: what the report's page says of the samples, where somebody has looked at them; else they are read for it.
        """
        if status == FINISHED:
            self.put_in_order()
        if report is not None:
            self.replace_report(report, page)
        try:
            self._manifest.end_session(status)
        except SaveError:
            # Another error ends this run; that the manifest still says `running` takes nothing from the next one.
            if status == FINISHED:
                raise

    def replace_report(self, report: Report, page: PageSamples | None = None) -> None:
        """Write `report.json` and its page anew; `page` as of `finish`. Raises SaveError."""
        from harness.record.html import PageSamples, page_html  # a run ends with it, and few commands get there

        plain = jsonable(report)
        files.replace_json(self.path / REPORT_FILE, plain)
        html = page_html(plain, page or PageSamples.of(plain, self.records()), locale_language(None))
        files.replace(self.path / HTML_FILE, [html.encode("utf-8", "replace")])

    def discard_if_new(self) -> None:
        """Take the folder away where this process made it: nothing came of the work, and `report` would find it.

        Not where a model keeps something in a folder below it, to go on with.
        """
        if self._is_new and not any(path.is_dir() for path in self.path.iterdir()):
            self.close()
            shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        """Let other processes in."""
        try:
            self._file.close()
            if self._index is not None:
                self._index.close()
        finally:
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell_lost(self) -> None:
        """Name the files that hold fewer samples than the report is of: one was cut, or is gone."""
        if self.kind != "run":  # a judge has no answer of what it was not asked
            return
        with contextlib.suppress(UsageError):  # whoever needs the report is told what is wrong with it
            for task, covered in coverage_of(self.report or {"kind": "run", "tasks": []}).items():
                if (lost := covered.count - self.count(task)) > 0:
                    file, of = self.path / manifest.record_file(task), f"the report is of {covered.count} samples"
                    n = "1 is" if lost == 1 else f"{lost} are"
                    self.messages.append(f"{file}: {of}, of which {n} not there; the command of the run asks again")

    def _recover(self, *, learn: bool = True, begun: Begun | None = None) -> None:
        """Repair and index the files. learn: keep the answers, which nobody asks for where no model will be asked."""
        if self._lock is not None and self._lock.is_lease:
            self.messages.append(f"{self.path}: this file system knows no locks; the file {LEASE_FILE} stands for one")
        for temporary in self.path.glob(f".*{files.UNFINISHED}"):
            temporary.unlink()
        record_files = self._record_files()
        self._prompts.load(self.messages.append, repair=True)
        if begun is not None:
            self._known, self.noted_sums = begun.answers, begun.sums
        noted = begun.lines if begun is not None else {}
        for file in record_files:
            accept = functools.partial(self._learn, file) if learn else self._check
            self._journal(file.name).recover(accept, noted.get(file.name))
        if lost := next((name for name in noted if self.path / name not in record_files), None):
            raise files.disturbed(self.path / lost)

    def _check(self, fields: RecordLine, place: LinePosition) -> LinePosition:
        """Accept a line; see `Journal.recover`. What is accepted can be read back whole."""
        self._readable(fields)
        return place

    def _readable(self, fields: RecordLine) -> Record:
        prefix = fields["prompt"].get("prefix")
        if prefix is not None and prefix not in self._prompts:
            raise ValueError(f"its shared prompt {prefix} is not in {PROMPTS_FILE}")
        record = decode_record(fields, self._prompts.resolve)
        if len(record.request_keys) != len(record.responses):
            raise ValueError(f"{len(record.request_keys)} request_keys for {len(record.responses)} responses")
        return record

    def _knowledge(self, fields: RecordLine) -> Knowledge:
        """What a line says of its sample."""
        record = self._readable(fields)
        done = record.error is None and all(response.error is None for response in record.responses)
        rules = record.rules
        if not rules and "rescored" not in self._manifest.fields:
            # Version 1 did not say by which rules: unless it was scored again later, by those of the run.
            of_run = self._manifest.fields.get("identity", {}).get("tasks")
            rules = of_run.get(record.task, "") if isinstance(of_run, dict) else ""
        return Knowledge(keys_digest(record.request_keys) if done else None, line_digest(fields), rules)

    def _learn(self, file: Path, fields: RecordLine, place: LinePosition) -> LinePosition:
        """Accept a line, and learn where its answers are."""
        known = self._knowledge(fields)
        answers = zip(fields["request_keys"], fields["responses"], strict=True)
        keys = [key for key, response in answers if response.get("error") is None]
        self._note_line(file, key_in(fields), place, keys, failed=known.answered is None)
        return place._replace(known=known)

    def _note_line(
        self, file: Path, key: SampleKey, place: LinePosition, answered: Sequence[str], *, failed: bool
    ) -> None:
        """Learn where the answers to some requests are, and keep it for the next session."""
        hashes = self._known.learn(file, answered, place.offset)
        if self._index is not None:
            self._index.add(file.name, key, place, hashes, failed=failed)

    def _line(self, record: Record) -> EncodedRecord:
        reference = self._prompts.refer(record.prompt)
        return EncodedRecord.of(record.key, encode_record(record, reference), reference)

    def _record_files(self) -> list[Path]:
        record_files = sorted(self.path.glob("*.jsonl"))
        for file in record_files:
            if not file.is_file():
                raise UsageError(f"{file}: no regular file; take it out of the run folder")
        return [file for file in record_files if file.name != PROMPTS_FILE]

    def _journal(self, name: str) -> Journal:
        # Names that differ in case alone are one file on some systems, so they are one journal on all.
        folded = name.casefold()
        if folded not in self._journals:
            self._journals[folded] = Journal(self.path / name, self.messages.append, self._file, self._knowledge)
        return self._journals[folded]


def _ranking(tasks: Mapping[str, TaskFields]) -> Callable[[SampleKey], tuple[int, int]]:
    """Where a task and a subset stand in the run; those that are not in the manifest come last."""
    task_ranks = {task: rank for rank, task in enumerate(tasks)}
    subset_ranks = {
        (task, subset): rank for task, fields in tasks.items() for rank, subset in enumerate(fields.get("subsets", ()))
    }

    def rank(key: SampleKey) -> tuple[int, int]:
        return task_ranks.get(key[0], len(task_ranks)), subset_ranks.get(key[:2], len(subset_ranks))

    return rank
