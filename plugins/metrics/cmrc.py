"""CMRC 2018's exact match and F1, by the rules of its official script (`baseline/cmrc2018_evaluate.py`, version 6).

Three rules differ from what the names suggest, and decide the score:

- Punctuation that is left out is a fixed list of 32 characters. It lacks `,`, `.`, `(`, `!` and the opening `‘`.
- F1 is no bag of characters. The overlap is the longest run of tokens that occurs in both, so that "4 月 1 日" against
  "1 月 4 日" has an overlap of one.
- A character of U+4E00 to U+9FA5 is a token; what stands between such characters is split as English words by NLTK's
  `word_tokenize` (Penn Treebank rules, after a split into sentences). `word_tokens` follows those rules for text that
  is without the 32 characters, which is all that reaches it here.

Sets that build on it count otherwise: DuReader-robust's run is of Chinese characters and of whatever stands between
them, and its list of punctuation is another one (PaddlePaddle/Research, NLP/DuReader-Robust-BASELINE/evaluate.py);
ExpMRC's F1 is over the bag of these tokens, without punctuation and a, an, the
(ymcui/expmrc, eval_expmrc.py). CJRC's is over the bag of letters and digits, and of each of several gold answers the
others are looked at, in turn, as in CoQA (china-ai-law-challenge/CAIL2019, 阅读理解/evaluate/evaluate.py).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from harness import Metric, Observation, hookimpl
from harness.scoring import mean_over_predictions

# The script's list also has '……', two characters that never equal one, so that the ellipsis stays.
IGNORED = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_ROBUST_IGNORED = frozenset(":_`，。：？！()“”；’《》·、,「」（）－～『』|")
_ROBUST_CHARACTER = re.compile(
    "([=\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f])"
)
_NO_WORDS = IGNORED | frozenset(string.punctuation) | {"…", "a", "an", "the"}


class CmrcExactMatch(Metric):
    """1 where the answer equals a gold answer without case, outer white space and ignored punctuation."""

    name = "cmrc_em"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return _best_mean(seen, lambda answer, gold: float(_bare(answer) == _bare(gold)))


class CmrcF1(Metric):
    """2 P R / (P + R) of the longest common run of tokens; the best over the gold answers."""

    name = "cmrc_f1"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return _best_mean(seen, cmrc_f1)


class DuReaderRobustF1(Metric):
    """2 P R / (P + R) of the longest common run of tokens, as DuReader-robust has them; the best over the golds."""

    name = "dureader_robust_f1"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return _best_mean(seen, lambda answer, gold: _run_f1(robust_tokens(answer), robust_tokens(gold)))


class DuReaderRobustExactMatch(Metric):
    """1 where the answer equals a gold answer without case and the punctuation that DuReader-robust leaves out."""

    name = "dureader_robust_em"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return _best_mean(seen, lambda answer, gold: float(robust_tokens(answer) == robust_tokens(gold)))


class ExpMrcF1(Metric):
    """2 P R / (P + R) of the bags of tokens; the best over the gold answers."""

    name = "expmrc_f1"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return _best_mean(seen, lambda answer, gold: _bag_f1(expmrc_tokens(answer), expmrc_tokens(gold)))


class CjrcF1(Metric):
    """2 P R / (P + R) of the bags of letters and digits; the mean over the gold answers of the best of the others."""

    name = "cjrc_f1"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return _mean_of_others(seen, lambda answer, gold: _bag_f1(cjrc_tokens(answer), cjrc_tokens(gold)))


class CjrcExactMatch(Metric):
    """1 where letters and digits are those of a gold answer; the mean over the golds of the best of the others."""

    name = "cjrc_em"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return _mean_of_others(seen, lambda answer, gold: float(cjrc_tokens(answer) == cjrc_tokens(gold)))


def robust_tokens(text: str) -> list[str]:
    """The script's `_tokenize_chinese_chars(_normalize(text))`."""
    bare = "".join(char for char in text.lower() if char not in _ROBUST_IGNORED)
    return [part for part in _ROBUST_CHARACTER.split(bare) if part]


