"""What is known of whether a model has seen the rows of a run's tasks: a file in the run folder, and its sentences.

`harness contamination --run RUN` writes the file; each report of the run says what it holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import UsageError
from harness.record.file_types import problem_of
from harness.record.lock import FolderLock
from harness.record.manifest_fields import Manifest
from harness.record.report_fields import ContaminationFields, OverlapFields, ProbeFields, Report
from harness.types import JSON
from harness.words import Translate

CONTAMINATION_FILE = "contamination.json"
CLEAR = 0.01
"""A p-value below which a probe says that the model has seen the rows."""
ROWS, OPTIONS, MISSING, HALF, MIN_K = "order of rows", "order of options", "missing option", "second half", "Min-K%"
FINDINGS = {
    ROWS: "likes the order of rows of the benchmark",
    OPTIONS: "likes the order of options of the benchmark",
    MISSING: "guesses the missing option",
    HALF: "expects the second half of questions",
    MIN_K: "expects the rarest words of rows",
}
"""Probe -> what a model does that has seen the rows."""
UNITS = {ROWS: "shards of rows"}


def probe_sentence(task: str, probe: ProbeFields, t: Translate) -> str:
    """What a probe found, in one sentence."""
    name, p = probe["probe"], probe["p"]
    unit = t(UNITS.get(name, "questions"))
    if p is None or probe["effect"] is None:
        said = t("{task}: {probe}: nothing can be said from {n} {unit}", task=task, probe=t(name), n=probe["n"],
                 unit=unit)  # fmt: skip
    else:
        seen = "{task}: the model {finding} more than chance allows: it has seen them ({numbers})"
        not_seen = "{task}: the model {finding} no more than chance allows ({numbers})"
        of = "{effect} nats a shard" if name == ROWS else "{effect} of a rank"
        numbers = [f"p = {p:.2g}", t(of, effect=f"{probe['effect']:+.3f}"), f"{probe['n']} {unit}"]
        if probe["unseen"] is not None:
            numbers.append(t("{n} unseen", n=probe["unseen"]))
        if probe["verbatim"] is not None:
            numbers.append(t("{n} word for word", n=probe["verbatim"]))
        said = t(seen if is_found(probe) else not_seen, task=task, finding=t(FINDINGS.get(name, name)),
                 numbers=", ".join(numbers))  # fmt: skip
    out = "; ".join(t("{n} left out: {reason}", n=n, reason=t(reason)) for reason, n in probe["left_out"].items())
    return f"{said}; {out}" if out else said


def is_found(probe: ProbeFields) -> bool:
    """Whether a probe says that the model has seen the rows."""
    return probe["p"] is not None and probe["p"] < CLEAR


def overlap_sentences(task: str, found: OverlapFields, t: Translate) -> Iterator[str]:
    """What of a task stands in a corpus, in one sentence, and a second one of pictures, where rows show some."""
    short = t("; {n} rows are too short to be looked for", n=f"{found['too_short']:,}") if found["too_short"] else ""
    of_one, of_many = (
        "{task}: {found} of {n} rows stand in the corpus (1 document{short})",
        "{task}: {found} of {n} rows stand in the corpus ({documents} documents{short})",
    )
    yield t(
        of_one if found["documents"] == 1 else of_many,
        task=task,
        found=f"{found['found']:,}",
        n=f"{found['rows']:,}",
        documents=f"{found['documents']:,}",
        short=short,
    ) + _places(found["first"], found["found"], t)
    if found["pictured"]:
        shown = t(
            "{task}: of {n} rows with pictures, {found} show one that stands in the corpus ({pictures} pictures)",
            task=task,
            found=f"{found['alike']:,}",
            n=f"{found['pictured']:,}",
            pictures=f"{found['pictures']:,}",
        )
        yield shown + _places(found["first_alike"], found["alike"], t)


def _places(first: list[list[str]], count: int, t: Translate) -> str:
    """Where the first of the rows stand that were found: (row, place)."""
    named = [t("{row} in {place}", row=row, place=place) for row, place in first]
    return (": " + ", ".join(named) + (" ..." if count > len(first) else "")) if named else ""


def write_contamination(folder: Path, task: str, fields: ContaminationFields) -> None:
    """Keep in a run folder what was found of a task, beside what is known: a corpus takes the place of the earlier one,
    a probe that of the same probe. Raises SaveError, and UsageError for a damaged file, or while a run is at work."""
    lock = FolderLock(folder)
    try:
        known = read_contamination(folder)
        before = known.get(task, {})
        new = {probe["probe"]: probe for probe in fields.get("probes", ())}
        probes = [*(probe for probe in before.get("probes", ()) if probe["probe"] not in new), *new.values()]
        known[task] = {**before, **fields, **({"probes": probes} if probes else {})}
        files.replace_json(folder / CONTAMINATION_FILE, known)
    finally:
        lock.release()


def note_contamination(report: Report, manifest: Manifest, known: Mapping[str, ContaminationFields]) -> None:
    """Set in a report what is known of its tasks; a modified task has the rows of the task itself."""
    for task in report["tasks"]:
        labels = manifest.get("tasks", {}).get(task["task"], {}).get("modifiers") or ()
        name = task["task"].removesuffix("".join(f"+{label}" for label in labels))
        if name in known:
            task["contamination"] = known[name]


def read_contamination(folder: Path) -> dict[str, ContaminationFields]:
    """Task -> what is known of it; nothing where nobody has looked. Raises UsageError for a file that is damaged."""
    path = folder / CONTAMINATION_FILE
    try:
        value: Any = json.loads(files.read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if not isinstance(value, dict):
        raise _damaged(path, "it holds no tasks")
    tasks: Mapping[str, JSON] = value
    for task, fields in tasks.items():
        if problem := problem_of(fields, ContaminationFields):
            raise _damaged(path, f"{task}: {problem}")
    return dict(value)


def _damaged(path: Path, cause: object) -> UsageError:
    return UsageError(f"{path}: damaged ({cause}); take it away, and look again: harness contamination --run RUN")
