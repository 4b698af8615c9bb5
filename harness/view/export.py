"""The viewer's pages as files, for any web server or an attachment: `export_pages([Path("runs/A")], Path("site"))`.

The pages are those of the application, asked for one after another from the first on; a link that leads to none of them
is left as text. Of each run the first samples of its lists are there.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
import time
from collections import Counter
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.types import ASGIApp

from harness import files
from harness.errors import UsageError
from harness.view.app import COOKIE, make_app

MOST_PAGES = 2_000
MOST_PICTURES = 24 * 1024 * 1024
"""Bytes of pictures and sounds in one file: an attachment has to stay one."""
_SAMPLES = 64
_HOST = "export.invalid"
_LINK = re.compile(r'(?P<name>href|src|srcset)="(?P<address>/[^"]*)"')
_LEFT_OUT = frozenset(
    {"text", "lang", "start", "order", "sort", "answer", "significance", "with", "ability", "least", "most"}
)
_MEDIA = re.compile(
    r'<(?:img|audio)\b[^>]*?\bsrc="(?P<address>/[^"]*/media/[^"]*)"[^>]*?\b(?:alt|title)="(?P<name>[^"]*)"[^>]*>'
    r"(?:</audio>)?"
)
_FORM = re.compile(r"<form\b.*?</form>", re.DOTALL)
_LANGUAGES = re.compile(r'<span class="languages">.*?</span>', re.DOTALL)
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
_ENDINGS = {
    "text/html": "html", "text/css": "css", "image/svg+xml": "svg", "text/csv": "csv", "image/png": "png",
    "image/jpeg": "jpg", "audio/wav": "wav",
}  # fmt: skip
_SINGLE_STYLE = """
section.page { display: none; }
section.page:target, section.page:has(:target), body:not(:has(:target)) section.page:first-of-type { display: block; }
"""


def export_pages(
    folders: Sequence[Path], target: Path, mirrors: Sequence[Path] = (), language: str | None = None
) -> int:
    """Write the pages over the runs below `folders` into a new folder, `index.html` first; returns how many.

    Raises UsageError where the folder holds anything.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"--export {target}: is there already; name a new folder")
    pages = _pages(folders, mirrors, language)
    names = {address: _file_name(address, content) for address, (content, _) in pages.items()}
    target.mkdir(parents=True, exist_ok=True)
    for address, (content, data) in pages.items():
        if content == "text/html":
            data = _relinked(data.decode(), names).encode()
        files.replace(target / names[address], [data])
    return sum(content == "text/html" for content, _ in pages.values())


def export_single(
    folders: Sequence[Path], target: Path, mirrors: Sequence[Path] = (), language: str | None = None
) -> int:
    """Write the same pages as one file that loads nothing; returns how many pages it holds."""
    pages = _pages(folders, mirrors, language)
    names = {address: f"#{_mark(address)}" for address in pages}
    room = MOST_PICTURES
    for address, (content, data) in pages.items():
        if "/media/" in address and len(data) > room:
            del names[address]
        elif content != "text/html":
            room -= len(data) if "/media/" in address else 0
            names[address] = f"data:{content};base64,{base64.b64encode(data).decode()}"
    style = next(data for address, (_, data) in pages.items() if address.endswith(".css")).decode()
    parts = []
    for address, (content, data) in pages.items():
        if content == "text/html":
            text = _relinked(data.decode(), names)
            body = text[text.index("<body>") + len("<body>") : text.rindex("</body>")]
            parts.append(f'<section class="page" id="{_mark(address)}">{body}</section>')
    head = (
        f'<!doctype html>\n<html lang="{_tag_of(pages)}"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        f'img-src data:; media-src data:"><title>harness</title><style>{style}{_SINGLE_STYLE}</style>'
    )
    files.replace(target, [f"{head}<body>{''.join(parts)}</body>\n".encode()])
    return len(parts)


