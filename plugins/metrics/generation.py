"""Metrics of generated text against references: BLEU, chrF and TER by sacrebleu, ROUGE by rouge-score.

BLEU, chrF and TER belong to a whole set of texts. A sample's score is its sufficient statistics; their sums give the
corpus score, and so does every resample of the bootstrap. Values are in percent, as sacrebleu gives them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from harness import Metric, Observation, hookimpl
from harness.scoring import gold_texts, mean_over_predictions


class _Corpus(Metric):
    """A metric of sacrebleu. `None` and empty answers count as empty texts; of several replies, all count."""

    output_types = frozenset({"generate_until"})
    aggregation = "self"

    def __init__(self, peer: Any) -> None:
        self._peer = peer

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        golds = gold_texts(seen.sample)
        if golds is None or not seen.predictions:
            return None
        replies = [reply or "" for reply in seen.predictions]
        references = [[gold] * len(replies) for gold in golds]
        # The statistics that sacrebleu's own bootstrap and significance tests resample.
        rows = self._peer._extract_corpus_statistics(replies, references)
        return tuple(float(sum(column)) for column in zip(*rows, strict=True))

    def from_sums(self, sums: tuple[float, ...], n: int) -> float:
        return float(self._peer._compute_score_from_stats(list(sums)).score)


class Bleu(_Corpus):
    """Corpus BLEU, 0 to 100. `tokenize`: `13a` (default), `zh`, `char`, `intl`, `none` and what else sacrebleu knows.

    max_ngram_order, smooth_method, smooth_value, lowercase: as in `sacrebleu.metrics.BLEU`.
    """

    name = "bleu"
    bounds = (0.0, 100.0)

    def __init__(
        self,
        tokenize: str | None = None,
        lowercase: bool = False,
        smooth_method: str = "exp",
        smooth_value: float | None = None,
        max_ngram_order: int = 4,
    ) -> None:
        from sacrebleu.metrics import BLEU

        if tokenize is not None and tokenize not in BLEU.TOKENIZERS:
            raise ValueError(f"tokenize is '{tokenize}'; sacrebleu knows {', '.join(BLEU.TOKENIZERS)}")
        super().__init__(
            BLEU(
                lowercase=lowercase,
                force=True,  # no remark about replies that end in " ."
                tokenize=tokenize,
                smooth_method=smooth_method,
                smooth_value=smooth_value,
                max_ngram_order=max_ngram_order,
            )
        )


class Chrf(_Corpus):
    """Corpus chrF, 0 to 100: F-score of character n-grams, with `word_order: 2` chrF++. Needs no tokeniser."""

    name = "chrf"
    bounds = (0.0, 100.0)

    def __init__(
        self,
        char_order: int = 6,
        word_order: int = 0,
        beta: int = 2,
        lowercase: bool = False,
        whitespace: bool = False,
        eps_smoothing: bool = False,
    ) -> None:
        from sacrebleu.metrics import CHRF

        super().__init__(CHRF(char_order, word_order, beta, lowercase, whitespace, eps_smoothing))


class Ter(_Corpus):
    """Translation edit rate in percent; `asian_support: true` with `normalized: true` splits Chinese characters."""

    name = "ter"
    higher_is_better = False

    def __init__(
        self,
        normalized: bool = False,
        no_punct: bool = False,
        asian_support: bool = False,
        case_sensitive: bool = False,
    ) -> None:
        from sacrebleu.metrics import TER

        super().__init__(TER(normalized, no_punct, asian_support, case_sensitive))


class _Rouge(Metric):
    """ROUGE F1 (or `value: precision` or `recall`), 0 to 1; the best over the references, the mean over the replies.

    Tokens: Chinese, Japanese and Korean characters one by one; runs of Latin letters and digits as in rouge-score;
    other scripts by words. Lower case. `stem: true` applies Porter's stemmer to longer English words.
    """

    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, stem: bool = False, value: str = "f1") -> None:
        fields = {"f1": "fmeasure", "precision": "precision", "recall": "recall"}
        if value not in fields:
            raise ValueError(f"value is '{value}'; it can be one of {', '.join(fields)}")
        self._field = fields[value]
        self._stem = stem

    @functools.cached_property
    def _scorer(self) -> Any:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer([self.name], tokenizer=_Tokenizer(self._stem))

    def score(self, seen: Observation) -> float | None:
        def best(reply: str, golds: Sequence[str]) -> float:
            scores = [self._scorer.score(gold, reply)[self.name] for gold in golds]
            return max(float(getattr(score, self._field)) for score in scores)

        return mean_over_predictions(seen, best, unread="")


class Rouge1(_Rouge):
    """ROUGE-1: overlap of single tokens."""

    name = "rouge1"


class Rouge2(_Rouge):
    """ROUGE-2: overlap of pairs of tokens."""

    name = "rouge2"


class RougeL(_Rouge):
    """ROUGE-L: longest common subsequence of the whole texts."""

    name = "rougeL"


class RougeLsum(_Rouge):
    """ROUGE-L of summaries: longest common subsequences line by line."""

    name = "rougeLsum"


class _Tokenizer:
    """rouge-score's default leaves nothing of a Chinese text: it keeps `[a-z0-9]` alone."""

    _token = re.compile(
        "[a-z0-9]+|[\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
        "|[^\\W_a-z0-9\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
    )

    def __init__(self, stem: bool) -> None:
        self._stemmer: Any = None
        if stem:
            from nltk.stem.porter import PorterStemmer

            self._stemmer = PorterStemmer()

    def tokenize(self, text: str) -> list[str]:
        tokens = self._token.findall(text.lower())
        if self._stemmer is None:
            return tokens
        return [self._stemmer.stem(token) if len(token) > 3 and token.isascii() else token for token in tokens]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [Bleu, Chrf, Rouge1, Rouge2, RougeL, RougeLsum, Ter]
