"""What a reply is worth: gold answers, scorers, aggregation. Plugins may use what is named here."""

from __future__ import annotations

from harness.scoring.gold import gold_indices, gold_texts
from harness.scoring.scorer import Scored, Scorer

__all__ = ["Scored", "Scorer", "gold_indices", "gold_texts"]
