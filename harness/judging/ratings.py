"""How far a judge says what people say: ratings from a table, beside the scores of finished judgements.

    for agreement in compare_ratings(Path("runs/A"), Path("ratings.csv"), say=print):
        agreement.kappa

A line of the table is one person's rating of one sample: `task,id,rating`, and `rater` where there are several.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.errors import UsageError
from harness.judging.judge import JUDGEMENTS
from harness.quick import dataclass
from harness.record.manifest import model_title, runs_below
from harness.record.report_fields import Report
from harness.record.run import RunFolder
from harness.run.result import load_run
from harness.run.sample_lists import ListedSample, SampleNames, read_sample_list
from harness.scoring.statistics.agreement import krippendorff_alpha, rank_estimate, weighted_kappa
from harness.scoring.statistics.estimates import Estimate, mean_estimate
from harness.types import Record, SampleKey

_WORDS: Mapping[str, float] = {
    **dict.fromkeys(("true", "yes", "right", "correct", "是", "对", "正确"), 1.0),
    **dict.fromkeys(("false", "no", "wrong", "incorrect", "否", "错", "错误"), 0.0),
}
_NAMED = 3
Say = Callable[[str], None]
Ratings = Mapping[SampleKey, Mapping[str, float]]
"""Sample -> rater -> rating."""


@dataclass(frozen=True, slots=True)
class RatingAgreement:
    """A judge (or a metric) and people, on one task.

    n: samples that both rated; ratings: those of people on them. exact: the share of ratings that are the judge's
    score; kappa: Cohen's with quadratic weights; rho: Spearman's, of the means a sample. between: Krippendorff's alpha
    among the people, where there are several, which no judge can be asked to exceed. unscored: samples that people
    rated and the judge did not score. bounds: the scale of the judge; out_of_scale: how many ratings are not on it.
    """

    judge: str
    task: str
    metric: str
    n: int
    ratings: int
    exact: Estimate | None
    kappa: Estimate | None
    rho: Estimate | None
    between: Estimate | None
    unscored: int
    out_of_scale: int
    bounds: tuple[float, float] | None


def compare_ratings(path: Path, file: Path, say: Say) -> list[RatingAgreement]:
    """Compare the ratings of a file with a judgement, with every judgement of a run, or with a run's own scores.

    say: is told how many ratings are of samples that are not there, or cannot be read. Raises UsageError.
    """
    listed = read_sample_list(file, "--ratings", "rating")
    named = load_run(path)
    below = [load_run(each) for each in runs_below(named.path / JUDGEMENTS)]
    folders = [named] if named.kind == "judgement" or not below else below
    agreements: list[RatingAgreement] = []
    for folder in folders:
        if folder.report is None:
            say(f"{folder.path}: has no report yet, and is left out")
            continue
        agreements += _with_folder(folder, folder.report, listed, file, say if folder is folders[0] else _silent)
    if not agreements:
        raise UsageError(f"--ratings {file}: no rating is of a sample of {path} that has a score")
    return agreements


def _silent(text: str) -> None:
    """What was said of the first judge's samples holds for those of the others."""


def _with_folder(
    folder: RunFolder, report: Report, listed: Sequence[ListedSample], file: Path, say: Say
) -> list[RatingAgreement]:
    tasks = {task["task"]: task for task in report["tasks"]}
    wanted = dict.fromkeys(each.key.task for each in listed if each.key.task in tasks)
    records = {name: {record.key: record for record in folder.records(name)} for name in wanted}
    names = SampleNames([key for of_task in records.values() for key in of_task])
    meaning = _meanings([record for of_task in records.values() for record in of_task.values()])
    ratings = _ratings(listed, names, meaning, file, say)
    judge = model_title(folder.manifest) if folder.kind == "judgement" else "scores of the run"
    if folder.kind == "judgement" and "rubric" in report:
        judge = f"{judge} ({report['rubric']['name']})"
    found = []
    for name in wanted:
        metrics = tasks[name]["metrics"]
        of_task = {key: given for key, given in ratings.items() if key.task == name}
        if metrics and of_task:
            found.append(_agreement(judge, name, metrics[0]["metric"], records[name], of_task))
    return found


