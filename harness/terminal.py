"""What a terminal may be given: texts of tasks, models and servers, with nothing in them that it would obey.

    visible("\\x1b]0;title\\x07done")        # '\\\\x1b]0;title\\\\x07done'

A title, a row or an error of a server may hold escape sequences that rename the window, clear it, or pass a link off as
something else, and marks that turn the order of letters round (Unicode TR 36, "Trojan Source"). They are written out.
"""

from __future__ import annotations

import re

# C0 without tab and line feed, DEL, C1, the line and paragraph separators, what overrides the direction of text, and
# halves of surrogate pairs, which no encoding takes.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with control characters written as escapes: a terminal shows them, and does not obey."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def visible_line(text: str) -> str:
    """The same on one line."""
    return visible(" ".join(text.split()))
