"""Prepares mathematical text for the parser: one alphabet, no decoration, the unit apart. No sympy here."""

from __future__ import annotations

import re
from fractions import Fraction

from harness.later_patterns import later_pattern
from harness.scoring.extraction.markup import boxed
from harness.scoring.extraction.numerals import chinese_value

_WIDTH: dict[int, int | str] = {0xFF01 + i: 0x21 + i for i in range(94)}
_SIGNS: dict[int, int | str] = {
    ord(sign): f" {command} "
    for sign, command in {
        "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "−": "-", "–": "-", "∞": r"\infty", "π": r"\pi", "√": "sqrt",
        "≤": r"\le", "⩽": r"\le", "≥": r"\ge", "⩾": r"\ge", "≠": r"\ne", "∪": r"\cup", "∩": r"\cap", "∈": r"\in",
        "±": r"\pm", "∅": r"\emptyset", "°": r"^\circ", "²": "^{2}", "³": "^{3}", "¹": "^{1}", "⁴": "^{4}",
        "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "∛": r"\sqrt[3]", "≈": r"\approx",
        "α": r"\alpha", "β": r"\beta", "θ": r"\theta", "、": ",", "，": ",", "。": ".", "：": ":", "；": ";",
        "\u3000": " ", "（": "(", "）": ")", "［": "[", "］": "]",
    }.items()
}  # fmt: skip
_DROPPED = later_pattern(
    r"\\(?:left|right|bigg?|Bigg?|displaystyle|textstyle|limits|quad|qquad|mathstrut|big[lr])(?![A-Za-z])"
    r"|(?<!\\)\\[,!;:> $]|~|\$|\*\*(?=[^*]*\*\*\s*$)|(?<=\S)\*\*\s*$|^\s*(?:\\approx|约|大约|about\b|approximately\b)"
)
# The one formula of a sentence: 最小值为 $\frac{1}{2}$。 And the words in front of an answer: 答案是5, the answer is 5.
_FORMULA = later_pattern(r"(?<!\\)\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_WORDS_BEFORE = later_pattern(
    r"^\s*(?:[\u4e00-\u9fff,\s]{1,30}?(?:是|为|等于|得)\s*[:：]?|[\u4e00-\u9fff]{1,12}\s*[:：]"
    r"|(?:(?:so|thus|therefore|hence),?\s+)?(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is|:)\s*:?)\s*(?=\S)",
    re.IGNORECASE,
)
_SAYS_NOT = later_pattern(r"[不非没未]|\b(?:not|no|never|isn)\b", re.IGNORECASE)
_WORDS_ALONE = later_pattern(r"[^\d=<>\\^_+*/|(){}\[\]-]*")
_REALS = later_pattern(r"\\math(?:bb|bf)\s*\{?\s*R\s*\}?|\\R(?![A-Za-z])|ℝ")
# 0.1\overline{6}, 0.\dot{3}, 0.\dot{1}4\dot{2}
_RECURRING = later_pattern(
    r"(?<![\d.])(\d*)\.(\d*)(?:\\overline\s*\{\s*(\d+)\s*\}|\\dot\s*\{?\s*(\d)\s*\}?(?:(\d*)\\dot\s*\{?\s*(\d)\s*\}?)?)"
)
_DEGREES = later_pattern(r"(?<=[\d)}])\s*(?:degrees?\b|度(?!\w))")
_WRAPPED = later_pattern(r"\\(?:mathrm|mathbf|mathit|mathsf|mathcal|boldsymbol|operatorname|rm|bf)\s*\{([^{}]*)\}")
_TEXT = later_pattern(r"\\(?:text|mbox|textrm|textbf|textit)\s*\{([^{}]*)\}")

