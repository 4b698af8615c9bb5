"""The files of a run folder as they lie on disk: their kinds and their versions, and whether their fields are right.

The fields themselves are in `record_fields`, `manifest_fields`, `report_fields` and `score_fields`.

What is read is checked once, at the door; inside, nothing is guessed. A file of an earlier version is read as if it had
been written today (`upgraded_...`); one of a later version is refused. A field that is not named here is left alone.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal

from harness.interrupts import interrupts_wait
from harness.types import JSON

FORMAT = 2
"""Of a run folder and its report.

1: no `kind`; rows with keys like `$float` of their own could not be told from numbers; records without `rules`.
2: as described here.
"""
Kind = Literal["run", "judgement"]
"""What a folder holds: the answers of a model to tasks, or what a judge said of the answers of a run."""

Number = float | Literal["NaN", "Infinity", "-Infinity"]
"""JSON has no number that is not finite, so that these stand by their names."""


def upgraded(fields: Mapping[str, JSON]) -> dict[str, JSON]:
    """A manifest or a report as today's version has it. Version 1 told a judge's by their rubric alone."""
    kind: Kind = "judgement" if "rubric" in fields else "run"
    return {**fields, "kind": fields.get("kind", kind)}


def problem_of(fields: Mapping[str, JSON], kind: type) -> str | None:
    """What is wrong with the fields of one of those types, or of a dataclass as JSON has it, in one line; None where
    all is well."""
    try:
        if is_dataclass(kind):  # of which a list may be a tuple
            _validator(kind).validate_json(json.dumps(fields), strict=True)
        else:
            _validator(kind).validate_python(fields, strict=True)
    except ValueError as error:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            raise
        first = error.errors(include_url=False, include_context=False)[0]
        # Of a value that may be of several types, each type complains; their names in the path are no part of the file.
        parts = [str(part) for part in first["loc"]]
        path = ".".join(part for part in parts if "[" not in part and part not in ("float", "int", "str", "none"))
        return f"{path}: {first['msg'].lower()}" if path else str(first["msg"]).lower()
    except RecursionError:
        return "nested too deeply"
    return None


@functools.cache
def _validator(kind: type) -> Any:
    # pydantic takes a while to import, and whoever reads no file of a run needs none of it.
    from pydantic import TypeAdapter

    with interrupts_wait():
        return TypeAdapter(kind).validator
