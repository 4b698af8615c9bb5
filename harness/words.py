"""The words of pages, reports and of the guide in English and Chinese: they are written in English, and a table has the
other language.

    t = translator("zh")
    t("{n} samples", n=3)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from importlib.resources import files

from harness.errors import UsageError
from harness.quick import dataclass

Translate = Callable[..., str]
LANGUAGES = {"en": "English", "zh": "中文"}


def language_of(*wishes: str | None) -> str:
    """The first language that is wished for and that we have: `zh`, `zh-CN,zh;q=0.9`, `zh_CN.UTF-8` are Chinese."""
    for wish in wishes:
        for part in (wish or "").replace("_", "-").split(","):
            language = part.strip().lower().split("-")[0].split(";")[0].split(".")[0]
            if language in LANGUAGES:
                return language
    return "en"


def locale_language(asked: str | None) -> str:
    """The language that `--lang` asks for, or that of the locale. Raises UsageError for one that there is not."""
    if asked is not None and asked not in LANGUAGES:
        raise UsageError(f"--lang: '{asked}' is none of {', '.join(LANGUAGES)}")
    return language_of(asked, *(os.environ.get(name) or None for name in ("LC_ALL", "LC_MESSAGES", "LANG")))


def english(text: str, **values: object) -> str:
    """The text as it is written, with its values."""
    return text.format(**values) if values else text


@dataclass(frozen=True, slots=True)
class Phrase:
    """A text with its values, written before it is known in which language it will be read."""

    text: str
    values: Mapping[str, object]

    def __str__(self) -> str:
        return english(self.text, **self.values)


def phrase(text: str, **values: object) -> Phrase:
    """`phrase("{n} samples", n=3)`; `said` puts it into a language."""
    return Phrase(text, values)


def said(text: str | Phrase, t: Translate) -> str:
    """A text or phrase in the language of `t`, and the phrases among its values too."""
    if isinstance(text, str):
        return t(text)
    return t(text.text, **{name: said(v, t) if isinstance(v, Phrase) else v for name, v in text.values.items()})


def translator(language: str) -> Translate:
    """`t("{n} samples", n=3)`: the text in that language, English where it has none."""
    table = _table(language)

    def translate(text: str, **values: object) -> str:
        found = table.get(text, text)
        return found.format(**values) if values else found

    return translate


@functools.cache
def _table(language: str) -> dict[str, str]:
    if language == "en":
        return {}
    import yaml

    found: dict[str, str] = yaml.safe_load(files("harness").joinpath(f"words.{language}.yaml").read_text("utf-8"))
    return found
