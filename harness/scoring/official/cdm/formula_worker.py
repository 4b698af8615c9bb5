"""Colours and compares formulas in a process of its own, which may be ended: a formula can be as long as a reply."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from harness.limited import serve
from harness.scoring.official.cdm.colours import coloured
from harness.scoring.official.cdm.matching import f1, picture_of

_DEPTH = 20_000  # calls; KaTeX's own limit is the stack of JavaScript


def answer(request: dict[str, Any]) -> dict[str, Any]:
    if "formulas" in request:
        each = [coloured(formula) for formula in request["formulas"]]
        return {"coloured": [None if found is None else asdict(found) for found in each]}
    return {"f1": f1(picture_of(request["gold"]), picture_of(request["given"]))}


if __name__ == "__main__":
    sys.setrecursionlimit(_DEPTH)
    serve(answer)
