"""The metrics of one sample as lm-eval has them, for tasks of which Python of their own scores a part.

Loaded by its path into the process that runs task code (process.py): no module of this project is imported in here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any


def choice_scores(kept: dict[str, Any], gold: dict[str, Any], results: list[Any]) -> dict[str, Any]:
    """lm-eval's own metrics of log-likelihoods (api/task.py, `process_results`), as they go to aggregations."""
    if kept["output_type"] == "loglikelihood":
        value, greedy = results[0]
        return {"perplexity": value, "acc": int(greedy)}
    if kept["output_type"] == "loglikelihood_rolling":
        text = str(gold["target"])
        words, size = len(re.split(r"\s+", text)), len(text.encode("utf-8"))
        by_size = (results[0], size)
        return {"word_perplexity": (results[0], words), "byte_perplexity": by_size, "bits_per_byte": by_size}
    choices = gold["choices"]
    values = [value for value, _ in results][: len(choices)]
    greedy = [flag for _, flag in results][: len(choices)]
    right = gold["target"] if isinstance(gold["target"], list) else [gold["target"]]
    best = {
        "acc": _argmax(values),
        "acc_norm": _argmax([value / len(choice) for value, choice in zip(values, choices, strict=True)]),
        "acc_bytes": _argmax([value / len(choice.encode()) for value, choice in zip(values, choices, strict=True)]),
    }
    first = gold["target"] if len(right) > 1 else right[0]
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    shares = [weight / sum(weights) for weight in weights]
    return {
        **{name: 1.0 if place in right else 0.0 for name, place in best.items()},
        "exact_match": int(any(greedy[place] for place in right)),
        "f1": (first, best["acc"]),
        "mcc": (first, best["acc"]),
        "brier_score": (first, shares),
        "likelihood": (first, values),
    }


def text_scores(kept: dict[str, Any], gold: Any, result: Any, choices: list[str], exact_match: Any) -> dict[str, Any]:
    """The metrics of a generated answer, of the task and lm-eval's own (api/task.py, `process_results`)."""
    several = isinstance(gold, list)
    if choices and not several:
        gold = choices[gold]
    elif not several and type(gold) is not type(result) and not isinstance(result, list):
        gold = type(result)(gold)
    scores: dict[str, Any] = {}
    for metric in kept["metrics"]:
        name, options = metric["name"], metric["options"]
        call: Any = metric["call"] or (exact_match if name == "exact_match" else None)
        if several and name == "exact_match":
            hits = call(references=gold, predictions=[result] * len(gold), **options)
            score: Any = 1.0 if (hits[name] if isinstance(hits, dict) else hits) > 0 else 0.0
        elif several:
            tries = [_metric(call, one, result, options) for one in gold]
            score = 1.0 if any(one[name] if isinstance(one, dict) else one for one in tries) else 0.0
        else:
            score = _metric(call, gold, result, options)
        scores.update(score if isinstance(score, dict) else {name: score})
    return scores


def _metric(call: Any, gold: Any, result: Any, options: dict[str, Any]) -> Any:
    """lm-eval calls a metric by two keywords, and where it does not take these, with the pair itself."""
    if call is None:  # lm-eval's own metrics of whole sets hand the pair on
        return [gold, result]
    try:
        return call(references=[gold], predictions=[result], **options)
    except TypeError:
        return call([gold, result])


def _argmax(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