def expmrc_tokens(text: str) -> list[str]:
    """The script's `normalize_answer(mixed_segmentation(text))`."""
    tokens: list[str] = []
    for part in re.split(rf"([\u4e00-\u9fa5{re.escape(''.join(sorted(IGNORED)))}])", text.strip()):
        is_token = len(part) == 1 and ("\u4e00" <= part <= "\u9fa5" or part in IGNORED)
        tokens += [part] if is_token else word_tokens(part)
    return [token.lower() for token in tokens if token not in _NO_WORDS]


def cjrc_tokens(text: str) -> list[str]:
    """The script's `get_tokens(text)`."""
    return [char for char in text.lower() if char.isdigit() or char.isalpha()]


def _bag_f1(given: Sequence[str], wanted: Sequence[str]) -> float:
    if not given or not wanted:
        return float(given == wanted)
    return 2 * sum((Counter(given) & Counter(wanted)).values()) / (len(given) + len(wanted))


def cmrc_f1(answer: str, gold: str) -> float:
    """The official F1 of one answer against one gold answer."""
    return _run_f1(cmrc_tokens(answer), cmrc_tokens(gold))


def _run_f1(given: Sequence[str], wanted: Sequence[str]) -> float:
    overlap = _longest_run(wanted, given)
    if overlap == 0:
        return 0.0
    precision, recall = overlap / len(given), overlap / len(wanted)
    return 2 * precision * recall / (precision + recall)


def cmrc_tokens(text: str) -> list[str]:
    """The script's `mixed_segmentation(text, rm_punc=True)`."""
    tokens: list[str] = []
    for part in re.split(r"([\u4e00-\u9fa5])", _bare(text)):
        tokens += [part] if "\u4e00" <= part <= "\u9fa5" and len(part) == 1 else word_tokens(part)
    return tokens


def word_tokens(text: str) -> list[str]:
    """What NLTK's `word_tokenize` gives for English text without any of the ignored punctuation."""
    tokens: list[str] = []
    for sentence in _sentences(text):
        for pattern, replacement in _TREEBANK:
            sentence = pattern.sub(replacement, sentence)
        tokens += sentence.split()
    return tokens


def _bare(text: str) -> str:
    return "".join(char for char in text.lower().strip() if char not in IGNORED)


def _longest_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest run of tokens that stands in both."""
    best = 0
    row = [0] * (len(second) + 1)
    for token in first:
        previous = row
        row = [0] * (len(second) + 1)
        for place, other in enumerate(second, 1):
            if token == other:
                row[place] = previous[place - 1] + 1
                best = max(best, row[place])
    return best


# Where a full stop does not end a sentence: the abbreviations of NLTK's English model `punkt_tab`, as a pattern.
# Single letters are among them; other single letters are initials, with the same effect before a small letter.
_ABBREVIATION = re.compile(
    r"""(?:.*-)?(?:[cdefghklmnprstvw]|adm|ala|ariz|aug|ave|bros|calif|chg|cie|co|col|colo|conn|corp|cos|ct|dec|dr|feb
    |fla|fri|ft|ga|gen|ill|inc|jan|jr|kan|ky|lt|ltd|maj|messrs|mg|mich|minn|mr|mrs|ms|nev|nov|oct|ok|okla|ore|pa|prof
    |rep|reps|sen|sep|sept|sr|st|sw|tenn|tues|va|vs|vt|wash|wed|wis|yr|ph\.d|w\.va|c\.i\.t|c\.o\.m\.b|i\.m\.s|m\.b\.a
    |m\.d\.c|a\.m\.e|p\.a\.m|s\.a\.y|s\.p\.a|u\.s\.a|u\.s\.s\.r|a\.[acdghmst]|b\.[fv]|c\.v|d\.[chw]|e\.[fhlm]|f\.[gj]
    |g\.[dfk]|h\.[cfm]|j\.[bcjkpr]|l\.[afp]|m\.j|n\.[cdhjmvy]|p\.m|r\.[ahijkt]|s\.[acgs]|t\.j|u\.[kns]|w\.[crw])""",
    re.VERBOSE,
)
# Marks that are no part of a word: a sentence may end in front of them without white space.
_MARKS = r"""?!)";}\]*:@'({\["""
_END = re.compile(rf"[.?!](?=[{_MARKS}]|$)")
_LAST_WORD = re.compile(rf"""'?[^{_MARKS}]*\Z""")
_CLOSING = re.compile(r"""["')\]}]+(?:\s+|$)|\s*""")


