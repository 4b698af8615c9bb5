"""Levenshtein's distance: insertions, deletions and substitutions, one each."""

from __future__ import annotations


def edit_distance(first: str, second: str) -> int:
    """The fewest edits that turn one text into the other. Time and memory: length times length, and length."""
    if len(first) < len(second):
        first, second = second, first
    row = list(range(len(second) + 1))
    for i, char in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (char != other))
    return row[-1]
