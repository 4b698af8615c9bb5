"""MathVista (lupantech/MathVista, `evaluation/calculate_score.py` at 2a249bb and the rules of
`evaluation/extract_answer.py`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.scoring.official.edit_distance import edit_distance
from harness.types import JSON


def mathvista_extract(response: str, question_type: str, answer_type: str, choices: Sequence[str] = ()) -> str | None:
    """The extraction that needs no model, or None where the script asks one."""
    if not response:
        return ""
    if question_type == "multi_choice" and response in choices:
        return response
    try:
        if answer_type == "integer":
            return str(int(response))
        if answer_type == "float":
            return str(float(response))
    except ValueError:
        pass
    match = re.search(r'The answer is "(.*)"\.', response)
    return match[1] if match else None


def mathvista_normalise(
    extraction: JSON,
    question_type: str,
    answer_type: str,
    choices: Sequence[str] = (),
    precision: float | None = None,
    *,
    legacy_integers: bool = False,
    ignore_empty: bool = False,
) -> str | None:
    """The prediction that is compared with the gold as text, or None.

    extraction: mostly a text; a model that was asked for JSON may have given anything. What is no text is written as
        one for choices and lists, and equals no other gold.
    legacy_integers: read an integer without going through float, as the results published in 2023 did ("3.0" fails).
    ignore_empty: give up on an empty extraction; the script takes the choice with the smallest edit distance.
    """
    if question_type == "multi_choice":
        return _choice(extraction.strip() if isinstance(extraction, str) else str(extraction), choices, ignore_empty)
    try:
        if answer_type == "integer":
            return str(int(extraction)) if legacy_integers else str(int(float(extraction)))
        if answer_type == "float":
            return str(round(float(extraction), None if precision is None else int(precision)))
    except (ValueError, OverflowError, TypeError):
        return None
    if answer_type == "list":
        return str(extraction)
    return extraction if isinstance(extraction, str) else None


def _choice(extraction: str, choices: Sequence[str], ignore_empty: bool) -> str | None:
    if ignore_empty and not extraction:
        return None
    letter = re.search(r"\(([a-zA-Z])\)", extraction)
    if letter:
        extraction = letter[1].upper()
    if len(extraction) == 1 and 0 <= ord(extraction) - ord("A") < len(choices):
        return choices[ord(extraction) - ord("A")]
    return min(choices, key=lambda choice: edit_distance(extraction, choice))
