"""Scores pages in a process of its own, which may be ended: a reply of a megabyte can take patterns hours."""

from __future__ import annotations

from typing import Any

from harness.limited import serve
from harness.scoring.official.omnidocbench.page import compared


def answer(request: dict[str, Any]) -> dict[str, Any]:
    scores, formulas = compared(request["page"], request["reply"])
    return {"scores": scores, "formulas": formulas}


if __name__ == "__main__":
    serve(answer)
