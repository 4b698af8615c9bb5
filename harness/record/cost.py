"""What answers cost, by the prices of their tokens.

prices = Prices.of({"in": 0.5, "out": 2.0, "cached": 0.1})    # for a million tokens, in any currency; batch: 0.5
prices.cost(usage)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from harness.errors import UsageError, suggest
from harness.record.file_types import Report
from harness.record.report import Usage
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
    def of(cls, given: Mapping[str, Any]) -> Self:
        """From `in`, `out` and, where they are others, `cached` and `batch`. Raises UsageError."""
        for name, value in given.items():
            if name not in NAMES:
                raise UsageError(f"--prices: unknown '{name}'{suggest(name, NAMES)} (there are: {', '.join(NAMES)})")
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            if not plain or not math.isfinite(value) or value < 0:
                what = "a part of the price, such as 0.5" if name == "batch" else "a price of a million tokens"
                raise UsageError(f"--prices: {name}={value} is not {what}")
        if missing := next((name for name in NAMES[:2] if name not in given), None):
            raise UsageError(f"--prices: '{missing}' is missing, as in --prices in=0.5,out=2,cached=0.1")
        cached, batch = given.get("cached", given["in"]), given.get("batch", BATCH)
        return cls(float(given["in"]), float(given["out"]), float(cached), float(batch))

    def cost(self, usage: Usage) -> float:
        """In the currency of the prices. Answers of which nobody counted the tokens are not in it."""
        whole = self._price(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        batched = self._price(usage.batch_prompt_tokens, usage.batch_cached_tokens, usage.batch_completion_tokens)
        return (whole - (1 - self.batch) * batched) / _MILLION

    def _price(self, prompt: int, cached: int, completion: int) -> float:
        return (prompt - cached) * self.prompt + cached * self.cached + completion * self.completion


def note_cost(report: Report, prices: Mapping[str, JSON]) -> None:
    """Set in the report what the answers of each task cost."""
    for task in report["tasks"]:
        if prices and "usage" in task:
            known = {name: value for name, value in task["usage"].items() if name in Usage.__slots__}
            usage = Usage(**known)  # type: ignore[arg-type]
            nobody_counted = usage.replies_without_tokens and not usage.prompt_tokens and not usage.completion_tokens
            task["usage"]["cost"] = None if nobody_counted else Prices.of(prices).cost(usage)


def cost_lines(report: Report, t: Translate = english, *, every: bool = False) -> Iterator[str]:
    """One line for the tokens of all tasks, where they have a price, or some were cached or of reasoning.

    every: also where there are only tokens to tell of.
    """
    usages = [task["usage"] for task in report["tasks"] if "usage" in task]

    def total(name: str) -> int:
        return sum(int(usage.get(name, 0)) for usage in usages)  # type: ignore[call-overload]

    costs = [float(cost) for usage in usages if (cost := usage.get("cost")) is not None]
    known = ("prompt_tokens", "completion_tokens") if every else ("reasoning_tokens", "cached_tokens")
    priced = any("cost" in usage for usage in usages)
    if not (priced or any(map(total, known))):
        return
    cached = t(" ({n} cached)", n=f"{total('cached_tokens'):,}") if total("cached_tokens") else ""
    reasoned = t(" ({n} of reasoning)", n=f"{total('reasoning_tokens'):,}") if total("reasoning_tokens") else ""
    uncounted = total("replies_without_tokens")
    unknown = t("; {n} answers came without all of their counts", n=f"{uncounted:,}") if uncounted else ""
    money = "; cost at least {cost}" if costs and uncounted else "; cost {cost}"
    yield t(
        "tokens: {asked} of prompts{cached}, {written} of answers{reasoned}{money}{unknown}",
        asked=f"{total('prompt_tokens'):,}" if total("prompt_tokens") or not uncounted else "?",
        cached=cached,
        written=f"{total('completion_tokens'):,}" if total("completion_tokens") or not uncounted else "?",
        reasoned=reasoned,
        money=t(money, cost=f"{sum(costs):.4f}" if costs else "?") if priced else "",
        unknown=unknown,
    )
