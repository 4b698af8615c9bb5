"""Capture: pages of the web, and documents and screenshots of a folder, into `pages.jsonl`.

Each page is on disk as soon as it is had: a kill loses the one in flight. What is left out stays in the file with its
reason; where the reason may pass (a server that failed), the next capture tries again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date as calendar_date
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files
from harness.errors import UsageError
from harness.live.documents import LocalDocument, documents_of
from harness.live.extract import Article, PageLink, article_of, earlier, entries_of, is_feed, links_of
from harness.live.folder import IMAGES, PAGES, LiveFolder, NothingLeft, Page, as_line, counted
from harness.live.web import Fetched, LeftOutError, Web
from harness.quick import dataclass
from harness.run.spec import Progress
from harness.tasks.dates import is_later
from harness.words import phrase

if TYPE_CHECKING:
    from harness.live.browser import Browser

LEAST_CHARACTERS = 100
"""Of a page's text; a Chinese character counts twice."""
UNDATED, TOO_EARLY = "it carries no date", "published too early"
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "GIF": ".gif"}


@dataclass(frozen=True, slots=True)
class CaptureSpec:
    """What is captured. after: only pages that are dated later. date: of pages that carry none. limit: pages that are
    kept. links: not the pages that are named, but those of the same server to which they lead. screenshots: by
    Chromium. pause: seconds between two requests to one server."""

    sources: tuple[str, ...]
    after: str | None = None
    date: str | None = None
    limit: int | None = None
    links: bool = False
    screenshots: bool = False
    pause: float = 1.0


