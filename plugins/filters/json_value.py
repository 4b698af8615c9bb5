"""A filter for replies that hold JSON, as many prompts ask for: `{"answer": "B"}`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from harness import Filter, Sample, hookimpl
from harness.scoring import strip_reasoning

_DECODER = json.JSONDecoder()


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
                return json.dumps(value, ensure_ascii=False)
            if isinstance(value, dict) and all(key in value for key in self._keys):
                found = [value[key] for key in self._keys]
                texts = [
                    item.strip() if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in found
                ]
                return self._separator.join(texts) or None
        return None


def _values(text: str) -> Iterator[Any]:
    """Every object and list of a text, one after another."""
    position = 0
    while (starts := [place for mark in "{[" if (place := text.find(mark, position)) >= 0]) and starts:
        try:
            value, position = _DECODER.raw_decode(text, min(starts))
            yield value
        except (json.JSONDecodeError, RecursionError):
            position = min(starts) + 1


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [JsonValue]
