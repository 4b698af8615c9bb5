"""What a metric returns, checked and put under its names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness import plugin_values
from harness.errors import HarnessError, PluginError
from harness.metrics import BatchMetric, CorpusMetric, Metric, ScoreKey
from harness.plugin_values import flag, items, mapping, number, text
from harness.types import JSON

Score = float | tuple[float, ...] | None


def checked(score: object) -> Score:
    """The score as floats. Raises `ValueError` for one that is not finite, `TypeError` for what is no number."""
    if score is None:
        return None
    if isinstance(score, tuple):
        return tuple(number(part, f"score[{place}]") for place, part in enumerate(score))
    return number(score, "the score")


def statistics_of(metric: Metric, score: tuple[float, ...]) -> tuple[float, ...]:
    """What is added up of a sample's score. Raises whatever the metric raises, `TypeError` and `ValueError`."""
    if type(metric).statistics is Metric.statistics:
        return score
    given = items(metric.statistics(score), "what statistics gave")
    if not given:
        raise ValueError("statistics gave none")
    return tuple(number(part, f"statistics[{place}]") for place, part in enumerate(given))


def summed(metric: Metric) -> Callable[[tuple[float, ...], int], float]:
    """A metric's `from_sums`, whose value is a finite number or an error that names where it came from."""
    what = "from_means" if type(metric).from_sums is Metric.from_sums else "from_sums"
    return lambda sums, n: number(metric.from_sums(sums, n), f"what {what} gave")


def aggregated(metric: Metric) -> Callable[[list[tuple[float, ...]]], float]:
    """A metric's `aggregate`, whose value is a finite number or an error."""
    return lambda scores: number(metric.aggregate(scores), "what aggregate gave")


def identity_of(metric: BatchMetric | CorpusMetric) -> dict[str, JSON] | None:
    """What decides a metric's scores, for the report; what is none was told of when the metric began."""
    try:
        return mapping(metric.identity, "identity")
    except (Exception, SystemExit):
        return None


def check_declared(metric: Metric) -> None:
    """Hold what a metric's class says of itself against its type. Raises `PluginError`, naming metric and field."""
    try:
        items(metric.output_types, "output_types")
        flag(metric.higher_is_better, "higher_is_better")
        text(metric.aggregation, "aggregation")
        text(metric.stem or "", "stem"), text(metric.setting, "setting")
        for place, value in enumerate(items(metric.values, "values")):
            text(value, f"values[{place}]")
        if metric.bounds is not None:
            least, greatest = items(metric.bounds, "bounds")
            number(least, "bounds[0]"), number(greatest, "bounds[1]")
    except (TypeError, ValueError) as error:
        raise PluginError(f"metric '{metric.name}': {error}") from None


def checked_answers(given: object, asked: int) -> tuple[str | None, ...]:
    """What a filter made of `asked` replies: at most as many, and one at least. Raises `TypeError`, `ValueError`."""
    answers = items(given, "what it gave")
    if not min(asked, 1) <= len(answers) <= asked:
        raise ValueError(f"it gave {len(answers)} answers for {asked} replies")
    return tuple(None if one is None else text(one, f"answer {place}") for place, one in enumerate(answers))


def named(keys: Sequence[ScoreKey], score: Score) -> dict[str, Score]:
    """A metric's score under its keys: one, or one for each of the metric's `values`."""
    if not keys[0].metric.values or score is None:
        return dict.fromkeys((key.name for key in keys), score)
    parts = score if isinstance(score, tuple) else (score,)
    if len(parts) != len(keys):
        raise ValueError(f"it gave {len(parts)} numbers and names {len(keys)}: {', '.join(keys[0].metric.values)}")
    return {key.name: part for key, part in zip(keys, parts, strict=True)}


def described(error: BaseException) -> str:
    """An error of a plugin on one line, with its kind."""
    cause = " ".join(str(error).split())
    return f"{type(error).__name__}: {cause}" if cause else type(error).__name__


def located(error: BaseException) -> str:
    """The same, and behind it the file and the line that raised it, as far as a plugin's author needs them."""
    place = "" if isinstance(error, HarnessError) else raised_at(error)
    return described(error) + (f" ({place})" if place else "")


def raised_at(error: BaseException) -> str:
    """`FILE:LINE` that raised; empty where that was a check of our own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    file = trace.tb_frame.f_code.co_filename
    is_ours = Path(file).parent == Path(__file__).parent or file == plugin_values.__file__
    return "" if is_ours else f"{file}:{trace.tb_lineno}"
