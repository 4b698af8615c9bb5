"""Metrics that compare an answer's text with the gold: exact match, and overlap of words or characters.

A sample with several replies scores the mean over its replies; an answer that could not be read scores 0. Of several
gold answers, the best counts.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from harness import Metric, Observation, hookimpl
from harness.scoring import NO_CHOICE, gold_indices, gold_texts, mean_over_predictions, replace_all
from harness.scoring.official import CHINESE_PUNCTUATION

Judge = Callable[[str, str], float]


class ExactMatch(Metric):
    """1 where the answer equals a gold answer. Options and their order as in lm-evaluation-harness.

    regexes_to_ignore: patterns deleted from answer and gold, first. ignore_case, ignore_punctuation, ignore_numbers:
    ASCII punctuation and digits are deleted. words: compares the words of both, as the script of that benchmark has
    them: `triviaqa`, or for Chinese `mlqa`, `mkqa` and `infinitebench` (see `TokenF1`). On multiple choice: 1 where
    greedy decoding would give the gold choice.
    """

    name = "exact_match"
    output_types = frozenset({"generate_until", "multiple_choice"})
    bounds = (0.0, 1.0)

    def __init__(
        self,
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
        ignore_numbers: bool = False,
        regexes_to_ignore: Sequence[str] = (),
        words: str | None = None,
    ) -> None:
        if words is not None and words not in _SCRIPTS:
            raise ValueError(f"words is '{words}'; it can be {' or '.join(map(repr, _SCRIPTS))}")
        self._words = words and _SCRIPTS[words]
        patterns = [regexes_to_ignore] if isinstance(regexes_to_ignore, str) else list(regexes_to_ignore or ())
        self._ignored = [re.compile(pattern) for pattern in patterns]
        self._ignore_case = ignore_case
        deleted = (string.punctuation if ignore_punctuation else "") + (string.digits if ignore_numbers else "")
        self._deleted = str.maketrans("", "", deleted)

    def score(self, seen: Observation) -> float | None:
        if seen.sample.choices and not seen.predictions:
            golds = gold_indices(seen.sample)
            greedy = [flag for response in seen.responses for flag in response.is_greedy]
            return None if golds is None else float(any(greedy[gold] for gold in golds if gold != NO_CHOICE))
        return _best_mean(seen, lambda answer, gold: float(self._normalised(answer) == self._normalised(gold)))

    def _normalised(self, text: str) -> str:
        for pattern in self._ignored:
            text = replace_all(pattern, "", text)
        text = text.lower() if self._ignore_case else text
        text = text.translate(self._deleted)
        return " ".join(self._words(text)) if self._words else text


class TokenF1(Metric):
    """Overlap of answer and gold as bags of tokens: 2 P R / (P + R).

    level: `word` (SQuAD 1.1's evaluate-v1.1.py: lower case, without punctuation and a, an, the), `triviaqa` (its
    script has a blank where punctuation was), or for Chinese `char`: each Chinese character is a token, other scripts
    keep their words, punctuation of any script is left out. `mlqa`, `mkqa` and `infinitebench` are these scripts' ways
    with Chinese: MLQA's keeps symbols that are no punctuation, and has 15 for 1.5; for the others' every character is
    a token, Latin ones too, and for MKQA's Chinese punctuation is one. Where nothing is left of either text, they are
    alike, as SQuAD 2.0's script has it; those of TriviaQA, MLQA and InfiniteBench have 0. On multiple choice, `f1` is
    `LabelF1`.
    """

    name = "f1"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, level: str = "word") -> None:
        if level not in _TOKENS:
            raise ValueError(f"level is '{level}'; it can be {' or '.join(map(repr, _TOKENS))}")
        self._tokens = _TOKENS[level]

    @classmethod
    def for_output_type(cls, output_type: str) -> type[Metric]:
        return LabelF1 if output_type == "multiple_choice" else cls

    def score(self, seen: Observation) -> float | None:
        def bag_f1(answer: str, gold: str) -> float:
            given, wanted = self._tokens(answer), self._tokens(gold)
            if not given or not wanted:
                return float(given == wanted and self._tokens not in _NOTHING_IS_WRONG)
            return 2 * sum((Counter(given) & Counter(wanted)).values()) / (len(given) + len(wanted))

        return _best_mean(seen, bag_f1)


class LabelF1(Metric):
    """F1 of the label with index 1 over the whole set, as in lm-evaluation-harness. 0 where that label is nowhere.

    Statistics of a sample: chosen and gold, chosen, gold.
    """

    name = "f1"
    output_types = frozenset({"multiple_choice"})
    aggregation = "self"
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        golds = gold_indices(seen.sample)
        if golds is None:
            return None
        chosen = max(range(len(seen.logprobs)), key=seen.logprobs.__getitem__) == 1
        gold = golds[0] == 1
        return float(chosen and gold), float(chosen), float(gold)

    def from_means(self, means: tuple[float, ...]) -> float:
        return 2 * means[0] / (means[1] + means[2]) if means[1] + means[2] else 0.0


class PartAccuracy(Metric):
    """Right parts by parts, over all rows: a row whose gold has several parts in order, as the blanks of a passage.

    Parts stand between `separator` (white space where it is not given). Statistics of a row: right parts, parts. A
    part that the answer does not have is wrong, and with `penalise_missing` takes away a right one, too (CMRC 2019's
    script); further ones are not looked at.
    """

    name = "part_acc"
    output_types = frozenset({"generate_until"})
    aggregation = "self"
    bounds = (0.0, 1.0)

    def __init__(self, separator: str | None = None, penalise_missing: bool = False) -> None:
        self._separator = separator
        self._penalise_missing = penalise_missing

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        golds = gold_texts(seen.sample)
        if not golds or not seen.predictions:
            return None
        gold = self._parts(golds[0])
        right = []
        for answer in seen.predictions:
            parts = self._parts(answer or "")
            missing = max(0, len(gold) - len(parts)) if self._penalise_missing else 0
            right.append(max(0, sum(part == wanted for part, wanted in zip(parts, gold, strict=False)) - missing))
        return sum(right) / len(right), float(len(gold))

    def _parts(self, text: str) -> list[str]:
        return [part.strip() for part in text.split(self._separator)]

    def from_means(self, means: tuple[float, ...]) -> float:
        if not means[1]:
            raise ValueError("no gold answer has a part")
        return means[0] / means[1]


def squad_tokens(text: str) -> list[str]:
    """Tokens of the SQuAD 1.1 script: lower case, no ASCII punctuation, no articles, split at white space."""
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def triviaqa_tokens(text: str) -> list[str]:
    """Tokens of TriviaQA's script (mandarjoshi90/triviaqa, `triviaqa_evaluation.py`): punctuation is a blank."""
    marks = string.punctuation + "‘’´`"
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(dict.fromkeys(map(ord, marks), " "))).split()


