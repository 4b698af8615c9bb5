"""The documents of a folder: texts, Markdown, saved pages, and screenshots, alone or beside a text of the same name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date as calendar_date
from pathlib import Path

import yaml

from harness.errors import UsageError
from harness.live.extract import Article, article_of, clean_text, known_date
from harness.live.web import LARGEST_PAGE, LeftOutError, decoded
from harness.quick import dataclass

TEXTS, PAGES = (".txt", ".md", ".markdown", ".text"), (".html", ".htm", ".xhtml")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_CONTROLS = tuple(chr(code) for code in range(32) if chr(code) not in "\t\n\f\r")
"""What no text has; of other files that were named like one, more than a hundredth."""
_DATED_NAME = re.compile(r"(?:19|20)\d\d(?:-\d\d(?:-\d\d)?|\d{4})(?!\d)")
_HEADING = re.compile(r"#{1,2}\s+(.+)")


@dataclass(frozen=True, slots=True)
class LocalDocument:
    """A document of a folder. source: its path, from the folder's name on. text: its file; image: its screenshot."""

    source: str
    text: Path | None
    image: Path | None

    def read(self) -> tuple[Article, str]:
        """(article, who gives its date: `page`, or `name` of the file). Raises `LeftOutError`."""
        article = Article("", None, "") if self.text is None else _article(self.text)
        name = (self.text or self.image or Path()).stem
        if not article.title:
            article = replace(article, title=name)
        if article.date is None and (found := _DATED_NAME.search(name)):
            return replace(article, date=known_date(found[0])), "name"
        return article, "page"


def documents_of(source: Path) -> Iterator[LocalDocument]:
    """The documents of a folder, or the one file that is named, in the order of their paths. Raises `UsageError`."""
    paths = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    root = source.absolute().parent
    # What a browser saves beside a page (`NAME_files`) are parts of that page.
    paths = [path for path in paths if not any(part.endswith(("_files", ".files")) for part in path.parts[:-1])]
    texts = [path for path in paths if path.suffix.lower() in (*TEXTS, *PAGES)]
    pictures = {path.with_suffix(""): path for path in paths if path.suffix.lower() in PICTURES}
    if not texts and not pictures:
        known = ", ".join((*TEXTS, *PAGES, *PICTURES))
        raise UsageError(f"capture: {source} holds no documents ({known})")
    alone = {path for stem, path in pictures.items() if stem not in {text.with_suffix("") for text in texts}}
    for path in sorted([*texts, *alone]):
        name = path.absolute().relative_to(root).as_posix()
        yield (
            LocalDocument(name, None, path)
            if path in alone
            else LocalDocument(name, path, pictures.get(path.with_suffix("")))
        )


def _article(path: Path) -> Article:
    try:
        if path.stat().st_size > LARGEST_PAGE:
            raise LeftOutError(f"larger than {LARGEST_PAGE >> 20} MB")
        text = decoded(path.read_bytes())
    except OSError as error:
        raise LeftOutError(f"cannot be read: {error.strerror or error}", again=True) from None
    if sum(map(text.count, _CONTROLS)) > len(text) / 100:
        raise LeftOutError("no text, but other bytes")
    if path.suffix.lower() in PAGES:
        return article_of(text)
    text = clean_text(text)
    about, text = _front_matter(text)
    heading = _HEADING.match(text.lstrip())
    own = about.get("title")
    title = str(own) if own and isinstance(own, str | int | float) else heading[1] if heading else ""
    date = about.get("date")
    said = str(date) if isinstance(date, str | int | calendar_date) else None
    return Article(title.strip(), known_date(said), text.strip())


def _front_matter(text: str) -> tuple[dict[str, object], str]:
    """(what stands between lines of --- at the beginning, the text below); nothing where that is no YAML mapping."""
    match = re.match(r"---\r?\n(.*?)\r?\n---\r?\n", text, re.DOTALL)
    if match is None:
        return {}, text
    try:
        about = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, text
    return (about, text[match.end() :]) if isinstance(about, dict) else ({}, text)