def _meanings(records: Sequence[Record]) -> dict[str, float]:
    """What the words that a judge may choose from are worth, as its own records show it."""
    worth: dict[str, float] = {}
    for record in records:
        score = next(iter(record.scores.values()), None)
        answers = next(iter(record.answers.values()), ())
        if isinstance(score, float) and len(answers) == 1 and answers[0]:
            worth.setdefault(answers[0].strip().casefold(), score)
    return worth


def _ratings(
    listed: Sequence[ListedSample], names: SampleNames, meaning: Mapping[str, float], file: Path, say: Say
) -> dict[SampleKey, dict[str, float]]:
    """The ratings of samples that are there. What is not used is counted, and told by its first cases."""
    ratings: dict[SampleKey, dict[str, float]] = {}
    unknown, unreadable, empty = [], [], 0
    for each in listed:
        key, text = names.find(each), each.text("rating")
        value = _number(text, meaning)
        if not text:
            empty += 1
        elif key is None:
            unknown.append(f"{each.key.task} {each.key.subset}{'/' if each.key.subset else ''}{each.key.id}")
        elif value is None:
            unreadable.append(f"{each.where}: '{text[:40]}'")
        else:
            given = ratings.setdefault(key, {})
            rater = each.text("rater")
            if given.get(rater, value) != value:
                who = f"rater '{rater}'" if rater else "without a rater"
                raise UsageError(f"{each.where}: a second rating of the same sample, {who}; name raters in a column")
            given[rater] = value
    for what, cases in (("of samples that are not there", unknown), ("no numbers", unreadable)):
        if cases:
            more = f" and {len(cases) - _NAMED:,} more" if len(cases) > _NAMED else ""
            say(f"{file}: {len(cases):,} ratings are {what}, and left out: {'; '.join(cases[:_NAMED])}{more}")
    if empty:
        say(f"{file}: {empty:,} rows have no rating")
    return ratings


def _number(text: str, meaning: Mapping[str, float]) -> float | None:
    try:
        value = float(text)
    except ValueError:
        word = text.casefold()
        return meaning.get(word, _WORDS.get(word))
    return value if math.isfinite(value) else None


def _agreement(
    judge: str, task: str, metric: str, records: Mapping[SampleKey, Record], ratings: Ratings
) -> RatingAgreement:
    scores = {key: records[key].scores.get(metric) for key in ratings}
    both = {key: score for key, score in scores.items() if isinstance(score, int | float)}
    pairs = np.array([(value, both[key]) for key in both for value in ratings[key].values()], dtype=np.float64)
    places = np.array([place for place, key in enumerate(both) for _ in ratings[key]], dtype=np.int64)
    clusters = places if len(pairs) > len(both) else None
    means = [(sum(ratings[key].values()) / len(ratings[key]), float(score)) for key, score in both.items()]
    raters = list(dict.fromkeys(rater for given in ratings.values() for rater in given))
    table = [[given.get(rater) for rater in raters] for given in ratings.values()]
    scale = next((records[key].judge.get("scale") for key in both), None)
    bounds = (float(min(scale)), float(max(scale))) if isinstance(scale, list | tuple) and scale else None
    return RatingAgreement(
        judge, task, metric, len(both), len(pairs),
        exact=mean_estimate((abs(pairs[:, 0] - pairs[:, 1]) < 1e-9).astype(np.float64), clusters) if both else None,
        kappa=weighted_kappa(pairs, clusters) if both else None,
        rho=rank_estimate(means),
        between=krippendorff_alpha(table, "interval") if len(raters) > 1 else None,
        unscored=len(ratings) - len(both),
        out_of_scale=sum(not bounds[0] <= value <= bounds[1] for value, _ in pairs) if bounds else 0,
        bounds=bounds,
    )  # fmt: skip
