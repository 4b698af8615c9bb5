"""What is computed, and how often: every token that requests share is planned once. Pure Python.

The inputs of a run are the leaves of a radix tree over token ids. The tree is cut into rows, the pieces that go through
the model in one pass. A row is either a *shared prefix*, a path whose keys and values are kept for the rows that
continue it, or a *leaf*, a subtree with nothing left below it: a question with its options, or a single prompt. Rows of
a batch are laid end to end, so that no padding is computed.

    plan = make_plan([PlanItem(tokens=(1, 2, 3, 4), first=3), PlanItem(tokens=(1, 2, 3, 5), first=3)])
    plan.request_tokens, plan.unique_tokens, plan.planned_tokens    # 8, 5, 5
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field

from harness.engine.limits import PlanLimits
from harness.quick import dataclass


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One input of the model. What it predicts is read at positions `first` to `len(tokens) - 1`."""

    tokens: tuple[int, ...]
    first: int


@dataclass(frozen=True, slots=True)
class Read:
    """Positions of an item that lie in one row: item positions from `depth` on are row positions from `local` on."""

    item: int
    depth: int
    local: int
    count: int


@dataclass(slots=True)
class PlanRow:
    """A connected piece of the tree that goes through the model in one pass.

    parent: the shared prefix that it continues; None at the root. start: how many tokens come before it.
    segments: (first, last + 1, index of the parent segment or -1) of each tree node in it, in local positions; a
    token sees its own segment up to itself, the segments above it, and the shared prefix. ends: (item, segment) of the
    items that end in this row. children: how many rows continue it (0 for a leaf).

    rotary: where a model's positions are not a count of tokens (in images they are places), those of each token, and
    shifts: how far ahead of the count the token after each segment is. Empty elsewhere. blocks: local spans of tokens
    that see each other, the later ones too: images, in some models.
    """

    index: int
    parent: int | None
    start: int
    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[tuple[int, int, int]] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    ends: list[tuple[int, int]] = field(default_factory=list)
    children: int = 0
    rotary: list[tuple[int, ...]] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)
    blocks: list[tuple[int, int]] = field(default_factory=list)

    @property
    def is_path(self) -> bool:
        """Whether each token sees all tokens before it, so that ordinary causal attention is right."""
        return not self.blocks and all(parent == index - 1 for index, (_, _, parent) in enumerate(self.segments))

    def path(self, segment: int) -> list[tuple[int, int]]:
        """The local spans from the row's first token down to the end of `segment`."""
        spans = []
        while segment >= 0:
            start, end, parent = self.segments[segment]
            spans.append((start, end))
            segment = parent
        return spans[::-1]


@dataclass(frozen=True)
class Plan:
    """All rows of a run, shared prefixes before what continues them, and what they cost.

    reads_left: for each item, in how many rows its positions lie.
    """

    items: Sequence[PlanItem]
    rows: list[PlanRow]
    reads_left: list[int]
    request_tokens: int
    unique_tokens: int
    planned_tokens: int

    @property
    def summary(self) -> str:
        """One line: what is asked, what is distinct, what is computed."""
        ratio = self.planned_tokens / max(1, self.unique_tokens)
        return (
            f"{len(self.items):,} inputs, {self.request_tokens:,} tokens, {self.unique_tokens:,} of them distinct, "
            f"{self.planned_tokens:,} to compute ({ratio:.2f} x distinct)"
        )


def make_plan(items: Sequence[PlanItem], limits: PlanLimits | None = None) -> Plan:
    """Cut the prefix tree of `items` into rows."""
    root = _build_tree(items)
    unique = _measure(root)
    planner = _Planner(items, limits or PlanLimits())
    planner.run(root)
    return Plan(
        items=items,
        rows=planner.rows,
        reads_left=planner.reads_left,
        request_tokens=sum(len(item.tokens) for item in items),
        unique_tokens=unique,
        planned_tokens=sum(len(row.tokens) for row in planner.rows),
    )


def fill_batches(rows: Sequence[PlanRow], max_tokens: int, max_rows: int | None = None) -> Iterator[list[PlanRow]]:
    """Cut rows, in their order, into batches of at most `max_tokens` tokens (a single longer row is a batch).

    A row never shares a batch with the shared prefix that it continues.
    """
    batch: list[PlanRow] = []
    inside: set[int] = set()
    tokens = 0
    for row in rows:
        full = tokens + len(row.tokens) > max_tokens or (max_rows is not None and len(batch) >= max_rows)
        if batch and (full or row.parent in inside):
            yield batch
            batch, inside, tokens = [], set(), 0
        batch.append(row)
        inside.add(row.index)
        tokens += len(row.tokens)
    if batch:
        yield batch


def in_time(rows: Sequence[PlanRow], tokens: int) -> list[PlanRow]:
    """The rows of a plan, with each shared prefix so many tokens earlier: what continues it need not wait for it."""
    begins, at = [], 0
    for row in rows:
        begins.append(at - (tokens if row.children else 0))
        at += len(row.tokens)
    return [rows[place] for place in sorted(range(len(rows)), key=lambda place: begins[place])]


