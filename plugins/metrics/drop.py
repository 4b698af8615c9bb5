"""DROP's exact match and F1, by the rules of its official script (allennlp-reading-comprehension, drop_eval.py).

A gold answer is a number, a date, or one or several spans of the passage; there may be several gold answers, of which
the best counts. Spans of the reply are matched with those of the gold so that the sum of their F1 is greatest; a span
whose gold has numbers scores nothing where it shares none of them.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from harness import Metric, Observation, hookimpl
from harness.scoring.official import is_float

Spans = tuple[str, ...]
# Blanks count from the first of them: to try each of a long row takes for ever.
_SEPARATORS = re.compile(r"(?:(?<!\s)\s+)?(?:[\n;,]|\band\b)\s*")


class _Drop(Metric):
    """Base of the metrics of this file, for rows as DROP has them.

    answer, others: the columns with the first gold answer (`number`, `date`, `spans`) and with the ones of other people
    (a list for each of these keys). split: a reply is read as a list (split at commas, semicolons, line ends, "and")
    where that fits a gold answer of several spans better; without it, as lm-evaluation-harness does, it is one span.
    """

    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, answer: str = "answer", others: str = "validated_answers", split: bool = False) -> None:
        self._columns = (answer, others)
        self._split = split

    def best(self, seen: Observation, judge: Callable[[Spans, Spans], float]) -> float | None:
        """The mean over the replies of the best value over the gold answers; None where the gold is hidden."""
        first, others = (seen.sample.doc[column] for column in self._columns)
        golds = [gold for gold in drop_golds(first, others) if gold[0].strip()]
        if not golds or not seen.predictions:
            return None
        values = [max(self._value(reply, gold, judge) for gold in golds) for reply in seen.predictions]
        return sum(values) / len(values)

    def _value(self, reply: str | None, gold: Spans, judge: Callable[[Spans, Spans], float]) -> float:
        if reply is None:
            return 0.0
        readings: list[Spans] = [(reply,)]
        if self._split and len(gold) > 1:
            readings.append(tuple(part for part in _SEPARATORS.split(reply) if part) or (reply,))
        return max(judge(reading, gold) for reading in readings)


class DropExactMatch(_Drop):
    """1 where the reply's spans are those of a gold answer, in any order."""

    name = "drop_em"

    def score(self, seen: Observation) -> float | None:
        return self.best(seen, drop_em)


class DropF1(_Drop):
    """The mean F1 of the words of matched spans, over the longer of both lists; rounded to two places as the script."""

    name = "drop_f1"

    def score(self, seen: Observation) -> float | None:
        return self.best(seen, drop_f1)


def drop_golds(first: Mapping[str, Any], others: Mapping[str, Sequence[Any]]) -> list[Spans]:
    """The different gold answers of a row, each a tuple of spans."""
    count = len(others.get("number", ()))
    rest = [{key: others[key][index] for key in ("number", "date", "spans")} for index in range(count)]
    return list(dict.fromkeys(_gold(answer) for answer in [first, *rest]))


def _gold(answer: Mapping[str, Any]) -> Spans:
    if answer["number"] != "":
        return (str(answer["number"]),)
    if len(answer["spans"]):
        return tuple(answer["spans"])
    return (" ".join(answer["date"][part] for part in ("day", "month", "year")).strip(),)


def drop_em(reply: Spans, gold: Spans) -> float:
    """The official exact match of lists of spans."""
    replied, wanted = ([_normalised(span) for span in spans] for spans in (reply, gold))
    return float(set(replied) == set(wanted) and len(replied) == len(wanted))


def drop_f1(reply: Spans, gold: Spans) -> float:
    """The official F1 of lists of spans."""
    replied, wanted = ([set(_normalised(span).split()) for span in spans] for spans in (reply, gold))
    scores = [[_f1(words, own) for words in replied] for own in wanted]
    matched = _matched(scores) + [0.0] * (len(replied) - len(wanted))
    return float(np.round(np.mean(matched), 2))  # numpy rounds 0.225 to 0.22, as the script does


def _f1(found: set[str], wanted: set[str]) -> float:
    numbers = {word for word in wanted if is_float(word)}
    if numbers and not numbers & found:
        return 0.0
    shared = len(wanted & found)
    precision = shared / len(found) if found else 1.0
    recall = shared / len(wanted) if wanted else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _normalised(text: str) -> str:
    words = []
    for token in re.split(" |-", text.lower()):
        if not is_float(token):
            token = "".join(char for char in token if char not in string.punctuation)
        token = str(float(token)) if is_float(token) else token
        words += re.sub(r"\b(a|an|the)\b", " ", token).split()
    return " ".join(words)


def _matched(scores: Sequence[Sequence[float]]) -> list[float]:
    """For each row the entry that it has in the greatest sum of one entry a row and column (Kuhn 1955, by prices)."""
    rows = len(scores)
    columns = max(rows, len(scores[0]))
    scores = [[*line, *[0.0] * (columns - len(line))] for line in scores]
    row_price, column_price = [0.0] * (rows + 1), [0.0] * (columns + 1)
    owner = [0] * (columns + 1)  # the row that a column is given to; 0 for none, and rows count from 1
    for row in range(1, rows + 1):
        owner[0], column = row, 0
        least, before, visited = [math.inf] * (columns + 1), [0] * (columns + 1), [False] * (columns + 1)
        while owner[column]:
            visited[column] = True
            here, step, following = owner[column], math.inf, 0
            for other in range(1, columns + 1):
                if not visited[other]:
                    cost = -scores[here - 1][other - 1] - row_price[here] - column_price[other]
                    if cost < least[other]:
                        least[other], before[other] = cost, column
                    if least[other] < step:
                        step, following = least[other], other
            for other in range(columns + 1):
                if visited[other]:
                    row_price[owner[other]] += step
                    column_price[other] -= step
                else:
                    least[other] -= step
            column = following
        while column:
            owner[column], column = owner[before[column]], before[column]
    place = {owner[column]: column for column in range(1, columns + 1)}
    return [scores[row - 1][place[row] - 1] for row in range(1, rows + 1)]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [DropExactMatch, DropF1]
