"""How alike two HTML tables are: TEDS, the tree edit distance over the number of nodes (Zhong et al. 2020).

The distance is Zhang and Shasha's (1989), which costs little for trees as flat as tables are. Rows with equally many
cells are compared all at once, by the same additions: a model that repeats a table until it is cut writes thousands.
Needs lxml, numpy and rapidfuzz.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import TYPE_CHECKING, Any

from harness.quick import dataclass

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Costs = npt.NDArray[np.float64]

# Pairs of subtrees from which on arrays are faster than numbers.
_MANY_PAIRS = 12


@dataclass(frozen=True, slots=True)
class Node:
    """A table, a row or a cell; `signs` are those of a cell, its tags as one sign each."""

    tag: str
    spans: tuple[int, int] | None = None
    signs: tuple[str, ...] = ()
    children: list[Node] = field(default_factory=list)


def teds(given: str, gold: str, structure: bool = False) -> float:
    """1 for two tables that are the same, 0 where they have nothing in common or either is none.

    structure: compare rows, cells and spans alone, not what is written in the cells. A table that no tree can be made
    of (a span that is no number) counts 0, as in the script.
    """
    if not given or not gold:
        return 0.0
    try:
        trees = [_table(markup) for markup in (given, gold)]
        if any(tree is None for tree in trees):
            return 0.0
        nodes = max(len(tree.xpath(".//*")) for tree in trees)
        distance = tree_distance(_node(trees[0], structure), _node(trees[1], structure))
        return 1.0 - distance / nodes
    except (ValueError, ZeroDivisionError, RecursionError):
        return 0.0


def _table(markup: str) -> Any:
    """The first table of a page; None where there is none."""
    from lxml import html  # type: ignore[import-untyped]

    page = html.fromstring(markup, parser=html.HTMLParser(remove_comments=True, encoding="utf-8"))
    tables = page.xpath("body/table")
    return tables[0] if tables else None


def _node(element: Any, structure: bool) -> Node:
    if element.tag == "td":
        spans = int(element.attrib.get("colspan", "1")), int(element.attrib.get("rowspan", "1"))
        return Node("td", spans, () if structure else tuple(_signs(element)[1:-1]))
    return Node(element.tag, children=[_node(child, structure) for child in element])


def _signs(element: Any) -> list[str]:
    """A cell's letters and tags, its own tags first and last."""
    signs = [f"<{element.tag}>", *(element.text or "")]
    for child in element:
        signs += _signs(child)
    if element.tag != "unk":
        signs.append(f"</{element.tag}>")
    if element.tag != "td":
        signs += element.tail or ""
    return signs


@dataclass(frozen=True, slots=True)
class _Tree:
    """A tree in postorder. first: the first node, in this order, below each; roots: nodes with a left neighbour, and
    the root: where the subproblems begin."""

    nodes: list[Node]
    first: list[int]
    roots: list[int]

    def by_shape(self) -> list[tuple[int, ...]]:
        """The roots, those together whose subtrees have the same shape; what stands in another comes before it."""
        shapes: dict[tuple[int, ...], list[int]] = {}
        for root in self.roots:
            start = self.first[root]
            shapes.setdefault(tuple(first - start for first in self.first[start : root + 1]), []).append(root)
        return [tuple(shapes[shape]) for shape in sorted(shapes, key=len)]


def _postorder(root: Node) -> _Tree:
    nodes: list[Node] = []
    first: list[int] = []

    def walk(node: Node) -> int:
        firsts = [walk(child) for child in node.children]
        nodes.append(node)
        first.append(firsts[0] if firsts else len(nodes) - 1)
        return first[-1]

    walk(root)
    last_with = {leaf: index for index, leaf in enumerate(first)}
    return _Tree(nodes, first, sorted(last_with.values()))


