"""LawBench's ways of reading and scoring replies (open-compass/LawBench, `evaluation/evaluation_functions/*.py`).

The task says in its subsets how a reply is read and scored, and which labels there are:

    rule: choice | labels | articles | prison | amount | reading | entities | triggers | rouge
    labels: [盗窃, 诈骗]

A reply in which nothing can be read is unparsed (the authors' abstention) and scores 0. Scores are 0 to 1.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from harness import Filter, MachineError, Metric, MetricOptions, Observation, Sample, hookimpl
from harness.scoring import mean_over_predictions

# The longest sentence that the authors count, 18 years in months: log(216) is the distance of a reply without one.
_FARTHEST = math.log(216)


class LawBenchAnswer(Filter):
    """What a reply says, by its subset's `rule`: labels, numbers of articles, months or amounts, joined by `;`.

    Replies that are scored as texts stay as they are.
    """

    name = "lawbench_answer"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        read = _READERS.get(_rule(sample))
        if read is None:
            return list(replies)
        labels = sample.subset_fields.get("labels") or ()
        return [None if reply is None else ";".join(read(reply, labels)) or None for reply in replies]


class LawBenchScore(Metric):
    """The authors' score of one reply, at most 1; its mean is the score of a set. A prison term can be below 0."""

    name = "lawbench_score"
    output_types = frozenset({"generate_until"})

    def prepare(self, options: MetricOptions) -> None:
        for package in ("cn2an", "jieba", "rouge_chinese"):
            if importlib.util.find_spec(package) is None:
                name = package.replace("_", "-")
                raise MachineError(f"needs the package {name}: pip install 'harness-eval[chinese]'")

    def score(self, seen: Observation) -> float | None:
        def compare(answer: str, golds: Sequence[str]) -> float:
            labels = seen.sample.subset_fields.get("labels") or ()
            return _SCORES[_rule(seen.sample)](answer, golds[0], labels)

        return mean_over_predictions(seen, compare, unread="")


def _rule(sample: Sample) -> str:
    rule = str(sample.subset_fields["rule"])
    if rule not in _SCORES:
        raise ValueError(f"the subset's rule is '{rule}', none of {', '.join(_SCORES)}")
    return rule


def _labels_in(reply: str, labels: Sequence[str]) -> list[str]:
    return [label for label in dict.fromkeys(labels) if label in reply]


def _articles_in(reply: str, labels: Sequence[str]) -> list[str]:
    """The first number of each part between 、, without what ends in 款 and with Chinese numerals read."""
    articles = []
    for part in reply.split("、"):
        part = re.sub(r"第(.*?)款", "", part.replace("万元", "元"))
        numbers = re.findall(r"\d+", _arabic(re.sub(r"第(.*?)条", r"\1", part)))
        articles += [str(int(numbers[0]))] if numbers else []
    return list(dict.fromkeys(articles))


def _months_in(reply: str, labels: Sequence[str]) -> list[str]:
    reply = _arabic(reply)
    if months := re.findall(r"(\d+)个月", reply) or re.findall(r"(\d+)月", reply):
        return [str(int(months[0]))]
    years = re.findall(r"(\d+)年", reply)
    return [str(int(years[0]) * 12)] if years else []


def _amounts_in(reply: str, labels: Sequence[str]) -> list[str]:
    return re.findall(r"\d+\.?\d*", reply)


def _arabic(text: str) -> str:
    import cn2an

    with warnings.catch_warnings():  # it warns of numerals that are none, and leaves them as they are
        warnings.simplefilter("ignore")
        return str(cn2an.transform(text, "cn2an"))


def _only_choice(answer: str, gold: str, labels: Sequence[str]) -> float:
    """1 where the gold label, and no other, was named."""
    return float(answer == gold)


def _set_f1(answer: str, gold: str, labels: Sequence[str]) -> float:
    answered, wanted = set(filter(None, answer.split(";"))), set(gold.split(";"))
    return 2 * len(answered & wanted) / (len(answered) + len(wanted))


