"""KOR-Bench: the answer in a reply's double brackets, and the rules by which it equals the gold one.

The rules are those of the authors' script (KOR-Bench/KOR-Bench, eval/eval_utils.py), by a question's kind and rule; the
kind stands in the subset as `kind`. Where the script works out formulas with sympy's LaTeX, they are compared by
`harness.scoring.math_equal`; where it lets Python work out a reply, sums are worked out and nothing else is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from harness import Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import arithmetic_value, find_all, math_equal, mean_over_predictions

# Questions of `operation` whose answers are formulas, by their idx (`idx_ranges` of the script).
_FORMULAS = {18, 73, 74, 77, 94, 115, 116, 117, 121, 122, 123, 125, 131, 132, 134, 135, 136, 141, 143, 149}
_FORMULAS |= {
    *range(145, 148),
    *range(151, 157),
    160,
    161,
    162,
    164,
    165,
    166,
    170,
    206,
    209,
    *range(211, 216),
    217,
    218,
}
_DOUBLE = re.compile(r"\[\[\s*(.*?)\s*\]\]", re.DOTALL)
_INNER = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_OTHERS = [re.compile(r"\$\\boxed\{(.*?)\}\$", re.DOTALL), re.compile(r"\[\s*(.*?)\s*\]", re.DOTALL)]


class KorBenchAnswer(Filter):
    """What stands in a reply's first `[[...]]`; where there is none, but for puzzles, in `$\\boxed{}$` or `[...]`."""

    name = "kor_bench_answer"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        puzzle = sample.subset_fields["kind"] == "puzzle"
        patterns = [_INNER] if puzzle else [_DOUBLE, *_OTHERS]
        return [None if reply is None else _first(patterns, reply) for reply in replies]


class KorBenchAcc(Metric):
    """1 where the answer that `kor_bench_answer` reads equals the gold one by the rules of its kind and rule."""

    name = "kor_bench_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        def same(answer: str, golds: Sequence[str]) -> bool:
            kind, doc = str(seen.sample.subset_fields["kind"]), seen.sample.doc
            return _same(answer, golds[0], kind, str(doc["rule_id"]), int(str(doc["idx"])))

        return mean_over_predictions(seen, same)


def _first(patterns: Sequence[re.Pattern[str]], reply: str) -> str | None:
    for pattern in patterns:
        if found := find_all(pattern, reply):
            return str(found[0])
    return None


def _same(answer: str, gold: str, kind: str, rule: str, number: int) -> bool:
    """Whether an answer, without its brackets, is that of the row, which has them."""
    if kind == "puzzle":
        return _PUZZLES.get(rule, _same_letters_and_digits)(answer, _first([_INNER], gold) or "NULL")
    if kind == "logic":
        mine = f"[[{_without(answer, chr(34) + chr(10) + ' .')}]]"
        if rule == "5":
            return sorted(mine.split(";")) == sorted(gold.split(";"))
        return mine == f"[[{_without(_first([_DOUBLE], gold) or '', chr(34) + chr(10) + ' .')}]]"
    if kind == "operation":
        return _same_operation(answer, gold, rule, number)
    return f"[[{_clean(answer)}]]" == gold


def _same_operation(answer: str, gold: str, rule: str, number: int) -> bool:
    if number in (178, 179):
        return _inequalities(_clean(answer)) == _inequalities(gold)
    if rule == "18":
        return sorted(re.sub(r"\W+", "", _clean(answer))) == sorted(re.sub(r"\W+", "", gold))
    if rule in ("23", "24", "25"):
        return [*map(int, re.findall(r"\d+", _clean(answer)))] == [*map(int, re.findall(r"\d+", gold))]
    if number in _FORMULAS:
        mine, theirs = (_formula(text) for text in (answer, _first([_DOUBLE], gold) or ""))
        if "or" not in theirs:
            return math_equal(mine, theirs)
        parts, wanted = mine.split("or"), theirs.split("or")
        return len(parts) == len(wanted) and all(any(math_equal(part, one) for part in parts) for one in wanted)
    if "or" in gold:
        mine = re.sub(r"\\text\{or\}", "or", _clean(answer))
        return sorted(mine.split("or")) == sorted(_clean(_first([_DOUBLE], gold) or "").split("or"))
    return f"[[{_clean(answer)}]]" == gold


def _without(text: str, characters: str) -> str:
    return text.strip().translate(str.maketrans("", "", characters))


def _clean(text: str) -> str:
    return _without(text, '"\n []')


def _formula(text: str) -> str:
    text = _without(text, '"\n[]$').rpartition("=")[2]
    text = re.sub(r"\\[()\[\]]|\\text\{.*?\}|\\(?:left|right|displaystyle)", "", text)
    return text.replace("\\\\", "\\")


def _inequalities(text: str) -> list[str]:
    return sorted(re.sub(r"\s+", "", found) for found in re.findall(r"[≥≤]\s*-?\d+\.?\d*", text))


def _same_letters_and_digits(answer: str, gold: str) -> bool:
    return re.sub(r"\W+", "", answer) == re.sub(r"\W+", "", gold)


def _letters(text: str) -> str:
    return re.sub(r"[^A-Za-z]", "", text).lower()


def _same_words(answer: str, gold: str) -> bool:
    return sorted(word for word in re.split(r"\W+", answer.lower()) if word) == sorted(gold.split(" "))


def _same_items(answer: str, gold: str) -> bool:
    return sorted(re.sub(r"\s+", "", answer).split(",")) == sorted(gold.split(","))


def _same_equation(answer: str, gold: str) -> bool:
    """Operators in the order of the gold equation, and its result."""
    left, right = (text.replace("×", "*").replace("−", "-") for text in (answer, gold))
    result = re.search(r"=\s*(-?\d+)", right)
    operators = [re.findall(r"[+\-*/]", text.split("=")[0]) for text in (left, right)]
    return operators[0] == operators[1] and result is not None and _value(left) == int(result[1])


def _makes_24(answer: str, gold: str) -> bool:
    """The numbers of the gold sum, in any order, and 24."""
    left = answer.replace("×", "*").replace("−", "-")
    numbers = [sorted(re.sub(r"\W+", "", text.split("=")[0])) for text in (left, gold.split("\n")[0])]
    return numbers[0] == numbers[1] and _value(left) == 24


def _value(equation: str) -> float | None:
    return arithmetic_value(equation.split("=")[0])


_PUZZLES: dict[str, Callable[[str, str], bool]] = {
    "1": lambda answer, gold: _letters(answer) == _letters(gold),
    "2": lambda answer, gold: _letters(answer) in gold.split(","),
    "3": _same_words,
    "4": lambda answer, gold: _letters(answer) in gold,
    "5": _same_items,
    "9": _same_equation,
    "10": _makes_24,
    "18": lambda answer, gold: _without(answer, ", \n\t[]") == _without(gold, ", \n\t[]"),
}


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [KorBenchAnswer]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [KorBenchAcc]
