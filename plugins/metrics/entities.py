"""Micro F1 of what a reply extracts: entities by type, or other items, each right only as a whole.

Answer and gold are JSON: `{"地址": ["杭州", "西湖"], "姓名": []}`, or a list of items that may themselves be lists
(triples).
The filter `json_value` brings a reply into this form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harness import Metric, Observation, hookimpl
from harness.scoring import gold_texts


class ExtractionF1(Metric):
    """2 P R / (P + R) of the extracted items over the whole set; an item counts once a row.

    Statistics of a row: right, extracted, gold. A reply without JSON extracts nothing.
    """

    name = "extraction_f1"
    output_types = frozenset({"generate_until"})
    aggregation = "self"
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        golds = gold_texts(seen.sample)
        if golds is None or not seen.predictions:
            return None
        # A target that renders to a list is one, of texts; any other holds JSON.
        gold = (
            {(text.strip(),) for text in golds}
            if isinstance(seen.sample.target, tuple)
            else {*_items(json.loads(golds[0]))}
        )
        answers = [set(_items(_parsed(answer))) for answer in seen.predictions]
        count = len(answers)
        right = sum(len(answer & gold) for answer in answers) / count
        return right, sum(map(len, answers)) / count, float(len(gold))

    def from_means(self, means: tuple[float, ...]) -> float:
        right, extracted, gold = means
        return 2 * right / (extracted + gold) if extracted + gold else 1.0


def _parsed(answer: str | None) -> Any:
    try:
        return json.loads(answer or "[]")
    except (ValueError, RecursionError):
        return []


def _items(value: Any) -> Iterator[tuple[str, ...]]:
    """Each item as a tuple of texts: (type, entity), (head, relation, tail), or (item,)."""
    if isinstance(value, dict):
        for kind, values in value.items():
            for item in values if isinstance(values, list) else [values]:
                if item not in (None, "") and not isinstance(item, dict | list):
                    yield (kind.strip(), str(item).strip())
    elif isinstance(value, list):
        for item in value:
            parts = list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else [item]
            yield tuple(str(part).strip() for part in parts)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [ExtractionF1]
