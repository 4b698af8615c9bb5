"""Metrics of replies that are lists (which of the wanted items they hold), and of how near a reply is to a text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness import Metric, Observation, hookimpl
from harness.scoring import find_all, mean_over_predictions
from harness.scoring.official import CHINESE_PUNCTUATION, edit_distance

_NO_PUNCTUATION = str.maketrans(dict.fromkeys(CHINESE_PUNCTUATION, ""))


class ListedItems(Metric):
    """The share of the gold's items that a reply has, in any order; items are what `patterns` find in a line.

    patterns: of each line, the first that occurs counts; its groups are the item. keep: how many of the groups are
    compared. cut: a line ends where this stands.
    """

    name = "listed_items"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, patterns: Sequence[str], keep: int | None = None, cut: str | None = None) -> None:
        self._patterns = [re.compile(pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns)]
        self._keep = keep
        self._cut = cut

    def score(self, seen: Observation) -> float | None:
        def share(answer: str, golds: Sequence[str]) -> float:
            wanted = self._items(golds[0])
            if not wanted:
                raise ValueError("no pattern finds an item in the gold answer")
            return len(self._items(answer) & wanted) / len(wanted)

        return mean_over_predictions(seen, share, unread="")

    def _items(self, text: str) -> set[tuple[str, ...]]:
        items = set()
        for line in text.strip().split("\n"):
            line = line.partition(self._cut)[0] if self._cut else line
            item = next((matches[0] for pattern in self._patterns if (matches := find_all(pattern, line))), None)
            if item is not None:
                items.add((item,) if isinstance(item, str) else tuple(item[: self._keep]))
        return items


class EditSimilarity(Metric):
    """1 - d / max(length), d being Levenshtein's distance between the characters of answer and gold; the best gold
    counts. ignore_punctuation: that of ASCII and of Chinese texts is left out. Two empty texts are alike.
    """

    name = "edit_similarity"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, ignore_punctuation: bool = False) -> None:
        self._ignored = _NO_PUNCTUATION if ignore_punctuation else {}

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(
            seen, lambda answer, golds: max(self._similarity(answer, gold) for gold in golds), unread=""
        )

    def _similarity(self, answer: str, gold: str) -> float:
        one, other = answer.translate(self._ignored), gold.translate(self._ignored)
        longest = max(len(one), len(other))
        return 1 - edit_distance(one, other) / longest if longest else 1.0


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [EditSimilarity, ListedItems]
