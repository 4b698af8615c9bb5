"""The submission file of a leaderboard whose answers are hidden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import Prompt, Record, Response, SaveError
from harness.record.submission import write_submission


def record(subset: str, row_id: int, response: Response, **changes: object) -> Record:
    values: dict[str, object] = {"choices": ("A", "B"), "answers": {}} | changes
    return Record(
        task="exam:test",
        subset=subset,
        id=row_id + 100,
        doc={"id": row_id},
        prompt=Prompt("?"),
        target=None,
        responses=(response,),
        request_keys=("k",),
        scores={"acc": None},
        **values,  # type: ignore[arg-type]
    )


def test_answers_are_keyed_by_subject_and_by_the_id_of_the_row(tmp_path: Path) -> None:
    records = [
        record("law", 0, Response(logprobs=(-2.0, -1.0))),
        record("law", 1, Response(logprobs=(-0.5, -1.0))),
        record("医学", 0, Response(text="选B"), choices=(), answers={"none": ("B",)}),
    ]
    missing = write_submission(records, tmp_path / "exam.json")
    assert missing == 0
    assert json.loads((tmp_path / "exam.json").read_text(encoding="utf-8")) == {
        "law": {"0": "B", "1": "A"},
        "医学": {"0": "B"},
    }


def test_a_failed_or_unread_sample_is_left_out_and_counted(tmp_path: Path) -> None:
    records = [
        record("law", 0, Response(error="no answer"), error="no answer"),
        record("law", 1, Response(text="?"), choices=(), answers={"none": (None,)}),
    ]
    assert write_submission(records, tmp_path / "exam.json") == 2
    assert json.loads((tmp_path / "exam.json").read_text(encoding="utf-8")) == {}


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"exam\.json: cannot be written: No such file"):
        write_submission([], tmp_path / "absent" / "exam.json")
