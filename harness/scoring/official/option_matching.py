"""How VLMEvalKit reads the option of a reply before it asks a judge: `can_infer` of open-compass/VLMEvalKit,
`vlmeval/utils/matching_util.py` at 2cf2a36 (2026-06-25). The search for `answer is` was added on 2026-06-17 (a67ace5).

False means that its judge would be asked, "Z" that the model refused or named no option. For comparison with its
published numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_NO_ANSWER = "Failed to obtain answer via API"
_LAST = 5  # a lone letter must first occur behind the fifth token from the end
# As there: no word ends behind the letter, so that "answer is because" says B.
_STATED = re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")


def vlmevalkit_option(reply: str, options: Mapping[str, str]) -> str | Literal[False]:
    """The letter of the option, "Z", or False. `options` is letter -> text."""
    if letter := _by_letter(reply, options):
        return letter
    lower = reply.lower()
    if len(lower) > 2 * sum(len(str(text)) for text in options.values()):
        return False
    named = [letter for letter, text in options.items() if str(text).lower() in lower]
    return named[0] if len(named) == 1 else False


def _by_letter(reply: str, options: Mapping[str, str]) -> str | Literal[False]:
    if _NO_ANSWER in reply:
        return False
    if any(refusal in reply for refusal in _REFUSALS):
        return "Z"
    tokens = re.sub(r"[.()\[\],:;!*#{}]", " ", reply).split()
    present = [letter for letter in options if letter in tokens]
    if len(present) == 1 and tokens.index(present[0]) > len(tokens) - _LAST:
        return present[0]
    if not present and "Z" in tokens:
        return "Z"
    stated = _STATED.search(reply)
    return stated[1].upper() if stated and stated[1].upper() in options else False
