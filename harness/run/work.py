"""What a run's model does while it works: answers and tokens so far, what they cost, and how hard it works.

work = RunWork(model, prices)
work.add(response)          # for every answer
work.so_far().requests      # from any thread
"""

from __future__ import annotations

from collections.abc import Callable

from harness.model import Activity, Model
from harness.quick import dataclass
from harness.record.cost import Prices
from harness.record.usage import Usage
from harness.types import Response


@dataclass(frozen=True, slots=True)
class WorkDone:
    """Of one model and this command alone.

    requests: answered. prompt_tokens, new_tokens: of these, as far as answers say. failed: without an answer.
    cut: answers that ended at their limit, and prompts that were cut. cost: of all until now; None without prices.
    activity: what the model says of itself; None where it says nothing.
    """

    requests: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    failed: int = 0
    cut: int = 0
    cost: float | None = None
    activity: Activity | None = None


Meter = Callable[[], WorkDone]
"""What was done so far; may be asked at any time, in any thread."""


class RunWork:
    """Counts the answers of a model, and of whoever plays its user. prices: None where they are not known."""

    def __init__(self, model: Model, prices: Prices | None = None, user_prices: Prices | None = None) -> None:
        self._model = model
        self._prices, self._user_prices = prices, user_prices
        self._usage, self._user_usage = Usage(), Usage()
        self._requests = self._prompt_tokens = self._new_tokens = self._failed = self._cut = 0

    def add(self, response: Response) -> None:
        """Count an answer; called for each one, so that it has to be quick."""
        self._requests += 1
        if response.prompt_tokens:
            self._prompt_tokens += response.prompt_tokens
        if response.completion_tokens:
            self._new_tokens += response.completion_tokens
        if response.error is not None:
            self._failed += 1
        elif response.truncated or response.finish_reason == "length":
            self._cut += 1
        if self._prices is not None:
            self._usage.add(response)

    def add_of_user(self, response: Response) -> None:
        """Count what the simulated user said, for its cost."""
        self._user_usage.add(response)

    def so_far(self) -> WorkDone:
        cost = None
        if self._prices is not None:
            cost = self._prices.cost(self._usage) + (self._user_prices or self._prices).cost(self._user_usage)
        return WorkDone(
            self._requests, self._prompt_tokens, self._new_tokens, self._failed, self._cut, cost, self._activity()
        )

    def _activity(self) -> Activity | None:
        try:
            return self._model.activity()
        except Exception:  # a plugin's, in a thread that draws: it is not worth a run
            return None
