"""A modifier that asks each question several times and takes the answer that comes most often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness import Modifier, UsageError, hookimpl

JOINING = ("take_first", "take_first_k", "majority_vote")


class Repeats(Modifier):
    """`repeats=5`: each question is asked five times, and the answer that most replies give is scored.

    This is self-consistency (Wang et al. 2022, arXiv 2203.11171). Of equally frequent answers the first wins; unread
    ones have no vote.

    Each way to read replies (`filter_list`) is there twice: `majority`, the headline, and as it is, where the score is
    the mean over the replies. Greedy decoding gives the same reply each time: `--gen_kwargs temperature=0.7`.
    """

    name = "repeats"

    def __init__(self, n: int) -> None:
        if not isinstance(n, int) or not 2 <= n <= 10_000:
            raise ValueError(f"'{n}' is not a number of repeats of at least 2, as in repeats=5")
        self._n = n

    def keys(self, task: Mapping[str, Any]) -> dict[str, Any]:
        if task.get("output_type", "generate_until") != "generate_until":
            raise UsageError(
                f"--modify {self.label}: task '{task.get('task')}' is scored by log-likelihood, which is the same each "
                "time; name a variant that generates"
            )
        counting = [entry["metric"] for entry in task.get("metric_list") or () if entry["metric"].startswith("pass_")]
        if counting:
            name = task.get("task")
            raise UsageError(
                f"--modify {self.label}: '{counting[0]}' of task '{name}' counts which of several replies pass, where "
                f"no majority can be asked; repeat the question with --set {name}.repeats={self._n}"
            )
        listed = task.get("filter_list") or [{"name": "each", "filter": []}]
        return {
            "repeats": self._n,
            "filter_list": [*self._pipelines(listed, vote=True), *self._pipelines(listed, vote=False)],
        }

    def _pipelines(self, listed: Sequence[Mapping[str, Any]], *, vote: bool) -> Iterator[dict[str, Any]]:
        for pipeline in listed:
            steps = [*pipeline["filter"]]
            while steps and steps[-1]["function"] in JOINING:
                steps.pop()
            name = pipeline["name"]
            if vote:
                name = "majority" if len(listed) == 1 else f"{name}_majority"
                steps.append({"function": "majority_vote"})
            # A pipeline needs a step; this one leaves all replies as they are.
            yield {"name": name, "filter": steps or [{"function": "take_first_k", "k": self._n}]}


@hookimpl
def harness_modifiers() -> list[type[Modifier]]:
    return [Repeats]