def _articles(answer: str, gold: str, labels: Sequence[str]) -> float:
    return _set_f1(answer, gold.replace("、", ";"), labels)


def _prison(answer: str, gold: str, labels: Sequence[str]) -> float:
    """1 minus the distance of the logarithms, as a share of the farthest; negative where it is farther than that."""
    months = int(gold.removesuffix("个月"))
    distance = abs(math.log(months + 1) - math.log(int(answer) + 1)) if answer else _FARTHEST
    return (_FARTHEST - distance) / _FARTHEST


def _amount(answer: str, gold: str, labels: Sequence[str]) -> float:
    return float(float(gold) in [float(amount) for amount in answer.split(";") if amount])


def _character_f1(answer: str, gold: str, labels: Sequence[str] = ()) -> float:
    """F1 of the letters and digits of two texts, in lower case (CAIL's script for reading comprehension)."""
    first, second = ([c for c in text.lower() if c.isdigit() or c.isalpha()] for text in (answer, gold))
    if not first or not second:
        return float(first == second)
    shared = sum((Counter(first) & Counter(second)).values())
    return 2 * shared / (len(first) + len(second))


def _entities(answer: str, gold: str, labels: Sequence[str]) -> float:
    """F1 of types, where each type is right as far as its text is (`TYPE:TEXT`, up to a blank or a line end)."""
    wanted = dict(part.split(":")[:2] for part in re.split("[;\n]", gold)) if gold.strip() else {}
    entities: dict[str, str] = {}
    for kind in labels:
        for match in re.finditer(re.escape(kind), answer):
            end = match.end()
            if end < len(answer) - 2 and answer[end] in ":：":
                text = re.split(r"\n| ", answer[end + 1 :].strip())[0].strip()
                if text not in ("无", "未提及"):
                    entities[kind] = text
    if not wanted:
        return float(not entities)
    return _soft_f1(
        [_character_f1(text, wanted[kind]) for kind, text in entities.items() if kind in wanted], entities, wanted
    )


def _triggers(answer: str, gold: str, labels: Sequence[str]) -> float:
    """F1 of words by their place, where each word is right as far as its characters are."""
    answered, wanted = answer.split(";"), gold.split(";")
    return _soft_f1([_character_f1(a, w) for a, w in zip(answered, wanted, strict=False)], answered, wanted)


def _soft_f1(right: Sequence[float], answered: Any, wanted: Any) -> float:
    return 2 * sum(right) / (len(answered) + len(wanted)) if answered or wanted else 0.0


def _rouge(answer: str, gold: str, labels: Sequence[str]) -> float:
    """ROUGE-L of words as jieba cuts them; an empty reply counts as 无内容."""
    texts = [" ".join(_jieba().cut(text)) for text in (answer, gold)]
    scores = _rouge_scorer().get_scores([texts[0] if texts[0].strip() else "无内容"], [texts[1]])
    return float(scores[0]["rouge-l"]["f"])


@functools.cache
def _jieba() -> Any:
    import jieba

    jieba.setLogLevel(60)  # it tells how long its dictionary takes to load
    return jieba


@functools.cache
def _rouge_scorer() -> Any:
    from rouge_chinese import Rouge

    return Rouge(metrics=["rouge-l"])


_READERS: dict[str, Callable[[str, Sequence[str]], list[str]]] = {
    "choice": _labels_in,
    "labels": _labels_in,
    "articles": _articles_in,
    "prison": _months_in,
    "amount": _amounts_in,
}
_SCORES: dict[str, Callable[[str, str, Sequence[str]], float]] = {
    "choice": _only_choice,
    "labels": _set_f1,
    "articles": _articles,
    "prison": _prison,
    "amount": _amount,
    "reading": _character_f1,
    "entities": _entities,
    "triggers": _triggers,
    "rouge": _rouge,
}


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [LawBenchAnswer]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [LawBenchScore]
