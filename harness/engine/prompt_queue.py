"""The prompts of a plan that wait to be generated from, and the keys and values that they share.

Several lanes take from one queue: none takes what continues a shared prefix before that is there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from harness.engine.batches import KeyValues
from harness.engine.limits import PlanLimits
from harness.engine.plain import BatchLimits, GenerateRow
from harness.engine.plan import Plan, PlanItem, PlanRow, in_time, make_plan


def plan_generations(
    rows: Sequence[GenerateRow], limits: PlanLimits | None = None
) -> tuple[list[list[GenerateRow]], Plan]:
    """Rows by prompt (repetitions share theirs), and the plan over the prompts."""
    prompts: dict[tuple[int, ...], list[GenerateRow]] = {}
    for row in rows:
        prompts.setdefault(row.sequence.tokens, []).append(row)
    return list(prompts.values()), make_plan([PlanItem(tokens, len(tokens) - 1) for tokens in prompts], limits)


class PromptQueue:
    """The rows of a plan. prompts: what is generated from each of its items. prefixes: of shared prefixes, by row.

    ahead: shared prefixes stand so many tokens before what continues them.
    """

    def __init__(self, prompts: Sequence[Sequence[GenerateRow]], plan: Plan, ahead: int = 0) -> None:
        self.prompts = prompts
        self.prefixes: dict[int, KeyValues] = {}
        self._queue = deque(in_time(plan.rows, ahead) if ahead else plan.rows)
        self._under_way: set[int] = set()
        # How many rows still look up to a shared prefix: those of the plan, and those being generated.
        self._users = {row.index: row.children for row in plan.rows}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._queue)

    def take(self, most: int, limits: BatchLimits, *, wait: bool) -> list[PlanRow]:
        """Rows for one pass: up to so many prompts, none with the shared prefix that it continues.

        Empty where nothing is left, or where what is next hangs on a pass that is under way; wait: for that first.
        """
        with self._changed:
            while self._queue and self._queue[0].parent in self._under_way and wait:
                self._changed.wait()
            batch: list[PlanRow] = []
            tokens = prompts = 0
            while self._queue and (row := self._queue[0]).parent not in self._under_way:
                full = tokens + len(row.tokens) > limits.tokens or prompts >= most
                if batch and (full or any(other.index == row.parent for other in batch)):
                    break
                batch.append(self._queue.popleft())
                tokens += len(row.tokens)
                prompts += sum(len(self.prompts[item]) for item, _ in row.ends)
            self._under_way.update(row.index for row in batch)
            return batch

    def stem(self) -> list[PlanRow]:
        """The shared prefix that all rows which are left continue, once there is nothing else to begin with."""
        with self._changed:
            ready = (row for row in self._queue if row.parent is None or row.parent in self.prefixes)
            first, second = next(ready, None), next(ready, None)
            if first is None or second is not None or not first.children:
                return []
            self._queue.remove(first)
            return [first]

    def clear(self) -> None:
        """Let nobody take anything any more."""
        with self._changed:
            self._queue.clear()

    def has(self, row: PlanRow) -> bool:
        """Whether the shared prefix that a row continues is there, or it continues none."""
        return row.parent is None or row.parent in self.prefixes

    def look_up(self, prefix: int) -> None:
        """One more row that is being generated looks up to a shared prefix."""
        with self._changed:
            self._users[prefix] += 1

    def leave(self, prefix: int | None) -> None:
        """Forget a shared prefix's keys and values when nothing looks up to it any more."""
        if prefix is None:
            return
        with self._changed:
            self._users[prefix] -= 1
            if self._users[prefix] == 0:
                self.prefixes.pop(prefix, None)

    def end(self, rows: Sequence[PlanRow]) -> None:
        """The pass over these rows is over, whatever became of it."""
        with self._changed:
            self._under_way.difference_update(row.index for row in rows)
            self._changed.notify_all()
