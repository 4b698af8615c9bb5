"""Overlap of Chinese texts in words as jieba cuts them: ROUGE, and the F1 of LongBench and LV-Eval.

ROUGE is that of the packages `rouge` (LongBench, LV-Eval) and `rouge-chinese` (LawBench, OpenCompass): both take the
union of longest common subsequences over sentences, and the latter knows Chinese sentence ends. Scores are 0 to 1.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from harness import MachineError, Metric, MetricOptions, Observation, Sample, hookimpl
from harness.scoring import mean_over_predictions
from harness.scoring.official import CHINESE_PUNCTUATION

PACKAGES = ("rouge", "rouge_chinese")
# Words that say nothing of an answer (infinigence/LVEval, `metrics.py`, ABANDON_WORDS_ZH).
_LVEVAL_WORDS = """
的 和 是 等 在 年 可以 为 与 ‰ 了 或 一种 月 c 至 日 有 进行 于 不 中 × 根据 小 由 亩 也 要 指 法 会 元 主要
以及 通过 首先 对 然后 号 以 所 后 丁 包括 无 将 用 能 形 方面 因素 位于 而 从 到 一定 用于 但 使用 让 具有 并
亿元 万元 上 类 基于 才 来 地 片 其他 个 或者 变得 时 给 你 使 条 受 已经 带 度
"""
_AT_ONCE = 2000  # Chinese characters that jieba is given with nothing between them
_LONG_RUN = re.compile(rf"[\u4e00-\u9fd5]{{{_AT_ONCE + 1},}}")
_LVEVAL_IGNORED = frozenset(_LVEVAL_WORDS.split())


@functools.cache
def _jieba() -> Any:
    import jieba

    jieba.setLogLevel(60)  # it tells how long its dictionary takes to load
    return jieba


def words(text: str) -> list[str]:
    """The words of a text, white space and punctuation among them.

    jieba takes time that grows with the square of a run of Chinese characters: one longer than any sentence is cut in
    pieces.
    """
    return [word for piece in _pieces(text) for word in _jieba().cut(piece, cut_all=False)]


def _pieces(text: str) -> Iterator[str]:
    start = 0
    for run in _LONG_RUN.finditer(text):
        for end in range(run.start() + _AT_ONCE, run.end(), _AT_ONCE):
            yield text[start:end]
            start = end
    yield text[start:]


def _bare(text: str) -> str:
    """In lower case, without punctuation and white space."""
    return "".join("".join(c for c in text.lower() if c not in CHINESE_PUNCTUATION).split())


def _bare_words(text: str) -> list[str]:
    """Words in lower case, without punctuation and white space inside them; of some, nothing is left."""
    return [_bare(word) for word in words(text)]


def _check_installed(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            name = package.replace("_", "-")
            raise MachineError(f"needs the package {name}: pip install 'harness-eval[chinese]'")


class _Rouge(Metric):
    """package: `rouge` or `rouge_chinese`. ignored: `lveval` leaves out punctuation and the words of its list.

    empty: what stands for an answer without words. bare: texts are put in lower case and lose punctuation and white
    space before they are cut into words.
    """

    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)
    kind = ""

    def __init__(
        self, package: str = "rouge_chinese", ignored: str | None = None, empty: str = "", bare: bool = False
    ) -> None:
        if package not in PACKAGES:
            raise ValueError(f"package is '{package}'; it can be {' or '.join(PACKAGES)}")
        if ignored not in (None, "lveval"):
            raise ValueError(f"ignored is '{ignored}'; it can be 'lveval'")
        self._package, self._ignored, self._empty, self._bare = package, ignored, empty, bare

    def prepare(self, options: MetricOptions) -> None:
        _check_installed("jieba", self._package)

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(
            seen, lambda answer, golds: max(self._f(answer, gold) for gold in golds), unread=""
        )

    @functools.cached_property
    def _scorer(self) -> Any:
        return importlib.import_module(self._package).Rouge(metrics=[self.kind])

    def _f(self, answer: str, gold: str) -> float:
        texts = []
        for text in map(_bare, (answer, gold)) if self._bare else (answer, gold):
            cut = words(text)
            if self._ignored is not None:  # LV-Eval cuts what it has cut once more
                cut = [word for word in _bare_words(" ".join(cut)) if word not in _LVEVAL_IGNORED]
            texts.append(" ".join(cut))
        answer, gold = texts[0] if texts[0].strip() else self._empty, texts[1]
        try:
            return float(self._scorer.get_scores([answer], [gold])[0][self.kind]["f"])
        except (ValueError, RecursionError):  # one of them has no word, or is too long for the package
            return 0.0


class JiebaRouge1(_Rouge):
    """ROUGE-1: words that both have."""

    name = "jieba_rouge1"
    kind = "rouge-1"


class JiebaRouge2(_Rouge):
    """ROUGE-2: pairs of words that both have."""

    name = "jieba_rouge2"
    kind = "rouge-2"


class JiebaRougeL(_Rouge):
    """ROUGE-L: longest common subsequences of words."""

    name = "jieba_rougeL"
    kind = "rouge-l"


class JiebaF1(Metric):
    """F1 of bags of words without punctuation (LongBench, qa_f1_zh_score).

    keywords: the column of an answer's keywords; where it is empty, the gold answer has that place. An answer with less
    than `recall` of their words scores 0; words of LV-Eval's list never count as found (qa_f1_zh_score_with_gold_ans).
    """

    name = "jieba_f1"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, keywords: str | None = None, recall: float = 0.4) -> None:
        self._keywords, self._recall = keywords, recall

    def prepare(self, options: MetricOptions) -> None:
        _check_installed("jieba")

    def score(self, seen: Observation) -> float | None:
        def best(answer: str, golds: Sequence[str]) -> float:
            return max(self._f1(answer, gold, seen.sample) for gold in golds)

        return mean_over_predictions(seen, best, unread="")

    def _f1(self, answer: str, gold: str, sample: Sample) -> float:
        answered, wanted = ([word for word in _bare_words(text) if word] for text in (answer, gold))
        if self._keywords is not None:
            keys = [word for word in _bare_words(str(sample.doc.get(self._keywords) or gold)) if word]
            keywords = Counter(answered) & Counter(keys)
            if sum(n for word, n in keywords.items() if word not in _LVEVAL_IGNORED) < self._recall * len(keys):
                return 0.0
        shared = sum((Counter(answered) & Counter(wanted)).values())
        return 2 * shared / (len(answered) + len(wanted)) if shared else 0.0


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [JiebaF1, JiebaRouge1, JiebaRouge2, JiebaRougeL]
