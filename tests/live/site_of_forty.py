"""A site of forty pages on this machine, of which not all can, or may, be had."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROBOTS = "User-agent: *\nDisallow: /private/\nDisallow: /*.print$\nAllow: /\n"
MENU = "<nav><a href='/'>Home</a> <a href='/news'>News</a> <a href='/about'>About us</a></nav>"
AD = "<div class='side-ad'>Buy the golden shoes now, only today, at half the price: golden shoes!</div>"
FOOT = "<footer>All rights reserved. Terms. Privacy. Cookies.</footer>"


@dataclass
class Answer:
    """What the site sends for a path."""

    body: bytes = b""
    status: int = 200
    kind: str = "text/html; charset=utf-8"
    place: str = ""


@dataclass
class Site:
    """Pages by their paths. `asked` holds the paths in the order in which they were asked for."""

    pages: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                answer = site.pages.get(self.path, Answer(b"nothing here", 404))
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(answer.body)))
                if answer.place:
                    self.send_header("Location", answer.place)
                self.end_headers()
                try:
                    self.wfile.write(answer.body)
                except OSError:  # a page that is too large is not read to its end
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def english(number: int, date: str = "2026-06") -> str:
    """An article in English on a bridge of so many metres."""
    meta = f"<meta property='article:published_time' content='{date}-{number % 28 + 1:02}'>" if date else ""
    return (
        f"<html><head><title>Bridge {number} opens</title>{meta}</head><body class='has-ads'>{MENU}<article>"
        f"<h1>Bridge {number} opens</h1>"
        f"<p>The bridge over river number {number} opened on Monday after three years of work, the city said in a "
        f"statement, and thousands of people walked over it in the afternoon.</p>{AD}"
        f"<p>It is {400 + number} metres long and cost {80 + number} million euros, which is 12 million more than the "
        f"council had planned three years ago.</p></article>{FOOT}</body></html>"
    )


def chinese(number: int, charset: str = "utf-8") -> str:
    """An article in Chinese on a library with so many books."""
    return (
        f"<html><head><meta charset='{charset}'><title>第{number}图书馆开馆</title>"
        f"<meta property='article:published_time' content='2026-07-{number % 28 + 1:02}'></head><body>{MENU}<article>"
        f"<h1>第{number}图书馆开馆</h1><p>第{number}图书馆周六正式开馆，历时两年建成，市政府在声明中说，开馆首日约有两万名读者"
        f"到馆，许多人带着孩子排队办理了借书证。</p><div class='guanggao'>金色皮鞋今日半价，点击购买金色皮鞋。</div>"
        f"<p>馆内藏书{1000 + number}册，总投资{300 + number}万元，比预算多出二十万元，其余将于明年年底前到位。</p>"
        f"</article>{FOOT}</body></html>"
    )


def forty_pages() -> Site:
    """A feed of forty pages: 27 articles that can be used, and 13 that cannot, each for a reason of its own."""
    site = Site()
    pages = site.pages
    for number in range(1, 21):
        pages[f"/news/{number}"] = Answer(english(number).encode())
    for number in range(21, 26):
        pages[f"/news/{number}"] = Answer(chinese(number).encode())
    pages["/news/26"] = Answer(chinese(26, "gb2312").encode("gb18030"), kind="text/html")
    pages["/news/27"] = Answer(status=301, place="/moved/27")
    pages["/moved/27"] = Answer(english(27).encode())
    pages["/private/28"] = Answer(english(28).encode())
    pages["/news/29.print"] = Answer(english(29).encode())
    pages["/news/30"] = Answer(status=302, place="/private/30")
    pages["/news/31"] = Answer(status=404)
    pages["/news/32"] = Answer(status=410)
    pages["/news/33"] = Answer(status=500)
    pages["/news/34"] = Answer(b"<html><body></body></html>")
    pages["/news/35"] = Answer(b"<html>" + b"x" * (5 << 20) + b"</html>")
    pages["/news/36"] = Answer(status=302, place="/news/36")
    pages["/news/37"] = Answer(english(1).encode())
    pages["/news/38"] = Answer(b"%PDF-1.7", kind="application/pdf")
    pages["/news/39"] = Answer(english(39, "2019-01").encode())
    pages["/news/40"] = Answer(english(40, "").encode())
    odd = {28: "/private/28", 29: "/news/29.print"}
    items = "".join(f"<item><link>{odd.get(n, f'/news/{n}')}</link></item>" for n in range(1, 41))
    feed = f"<?xml version='1.0'?><rss version='2.0'><channel><title>News</title>{items}</channel></rss>"
    pages["/feed.xml"] = Answer(feed.encode(), kind="application/rss+xml")
    pages["/robots.txt"] = Answer(ROBOTS.encode(), kind="text/plain")
    return site
