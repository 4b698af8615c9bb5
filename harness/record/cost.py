"""What answers cost, by the prices of their tokens.

prices = Prices.of({"in": 0.5, "out": 2.0, "cached": 0.1})    # for a million tokens, in any currency; batch: 0.5
prices.cost(usage)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, cast

from harness.errors import UsageError, suggest
from harness.quick import dataclass
from harness.record.report_fields import Report, UsageFields
from harness.record.usage import Usage
from harness.types import JSON
from harness.words import Translate, english

_MILLION = 1_000_000
NAMES = ("in", "out", "cached", "batch")
BATCH = 0.5
"""What batch APIs take of the usual price (OpenAI, Alibaba Cloud, Zhipu: half)."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens of prompts, of completions (reasoning among them), and of prompts that were cached.

    batch: the part of these that an answer costs which was asked by a batch API.
    """

    prompt: float
    completion: float
    cached: float
    batch: float = BATCH

    @classmethod
    def of(cls, given: Mapping[str, Any], flag: str = "--prices") -> Self:
        """From `in`, `out` and, where they are others, `cached` and `batch`. Raises UsageError that names `flag`."""
        for name, value in given.items():
            if name not in NAMES:
                raise UsageError(f"{flag}: unknown '{name}'{suggest(name, NAMES)} (there are: {', '.join(NAMES)})")
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            if not plain or not math.isfinite(value) or value < 0 or (name == "batch" and value > 1):
                what = "a part of the price, such as 0.5" if name == "batch" else "a price of a million tokens"
                shown = repr(value) if isinstance(value, str) else value
                raise UsageError(f"{flag}: {name}={shown} is not {what}")
        if missing := next((name for name in NAMES[:2] if name not in given), None):
            raise UsageError(f"{flag}: '{missing}' is missing, as in {flag} in=0.5,out=2,cached=0.1")
        cached, batch = given.get("cached", given["in"]), given.get("batch", BATCH)
        return cls(float(given["in"]), float(given["out"]), float(cached), float(batch))

    def cost(self, usage: Usage) -> float:
        """In the currency of the prices. Answers of which nobody counted the tokens are not in it."""
        whole = self._price(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        batched = self._price(usage.batch_prompt_tokens, usage.batch_cached_tokens, usage.batch_completion_tokens)
        return (whole - (1 - self.batch) * batched) / _MILLION

    def _price(self, prompt: int, cached: int, completion: int) -> float:
        return (prompt - cached) * self.prompt + cached * self.cached + completion * self.completion


def note_cost(report: Report, prices: Mapping[str, JSON], user_prices: Mapping[str, JSON]) -> None:
    """Set in the report what the answers of each task cost, and those of its simulated user by prices of their own."""
    for usage in (task["usage"] for task in report["tasks"] if "usage" in task):
        if prices:
            usage["cost"] = cost_of(usage, Prices.of(prices))
        if "user" in usage and (prices or user_prices):
            usage["user"]["cost"] = cost_of(usage["user"], Prices.of(user_prices) if user_prices else None)


def cost_of(fields: UsageFields, prices: Prices | None) -> float | None:
    """What answers cost; None where nobody says what tokens do, or how many there were."""
    usage = Usage.from_json(fields)
    nobody_counted = usage.replies_without_tokens and not usage.prompt_tokens and not usage.completion_tokens
    return None if prices is None or nobody_counted else prices.cost(usage)


def joined_usage(several: Sequence[UsageFields]) -> UsageFields:
    """What several took together; its cost is unknown where one of them is."""
    total: dict[str, Any] = {}
    for fields in several:
        for name, value in fields.items():
            if name != "cost":
                total[name] = total.get(name, 0) + value
    costs = [fields["cost"] for fields in several if "cost" in fields]
    if costs:
        known = [float(cost) for cost in costs if cost is not None]
        total["cost"] = sum(known) if len(known) == len(several) else None
    return cast(UsageFields, total)


def cost_lines(report: Report, t: Translate = english, *, every: bool = False) -> Iterator[str]:
    """One line for the tokens of all tasks, where they have a price, or some were cached or of reasoning; and one each
    for what simulated users and judges took, where there were such.

    every: also where there are only tokens to tell of.
    """
    usages = [task["usage"] for task in report["tasks"] if "usage" in task]
    known = ("prompt_tokens", "completion_tokens") if every else ("reasoning_tokens", "cached_tokens")
    if any("cost" in usage or any(map(usage.get, known)) for usage in usages):
        yield t("tokens: {what}", what=_words(usages, t))
    if users := [usage["user"] for usage in usages if "user" in usage]:
        yield t("tokens of the simulated user: {what}", what=_words(users, t))
    if judges := [usage["judges"] for usage in usages if "judges" in usage]:
        yield t("tokens of the judges: {what}", what=_words(judges, t))


def _words(usages: Sequence[UsageFields], t: Translate) -> str:
    """Tokens and money of some answers."""

    def total(name: str) -> int:
        return sum(int(usage.get(name, 0)) for usage in usages)  # type: ignore[call-overload]

    costs = [float(cost) for usage in usages if (cost := usage.get("cost")) is not None]
    priced = [usage for usage in usages if "cost" in usage]
    cached = t(" ({n} cached)", n=f"{total('cached_tokens'):,}") if total("cached_tokens") else ""
    reasoned = t(" ({n} of reasoning)", n=f"{total('reasoning_tokens'):,}") if total("reasoning_tokens") else ""
    uncounted = total("replies_without_tokens")
    unknown = t("; {n} answers came without all of their counts", n=f"{uncounted:,}") if uncounted else ""
    money = "; cost at least {cost}" if costs and (uncounted or len(costs) < len(usages)) else "; cost {cost}"
    return t(
        "{asked} of prompts{cached}, {written} of answers{reasoned}{money}{unknown}",
        asked=f"{total('prompt_tokens'):,}" if total("prompt_tokens") or not uncounted else "?",
        cached=cached,
        written=f"{total('completion_tokens'):,}" if total("completion_tokens") or not uncounted else "?",
        reasoned=reasoned,
        money=t(money, cost=f"{sum(costs):.4f}" if costs else "?") if priced else "",
        unknown=unknown,
    )
