"""Options in other words, that a model wrote once: a file of them, and when its words may stand for a row's own.

    kept = read_option_texts(Path("cmmlu.options.json"))
    kept.texts[options_key(question, options)]           # a text for each option, in the row's order

Rows are found by what they ask, so that the order of rows and the name of the task do not matter.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import UsageError
from harness.later_patterns import later_pattern
from harness.quick import dataclass

SUFFIX = ".options.json"
_FORMAT = "harness option texts 1"
_AMOUNT = later_pattern(r"\d+(?:[.,:/]\d+)*\s?(?:[%‰°℃Ω]|[A-Za-zμ]+|[\u4e00-\u9fff])?")
_FORMULA = later_pattern(r"\$[^$]*\$|\\\w+")
_WORDS = later_pattern(r"[^\W\d_]{2}|[\u4e00-\u9fff]")
_TALK = later_pattern(
    r"^\s*(?:sure|certainly|of course|here (?:is|are)|okay|好的|当然|以下是|改写)|"
    r"\b(?:option|choice|answer)\s+[A-J]\b|\b(?:correct|right|wrong|incorrect) (?:option|answer|choice)\b|"
    r"(?:正确|错误)(?:选项|答案)|选项\s*[A-J](?![A-Za-z])|```",
    re.IGNORECASE,
)
_LETTERED = later_pattern(r"^\s*[(（]?[A-J][)）.．、:：]\s*\S")
_MUCH, _MORE = 3, 40
"""Other words are not longer than three times the option's own and 40 characters more: else they explain."""


REFUSALS = (
    "another number of texts",
    "a text is empty",
    "a text holds half of a character",
    "a text has several lines",
    "two texts are the same",
    "a text is that of another option",
    "a text explains",
    "a text talks about options",
    "a text begins with a letter of its own",
    "numbers or units are others",
    "nothing is said in other words",
)
"""What `refusal` says, up to a colon."""


@dataclass(frozen=True, slots=True)
class OptionTexts:
    """texts: key of a row (`options_key`) -> its options in other words. refused: key -> why a row keeps its own.

    model, plugin, form: who wrote them, by which form. task: whose options they are, by its full name.
    """

    task: str
    model: str
    form: str
    day: str
    texts: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, str]
    plugin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A hash of the texts."""
        listed = sorted((key, list(texts)) for key, texts in self.texts.items())
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def options_key(question: str, options: Sequence[str]) -> str:
    """What names a row: a hash of its question and its options, in their order."""
    text = json.dumps([question, *options])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()


def says_words(options: Sequence[str]) -> bool:
    """Whether there is something to say in other words: not numbers, letters and formulas alone."""
    return any(_WORDS.search(_FORMULA.sub(" ", option)) for option in options)


def refusal(own: Sequence[str], new: Sequence[str]) -> str:
    """Why other words cannot stand for options; empty where they can."""
    if len(own) != len(new):
        return f"another number of texts: {len(new)} for {len(own)}"
    if any(not text.strip() for text in new):
        return "a text is empty"
    if any("\ud800" <= letter <= "\udfff" for letter in "".join(new)):
        return "a text holds half of a character"
    if any("\n" in text.strip() and "\n" not in option.strip() for option, text in zip(own, new, strict=True)):
        return "a text has several lines"
    if len(set(map(_plain, new))) < len(set(map(_plain, own))):
        return "two texts are the same"
    others = [{_plain(other) for other in own if _plain(other) != _plain(option)} for option in own]
    if any(_plain(text) in more for text, more in zip(new, others, strict=True)):
        return "a text is that of another option"
    for option, text in zip(own, new, strict=True):
        if len(text) > _MUCH * len(option) + _MORE:
            return "a text explains: it is much longer than its option"
        if _TALK.search(text) and not _TALK.search(option):
            return "a text talks about options"
        if _LETTERED.match(text) and not _LETTERED.match(option):
            return "a text begins with a letter of its own"
        if _amounts(option) != _amounts(text):
            return "numbers or units are others"
    if all(_plain(option) == _plain(text) for option, text in zip(own, new, strict=True)):
        return "nothing is said in other words"
    return ""


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in text if letter.isalnum() or letter in "+-<>=")


def _amounts(text: str) -> Counter[str]:
    """The numbers of a text, each with the unit or the character behind it."""
    found = _AMOUNT.findall(unicodedata.normalize("NFKC", text))
    return Counter(re.sub(r"[\s,]", "", amount).lower() for amount in found)


def write_option_texts(kept: OptionTexts, path: Path) -> None:
    """Raises `SaveError`."""
    fields = {name: getattr(kept, name) for name in ("task", "model", "plugin", "form", "day")}
    told = {"format": _FORMAT, **fields, "refused": dict(kept.refused), "texts": dict(kept.texts)}
    files.replace_json(path, told)


def read_option_texts(path: Path) -> OptionTexts:
    """Read a file of `harness paraphrase`. Raises `UsageError`."""
    try:
        value: Any = json.loads(files.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read: {cause}; `harness paraphrase` writes such files") from None
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        raise UsageError(f"{path}: no file of options in other words (`harness paraphrase` writes such files)")
    texts: Any = value.get("texts")
    refused: Any = value.get("refused")
    plain = isinstance(texts, dict) and all(
        isinstance(each, list) and all(isinstance(text, str) for text in each) for each in texts.values()
    )
    if not plain or not isinstance(refused, dict):
        raise UsageError(f"{path}: damaged: 'texts' should map each row to a list of texts, and 'refused' to a reason")
    return OptionTexts(
        **{name: str(value.get(name, "")) for name in ("task", "model", "form", "day")},
        texts={key: tuple(each) for key, each in texts.items()},
        refused={key: str(reason) for key, reason in refused.items()},
        plugin=value.get("plugin") or {},
    )
