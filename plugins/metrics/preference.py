"""What a model prefers: pairs of a chosen and a rejected answer, or answers with a label, by their log-likelihood.

    output_type: multiple_choice
    doc_to_choice: "{{ [chosen, rejected] }}"
    doc_to_target: 0
    metric_list:
      - {metric: reward_accuracy, beta: 0.1, reference: runs/OF-THE-REFERENCE}
      - {metric: reward_margin, beta: 0.1, reference: runs/OF-THE-REFERENCE}

The reward of an answer y to x, with π the model that is measured:

    beta (log π(y|x) - log π_ref(y|x))   with `reference`: DPO's implicit reward (Rafailov et al. 2023, section 4)
    beta / |y| log π(y|x)                with `per_token: true`: SimPO's (Meng et al. 2024, equation 4), |y| in tokens
    beta log π(y|x)                      otherwise

The reference model is read from a run of the same task by it, so that no second model is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from harness import Metric, MetricOptions, Observation, Prompt, Record, Sample, UsageError, hookimpl, load_run


class _Reward(Metric):
    """Base of the metrics of this file."""

    def __init__(self, beta: float = 0.1, reference: str | None = None, per_token: bool = False) -> None:
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 < beta < math.inf:
            raise ValueError(f"beta: should be a number above 0, found {beta!r}")
        self.beta, self.reference, self.per_token = float(beta), reference, per_token
        self._run: Any = None
        self._known: dict[str, Mapping[Hashable, Record]] = {}

    def prepare(self, options: MetricOptions) -> None:
        if self.reference is None:
            return
        here = Path(self.reference).expanduser()
        # From the folder of the command, where runs usually are, or from that of the task file.
        self._run = load_run(here if here.exists() else options.base / here)
        if not self._run.manifest.get("tasks"):
            raise UsageError(f"{self.name}: reference: {self.reference} is no run of a model over tasks")

    def rewards(self, seen: Observation) -> list[float]:
        """One an answer. Raises `ValueError` where the reference has not been asked the same."""
        values = list(seen.logprobs)
        if self.reference is not None:
            theirs = self._of_reference(seen.sample)
            values = [mine - other for mine, other in zip(values, theirs, strict=True)]
        if self.per_token:
            counts = [count for response in seen.responses for count in response.token_counts]
            if len(counts) != len(values) or not all(counts):
                raise ValueError("the model does not say how many tokens its answers have, as per_token needs")
            values = [value / count for value, count in zip(values, counts, strict=True)]
        return [self.beta * value for value in values]

    def _of_reference(self, sample: Sample) -> tuple[float, ...]:
        """The reference's log-likelihoods of a sample's answers."""
        if self._run is None:
            raise ValueError(f"the run of the reference is not open: {self.reference}")
        if sample.task not in self._known:
            named = sample.task in self._run.manifest["tasks"]
            records = self._run.records(sample.task) if named else ()
            self._known[sample.task] = {_key(record): record for record in records}
        found = self._known[sample.task].get(_key(sample))
        if found is None or not found.logprobs:
            raise ValueError(f"the reference has no answer to this sample: {self.reference}")
        asked = [request for request in sample.requests if not request.unconditional]
        if found.choices != sample.choices or _shown(found.prompt) != _shown(asked[0].prompt):
            raise ValueError(f"the reference was asked something else here: {self.reference}")
        return found.logprobs


class _PairReward(_Reward):
    """Of a chosen answer, which `doc_to_target` names, and one that was rejected."""

    output_types = frozenset({"multiple_choice"})

    def margin(self, seen: Observation) -> float | None:
        """How far the reward of the chosen answer is above that of the other; None where no answer is chosen."""
        chosen, rewards = seen.sample.target, self.rewards(seen)
        if chosen is None:
            return None
        if len(rewards) != 2 or chosen not in (0, 1):
            raise ValueError(
                f"a preference is of two answers, of which one is chosen; found {len(rewards)}, {chosen!r}"
            )
        return rewards[int(chosen)] - rewards[1 - int(chosen)]


class RewardAccuracy(_PairReward):
    """1 where the chosen answer has the greater reward, 0 where it has not, or where both are equal (as TRL counts)."""

    name = "reward_accuracy"
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        margin = self.margin(seen)
        return None if margin is None else float(margin > 0)


class RewardMargin(_PairReward):
    """The reward of the chosen answer minus that of the rejected one."""

    name = "reward_margin"

    def score(self, seen: Observation) -> float | None:
        return self.margin(seen)


class RewardGap(_Reward):
    """The mean reward of desirable answers minus that of undesirable ones, as KTO has them (Ethayarajh et al. 2024).

    For `output_type: loglikelihood`; `label` is the column that says which an answer is. A sample's score is
    (reward where desirable, 1 where desirable, reward where undesirable, 1 where undesirable).
    """

    name = "reward_gap"
    output_types = frozenset({"loglikelihood"})
    aggregation = "self"

    def __init__(
        self, beta: float = 0.1, reference: str | None = None, per_token: bool = False, label: str = "label"
    ) -> None:
        super().__init__(beta, reference, per_token)
        self.label = label

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        if self.label not in seen.sample.doc:
            raise ValueError(f"the row has no column '{self.label}', which says whether the answer is desirable")
        label = seen.sample.doc[self.label]
        if label is None:
            return None
        if label not in (True, False):
            raise ValueError(f"{self.label}: should be true or false, found {label!r:.40}")
        (reward,) = self.rewards(seen)
        return (reward, 1.0, 0.0, 0.0) if label else (0.0, 0.0, reward, 1.0)

    def from_means(self, means: tuple[float, ...]) -> float:
        good, of_good, bad, of_bad = means
        return good / of_good - bad / of_bad if of_good and of_bad else math.nan


def _key(item: Sample | Record) -> Hashable:
    return item.subset, str(item.id), item.view.index if item.view is not None else 0


def _shown(prompt: Prompt) -> Hashable:
    return prompt.text, tuple((message.role, message.text) for message in prompt.messages), prompt.prefill


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [RewardAccuracy, RewardGap, RewardMargin]
