"""Reads answers from replies: choice letters, numbers, what remains without reasoning. Pure functions for every task.

    choice_letter("故选（B）。")                      # "B"
    choice_letters("答案是A、C，B错误")               # "AC"
    final_number("一共三十五个苹果")                  # "35"
    strip_reasoning("<think>...</think>B")           # ("B", "...")

What cannot be read is None. None of these functions guesses; how often they return None is counted and reported.
"""

from __future__ import annotations

from harness.reasoning import strip_reasoning
from harness.scoring.extraction.letters import choice_letter, choice_letters
from harness.scoring.extraction.markup import answer_tags, boxed
from harness.scoring.extraction.numbers import final_number, numbers_in
from harness.scoring.extraction.numerals import chinese_number

__all__ = [
    "answer_tags",
    "boxed",
    "chinese_number",
    "choice_letter",
    "choice_letters",
    "final_number",
    "numbers_in",
    "strip_reasoning",
]
