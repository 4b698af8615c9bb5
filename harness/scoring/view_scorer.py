"""Scores a modified task: each view of a row as any sample, and all views of a row as what they are together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.errors import HarnessError, PluginError, UsageError
from harness.filters import Filter
from harness.metrics import Answered, Metric, Observation, ScoreKey
from harness.modifiers import Modifier, RowScore
from harness.plugin_values import flag, items, shown, text
from harness.scoring.observations import recorded_sample, split_by_condition
from harness.scoring.row_metrics import FIRST, averaged
from harness.scoring.scorer import Scorer
from harness.scoring.scores import Score, check_declared, checked, located
from harness.types import Record, ScoreName, ScoringSpec, View


class ViewScorer(Scorer):
    """The scorer of a modified task. `keys` are the scores of a view, `reported` those of a row."""

    def __init__(
        self,
        spec: ScoringSpec,
        find_metric: Callable[[str], type[Metric]],
        find_filter: Callable[[str], type[Filter]],
        where: str,
        modifiers: Sequence[Modifier],
        labels: str,
    ) -> None:
        super().__init__(spec, find_metric, find_filter, where)
        self._labels = labels
        self._of = {key.name: key for key in self.keys}
        self._row_scores = [score for modifier in modifiers for score in self._row_scores_of(modifier, labels)]
        several = [modifier.label for modifier in modifiers if modifier.several]
        if several and not self._row_scores:
            raise UsageError(
                f"{where}: --modify {several[0]} can report nothing of these scores: {', '.join(self._of)}"
            )
        self._views_count = not several
        # Values of a whole set (calibration, F1) have no worst view: they are reported of the views that come first.
        shared = averaged(self.keys)
        self._firsts = [key for key in self.keys if key not in shared] if several else []

    def _row_scores_of(self, modifier: Modifier, labels: str) -> Iterator[RowScore]:
        """What a modifier reports of rows. Raises `PluginError` for what is no `RowScore` of this task."""
        try:
            for place, score in enumerate(items(modifier.row_scores(self.keys, labels), "what row_scores gave")):
                what = f"row_scores[{place}]"
                if not isinstance(score, RowScore):
                    raise TypeError(f"{what} is a RowScore, not {shown(score)}")
                if text(score.of, f"{what}.of") not in self._of:
                    raise ValueError(f"{what}.of is {score.of!r}, no score of this task ({', '.join(self._of)})")
                if not isinstance(score.metric, Metric):
                    raise TypeError(f"{what}.metric is a Metric, not {shown(score.metric)}")
                check_declared(score.metric)
                text(score.name, f"{what}.name"), flag(score.higher_is_better, f"{what}.higher_is_better")
                yield score
        except HarnessError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"modifier '{modifier.name}': {located(error)}") from error

    @property
    def reported(self) -> tuple[ScoreKey, ...]:
        """What the report holds: where a row is shown several times, its scores alone; else the task's own first."""
        own = self.keys if self._views_count else ()
        firsts = (replace(key, name=f"{FIRST}_{key.name}") for key in self._firsts)
        return (*own, *map(self._key, self._row_scores), *firsts)

    @property
    def renamed(self) -> Mapping[str, str]:
        """Where a row is shown several times: metric -> the first thing that its modifier reports of it."""
        names: dict[str, str] = {}
        for score in () if self._views_count else self._row_scores:
            names.setdefault(ScoreName.parse(score.of).metric, ScoreName.parse(score.name).metric)
        return names

    def _key(self, score: RowScore) -> ScoreKey:
        pipeline, metric = self._of[score.of].pipeline, score.metric
        return ScoreKey(score.name, pipeline, metric, metric.aggregation, score.higher_is_better)

    def rows(self, records: Iterable[Record]) -> Iterator[Record]:
        """One record a row, with the scores that are reported: its first view, with the responses of all.

        The views of a row may come in any order, but are held until the last of them has come.
        """
        waiting: dict[tuple[str, int], list[Record]] = {}
        for record in records:
            place = record.subset, record.id
            views = waiting.setdefault(place, [])
            views.append(record)
            if len(views) == _view(record).count:
                yield self._row(waiting.pop(place))
        for views in waiting.values():  # of a run that was stopped
            yield self._row(views)

    def _row(self, records: list[Record]) -> Record:
        records = sorted(records, key=lambda record: _view(record).index)
        first = records[0]
        scores: dict[str, Score] = dict(first.scores) if self._views_count else {}
        complete = len(records) == _view(first).count
        errors = [record.error for record in records if record.error is not None]
        scores.update(dict.fromkeys(score.name for score in self._row_scores))
        shown_first = first.scores if _view(first).index == 0 else {}
        scores.update({f"{FIRST}_{key.name}": shown_first.get(key.name) for key in self._firsts})
        if complete and not errors:
            errors += self._score_row(records, scores)
        return replace(
            first,
            view=None,
            responses=tuple(response for record in records for response in record.responses),
            request_keys=tuple(key for record in records for key in record.request_keys),
            scores=scores,
            unparsed=any(record.unparsed for record in records),
            error=errors[0] if errors else None,
        )

    def _score_row(self, records: Sequence[Record], scores: dict[str, Score]) -> Iterator[str]:
        """Fill in the scores of a row. Yields what went wrong with one."""
        first = records[0]
        seen: dict[str, tuple[Answered, ...]] = {}
        for score in self._row_scores:
            try:
                if score.of not in seen:
                    seen[score.of] = tuple(self._answered(record, self._of[score.of]) for record in records)
                observation = Observation(recorded_sample(first), first.responses, views=seen[score.of])
                scores[score.name] = checked(score.metric.score(observation))
            except (Exception, SystemExit) as error:
                yield f"{score.name}: {located(error)}"

    def _answered(self, record: Record, key: ScoreKey) -> Answered:
        """What came of one view, as row metrics see it."""
        view = _view(record)
        predictions = record.answers.get(key.pipeline, ())
        score = record.scores.get(key.name)
        if record.choices and not predictions:
            conditional, unconditional = split_by_condition(len(record.choices), record.responses)
            place = key.metric.chosen(Observation(recorded_sample(record), conditional, unconditional))
            in_row = view.order[place] if place is not None and place < len(view.order) else place
            gold, count = record.target, len(view.order) or len(record.choices)
            right = len(gold) if isinstance(gold, tuple) else int(gold is not None)
            return Answered(view, score, in_row, place, count, right)
        # Of what a view was answered where it was asked several times; of equally frequent answers the first.
        votes = Counter(prediction for prediction in predictions if prediction is not None)
        answer = max(votes, key=votes.__getitem__) if votes else None
        places = self._places(answer, view)
        if not places:
            return Answered(view, score, answer, None, len(view.order), self._right(record))
        inside = tuple(sorted(view.order[place] for place in places))
        single = places[0] if len(places) == 1 else None
        return Answered(view, score, inside, single, len(view.order), self._right(record))

    def _places(self, answer: str | None, view: View) -> list[int]:
        """The places that an answer of letters names; none where it is anything else."""
        letters = (answer or "").strip().upper()
        known = self._labels[: len(view.order)]
        return [known.index(letter) for letter in letters] if all(letter in known for letter in letters) else []

    def _right(self, record: Record) -> int:
        """How many options are right where one letter answers; 0 where it is several letters or a text."""
        gold = record.target
        if isinstance(gold, int) and len(record.choices) == len(_view(record).order):
            return 1
        return 1 if isinstance(gold, str) and len(self._places(gold, _view(record))) == 1 else 0


def _view(record: Record) -> View:
    return record.view or View()
