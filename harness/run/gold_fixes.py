"""Scores with corrected golds: the run as it would be, had the benchmark said what people found to be right.

    score_run("runs/A", gold_fixes=Path("fixes.csv"))

The run itself stays as it is. A copy of its records lies in `corrected/` of its folder, with the corrections beside
them, so that to score the copy again corrects it again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from pathlib import Path

from harness import files
from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.codec import jsonable
from harness.record.manifest import MANIFEST_FILE, safe_name
from harness.record.report_fields import Report
from harness.record.run import REPORT_FILE, RunFolder
from harness.record.score_fields import CorrectionFields
from harness.record.shown import short_title
from harness.run.sample_lists import ListedSample, SampleNames, read_sample_list
from harness.types import Record, Sample, SampleKey

CORRECTED = "corrected"
FIXES_FILE = "gold_fixes.json"
_NAMED = 3
Say = Callable[[str], None]
Gold = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GoldFixes:
    """Corrected golds by sample. source: the file that they are from."""

    golds: Mapping[SampleKey, Gold] = field(default_factory=dict)
    source: str = ""

    def of(self, record: Record) -> Gold | None:
        """The corrected gold of a record's row, whichever view of it the record is."""
        return self.golds.get(record.key._replace(view=0))

    def applied(self, sample: Sample, record: Record) -> Sample:
        """The sample with its corrected gold, where it has one."""
        gold = self.of(record)
        return sample if gold is None else replace(sample, target=target_of(gold, record))


def read_fixes(path: Path, say: Say) -> list[tuple[ListedSample, Gold]]:
    """The corrections of a file: a table with columns task, id and gold, or notes of the viewer.

    Of notes, those count that say what the right answer is; say: is told how many do not.
    """
    listed = read_sample_list(path, "--gold_fixes", "kind" if _is_notes(path) else "gold")
    notes = [each for each in listed if each.text("kind") == "gold"] if _is_notes(path) else listed
    fixes = []
    for each in notes:
        value = each.cells.get("gold")
        gold: Gold = tuple(map(str, value)) if isinstance(value, list) else each.text("gold")
        if gold:
            fixes.append((each, gold))
    if len(notes) > len(fixes):
        say(f"{path}: {len(notes) - len(fixes)} of {len(notes)} do not say what is right, and change nothing")
    if not fixes:
        raise UsageError(f"--gold_fixes {path}: says of no sample what is right")
    return fixes


