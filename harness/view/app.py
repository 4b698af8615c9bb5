"""The web application: its addresses, who may ask for them, and how pages are made.

It answers to the machine it runs on alone, to whoever knows its token, and only under its own name, so that no page of
another site can read it (DNS rebinding, cross-site requests). Pages hold no script but ours, and load nothing from
elsewhere.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from harness.errors import HarnessError, UsageError
from harness.record import html
from harness.record.conversation import indented
from harness.record.junit import p_value
from harness.view import charts, pages
from harness.view.notes import NoteKind, add_note
from harness.view.shelf import BeingIndexed, NotShown, Shelf
from harness.words import LANGUAGES, language_of, locale_language, translator

COOKIE = "harness_view"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all, a browser hides even from us that a form is our own
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LARGEST_FORM = 64_000
_STATIC = {"page.css": ("harness.record", "text/css"), "view.js": ("harness.view.static", "text/javascript")}
Page = Callable[[Shelf, Mapping[str, Any]], Mapping[str, Any]]


def make_app(
    folders: Sequence[Path], token: str, hosts: Sequence[str], mirrors: Sequence[Path] = (), language: str | None = None
) -> Starlette:
    """The application over the runs below `folders`. hosts: the values of `Host` under which it may be asked.

    mirrors: folders in which pictures of rows are looked for, where they are not at the place that a record names.
    language: of pages for which nobody chooses one; left out, that of the browser, then of the locale.
    """
    made = Starlette(
        routes=[
            _page("/", "runs.html.j2", pages.runs),
            _page("/run/{run}", "run.html.j2", pages.run),
            _page("/run/{run}/samples", "samples.html.j2", pages.samples),
            _page("/run/{run}/sample/{n:int}", "sample.html.j2", pages.sample),
            _page("/run/{run}/errors", "errors.html.j2", pages.errors),
            _page("/compare", "compare.html.j2", pages.compare),
            _page("/changed", "changed.html.j2", pages.changed),
            _page("/trends", "trends.html.j2", pages.trends),
            _page("/leaderboard", "leaderboard.html.j2", pages.leaderboard),
            Route("/leaderboard.csv", _leaderboard_csv),
            Route("/run/{run}/media/{n:int}/{name}", _media),
            _chart("radar.svg", pages.radar),
            _chart("trend.svg", pages.trend_chart),
            _chart("tokens.svg", pages.tokens_chart),
            Route("/run/{run}/sample/{n:int}/note", _note, methods=["POST"]),
            Route("/static/{name}", _static),
        ],
        middleware=[Middleware(_Guard, token=token, hosts=hosts)],
        exception_handlers={HarnessError: _mistake, 404: _missing},
    )
    made.state.shelf = Shelf(folders, mirrors)
    made.state.language = language
    return made


class _Guard:
    """Lets through who asks under our own name and knows the token; the token becomes a cookie at the first visit."""

    def __init__(self, app: ASGIApp, token: str, hosts: Sequence[str]) -> None:
        self.app = app
        self.token = token
        self.hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer = self._refusal(request)
        if answer is None and "token" in request.query_params:
            answer = self._with_cookie(request)
        if answer is not None:
            answer.headers.update(_HEADERS)
            await answer(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        host = headers.get("host", "")
        if host not in self.hosts:
            return _refused(request, "this address does not belong to the viewer", 421)
        # A link elsewhere may lead here; nothing else that another site starts may, and it may change nothing.
        crosses = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        changes = request.method not in ("GET", "HEAD")
        if crosses or (changes and headers.get("origin") != f"http://{host}"):
            return _refused(request, "another site asked", 403)
        known = request.query_params.get("token") or request.cookies.get(self._cookie(request)) or ""
        if not hmac.compare_digest(known.encode(), self.token.encode()):
            return _refused(request, "open the address that `harness view` printed; it holds the token", 403)
        return None

    def _with_cookie(self, request: Request) -> Response:
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        answer = RedirectResponse(request.url.path + (f"?{urlencode(rest)}" if rest else ""), 303)
        answer.set_cookie(self._cookie(request), self.token, httponly=True, samesite="strict")
        return answer

    @staticmethod
    def _cookie(request: Request) -> str:
        return f"{COOKIE}_{request.url.port or 80}"  # cookies know no ports: two viewers would take each other's


def _asked(request: Request) -> dict[str, Any]:
    """What an address says: its path's names, its query, and what may stand several times as lists under `all`."""
    query = request.query_params
    return {**dict(query), **request.path_params, "all": {name: query.getlist(name) for name in query}}


def _page(path: str, template: str, make: Page) -> Route:
    """An address with a page: what `make` finds on the shelf, in a template."""

    async def answer(request: Request) -> Response:
        return await run_in_threadpool(_page_of, request, template, make)

    return Route(path, answer)


