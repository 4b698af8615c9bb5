"""What a reader sees of a reply: one width of characters, no Markdown, no LaTeX commands; and what it sets apart."""

from __future__ import annotations

import re

from harness.later_patterns import later_pattern

# Full-width ASCII and the wide space; signs that look like a hyphen.
_WIDTH: dict[int, int | str] = {0xFF01 + i: 0x21 + i for i in range(94)}
_WIDTH |= {0x3000: 0x20}
_MINUS: dict[int, int | str] = {ord("−"): "-", ord("–"): "-"}
# Ⓐ 🄐 🅐 🅰, ⓐ, ⒜
_ENCLOSED: dict[int, int | str] = {
    start + i: 0x41 + i for start in (0x24B6, 0x1F130, 0x1F150, 0x1F170) for i in range(26)
}
_ENCLOSED |= {0x24D0 + i: 0x61 + i for i in range(26)}
_ENCLOSED |= {0x249C + i: f"({chr(0x61 + i)})" for i in range(26)}
# Ticks and crosses as one sign each; other pictures say nothing.
_PICTURES: dict[int, int | str] = dict.fromkeys([*range(0x2600, 0x27C0), *range(0x1F300, 0x1FB00), 0xFE0F], "")
_PICTURES |= dict.fromkeys(map(ord, "✅✓✔☑👍"), "√") | dict.fromkeys(map(ord, "❌✗✘✖❎☒👎"), "×")
# The traditional characters of the words by which replies state, deny and count.
_TRADITIONAL = str.maketrans(
    "選擇項錯誤對應該當認為覺確無誰說這則個僅剩餘難種條顯斷總論結綜從據實猜測歸傾終標準參適題別還會與於經觀點詞語組級類線國隊"
    "層棟單併學過際後繼讓麼嗎問時間數歷環見圖張萬億兩負號歲頁雙輛臺塊條隻舉證導讀寫擬釋現滿貼優圍義樣",
    "选择项错误对应该当认为觉确无谁说这则个仅剩余难种条显断总论结综从据实猜测归倾终标准参适题别还会与于经观点词语组级类线国队"
    "层栋单并学过际后继让么吗问时间数历环见图张万亿两负号岁页双辆台块条只举证导读写拟释现满贴优围义样",
)
_BRACKETS: dict[int, int | str] = {ord("〔"): "[", ord("〕"): "]", ord("〖"): "【", ord("〗"): "】"}
_LETTERS = _WIDTH | _TRADITIONAL | _BRACKETS | _ENCLOSED | _PICTURES
_FRACTIONS: dict[int, int | str] = {
    ord(sign): f" {above}/{below}" for sign, above, below in ("½12", "¼14", "¾34", "⅓13", "⅔23", "⅛18")
}
_NUMBERS = _WIDTH | _TRADITIONAL | _MINUS | _FRACTIONS
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")

