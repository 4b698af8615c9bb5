"""Shared tokens are planned once, every position is read where it is, and nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.engine.plan import Plan, PlanItem, PlanRow, fill_batches, make_plan

PREFIX = tuple(range(1000, 2000))


def question(number: int, length: int = 50) -> tuple[int, ...]:
    return (*PREFIX, *(number * 1_000 + i + 10_000 for i in range(length)))


def path_tokens(plan: Plan, row: PlanRow, segment: int) -> tuple[int, ...]:
    """What an item that ends at a segment of a row sees, from the first token on."""
    tokens: list[int] = [token for start, end in row.path(segment) for token in row.tokens[start:end]]
    above = row.parent
    while above is not None:
        tokens = plan.rows[above].tokens + tokens
        above = plan.rows[above].parent
    return tuple(tokens)


def test_few_shot_examples_are_computed_once() -> None:
    plan = make_plan([PlanItem(question(i), 1049) for i in range(100)])

    assert plan.request_tokens == 100 * 1050
    assert plan.unique_tokens == plan.planned_tokens == 1000 + 100 * 50
    assert [row.children for row in plan.rows] == [100, *[0] * 100]
    assert "105,000 tokens, 6,000 of them distinct, 6,000 to compute (1.00 x distinct)" in plan.summary


def test_options_share_their_question() -> None:
    stem = tuple(range(300))
    plan = make_plan([PlanItem((*stem, 900 + i, 950, 960), 299) for i in range(4)])

    (row,) = plan.rows
    assert plan.planned_tokens == 300 + 4 * 3
    assert not row.is_path
    assert sorted((read.item, read.local) for read in row.reads if read.depth == 299) == [(i, 299) for i in range(4)]


def test_letters_are_one_input() -> None:
    plan = make_plan([PlanItem((1, 2, 3), 2)] * 4)

    (row,) = plan.rows
    assert row.tokens == [1, 2, 3]
    assert row.is_path
    assert [read.item for read in row.reads] == [0, 1, 2, 3]


def test_positions_scored_inside_a_shared_prefix_are_read_there() -> None:
    items = [PlanItem(question(i), 998) for i in range(10)]
    plan = make_plan(items)

    prefix = plan.rows[0]
    assert len(prefix.reads) == 10
    assert {(read.depth, read.count) for read in prefix.reads} == {(998, 2)}
    assert plan.reads_left == [2] * 10


def test_a_shared_prefix_is_never_in_the_batch_of_what_continues_it() -> None:
    plan = make_plan([PlanItem(question(i), 1049) for i in range(100)])

    batches = list(fill_batches(plan.rows, max_tokens=500))

    assert [len(batch) for batch in batches] == [1, *[10] * 10]
    assert [len(batch) for batch in fill_batches(plan.rows, 10**6, max_rows=30)] == [1, 30, 30, 30, 10]


items_strategy = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(1, 80), st.integers(0, 400)),
    max_size=25,
)


@given(items_strategy)
def test_any_set_of_items_is_covered(drawn: list[tuple[list[int], int, int]]) -> None:
    # Each drawn digit stands for a run of equal tokens, so that rows grow past the limits of one row.
    items = []
    for digits, stretch, first in drawn:
        tokens = tuple(digit for digit in digits for _ in range(stretch))
        items.append(PlanItem(tokens, min(first, len(tokens) - 1)))
    plan = make_plan(items)

    ended = {item: path_tokens(plan, row, segment) for row in plan.rows for item, segment in row.ends}
    assert ended == {index: item.tokens for index, item in enumerate(items)}
    read: dict[int, list[int]] = {index: [] for index in range(len(items))}
    spans = [0] * len(items)
    for row in plan.rows:
        assert row.parent is None or row.parent < row.index
        for entry in row.reads:
            depths = range(entry.depth, entry.depth + entry.count)
            read[entry.item] += depths
            spans[entry.item] += 1
            found = row.tokens[entry.local : entry.local + entry.count]
            assert tuple(found) == items[entry.item].tokens[depths.start : depths.stop]
    for index, item in enumerate(items):
        assert sorted(read[index]) == list(range(item.first, len(item.tokens)))
    assert spans == plan.reads_left
    assert plan.unique_tokens <= plan.planned_tokens <= plan.request_tokens
