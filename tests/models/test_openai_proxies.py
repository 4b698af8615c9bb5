"""Proxies that the environment names: those of HTTP are used, all others refused, and exceptions are obeyed."""

from __future__ import annotations

import re

import pytest
from openai_asking import answer, ask
from scripted_server import Asked, Reply, ScriptedServer, chat

from harness import ModelError, ModelOptions, UsageError
from harness_plugins.models.openai import OpenAIModel
from harness_plugins.models.openai.proxies import proxy_for

FAR = "http://models.invalid:8000/v1"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def far(address: str = FAR) -> OpenAIModel:
    return OpenAIModel.create({"model": "small", "base_url": address, "api": "chat"}, ModelOptions())


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_server_is_asked_by_the_proxy(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    place = server.url.removeprefix("http://").removesuffix("/v1")
    monkeypatch.setenv(variable, scheme + place)
    assert answer(far(), ask()).text == "yes"
    assert server.asked[0].path == f"{FAR}/chat/completions"  # as a proxy is asked
    assert server.asked[0].headers["Host"] == "models.invalid:8000"


def test_a_proxy_that_wants_a_password_is_given_it_and_shows_it_to_nobody(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = server.url.removeprefix("http://").removesuffix("/v1")

    def proxy(asked: Asked) -> Reply:
        given = asked.headers.get("Proxy-Authorization")
        return chat("yes") if given == "Basic bWU6c2VjcmV0LXdvcmQ=" else Reply({"error": "no"}, 407)

    server.answer = proxy
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret-word@{place}")
    assert answer(far(), ask()).text == "yes"
    monkeypatch.setenv("HTTP_PROXY", f"http://me:other-word@{place}")
    with pytest.raises(ModelError, match=r"answers 407: no .the proxy wants a name and a password") as refused:
        answer(far(), ask())
    assert "other-word" not in str(refused.value)


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("socks5://me:secret@10.0.0.1:1080", "ALL_PROXY=socks5://10.0.0.1:1080: a proxy of this kind is not spoken to"),
        ("socks5h://10.0.0.1:1080/", "set HTTP_PROXY=http://HOST:PORT"),
        ("socks4://10.0.0.1:1080", "or NO_PROXY=models.invalid to go without"),
        ("ftp://10.0.0.1", "only those of HTTP"),
        ("http://:3128", "ALL_PROXY: ':3128' is no proxy"),
        ("http://me:secret@proxy:port", "ALL_PROXY: 'proxy:port' is no proxy"),
        ("http://[::1", "is no proxy"),
    ],
)
def test_what_is_no_proxy_of_http_is_one_line_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, proxy: str, said: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        far()
    assert "secret" not in str(refused.value)


def test_a_proxy_of_http_is_taken_before_one_of_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://10.0.0.1:1080")
    monkeypatch.setenv("HTTP_PROXY", "http://10.0.0.1:3128")
    assert proxy_for(FAR) == "http://10.0.0.1:3128"
    with pytest.raises(UsageError, match="HTTPS_PROXY=http"):
        proxy_for("https://models.invalid/v1")


@pytest.mark.parametrize(
    ("named", "url", "direct"),
    [
        ("*", FAR, True),
        ("models.invalid", FAR, True),
        ("other, models.invalid", FAR, True),
        (".invalid", FAR, True),
        ("invalid", FAR, True),
        ("models.invalid:8000", FAR, True),
        ("models.invalid:80", FAR, False),
        ("models.invalid:443", "https://models.invalid/v1", True),
        ("els.invalid", FAR, False),
        ("10.0.0.0/8", "http://10.1.2.3:8000/v1", True),
        ("10.0.0.0/8", "http://11.1.2.3:8000/v1", False),
        ("10.1.2.3", "http://10.1.2.3:8000/v1", True),
        ("fd00::/8", "http://[fd00::1]:8000/v1", True),
        ("[fd00::1]", "http://[fd00::1]:8000/v1", True),
        ("fd00::/8", "http://10.1.2.3:8000/v1", False),
        ("", FAR, False),
        ("10.0.0.0/99", "http://10.1.2.3:8000/v1", False),
    ],
)
@pytest.mark.parametrize("proxy", ["http://10.9.9.9:3128", "socks5://10.9.9.9:1080"])
def test_exceptions_go_without(monkeypatch: pytest.MonkeyPatch, named: str, url: str, direct: bool, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", named)
    if direct:
        assert proxy_for(url) is None
    elif proxy.startswith("http:"):
        assert proxy_for(url) == proxy
    else:
        with pytest.raises(UsageError):
            proxy_for(url)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]", "0.0.0.0"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_this_machine_is_asked_directly(monkeypatch: pytest.MonkeyPatch, host: str, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    assert proxy_for(f"http://{host}:8000/v1") is None


def test_a_proxy_that_is_not_there_is_named_as_what_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    reason = "ConnectionRefusedError: Connection refused (by the proxy 127.0.0.1:9)"
    said = f"cannot reach http://models.invalid:8000/v1: {reason}"
    with pytest.raises(UsageError, match=re.escape(said)):
        answer(far(), ask())
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    with pytest.raises(UsageError, match=re.escape("(by the proxy 127.0.0.1:9)")):
        answer(far(FAR.replace("http", "https")), ask())
