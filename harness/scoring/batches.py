"""Scores by metrics that take many samples at once, filled into records whose answers are on disk.

Such a metric is a model: it may fail, it may be replaced by another, and a run may be killed while it works. So a
record says by what it was scored, and what does not say so, or names another, is scored again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from harness.errors import HarnessError, UsageError
from harness.metrics import BatchMetric, Metric, Observation, Outcome, ScoreKey
from harness.plugin_values import items, shown
from harness.reasoning import is_incomplete
from harness.scoring.observations import observation
from harness.scoring.scores import checked, described, located, named
from harness.types import JSON, Record, Sample, ScoredBy, ScoreName


class BatchScorer:
    """All metrics of one task that score in batches.

    groups: the keys of each, one group a metric and pipeline. options: of each metric, as the task file has them.
    place: begins each error. Its state is what `prepare_corpus` finds; until then, no record counts as scored.
    """

    def __init__(
        self, groups: Sequence[Sequence[ScoreKey]], options: Mapping[str, Mapping[str, JSON]], place: str
    ) -> None:
        self._groups = [(keys[0], keys, keys[0].metric) for keys in groups]
        self._options, self._place = options, place
        self._fingerprints: dict[str, str] = {}

    @property
    def title(self) -> str:
        """The names of the metrics that are waited for; empty where there are none."""
        waited_for = (key for key, _, metric in self._groups if not getattr(metric, "is_filled_later", False))
        return ", ".join(key.group for key in waited_for)

    @property
    def needs_all(self) -> bool:
        """Whether a metric looks at all samples of a run before it scores one."""
        return any(_looks_at_all(metric) for _, _, metric in self._groups)

    def prepare_corpus(self, samples: Callable[[], Iterable[Sample]]) -> None:
        """Show every metric all samples that will be scored. Raises `UsageError` where one cannot look at them."""
        for first, _, metric in self._groups:
            assert isinstance(metric, BatchMetric)
            try:
                if _looks_at_all(metric):
                    metric.prepare_corpus(samples())
                deciding = [self._options.get(ScoreName.parse(first.group).metric), dict(metric.identity)]
                identity = json.dumps(deciding, sort_keys=True, allow_nan=False, default=dict)
            except HarnessError as error:
                raise UsageError(f"{self._place}metric '{first.group}': {error}") from error
            except Exception as error:
                raise UsageError(f"{self._place}metric '{first.group}' cannot begin: {described(error)}") from error
            self._fingerprints[first.group] = hashlib.sha256(identity.encode()).hexdigest()[:12]

    def lack(self, record: Record) -> bool:
        """Whether a metric has yet to score the record. One without an answer has nothing to score."""
        return any(self._lacks(first, record) for first, _, _ in self._groups)

    def complete(
        self, samples: Sequence[Sample], records: Sequence[Record], before: Sequence[Record] = ()
    ) -> list[Record]:
        """The records with the scores that they lack. `samples` are theirs, in the same order.

        before: the same records as they were, where they are scored again; what cannot be scored from a log keeps the
        score that it has there.
        """
        done = list(records)
        by_metric: dict[int, list[tuple[ScoreKey, Sequence[ScoreKey]]]] = {}
        for first, keys, metric in self._groups:
            by_metric.setdefault(id(metric), []).append((first, keys))
        for groups in by_metric.values():
            metric = groups[0][0].metric
            assert isinstance(metric, BatchMetric)
            # All pipelines at once: what they have in common is looked at once.
            todo = [
                (place, first, keys)
                for first, keys in groups
                for place, record in enumerate(done)
                if self._lacks(first, record)
            ]
            seen = [observation(samples[place], done[place], first.pipeline) for place, first, _ in todo]
            for (place, first, keys), outcome in zip(todo, _outcomes(metric, seen), strict=True):
                by = ScoredBy(self._fingerprints[first.group], outcome.truncated)
                old = before[place] if before and outcome.not_in_log else None
                if old is None or not _still_holds(old, done[place], first, by.fingerprint):
                    done[place] = _with(done[place], keys, outcome, by)
                    continue
                scores = {**done[place].scores, **{key.name: old.scores.get(key.name) for key in keys}}
                scored_by = {**done[place].scored_by, first.group: old.scored_by[first.group]}
                done[place] = replace(done[place], scores=scores, scored_by=scored_by)
        return done

    def close(self) -> None:
        for _, _, metric in self._groups:
            assert isinstance(metric, BatchMetric)
            metric.close()

    def _lacks(self, first: ScoreKey, record: Record) -> bool:
        if not record.responses or any(response.error is not None for response in record.responses):
            return False
        if all(map(is_incomplete, record.responses)):
            return False
        scored = record.scored_by.get(first.group)
        return scored is None or scored.fingerprint != self._fingerprints.get(first.group)


def _looks_at_all(metric: Metric) -> bool:
    return isinstance(metric, BatchMetric) and type(metric).prepare_corpus is not BatchMetric.prepare_corpus


def _outcomes(metric: BatchMetric, seen: Sequence[Observation]) -> Sequence[Outcome]:
    if not seen:
        return ()
    try:
        outcomes = items(metric.score_batch(seen), "what score_batch gave")
        if len(outcomes) != len(seen):
            raise ValueError(f"it gave {len(outcomes)} scores for {len(seen)} samples")
    except (Exception, SystemExit) as error:
        return [Outcome(error=located(error))] * len(seen)
    return [
        outcome if isinstance(outcome, Outcome) else Outcome(error=f"it gave {shown(outcome)} where an Outcome is due")
        for outcome in outcomes
    ]


def _still_holds(old: Record, new: Record, key: ScoreKey, fingerprint: str) -> bool:
    """Whether an old score is of the same answer and gold, by the same metric."""
    by = old.scored_by.get(key.group)
    same = old.answers.get(key.pipeline) == new.answers.get(key.pipeline) and old.target == new.target
    return same and by is not None and by.fingerprint == fingerprint and old.scores.get(key.name) is not None


def _with(record: Record, keys: Sequence[ScoreKey], outcome: Outcome, by: ScoredBy) -> Record:
    """The record with what a metric said of it."""
    error = outcome.error
    scores = named(keys, None)
    if error is None:
        try:
            scores = named(keys, checked(outcome.score))
        except (TypeError, ValueError) as wrong:
            error = described(wrong)
    told = None if error is None else f"metric {keys[0].group}: {error}"
    return replace(
        record,
        scores={**record.scores, **scores},
        scored_by={**record.scored_by, keys[0].group: by},
        error="; ".join(part for part in (record.error, told) if part) or None,
    )
