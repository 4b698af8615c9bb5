"""From HTML to an article: its title, date and text, without navigation, advertisements and what else is around it.

trafilatura does it; what networks of advertisements call their boxes is taken out before, here and in a browser alike.
"""

from __future__ import annotations

import logging
import re
import time
from urllib.parse import urldefrag, urljoin, urlsplit

from harness.errors import DataError, UsageError
from harness.live.web import NEEDS, Fetched, LeftOutError
from harness.quick import dataclass
from harness.tasks.dates import read_date

# A page that calls itself free of ads, or has some, is none itself.
_PART = "//*[not(self::html or self::body or self::main or self::article or .//main or .//article)]"
_BOX = "concat(' ', translate(concat(@class, ' ', @id), '-_', '  '), ' ')"
ADVERTISEMENTS = (
    "//ins[contains(@class, 'adsbygoogle')]",
    "//iframe",
    "//*[@data-ad-slot or @data-ad-unit or @data-ad-client]",
    *(
        f"{_PART}[contains({_BOX}, ' {word} ')]"
        for word in ("ad", "ads", "advert", "adverts", "advertisement", "advertising", "sponsored", "promo", "guanggao")
    ),
    f"{_PART}[contains(@class, '广告') or contains(@id, '广告')]",
)
"""XPath of what is no part of an article."""


@dataclass(frozen=True, slots=True)
class Article:
    """What was read from a page. date: `2026-06-30`, or less exactly; None where the page does not say."""

    title: str
    date: str | None
    text: str


@dataclass(frozen=True, slots=True)
class PageLink:
    """What a feed says of a page."""

    url: str
    title: str
    date: str | None


def article_of(html: str, url: str | None = None) -> Article:
    """The article of a page; without text where it has none. Raises `LeftOutError` where it cannot be read."""
    try:
        import trafilatura
    except ImportError:
        raise UsageError(f"capture: HTML needs {NEEDS}") from None
    for name in ("trafilatura", "htmldate"):  # a page without text is counted, and no news on stderr
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A date that is guessed from any number on the page would be none: only what the page says of itself counts.
    try:
        found = trafilatura.bare_extraction(
            html,
            url=url,
            with_metadata=True,
            include_comments=False,
            prune_xpath=list(ADVERTISEMENTS),
            date_extraction_params={"extensive_search": False, "original_date": True},
        )
    except Exception as error:  # whatever a library raises at what strangers wrote is the error of that page
        raise LeftOutError(f"its HTML cannot be read: {type(error).__name__}") from error
    if found is None:
        return Article("", None, "")
    values = found if isinstance(found, dict) else found.as_dict()
    return Article(clean_text(values.get("title")), known_date(values.get("date")), clean_text(values.get("text")))


def is_feed(fetched: Fetched) -> bool:
    """Whether an address gave RSS or Atom."""
    kind = fetched.content_type.partition(";")[0].strip().lower()
    if kind in ("application/rss+xml", "application/atom+xml", "application/rdf+xml"):
        return True
    head = fetched.body.lstrip()[:1000].lower()
    return "html" not in kind and re.search(rb"<(rss|feed|rdf:rdf)[\s>]", head) is not None


def entries_of(fetched: Fetched) -> list[PageLink]:
    """The pages that a feed names, in its order, each once."""
    try:
        import feedparser
    except ImportError:
        raise UsageError(f"capture: feeds need {NEEDS}") from None
    parsed = feedparser.parse(fetched.body, response_headers={"content-type": fetched.content_type})
    entries: dict[str, PageLink] = {}
    for each in parsed.entries:
        if link := each.get("link"):
            moment = each.get("published_parsed") or each.get("updated_parsed")
            date = time.strftime("%Y-%m-%d", moment) if moment else None
            try:
                url = urldefrag(urljoin(fetched.url, link))[0]
            except ValueError:  # no address at all, which is counted where it is asked for
                url = link
            entries.setdefault(url, PageLink(url, clean_text(each.get("title")), date))
    return list(entries.values())


def links_of(fetched: Fetched) -> list[PageLink]:
    """The pages of the same server to which a page leads, in its order, each once."""
    try:
        from lxml import etree, html  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError(f"capture: HTML needs {NEEDS}") from None
    try:
        tree = html.fromstring(fetched.text or "<html/>")
    except (etree.LxmlError, ValueError):
        return []
    urls: dict[str, PageLink] = {}
    for anchor in tree.iter("a"):
        try:
            url = urldefrag(urljoin(fetched.url, (anchor.get("href") or "").strip()))[0]
            is_here = urlsplit(url).netloc == urlsplit(fetched.url).netloc
        except ValueError:
            continue
        if is_here and url != fetched.url and urlsplit(url).scheme in ("http", "https"):
            urls.setdefault(url, PageLink(url, clean_text(anchor.text_content()), None))
    return list(urls.values())


def known_date(value: object) -> str | None:
    """A date that can be read; None for what is none."""
    try:
        return read_date(value)
    except DataError:
        return None


def earlier(one: str | None, other: str | None) -> str | None:
    """The earlier of two dates: what was published again is not new."""
    known = [date for date in (one, other) if date]
    return min(known) if known else None


def clean_text(value: object) -> str:
    """Text without what no reader sees: control characters, and spaces at the ends of lines."""
    text = "".join(letter for letter in str(value or "") if letter >= " " or letter in "\n\t")
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()
