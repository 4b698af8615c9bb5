"""Reads the final number from a reply: Arabic or Chinese numerals, fractions, thousands separators, units left out.

The number that a reply sets apart (`\\boxed{18}`, `#### 18`, <answer>) comes first, then the one that follows a cue
(答案是18, the answer is 18), then the last of the text. Chinese numerals are read where there is no Arabic one. Numbers
that count nothing are passed over: list markers (`2.`), steps (步骤2, Step 2), ordinals (第一), parts of names (H2O).

A number is returned as plain text: `-5`, `1024`, `0.5`, `3/4`; `45%` is `45`.
"""

from __future__ import annotations

import re
from decimal import Decimal

from harness.scoring.markup import answer_tags, boxed, plain_numbers
from harness.scoring.reasoning import strip_reasoning

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_POWER = r"(?:[eE](?P<e>[+-]?\d+)(?![\d.])|\s*(?:×|x|\*|\\times|\\cdot)\s*10\s*\^\s*\{?\s*(?P<power>[+-]?\d+)\s*\}?)"
# 3万, 5千, 2亿5千万; not 2千克 and not 百分.
_UNITS = r"\s?(?:[百千]?[万亿]+|[百千](?![克米瓦卡赫帕伏分字兆]))"
_ARABIC = re.compile(
    rf"(?<![A-Za-z_\d.\\])(?<![A-Za-z]-)(?P<sign>(?<![\d)\]A-Za-z}}%])-\s*)?"
    rf"(?:\\[dt]?frac\s*\{{\s*(?P<above>-?\d+)\s*\}}\s*\{{\s*(?P<below>\d+)\s*\}}"
    rf"|(?P<whole>{_PLAIN})(?:{_POWER}|\s*/\s*(?P<over>\d+)(?![\d/]|\.\d))?(?P<units>{_UNITS}(?:\d+(?:\.\d+)?{_UNITS})*)?(?!\d*(?:st|nd|rd|th)\b))"
)
_NOT_COUNTED_BEFORE = re.compile(r"(?:第|步骤|\bstep|\bSTEP|\bStep|步|\bNo\.|\bitem|\bfigure|\btable|图|表)\s*$")
_MARKER = re.compile(r"(?:^|\n)[ \t]*[(]?\d{1,2}(?:[、)]|\.(?!\d))[ \t]*(?=\S)")
_CUE = re.compile(
    r"(?:答案|结果)(?:应该|应|就|便)?(?:是|为|等于|[:=]|即)+\s*[:=]?|答\s*:|(?<=[\"'])answer[\"']\s*:"
    r"|\b(?:answer|result|total)\b(?:\s+(?:to|for|of)\s[^.\n:]{1,60}?)?\s*(?:is|:|=|equals|would be|should be|must be)"
    r"(?:\s+(?:therefore|thus|approximately|about|simply))?",
    re.IGNORECASE,
)

_DIGITS = {"零": 0, "〇": 0, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}
_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10_000, "亿": 100_000_000}
_NUMERAL = r"[零〇一二两三四五六七八九十百千万亿]{1,40}"
_CHINESE = re.compile(
    rf"(?P<sign>负)?(?:(?P<below>百|千|万|{_NUMERAL})分之(?P<above>{_NUMERAL}(?:点[零〇一二三四五六七八九]{{1,40}})?)"
    rf"|(?P<whole>{_NUMERAL})(?:点(?P<decimals>[零〇一二三四五六七八九]{{1,40}}))?)"
)
# Words in which 一 and its like count nothing; a lone numeral counts only before what can be counted, or alone.
_WORDS = re.compile(
    r"一(?:起|样|般|定|直|些|旦|切|致|边|下|方面|共|次性|同|点儿?|步|是|种|道)|统一|唯一|万一|(?<!分)之一|逐一|第[零〇一二两三四五六七八九十百千]+"
    r"|[三四五六]角形?|四边形|十分(?!之)|千万(?!\S*[零一二三四五六七八九])|百科|万物|一二"
)
_COUNTED = re.compile(
    r"$|[\s。,.;!、)）]|[个只元块条张本名人次天年月日小时分秒米克吨升里斤公倍种台辆件岁页颗棵支枝头匹位座间组队套双对把]"
    r"|[瓶杯盒袋箱包层排行列厘毫平立度角毛]"
)