def tree_distance(one: Node, other: Node) -> float:
    """The least cost that turns one tree into the other: 1 a node inserted or deleted, `_changes` a node changed.

    Time: the product of the sizes times that of the depths, or of the numbers of leaves where these are less.
    """
    left, right = _postorder(one), _postorder(other)
    changes = _changes(left.nodes, right.nodes)
    distances = changes.copy()  # which they are already between two leaves
    others = right.by_shape()
    for some in left.by_shape():
        for more in others:
            if left.first[some[0]] == some[0] and right.first[more[0]] == more[0]:
                continue
            if len(some) * len(more) < _MANY_PAIRS:
                for i, j in ((i, j) for i in some for j in more):
                    _fill(distances, left.first, right.first, i, j, changes)
            else:
                _fill_together(distances, left.first, right.first, some, more, changes)
    return float(distances[-1, -1])


def _fill(distances: Costs, left: list[int], right: list[int], i: int, j: int, changes: Costs) -> None:
    """The distances between all subtrees that begin where node i's and node j's begin."""
    top, start = left[i], right[j]
    above = [float(column) for column in range(j - start + 2)]
    rows = [above]
    # Where the left neighbours of each subtree on the right end; -1 where there are none.
    ends = [first - start or -1 for first in right[start : j + 1]]
    for x in range(top, i + 1):
        cost = above[0] + 1
        row = [cost]
        whole_left = left[x] == top
        before_left = rows[left[x] - top]
        known = distances[x, start : j + 1].tolist()
        change = changes[x, start : j + 1].tolist() if whole_left else known
        for column, end in enumerate(ends):
            cost = min(cost, above[column + 1]) + 1
            if whole_left and end < 0:
                cost = min(cost, above[column] + change[column])
                known[column] = cost
            else:
                cost = min(cost, before_left[max(end, 0)] + known[column])
            row.append(cost)
        if whole_left:
            distances[x, start : j + 1] = known
        rows.append(row)
        above = row


def _fill_together(
    distances: Costs, left: list[int], right: list[int], some: Iterable[int], more: Iterable[int], changes: Costs
) -> None:
    """`_fill` for all pairs of some subtrees that have one shape and others that have one."""
    import numpy as np

    ends, others = np.array(some)[:, None], np.array(more)[None, :]
    i, j = int(ends[0, 0]), int(others[0, 0])
    top, start = left[i], right[j]
    height, width = i - top + 1, j - start + 1
    costs = np.empty((height + 1, width + 1, ends.size, others.size))
    costs[0] = np.arange(width + 1.0)[:, None, None]
    for x in range(height):
        above, row, before_left = costs[x], costs[x + 1], costs[left[top + x] - top]
        row[0] = above[0] + 1
        nodes = ends - i + top + x
        for y in range(width):
            first = right[start + y] - start
            pairs = nodes, others - j + start + y
            cost = np.minimum(above[y + 1], row[y]) + 1
            if left[top + x] == top and first == 0:
                cost = np.minimum(cost, above[y] + changes[pairs])
                distances[pairs] = cost
            else:
                cost = np.minimum(cost, before_left[first] + distances[pairs])
            row[y + 1] = cost


def _changes(left: list[Node], right: list[Node]) -> Costs:
    """What it costs to make one node of another, shape [left, right]: 1 if they differ in kind, else how far apart
    their texts are."""
    import numpy as np
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    # A sign is a letter or a whole tag: one character stands for each.
    letters: dict[str, str] = {}
    kinds: dict[tuple[str, tuple[int, int] | None], int] = {}
    texts, places, of_kind = [], [], []
    for nodes in (left, right):
        written = [
            "".join(letters.setdefault(sign, chr(0x10000 + len(letters))) for sign in each.signs) for each in nodes
        ]
        numbers: dict[str, int] = {}
        places.append([numbers.setdefault(text, len(numbers)) for text in written])
        texts.append(list(numbers))
        of_kind.append(np.array([kinds.setdefault((each.tag, each.spans), len(kinds)) for each in nodes]))
    edits = cdist(*texts, scorer=Levenshtein.distance, dtype=np.int32)
    longest = np.maximum.outer(*([max(1, len(text)) for text in side] for side in texts))
    return np.where(np.equal.outer(*of_kind), (edits / longest)[np.ix_(*places)], 1.0)
