"""Running out of memory halves the batch; only what does not fit alone is an error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.engine.outcomes import Failed, Scored
from harness.engine.plain import BatchLimits, Piece, cut_batches, run_halving


def run_with_room_for(rows: int, seen: list[list[int]]) -> object:
    def run(batch: list[int]) -> Iterator[Piece]:
        seen.append(batch)
        if len(batch) > rows or 13 in batch:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return iter([(item, 0, Scored(0.0, True, 1), 0.0) for item in batch])

    return run


def fail(item: int, reason: str) -> Iterator[Piece]:
    yield item, 0, Failed(reason), 0.0


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost() -> None:
    seen: list[list[int]] = []

    pieces = list(run_halving(list(range(10)), run_with_room_for(3, seen), fail, "cpu"))  # type: ignore[arg-type]

    assert [piece[0] for piece in pieces] == list(range(10))
    assert all(isinstance(piece[2], Scored) for piece in pieces)
    assert [len(batch) for batch in seen[:3]] == [10, 5, 2]


def test_one_request_that_does_not_fit_is_its_own_error() -> None:
    pieces = list(run_halving([12, 13, 14], run_with_room_for(3, []), fail, "cpu"))  # type: ignore[arg-type]

    failed = [piece for piece in pieces if isinstance(piece[2], Failed)]
    assert [piece[0] for piece in failed] == [13]
    reason = "cpu has too little memory for this request alone (it wanted 2.00 GiB more): try a shorter max_length"
    assert failed[0][2].reason == reason  # type: ignore[union-attr]


def test_another_error_is_not_taken_for_it() -> None:
    def run(batch: list[int]) -> Iterator[Piece]:
        raise RuntimeError(f"shape mismatch in {batch}")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(run_halving([1, 2], run, fail, "cpu"))


def test_batches_count_padding_and_rows() -> None:
    lengths = [50, 40, 30, 20, 10, 10, 10]

    cut = list(cut_batches(lengths, lambda length: length, BatchLimits(rows=3, tokens=100)))

    assert cut == [[50, 40], [30, 20, 10], [10, 10]]