# Unit: (dimension, how many of the dimension's base unit). Counters have no dimension: 3 个 is 3.
_UNITS: dict[str, tuple[str, Fraction]] = {}
for _dimension, _members in {
    "length": "mm 毫米 1/1000,cm 厘米 1/100,dm 分米 1/10,m 米 1,meter 1,meters 1,metres 1,km 千米 公里 1000",
    "area": "cm^2 平方厘米 1/10000,dm^2 平方分米 1/100,m^2 平方米 1,km^2 平方千米 平方公里 1000000,公顷 10000",
    "volume": "cm^3 立方厘米 毫升 ml mL 1/1000000,dm^3 立方分米 升 L 1/1000,m^3 立方米 1",
    "mass": "g 克 1/1000,kg 千克 公斤 1,t 吨 1000,斤 1/2,grams 1/1000",
    "time": "s 秒 秒钟 second seconds 1,min mins 分钟 minute minutes 60,刻钟 900,h hr hrs 小时 钟头 hour hours 3600,"
    "天 日 day days 86400,周 星期 week weeks 604800",
    "months": "个月 month months 1,年 year years 12",
    "temperature": "℃ 1",
    "fahrenheit": "℉ 1",
    "money": "分钱 1/100,角 毛 1/10,元 块 块钱 圆 人民币 1",
    "dollar": "cents 1/100,dollars dollar 美元 1",
    "euro": "euros euro 欧元 1",
    "sterling": "英镑 1",
    "speed": "km/h 千米/时 千米/小时 5/18,m/s 米/秒 1",
    "": "个 只 本 人 名 次 件 张 条 支 枝 棵 块儿 岁 页 颗 辆 台 位 座 间 组 队 套 双 种 倍 袋 箱 盒 包 瓶 杯 根 朵"
    " 头 匹 units unit square 1",
}.items():
    for _entry in _members.split(","):
        *_names, _factor = _entry.split()
        _UNITS |= {name: (_dimension, Fraction(_factor)) for name in _names}
_NUMERALS = "零〇一二两三四五六七八九十百千万亿壹贰叁肆伍陆柒捌玖拾佰仟"
_NUMBER_TEXT = rf"\d+(?:,\d{{3}})*(?:\.\d+)?|[{_NUMERALS}]+(?:点[{_NUMERALS}]+)?"
_NAMES = "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True) if _UNITS[name][0])
# Units that have a short name beside larger ones of their kind: 3小时30分, 3元5角2分.
_SHORT_UNITS = {("time", "分"): Fraction(60), ("money", "分"): Fraction(1, 100)}
_PART = later_pattern(
    rf"(?:\s*(?:,|\band\b|又|零(?=\d))?\s*)(?P<number>{_NUMBER_TEXT})\s*(?P<unit>{_NAMES}|分)(?![A-Za-z^])\s*"
)
_HALVES = later_pattern(
    rf"(?:(?P<whole>{_NUMBER_TEXT})个半\s*(?P<unit>{_NAMES}|钟)?|半个?(?P<of>{_NAMES})|(?P<number>{_NUMBER_TEXT})\s*(?P<last>{_NAMES})半)"
)
_ARC = later_pattern(
    r"(-?)(\d+)\s*(?:°|度|\^\s*\{?\s*\\circ\s*\}?)\s*(\d+(?:\.\d+)?)\s*(?:'|′|’|分|\^\s*\{?\s*\\prime\s*\}?)"
    r"(?:\s*(\d+(?:\.\d+)?)\s*(?:''|″|”|\"|′′|秒|\^\s*\{?\s*\\prime\s*\\prime\s*\}?))?"
)
_TEMPERATURE = later_pattern(
    rf"(-|−|零下|负)?\s*({_NUMBER_TEXT})\s*"
    r"(℃|℉|摄氏度|华氏度|(?:°|\^\s*\{?\s*\\circ\s*\}?)\s*[CF]|degrees? (?:Celsius|Fahrenheit))"
)
_WORDS_IN_COMMAND = later_pattern(r"\\(?:text|mbox|textrm|mathrm|rm)\s*\{([^{}]*)\}")
_CURRENCIES = {"$": "dollars", "¥": "元", "￥": "元", "€": "euros", "£": "英镑"}
_CURRENCY = later_pattern(r"^\s*(?:US)?\\?(?P<sign>[$¥￥€£])\s*(?=[\d.])")
_ANGLE = later_pattern(r"^\s*<([^<>=]+,[^<>=]+)>\s*$|⟨([^⟨⟩]+)⟩")
_PIECES = later_pattern(r"(\\begin\s*\{cases\})(.*?)(\\end\s*\{cases\})", re.DOTALL)
_OTHERWISE = later_pattern(
    r"(?:\\(?:text|mbox|textrm|mathrm)\s*\{\s*(?:otherwise|else|其他|其它|否则)\s*[.。]?\s*\}|\botherwise\b|\belse\b|其他|其它|否则)"
)
_CONDITION_WORDS = later_pattern(
    r"([&,\s])\s*(?:\\(?:text|mbox|textrm|mathrm)\s*\{\s*,?\s*(?:if|when|for|当|若|如果|时)\s*\}|(?:if|when|for)\b|当|若|如果|时)"
)
_UNIT_END = later_pattern(
    rf"(?<=[\d)}}\]{_NUMERALS}])"
    r"(?P<unit>\s*(?:"
    + "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True) if len(name) > 1 or not name.isascii())
    # A letter may be a variable (2t); as a unit it stands apart (2 t).
    + r")|\s+[mgtshL])\s*$"
)


