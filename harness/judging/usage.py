"""What judging took: replies, attempts, tokens, money; and, of pairs, who won how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

from harness.judging.verdicts import WIN_RATE
from harness.record.cost import Prices
from harness.record.report_fields import PairFields, WorkFields
from harness.record.usage import Usage
from harness.scoring.statistics.significance import mcnemar_p
from harness.types import JSON, Record

_TOKENS = ("prompt_tokens", "completion_tokens", "batch_prompt_tokens", "batch_completion_tokens")


@dataclass
class Work:
    """What the judgements of one task took. failed: why, a sample; unreadable: why, a question without verdict."""

    judged: int = 0
    scored: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    replies: int = 0
    asked_again: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    replies_without_tokens: int = 0
    usage: Usage = field(default_factory=Usage)

    def add(self, record: Record, headline: str) -> None:
        story = record.judge
        self.judged += 1
        self.scored += record.scores.get(headline) is not None
        if story.get("skipped"):
            self.skipped[story["skipped"]] += 1
        if record.error is not None:
            self.failed[record.error] += 1
        last: dict[int, Mapping[str, JSON]] = {asked["question"]: asked for asked in story["asked"]}
        self.unreadable.update(asked["problem"] for asked in last.values() if "problem" in asked)
        self.asked_again += sum(asked["attempt"] > 0 for asked in story["asked"])
        for response in record.responses:
            self.replies += 1
            self.usage.add(response)
            self.replies_without_tokens += response.prompt_tokens is None or response.completion_tokens is None

    def to_dict(self, prices: Prices | None) -> WorkFields:
        """Replies whose tokens the model did not tell are not in the cost."""
        told = {name: value for name, value in self.__dict__.items() if name != "usage"}
        plain = {name: dict(v.most_common()) if isinstance(v, Counter) else v for name, v in told.items()}
        tokens = {name: getattr(self.usage, name) for name in _TOKENS}
        counted = {name: n for name, n in tokens.items() if n or not name.startswith("batch_")}
        cost = None if prices is None else prices.cost(self.usage)
        return cast(WorkFields, {**plain, **counted, "cost": cost})


@dataclass
class PairTally:
    """Samples that the second run won, lost, and neither. p_value: of an exact sign test of no difference."""

    wins: int = 0
    losses: int = 0
    ties: int = 0

    def add(self, record: Record) -> None:
        score = record.scores.get(WIN_RATE)
        if isinstance(score, float):
            self.wins += score > 0.5
            self.losses += score < 0.5
            self.ties += score == 0.5

    def to_dict(self) -> PairFields:
        p_value = mcnemar_p(self.wins, self.losses) if self.wins + self.losses else None
        return {"wins": self.wins, "losses": self.losses, "ties": self.ties, "p_value": p_value}


def work_of(records: Iterable[Record], headline: str) -> dict[str, Work]:
    """What the judgements took, by task."""
    works: dict[str, Work] = {}
    for record in records:
        works.setdefault(record.task, Work()).add(record, headline)
    return works


def pairs_of(records: Iterable[Record]) -> dict[str, PairTally]:
    """Who won, by task."""
    tallies: dict[str, PairTally] = {}
    for record in records:
        tallies.setdefault(record.task, PairTally()).add(record)
    return tallies
