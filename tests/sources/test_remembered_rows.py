"""Rows that were opened are remembered in a process, and no more of them than memory should hold."""

from __future__ import annotations

import pytest

from harness.data import open as data_open
from harness.data.open import forget_large, make_rows, open_dataset
from harness.types import DatasetSpec, Rows


class Source:
    """Gives five rows of any split, or as many as its name says, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def harness_open_dataset(self, spec: DatasetSpec, split: str) -> Rows:
        self.asked.append(split)
        return make_rows([{"n": n} for n in range(int(split.partition("-")[2] or 5))], split)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.setattr(data_open, "MANY", 12)
    return Source()


def opened(source: Source, *splits: str) -> list[str]:
    """What the source is asked while these are opened."""
    before = len(source.asked)
    for split in splits:
        rows = open_dataset(DatasetSpec("a/set"), split, source)
        assert len(rows.rows) == int(split.partition("-")[2] or 5)
    return source.asked[before:]


def test_splits_that_are_small_together_are_loaded_once(source: Source) -> None:
    assert opened(source, "a", "b", "a", "b") == ["a", "b"]


def test_of_many_rows_in_small_splits_those_that_were_asked_for_last_are_kept(source: Source) -> None:
    assert opened(source, "shots", "a", "shots", "b", "shots", "c", "shots") == ["shots", "a", "b", "c"]
    assert opened(source, "a") == ["a"]
    assert opened(source, "shots") == []


def test_a_large_split_is_kept_until_all_are_rendered(source: Source) -> None:
    assert opened(source, "a", "large-20", "large-20") == ["a", "large-20"]
    forget_large()
    assert opened(source, "large-20") == ["large-20"]
