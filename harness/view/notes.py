"""What people say of samples: a gold is wrong, an extractor is wrong, or it is interesting, and why.

    add_note(folder, index_number, NoteKind.GOLD, "the answer is B", gold="B")

Notes lie in `notes.json` of the run folder, beside the records, which nobody changes.
"""

from __future__ import annotations

import json
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import NotRequired, TypedDict

from filelock import FileLock

from harness import files
from harness.errors import UsageError
from harness.record.manifest import now

NOTES_FILE = "notes.json"
_LONGEST = 4_000


class NoteKind(Enum):
    """What is wrong with a sample, or worth a look. NONE takes a note away."""

    GOLD = "gold"
    EXTRACTOR = "extractor"
    INTERESTING = "interesting"
    NONE = "none"


NOTE_WORDS = {
    "gold": "the gold is wrong",
    "extractor": "the extractor is wrong",
    "interesting": "interesting",
    "none": "no note",
}
"""Kind of a note -> what pages and reports call it."""


class Note(TypedDict):
    """What was said of one sample. gold: what is right instead, where the gold is wrong and somebody said so."""

    task: str
    subset: str
    id: int
    kind: str
    why: str
    at: str
    gold: NotRequired[str]


def read_notes(folder: Path) -> list[Note]:
    """The notes of a run, in the order in which they were made. Raises UsageError for a damaged file."""
    path = folder / NOTES_FILE
    try:
        found = json.loads(files.read_text(path))
        return [Note(**note) for note in found["notes"]]  # type: ignore[typeddict-item]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None


def add_note(folder: Path, number: int, kind: NoteKind, why: str, gold: str = "") -> None:
    """Say something of the sample with this number in the run's index, in the place of what was said of it before.

    Raises UsageError where there is no such sample, and SaveError where the note cannot be written.
    """
    from harness.view.index import SampleIndex

    with SampleIndex.of(folder) as index:
        sample = index.sample(number)
    if sample is None:
        raise UsageError(f"{folder}: there is no sample {number}")
    key = {"task": sample.task, "subset": sample.subset, "id": sample.id}
    with FileLock(folder / ".notes.lock"):
        kept = [note for note in read_notes(folder) if {name: note[name] for name in key} != key]  # type: ignore[literal-required]
        if kind is not NoteKind.NONE:
            note = Note(**key, kind=kind.value, why=why.strip()[:_LONGEST], at=now())  # type: ignore[typeddict-item]
            if kind is NoteKind.GOLD and gold.strip():
                note["gold"] = gold.strip()[:_LONGEST]
            kept.append(note)
        files.replace_json(folder / NOTES_FILE, {"format": 1, "notes": kept})


def count_notes(folder: Path) -> Counter[str]:
    """Kind -> how many notes of a run."""
    return Counter(note["kind"] for note in read_notes(folder))
