"""Tables of logic puzzles, read from JSON in a reply."""

from __future__ import annotations

import json

import pytest

from harness import Observation, Response, Sample
from harness_plugins.metrics.tables import CellAccuracy, PuzzleAccuracy, last_json_object

TABLE = {"header": ["House", "Name", "Drink"], "rows": [["1", "Eric", "tea"], ["2", "Arnold", "milk"]]}
RIGHT = {"House 1": {"Name": "Eric", "Drink": "Tea "}, "House 2": {"Name": ["Arnold"], "Drink": "milk"}}


def seen(*replies, solution=TABLE):
    row = {"solution": solution}
    return Observation(Sample("t", "", 0, row, (), None), tuple(Response(text=reply) for reply in replies), (), replies)


def reply(table):
    return f"So {{this}} is it:\n```json\n{json.dumps({'reasoning': 'x', 'solution': table}, indent=1)}\n```"


def test_every_cell_counts_and_the_puzzle_is_solved_when_all_are_right():
    assert PuzzleAccuracy().score(seen(reply(RIGHT), "no")) == 0.5
    assert CellAccuracy().score(seen(reply(RIGHT), "no")) == (4.0, 8.0)
    assert CellAccuracy().from_means((1.5, 2.0)) == 0.75


@pytest.mark.parametrize(
    ("table", "right"),
    [({"House 1": {"Name": "Eric", "Drink": None}}, 1), ({"House 1": "Eric"}, 0), (None, 0), ([], 0), ({}, 0)],
)
def test_what_is_missing_in_a_table_is_wrong(table, right):
    assert CellAccuracy().score(seen(reply(table))) == (right, 4.0)


def test_a_solution_that_is_blank_or_not_there_gives_no_score():
    blank = {"header": ["House", "Name"], "rows": [["___", "___"]]}
    assert PuzzleAccuracy().score(seen(reply(RIGHT), solution=blank)) is None
    assert PuzzleAccuracy().score(seen(reply(RIGHT), solution=None)) is None


def test_the_last_object_of_a_text_counts():
    assert last_json_object('{"a": 1} and {"b": {"c":\n 2}} }') == {"b": {"c": 2}}
    assert last_json_object('{"a": 1} and {b}') is None and last_json_object("none") is None
