"""Reads the final number from a reply: Arabic or Chinese numerals, fractions, thousands separators, units left out.

The number that a reply sets apart (`\\boxed{18}`, `#### 18`, <answer>) comes first, then the one that follows a cue
(答案是18, the answer is 18), then a first line that an explanation follows, then the last of the text. Numbers in words
are read where there is no Arabic one, English ones only after a cue or where the reply begins with them. Numbers that
count nothing are passed over: list markers (`2.`), steps (步骤2, Step 2), ordinals (第一), parts of names (H2O), dates.
A range (between 3 and 5) is no number.

A number is returned as plain text: `-5`, `1024`, `0.5`, `3/4`; `45%` is `45`.
"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

from harness.later_patterns import later_pattern
from harness.reasoning import strip_reasoning
from harness.scoring.extraction.cues import NEXT_QUESTION
from harness.scoring.extraction.markup import answer_tags, boxed, own_turn, plain_numbers
from harness.scoring.extraction.numerals import MYRIADS, TENS, chinese_numbers, english_number, fraction, plain

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_POWER = r"(?:[eE](?P<e>[+-]?\d+)(?![\d.])|\s*(?:×|x|\*|\\times|\\cdot)\s*10\s*\^\s*\{?\s*(?P<power>[+-]?\d+)\s*\}?)"
# 3万, 5千, 2亿5千万; not 2千克 and not 百分.
_UNITS = r"\s?(?:[百千]?[万亿]+|[百千](?![克米瓦卡赫帕伏分字兆]))"
_ARABIC = later_pattern(
    rf"(?<![A-Za-z_\d.\\])(?<![A-Za-z]-)(?P<sign>(?<![\d)\]A-Za-z}}%])-\s*|零下\s*|(?<![正\d])负(?=\d))?"
    rf"(?:\\[dt]?frac\s*\{{\s*(?P<above>-?\d+)\s*\}}\s*\{{\s*(?P<below>\d+)\s*\}}"
    rf"|(?P<whole>{_PLAIN})(?:{_POWER}|\s*\^\s*(?:(?P<raised>-?\d{{1,3}})(?![\d.])|\{{\s*(?P<raised_>-?\d{{1,3}})\s*\}})"
    r"|\s*/\s*(?P<over>\d+)(?![\d/]|\.\d))?"
    rf"(?:(?P<units>{_UNITS}(?:\d+(?:\.\d+)?{_UNITS})*)|\s?(?P<words>thousand|million|billion|trillion)\b"
    rf"|(?<=\d)(?P<thousands>k)\b)?(?!\d*(?:st|nd|rd|th)\b))",
)
_WORDS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MOST_DIGITS = 400  # of a power; what is longer is no answer
_NOT_COUNTED_BEFORE = later_pattern(
    r"(?:第|步骤|步|图|表|\b(?:step|no\.|item|figure|table|question|problem|section|chapter|page))\s*$", re.IGNORECASE
)
_MARKER = later_pattern(r"(?:^|\n)[ \t]*[(]?\d{1,2}(?:[、)]|\.(?!\d))[ \t]*(?=\S)")
_CUE = later_pattern(
    r"最[终后](?:得到|得出|得)|(?:答案|结果)(?:应该|应|就|便)?(?:是|为|等于|[:=]|即)+\s*[:=]?|答\s*:|(?<=[\"'])answer[\"']\s*:"
    r"|\b(?:answer|result|total)\b(?:\s+(?:to|for|of)\s[^.\n:]{1,60}?)?\s*(?:is|:|=|equals|would be|should be|must be)"
    r"(?:\s+(?:therefore|thus|approximately|about|simply))?",
    re.IGNORECASE,
)
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
_DATE = later_pattern(
    r"(?:\d{2,4}\s*年\s*)?(?<!\d)\d{1,2}\s*月\s*\d{1,2}\s*[日号]"
    r"|(?<![\d.])(?:19|20)\d\d([-/.])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?![\d/.-]\d|\d)"
    rf"|\b{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+(?:19|20)\d\d\b|\b\d{{1,2}}(?:st|nd|rd|th)?\s+{_MONTH},?\s+(?:19|20)\d\d\b"
    r"|(?<![\d/])\d{1,2}/\d{1,2}/(?:19|20)\d\d\b"
    # Versions and addresses: 1.2.3, 192.168.1.1
    r"|(?<![\d.])\d+(?:\.\d+){2,}(?![\d.])"
)
# 3元5角 is one amount, 3.5.
_MONEY = later_pattern(
    r"(?P<yuan>(?<![\d.,])\d{1,15}|(?<![零一二两三四五六七八九十百千万])[零一二两三四五六七八九十百千万]{1,20})\s*[元块]\s*[零]?(?:(?P<jiao>\d|[一二三四五六七八九])\s*[角毛])(?:\s*(?P<fen>\d|[一二三四五六七八九])\s*分)?"
)
_NUMBER = rf"-?(?:{_PLAIN})\s?[^\s\d,.;。，]{{0,6}}?"
_RANGE = later_pattern(
    rf"\bbetween\s+\W?{_NUMBER}\s+and\s+\W?(?:{_PLAIN})|(?:{_PLAIN})\s?[^\s\d]{{0,3}}?\s*(?:到|至|和|与|-|~|—)\s*{_NUMBER}之间"
)
# 3-5, 10%~20%, 10到15: not 10-3, which is a difference, nor 5-8=-3.
_SPAN = later_pattern(
    rf"(?<![\d.,A-Za-z+*/×^_(-])(?P<low>{_PLAIN})\s?[%％°℃]?(?:-|\s?(?:~|—|到|至)\s?)[$￥¥€£]?(?P<high>{_PLAIN})(?![\d.]*\d|\s*[=+*/×^-]|\s?[年月日号])"
)
_SENTENCE_END = re.compile(r"[。;\n]|\.(?=\s|$)")
_BETWEEN = "¤"  # stands for a range
_MOST_IN_A_ROW = 1000
_ENDLESS = later_pattern(rf"(?<![\d.])(?:\d{{1,30}}\.)?\d{{{_MOST_IN_A_ROW},}}")
_MIXED = later_pattern(
    r"(?<![\d.,/^\w\\])(\d{1,6})(?:\s*\\[dt]?frac\s*\{\s*(\d{1,4})\s*\}\s*\{\s*(\d{1,4})\s*\}"
    r"| (\d{1,3})/(\d{1,3})(?![\d/.]|-[A-Za-z]))"
)
# 5分之3, 1又5分之3, 1又1/2, 百分之20
_ZH_FRACTION = later_pattern(
    r"(?:(?P<mixed>\d{1,6})又)?(?P<below>\d{1,6})分之(?P<above>\d{1,6})(?![\d.])"
    r"|(?P<whole>\d{1,6})又(?P<over>\d{1,6})/(?P<under>\d{1,6})(?![\d/])"
)
_EXPLAINED = later_pattern(
    r"\s{0,80}([^\n]{1,80})\n[\W_]{0,80}(?:explanation|reason|because|解析|解释|理由|分析|说明|过程)", re.IGNORECASE
)


def final_number(reply: str) -> str | None:
    """Return the number that the reply gives as its answer, or None."""
    answer = own_turn(strip_reasoning(reply)[0])
    hashes = re.findall(r"####\s*([^\n]+)", answer)
    for content in (*boxed(answer)[::-1], *answer_tags(answer)[::-1], *hashes[::-1]):
        numbers = numbers_in(content.rpartition("=")[2])
        if numbers:
            return numbers[-1]
    if not NEXT_QUESTION.match("\n" + answer):  # nor do its own questions begin the reply
        head = NEXT_QUESTION.split(answer, maxsplit=1)[0]
        answer = head if re.search(r"[\d一二三四五六七八九]", head) else answer
    text = _SPAN.sub(_between, _RANGE.sub(_BETWEEN, _DATE.sub(" ", _of_finite_length(plain_numbers(answer)))))
    # What was looked at for a later cue holds no number: a reply may say `the answer is` ten thousand times.
    ends, equals_behind = len(text), False
    for cue in reversed(list(_CUE.finditer(text))):
        sentence, *others = _SENTENCE_END.split(text[cue.end() : ends].lstrip(), maxsplit=1)
        equals_behind = equals_behind and not others
        number = _of_sentence(sentence, equals_behind)
        if number is not None:
            return number or None
        ends, equals_behind = cue.end(), equals_behind or "=" in sentence
    first = _EXPLAINED.match(text)
    if first and len(result := numbers_in(first[1].rpartition("=")[2])) == 1:
        return result[0]
    # `18 (since 9 x 2 = 18)`: a number with a remark in brackets after it stands before the remark.
    head, _, remark = text.partition("(")
    is_aside = remark.rstrip(" .\n").endswith(")") and "(" not in remark and "\n" not in head.strip()
    numbers = numbers_in((head if is_aside and re.search(r"\d", head) else text).rpartition(_BETWEEN)[2])
    return numbers[-1] if numbers else english_number(text.strip())


def _of_finite_length(text: str) -> str:
    """The text, with what is no number for a row of digits that a model could not end."""
    return _ENDLESS.sub(_BETWEEN, text) if len(text) > _MOST_IN_A_ROW else text


def _between(match: re.Match[str]) -> str:
    low, high = (Decimal(match[name].replace(",", "")) for name in ("low", "high"))
    return _BETWEEN if low < high else match.group()


def numbers_in(text: str) -> list[str]:
    """All numbers of a text in their order; Chinese numerals only where there is no Arabic one."""
    text = _MIXED.sub(_improper, _ZH_FRACTION.sub(_quotient, _of_finite_length(plain_numbers(text))))
    text = _MONEY.sub(_amount, text)
    markers = {place for match in _MARKER.finditer(text) for place in range(*match.span())}
    numbers = []
    for match in _ARABIC.finditer(text):
        if match.start() in markers:
            continue
        if not _NOT_COUNTED_BEFORE.search(text[max(0, match.start() - 12) : match.start()]):
            numbers.append(_arabic(match))
    return numbers or chinese_numbers(text)


def _improper(match: re.Match[str]) -> str:
    """3 1/4 as 13/4."""
    above, below = int(match[2] or match[4]), int(match[3] or match[5])
    return f"{int(match[1]) * below + above}/{below}" if above < below else match.group()


def _quotient(match: re.Match[str]) -> str:
    """5分之3 as 3/5, and 1又5分之3 as 8/5."""
    whole = int(match["mixed"] or match["whole"] or 0)
    above, below = int(match["above"] or match["over"]), int(match["below"] or match["under"])
    return f"{whole * below + above}/{below}"


def _amount(match: re.Match[str]) -> str:
    """12元5角 as 12.5元; 五百块零五毛 as 五百点五块."""
    figures = match["yuan"].isdecimal()
    point, none = (".", "0") if figures else ("点", "零")
    return f"{match['yuan']}{point}{match['jiao'] or none}{match['fen'] or ''}元"


def _of_sentence(sentence: str, equals_behind: bool) -> str | None:
    """The number of a cue's own sentence: what follows its last equals sign, or the first. Empty for a range.

    equals_behind: that sign, and no number, stands in the rest of the sentence, which is left out.
    """
    left, equals, right = sentence.rpartition("=")
    numbers = numbers_in(right if equals and not equals_behind else sentence)
    if not numbers and equals:
        numbers = numbers_in(left)
    if not numbers and _BETWEEN in sentence:
        return ""
    return numbers[0] if numbers else english_number(sentence.strip())


def _arabic(match: re.Match[str]) -> str:
    sign = "-" if match["sign"] else ""
    if match["below"]:
        return fraction(f"{sign}{match['above']}", match["below"])
    value = Decimal(match["whole"].replace(",", ""))
    exponent = int(match["e"] or match["power"] or 0)
    if abs(exponent) > 400:
        return match.group()
    if exponent:
        value = value.scaleb(exponent)
    if raised := match["raised"] or match["raised_"]:
        if "." in match["whole"] or abs(int(raised)) * len(match["whole"]) > _MOST_DIGITS:
            return plain(value.copy_negate() if sign else value)
        with localcontext(prec=_MOST_DIGITS + 10):
            value = value ** abs(int(raised))
        if int(raised) < 0:
            return plain(1 / value) if match["whole"] == "10" else fraction(f"{sign}1", plain(value))
    if match["words"] or match["thousands"]:
        value = value.scaleb(_WORDS[match["words"].lower()] if match["words"] else 3)
    if match["units"]:
        value = _with_units(value, match["units"])
    if match["over"]:
        return fraction(f"{sign}{plain(value)}", match["over"])
    return plain(value.copy_negate() if sign else value)


def _with_units(value: Decimal, units: str) -> Decimal:
    """2 and `亿5千万` are 2 * 10^8 + 5 * 10^7."""
    total = Decimal(0)
    for number, signs in re.findall(r"([\d.]*)\s?([百千万亿]+)", units):
        part = Decimal(number) if number else value
        for sign in signs:
            part *= {**TENS, **MYRIADS}[sign]
        total += part
    return total
