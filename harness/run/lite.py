"""Makes lite sets of tasks, measures how far their estimates lie from full scores, and estimates full scores by them.

for lite in make_lite_sets(spec, size=200, method="kcenter", runs=["runs/a", "runs/b"]):
    write_lite(lite, Path(f"{lite.task}.lite.json"))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.corpus import row_texts
from harness.errors import DataError, UsageError
from harness.quick import dataclass
from harness.record.coverage import TaskCoverage
from harness.record.manifest import model_title
from harness.record.report_fields import LiteFields
from harness.registry import Registry, load_plugins
from harness.run.compare import RunSide
from harness.run.jobs import TaskJob, close_code, load_jobs
from harness.run.samples import render_samples
from harness.run.spec import Progress, RunSpec
from harness.stopwatch import Stopwatch
from harness.tasks.lite_files import LiteCheck, LiteRow, LiteSet, row_hash
from harness.types import UNREADABLE, Record, Sample

if TYPE_CHECKING:
    from harness.engine.embeddings import EmbeddingModel
    from harness.scoring.statistics.estimates import Estimate, Floats
    from harness.scoring.statistics.representative import Chosen

BY_RUNS = ("anchors", "irt")
"""Methods that choose by what runs scored."""
Row = tuple[str, int]
"""A subset and the number of a row in it."""
METHODS: Mapping[str, str] = {
    "kcenter": "greedy k-center on character TF-IDF",
    "anchors": "anchors of clusters of rows that models answered alike",
    "irt": "anchors of clusters of rows of alike difficulty and discrimination (two-parameter item response theory)",
    "random": "rows at random",
}


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """What a run scored on the rows of a task, and what it is called."""

    title: str
    scores: Mapping[Row, float]

    @classmethod
    def of(cls, path: str, task: str, metric: str, rows: Iterable[Row] = ()) -> ScoredRun:
        """rows: those that it must have scored most of. Raises `UsageError`."""
        side = RunSide(path, None)
        if task not in side.tasks:
            raise UsageError(f"--runs {path}: the run has no task '{task}' (it has {', '.join(side.tasks)})")
        scores: dict[Row, float] = {}
        for record in side.rows(task):
            score = record.scores.get(metric)
            if isinstance(score, int | float) and math.isfinite(score):
                scores[record.subset, record.id] = float(score)
        wanted = list(rows)
        has = sum(row in scores for row in wanted)
        if not scores or has < 0.9 * len(wanted):
            raise UsageError(
                f"--runs {path}: it has a score '{metric}' of {has:,} of the {len(wanted):,} rows of '{task}'; a full "
                "score is of all of them"
            )
        if len(set(scores.values())) == 1:
            raise UsageError(
                f"--runs {path}: all its scores of '{task}' are the same, and any rows would estimate them without "
                "error; leave it out"
            )
        manifest = side.manifest
        return cls(str(manifest.get("spec", {}).get("name") or model_title(manifest)), scores)


def make_lite_sets(
    spec: RunSpec,
    size: int,
    method: str,
    runs: Sequence[str] = (),
    registry: Registry | None = None,
    progress: Progress | None = None,
    embeddings: Sequence[str] = (),
) -> Iterator[LiteSet]:
    """A lite set of each task of `spec`, of about `size` rows, in proportion to its subsets, checked on `runs`.

    Where `method` chooses by the scores of the runs, each run is estimated by a set that the others chose. embeddings:
    folders of models whose vectors of texts and pictures `kcenter` takes; character TF-IDF where there are none.
    Raises `HarnessError`.
    """
    if method in BY_RUNS and len(runs) < 2:
        raise UsageError(f"--method {method}: rows are chosen by how models answered them; give at least two --runs")
    if embeddings and method != "kcenter":
        raise UsageError(f"--embedding: --method {method} does not look at what rows say; it is for kcenter")
    _refuse_twice(runs)
    models = _embedding_models(embeddings)
    registry, progress = registry or load_plugins(), progress or Progress()
    jobs = load_jobs(spec, registry, progress)
    try:
        render_samples(jobs, spec, registry, progress, Stopwatch(), shown=False)
        for job in jobs:
            if job.task.lite is not None or job.task.modifiers:
                raise UsageError(f"{job.task.name}: a lite set is made of a whole task as its file has it")
            yield _make(job, spec.seed, size, method, runs, models)
    finally:
        close_code(jobs)


def _refuse_twice(paths: Sequence[str]) -> None:
    """A run that is named twice would be a check on itself."""
    places = [Path(path).resolve() for path in paths]
    if twice := next((path for path, place in zip(paths, places, strict=True) if places.count(place) > 1), None):
        raise UsageError(f"--runs {twice}: is named twice")


def _embedding_models(folders: Sequence[str]) -> list[EmbeddingModel]:
    if not folders:
        return []
    from harness.engine.embeddings import EmbeddingModel

    return [EmbeddingModel(Path(folder)) for folder in folders]


def _make(
    job: TaskJob, seed: int, size: int, method: str, paths: Sequence[str], models: Sequence[EmbeddingModel]
) -> LiteSet:
    rows = {(sample.subset, sample.id): sample for sample in job.samples if sample.target is not None}
    if len(rows) <= size:
        raise UsageError(
            f"--size {size}: task '{job.task.name}' has {len(rows)} rows with a gold answer: nothing to choose"
        )
    media, metric = job.task.media_names, job.scorer.reported[0].name
    names = " and ".join(model.name for model in models)
    how = f"greedy k-center on embeddings of {names}" if models else METHODS[method]
    runs = [ScoredRun.of(path, job.task.name, metric, rows) for path in paths]
    by_subset: dict[str, list[Row]] = {}
    for row in rows:
        by_subset.setdefault(row[0], []).append(row)
    texts = {row: "\n".join(row_texts(sample.doc, media)) for row, sample in rows.items()}
    vectors = _embedded(job.task.name, rows, texts, models) if models else {}

    def lite(by: Sequence[ScoredRun]) -> LiteSet:
        # Clusters of few rows have few rows to choose from: those of a micro mean are of all subsets together.
        together = method in BY_RUNS and job.task.scoring.average == "micro"
        strata = [list(rows)] if together else list(by_subset.values())
        weights = _chosen(strata, size, _chooser(method, texts, vectors, _table(list(rows), by), seed))
        chosen: dict[str, dict[int, LiteRow]] = {}
        for (subset, number), weight in weights.items():
            digest = row_hash(rows[subset, number].doc, media)
            chosen.setdefault(subset, {})[number] = LiteRow(weight, digest)
        sizes = {name: len(members) for name, members in by_subset.items()}
        titles = tuple(run.title for run in by) if method in BY_RUNS else ()
        return LiteSet(job.task.name, how, seed, chosen, sizes, titles)

    whole = lite(runs)
    if not runs:
        return whole
    if method in BY_RUNS:
        estimates = [_scores_of(lite([other for other in runs if other is not run]), run, job) for run in runs]
    else:
        estimates = [_scores_of(whole, run, job) for run in runs]
    return replace(whole, check=checked([run.title for run in runs], metric, estimates))


def _embedded(
    task: str, rows: Mapping[Row, Sample], texts: Mapping[Row, str], models: Sequence[EmbeddingModel]
) -> dict[Row, Floats]:
    """Row -> its vectors by all models, one behind the other. Raises `DataError` for a picture that cannot be read."""
    import numpy as np

    def seen(row: Row) -> list[bytes]:
        shown = (media for request in rows[row].requests for media in request.prompt.shown_media)
        return [media.read() for media in {media.sha256: media for media in shown if media.kind == "image"}.values()]

    try:
        pictures = [seen(row) if any(model.sees for model in models) else [] for row in rows]
        found = [model.vectors([texts[row] for row in rows], pictures) for model in models]
    except UNREADABLE as error:
        raise DataError(f"--embedding: a picture of task '{task}' cannot be read ({type(error).__name__})") from error
    return dict(zip(rows, np.concatenate(found, axis=1), strict=True))


def _table(rows: Sequence[Row], runs: Sequence[ScoredRun]) -> dict[Row, list[float]]:
    """Row -> what each run scored; where it has no score, its mean."""
    means = [math.fsum(run.scores.values()) / len(run.scores) for run in runs]
    return {row: [run.scores.get(row, mean) for run, mean in zip(runs, means, strict=True)] for row in rows}


def _chooser(
    method: str, texts: Mapping[Row, str], vectors: Mapping[Row, Floats], table: Mapping[Row, list[float]], seed: int
) -> Callable[[Sequence[Row], int], Chosen]:
    """What chooses a number of rows among some. vectors: of embeddings, in the place of TF-IDF."""
    import numpy as np

    from harness.scoring.statistics.representative import anchors, character_tfidf, drawn, k_center

    if method == "irt":
        from harness.scoring.statistics.item_response import item_curves

        try:
            curves = item_curves(np.array(list(table.values()), dtype=float))
        except ValueError as error:
            raise UsageError(f"--method irt: {error}; anchors takes any") from None
        table = dict(zip(table, curves.tolist(), strict=True))

    def choose(rows: Sequence[Row], count: int) -> Chosen:
        if method == "kcenter":
            if not vectors:
                return k_center(character_tfidf([texts[row] for row in rows]), count)
            return k_center(np.array([vectors[row] for row in rows], dtype=np.float32), count)
        if method in BY_RUNS:
            return anchors(np.array([table[row] for row in rows], dtype=float), count, seed)
        return drawn(len(rows), count, seed)

    return choose


def _chosen(
    strata: Sequence[Sequence[Row]], size: int, choose: Callable[[Sequence[Row], int], Chosen]
) -> dict[Row, float]:
    """Row -> weight, from each stratum its share; from all rows together, where there are more strata than rows."""
    from harness.scoring.statistics.representative import shares

    if size < len(strata):
        strata = [[row for rows in strata for row in rows]]
    weights: dict[Row, float] = {}
    for rows, count in zip(strata, shares([len(rows) for rows in strata], size), strict=True):
        if count:
            numbers, stands_for = choose(rows, count)
            weights.update({rows[number]: float(weight) for number, weight in zip(numbers, stands_for, strict=True)})
    return weights


def _scores_of(lite: LiteSet, run: ScoredRun, job: TaskJob) -> tuple[float, float]:
    """(estimate, full score) of a run."""
    macro = job.task.scoring.average == "macro"
    return estimated(lite, run.scores, macro=macro).value, _full(run.scores, macro=macro)


def _full(scores: Mapping[Row, float], *, macro: bool) -> float:
    by_subset: dict[str, list[float]] = {}
    for (subset, _), score in scores.items():
        by_subset.setdefault(subset if macro else "", []).append(score)
    return math.fsum(math.fsum(each) / len(each) for each in by_subset.values()) / len(by_subset)


def estimated(lite: LiteSet, scores: Mapping[Row, float], *, macro: bool) -> Estimate:
    """The score that all rows would have, from those of the set; of a macro mean, every subset counts the same.

    The interval is that of the check on other models, where there was one; else that of weighted rows as if they were
    drawn at random: Wilson's at the effective number of rows, (sum w)^2 / sum w^2, or Student's t.
    """
    import numpy as np

    from harness.scoring.statistics.estimates import LEVEL, Estimate, student_t_quantile, wilson_interval

    known = [(row, scores[row], each.weight) for row, each in _weighted(lite) if row in scores]
    if not known:
        raise UsageError(f"{lite.task}: no row of the lite set has a score")
    values, weights = np.array([value for _, value, _ in known]), np.array([weight for _, _, weight in known])
    if macro:
        in_subset: dict[str, float] = {}
        for (subset, _), _, weight in known:
            in_subset[subset] = in_subset.get(subset, 0.0) + weight
        weights = weights / np.array([in_subset[subset] for (subset, _), _, _ in known])
    weights = weights / weights.sum()
    value = float(weights @ values)
    n = 1 / float(weights @ weights)
    stderr = math.sqrt(float(weights**2 @ (values - value) ** 2) * n / (n - 1)) if n > 1 else None
    if lite.check is not None:
        half = lite.check.half_width
        return Estimate(value, lite.check.root_mean_square, (value - half, value + half))
    if stderr is None:
        return Estimate(value)
    if np.isin(values, (0.0, 1.0)).all():
        return Estimate(value, stderr, wilson_interval(value, n))
    margin = student_t_quantile(0.5 + LEVEL / 2, max(1, int(n) - 1)) * stderr
    return Estimate(value, stderr, (value - margin, value + margin))


def _weighted(lite: LiteSet) -> Iterator[tuple[Row, LiteRow]]:
    for subset, rows in lite.rows.items():
        for number, row in rows.items():
            yield (subset, number), row


def check_lite(lite: LiteSet, spec: RunSpec, paths: Sequence[str], registry: Registry | None = None) -> LiteSet:
    """The set with its errors on other runs. Raises `UsageError` for a run by whose scores the rows were chosen."""
    _refuse_twice(paths)
    registry = registry or load_plugins()
    (job,) = load_jobs(replace(spec, tasks=(str(lite.file),)), registry, Progress())
    try:
        metric = job.scorer.reported[0].name
        rows = [(subset, number) for subset, chosen in lite.rows.items() for number in chosen]
        runs = [ScoredRun.of(path, lite.task, metric, rows) for path in paths]
        if known := next((run.title for run in runs if run.title in lite.chosen_by), None):
            raise UsageError(f"--runs: '{known}' had a part in the choice of the rows; a check is on other models")
        for run, path in zip(runs, paths, strict=True):
            if len(run.scores) < 0.9 * sum(lite.of_rows.values()):
                raise UsageError(f"--runs {path}: it scored {len(run.scores):,} rows; a full score is of all of them")
        return replace(
            lite, check=checked([run.title for run in runs], metric, [_scores_of(lite, run, job) for run in runs])
        )
    finally:
        close_code([job])


def checked(titles: Sequence[str], metric: str, scores: Sequence[tuple[float, float]]) -> LiteCheck:
    """What (estimate, full score) of some models say of a set. Raises `UsageError` for fewer than two."""
    from harness.scoring.statistics.representative import rank_correlation

    if len(scores) < 2:
        raise UsageError("--runs: the error of a lite set is measured on at least two models")
    errors = [estimate - full for estimate, full in scores]
    others = [[error for place, error in enumerate(errors) if place != left] for left in range(len(errors))]
    return LiteCheck(
        runs=tuple(titles),
        metric=metric,
        mean_error=math.fsum(errors) / len(errors),
        mean_absolute=math.fsum(map(abs, errors)) / len(errors),
        root_mean_square=_root_mean_square(errors),
        rank_correlation=rank_correlation([each for each, _ in scores], [full for _, full in scores]),
        half_width=_half_width(errors),
        held=sum(abs(error) <= _half_width(rest) for error, rest in zip(errors, others, strict=True)),
    )


def _root_mean_square(errors: Sequence[float]) -> float:
    return math.sqrt(math.fsum(error**2 for error in errors) / len(errors))


def _half_width(errors: Sequence[float]) -> float:
    """Of the 95 % interval of one error more: normal errors around 0, whose variance these tell."""
    from harness.scoring.statistics.estimates import LEVEL, student_t_quantile

    return student_t_quantile(0.5 + LEVEL / 2, len(errors)) * _root_mean_square(errors)


def lite_fields(job: TaskJob, coverage: TaskCoverage | None, records: Iterable[Record]) -> LiteFields | None:
    """What the records of a lite task say of the whole one; None where a tenth of it was not asked or not scored."""
    lite, key = job.task.lite, job.scorer.reported[0]
    if lite is None:
        return None
    seen = (record for record in job.scorer.rows(records) if coverage is None or coverage.holds(record))
    scores = {(record.subset, record.id): record.scores.get(key.name) for record in seen}
    known = {row: float(score) for row, score in scores.items() if isinstance(score, int | float)}
    if key.aggregation != "mean":
        return None
    weight = math.fsum(each.weight for _, each in _weighted(lite))
    if math.fsum(each.weight for row, each in _weighted(lite) if row in known) < 0.9 * weight:
        return None
    estimate = estimated(lite, known, macro=job.task.scoring.average == "macro")
    interval = estimate.interval
    if interval is not None and key.metric.bounds is not None:
        interval = max(key.metric.bounds[0], interval[0]), min(key.metric.bounds[1], interval[1])
    return {
        "task": lite.task,
        "metric": key.name,
        "value": estimate.value,
        "interval": list(interval) if interval else None,
        "rows": len(known),
        "of_rows": sum(lite.of_rows.values()),
        "method": lite.method,
        "models": len(lite.check.runs) if lite.check else 0,
    }