def prepare(text: str) -> tuple[str, str | None]:
    """Return (expression, unit): the last box if there is one, without decoration, and a known unit at its end."""
    text = _formula((boxed(text) or [text])[-1])
    if (amount := _amount(text)) is not None:
        return amount
    currency = _CURRENCY.match(text) if text.count("$") < 2 else None
    if currency:
        text = text[currency.end() :]
    text = (
        _PIECES.sub(_plain_pieces, _ANGLE.sub(lambda match: f"({match[1] or match[2]})", text))
        .replace(r"\langle", "(")
        .replace(r"\rangle", ")")
    )
    text = text.translate(_WIDTH).translate(_SIGNS)
    text = _RECURRING.sub(_recurring, _REALS.sub(r"(-\\infty,\\infty)", text))
    text = _DEGREES.sub(r"^\\circ", _DROPPED.sub(" ", text))
    text, unit = _text_unit(_WRAPPED.sub(r"\1", text))
    text = (
        re.sub(r"(?<=\d)\{,\}(?=\d)", ",", text)
        .replace(r"\%", "%")
        .replace(r"\{", r"\lbrace ")
        .replace(r"\}", r"\rbrace ")
    )
    text = re.sub(r"(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])|或者?|以及|和", " , ", text)
    text = _WORDS_BEFORE.sub("", text) if not _SAYS_NOT.search(text) else text
    text = re.sub(r"(?<=\d) +(?=\d{3}(?:\D|$))(?!\d{3}\s*/)", "", text).strip().rstrip(".,;:").strip()
    # The argument belongs to the name: f(x)=x^2 is f_{x}=x^2, and f(1)=2 is not f(2)=2.
    text = re.sub(r"^([fghFGHP])\s*\(([A-Za-z]|-?\d{1,3})\)\s*=(?!.*=)", r"\1_{\2}=", text)
    if unit is None:
        match = _UNIT_END.search(text)
        if match:
            text, unit = text[: match.start()].rstrip(), match["unit"].strip()
    return text.strip(), unit or (_CURRENCIES[currency["sign"]] if currency else None)


def _amount(text: str) -> tuple[str, str | None] | None:
    """An amount in several units, in halves, in degrees and minutes, or below zero: (number, unit); None for others.

    3小时30分钟 is 7/2 小时, 两个半小时 is 5/2 小时, 30^\\circ 30' is 61/2 degrees.
    """
    plain = _WORDS_IN_COMMAND.sub(r" \1 ", text).translate(_WIDTH)
    plain = re.sub(r"\\[,;:! ]|~|(?<!\\)\$|[.。]\s*$", " ", plain).strip()
    plain = _WORDS_BEFORE.sub("", plain) if not _SAYS_NOT.search(plain) else plain
    if match := _ARC.fullmatch(plain):
        degrees = _value(match[2]) + _value(match[3]) / 60 + _value(match[4] or "0") / 3600
        return f"({match[1]}{degrees})^\\circ", None
    if match := _TEMPERATURE.fullmatch(plain):
        sign = "-" if match[1] else ""
        return f"{sign}{_value(match[2])}", "℉" if match[3] in ("℉", "华氏度") or match[3].endswith("F") else "℃"
    if (match := _HALVES.fullmatch(plain)) and (unit := match["unit"] or match["of"] or "个") in _UNITS:
        return str(_value(match["whole"] or match["number"] or "0") + Fraction(1, 2)), unit
    parts = list(_PART.finditer(plain))
    if len(parts) < 2 or "".join(part.group() for part in parts) != plain:
        return None
    first = parts[0]["unit"]
    dimension, factor = _UNITS.get(first, ("", Fraction(1)))
    total = Fraction(0)
    smallest = None
    for part in parts:
        own = _SHORT_UNITS.get((dimension, part["unit"])) or _UNITS.get(part["unit"], ("", None))[1]
        known = (dimension, part["unit"]) in _SHORT_UNITS or _UNITS.get(part["unit"], ("", None))[0] == dimension
        if not dimension or not known or own is None or (smallest is not None and own >= smallest):
            return None
        total += _value(part["number"]) * own
        smallest = own
    return str(total / factor), first


