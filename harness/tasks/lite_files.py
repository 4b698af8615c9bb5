"""Lite sets: a small file says which rows of a task stand for all of them, and for how many each.

harness lite cmmlu --size 200         # writes cmmlu.lite.json
harness --tasks cmmlu.lite.json       # or cmmlu:lite, where the file lies beside the task or in --include_path
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import DataError, TaskError
from harness.quick import dataclass
from harness.types import JSON

Row = Mapping[str, JSON]
SUFFIX = ".lite.json"
VARIANT = "lite"
_FORMAT = "harness lite set 1"


@dataclass(frozen=True, slots=True)
class LiteRow:
    """weight: for how many rows it stands. digest: of what it says, so that another row in its place is noticed."""

    weight: float
    digest: str


@dataclass(frozen=True, slots=True)
class LiteCheck:
    """How far estimates lay from full scores, on models that had no part in the choice of the rows.

    runs: what these are called. metric: the score. mean_error: the mean of estimate minus full score; mean_absolute and
    root_mean_square: of these errors. rank_correlation: Spearman's, of the models by estimate and by full score.
    half_width: of the 95 % interval of an estimate: Student's t of as many errors, for one error more. held: how many
    of the models lay in the interval that the others give.
    """

    runs: tuple[str, ...]
    metric: str
    mean_error: float
    mean_absolute: float
    root_mean_square: float
    rank_correlation: float | None
    half_width: float
    held: int


@dataclass(frozen=True, slots=True)
class LiteSet:
    """rows: subset -> number of a row -> what it stands for. task: full name. method: how the rows were chosen, in
    words. of_rows: subset -> how many rows there are. chosen_by: the runs by whose scores they were chosen."""

    task: str
    method: str
    seed: int
    rows: Mapping[str, Mapping[int, LiteRow]]
    of_rows: Mapping[str, int]
    chosen_by: tuple[str, ...] = ()
    check: LiteCheck | None = None
    file: Path = field(default=Path(), compare=False)

    @property
    def size(self) -> int:
        return sum(map(len, self.rows.values()))

    @property
    def digest(self) -> str:
        """A hash of the rows and their weights."""
        return hashlib.sha256(json.dumps(_rows_json(self)).encode()).hexdigest()[:16]


def row_hash(row: Row, media: Collection[str] = ()) -> str:
    """A hash of what a row says, without its columns `media`; the order of columns is no part of it."""
    text = json.dumps({name: value for name, value in row.items() if name not in media}, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def write_lite(lite: LiteSet, path: Path) -> None:
    """Raises `SaveError`."""
    check: JSON = None
    if lite.check is not None:
        check = {name: _plain(getattr(lite.check, name)) for name in LiteCheck.__slots__}
    fields = {
        "format": _FORMAT,
        "task": lite.task,
        "method": lite.method,
        "seed": lite.seed,
        "chosen_by": list(lite.chosen_by),
        "size": lite.size,
        "check": check,
        "of_rows": dict(lite.of_rows),
    }
    head = json.dumps(fields, ensure_ascii=False, indent=1).removesuffix("\n}")
    rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in _rows_json(lite))
    files.replace(path, [f'{head},\n "rows": [\n{rows}\n ]\n}}\n'.encode()])


def read_lite(path: Path) -> LiteSet:
    """Raises `TaskError`, in one line, for what is no lite set."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(told, dict) or told.get("format") != _FORMAT:
            raise ValueError(f"says no 'format': '{_FORMAT}'")
        rows: dict[str, dict[int, LiteRow]] = {}
        for place, entry in enumerate(told["rows"]):
            subset, number, weight, digest = _entry(entry, place)
            if number in rows.setdefault(subset, {}):
                raise ValueError(f"rows[{place}] names row {number} of '{subset}' a second time")
            rows[subset][number] = LiteRow(weight, digest)
        if not rows:
            raise ValueError("it has no rows")
        of_rows = {str(name): int(count) for name, count in told["of_rows"].items()}
        stand_for = sum(row.weight for chosen in rows.values() for row in chosen.values())
        if not math.isclose(stand_for, sum(of_rows.values()), rel_tol=1e-3):
            raise ValueError(
                f"its weights stand for {stand_for:,.6g} rows, and 'of_rows' counts {sum(of_rows.values()):,}"
            )
        check = told.get("check")
        return LiteSet(
            task=str(told["task"]),
            method=str(told["method"]),
            seed=int(told["seed"]),
            rows=rows,
            of_rows=of_rows,
            chosen_by=tuple(map(str, told.get("chosen_by", ()))),
            check=_check(check) if check else None,
            file=path,
        )
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror or error})") from error
    except KeyError as error:
        raise TaskError(f"{path}: is no lite set: it lacks {error} (`harness lite TASK` makes one)") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise TaskError(f"{path}: is no lite set: {error} (`harness lite TASK` makes one)") from error


def check_row(lite: LiteSet, subset: str, number: int, row: Row, media: Collection[str]) -> None:
    """Raises `DataError` where the row is not the one that was chosen. media: its columns of media."""
    if row_hash(row, media) != lite.rows[subset][number].digest:
        where = f"row {number}" + (f" of {subset}" if subset else "")
        raise DataError(f"{lite.file}: {where} is another row than the one that was chosen: the data have changed")


def _entry(entry: Any, place: int) -> tuple[str, int, float, str]:
    subset, number, weight, digest = entry
    plain = isinstance(subset, str) and type(number) is int and isinstance(digest, str)
    if not plain or isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise ValueError(f"rows[{place}] should be [subset, number, weight above 0, hash], found {entry!r:.80}")
    return subset, number, float(weight), digest


def _check(told: Any) -> LiteCheck:
    """The check that a file holds, of whose numbers an interval can be made."""
    check = LiteCheck(**{**told, "runs": tuple(told["runs"])})
    for name in ("half_width", "root_mean_square"):
        width = getattr(check, name)
        if isinstance(width, bool) or not isinstance(width, int | float) or not 0 <= width < math.inf:
            raise ValueError(f"check.{name} should be a number of 0 or more, found {width!r:.80}")
    return check


def _rows_json(lite: LiteSet) -> list[list[JSON]]:
    return [
        [subset, number, round(row.weight, 6), row.digest]
        for subset, rows in lite.rows.items()
        for number, row in sorted(rows.items())
    ]


def _plain(value: Any) -> JSON:
    return list(value) if isinstance(value, tuple) else value
