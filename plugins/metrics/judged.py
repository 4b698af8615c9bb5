"""`metric: judge`: what a model that judges says of an answer, by a rubric.

    metric_list:
      - metric: judge
        rubric: quality_zh             # by name, or a file beside the task file
        range: [1, 10]                 # the least and the greatest score, beyond which no interval reaches

The judge is named by the run: `--judge openai,model=NAME`. Without one the scores are null, and `harness score RUN
--judge ...` fills them in from the answers that are on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from harness import BatchMetric, MetricOptions, Observation, Outcome, UsageError, hookimpl


class JudgeMetric(BatchMetric):
    """`metric: judge`: the headline of a rubric, or several of its scores.

    rubric: a rubric's name (`harness judge --list`), or a file ending in .yaml, relative to the task file.
    values: keys of the reply that are reported, as `judge_<key>`; a share of a choice is `<key>=<choice>`. Without it,
        the rubric's headline is reported as `judge`.
    range: the least and the greatest score that there can be (default: no bounds).

    No answer has a score until a judge has said so: it is null, and never 0.
    """

    name = "judge"
    output_types: ClassVar = frozenset({"generate_until"})
    is_filled_later: ClassVar[bool] = True

    def __init__(self, rubric: str, values: Sequence[str] = (), range: Sequence[float] | None = None) -> None:
        if not isinstance(rubric, str) or not rubric:
            raise UsageError("rubric: should name a rubric, or its file")
        self.rubric = rubric
        self.values = (values,) if isinstance(values, str) else tuple(values)
        if range is not None:
            least, most = range
            self.bounds = (float(least), float(most))

    def prepare(self, options: MetricOptions) -> None:
        file = options.base / self.rubric
        if self.rubric.endswith((".yaml", ".yml")) and not file.is_file():
            raise UsageError(f"there is no rubric file {file}")

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def score_batch(self, seen: Sequence[Observation]) -> Sequence[Outcome]:
        return [Outcome(not_in_log=True)] * len(seen)


@hookimpl
def harness_metrics() -> list[type[JudgeMetric]]:
    return [JudgeMetric]
