"""The way to a server: its address, whom to trust, and replies that never end."""

from __future__ import annotations

import base64
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai_asking import answer, answers, ask, make
from scripted_server import Asked, Reply, ScriptedServer, chat, error

from harness import ModelError, UsageError
from harness_plugins.models.openai import OpenAIModel


@pytest.mark.parametrize(
    "address",
    ["{url}?api-version=2024-10-21", "{url}/chat/completions?api-version=2024-10-21", "{url}/?api-version=2024-10-21"],
)
def test_a_query_follows_every_route(server: ScriptedServer, address: str) -> None:
    model = make(None, base_url=address.format(url=server.url))
    assert answer(model, ask()).text == "yes"
    assert server.asked[0].path == "/v1/chat/completions?api-version=2024-10-21"
    assert "2024-10-21" not in str(model.identity)


def test_a_user_and_a_password_in_the_address_go_before_the_key_of_the_environment(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-place")
    address = server.url.replace("://", "://me:hunter2@")
    assert answer(make(None, base_url=address, api_key=None), ask()).text == "yes"
    sent = server.asked[0].headers["Authorization"]
    assert sent == f"Basic {base64.b64encode(b'me:hunter2').decode()}"
    server.script(error(400, f"not with {sent}, me:hunter2"))
    said = str(answer(make(None, base_url=address, api_key=None), ask()).error)
    assert "hunter2" not in said and sent.split()[1] not in said
    for both in ({"api_key": "sk-secret"}, {"headers": {"authorization": "Bearer x"}, "api_key": None}):
        with pytest.raises(UsageError, match="leave one of them out") as refused:
            make(None, base_url=address, **both)
        assert "hunter2" not in str(refused.value)


def test_openai_base_url_is_obeyed_and_an_argument_wins(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert answer(make(None), ask()).text == "yes"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert answer(make(server), ask()).text == "yes"
    monkeypatch.setenv("OPENAI_BASE_URL", "nonsense")
    with pytest.raises(UsageError, match="OPENAI_BASE_URL=nonsense"):
        make(None)


def test_the_address_is_no_part_of_the_model(server: ScriptedServer) -> None:
    other = ScriptedServer()
    try:
        assert make(server).identity == make(other).identity
        assert make(None, base_url="http://127.0.0.1:9/v1").identity == make(other).identity
        assert make(server, model="large").identity != make(server).identity
    finally:
        other.close()


def test_what_a_server_says_of_its_weights_tells_two_models_of_one_name_apart(server: ScriptedServer) -> None:
    server.models = Reply({"data": [{"id": "small", "root": "/checkpoints/100", "created": 1}]})
    first = make(server).identity
    server.models = Reply({"data": [{"id": "small", "root": "/checkpoints/100", "created": 2}]})
    assert make(server).identity == first
    server.models = Reply({"data": [{"id": "small", "root": "/checkpoints/200"}]})
    assert make(server).identity != first
    named = make(server, name="checkpoint-100").identity
    server.models = error(404)
    assert make(server, name="checkpoint-100", model="other").identity == named != make(server).identity


def test_a_deployment_in_the_address_is_a_model(server: ScriptedServer) -> None:
    one, two = (make(None, base_url=f"{server.url}/openai/deployments/{name}") for name in ("tuned", "plain"))
    assert one.identity != two.identity


# Whom to trust.


@pytest.fixture(autouse=True)
def _no_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_a_certificate_of_nobody_is_refused_with_the_remedy(secure: ScriptedServer) -> None:
    with pytest.raises(UsageError, match=r"certificate is not trusted.*REQUESTS_CA_BUNDLE.*verify_certificate=false"):
        make(None, base_url=secure.url.replace("http:", "https:")).load()


@pytest.mark.parametrize("how", ["false", "file", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_whom_to_trust_can_be_said_also_on_this_machine(
    secure: ScriptedServer, certificate: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bundle = f"{certificate}.crt"
    args = {"false": {"verify_certificate": False}, "file": {"verify_certificate": bundle}}.get(how, {})
    if not args:
        monkeypatch.setenv(how, bundle)
    assert answer(make(None, base_url=secure.url.replace("http:", "https:"), **args), ask()).text == "yes"


def test_a_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="verify_certificate"):
        make(None, base_url="https://127.0.0.1/v1", verify_certificate=str(tmp_path / "gone.pem"))


# Replies without end.


def bomb(megabytes: int) -> Reply:
    """So many megabytes of spaces in gzip: one block again and again, for which the test itself takes no memory."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    block = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    return Reply(gzip.compress(b"")[:10] + block * megabytes, headers={"Content-Encoding": "gzip"})


def test_a_compressed_reply_without_end_fails_alone_and_takes_no_memory(server: ScriptedServer) -> None:
    import resource

    packed = bomb(600)
    server.answer = lambda asked: packed if "odd" in str(asked.body) else chat("yes")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, odd, last = answers(make(server), [ask("a"), ask("odd"), ask("b")])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (first.text, last.text) == ("yes", "yes")
    assert odd.error is not None and "longer than 64 MB" in odd.error and len(server.asked) == 3
    assert grown < 400 * 1024


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Starts servers that do as they like with a connection once a request has come."""
    opened: list[socket.socket] = []
    ended = threading.Event()

    def start(behave: Callable[[socket.socket], None]) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        opened.append(listening)

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listening.accept()
                    opened.append(connection)
                    connection.recv(65536)
                    behave(connection)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

    yield start
    ended.set()
    for each in opened:
        each.close()


def drip(data: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        for _ in range(400):
            connection.sendall(data)
            time.sleep(0.01)

    return behave


@pytest.mark.parametrize(
    "behave",
    [
        drip(b"H"),
        drip(b"X-A: b\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nX: "),
        lambda connection: None,
    ],
)
def test_headers_that_never_end_do_not_outlive_the_timeout(
    raw: Callable[[Callable[[socket.socket], None]], str], behave: Callable[[socket.socket], None]
) -> None:
    model = make(None, base_url=raw(behave), timeout=0.3, max_retries=0)
    started = time.monotonic()
    (response,) = (response for _, response in model.respond([ask()]))
    assert response.error is not None and "\n" not in response.error
    assert time.monotonic() - started < 3


# Waiting, and stopping early.


def test_what_is_waited_for_is_said(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness_plugins.models.openai.background.QUIET", 0.05)
    server.script(error(429, "slow down", Retry_After="0.5"), chat("yes"))
    said: list[str] = []
    model = make(server)
    model.say = said.append
    assert answer(model, ask()).text == "yes"
    assert said and "a request waits" in said[0] and "slow down" in said[0]


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("Unsupported value: 'temperature' does not support 0 with this model.", "omit=temperature"),
        ("Unsupported parameter: `stop` is not supported", "omit=stop"),
        ("extra fields not permitted: temperature", "omit=temperature"),
        ("The model `small` does not exist", "model=NAME"),
    ],
)
def test_a_cause_that_all_requests_share_ends_the_run_early(server: ScriptedServer, message: str, remedy: str) -> None:
    server.script(error(400, message))
    with pytest.raises(ModelError, match=f"first 3 requests all fail alike.*{remedy}"):
        answers(make(server), [ask(str(n), until=("\n",)) for n in range(50)])
    assert len(server.asked) == 3


def test_prompts_that_fail_for_reasons_of_their_own_end_nothing(server: ScriptedServer) -> None:
    reasons = ["maximum context length is 8192 tokens", "content_filter", "this image cannot be read"]

    def reply(asked: Asked) -> Reply:
        return error(400, reasons[asked.number % 3])

    server.answer = reply
    assert all(response.error for response in answers(make(server), [ask(str(n)) for n in range(30)]))


def test_a_prompt_that_fails_after_an_answer_ends_nothing(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat("yes") if asked.number == 0 else error(400, "'stop' is not supported")
    model: OpenAIModel = make(server)
    assert sum(response.error is None for response in answers(model, [ask(str(n)) for n in range(12)])) == 1