@dataclass(slots=True, eq=False)
class _Node:
    """Tokens `start` to `end` of `source`, seen by all items below. size and longest are of the subtree."""

    source: tuple[int, ...]
    start: int
    end: int
    children: list[_Node] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    size: int = 0
    longest: int = 0

    @property
    def length(self) -> int:
        return self.end - self.start


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """Length of the common prefix of two tuples or two texts, by bisection over slices (compared in C)."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _build_tree(items: Sequence[PlanItem]) -> _Node:
    """A radix tree. In sorted order, each item only touches the path of the one before it."""
    root = _Node((), 0, 0)
    stack = [root]
    before: tuple[int, ...] = ()
    for index in sorted(range(len(items)), key=lambda i: items[i].tokens):
        tokens = items[index].tokens
        shared = common_prefix(before, tokens)
        below = None
        while stack[-1].end > shared:
            below = stack.pop()
        if stack[-1].end < shared:
            assert below is not None
            stack.append(_split(stack[-1], below, shared))
        if len(tokens) > shared:
            node = _Node(tokens, shared, len(tokens))
            stack[-1].children.append(node)
            stack.append(node)
        stack[-1].items.append(index)
        before = tokens
    return root


def _split(parent: _Node, node: _Node, at: int) -> _Node:
    """Put a node that ends at depth `at` between a parent and its last child."""
    upper = _Node(node.source, node.start, at, children=[node])
    node.start = at
    parent.children[-1] = upper
    return upper


def _measure(root: _Node) -> int:
    """Fill in the sizes of all subtrees. Returns the number of distinct tokens."""
    order = [root]
    for node in order:
        order.extend(node.children)
    for node in reversed(order):
        node.size = node.length + sum(child.size for child in node.children)
        node.longest = node.length + max((child.longest for child in node.children), default=0)
    return root.size


class _Planner:
    """Cuts a measured tree into rows, depth first."""

    def __init__(self, items: Sequence[PlanItem], limits: PlanLimits) -> None:
        self.items = items
        self.limits = limits
        self.rows: list[PlanRow] = []
        self.reads_left = [0] * len(items)
        # (node, shared prefix above it, short nodes above it that are computed again in each row below them)
        self._todo: list[tuple[_Node, int | None, tuple[_Node, ...]]] = []

    def run(self, root: _Node) -> None:
        self._todo.append((root, None, ()))
        while self._todo:
            self._visit(*self._todo.pop())

    def _visit(self, node: _Node, parent: int | None, above: tuple[_Node, ...]) -> None:
        own = node.length + sum(upper.length for upper in above)
        if own and self._fits_one_row(node.size - node.length, node.longest - node.length, own):
            self._emit(parent, above, [node])
            return
        pieces = -(-(node.size - node.length) // self.limits.leaf)
        if own * (pieces - 1) > self.limits.gain:
            row = self._emit(parent, (*above, node), [])
            self._descend(node, row.index, ())
        else:
            self._descend(node, parent, (*above, node) if own else ())
            if node.items:
                self._emit(parent, (*above, node), [])

    def _descend(self, node: _Node, parent: int | None, above: tuple[_Node, ...]) -> None:
        """Cut what is below a node: leaves now, the longest first, and what is larger later."""
        own = sum(upper.length for upper in above)
        small = [child for child in node.children if self._fits_one_row(child.size, child.longest, own)]
        large = [child for child in node.children if not self._fits_one_row(child.size, child.longest, own)]
        small.sort(key=lambda child: -child.size)
        group: list[_Node] = []
        for child in small:
            # Branches that recompute what is above them do so together.
            if group and (not above or own + sum(n.size for n in group) + child.size > self.limits.leaf):
                self._emit(parent, above, group)
                group = []
            group.append(child)
        if group:
            self._emit(parent, above, group)
        self._todo += [(child, parent, above) for child in reversed(large)]

    def _emit(self, parent: int | None, above: tuple[_Node, ...], tops: list[_Node]) -> PlanRow:
        """Add a row: the path `above`, then the subtrees `tops`. Without `tops` the path's last node may end items."""
        first = (above or tuple(tops))[0]
        row = PlanRow(len(self.rows), parent, first.start)
        self.rows.append(row)
        if parent is not None:
            self.rows[parent].children += 1
        last = -1
        for node in above:
            last = _add_segment(row, node, last)
        if not tops and above:
            self._end_items(row, above[-1], last)
        stack = [(top, last) for top in reversed(tops)]
        while stack:
            node, upper = stack.pop()
            segment = _add_segment(row, node, upper)
            self._end_items(row, node, segment)
            stack += [(child, segment) for child in reversed(node.children)]
        return row

    def _end_items(self, row: PlanRow, node: _Node, segment: int) -> None:
        """Note where the positions of the items that end at `node` are read: in this row and the prefixes above it."""
        for item in node.items:
            row.ends.append((item, segment))
            first = self.items[item].first
            for start, end in reversed(row.path(segment)):
                self._read(row, item, start, end, first)
            above = row.parent
            while above is not None:
                prefix = self.rows[above]
                if prefix.start + len(prefix.tokens) <= first:
                    break
                self._read(prefix, item, 0, len(prefix.tokens), first)
                above = prefix.parent

    def _read(self, row: PlanRow, item: int, start: int, end: int, first: int) -> None:
        depth = row.positions[start]
        skipped = max(0, first - depth)
        if skipped < end - start:
            row.reads.append(Read(item, depth + skipped, start + skipped, end - start - skipped))
            self.reads_left[item] += 1

    def _fits_one_row(self, below: int, longest: int, above: int) -> bool:
        """Whether a subtree is computed in one row: small, or mostly one path, or nothing but one path.

        below and longest are the size of what branches and its longest path; above is the path before it.
        """
        size, path = above + below, above + longest
        return size <= self.limits.leaf or size == path or (size <= self.limits.long_leaf and size <= 2 * path)


def _add_segment(row: PlanRow, node: _Node, parent: int) -> int:
    start = len(row.tokens)
    row.tokens += node.source[node.start : node.end]
    row.positions += range(node.start, node.end)
    row.segments.append((start, len(row.tokens), parent))
    return len(row.segments) - 1
