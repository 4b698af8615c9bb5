"""Answers about images in a few words: VQA accuracy, ANLS, relaxed accuracy, OCRBench.

VQA: the EvalAI processor (facebookresearch/mmf, `pythia/tasks/processors.py`), used by TextVQA, VQAv2, OK-VQA, VizWiz.
ANLS: Biten et al., 2019 (DocVQA, InfoVQA). Relaxed accuracy: Methani et al., 2020 (ChartQA). OCRBench:
Yuliang-Liu/MultimodalOCR. As lmms-eval computes them at 75571cf (2026-08-06); where its rule differs from another's,
the option says so. VLMEvalKit's variant is that of its e8e78f0 (2026-08-18).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.scoring.official.edit_distance import edit_distance

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS)} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))
# The processor restores contractions that lack one apostrophe ("dont"). A few common ones are missing ("shell", "wed").
_CONTRACTIONS = re.findall(
    r"\S+",
    """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
    """,
)
_RESTORED = {
    word[:place] + word[place + 1 :]: word for word in _CONTRACTIONS for place, char in enumerate(word) if char == "'"
} | {"somebody'd": "somebodyd"}
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),+(?=\d)")
# The processor's pattern means to spare a digit's full stop, but `(?!<=\d)` is no look-behind: "1." becomes "1".
_PERIOD = re.compile(r"\.(?!\d)")
_PERIOD_AFTER_NO_DIGIT = re.compile(r"(?<!\d)\.(?!\d)")
_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: ord(" ")}
_MOST_PERIODS = 32  # `re.UNICODE` stands where the count belongs


def vqa_normalise(answer: str, *, vlmevalkit: bool = False) -> str:
    """The EvalAI form of an answer. `vlmevalkit`: that project's variant, which keeps "it's" and "1." as they are."""
    text = answer.lower().strip()
    if not vlmevalkit:
        text = text.replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    text = vlmevalkit_punctuation(text) if vlmevalkit else _without_punctuation(text, _PERIOD)
    words = [_DIGITS.get(word, word) for word in text.split()]
    return " ".join(_RESTORED.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, references: Sequence[str], *, vlmevalkit: bool = False) -> float:
    """Mean over the references of min(1, how many of the others agree / 3): 0, 0.3, 0.6, 0.9 or 1 for ten."""
    given = vqa_normalise(answer, vlmevalkit=vlmevalkit)
    agree = [vqa_normalise(reference, vlmevalkit=vlmevalkit) == given for reference in references]
    total = sum(agree)
    return sum(min(1.0, (total - own) / 3) for own in agree) / len(agree)


def anls(answer: str, references: Sequence[str], threshold: float = 0.5) -> float:
    """Average normalised Levenshtein similarity of one answer: the best reference, 0 below the threshold.

    Case and repeated white space do not count; the length by which the distance is divided does count them, as in
    lmms-eval and VLMEvalKit, and a similarity of exactly the threshold is kept.
    """
    similarities = []
    for reference in references:
        first, second = (" ".join(text.strip().lower().split()) for text in (reference, answer))
        longest = max(len(reference.upper()), len(answer.upper()))  # as there: ß is two letters long
        similarity = 1 - edit_distance(first, second) / longest if longest else 1.0
        similarities.append(similarity if similarity >= threshold or not longest else 0.0)
    return max(similarities)


def relaxed_correct(answer: str, gold: str, tolerance: float = 0.05) -> bool:
    """ChartQA: numbers within 5 % of the gold, other answers equal without case. `10%` is 0.1; `1,000` is no number."""
    given, wanted = _chart_number(answer), _chart_number(gold)
    if given is not None and wanted:
        return abs(given - wanted) / abs(wanted) <= tolerance
    return answer.lower() == gold.lower()


def ocrbench_correct(
    answer: str, gold: str | Sequence[str], handwritten_formula: bool = False, *, any_width: bool = False
) -> bool:
    """Whether a reference stands within the answer (Yuliang-Liu/MultimodalOCR, `OCRBench/example.py`).

    handwritten_formula: as formulas (HME100k) are compared, with case, without any space. any_width: full-width signs
    are the same as ASCII's elsewhere, as lmms-eval has it.
    """
    golds = [gold] if isinstance(gold, str) else gold

    def form(text: str) -> str:
        if handwritten_formula:
            return text.strip().replace("\n", " ").replace(" ", "")
        return (text.translate(_HALF_WIDTH) if any_width else text).lower().strip().replace("\n", " ")

    return any(form(reference) in form(answer) for reference in golds)


def vlmevalkit_punctuation(text: str) -> str:
    """A text without the punctuation that VLMEvalKit takes out (`vlmeval/smp/misc.py`); a colon is not part of it."""
    return _without_punctuation(text, _PERIOD_AFTER_NO_DIGIT)


def _without_punctuation(text: str, period: re.Pattern[str]) -> str:
    number = _COMMA_IN_NUMBER.search(text) is not None
    out = text
    for mark in _PUNCTUATION:
        out = out.replace(mark, "" if number or f"{mark} " in text or f" {mark}" in text else " ")
    return period.sub("", out, count=_MOST_PERIODS)


def _chart_number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
