"""How alike two HTML tables are: TEDS, the tree edit distance over the number of nodes (Zhong et al. 2020).

The distance is Zhang and Shasha's (1989), which costs little for trees as flat as tables are. Needs lxml and rapidfuzz.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
    """The least cost that turns one tree into the other: 1 a node inserted or deleted, `_change` a node changed.

    Time: the product of the sizes times that of the depths, or of the numbers of leaves where these are less.
    """
    left, right = _postorder(one), _postorder(other)
    changes = _changes(left.nodes, right.nodes)
    distances = [list(row) for row in changes]  # which they are already between two leaves
    leaves = {index for index, first in enumerate(right.first) if first == index}
    branches = [index for index in right.roots if index not in leaves]
    for i in left.roots:
        for j in branches if left.first[i] == i else right.roots:
            _fill(distances, left.first, right.first, i, j, changes)
    return distances[-1][-1]


def _fill(
    distances: list[list[float]], left: list[int], right: list[int], i: int, j: int, changes: list[list[float]]
) -> None:
    """The distances between all subtrees that begin where node i's and node j's begin."""
    top, start = left[i], right[j]
    above = [float(column) for column in range(j - start + 2)]
    rows = [above]
    for x in range(top, i + 1):
        row = [above[0] + 1]
        whole_left, change, known = left[x] == top, changes[x], distances[x]
        before_left = rows[left[x] - top]
        for column, y in enumerate(range(start, j + 1), 1):
            cost = min(above[column] + 1, row[-1] + 1)
            if whole_left and right[y] == start:
                cost = min(cost, above[column - 1] + change[y])
                known[y] = cost
            else:
                cost = min(cost, before_left[right[y] - start] + known[y])
            row.append(cost)
        rows.append(row)
        above = row


def _changes(left: list[Node], right: list[Node]) -> list[list[float]]:
    """What it costs to make one node of another: 1 if they differ in kind, else how far apart their texts are."""
    from rapidfuzz.distance import Levenshtein

    known: dict[tuple[tuple[str, ...], tuple[str, ...]], float] = {}

    def change(one: Node, other: Node) -> float:
        if (one.tag, one.spans) != (other.tag, other.spans):
            return 1.0
        if not one.signs and not other.signs:
            return 0.0
        key = one.signs, other.signs
        if key not in known:
            known[key] = Levenshtein.distance(*key) / max(len(one.signs), len(other.signs))
        return known[key]

    return [[change(one, other) for other in right] for one in left]