@dataclass(frozen=True, slots=True)
class Captured:
    """How many pages there are now, how many came anew, and why others were left out."""

    kept: int
    new: int
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a source named: a page of the web (fetched already, where it had to be looked at), or a document."""

    source: str
    entry: PageLink | None = None
    fetched: Fetched | None = None
    failure: LeftOutError | None = None
    document: LocalDocument | None = None


def capture(
    spec: CaptureSpec, folder: LiveFolder, progress: Progress | None = None, web: Web | None = None
) -> Captured:
    """Bring the pages of `spec` into the folder. Raises `NothingLeft` where not one was kept."""
    progress = progress or Progress()
    for source in spec.sources:
        _check_source(source, folder.path)
    with folder.locked(), contextlib.ExitStack() as stack:
        folder.repair(PAGES, progress.message)
        known = {page.source: page for page in folder.pages()} if (folder.path / PAGES).is_file() else {}
        before = sum(page.left_out is None for page in known.values())
        show = None
        if spec.screenshots and any(map(_is_address, spec.sources)):
            from harness.live.browser import browser

            progress.stage(phrase("starting Chromium"))
            show = stack.enter_context(browser())
        maker = _Maker(spec, folder, web or Web(spec.pause), show, known.values())
        kept = before
        for found in maker.found(progress):
            if spec.limit is not None and kept >= spec.limit:
                break
            if (page := known.get(found.source)) is not None and not _is_wanted_again(page, spec):
                continue
            progress.stage(phrase("page {n}: {source}", n=len(known) + 1, source=found.source))
            page = maker.page(found)
            folder.append(PAGES, as_line(page))
            known[page.source] = page
            kept += page.left_out is None
        left_out = counted(page.left_out for page in known.values())
        told = {"sources": list(spec.sources), "after": spec.after, "date": spec.date, "screenshots": spec.screenshots}
        folder.note("capture", **told, day=_today(), pages=kept, left_out=left_out)
    if not kept:
        raise NothingLeft("capture: no page was kept", [page.left_out for page in known.values()])
    return Captured(kept, kept - before, left_out)


def _check_source(source: str, to: Path) -> None:
    """Refuse what cannot be captured, or would not stay what it is. Raises `UsageError`."""
    if _is_address(source):
        if "@" in source.partition("://")[2].partition("/")[0]:
            raise UsageError(
                "capture: an address with a password would stand in the set and in what is published of it"
            )
    elif not Path(source).exists():
        raise UsageError(f"capture: there is no file or folder '{source}', and an address begins with https://")
    elif to.resolve().is_relative_to(Path(source).resolve()):
        raise UsageError(f"--to {to}: lies in {source}, and would be captured itself the next time")


def _is_wanted_again(page: Page, spec: CaptureSpec) -> bool:
    if page.left_out == UNDATED:
        return spec.after is None or spec.date is not None
    if page.left_out == TOO_EARLY:
        return spec.after is None or is_later(page.date or "", spec.after)
    return page.again


class _Maker:
    """Finds what the sources name, and makes a page of each."""

    def __init__(
        self, spec: CaptureSpec, folder: LiveFolder, web: Web, show: Browser | None, known: Iterable[Page]
    ) -> None:
        self.spec, self.folder, self.web, self.show = spec, folder, web, show
        self.kept = {page.digest: page.source for page in known if page.left_out is None}
        """Digest of what a page says -> the page that was kept for it."""

    def found(self, progress: Progress) -> Iterator[_Found]:
        for source in self.spec.sources:
            if not _is_address(source):
                yield from (_Found(each.source, document=each) for each in documents_of(Path(source)))
                continue
            progress.stage(phrase("looking at {source}", source=source))
            try:
                fetched = self.web.get(source)
            except LeftOutError as error:
                yield _Found(source, failure=error)
                continue
            if is_feed(fetched):
                yield from (_Found(entry.url, entry) for entry in entries_of(fetched))
            elif self.spec.links:
                yield from (_Found(entry.url, entry) for entry in links_of(fetched))
            else:
                yield _Found(source, fetched=fetched)

    def page(self, found: _Found) -> Page:
        """The page, or why it is left out."""
        made = Page(hashlib.sha256(found.source.encode()).hexdigest()[:12], found.source, captured=_today())
        try:
            if found.failure is not None:
                raise found.failure
            made = self._of_document(made, found.document) if found.document else self._of_web(made, found)
            reason = self._unwanted(made)
        except LeftOutError as error:
            return replace(made, text="", left_out=str(error), again=error.again)
        if reason:
            if made.image:
                (self.folder.path / made.image).unlink(missing_ok=True)
            return replace(made, text="", image=None, left_out=reason)
        self.kept[made.digest] = made.source
        return made

    def _of_web(self, made: Page, found: _Found) -> Page:
        fetched = found.fetched or self.web.get(found.source)
        kind = fetched.content_type.partition(";")[0].strip().lower()
        if kind == "text/plain":
            article = Article(found.entry.title if found.entry else "", None, fetched.text.strip())
        elif kind in ("", "text/html", "application/xhtml+xml", "application/xml", "text/xml"):
            html = fetched.text
            if self.show is not None:
                shown = self.show.show(fetched.url)
                self.web.check_allowed(shown.url)  # a script may have led elsewhere
                html, image = shown.html, shown.image
                made = replace(made, image=self._kept(made.id, image))
            article = article_of(html, fetched.url)
        else:
            raise LeftOutError(f"no page of text: {kind[:60]}")
        entry = found.entry
        by_feed = entry.date if entry else None
        date = earlier(article.date, by_feed)
        title = article.title or (entry.title if entry else "")
        return self._with(made, replace(article, title=title, date=date), "feed" if date == by_feed else "page")

    def _of_document(self, made: Page, document: LocalDocument) -> Page:
        article, by = document.read()
        if document.image is not None:
            made = replace(made, image=self._kept(made.id, document.image.read_bytes()))
        return self._with(made, article, by)

    def _with(self, made: Page, article: Article, by: str) -> Page:
        date, by = (article.date, by) if article.date else (self.spec.date, "given")
        content = " ".join(article.text.split()) or made.image or ""
        if not article.text and made.image:
            content = hashlib.sha256((self.folder.path / made.image).read_bytes()).hexdigest()
        digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        made = replace(made, title=article.title, text=article.text, digest=digest)
        return replace(made, date=date, date_from=by) if date else made

    def _unwanted(self, page: Page) -> str | None:
        """Why a page that could be read is left out."""
        size = sum(2 if "\u4e00" <= letter <= "\u9fff" else 1 for letter in page.text)
        # A screenshot of a folder may be all that there is; a page of the web without text has not loaded.
        if size < LEAST_CHARACTERS and (page.image is None or _is_address(page.source)):
            return f"hardly any text: {len(page.text)} characters" if page.text else "no text"
        if self.spec.after is not None:
            if page.date is None:
                return UNDATED
            if not is_later(page.date, self.spec.after):
                return TOO_EARLY
        same = self.kept.get(page.digest, page.source)
        return None if same == page.source else f"the same as another page: {same}"

    def _kept(self, name: str, data: bytes) -> str:
        """Keep a picture in the folder of the set. Raises `LeftOutError` for what is none."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(data)) as picture:
                suffix = _SUFFIXES.get(picture.format or "")
                picture.load()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise LeftOutError(f"its picture cannot be read: {type(error).__name__}") from None
        if suffix is None:
            raise LeftOutError("its picture is of a kind that models are not shown")
        path = Path(IMAGES) / f"{name}{suffix}"
        (self.folder.path / IMAGES).mkdir(exist_ok=True)
        files.replace(self.folder.path / path, (data,))
        return path.as_posix()


def kept_pages(folder: LiveFolder) -> Sequence[Page]:
    """The pages of which questions can be asked."""
    return [page for page in folder.pages() if page.left_out is None]


def _is_address(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _today() -> str:
    return calendar_date.today().isoformat()
