"""What a reply is worth: reading answers, gold answers, scorers, aggregation. Plugins may use what is named here."""

from __future__ import annotations

from harness.scoring.extract import (
    boxed,
    chinese_number,
    choice_letter,
    choice_letters,
    final_number,
    numbers_in,
    strip_reasoning,
)
from harness.scoring.gold import gold_indices, gold_texts
from harness.scoring.scorer import Scored, Scorer

__all__ = [
    "Scored",
    "Scorer",
    "boxed",
    "chinese_number",
    "choice_letter",
    "choice_letters",
    "final_number",
    "gold_indices",
    "gold_texts",
    "numbers_in",
    "strip_reasoning",
]