_MARKUP = later_pattern(
    r"\*+|`+|\$+|__|\\[()\[\]]|\\(?:text|textbf|textrm|mathrm|mathbf|mathsf|bf|rm|operatorname)\s*(?=\{)"
    r"|</?(?:b|strong|em|i|u|p|br|span|font|div|mark|code)\b[^<>]*>"
)
_ANSWER_TAG = later_pattern(
    r"<((?:final[ _-]?)?answer|final|ans|choice|答案)>((?:(?!<\1>).)*?)</\1>", re.DOTALL | re.IGNORECASE
)
# What a model itself has struck out.
_STRUCK = later_pattern(r"~~[^~\n]{1,200}~~|<(del|s|strike)>[^<>\n]{1,200}</\1>")
_TEXT_COMMAND = later_pattern(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathsf)\s*\{([^{}]*)\}")
# Marks with which a model ends its turn, and that a server did not take off. What follows them is not its answer.
_END_OF_TURN = later_pattern(
    r"<\|(?:endoftext|end_of_text|im_end|eot_id|eom_id|end|user|observation)\|>|<(?:/s|eos|end_of_turn)>|<｜end▁of▁sentence｜>"
)
_TERMINAL = later_pattern(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_BOX_TOKENS = later_pattern(r"<\|begin_of_box\|>((?:(?!<\|begin_of_box\|>).)*?)<\|end_of_box\|>", re.DOTALL)
_FORMAL = str.maketrans("壹贰貳叁參肆伍陆陸柒捌玖拾佰仟萬億兩", "一二二三三四五六六七八九十百千万亿两")
_FORMAL_NUMERAL = later_pattern(r"[零壹贰貳叁參肆伍陆陸柒捌玖拾佰仟万萬亿億]{2,40}(?=[元圆圓整]|\W|$)")
# option (b): no word can be meant
_OPTION_IN_BRACKETS = later_pattern(r"\b((?i:option|choice)\s?\()([a-z])(?=\))")
_REPEATED_SPACE = later_pattern(r"(\s)\1{2,}")


def own_turn(text: str) -> str:
    """The text up to the mark that ends the model's turn; all of it where there is none, or nothing before it."""
    text = without_terminal_commands(text)
    if "<" not in text:
        return text
    head, *_ = _END_OF_TURN.split(text, maxsplit=1)
    return head if head.strip() else _END_OF_TURN.sub("", text)


def without_terminal_commands(text: str) -> str:
    """The text without what colours a terminal or names its window: the numbers in it are nobody's answer."""
    return _TERMINAL.sub("", text) if "\x1b" in text else text


def plain_text(text: str) -> str:
    """The text for reading letters: full-width and enclosed letters as ASCII, simplified characters, no markup."""
    if "~~" in text or "</" in text:
        text = _STRUCK.sub("", text)
    if "\\" in text:
        text = _TEXT_COMMAND.sub(r"\1", text)
    text = _MARKUP.sub("", _REPEATED_SPACE.sub(r"\1\1", text.translate(_LETTERS)))
    # The names of JSON keys: final_answer, selected_option.
    text = re.sub(r"(?<=[A-Za-z]{2})_(?=[A-Za-z]{2})", " ", text) if "_" in text else text
    if "(" in text:
        text = _OPTION_IN_BRACKETS.sub(lambda match: match[1] + match[2].upper(), text)
    return re.sub(r"\{\s*(\(?[A-Za-z]\)?)\s*\}", r"\1", text)


def plain_numbers(text: str) -> str:
    """The text for reading numbers: full-width digits as ASCII, one minus sign, no `\\,` and `{,}` within numbers."""
    if "~~" in text or "</" in text:
        text = _STRUCK.sub("", text)
    text = _FORMAL_NUMERAL.sub(lambda match: match.group().translate(_FORMAL), text)
    text = _REPEATED_SPACE.sub(r"\1\1", text.translate(_NUMBERS))
    text = re.sub(r"(?<![\w\\])_([^_\n]{1,80})_(?!\w)", r"\1", text)
    text = re.sub(r"\b[A-Z]{1,3}\\?\$(?=\d)", " ", text)  # US$5
    text = re.sub(r"\\(?:text|mathrm|mathbf)\{\s*(\\?[$-]?\d[^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\[,!;: ]|\*\*|\\?\$|`|\\(?:text|mathrm|mathbf)\{[^{}]*\}", "", text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d)", ",", text)
    text = re.sub(r"(?<=\d)['’](?=\d{3}(?!\d))", ",", text)
    # 1 250 000, and 12 500 with a space that does not break.
    spaced = r"(?<![\d.,])\d{1,3}(?:(?: \d{3}){2,}|(?:[\u00a0\u2009\u202f]\d{3})+)(?!\d)"
    text = re.sub(spaced, lambda match: re.sub(r"\s", ",", match.group()), text)
    return re.sub(r"(?<=10)[⁻⁺]?[⁰¹²³⁴-⁹]+", lambda match: "^" + match.group().translate(_SUPERSCRIPTS), text)


def boxed(text: str) -> list[str]:
    """The contents of all `\\boxed{}` and `\\fbox{}`, braces balanced, in the order of their ends; not of cut ones."""
    contents: list[str] = []
    opened: list[tuple[int, bool]] = []
    for match in re.finditer(r"\\(?:boxed|fbox)\s*\{|[{}]", text):
        if match.group() != "}":
            opened.append((match.end(), len(match.group()) > 1))
        elif opened:
            start, is_box = opened.pop()
            contents += [text[start : match.start()]] if is_box else []
    return contents


def answer_tags(text: str) -> list[str]:
    """The contents of all `<answer>...</answer>`, `<final_answer>`, `<答案>` and their like."""
    if "<" not in text:
        return []
    return [match[2] for match in _ANSWER_TAG.finditer(text)] + _BOX_TOKENS.findall(text)