def _page_of(request: Request, template: str, make: Page) -> Response:
    asked = _asked(request)
    answer = _rendered(request, asked, template, _made(request, asked, make))
    if asked.get("lang") in LANGUAGES:
        answer.set_cookie("lang", asked["lang"], samesite="strict")
    return answer


def _made(request: Request, asked: Mapping[str, Any], make: Page) -> Mapping[str, Any]:
    """What `make` finds, in the words of the language that is asked for."""
    return make(_shelf(request), {**asked, "t": translator(_language(request, asked))})


def _shelf(request: Request) -> Shelf:
    shelf: Shelf = request.app.state.shelf
    return shelf


def _chart(name: str, make: Page) -> Route:
    """An address with a drawing of what `make` finds."""

    def answer(request: Request) -> Response:
        figure = _made(request, _asked(request), make)
        return Response(charts.svg(figure["draw"], dark="dark" in request.query_params), media_type="image/svg+xml")

    return Route(f"/chart/{name}", answer)


async def _note(request: Request) -> Response:
    """Keep the note that a reader made on a sample, and show the sample again."""
    if int(request.headers.get("content-length") or _LARGEST_FORM + 1) > _LARGEST_FORM:
        return _refused(request, "a note is shorter than this", 413)
    form = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
    shelf = _shelf(request)
    run = shelf.get(request.path_params["run"])
    kind = next((kind for kind in NoteKind if kind.value == form.get("kind")), NoteKind.NONE)
    number, why, gold = int(request.path_params["n"]), form.get("why", ""), form.get("gold", "")
    share = await run_in_threadpool(shelf.progress, run)
    try:
        await run_in_threadpool(add_note, run.path, number, kind, why, gold)
    except UsageError as error:
        raise error if share is None else BeingIndexed(run.key, share) from error
    return RedirectResponse(str(request.url.path).removesuffix("/note"), 303)


def _media(request: Request) -> Response:
    picture = pages.media(_shelf(request), _asked(request))
    return Response(picture.data, media_type=picture.kind)


def _leaderboard_csv(request: Request) -> Response:
    answer = Response(pages.leaderboard_csv(_shelf(request), _asked(request)), media_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = "attachment; filename=leaderboard.csv"
    return answer


def _language(request: Request, asked: Mapping[str, Any]) -> str:
    wishes = (asked.get("lang"), request.cookies.get("lang"), request.app.state.language)
    accepted = request.headers.get("accept-language")
    return language_of(*wishes, accepted, *([] if accepted else [locale_language(None)]))


def _refused(request: Request, words: str, status: int) -> Response:
    t = translator(_language(request, {}))
    return PlainTextResponse(t(words), status)


def _rendered(
    request: Request, asked: Mapping[str, Any], template: str, values: Mapping[str, Any], status: int = 200
) -> Response:
    language = _language(request, asked)

    def address(path: str, **changes: Any) -> str:
        """The path with the query of now, some of it changed; None takes a part away."""
        query = {name: given for name, given in asked["all"].items() if name not in changes and name != "lang"}
        query |= {name: value for name, value in changes.items() if value is not None}
        return f"{path}?{urlencode(query, doseq=True)}" if query else path

    own = {"lang": language, "languages": LANGUAGES, "address": address, "path": request.url.path, "asked": asked}
    text = environment().get_template(template).render(**values, **own, t=translator(language))
    return HTMLResponse(text.encode("utf-8", "replace"), status)


def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return _refused(request, "there is no such file", 404)
    room, kind = _STATIC[name]
    return Response(files(room).joinpath(name).read_bytes(), media_type=kind)


def _mistake(request: Request, error: Exception) -> Response:
    asked = _asked(request)
    t = translator(_language(request, asked))
    message = t(error.words, **error.values) if isinstance(error, NotShown) else str(error)
    waits = isinstance(error, BeingIndexed)
    return _rendered(request, asked, "mistake.html.j2", {"message": message, "waits": waits}, 503 if waits else 404)


def _missing(request: Request, error: Exception) -> Response:
    return _mistake(request, NotShown("there is no page {path}", path=request.url.path))


@functools.cache
def environment() -> jinja2.Environment:
    """The templates, those of the report's page included; everything that they show is escaped."""
    from harness.view.inert_html import marked, rich

    base = html.environment()
    loaders = [jinja2.PackageLoader("harness.view"), *([base.loader] if base.loader else [])]
    made = base.overlay(loader=jinja2.ChoiceLoader(loaders))
    made.filters = {
        **base.filters,
        "rich": rich,
        "marked": marked,
        "clean": html.inert,
        "indented": indented,
        "p_value": p_value,
    }
    return made
