"""Writes the answers of a benchmark that keeps its gold to itself, in the form that its leaderboard takes.

The form is `{subset: {id: answer}}`, as in submission_example.json of the C-Eval repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from harness import files
from harness.types import Record


def write_submission(records: Iterable[Record], path: Path) -> int:
    """Write the submission file of one task. Returns how many samples have no answer; those are left out.

    Raises SaveError.
    """
    answers: dict[str, dict[str, str]] = {}
    missing = 0
    for record in records:
        answer = answer_of(record)
        if answer is None:
            missing += 1
        else:
            # The row's own id is what the leaderboard knows; our ids count rows.
            answers.setdefault(record.subset, {})[str(record.doc.get("id", record.id))] = answer
    files.replace(path, [json.dumps(answers, ensure_ascii=False, indent=1).encode("utf-8", "replace")])
    return missing


def answer_of(record: Record) -> str | None:
    """The likeliest choice, or what the first filter pipeline read from the reply."""
    if record.error:
        return None
    if record.choices and record.logprobs:
        return record.choices[max(range(len(record.choices)), key=record.logprobs.__getitem__)]
    replies = next(iter(record.answers.values()), (record.text,))
    return replies[0] if replies else None