def _pages(folders: Sequence[Path], mirrors: Sequence[Path], language: str | None) -> dict[str, tuple[str, bytes]]:
    """Address -> (content type, data) of everything that the first page leads to, within the limits."""
    app = make_app(folders, "export", [_HOST], mirrors, language)
    found: dict[str, tuple[str, bytes]] = {}
    waiting, samples = ["/"], Counter[str]()
    while waiting and sum("/media/" not in address for address in found) < MOST_PAGES:
        address = waiting.pop(0)
        status, content, data = asyncio.run(_ask(app, address))
        while b"data-indexing" in data:
            time.sleep(0.2)
            status, content, data = asyncio.run(_ask(app, address))
        # What a page says that cannot be shown is shown, and leads nowhere.
        if status != 200 and (content != "text/html" or "/media/" in address):
            continue
        found[address] = (content, data)
        for link in _LINK.finditer(data.decode()) if content == "text/html" else ():
            other = html.unescape(link["address"]).split("#")[0]
            run, is_sample, _ = other.partition("/sample/")
            if other in found or other in waiting or not _is_wanted(other) or samples[run] >= _SAMPLES:
                continue
            samples[run] += bool(is_sample)
            waiting.append(other)
    return found


async def _ask(app: ASGIApp, address: str) -> tuple[int, str, bytes]:
    """(status, content type, data) of an address of the application, which is asked in this process."""
    path, _, query = address.partition("?")
    headers = [(b"host", _HOST.encode()), (b"cookie", f"{COOKIE}_80=export".encode())]
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "server": (_HOST, 80),
        "root_path": "", "path": unquote(path), "query_string": query.encode(), "headers": headers,
    }  # fmt: skip
    start: dict[str, Any] = {}
    parts: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        start.update(message if message["type"] == "http.response.start" else {})
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    kind = dict(start["headers"])[b"content-type"].decode().split(";")[0]
    return start["status"], kind, b"".join(parts)


def _is_wanted(address: str) -> bool:
    parts = urlsplit(address)
    asked = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.path.endswith(".js") or asked & _LEFT_OUT:
        return False
    return "/sample/" not in parts.path or not parts.query


def _relinked(text: str, names: dict[str, str]) -> str:
    """A page whose links lead to files; what cannot work without the application is taken out."""

    def link(found: re.Match[str]) -> str:
        address, _, anchor = html.unescape(found["address"]).partition("#")
        bare = address.split("?")[0] if "/sample/" in address else address
        name = names.get(address) or names.get(bare)
        if name is None:
            return 'aria-disabled="true"' if found["name"] == "href" else f'{found["name"]}=""'
        return f'{found["name"]}="{html.escape(name + (f"#{anchor}" if anchor else ""))}"'

    def picture(found: re.Match[str]) -> str:
        return found[0] if html.unescape(found["address"]) in names else f"[{found['name']}]"

    text = _MEDIA.sub(picture, text)
    text = _LANGUAGES.sub("", text)  # the files are in one language
    return _LINK.sub(link, _SCRIPT.sub("", _FORM.sub(_without_controls, text)))


def _without_controls(form: re.Match[str]) -> str:
    """What a form shows beside its controls: the table of runs, for one."""
    table = re.search(r"<div class=\"scroll\">.*</div>", form[0], re.DOTALL)
    return re.sub(r"<input\b[^>]*>", "", table[0]) if table else ""


def _tag_of(pages: dict[str, tuple[str, bytes]]) -> str:
    """The language of the pages, as the first of them says it."""
    found = re.search(rb'<html lang="([A-Za-z-]+)"', pages["/"][1])
    return found[1].decode() if found else "en"


def _mark(address: str) -> str:
    return f"p{hashlib.blake2b(address.encode(), digest_size=6).hexdigest()}"


def _file_name(address: str, content: str) -> str:
    if address == "/":
        return "index.html"
    ending = _ENDINGS.get(content, "bin")
    words = re.sub(r"[^A-Za-z0-9]+", "-", urlsplit(address).path).strip("-")[:60]
    return f"{words}-{_mark(address)}.{ending}"
