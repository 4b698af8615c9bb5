"""How a run stays within a budget of money or tokens.

A model that asks one request after another is told before each whether it may; any other is asked in parts, none larger
than what is left allows. What one command spends is counted, and not what earlier ones did: the same command goes on
with a new budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.errors import ExitCode, HarnessError, ModelError, UsageError
from harness.record.cost import Prices
from harness.record.report import Usage
from harness.run.spec import RunSpec
from harness.types import Request, Response

_FEW = 16
"""Answers that show what one takes. The first is waited for, since others could be more than the budget already. A
batch API is asked for all of them at once: each batch may take a day."""
_DEARER = 10
"""How many times as dear as the dearest known answer others may be, as long as fewer than `_FEW` are known."""


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
    """How many answers said what they took."""
    largest: float = 0.0
    """The largest part of the budget that one of them took."""
    is_spent: bool = False
    at_first: int = 1
    """How many are asked before anything is known of what one takes."""
    _begun: int = 0
    _returned: int = 0

    @classmethod
    def of(cls, spec: RunSpec) -> Budget | None:
        """The budget of a run; None without one. Raises `UsageError`."""
        if spec.budget is None and spec.budget_tokens is None:
            return None
        if spec.budget is not None and not spec.prices:
            raise UsageError(f"--budget {spec.budget}: say what tokens cost, --prices in=0.5,out=2 (a million each)")
        prices = Prices.of(spec.prices) if spec.prices else None
        return cls(spec.budget, spec.budget_tokens, prices, at_first=_FEW if spec.batch_api else 1)

    def count(self, response: Response) -> None:
        """Count an answer. Raises `ModelError` where nobody says what it took: no budget could be kept then."""
        before = self._part_spent()
        self.spent.add(response)
        # What no model can be shown has an answer without being asked; all of these come first.
        self._returned = min(self._returned + 1, self._begun)
        uncounted = response.text is not None and None in (response.prompt_tokens, response.completion_tokens)
        if uncounted and response.error is None:
            raise ModelError("the server does not say how many tokens an answer took: no budget can be kept")
        if response.prompt_tokens is not None:
            self.answers += 1
            self.largest = max(self.largest, self._part_spent() - before)

    def admits(self) -> bool | None:
        """Whether another request may be asked; None where that hangs on those under way, False where it is spent.

        Each is taken to cost as much as the dearest so far. To be called by one thread, while another counts.
        """
        under_way = self._begun - self._returned
        dearest = self.largest * (_DEARER if under_way and self.answers < _FEW else 1)
        fits = self._part_spent() + (under_way + 1) * dearest <= 1 + 1e-9
        if not self.answers:
            fits = fits and under_way < self.at_first
        if fits:
            self._begun += 1
            return True
        if under_way:
            return None
        self.is_spent = True
        return False

    def refuse(self, left: int) -> None:
        """So many requests have no answer. Raises `BudgetReached` where the budget was the cause."""
        if self.is_spent:
            raise BudgetReached(f"the budget is spent: {self.words}, {left} requests are left")

    def share_left(self) -> float:
        """What is left of money and tokens, whichever is less, as a number of answers of the mean size."""
        if not self.answers:
            return float(self.at_first)
        spent = self._part_spent()
        return (1 - spent) / max(spent / self.answers, 1e-12)

    def _part_spent(self) -> float:
        """How much of the budget is spent, 0 to 1 and more: of money or tokens, whichever is more."""
        parts = [0.0]
        if self.money is not None and self.prices is not None:
            parts.append(self.prices.cost(self.spent) / self.money)
        if self.tokens is not None:
            parts.append((self.spent.prompt_tokens + self.spent.completion_tokens) / self.tokens)
        return max(parts)

    def parts(self, requests: Sequence[Request]) -> Iterator[tuple[int, Sequence[Request]]]:
        """(number of the first, requests) of each part. Raises `BudgetReached` where the next would be too much."""
        start = 0
        while start < len(requests):
            room = self.share_left()
            if room < 1 - 1e-9:
                self.is_spent = True
                self.refuse(len(requests) - start)
            # Answers differ in length: half of what seems left is asked, and then it is looked again.
            size = min(len(requests) - start, max(1, int(room if not self.answers else room / 2)))
            if self.answers < _FEW:
                size = min(size, max(self.at_first, self.answers, int(room / _DEARER)))
            yield start, requests[start : start + size]
            start += size

    @property
    def words(self) -> str:
        tokens = f"{self.spent.prompt_tokens + self.spent.completion_tokens:,} tokens"
        return tokens if self.prices is None else f"{self.prices.cost(self.spent):.4f} for {tokens}"
