"""Tells a chat or a program what a gate found: Slack, Feishu, DingTalk and WeCom by their own bodies, others by JSON.

The address is a password in most of these, and so is the secret by which Feishu and DingTalk sign: neither is shown.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from harness.cli.console import notice
from harness.secret import Secret, secrets_of_url
from harness.time_limit import time_limit
from harness.words import Translate, english

if TYPE_CHECKING:
    from harness.record.junit import GateCheck

SECONDS = 10.0
_MOST_REPLY = 1 << 16
_HOSTS = {
    "hooks.slack.com": "slack",
    "open.feishu.cn": "feishu",
    "open.larksuite.com": "feishu",
    "oapi.dingtalk.com": "dingtalk",
    "qyapi.weixin.qq.com": "wecom",
}
_MOST_BYTES = {"slack": 39_000, "feishu": 18_000, "dingtalk": 18_000, "wecom": 4_000}
"""Of a message: a little less than each service takes."""
FORMATS = ("auto", "json", *_MOST_BYTES)


def format_of(url: str) -> str:
    """Which service an address belongs to; `json` for any other."""
    return _HOSTS.get(urlsplit(url).hostname or "", "json")


def post(
    url: str,
    form: str,
    checks: Sequence[GateCheck],
    title: str,
    summary: str,
    secret: str | None = None,
    t: Translate = english,
) -> None:
    """Tell a server. That it cannot be told changes nothing of the verdict, and is said in one line."""
    import requests

    form = format_of(url) if form == "auto" else form
    host = urlsplit(url).hostname or t("the address")
    body = body_of(form, checks, title, summary, t)
    if secret:
        url, body = signed(url, form, body, secret, time.time())
    try:
        # What never ends its reply does not hold up a CI: no more of it is waited for than services answer.
        with (
            time_limit(2 * SECONDS, "the reply"),
            requests.post(url, json=body, timeout=SECONDS, stream=True) as response,
        ):
            response.raise_for_status()
            says_why = form not in ("json", "slack")
            problem = _refusal(response.raw.read(_MOST_REPLY, decode_content=True), t) if says_why else ""
    except (requests.RequestException, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", "")
        problem = f"{type(error).__name__} {status}".rstrip()
    except Exception as error:  # of urllib3, while the reply is read
        problem = type(error).__name__
    if problem:
        parts = (url, urlsplit(url).path, urlsplit(url).path.rpartition("/")[2], secret or "")
        for each in (*map(Secret, parts), *secrets_of_url(url)):
            problem = each.hide_in(problem)
        notice(t("--webhook: {host} could not be told: {problem}", host=host, problem=problem))


def body_of(
    form: str, checks: Sequence[GateCheck], title: str, summary: str, t: Translate = english
) -> Mapping[str, Any]:
    """What is posted. summary: Markdown with a table, for programs; chats get lines, as few show tables."""
    if form == "json":
        passed = not any(check.outcome == "failed" for check in checks)
        return {"passed": passed, "checks": [asdict(check) for check in checks], "text": summary}
    text = chat_text(checks, title, _MOST_BYTES[form], t)
    made: Mapping[str, Callable[[], Mapping[str, Any]]] = {
        "slack": lambda: {"text": _escaped(text)},
        "feishu": lambda: {"msg_type": "text", "content": {"text": text}},
        "dingtalk": lambda: {
            "msgtype": "markdown", "markdown": {"title": title, "text": text.replace("\n", "\n\n")}
        },
        "wecom": lambda: {"msgtype": "markdown", "markdown": {"content": _escaped(text)}},
    }  # fmt: skip
    return made[form]()


def chat_text(checks: Sequence[GateCheck], title: str, most_bytes: int, t: Translate = english) -> str:
    """The verdict, then a line each of what failed and what is a warning, as many as there is room for."""
    lines = [title]
    told = [check for check in checks if check.outcome in ("failed", "warned")]
    told.sort(key=lambda check: check.outcome != "failed")
    for number, check in enumerate(told):
        words = " ".join(f"- {t(check.outcome)}: {check.task}: {check.metric}: {check.reason}".split())
        rest = t("... and {n} more", n=len(told) - number)
        if len("\n".join([*lines, words, rest]).encode("utf-8", "replace")) > most_bytes:
            lines.append(rest)
            break
        lines.append(words)
    return "\n".join(lines).encode("utf-8", "replace").decode()


def signed(url: str, form: str, body: Mapping[str, Any], secret: str, now: float) -> tuple[str, Mapping[str, Any]]:
    """The address and the body with the signature that Feishu (in the body) and DingTalk (in the address) ask for."""
    if form == "feishu":
        # https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot: the text to be signed is the key.
        stamp = str(int(now))
        return url, {"timestamp": stamp, "sign": _hmac(f"{stamp}\n{secret}", ""), **body}
    if form == "dingtalk":
        # https://open.dingtalk.com/document/robots/customize-robot-security-settings
        stamp = str(int(now * 1000))
        sign = quote(_hmac(secret, f"{stamp}\n{secret}"), safe="")
        return f"{url}{'&' if '?' in url else '?'}timestamp={stamp}&sign={sign}", body
    return url, body


def _hmac(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


def _refusal(reply: bytes, t: Translate) -> str:
    """What these services say in a reply of status 200 that they did not take the message; empty where they did."""
    try:
        said = json.loads(reply)
    except ValueError:
        return ""
    code = said.get("errcode", said.get("code", said.get("StatusCode", 0))) if isinstance(said, dict) else 0
    if code == 0:
        return ""
    return t("it says {code}: {message}", code=code, message=said.get("errmsg") or said.get("msg") or "")


def _escaped(text: str) -> str:
    """Slack and WeCom read `<...>` as links and commands: `<!channel>` would call everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
