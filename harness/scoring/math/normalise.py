"""Prepares mathematical text for the parser: one alphabet, no decoration, the unit apart. No sympy here."""

from __future__ import annotations

import re
from fractions import Fraction

from harness.later_patterns import later_pattern
from harness.scoring.extraction.markup import boxed
from harness.scoring.extraction.numerals import chinese_value
from harness.scoring.math.notation import one_notation

LONGEST = 2000  # characters; what is longer is no final answer
_LONGEST_AMOUNT = 100
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
_NUMBERS_IN_BRACKETS = later_pattern(
    r"([(\[]|\\lbrace)(\s*-?\d{1,15}(?:\.\d{1,15})?(?:,\s*-?\d{1,15}(?:\.\d{1,15})?){1,30}\s*)([)\]]|\\rbrace)"
)
_REALS = later_pattern(r"\\math(?:bb|bf)\s*\{?\s*R\s*\}?|\\R(?![A-Za-z])|ℝ")
# 0.1\overline{6}, 0.\dot{3}, 0.\dot{1}4\dot{2}
_RECURRING = later_pattern(
    r"(?<![\d.])(\d*)\.(\d*)(?:\\overline\s*\{\s*(\d+)\s*\}|\\dot\s*\{?\s*(\d)\s*\}?(?:(\d*)\\dot\s*\{?\s*(\d)\s*\}?)?)"
)
_DEGREES = later_pattern(r"(?<=[\d)}])\s*(?:degrees?\b|度(?!\w))")
_WRAPPED = later_pattern(
    r"\\(?:mathrm|mathbf|mathit|mathsf|mathcal|boldsymbol|operatorname|rm|bf|underline)\s*\{([^{}]*)\}"
)
_TEXT = later_pattern(r"\\(?:text|mbox|textrm|textbf|textit)\s*\{([^{}]*)\}")

# Unit: (dimension, how many of the dimension's base unit). Counters have no dimension: 3 个 is 3.
_UNITS: dict[str, tuple[str, Fraction]] = {}
for _dimension, _members in {
    "length": "mm 毫米 millimeter millimetre 1/1000,cm 厘米 centimeter centimetre 1/100,"
    "dm 分米 1/10,m 米 meter metre 1,"
    "km 千米 公里 kilometer kilometre 1000,"
    "in inch inches 寸 0.0254,ft foot feet 0.3048,yard 0.9144,mi mile 1609.344,"
    "nm 1/1000000000",
    "area": "mm^2 平方毫米 1/1000000,cm^2 平方厘米 1/10000,dm^2 平方分米 1/100,m^2 平方米 1,"
    "km^2 平方千米 平方公里 1000000,"
    "公顷 hectare 10000,亩 2000/3,ft^2 0.09290304,in^2 0.00064516",
    "volume": "mm^3 立方毫米 1/1000000000,cm^3 立方厘米 毫升 ml mL milliliter 1/1000000,"
    "dm^3 立方分米 升 L liter litre 1/1000,m^3 立方米 1",
    "mass": "mg 毫克 milligram 1/1000000,g 克 gram 1/1000,kg 千克 公斤 kilogram 1,t 吨 ton tonne 1000,斤 1/2,"
    "lb lbs pound 0.45359237,ounce oz 0.028349523125",
    "time": "ms 毫秒 millisecond 1/1000,s 秒 秒钟 second sec 1,min mins 分钟 minute 60,刻钟 900,"
    "h hr hrs 小时 钟头 hour 3600,天 日 day 86400,周 星期 week 604800",
    "months": "个月 month 1,年 year 12",
    "temperature": "℃ 1",
    "fahrenheit": "℉ 1",
    "kelvin": "K kelvin 开尔文 开 1",
    "money": "分钱 1/100,角 毛 1/10,元 块 块钱 圆 人民币 RMB yuan 1",
    "dollar": "cents cent 1/100,dollars dollar 美元 USD 1",
    "euro": "euros euro 欧元 1",
    "sterling": "英镑 1",
    "speed": "km/h 千米/时 千米/小时 公里/小时 kph 5/18,m/s 米/秒 1,mph 0.44704,cm/s 1/100",
    "acceleration": "m/s^2 米/秒^2 1",
    "force": "N 牛 牛顿 newton 1,kN 千牛 1000",
    "energy": "J 焦 焦耳 joule 1,kJ 千焦 1000,cal 4.184,kcal 4184,eV 0.0000000000000000001602176634",
    "power": "W 瓦 瓦特 watt 1,kW 千瓦 1000",
    "voltage": "V 伏 伏特 volt 1,kV 1000,mV 1/1000",
    "current": "A 安 安培 ampere amp 1,mA 毫安 1/1000",
    "resistance": "Ω \\Omega 欧 欧姆 ohm 1,kΩ 1000",
    "frequency": "Hz 赫兹 hertz 1,kHz 1000,MHz 1000000",
    "pressure": "Pa 帕 帕斯卡 1,kPa 千帕 1000,MPa 兆帕 1000000,atm 101325",
    "amount": "mol 摩尔 mole 1",
    "concentration": "mol/L M 摩尔/升 1",
    "molar mass": "g/mol 克/摩尔 1",
    "density": "kg/m^3 千克/立方米 1,g/cm^3 克/立方厘米 1000",
    "charge": "C 库仑 库 coulomb 1",
    "flux": "T 特斯拉 tesla 1",
    "": "个 只 本 人 名 次 件 张 条 支 枝 棵 块儿 岁 页 颗 辆 台 位 座 间 组 队 套 双 种 倍 袋 箱 盒 包 瓶 杯 根 朵"
    " 头 匹 分 unit square rad radian 弧度 1",
}.items():
    for _entry in _members.split(","):
        *_names, _factor = _entry.split()
        _value_of_unit = Fraction(_factor)
        for _name in _names:
            _UNITS[_name] = (_dimension, _value_of_unit)
            if _name.isascii() and _name.isalpha() and len(_name) > 3:
                _UNITS.setdefault(f"{_name}s", (_dimension, _value_of_unit))
