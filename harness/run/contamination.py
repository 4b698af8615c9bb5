"""Whether a model may have seen a benchmark: its rows in a corpus, and what the model itself betrays.

found = in_corpus(spec, Path("corpus"))         # task -> which rows stand in which document
for probe in probes(spec): print(probe.sentence)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.corpus import Trouble, documents, row_texts
from harness.errors import DataError, TaskError, UsageError
from harness.model import Model
from harness.registry import Registry, load_plugins
from harness.run.answers import answers, plugin_errors
from harness.run.jobs import TaskJob, close_code, load_jobs
from harness.run.prepare import prepare_models, resolved
from harness.run.samples import render_samples
from harness.run.spec import Progress, RunSpec
from harness.stopwatch import Stopwatch
from harness.tasks.answer_options import find_options, value
from harness.tasks.modify import infer_options
from harness.tasks.schema import OptionsEntry, words
from harness.types import Prompt, Request, Sample

if TYPE_CHECKING:
    from harness.scoring.statistics.exchange import TestResult
    from harness.scoring.statistics.overlap import CorpusMatch

ROWS_IN_A_SHARD = 5
CHARACTERS_IN_A_SHARD = 2000
"""Rows that are read together; their text has to fit the model's window."""
ORDERS = 8
"""Other orders that each shard is compared with."""
OPTION_ORDERS = 7
LETTERS = "ABCDEFGHIJ"
CLEAR = 0.01
"""A p-value below which a probe says that the model has seen the rows."""

Ask = Callable[[Sequence[str]], list[float | None]]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What of a task stands in a corpus. rows: how many were looked for; matches: (subset, number) -> where."""

    task: str
    rows: int
    too_short: int
    documents: int
    matches: Mapping[tuple[str, int], CorpusMatch]

    @property
    def sentence(self) -> str:
        what = f"{self.task}: {len(self.matches):,} of {self.rows:,} rows stand in the corpus "
        what += f"({self.documents:,} documents"
        what += f"; {self.too_short:,} rows are too short to be looked for)" if self.too_short else ")"
        first = [f"{subset} {number}".strip() + f" in {each.place}" for (subset, number), each in self.matches.items()]
        return what + (f": {', '.join(first[:3])}" + (" ..." if len(first) > 3 else "") if first else "")


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe says of a model and a task. left_out: reason -> rows or shards that could not be used."""

    task: str
    name: str
    result: TestResult
    left_out: Mapping[str, int]

    @property
    def sentence(self) -> str:
        result = self.result
        unit = "shards of rows" if self.name == "order of rows" else "questions"
        if result.p is None:
            said = f"nothing can be said from {result.n} {unit}"
        else:
            effect = f"{result.effect:+.3f} " + ("nats a shard" if self.name == "order of rows" else "of a rank")
            said = (
                f"the model likes the {self.name} of the benchmark "
                + ("more than chance allows: it has seen them" if result.p < CLEAR else "no more than chance allows")
                + f" (p = {result.p:.2g}, {effect}, {result.n} {unit})"
            )
        out = "; ".join(f"{count} left out: {reason}" for reason, count in self.left_out.items())
        return f"{self.task}: {said}" + (f"; {out}" if out else "")


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
    """Which rows of each task stand in the documents of a folder. trouble: is told what could not be read."""
    from harness.scoring.statistics.overlap import OverlapIndex

    progress = progress or Progress()
    jobs = loaded_tasks(spec, registry or load_plugins(), progress)
    try:
        rows = [(job, _first_views(job.samples)) for job in jobs]
        indices = [
            OverlapIndex([list(row_texts(sample.doc, job.task.media_names)) for sample in samples])
            for job, samples in rows
        ]
        progress.stage("reading the corpus")
        for place, text in documents(corpus, trouble):
            for index in indices:
                index.look(place, text)
        return [
            Overlap(
                job.task.name,
                len(samples),
                len(index.too_short),
                index.documents,
                {(samples[row].subset, samples[row].id): match for row, match in index.matches.items()},
            )
            for (job, samples), index in zip(rows, indices, strict=True)
        ]
    finally:
        close_code(jobs)


def probes(spec: RunSpec, registry: Registry | None = None, progress: Progress | None = None) -> Iterator[Probe]:
    """Ask the model of `spec` for the likelihood of the rows of each task in their order and in others, and of their
    options in theirs and in others. Raises `HarnessError`."""
    registry, progress = registry or load_plugins(), progress or Progress()
    jobs = loaded_tasks(spec, registry, progress)
    try:
        (model,) = prepare_models([resolved(spec, registry)], registry, list, progress)
        try:
            if "rolling" not in model.supports:
                raise UsageError(f"--model {spec.model}: cannot say how likely a text is, which the probes are made of")
            with plugin_errors(spec.model, "could not be loaded"):
                model.load()
            ask = _asker(model, spec.model)
            for job in jobs:
                yield _row_order(job, ask, spec.seed)
                if (probe := _option_order(job, ask, spec.seed)) is not None:
                    yield probe
        finally:
            model.close()
    finally:
        close_code(jobs)


