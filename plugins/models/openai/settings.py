"""Reads the arguments of the model: typed at the door, each mistake named in one line, no secret shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from harness import RetryPolicy, Secret, Thinking, UsageError, sealed, secrets_in, secrets_of_url, shown_url

from .flavours import PLAIN, Flavour, read_flavour
from .pace import AUTO_MOST, Places
from .pictures import MOST_FRAME_BYTES, PictureRule
from .servers import Address
from .sounds import SoundRule
from .thinking import DIALECTS as THINKING_DIALECTS
from .thinking import dialect_of
from .wire import MediaRules

APIS = ("auto", "chat", "completions")
DIALECTS = ("auto", "echo", "prompt_logprobs")
CHOICES = ("none", "top_logprobs")
OPENAI = "https://api.openai.com/v1"
_ROUTES = {"/chat/completions": "chat", "/completions": "completions"}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """The arguments of the model by their types; what they mean stands with `OpenAIModel`.

    at_one: requests at once at one server. patience: seconds for one reply. flavour: None where the server's list of
    models tells it. scores_labels: choices=top_logprobs.
    """

    model: str
    title: str | None
    addresses: Sequence[Address]
    key: Secret | None
    headers: Mapping[str, Secret]
    verify_certificate: bool | str
    http2: bool
    places: Places
    at_one: int
    patience: float
    retries: RetryPolicy
    api: str
    flavour: Flavour | None
    extra_body: Mapping[str, Any]
    omit: Sequence[str]
    stream: bool
    tokenizer: str | None
    max_length: int | None
    max_gen_toks: int | None
    dialect: str
    scores_labels: bool
    top_logprobs: int
    think_end_token: str | None
    thinking: Thinking
    thinking_dialect: str
    continue_final_message: bool
    batch_api: bool
    batch_requests: int
    batch_poll: float
    media: MediaRules

    @property
    def opens_server(self) -> bool:
        """Whether something is sent that may open a server: a key, headers, or what the address itself carries."""
        address = self.addresses[0].base
        return self.key is not None or bool(self.headers) or "@" in address.netloc or bool(parse_qsl(address.query))

    @property
    def sent_headers(self) -> Mapping[str, str]:
        """The headers of every request, secrets in clear; a header of the user's own goes before the key."""
        headers = {"Content-Type": "application/json"}
        if self.key is not None and "authorization" not in {name.lower() for name in self.headers}:
            headers["Authorization"] = f"Bearer {self.key.reveal()}"
        return headers | {name: value.reveal() for name, value in self.headers.items()}

    @property
    def secrets(self) -> Sequence[Secret]:
        """What is secret of all that is sent, which a server may repeat."""
        of_urls = (secret for each in self.addresses for secret in secrets_of_url(each.base.geturl()))
        keys = () if self.key is None else (self.key,)
        return [*keys, *self.headers.values(), *secrets_in(sealed(self.extra_body)), *of_urls]