def _sentences(text: str) -> list[str]:
    """Split after a full stop that ends a sentence; other sentence ends make no difference to the tokens.

    Of the possible ends between two white spaces, Punkt looks at the last alone.
    """
    cuts = []
    chunks = list(re.finditer(r"\S+", text))
    words = [*(chunk.group() for chunk in chunks[1:]), ""]
    for chunk, following in zip(chunks, words, strict=False):
        ends = [end.start() for end in _END.finditer(chunk.group()) if following or end.end() < len(chunk.group())]
        if ends and _ends_sentence(chunk.group(), ends[-1], following):
            after = chunk.start() + ends[-1] + 1
            closing = _CLOSING.match(text, after)
            cuts.append(closing.end() if closing else after)
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def _ends_sentence(chunk: str, place: int, following: str) -> bool:
    if chunk[place] != "." or chunk[place - 1 : place] == ".":
        return False
    last_word = _LAST_WORD.search(chunk[:place])
    word = last_word.group().lstrip("&#,") if last_word else ""
    if _ABBREVIATION.fullmatch(word.lower()):
        return False
    after = (chunk[place + 1 :] or following)[0]
    initial_or_number = re.fullmatch(r"[^\W\d_]|-?[.,]?\d[\d,.-]*", word)
    return not (initial_or_number and (after.islower() or after in ";:,.!?"))


# Penn Treebank rules, in their order: quotation marks that open, punctuation, brackets, marks that close, clitics.
_TREEBANK = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"([«‘„])", r" \1 "),
        (r'^"', " `` "),
        (r"([ (\[{<])(?:\"|'')", r"\1 `` "),
        (r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "' "),
        (r"([^.])\.([\])}>\"'» ]*)\s*$", r"\1 . \2 "),
        (r",(\D)", r" , \1"),
        (r",$", " , "),
        (r"\.{2,}", r" \g<0> "),
        (r"[;@#$%&\u2012-\u2015?!]", r" \g<0> "),
        (r"([^'])' ", r"\1 ' "),
        (r"[\]\[(){}<>]", r" \g<0> "),
        (r"^|$", " "),
        (r"»", " » "),
        (r"''|\"", " '' "),
        (r"\s+", " "),
        (r"([^' ])('[smd]|') ", r"\1 \2 "),
        (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
        (r"\b(can)(not)\b", r" \1 \2 "),
        (r"\b(d)('ye)\b", r" \1 \2 "),
        (r"\b(gim|lem)(me)\b", r" \1 \2 "),
        (r"\b(gon)(na)\b", r" \1 \2 "),
        (r"\b(got)(ta)\b", r" \1 \2 "),
        (r"\b(more)('n)\b", r" \1 \2 "),
        (r"\b(wan)(na)(?=\s)", r" \1 \2 "),
        (r" ('t)(is|was)\b", r" \1 \2 "),
    )
]


def _best_mean(seen: Observation, judge: Callable[[str, str], float]) -> float | None:
    return mean_over_predictions(seen, lambda answer, golds: max(judge(answer, gold) for gold in golds))


def _mean_of_others(seen: Observation, judge: Callable[[str, str], float]) -> float | None:
    def mean(answer: str, golds: Sequence[str]) -> float:
        scores = [judge(answer, gold) for gold in golds]
        others = [scores[:place] + scores[place + 1 :] for place in range(len(scores))] if len(scores) > 1 else [scores]
        return sum(map(max, others)) / len(others)

    return mean_over_predictions(seen, mean)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CjrcExactMatch, CjrcF1, CmrcExactMatch, CmrcF1, DuReaderRobustExactMatch, DuReaderRobustF1, ExpMrcF1]