def _asker(model: Model, name: str) -> Ask:
    """Log-likelihoods of whole texts, in nats; None for one that failed or was longer than the model's window."""

    def ask(texts: Sequence[str]) -> list[float | None]:
        known: list[float | None] = [None] * len(texts)
        for index, response in answers(model, name, [Request("rolling", Prompt(suffix=text)) for text in texts]):
            if response.error is None and response.logprobs and not response.truncated:
                known[index] = response.logprobs[0]
        return known

    return ask


def _row_order(job: TaskJob, ask: Ask, seed: int) -> Probe:
    """Shards of rows that follow one another within a subset, in their order and in others."""
    from harness.scoring.statistics.exchange import order_test

    generator = random.Random(seed)
    shards = list(_shards(job))
    texts: list[str] = []
    for rows in shards:
        orders = [rows]
        while len(orders) <= ORDERS:
            other = generator.sample(rows, len(rows))
            if other != rows:
                orders.append(other)
        texts += ["\n\n".join(order) for order in orders]
    known = ask(texts)
    canonical, shuffled, left_out = [], [], 0
    for start in range(0, len(known), ORDERS + 1):
        one, *others = known[start : start + ORDERS + 1]
        values = [value for value in others if value is not None]
        if one is None or len(values) < ORDERS:
            left_out += 1
            continue
        canonical.append(one)
        shuffled.append(values)
    reasons = {"shards longer than the model's window, or without an answer": left_out} if left_out else {}
    return Probe(job.task.name, "order of rows", order_test(canonical, shuffled), reasons)


def _shards(job: TaskJob) -> Iterator[list[str]]:
    """Texts of rows that follow one another, of one subset, different from one another."""
    rows: list[str] = []
    subset = None
    for sample in _first_views(job.samples):
        text = _as_seen(sample, job)
        is_full = len(rows) == ROWS_IN_A_SHARD or sum(map(len, rows)) + len(text) > CHARACTERS_IN_A_SHARD
        if rows and (sample.subset != subset or is_full):
            if len(set(rows)) > 1:
                yield rows
            rows = []
        subset = sample.subset
        rows.append(text)
    if len(set(rows)) > 1:
        yield rows


def _option_order(job: TaskJob, ask: Ask, seed: int) -> Probe | None:
    """Questions with their options in their order and in others; None for a task that does not say what they are."""
    from harness.scoring.statistics.exchange import rank_test

    entry = job.task.config.options or infer_options(job.task.config)
    if entry is None:
        return None
    generator = random.Random(seed)
    texts: list[str] = []
    left_out: dict[str, int] = {}
    for sample in _first_views(job.samples):
        question, options = _asked(sample, entry)
        if len(set(options)) < 3:
            left_out["fewer than three options"] = left_out.get("fewer than three options", 0) + 1
            continue
        if _is_sorted(options):
            reason = "numbers in their order, which anybody would write so"
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        orders = [options]
        while len(orders) <= OPTION_ORDERS:
            other = generator.sample(options, len(options))
            if other != options:
                orders.append(other)
        texts += [_lettered(question, order) for order in orders]
    known = ask(texts)
    canonical, others = [], []
    for start in range(0, len(known), OPTION_ORDERS + 1):
        one, *rest = known[start : start + OPTION_ORDERS + 1]
        values = [each for each in rest if each is not None]
        if one is None or len(values) < OPTION_ORDERS:
            left_out["without an answer"] = left_out.get("without an answer", 0) + 1
            continue
        canonical.append(one)
        others.append(values)
    return Probe(job.task.name, "order of options", rank_test(canonical, others), left_out)


def _asked(sample: Sample, entry: OptionsEntry) -> tuple[str, list[str]]:
    """The question of a row and its options; none where it is not as the task says."""
    try:
        options = list(find_options(sample.doc, entry).texts)
        names = words(entry.question) if entry.question else ()
        return "\n".join(str(value(sample.doc, name)) for name in names), options
    except (DataError, TaskError, LookupError):
        return "", []


def _lettered(question: str, options: Sequence[str]) -> str:
    """A question as exams are printed."""
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))])


def _as_seen(sample: Sample, job: TaskJob) -> str:
    """A row as pages show it: question and options, or whatever texts it has."""
    entry = job.task.config.options or infer_options(job.task.config)
    question, options = _asked(sample, entry) if entry is not None else ("", [])
    return _lettered(question, options) if options else "\n".join(row_texts(sample.doc, job.task.media_names))


def _is_sorted(options: Sequence[str]) -> bool:
    """Whether options are numbers (with whatever else) that rise or fall."""
    numbers = []
    for option in options:
        digits = "".join(character for character in option if character.isdigit() or character in ".-")
        try:
            numbers.append(float(digits))
        except ValueError:
            return False
    return numbers in (sorted(numbers), sorted(numbers, reverse=True))


def _first_views(samples: Iterable[Sample]) -> list[Sample]:
    """A sample a row."""
    return list({(sample.subset, sample.id): sample for sample in reversed(list(samples))}.values())[::-1]
