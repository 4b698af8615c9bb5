"""How VLMEvalKit reads the option of a reply before it asks a judge (`vlmeval/utils/matching_util.py`, 2025-08).

False means that its judge would be asked, "Z" that the model refused. For comparison with its published numbers.
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
_LAST = 5  # tokens at the end among which a lone letter must stand


def vlmevalkit_option(reply: str, options: Mapping[str, str]) -> str | Literal[False]:
    """The letter of the option, "Z", or False. `options` is letter -> text."""
    if any(refusal in reply for refusal in _REFUSALS):
        return "Z"
    text = re.sub(r"[.()\[\],:;!*#{}]", " ", reply)
    tokens = text.split()
    present = [letter for letter in options if letter in tokens]
    if len(present) == 1 and present[0] in tokens[-_LAST:]:
        return present[0]
    stated = re.search(r"answer is\s+([A-Z])\b", text)
    if stated and stated[1] in options:
        return stated[1]
    return _by_text(reply, options)


def _by_text(reply: str, options: Mapping[str, str]) -> str | Literal[False]:
    lower = reply.lower()
    if len(lower) > 2 * sum(map(len, options.values())):
        return False
    found = [letter for letter, text in options.items() if text.lower() in lower]
    return found[0] if len(found) == 1 else False
