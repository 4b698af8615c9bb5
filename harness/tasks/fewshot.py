"""Which examples a row is shown: the same ones whatever the order, the limit or the number of workers."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence, Set

from harness.errors import DataError
from harness.quick import dataclass
from harness.tasks.render import Rendered
from harness.tasks.task import Task
from harness.types import JSON

Row = Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class ShotPool:
    """The rows that examples are drawn from.

    first_n: nothing is drawn. once: what is drawn is the same for all rows. origin: what errors call the pool. salt:
    seed, task and subset, which decide the draw, with a row's id where each row has its own. holds_asked:
    whether the rows that are asked are in it: then there must be enough of them besides the one that is asked. peer:
    draws as lm-eval does, where that is asked for.
    """

    rows: Sequence[Row]
    count: int
    first_n: bool
    origin: str
    salt: str
    holds_asked: bool = False
    peer: LMEvalSampler | None = None
    once: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether all rows are shown the same examples, but for a row that is itself among them."""
        return self.first_n or self.once or (self.peer is not None and self.peer.first_n)

    def draw(
        self, doc_id: int, is_asked: Callable[[int], bool], is_row: Callable[[int], bool]
    ) -> tuple[tuple[int, ...], frozenset[int]]:
        """Indices into `rows` of the examples for a row, and of those that were left out of the draw.

        is_row: whether a row of the pool is equal to the one that is asked, in all columns. is_asked: whether it is the
        question that is asked, which would show its answer. Where a pool of
        other rows has no more to show in its place, there are fewer examples. Raises `DataError`.
        """
        left_out: frozenset[int] = frozenset()
        if self.peer is not None:
            return self.peer.draw(is_row), left_out
        while True:
            left = len(self.rows) - len(left_out)
            if left < self.count and (self.holds_asked or not left_out):
                without = f" besides the row that is asked ({len(left_out)} alike)" if left_out else ""
                raise DataError(
                    f"num_fewshot: {self.count} few-shot examples are asked for, but {self.origin} has "
                    f"{left}{without}; lower num_fewshot or name another fewshot_split"
                )
            count = min(self.count, left)
            if self.first_n:
                drawn = tuple(index for index in range(count + len(left_out)) if index not in left_out)[:count]
            else:
                salt = self.salt if self.once else f"{self.salt}\0{doc_id}"
                drawn = _draw(salt, len(self.rows), count, left_out)
            asked = frozenset(filter(is_asked, drawn))
            if not asked:
                return drawn, left_out
            left_out |= asked


class LMEvalSampler:
    """Draws examples as lm-eval does (api/samplers.py), so that a published number can be repeated.

    One generator serves all rows, in their order: what a row is shown hangs on how often it was drawn before. The row
    that is asked is left out only where `excludes`; elsewhere it may be shown its own answer, as in lm-eval.
    first_n: nothing is drawn, the first are shown.
    """

    def __init__(
        self, rows: Sequence[Row], count: int, seed: int, origin: str, *, excludes: bool, first_n: bool = False
    ) -> None:
        self.first_n = first_n
        self._rows, self._count, self._origin, self._excludes = rows, count, origin, excludes
        self._random = random.Random(seed)

    def draw(self, is_row: Callable[[int], bool]) -> tuple[int, ...]:
        """Indices of the examples for the next row. is_row: whether a row of the pool is equal to that."""
        wanted = self._count + self._excludes
        if wanted > len(self._rows):
            has = f"{self._origin} has {len(self._rows)}"
            raise DataError(
                f"num_fewshot: sampler lm_eval draws {wanted} examples at a time, but {has}; lower num_fewshot"
            )
        if self.first_n:
            left = [index for index in range(len(self._rows)) if not (self._excludes and is_row(index))]
            return tuple(left[: self._count])
        drawn = self._random.sample(range(len(self._rows)), wanted)
        if not self._excludes:
            return tuple(drawn)
        others = [index for index in drawn if not is_row(index)][: self._count]
        if len(others) < self._count:
            pool = [index for index in range(len(self._rows)) if not is_row(index)]
            others = self._random.sample(pool, self._count)
        return tuple(others)


def make_pool(
    rows: Sequence[Row],
    task: Task,
    origin: str,
    salt: str,
    indices: Sequence[int] | None,
    seed: int,
    *,
    holds_asked: bool,
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
    count = task.config.num_fewshot or 0
    peer = None
    if sampler in ("lm_eval", "lm_eval_first_n"):
        split = (config and config.split) or task.config.fewshot_split
        peer = LMEvalSampler(
            rows,
            count,
            seed,
            origin,
            excludes=split == task.config.test_split,
            first_n=sampler == "lm_eval_first_n",
        )
    once = sampler == "once"
    return ShotPool(
        rows, count, first_n=first_n, origin=origin, salt=salt, holds_asked=holds_asked, peer=peer, once=once
    )


class SameQuestion:
    """What makes two rows of a subset the same question: the columns that are read, or the text that is shown.

    columns: of the rows that are asked.
    """

    def __init__(self, task: Task, columns: Set[str]) -> None:
        templates = task.templates.doc.templates
        read = {name for template in templates for name in (template.names | {template.source}) & columns}
        open_ended = any(template.open_ended for template in templates)
        self._names = sorted(columns if not read or open_ended else read)
        # A text that reads no column is the same for all rows, whatever they ask.
        shown = [part for part in templates if part is not task.templates.doc.target]
        self._is_shown = any(part.open_ended or (part.names | {part.source}) & columns for part in shown)

    def same_columns(self, first: Row, second: Row) -> bool:
        """Whether the rows agree in every column that the task's templates read."""
        return all(_canonical(first.get(name)) == _canonical(second.get(name)) for name in self._names)

    def same_text(self, first: Rendered, second: Rendered) -> bool:
        """Whether the rows show the same text and the same choices, blanks and the order of the choices aside."""
        return self._is_shown and _shown(first) == _shown(second)


def _canonical(value: JSON) -> JSON:
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _shown(row: Rendered) -> tuple[str, frozenset[str]]:
    return " ".join(f"{row.text} {row.gen_prefix}".split()), frozenset(row.choices)


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