def final_number(reply: str) -> str | None:
    """Return the number that the reply gives as its answer, or None."""
    answer, _ = strip_reasoning(reply)
    hashes = re.findall(r"####\s*([^\n]+)", answer)
    for content in (*boxed(answer)[::-1], *answer_tags(answer)[::-1], *hashes[::-1]):
        numbers = numbers_in(content.rpartition("=")[2])
        if numbers:
            return numbers[-1]
    text = plain_numbers(answer)
    cues = list(_CUE.finditer(text))
    for cue in reversed(cues):
        number = _after_cue(text[cue.end() :])
        if number is not None:
            return number
    numbers = numbers_in(_before_aside(text))
    return numbers[-1] if numbers else None


def numbers_in(text: str) -> list[str]:
    """All numbers of a text in their order; Chinese numerals only where there is no Arabic one."""
    text = plain_numbers(text)
    markers = [match.span() for match in _MARKER.finditer(text)]
    found = []
    for match in _ARABIC.finditer(text):
        if any(start <= match.start() < end for start, end in markers):
            continue
        if not _NOT_COUNTED_BEFORE.search(text[max(0, match.start() - 8) : match.start()]):
            found.append(_arabic(match))
    return found or _chinese_numbers(text)


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
        elif char in _TENS:
            # 十二 begins with a ten that has no digit.
            section += (digit or 1) * _TENS[char]
            unit, digit = _TENS[char], 0
        else:
            total = (total + section + digit) * _MYRIADS[char] if char == "亿" else total + (section + digit) * 10_000
            unit, section, digit = _MYRIADS[char], 0, 0
    # In 三万五 and 两百五 the last digit stands for the next lower unit.
    return total + section + digit * (unit // 10 if unit >= 100 else 1)


def _after_cue(tail: str) -> str | None:
    """The number of the cue's own sentence: what follows its last equals sign, or the first."""
    sentence = re.split(r"[。;\n]|\.(?=\s|$)", tail.lstrip(), maxsplit=1)[0]
    left, equals, right = sentence.rpartition("=")
    numbers = numbers_in(right if equals else sentence)
    if not numbers and equals:
        numbers = numbers_in(left)
    return numbers[0] if numbers else None


def _before_aside(text: str) -> str:
    """`18 (since 9 x 2 = 18)`: a number with a remark in brackets after it stands before the remark."""
    head, _, remark = text.partition("(")
    aside = remark.rstrip(" .\n").endswith(")") and "(" not in remark
    return head if aside and "\n" not in head.strip() and re.search(r"\d", head) else text


def _arabic(match: re.Match[str]) -> str:
    sign = "-" if match["sign"] else ""
    if match["below"]:
        return _fraction(f"{sign}{match['above']}", match["below"])
    value = Decimal(match["whole"].replace(",", ""))
    exponent = int(match["e"] or match["power"] or 0)
    if abs(exponent) > 400:
        return match.group()
    if exponent:
        value = value.scaleb(exponent)
    if match["units"]:
        value = _with_units(value, match["units"])
    if match["over"]:
        return _fraction(f"{sign}{_plain(value)}", match["over"])
    return _plain(value.copy_negate() if sign else value)


def _with_units(value: Decimal, units: str) -> Decimal:
    """2 and `亿5千万` are 2 * 10^8 + 5 * 10^7."""
    total = Decimal(0)
    for number, signs in re.findall(r"([\d.]*)\s?([百千万亿]+)", units):
        part = Decimal(number) if number else value
        for sign in signs:
            part *= {**_TENS, **_MYRIADS}[sign]
        total += part
    return total


def _chinese_numbers(text: str) -> list[str]:
    masked = _WORDS.sub(lambda match: "#" * len(match.group()), text)
    found = []
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
        found.append(_chinese(match))
    return found


def _chinese(match: re.Match[str]) -> str:
    sign = "-" if match["sign"] else ""
    if match["below"]:
        above, _, decimals = match["above"].partition("点")
        value = _plain(Decimal(_decimal(above, decimals)))
        # 百分之二十 is a percentage, and read like 20%.
        return sign + value if match["below"] == "百" else _fraction(sign + value, str(chinese_number(match["below"])))
    return _plain(Decimal(sign + _decimal(match["whole"], match["decimals"] or "")))


def _decimal(whole: str, decimals: str) -> str:
    return f"{chinese_number(whole)}" + ("." + "".join(str(_DIGITS[char]) for char in decimals) if decimals else "")


def _fraction(above: str, below: str) -> str:
    return f"{above}/{below}".replace("--", "")


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