# Squares and cubes in words: square centimeters, sq cm, cubic feet.
for _name, (_dimension, _factor_of_unit) in list(_UNITS.items()):
    if _dimension == "length" and _name.isascii():
        _UNITS |= {word + _name: ("area", _factor_of_unit**2) for word in ("square ", "sq ", "sq. ")}
        _UNITS |= {word + _name: ("volume", _factor_of_unit**3) for word in ("cubic ", "cu ", "cu. ")}
# Short names that may also be a product of two letters: as a unit they stand apart (3 ms), as single letters do (2 t).
_APART = {*"mgtshLNJWVAKCTM", "ms", "nm", "mi", "in", "ft", "lb", "oz", "mV", "mA", "kN", "kJ", "kW", "kV", "eV"}
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
_CURRENCIES = {"$": "dollars", "¥": "元", "￥": "元", "€": "euros", "£": "英镑", "RMB": "元", "USD": "dollars"}
_CURRENCY = later_pattern(r"^\s*(?:(?:US)?\\?(?P<sign>[$¥￥€£])|(?P<code>RMB|USD))\s*(?=[\d.])")
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
    + "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True) if name not in _APART)
    + rf")|\s+(?:{'|'.join(sorted(_APART))}))\s*$"
)
# What is counted, behind its counter: 12名学生.
_COUNTERS = "|".join(name for name in _UNITS if not _UNITS[name][0] and not name.isascii() and name != "分")
_COUNTED = later_pattern(
    rf"(?P<number>[-+]?\d[\d,]*(?:\.\d+)?|[{_NUMERALS}]{{1,20}})\s*(?:{_COUNTERS})(?P<what>[\u4e00-\u9fff]{{1,6}})"
)
_MORE_OR_LESS = later_pattern(r"[以至到或不非没未半多余之]")


def prepare(text: str) -> tuple[str, str | None]:
    """Return (expression, unit): the last box if there is one, without decoration, and a known unit at its end."""
    while boxes := boxed(text):
        text = boxes[-1]
    if len(text) > LONGEST:
        return text, None
    text = one_notation(_formula(text))
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
    for _ in range(2):  # m^{2} within \\mathrm{} and alone
        text = _WRAPPED.sub(r"\1", re.sub(r"(?<=[A-Za-z])\s*\^\s*\{([23])\}\s*(?=\}|$)", r"^\1", text))
    text, unit = _text_unit(text)
    text = (
        re.sub(r"(?<=\d)\{,\}(?=\d)", ",", text)
        .replace(r"\%", "%")
        .replace(r"\{", r"\lbrace ")
        .replace(r"\}", r"\rbrace ")
    )
    text = re.sub(r"(?<![A-Za-z\\])or(?![A-Za-z])|或者?", r" \\lor ", text)
    text = re.sub(r"(?<![A-Za-z\\])and(?![A-Za-z])|以及|和|且", " , ", text)
    text = _WORDS_BEFORE.sub("", text) if not _SAYS_NOT.search(text) else text
    text = re.sub(r"(?<=\d) +(?=\d{3}(?:\D|$))(?!\d{3}\s*/)", "", text).strip().rstrip(".,;:").strip()
    text = _NUMBERS_IN_BRACKETS.sub(_apart, text)
    # The argument belongs to the name: f(x)=x^2 is f_{x}=x^2, and f(1)=2 is not f(2)=2.
    text = re.sub(r"^([fghFGHP])('{0,3})\s*\(([A-Za-z]|-?\d{1,3})\)\s*=(?!.*=)", r"\1_{\3}\2=", text)
    if unit is None:
        match = _UNIT_END.search(text)
        if match:
            text, unit = text[: match.start()].rstrip(), match["unit"].strip()
        elif (counted := _COUNTED.fullmatch(text)) and not _MORE_OR_LESS.search(counted["what"]):
            text = counted["number"]
    return text.strip(), unit or (_CURRENCIES[currency["sign"] or currency["code"]] if currency else None)


def _apart(match: re.Match[str]) -> str:
    """(2,101) as (2, 101): a comma in a point, an interval or a set stands between numbers, and not within one.

    It is within one where others have a blank behind them, {1,234, 5,678}, and where the number would begin with 0.
    """
    body = match[2]
    grouped = re.search(r",\s*0\d", body) or (re.search(r",\s", body) and re.search(r",\S", body))
    return match.group() if grouped else match[1] + body.replace(",", ", ") + match[3]


def _amount(text: str) -> tuple[str, str | None] | None:
    """An amount in several units, in halves, in degrees and minutes, or below zero: (number, unit); None for others.

    3小时30分钟 is 7/2 小时, 两个半小时 is 5/2 小时, 30^\\circ 30' is 61/2 degrees.
    """
    plain = _WORDS_IN_COMMAND.sub(r" \1 ", text).translate(_WIDTH)
    plain = re.sub(r"\\[,;:! ]|~|(?<!\\)\$|[.。]\s*$", " ", plain).strip()
    if len(plain) > _LONGEST_AMOUNT:
        return None
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
    if match and re.search(r"[^\s=:]\s*$", text[: match.start()]):
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
