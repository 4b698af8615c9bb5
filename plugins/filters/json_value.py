"""A filter for replies that hold JSON, as many prompts ask for: `{"answer": "B"}`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from harness import Filter, Sample, hookimpl
from harness.scoring import strip_reasoning

_DECODER = json.JSONDecoder()
# What can begin an object or a list.
_OPENING = re.compile(r"\{\s*+[\"}]|\[\s*+[\[\]{\"\-0-9tfnNI]")
_DEEPEST = 1000  # brackets inside each other, about
_MOST_IN_VAIN = 1_000_000


class JsonValue(Filter):
    """What stands under `key` in a reply's JSON, as a text; None where there is none. Reasoning is left out.

    key: one key, or several, whose values are joined by `separator`. Without one, the JSON itself is the answer, of
    which the last object or list in the reply counts: what stands before it may be the form that was asked for.
    """

    name = "json_value"

    def __init__(self, key: str | Sequence[str] | None = None, separator: str = " ") -> None:
        self._keys = [key] if isinstance(key, str) else list(key or ())
        self._separator = separator

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._read(strip_reasoning(reply)[0]) for reply in replies]

    def _read(self, reply: str) -> str | None:
        for value in reversed(list(_values(reply))):
            if not self._keys:
                return _as_json(value)
            if isinstance(value, dict) and all(key in value for key in self._keys):
                found = [value[key] for key in self._keys]
                texts = [item.strip() if isinstance(item, str) else _as_json(item) for item in found]
                return None if None in texts else self._separator.join(map(str, texts)) or None
        return None


def _as_json(value: Any) -> str | None:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:  # as deep as can just be read, and no deeper can be written
        return None


def _values(text: str) -> Iterator[Any]:
    """Every object and list of a text, one after another.

    Of brackets that open by the thousand and never close, each is read to the end of the text or as deep as Python
    reads: once `_MOST_IN_VAIN` characters were read for nothing, what fails is passed over as far as it was read.
    """
    position = in_vain = 0
    while found := _OPENING.search(text, position):
        start = found.start()
        if start > _DEEPEST:  # an error counts the lines of all the text before it
            text, start = text[start:], 0
        try:
            value, position = _DECODER.raw_decode(text, start)
            yield value
        except (ValueError, RecursionError) as error:  # a plain ValueError is a number of thousands of digits
            read = error.pos - start if isinstance(error, json.JSONDecodeError) else _DEEPEST
            in_vain += read
            position = start + (max(read, 1) if in_vain > _MOST_IN_VAIN else 1)


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [JsonValue]