def read_settings(given: Mapping[str, Any]) -> OpenAISettings:
    """The settings that all arguments of the model make, each of which is given. Raises UsageError."""
    addresses, implied = read_addresses(given["base_url"])
    places, at_one = read_places(given["num_concurrent"], len(addresses))
    flavour, told = read_flavour(str(given["flavour"])), given["thinking_dialect"]
    if one_of("thinking_dialect", told, THINKING_DIALECTS) == "auto":
        told = dialect_of(addresses[0].base.hostname or "") if flavour in (None, PLAIN) else flavour.thinking
    omit, tokenizer, new = given["omit"], given["tokenizer"], given["max_gen_toks"]
    # An address that carries a user and a password is opened by these, whatever key stands in the environment.
    has_own_key = given["api_key"] is not None or not any(map(_has_user, addresses))
    frames = PictureRule(given["max_frame_pixels"], MOST_FRAME_BYTES)
    settings = OpenAISettings(
        model=str(given["model"]),
        title=None if given["name"] is None else str(given["name"]),
        addresses=addresses,
        key=read_key(given["api_key"]) if has_own_key else None,
        headers=read_headers(given["headers"]),
        verify_certificate=given["verify_certificate"],
        http2=flag("http2", given["http2"]),
        places=places,
        at_one=at_one,
        patience=number("timeout", given["timeout"], 0.001),
        retries=read_retries(given["total_timeout"], given["max_retries"], given["retry_delay"]),
        api=one_of("api", implied if given["api"] == "auto" and implied else given["api"], APIS),
        flavour=flavour,
        extra_body=json_object("extra_body", given["extra_body"]),
        omit=tuple(omit.split("+")) if isinstance(omit, str) else tuple(omit),
        stream=flag("stream", given["stream"]),
        tokenizer=None if tokenizer is None else str(tokenizer),
        max_length=read_max_length(given["max_length"], tokenizer),
        max_gen_toks=None if new is None else whole("max_gen_toks", new, 1),
        dialect=one_of("logprobs", given["logprobs"], DIALECTS),
        scores_labels=one_of("choices", given["choices"], CHOICES) == "top_logprobs",
        top_logprobs=whole("top_logprobs", given["top_logprobs"], 2),
        think_end_token=given["think_end_token"],
        thinking=Thinking.of(given["thinking"], given["reasoning_effort"], given["thinking_budget"]),
        thinking_dialect=told,
        continue_final_message=flag("continue_final_message", given["continue_final_message"]),
        batch_api=flag("batch_api", given["batch_api"]),
        batch_requests=whole("batch_requests", given["batch_requests"], 1),
        batch_poll=number("batch_poll", given["batch_poll"], 0.001),
        media=MediaRules(PictureRule(given["max_image_pixels"], given["max_image_bytes"]), frames, SoundRule()),
    )
    _refuse_contradictions(settings)
    return settings


def _refuse_contradictions(settings: OpenAISettings) -> None:
    """Raise UsageError for arguments that do not go together."""
    if settings.batch_api and len(settings.addresses) > 1:
        raise UsageError("--batch_api: a batch is of one server: name one by base_url=")
    if any(map(_has_user, settings.addresses)) and "Authorization" in _titled(settings.sent_headers):
        raise UsageError(
            "--model_args base_url: it carries a user and a password, and api_key= or headers= says an Authorization "
            "too, of which a request has one: leave one of them out"
        )
    if settings.batch_api and settings.stream:
        raise UsageError("--batch_api: a batch has no replies in pieces: leave stream=true out")
    if settings.scores_labels and settings.api != "chat":
        raise UsageError("--model_args: choices=top_logprobs is of the chat API: add api=chat")


def _has_user(address: Address) -> bool:
    return "@" in address.base.netloc


def _titled(headers: Mapping[str, str]) -> set[str]:
    return {name.title() for name in headers}


def read_address(base_url: str | None) -> tuple[Address, str]:
    """The server's address, and the API that it names when it is the address of a route.

    Without one, OPENAI_BASE_URL, as OpenAI's own client has it. A query (`?api-version=...`) follows every route.
    """
    where = "--model_args base_url" if base_url is not None else "OPENAI_BASE_URL"
    url = (base_url if base_url is not None else os.environ.get("OPENAI_BASE_URL") or OPENAI).strip()
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(f"{where}={shown_url(url)}: expected http://HOST:PORT/v1 or https://...")
    path = parts.path.rstrip("/")
    route = next((route for route in _ROUTES if path.endswith(route)), "")
    base = SplitResult(parts.scheme, parts.netloc, path.removesuffix(route), parts.query, "")
    return Address(base, shown_url(base.geturl())), _ROUTES.get(route, "")


def read_addresses(base_url: str | Sequence[str] | None) -> tuple[list[Address], str]:
    """The addresses of the servers that share the work, and the API that they name. Raises UsageError."""
    given = [base_url] if base_url is None or isinstance(base_url, str) else list(map(str, base_url))
    if isinstance(base_url, str) and "," in base_url:
        given = [part.strip() for part in base_url.split(",") if part.strip()]
    read = [read_address(url) for url in given]
    addresses = [address for address, _ in read]
    shown = [address.shown for address in addresses]
    if twice := next((each for number, each in enumerate(shown) if each in shown[:number]), None):
        raise UsageError(f"--model_args base_url: {twice} is given twice")
    if len({implied for _, implied in read}) > 1 or len({str(deployment(each)) for each in addresses}) > 1:
        raise UsageError(
            "--model_args base_url: the addresses name different routes or deployments: give each up to /v1"
        )
    return addresses, read[0][1]


