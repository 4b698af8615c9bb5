"""Whether a model may have seen a benchmark: its rows in a corpus, and what the model itself betrays.

found = in_corpus(spec, Path("corpus"))         # task -> which rows stand in which document
for probe in probes(spec): print(probe.sentence)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from datetime import date as calendar_date
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.corpus import Trouble, documents, pictures, row_texts
from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.manifest import the_run
from harness.record.report_fields import ContaminationFields, OverlapFields
from harness.record.run import RunFolder
from harness.record.seen_rows import (
    note_contamination,
    overlap_sentences,
    read_contamination,
    write_contamination,
)
from harness.registry import Registry, load_plugins
from harness.run.answers import plugin_errors
from harness.run.jobs import TaskJob, close_code, load_jobs
from harness.run.prepare import prepare_models, resolved
from harness.run.probes import Probe, TextAsker, first_views, probes_of, seen_and_later
from harness.run.sample_facts import AskedSamples
from harness.run.samples import render_samples
from harness.run.spec import Progress, RunSpec
from harness.secret import MASK
from harness.stopwatch import Stopwatch
from harness.types import UNREADABLE, Sample
from harness.words import Translate, english, phrase

if TYPE_CHECKING:
    from harness.data.picture_hash import Bits
    from harness.scoring.statistics.overlap import CorpusMatch

_NOT_ASKED = (
    "modify", "metrics", "log_to", "shard", "executor", "precision", "until_decided", "recipe", "budget",
    "budget_tokens", "output_path", "user_model", "num_fewshot", "fewshot_sampler", "task_gen_kwargs", "repeats",
    "batch_api",
)  # fmt: skip
"""What a run may have been told that is of no use to whoever looks at its rows."""
RowKey = tuple[str, int]
"""A subset and the number of a row in it."""


@dataclass(frozen=True, slots=True)
class PictureMatch:
    """Where a picture of a row stands. differing: how many of 255 bits of its hash are others there."""

    place: str
    differing: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """What of a task stands in a corpus. rows: how many were looked for; matches: (subset, number) -> where.

    pictured: how many rows show pictures that can be looked for; pictures: how many the corpus has; alike: (subset,
    number) -> where its pictures stand.
    """

    task: str
    rows: int
    too_short: int
    documents: int
    matches: Mapping[RowKey, CorpusMatch]
    pictured: int = 0
    pictures: int = 0
    alike: Mapping[RowKey, PictureMatch] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        return self.said()

    def said(self, t: Translate = english) -> str:
        """The sentence in a language; a second one of pictures, where rows show some."""
        return "\n".join(overlap_sentences(self.task, self.fields(""), t))

    def fields(self, corpus: str) -> OverlapFields:
        """As a run folder keeps it. corpus: what is said of where it lies."""
        return {
            "corpus": corpus,
            "rows": self.rows,
            "found": len(self.matches),
            "too_short": self.too_short,
            "documents": self.documents,
            "pictured": self.pictured,
            "alike": len(self.alike),
            "pictures": self.pictures,
            "first": _first(self.matches),
            "first_alike": _first(self.alike),
        }


def _first(matches: Mapping[RowKey, CorpusMatch] | Mapping[RowKey, PictureMatch]) -> list[list[str]]:
    """The first three rows, each with its place."""
    return [[f"{key[0]} {key[1]}".strip(), matches[key].place] for key in list(matches)[:3]]


def spec_of_run(path: Path, registry: Registry) -> RunSpec:
    """What a run asked and which model, as `in_corpus` and `probes` take it. Raises `UsageError`."""
    run = RunFolder.read(path)
    if run.kind == "judgement" or "spec" not in run.manifest:
        raise UsageError(f"--run {path}: holds no answers of a model to tasks, but {run.kind}s")
    read_contamination(run.path)  # what is kept must be readable before something is added to it
    told = RunSpec.from_json(run.manifest["spec"])
    hidden = [name for name in registry.model(told.model).secrets if told.model_args.get(name) == MASK]
    args = {name: value for name, value in told.model_args.items() if name not in hidden}
    plain = RunSpec(tasks=())
    kept = {name: getattr(plain, name) for name in _NOT_ASKED}
    return replace(told, model_args=args, **kept)


def keep_overlap(run: Path, overlap: Overlap, corpus: Path) -> None:
    """Keep in a run folder what of a task stands in a corpus. Raises `HarnessError`."""
    fields: ContaminationFields = {"date": _today(), "corpus": overlap.fields(str(corpus))}
    write_contamination(the_run(run), overlap.task, fields)


def keep_probe(run: Path, probe: Probe) -> None:
    """Keep in a run folder what a probe found. Raises `HarnessError`."""
    write_contamination(the_run(run), probe.task, {"date": _today(), "probes": [probe.fields]})


def _today() -> str:
    return calendar_date.today().isoformat()


def tell_report(run: Path, progress: Progress) -> None:
    """Have the report of a run say what is kept in its folder. Raises `HarnessError`."""
    with RunFolder.reopen(run) as folder:
        if (report := folder.report) is not None:
            note_contamination(report, folder.manifest, read_contamination(folder.path))
            folder.replace_report(report)
        for message in folder.take_messages():
            progress.message(message)


def loaded_tasks(spec: RunSpec, registry: Registry, progress: Progress) -> list[TaskJob]:
    """The tasks of `spec` with their rows. Raises `HarnessError`."""
    jobs = load_jobs(spec, registry, progress)
    render_samples(jobs, spec, registry, progress, Stopwatch(), shown=False)
    return jobs


def in_corpus(
    spec: RunSpec,
    corpus: Path,
    trouble: Trouble,
    registry: Registry | None = None,
    progress: Progress | None = None,
) -> list[Overlap]:
    """Which rows of each task stand in the documents of a folder, and which of their pictures in its pictures.

    trouble: is told what could not be read. Raises `HarnessError`.
    """
    from harness.scoring.statistics.overlap import OverlapIndex

    progress = progress or Progress()
    jobs = loaded_tasks(spec, registry or load_plugins(), progress)
    try:
        rows = [(job, first_views(job)) for job in jobs]
        indices = [
            OverlapIndex([list(row_texts(sample.doc, job.task.media_names)) for sample in samples])
            for job, samples in rows
        ]
        shown = [_PictureIndex(samples, trouble) for _, samples in rows]
        progress.stage(phrase("reading the corpus"))
        for place, text in documents(corpus, trouble):
            for index in indices:
                index.look(place, text)
        if any(pictures_of.rows for pictures_of in shown):
            for place, data in pictures(corpus, trouble):
                if (hashed := _hashed(data, place, trouble)) is not None:
                    for pictures_of in shown:
                        pictures_of.look(place, hashed)
        return [
            Overlap(
                job.task.name,
                len(samples),
                len(index.too_short),
                index.documents,
                {(samples[row].subset, samples[row].id): match for row, match in index.matches.items()},
                len(set(pictures_of.rows)),
                pictures_of.pictures,
                pictures_of.matches,
            )
            for (job, samples), index, pictures_of in zip(rows, indices, shown, strict=True)
        ]
    finally:
        close_code(jobs)


class _PictureIndex:
    """The hashes of the pictures of rows, and the best match of each row in what was looked at. A picture of several
    rows is of each of them."""

    def __init__(self, samples: Sequence[Sample], trouble: Trouble) -> None:
        import numpy as np

        self.rows: list[RowKey] = []
        self.pictures = 0
        self.matches: dict[RowKey, PictureMatch] = {}
        known: dict[str, Bits | None] = {}
        hashes: list[Bits] = []
        for sample in samples:
            for media in {
                media.sha256: media for each in sample.requests for media in each.prompt.shown_media
            }.values():
                if media.kind != "image":
                    continue
                where = f"{sample.subset} {sample.id}".strip()
                if media.sha256 not in known:
                    try:
                        known[media.sha256] = _hashed(media.read(), where, trouble)
                    except UNREADABLE as error:
                        trouble.note(f"a picture that cannot be read ({type(error).__name__})", where)
                        known[media.sha256] = None
                if (hashed := known[media.sha256]) is not None:
                    self.rows.append((sample.subset, sample.id))
                    hashes.append(hashed)
        self._hashes = np.stack(hashes) if hashes else None

    def look(self, place: str, hashed: Bits) -> None:
        """Note which rows show the picture."""
        from harness.data.picture_hash import ALIKE, distances

        self.pictures += 1
        if self._hashes is None:
            return
        found = distances(hashed, self._hashes)
        for number in (found <= ALIKE).nonzero()[0].tolist():
            best = self.matches.get(self.rows[number])
            if best is None or int(found[number]) < best.differing:
                self.matches[self.rows[number]] = PictureMatch(place, int(found[number]))


def _hashed(data: bytes, place: str, trouble: Trouble) -> Bits | None:
    from harness.data.picture_hash import picture_hash

    try:
        hashed = picture_hash(data)
    except ValueError as error:
        trouble.note(str(error), place)
        return None
    if hashed is None:
        trouble.note("a picture of one colour", place)
    return hashed


def probes(
    spec: RunSpec, unseen: Sequence[str] = (), registry: Registry | None = None, progress: Progress | None = None
) -> Iterator[Probe]:
    """Every probe (`harness.run.probes`) of the model of `spec` and each task.

    unseen: tasks of the same kind whose rows the model cannot have seen; rows that are dated later than `spec.cutoff`
    are such too. Raises `HarnessError`.
    """
    registry, progress = registry or load_plugins(), progress or Progress()
    jobs = loaded_tasks(spec, registry, progress)
    others = loaded_tasks(replace(spec, tasks=tuple(unseen)), registry, progress) if unseen else []
    try:
        (model,) = prepare_models([resolved(spec, registry)], registry, lambda _: AskedSamples.of(()), progress)
        try:
            if not {"rolling", "loglikelihood"} <= model.supports:
                raise UsageError(f"--model {spec.model}: cannot say how likely a text is, which the probes are made of")
            with plugin_errors(spec.model, "could not be loaded"):
                model.load()
            ask = TextAsker(model, spec.model)
            unseen_rows = [row for other in others for row in seen_and_later(other, None)[0]]
            for job in jobs:
                rows, later = seen_and_later(job, spec.cutoff)
                yield from probes_of(job.task.name, rows, [*later, *unseen_rows], ask, spec.seed)
        finally:
            model.close()
    finally:
        close_code([*jobs, *others])
