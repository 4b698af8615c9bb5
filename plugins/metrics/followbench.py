"""FollowBench's rules for constraints that need no judge (YJiangcm/FollowBench, code_zh/rule_based_evaluation.py)."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Callable, Mapping
from typing import Any

from harness import Metric, Observation, hookimpl
from harness.scoring import find_all

_MARKS = string.punctuation + "，。：’“”"


class FollowBenchRules(Metric):
    """1 where a reply meets all constraints of its row, as its `source` (or `category`) and its `level` name them."""

    name = "followbench_rules"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        if not seen.predictions:
            return None
        met = [reply is not None and _meets(reply, seen.sample.doc) for reply in seen.predictions]
        return sum(met) / len(met)


def _meets(reply: str, doc: Mapping[str, Any]) -> bool:
    target, level = str(doc["target"]), int(str(doc["level"]))
    if doc["category"] == "example":
        # The whole reply has to be the form with something for `{answer}`, on one line each.
        form = target.replace("{instruction}\n", "").replace("{{", "{").replace("}}", "}").replace("{answer}", ".*")
        return re.fullmatch(re.escape(form).replace(r"\.\*", ".*"), reply) is not None
    if doc["category"] == "format" and str(doc["example_id"]) == "22":
        return _three_paragraphs(reply, level)
    source = str(doc["source"])
    if source in _SUMMARIES:
        checks = _SUMMARIES[source]
        # A later constraint may take an earlier one's place; none does but in `format`.
        return all(check(reply) for check in checks[:level])
    if source not in _ANSWERS:
        raise ValueError(f"no rule is known for the source '{source}'")
    return _ANSWERS[source](reply, target)


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in re.split(r"[。！？]", text) if sentence]


def _nth_has(text: str, number: int, word: str) -> bool:
    sentences = _sentences(text)
    return len(sentences) >= number and word in sentences[number - 1]


def _three_paragraphs(reply: str, level: int) -> bool:
    parts = reply.split("\n\n")
    checks = [
        len(parts) == (4 if level == 5 else 3),
        len(parts) >= 3 and all(len(_sentences(part)) < 3 for part in parts[:3]),
        all(len(sentence) > 20 for sentence in _sentences(reply)),
        all(re.match(r"\d+\.", part.lstrip()) for part in parts if part.strip()),
        reply.endswith("这些是建议"),
    ]
    return all(checks[:level])


def _last(pattern: str, reply: str, target: str) -> bool:
    matches = find_all(re.compile(pattern), reply)
    return bool(matches) and matches[-1] == target


_ANSWERS: Mapping[str, Callable[[str, str], bool]] = {
    "E2E": lambda reply, target: reply == target,
    "text_editing": lambda reply, target: reply == target,
    "WIKIEVENTS": lambda reply, target: set(reply.split("\n")) <= set(target.split("\n")),
    "CONLL2003": lambda reply, target: reply in ast.literal_eval(target),
    "BBH_logical": lambda reply, target: _last(r"\([A-Z]\)", reply, target),
    "BBH_time": lambda reply, target: _last(r"\d{2}/\d{2}/\d{4}", reply, target),
    "self_made_space": lambda reply, target: target in reply,
    "gsm_8k": lambda reply, target: _last(r"\d+美元", reply, target),
}
_SUMMARIES: Mapping[str, tuple[Callable[[str], bool], ...]] = {
    "cnn_dailymail": (
        lambda reply: len(_sentences(reply)) == 3,
        lambda reply: all(len(sentence) < 15 for sentence in _sentences(reply)),
        lambda reply: _nth_has(reply, 1, "波特") and _nth_has(reply, 2, "演员") and _nth_has(reply, 3, "电影"),
        lambda reply: not _nth_has(reply, 2, "奢侈"),
        lambda reply: _nth_has(reply, 3, "了"),
    ),
    "xsum": (
        lambda reply: len(_sentences(reply)) == 1,
        lambda reply: len(reply) < 20,
        lambda reply: "牛顿斯图尔特" not in reply,
        lambda reply: "在" in reply,
        lambda reply: "操作" in reply,
    ),
    "samsum": (
        lambda reply: len(_sentences(reply)) == 1,
        lambda reply: len(reply) < 15,
        lambda reply: "琐碎的" in reply,
        lambda reply: "拖沓的" not in reply,
        lambda reply: sum(mark in _MARKS for mark in reply) == 1,
    ),
    "gigaword": (
        lambda reply: len(reply) == 8,
        lambda reply: not any(mark in _MARKS for mark in reply),
        lambda reply: not any(mark.isnumeric() for mark in reply),
        lambda reply: "公交车" not in reply,
        lambda reply: "在" in reply,
    ),
    "arxiv": (
        lambda reply: len(_sentences(reply)) == 1,
        lambda reply: len(reply) <= 20,
        lambda reply: reply.startswith("我们"),
        lambda reply: "激活" in reply,
        lambda reply: "transformer" not in reply,
    ),
}


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [FollowBenchRules]