def deployment(address: Address) -> dict[str, str]:
    """The model that the address itself names, as Azure's do: there the model of a request's body may be anything."""
    named = re.search(r"/deployments/([^/]+)", address.base.path)
    return {"deployment": named[1]} if named else {}


def read_key(given: str | None) -> Secret | None:
    """The key: given, or the environment's. White space around it came with the copying."""
    where = "--model_args api_key" if given is not None else "OPENAI_API_KEY"
    key = (str(given) if given is not None else os.environ.get("OPENAI_API_KEY", "")).strip()
    if not key:
        return None
    if odd := next((place for place, character in enumerate(key, 1) if not "!" <= character <= "~"), None):
        raise UsageError(
            f"{where}: character {odd} of the key is one that no key has (a space, a line break, a curly quote, ...): "
            "copy the key again"
        )
    return Secret(key)


def read_headers(given: Mapping[str, Any] | str | None) -> dict[str, Secret]:
    """Further headers, their values stripped. Raises UsageError for what no header can hold."""
    headers = {}
    for name, value in json_object("headers", given).items():
        text = str(value).strip()
        if not _HEADER_NAME.fullmatch(name):
            raise UsageError(f"--model_args headers: {name!r} is no name of a header")
        if not all(" " <= character <= "~" or character == "\t" for character in text):
            raise UsageError(
                f"--model_args headers: the value of '{name}' has a character that no header can hold "
                "(not ASCII, or a line break): encode it, as in %E8%AF%84"
            )
        headers[name] = Secret(text)
    return headers


def read_places(num_concurrent: int | str, servers: int) -> tuple[Places, int]:
    """How many samples are asked at once, and how many of them at one server; `auto`: as many as keep being quick."""
    adapts = num_concurrent == "auto"
    most = AUTO_MOST if adapts else whole("num_concurrent", num_concurrent, 1)
    return Places(most * servers, adapts), most


def read_retries(total_timeout: float, max_retries: int, retry_delay: float) -> RetryPolicy:
    return RetryPolicy(
        total=number("total_timeout", total_timeout, 0.001),
        retries=whole("max_retries", max_retries, 0),
        delay=number("retry_delay", retry_delay, 0),
    )


def read_max_length(given: int | None, tokenizer: str | None) -> int | None:
    """Tokens of prompt and answer, which only a tokenizer can count."""
    length = None if given is None else whole("max_length", given, 2)
    if length is not None and tokenizer is None:
        raise UsageError("--model_args: max_length counts tokens, so it needs tokenizer=DIR too")
    return length


def one_of(name: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise UsageError(f"--model_args: {name} must be one of {', '.join(known)}, not '{value}'")
    return str(value)


def number(name: str, value: Any, least: float, *, whole: bool = False) -> float:
    right = isinstance(value, int) or (isinstance(value, float) and not whole)
    if not right or isinstance(value, bool) or not least <= value < float("inf"):
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"--model_args: {name} must be {kind} of at least {least:g}, not {value!r}")
    return float(value)


def whole(name: str, value: Any, least: int) -> int:
    return int(number(name, value, least, whole=True))


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"--model_args: {name} must be true or false, not {value!r}")
    return value


def json_object(name: str, value: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            where = f" (character {error.pos + 1}: {error.msg})" if isinstance(error, json.JSONDecodeError) else ""
            raise UsageError(f"--model_args: {name} must be a JSON object{where}") from None
    if value is not None and not isinstance(value, Mapping):
        raise UsageError(f"--model_args: {name} must be a JSON object, not {type(value).__name__}")
    return {str(key): item for key, item in (value or {}).items()}
