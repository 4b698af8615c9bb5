"""Captions against several references as the COCO caption evaluation scores them (tylin/coco-caption, kept as
pycocoevalcap): CIDEr-D, BLEU and ROUGE-L over tokens.

Vedantam et al. 2015 (CIDEr), Papineni et al. 2002 (BLEU), Lin 2004 (ROUGE-L). The scripts tokenise with Stanford's
tokenizer in Java; `caption_tokens` splits contractions and leaves punctuation out as it does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from harness.later_patterns import later_pattern

Tokens = Sequence[str]
Item = tuple[Tokens, Sequence[Tokens]]
"""A caption and its references, as tokens."""
Ngrams = Counter[tuple[str, ...]]

_WORD = later_pattern(r"n't|[^\W_]+(?:[-.][^\W_]+)*|'(?:s|re|ve|ll|d|m)\b")
_NOT = later_pattern(r"n't\b")
_CHARACTER = later_pattern(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_SIGMA = 6.0
_LONGEST = 4
_BETA = 1.2


def caption_tokens(text: str, level: str = "word") -> list[str]:
    """Lower-case tokens without punctuation. level: `word`, or `char`, where each Chinese character is a token."""
    text = text.lower().replace("’", "'")
    return _CHARACTER.findall(text) if level == "char" else _WORD.findall(_NOT.sub(" n't", text))


def cider(items: Sequence[Item]) -> list[float]:
    """CIDEr-D of each caption, about 0 to 10; the published score is the mean times 100.

    n-grams are weighted by how few of all items have them in a reference, so that a set of one item scores 0.
    """
    frequency: Counter[tuple[str, ...]] = Counter()
    for _, references in items:
        frequency.update({ngram for reference in references for ngram in _ngrams(reference, _LONGEST)})
    total = math.log(len(items)) if items else 0.0
    weights = {ngram: total - math.log(max(1.0, count)) for ngram, count in frequency.items()}
    return [_cider(caption, references, weights, total) for caption, references in items]


def corpus_bleu(items: Sequence[Item]) -> list[float]:
    """BLEU-1 to BLEU-4 of the whole set, 0 to 1, with the reference length that is nearest to each caption's."""
    matched, said = [0] * _LONGEST, [0] * _LONGEST
    length = reference_length = 0
    for caption, references in items:
        length += len(caption)
        reference_length += min((abs(len(each) - len(caption)), len(each)) for each in references)[1]
        counts = [_ngrams(each, _LONGEST) for each in references]
        for ngram, count in _ngrams(caption, _LONGEST).items():
            matched[len(ngram) - 1] += min(count, max(each[ngram] for each in counts))
        for n in range(_LONGEST):
            said[n] += max(0, len(caption) - n)
    scores, product = [], 1.0
    for n in range(_LONGEST):
        product *= (matched[n] + 1e-15) / (said[n] + 1e-9)
        scores.append(product ** (1 / (n + 1)))
    ratio = (length + 1e-15) / (reference_length + 1e-9)
    return [score * math.exp(1 - 1 / ratio) for score in scores] if ratio < 1 else scores


def caption_rouge(caption: Tokens, references: Sequence[Tokens]) -> float:
    """ROUGE-L of one caption, 0 to 1: the best precision and the best recall over the references, with beta 1.2."""
    if not caption:
        return 0.0
    common = [_common(reference, caption) for reference in references]
    precision = max(found / len(caption) for found in common)
    recall = max(
        found / len(reference) if reference else 0.0 for found, reference in zip(common, references, strict=True)
    )
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _ngrams(tokens: Tokens, longest: int) -> Ngrams:
    return Counter(tuple(tokens[i : i + n]) for n in range(1, longest + 1) for i in range(len(tokens) - n + 1))


def _cider(caption: Tokens, references: Sequence[Tokens], weights: dict[tuple[str, ...], float], total: float) -> float:
    own, norms = _vectors(caption, weights, total)
    score = 0.0
    for reference in references:
        other, other_norms = _vectors(reference, weights, total)
        penalty = math.exp(-((_pairs(caption) - _pairs(reference)) ** 2) / (2 * _SIGMA**2))
        for n in range(_LONGEST):
            product = sum(
                min(value, other[n].get(ngram, 0.0)) * other[n].get(ngram, 0.0) for ngram, value in own[n].items()
            )
            if norms[n] and other_norms[n]:
                product /= norms[n] * other_norms[n]
            score += product * penalty
    return 10 * score / _LONGEST / len(references)


def _pairs(tokens: Tokens) -> int:
    """The length that the script compares: it counts pairs of words."""
    return max(0, len(tokens) - 1)


def _vectors(
    tokens: Tokens, weights: dict[tuple[str, ...], float], total: float
) -> tuple[list[dict[tuple[str, ...], float]], list[float]]:
    vectors: list[dict[tuple[str, ...], float]] = [{} for _ in range(_LONGEST)]
    for ngram, count in _ngrams(tokens, _LONGEST).items():
        vectors[len(ngram) - 1][ngram] = count * weights.get(ngram, total)
    return vectors, [math.sqrt(sum(value * value for value in vector.values())) for vector in vectors]


def _common(first: Tokens, second: Tokens) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for j, other in enumerate(second, 1):
            diagonal, row[j] = row[j], diagonal + 1 if token == other else max(row[j], row[j - 1])
    return row[-1]