def mixed_tokens(text: str) -> list[str]:
    """Chinese, Japanese and Korean characters one by one, runs of other letters and digits as words, lower case."""
    return re.findall(rf"[{CJK}]|[^\W_{CJK}]+", unicodedata.normalize("NFKC", text).lower())


def mlqa_tokens(text: str) -> list[str]:
    """Chinese tokens of MLQA's script (facebookresearch/MLQA, `mlqa_evaluation_v1.py`)."""
    marks = (char in string.punctuation or unicodedata.category(char).startswith("P") for char in text.lower())
    bare = "".join(char for char, is_mark in zip(text.lower(), marks, strict=True) if not is_mark)
    return re.findall(r"[\u4e00-\u9fa5]|[^\s\u4e00-\u9fa5]+", bare)


def mkqa_tokens(text: str) -> list[str]:
    """Chinese tokens of MKQA's script (apple/ml-mkqa, `mkqa_eval_util.py`)."""
    return [char for char in text.lower() if char not in string.punctuation and not char.isspace()]


def infinitebench_tokens(text: str) -> list[str]:
    """Chinese tokens of InfiniteBench's script (OpenBMB/InfiniteBench, `src/compute_scores.py`)."""
    return [char for char in text.lower() if char not in CHINESE_PUNCTUATION and not char.isspace()]


_SCRIPTS: dict[str, Callable[[str], list[str]]] = {
    "triviaqa": triviaqa_tokens,
    "mlqa": mlqa_tokens,
    "mkqa": mkqa_tokens,
    "infinitebench": infinitebench_tokens,
}
_NOTHING_IS_WRONG = (triviaqa_tokens, mlqa_tokens, infinitebench_tokens)
_TOKENS: dict[str, Callable[[str], list[str]]] = {"word": squad_tokens, "char": mixed_tokens, **_SCRIPTS}

# Unified ideographs (with extension A and the astral extensions), compatibility ideographs, kana, hangul syllables.
CJK = "\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"


def _best_mean(seen: Observation, judge: Judge) -> float | None:
    return mean_over_predictions(seen, lambda answer, golds: max(judge(answer, gold) for gold in golds))


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [ExactMatch, PartAccuracy, TokenF1]
