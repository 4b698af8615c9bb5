"""Numbers in words: 三千六百五十二, 三又四分之一, 百分之十二点五, 负五; twelve, twenty-five."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from harness.later_patterns import later_pattern

_DIGITS = {"零": 0, "〇": 0, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
TENS = {"十": 10, "百": 100, "千": 1000}
_CHEQUE_DIGITS = str.maketrans("壹贰叁肆伍陆柒捌玖拾佰仟萬億", "一二三四五六七八九十百千万亿")
MYRIADS = {"万": 10_000, "亿": 100_000_000}
_NUMERAL = r"[零〇一二两三四五六七八九十百千万亿]{1,40}"
_CHINESE = later_pattern(
    rf"(?P<sign>负|零下)?(?:(?:(?P<mixed>{_NUMERAL})又)?(?P<below>百|千|万|{_NUMERAL})分之(?P<above>{_NUMERAL}(?:点[零〇一二三四五六七八九]{{1,40}})?)"
    rf"|(?P<whole>{_NUMERAL})(?:点(?P<decimals>[零〇一二三四五六七八九]{{1,40}}))?)"
)
# 一个半小时, 两公里半; not ten semicircles.
_AND_A_HALF = later_pattern(rf"({_NUMERAL})(?:个|年|天|公里|里|斤|米|倍)半(?![圆径球数价岛决成])")
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_DECADES = "twenty thirty forty fifty sixty seventy eighty ninety"
_ENGLISH_WORDS = {word: value for value, word in enumerate(_ONES.split(" "))}
_ENGLISH_WORDS |= {word: 20 + 10 * place for place, word in enumerate(_DECADES.split(" "))}
_ENGLISH_THOUSANDS = {"thousand": 1000, "million": 10**6, "billion": 10**9}
_SMALL = "|".join(_ENGLISH_WORDS)
_ENGLISH = later_pattern(
    rf"(?:about |approximately |exactly |only )?(?P<sign>(?:minus|negative) )?(?:{_SMALL})\b"
    rf"(?:(?:\s+and\s+|\s*-\s*|\s+)(?:{_SMALL}|hundred|{'|'.join(_ENGLISH_THOUSANDS)})\b){{0,12}}",
    re.IGNORECASE,
)
_NO_NUMBERS = frozenset({"about", "approximately", "exactly", "only", "minus", "negative", "and"})
_PARTS = {
    "hal": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
}
_PARTS |= {"tenth": 10}
_ENGLISH_PARTS = later_pattern(rf"[\s-]+((?:{'|'.join(_PARTS)})(?:s|f|ves)?)\b", re.IGNORECASE)
# Words in which 一 and its like count nothing; a lone numeral counts only before what can be counted, or alone.
_WORDS = later_pattern(
    r"一(?:起|样|般|定|直|些|旦|切|致|边|下|方面|共|次性|同|点(?![零〇一二三四五六七八九])|步|是|种|道)|统一|唯一|万一|(?<!分)之一|逐一|第[零〇一二两三四五六七八九十百千]+"
    r"|[三四五六]角形?|四边形|十分(?!之)|千万(?!\S*[零一二三四五六七八九])|百科|万物|一二"
    # about thirty to forty; seven or eight of them
    r"|(?<![零〇一二三四五六七八九十百千万亿])[一二三四五六七八九]{2}(?=[十百千万亿]|[个只元块条张本名人次天年月岁件页颗棵位座间双](?![零〇一二三四五六七八九十]))[十百千万亿]*"
)
_COUNTED = later_pattern(
    r"$|[\s。,.;!、)）]|[个只元块条张本名人次天年月日小时分秒米克吨升里斤公倍种台辆件岁页颗棵支枝头匹位座间组队套双对把]"
    r"|[瓶杯盒袋箱包层排行列厘毫平立度角毛]"
)


def chinese_number(text: str) -> int:
    """The value of a Chinese numeral: 两千零五 is 2005, 二〇二四 is 2024, 三万五 is 35000. Raises `ValueError`."""
    if not re.fullmatch(_NUMERAL, text):
        raise ValueError(f"{text!r} is no Chinese numeral")
    if all(char in _DIGITS for char in text):
        return int("".join(str(_DIGITS[char]) for char in text))
    total = section = digit = 0
    unit = 1
    for char in text:
        if char in _DIGITS:
            digit = _DIGITS[char]
            unit = 1 if char in "零〇" else unit
        elif char in TENS:
            # 十二 begins with a ten that has no digit.
            section += (digit or 1) * TENS[char]
            unit, digit = TENS[char], 0
        else:
            total = (total + section + digit) * MYRIADS[char] if char == "亿" else total + (section + digit) * 10_000
            unit, section, digit = MYRIADS[char], 0, 0
    # In 三万五 and 两百五 the last digit stands for the next lower unit.
    return total + section + digit * (unit // 10 if unit >= 100 else 1)


def chinese_value(text: str) -> Fraction | None:
    """The value of a text that is one Chinese numeral: 三分之二, 百分之五十 (a half), 负二; None for anything else.

    The digits of cheques are read too: 壹佰.
    """
    match = _CHINESE.fullmatch(text.strip().translate(_CHEQUE_DIGITS))
    if match is None or len(text) > 40:
        return None
    value = Fraction(_chinese(match))
    return value / 100 if match["below"] == "百" else value


def chinese_numbers(text: str) -> list[str]:
    """All Chinese numerals of a text that count something, as plain text."""
    text = _AND_A_HALF.sub(r"\1点五", text)
    masked = _WORDS.sub(lambda match: "#" * len(match.group()), text)
    numbers = []
    for match in _CHINESE.finditer(masked):
        numeral = match["whole"]
        if numeral and len(numeral) == 1 and not match["decimals"] and not match["sign"]:
            alone = _COUNTED.match(masked, match.end())
            if numeral in "百千万亿" or not alone:
                continue
            if (
                numeral == "一"
                and masked[match.end() : match.end() + 1] == "个"
                and re.match(r"个[^\s。,.;!]", masked[match.end() :])
            ):
                continue
        if numeral and all(char in "百千万亿" for char in numeral):
            continue
        numbers.append(_chinese(match))
    return numbers


def _chinese(match: re.Match[str]) -> str:
    sign = "-" if match["sign"] else ""
    if match["below"]:
        above, _, decimals = match["above"].partition("点")
        value = plain(Decimal(_decimal(above, decimals)))
        if match["mixed"]:
            below = chinese_number(match["below"])
            return fraction(f"{sign}{chinese_number(match['mixed']) * below + int(Decimal(value))}", str(below))
        # 百分之二十 is a percentage, and read like 20%.
        below = MYRIADS.get(match["below"]) or chinese_number(match["below"])
        return sign + value if match["below"] == "百" else fraction(sign + value, str(below))
    return plain(Decimal(sign + _decimal(match["whole"], match["decimals"] or "")))


def _decimal(whole: str, decimals: str) -> str:
    return f"{chinese_number(whole)}" + ("." + "".join(str(_DIGITS[char]) for char in decimals) if decimals else "")


def english_number(text: str) -> str | None:
    """The number with which a text begins, in English words: `twenty-five apples` is 25; None where there is none."""
    match = _ENGLISH.match(text)
    if not match or re.match(r"\s+of\b", text[match.end() :]):  # one of the following
        return None
    sign = "-" if match["sign"] else ""
    words = [word for word in re.findall(r"[a-z]+", match.group().lower()) if word not in _NO_NUMBERS]
    if part_of := _ENGLISH_PARTS.match(text, match.end()):
        below = next(below for word, below in _PARTS.items() if part_of[1].lower().startswith(word))
        return f"{sign}{_ENGLISH_WORDS[words[0]]}/{below}" if len(words) == 1 else None
    total = part = 0
    for word in words:
        if word == "hundred":
            part *= 100
        elif word in _ENGLISH_THOUSANDS:
            total, part = total + part * _ENGLISH_THOUSANDS[word], 0
        else:
            part += _ENGLISH_WORDS[word]
    return f"{sign}{total + part}"


def english_value(text: str) -> Fraction | None:
    """The value of a text that is one number in English words: twelve, two-thirds; None for anything else."""
    words = text.strip()
    match = _ENGLISH.match(words) if len(words) <= 100 and words[:1].isalpha() else None
    if match is None:
        return None
    part_of = _ENGLISH_PARTS.match(words, match.end())
    if (part_of or match).end() != len(words):
        return None
    value = english_number(words)
    return None if value is None else Fraction(value)


def fraction(above: str, below: str) -> str:
    return f"{above}/{below}".replace("--", "")


def plain(value: Decimal) -> str:
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
