"""How a run stays within a budget of money or tokens.

A model that asks one request after another is told before each whether it may; any other is asked in parts, none larger
than what is left allows. What one command spends is counted, and not what earlier ones did: the same command goes on
with a new budget. The measured model, whoever plays its user and the judges spend of one budget, each by its prices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.errors import ExitCode, HarnessError, ModelError, UsageError
from harness.model import Model
from harness.record.cost import Prices
from harness.record.usage import Usage
from harness.run.answers import answers
from harness.run.spec import RunSpec
from harness.types import Request, Response

Answered = tuple[int, Response]
FEW = 16
"""Answers that show what one takes. The first is waited for, since others could be more than the budget already. A
batch API is asked for all of them at once: each batch may take a day."""
_DEARER = 100
"""How many times as dear as the dearest known answer others may be, as long as fewer than `FEW` are known."""


class BudgetReached(HarnessError):
    """The budget does not allow another request; what is done is on disk."""

    exit_code = ExitCode.INTERRUPTED


@dataclass
class Budget:
    """What may be spent by all models of a run together, and the accounts of each of them."""

    money: float | None
    tokens: int | None
    accounts: list[Account] = field(default_factory=list)

    @classmethod
    def of(cls, spec: RunSpec) -> Budget | None:
        """The budget of a run; None without one. Raises `UsageError`."""
        if spec.budget is None and spec.budget_tokens is None:
            return None
        if spec.budget is not None and not spec.prices:
            raise UsageError(f"--budget {spec.budget}: say what tokens cost, --prices in=0.5,out=2 (a million each)")
        if not all(math.isfinite(each) and each > 0 for each in (spec.budget, spec.budget_tokens) if each is not None):
            raise UsageError("--budget, --budget_tokens: should be finite numbers above 0")
        return cls(spec.budget, spec.budget_tokens)

    def account(self, prices: Prices | None = None, *, at_first: int = 1) -> Account:
        """A new account. prices: None where tokens alone are counted. Raises `UsageError` where they are needed."""
        if self.money is not None and prices is None:
            raise UsageError(f"--budget {self.money}: say what the tokens of each model that is asked cost")
        self.accounts.append(Account(self, prices, at_first=at_first))
        return self.accounts[-1]

    @property
    def part_spent(self) -> float:
        """How much of the budget is spent, 0 to 1 and more: of money or tokens, whichever is more."""
        parts = [0.0]
        if self.money is not None:
            parts.append(sum(account.cost for account in self.accounts) / self.money)
        if self.tokens is not None:
            parts.append(sum(account.tokens for account in self.accounts) / self.tokens)
        return max(parts)

    @property
    def words(self) -> str:
        tokens = f"{sum(account.tokens for account in self.accounts):,} tokens"
        if self.money is None and not any(account.prices for account in self.accounts):
            return tokens
        return f"{sum(account.cost for account in self.accounts):.4f} for {tokens}"


@dataclass
class Account:
    """What one of the models has taken of a budget."""

    budget: Budget = field(repr=False)
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

    @property
    def cost(self) -> float:
        return self.prices.cost(self.spent) if self.prices is not None else 0.0

    @property
    def tokens(self) -> int:
        return self.spent.prompt_tokens + self.spent.completion_tokens

    def asked(self, model: Model, name: str, requests: Sequence[Request], *, is_new: bool) -> Iterator[Answered]:
        """The model's answers, as `harness.run.answers.answers`, for as long as the budget lasts."""
        one_by_one = model.asks_one_by_one
        if one_by_one:
            model.admits = self.admits
        for start, part in [(0, requests)] if one_by_one else self.parts(requests):
            for index, response in answers(model, name, part, is_new=is_new and not start, refuse=self.refuse):
                yield start + index, response
                self.count(response)

    def count(self, response: Response) -> None:
        """Note an answer. Raises `ModelError` where nobody says what it took: no budget could be kept then."""
        if response.prompt_tokens is not None:
            alone = Usage()
            alone.add(response)
            self.largest = max(self.largest, self._part(alone))
            self.answers += 1
        self.spent.add(response)
        # Last, since another thread asks what fits: until here the answer is under way. What no model can be shown has
        # an answer without being asked; all of these come first.
        self._returned = min(self._returned + 1, self._begun)
        uncounted = response.text is not None and None in (response.prompt_tokens, response.completion_tokens)
        if uncounted and response.error is None:
            raise ModelError("the server does not say how many tokens an answer took: no budget can be kept")

    def admits(self) -> bool | None:
        """Whether another request may be asked; None where that hangs on those under way, False where it is spent.

        Each is taken to cost as much as the dearest so far. To be called by one thread, while another counts.
        """
        under_way = self._begun - self._returned
        dearest = self.largest * (_DEARER if under_way and self.answers < FEW else 1)
        fits = self.budget.part_spent + (under_way + 1) * dearest <= 1 + 1e-9
        if not self.answers:
            fits = fits and under_way < self.at_first and self.budget.part_spent < 1
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
            raise BudgetReached(f"the budget is spent: {self.budget.words}, {left} requests are left")

    def share_left(self) -> float:
        """What is left of money and tokens, whichever is less, as a number of answers of the mean size."""
        left = 1 - self.budget.part_spent
        if not self.answers:
            return float(self.at_first) if left > 0 else 0.0
        return left / max(self._part(self.spent) / self.answers, 1e-12)

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
            if self.answers < FEW:
                size = min(size, max(self.at_first, self.answers, int(room / _DEARER)))
            yield start, requests[start : start + size]
            start += size

    def _part(self, usage: Usage) -> float:
        """How much of the whole budget this is, of money or tokens, whichever is more."""
        money, tokens = self.budget.money, self.budget.tokens
        return max(
            self.prices.cost(usage) / money if money is not None and self.prices is not None else 0.0,
            (usage.prompt_tokens + usage.completion_tokens) / tokens if tokens is not None else 0.0,
        )


def asked_within(
    account: Account | None, model: Model, name: str, requests: Sequence[Request], *, is_new: bool = False
) -> Iterator[Answered]:
    """The model's answers as they come; with an account, for as long as its budget lasts."""
    if account is None:
        return answers(model, name, requests, is_new=is_new)
    return account.asked(model, name, requests, is_new=is_new)
