"""Which examples a row is shown: the same ones whatever the order, the limit or the number of workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import DataError
from harness.tasks.task import Task
from harness.types import JSON

Row = Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class ShotPool:
    """The rows that examples are drawn from.

    origin: what errors call the pool. salt: seed, task and subset; with a row's id it decides the draw.
    twin_key: what two rows have in common that are the same question; None where no test row can be in the pool.
    """

    rows: Sequence[Row]
    count: int
    first_n: bool
    origin: str
    salt: str
    twin_key: Callable[[Row], str] | None = None
    _twins: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def is_fixed(self) -> bool:
        """Whether all rows are shown the same examples, but for a row that is itself among them."""
        return self.first_n

    def draw(self, doc_id: int, row: Row) -> tuple[int, ...]:
        """Indices into `rows` of the examples for a row, which is never one of them. Raises `DataError`."""
        twins = frozenset(self._twins.get(self.twin_key(row), ())) if self.twin_key else frozenset[int]()
        if len(self.rows) - len(twins) < self.count:
            without = f" besides the row that is asked ({len(twins)} alike)" if twins else ""
            raise DataError(
                f"num_fewshot: {self.count} few-shot examples are asked for, but {self.origin} has "
                f"{len(self.rows) - len(twins)}{without}; lower num_fewshot or name another fewshot_split"
            )
        if self.first_n:
            return tuple(index for index in range(self.count + len(twins)) if index not in twins)[: self.count]
        return _draw(f"{self.salt}\0{doc_id}", len(self.rows), self.count, twins)


def make_pool(
    rows: Sequence[Row], task: Task, origin: str, salt: str, may_hold_test_rows: bool, indices: Sequence[int] | None
) -> ShotPool:
    """Make the pool of a subset. Raises `TaskError` for `fewshot_indices` that are not there."""
    config = task.config.fewshot_config
    for index in indices or ():
        if index >= len(rows):
            what = f"fewshot_indices: {index} is outside the {len(rows)} rows of {origin}"
            raise task.document.error(("fewshot_config", "fewshot_indices"), what)
    rows = [rows[index] for index in indices] if indices is not None else rows
    sampler = config.sampler if config else None
    own_split = task.config.fewshot_split or (config and config.split)
    written_here = bool(config and config.samples is not None and not own_split)
    # Examples that are written into the task have an order on purpose; only `sampler: default` says otherwise.
    first_n = sampler == "first_n" or (sampler is None and written_here)
    twin_key = _twin_key(task, rows) if may_hold_test_rows else None
    twins: dict[str, list[int]] = {}
    if twin_key:
        for index, row in enumerate(rows):
            twins.setdefault(twin_key(row), []).append(index)
    return ShotPool(rows, task.config.num_fewshot or 0, first_n, origin, salt, twin_key, twins)


def _twin_key(task: Task, rows: Sequence[Row]) -> Callable[[Row], str]:
    """Rows are the same question when they agree in every column that the task's templates read."""
    templates = task.templates.doc.templates
    columns = {column for row in rows for column in row}
    read = {name for template in templates for name in (template.names | {template.source}) & columns}
    names = sorted(columns if not read or any(template.open_ended for template in templates) else read)
    return lambda row: json.dumps([row.get(name) for name in names], sort_keys=True, default=str)


def _draw(salt: str, size: int, count: int, without: frozenset[int]) -> tuple[int, ...]:
    """`count` different indices below `size`, each equally likely. A hash, so that no Python version changes it."""
    drawn: dict[int, None] = {}
    turn = 0
    while len(drawn) < count:
        block = hashlib.sha256(f"{salt}\0{turn}".encode()).digest()
        turn += 1
        for start in range(0, 32, 8):
            index = int.from_bytes(block[start : start + 8], "big") % size
            if index not in without and len(drawn) < count:
                drawn.setdefault(index)
    return tuple(drawn)
