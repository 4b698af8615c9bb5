"""Answer extraction, metrics, aggregation, and the sandbox for programs. Plugins may use what is named here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.patterns import find_all, replace_all
from harness.scoring import sandbox
from harness.scoring.extraction.code_blocks import fenced_blocks, program_in
from harness.scoring.extraction.final_answers import (
    answer_tags,
    boxed,
    chinese_number,
    choice_letter,
    choice_letters,
    final_number,
    numbers_in,
    strip_reasoning,
)
from harness.scoring.extraction.programs import code_block, same_code
from harness.scoring.extraction.tool_calls import CallError, ToolCall, python_calls, read_calls
from harness.scoring.gold import all_right, gold_indices, gold_texts, mean_over_predictions
from harness.scoring.math.arithmetic import arithmetic_value
from harness.scoring.math.equality import math_equal
from harness.scoring.official.acebench import acebench_calls, acebench_correct, acebench_notices
from harness.scoring.official.bfcl import calls_match
from harness.scoring.official.sanitized_code import sanitized_code
from harness.scoring.row_metrics import (
    FIRST,
    MOST_VIEWS,
    ZERO_TO_ONE,
    AboveChance,
    Chance,
    Consistency,
    Contradiction,
    FirstView,
    Kept,
    MeanOfViews,
    Spread,
    WorstView,
    against_chance,
    averaged,
    chance_of,
    per_view,
    shares,
)
from harness.scoring.scorer import SampleScores, Scorer
from harness.types import NO_CHOICE

if TYPE_CHECKING:
    from harness.scoring.statistics.agreement import rank_correlation

__all__ = [
    "FIRST",
    "MOST_VIEWS",
    "NO_CHOICE",
    "ZERO_TO_ONE",
    "AboveChance",
    "CallError",
    "Chance",
    "Consistency",
    "Contradiction",
    "FirstView",
    "Kept",
    "MeanOfViews",
    "SampleScores",
    "Scorer",
    "Spread",
    "ToolCall",
    "WorstView",
    "acebench_calls",
    "acebench_correct",
    "acebench_notices",
    "against_chance",
    "all_right",
    "answer_tags",
    "arithmetic_value",
    "averaged",
    "boxed",
    "calls_match",
    "chance_of",
    "chinese_number",
    "choice_letter",
    "choice_letters",
    "code_block",
    "fenced_blocks",
    "final_number",
    "find_all",
    "gold_indices",
    "gold_texts",
    "math_equal",
    "mean_over_predictions",
    "numbers_in",
    "per_view",
    "program_in",
    "python_calls",
    "rank_correlation",
    "read_calls",
    "replace_all",
    "same_code",
    "sandbox",
    "sanitized_code",
    "shares",
    "strip_reasoning",
]


def __getattr__(name: str) -> Any:
    if name == "rank_correlation":  # it needs numpy, which commands that score nothing do without
        from harness.scoring.statistics.agreement import rank_correlation

        return rank_correlation
    raise AttributeError(f"module 'harness.scoring' has no attribute '{name}'")