def _is_notes(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    try:
        return "notes" in json.loads(files.read_text(path))
    except (OSError, ValueError):
        return False


def target_of(gold: Gold, record: Record) -> int | str | tuple[int, ...] | tuple[str, ...]:
    """A gold as the record's target has it: places among its options, or texts.

    Where a modifier moved the options of a view, their letters are those of the row as it is. Raises UsageError where
    it is none of the options.
    """
    golds = (gold,) if isinstance(gold, str) else gold
    places = record.target[:1] if isinstance(record.target, tuple) else (record.target,)
    if not record.choices or (places and isinstance(places[0], str)):
        return gold
    found = tuple(_place(each, record) for each in golds)
    return found if isinstance(gold, tuple) or isinstance(record.target, tuple) else found[0]


def _place(gold: str, record: Record) -> int:
    choices = [choice.strip() for choice in record.choices]
    letters = all(len(choice) == 1 for choice in choices)
    if gold in choices:
        place = choices.index(gold)
    elif len(gold) == 1 and 0 <= ord(gold.upper()) - ord("A") < len(choices):
        place, letters = ord(gold.upper()) - ord("A"), True
    else:
        shown = ", ".join(choice[:30] for choice in choices[:8])
        where = f"{record.task} {record.subset}{'/' if record.subset else ''}{record.id}"
        raise UsageError(f"--gold_fixes: '{gold[:60]}' is no option of {where} (its options: {shown}), nor a letter")
    moved = record.view is not None and record.view.is_moved and letters
    return record.view.order.index(place) if moved and record.view else place


@contextmanager
def corrected_copy(path: Path, fixes_file: Path, say: Say) -> Iterator[tuple[Path, Path]]:
    """A copy of a run's records with its corrections, to be scored in the block: (where it is, where it will be).

    It takes its place below the run when the block ends well, so that no folder there has scores of other golds than
    it says. say: is told how many corrections change nothing, or are of what the run does not have. Raises UsageError
    before anything is written: for a file that cannot be used, and where it changes nothing.
    """
    fixes = read_fixes(fixes_file, say)
    with RunFolder.reopen(path) as folder:
        if folder.kind == "judgement" or "corrected" in folder.manifest:
            what = "judgements" if folder.kind == "judgement" else "a run with corrected golds"
            raise UsageError(f"{path}: holds {what}; name the run itself")
        report = folder.report
        if report is None:
            raise UsageError(f"{path}: has no report yet: the run has not ended; its command goes on with it")
        golds, counts = _matched(fixes, folder, say)
        told = CorrectionFields(
            of=str(folder.path),
            file=str(fixes_file),
            before={task["task"]: task["metrics"] for task in report["tasks"]},
            changed=counts["changed"],
            as_before=counts["as_before"],
            unknown=counts["unknown"],
        )
        with _moved_when_scored(_place_of(folder.path, fixes_file, golds)) as (unfinished, place):
            _write_copy(folder, unfinished, golds, told, report)
            yield unfinished, place


def _matched(
    fixes: Sequence[tuple[ListedSample, Gold]], folder: RunFolder, say: Say
) -> tuple[dict[SampleKey, Gold], dict[str, int]]:
    """The corrections of samples that the run has, and how many change something."""
    tasks = dict.fromkeys(each.key.task for each, _ in fixes)
    records = {record.key: record for task in tasks for record in folder.records(task)}
    names = SampleNames(list(records))
    golds: dict[SampleKey, Gold] = {}
    unknown: list[str] = []
    for each, gold in fixes:
        key = names.find(each)
        if key is None:
            unknown.append(names.unknown_task(each.key.task) or f"{each.where}: the run has no such sample")
            continue
        if golds.get(key, gold) != gold:
            raise UsageError(f"{each.where}: another row says '{golds[key]}' of the same sample, and this one '{gold}'")
        try:
            target_of(gold, records[key])
        except UsageError as error:
            raise UsageError(f"{each.where}: {str(error).removeprefix('--gold_fixes: ')}") from None
        golds[key] = gold
    for text in dict.fromkeys(unknown[:_NAMED]):
        say(text)
    changed = sum(target_of(gold, records[key]) != records[key].target for key, gold in golds.items())
    if not changed:
        raise UsageError(f"--gold_fixes: changes no gold of this run ({len(golds)} stand so already, {len(unknown)} "
                         "are of samples that it does not have)")  # fmt: skip
    return golds, {"changed": changed, "as_before": len(golds) - changed, "unknown": len(unknown)}


def _place_of(run: Path, fixes_file: Path, golds: Mapping[SampleKey, Gold]) -> Path:
    digest = hashlib.sha256(json.dumps(sorted(golds.items())).encode()).hexdigest()[:8]
    return run / CORRECTED / f"{safe_name(fixes_file.stem)}-{digest}"


@contextmanager
def _moved_when_scored(place: Path) -> Iterator[tuple[Path, Path]]:
    """A new folder that takes the place of `place`. Raises SaveError. The run's lock is held: nobody else is here."""
    try:
        for left in place.parent.glob(f".*{files.UNFINISHED}"):  # by a kill
            shutil.rmtree(left)
        unfinished = files.beside(place)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished, place
            if place.exists():  # of an earlier state of the run
                shutil.rmtree(place)
            unfinished.replace(place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise files.save_error(place, error) from error


def _write_copy(
    folder: RunFolder, to: Path, golds: Mapping[SampleKey, Gold], told: CorrectionFields, report: Report
) -> None:
    for file in folder.path.glob("*.jsonl"):
        shutil.copy2(file, to / file.name)
    fixes = [
        {"task": key.task, "subset": key.subset, "id": key.id, "gold": gold} for key, gold in sorted(golds.items())
    ]
    files.replace_json(to / FIXES_FILE, {"format": 1, "fixes": fixes, "source": told["file"]})
    spec = {**folder.manifest.get("spec", {}), "name": f"{short_title(folder.manifest)}, corrected golds"}
    files.replace_json(to / MANIFEST_FILE, {**folder.manifest, "spec": spec, "corrected": told})
    files.replace_json(to / REPORT_FILE, jsonable(report))


def fixes_in(folder: Path) -> GoldFixes | None:
    """The corrections that a run folder was scored with; None where it has none."""
    path = folder / FIXES_FILE
    if not path.exists():
        return None
    fixes = read_fixes(path, lambda text: None)
    return GoldFixes({each.key: gold for each, gold in fixes}, str(path))
