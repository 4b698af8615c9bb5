"""How a run stays within a budget of money or tokens: it is asked in parts, none larger than what is left allows.

What one command spends is counted, and not what earlier ones did: the same command goes on with a new budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.errors import ExitCode, HarnessError, ModelError, UsageError
from harness.record.cost import Prices
from harness.record.report import Usage
from harness.run.spec import RunSpec
from harness.types import Request, Response

_FIRST = 16
"""Requests of the first part, of which nothing is known."""


class BudgetReached(HarnessError):
    """The budget does not allow another request; what is done is on disk."""

    exit_code = ExitCode.INTERRUPTED


@dataclass
class Budget:
    """What may be spent, and what was. prices: None where tokens alone are counted."""

    money: float | None
    tokens: int | None
    prices: Prices | None
    spent: Usage = field(default_factory=Usage)
    answers: int = 0

    @classmethod
    def of(cls, spec: RunSpec) -> Budget | None:
        """The budget of a run; None without one. Raises `UsageError`."""
        if spec.budget is None and spec.budget_tokens is None:
            return None
        if spec.budget is not None and not spec.prices:
            raise UsageError(f"--budget {spec.budget}: say what tokens cost, --prices in=0.5,out=2 (a million each)")
        return cls(spec.budget, spec.budget_tokens, Prices.of(spec.prices) if spec.prices else None)

    def count(self, response: Response) -> None:
        """Count an answer. Raises `ModelError` where nobody says what it took: no budget could be kept then."""
        self.answers += 1
        self.spent.add(response)
        uncounted = response.text is not None and None in (response.prompt_tokens, response.completion_tokens)
        if uncounted and response.error is None:
            raise ModelError("the server does not say how many tokens an answer took: no budget can be kept")

    def share_left(self) -> float:
        """The least of what is left of money and tokens, as a number of answers of the mean size."""
        if not self.answers:
            return float(_FIRST)
        left = []
        if self.money is not None and self.prices is not None:
            cost = self.prices.cost(self.spent)
            left.append((self.money - cost) / max(cost / self.answers, 1e-12))
        if self.tokens is not None:
            tokens = self.spent.prompt_tokens + self.spent.completion_tokens
            left.append((self.tokens - tokens) / max(tokens / self.answers, 1e-12))
        return min(left)

    def parts(self, requests: Sequence[Request]) -> Iterator[tuple[int, Sequence[Request]]]:
        """(number of the first, requests) of each part. Raises `BudgetReached` where the next would be too much."""
        start = 0
        while start < len(requests):
            room = self.share_left()
            if room < 1:
                raise BudgetReached(f"the budget is spent: {self.words}, {len(requests) - start} requests are left")
            # Answers differ in length: half of what seems left is asked, and then it is looked again.
            size = min(len(requests) - start, max(1, int(room if not self.answers else room / 2)))
            yield start, requests[start : start + size]
            start += size

    @property
    def words(self) -> str:
        tokens = f"{self.spent.prompt_tokens + self.spent.completion_tokens:,} tokens"
        return tokens if self.prices is None else f"{self.prices.cost(self.spent):.4f} for {tokens}"
