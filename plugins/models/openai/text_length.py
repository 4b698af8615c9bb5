"""About how many tokens a text is, where the tokenizer of a served model is not here."""

from __future__ import annotations

import re
from collections.abc import Callable

_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_WIDE_TOKENS, _OTHER_TOKENS = 0.7, 0.25
"""Tokens a character of Chinese, Japanese and Korean, and of other scripts, with vocabularies of about 150,000."""


def prompt_tokens(text: str, count: Callable[[str], int | None]) -> int:
    """Tokens of a text by `count`, or estimated from its characters where that does not know."""
    known = count(text)
    if known is not None:
        return known
    wide = len(_WIDE.findall(text))
    return round(_WIDE_TOKENS * wide + _OTHER_TOKENS * (len(text) - wide))