def _value(number: str) -> Fraction:
    value = rational(number)
    value = value if value is not None else chinese_value(number)
    return value if value is not None else Fraction(0)


def _plain_pieces(match: re.Match[str]) -> str:
    """A piecewise function with its conditions bare: without if, when and 当, and with one word for all other cases."""
    body = _OTHERWISE.sub(r" \\otherwise ", match[2])
    body = re.sub(r"[,.;，。；]\s*(?=\\\\|$)", " ", body.rstrip())
    return match[1] + _CONDITION_WORDS.sub(r"\1 ", body) + match[3]


def _formula(text: str) -> str:
    """The formula of a text that is one formula and words, with what stands behind it; else the text."""
    formulas = list(_FORMULA.finditer(text))
    if len(formulas) != 1:
        return text
    inside = next(part for part in formulas[0].groups() if part)
    before, after = text[: formulas[0].start()], text[formulas[0].end() :]
    if not _WORDS_ALONE.fullmatch(before) or _SAYS_NOT.search(before) or not _WORDS_ALONE.fullmatch(after):
        return text
    unit = after.strip(" 。.,，;；")
    return f"{inside} {unit}" if unit in _UNITS else inside


def _recurring(match: re.Match[str]) -> str:
    """0.1\\overline{6} as (15/90): all digits less those in front of the period, over nines and noughts."""
    period = match[3] or (match[4] + (match[5] or "") + (match[6] or ""))
    whole, fixed = match[1] or "0", match[2]
    above = int(whole + fixed + period) - int(whole + fixed)
    return f"({above}/{'9' * len(period)}{'0' * len(fixed)})"


def _text_unit(text: str) -> tuple[str, str | None]:
    """Take `\\text{ cm}^2` off the end, and turn other `\\text{}` into its words."""
    match = re.search(r"\\(?:text|mbox|textrm)\s*\{([^{}]*)\}\s*(\^\s*\{?\s*([23])\s*\}?)?\s*\.?\s*$", text)
    if match and match.start():
        name = match[1].strip() + (f"^{match[3]}" if match[3] else "")
        if name in _UNITS or not re.search(r"[\d=]", name):
            return text[: match.start()], name if name in _UNITS else None
    return _TEXT.sub(r" \1 ", text), None


def unit_ratio(first: str | None, second: str | None) -> Fraction | None:
    """What an amount in the first unit is multiplied by to be in the second; None where they cannot be compared.

    A missing unit, and a counter (个, 本), fits every other.
    """
    if first is None or second is None:
        return Fraction(1)
    (dimension, factor), (other_dimension, other_factor) = _UNITS[first], _UNITS[second]
    if not dimension or not other_dimension:
        return Fraction(1)
    return factor / other_factor if dimension == other_dimension else None


def rational(text: str) -> Fraction | None:
    """The value of a plain number: `-1,234.50`, `3/4`, `\\frac{3}{4}`, `1e5`, `15%`; None for anything else."""
    if re.search(r"\d\s+\d", text):
        return None  # a mixed number, or two numbers
    compact = re.sub(r"\s+", "", text)
    compact = re.sub(r"^([+-]?)\\[dt]?frac\{(-?\d+)\}\{(\d+)\}$", r"\1\2/\3", compact)
    if len(compact) > 1000:
        return None
    if re.fullmatch(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?%?", compact):
        compact = compact.replace(",", "")
    if re.fullmatch(r"[+-]?\d+/\d+", compact):
        above, below = compact.split("/")
        return Fraction(int(above), int(below)) if int(below) else None
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,3}))?(%?)", compact)
    if match is None:
        return None
    value = Fraction(match[1]) * Fraction(10) ** int(match[2] or 0)
    return value / 100 if match[3] else value
