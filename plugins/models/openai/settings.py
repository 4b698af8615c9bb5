"""Reads the arguments of the model: typed at the door, each mistake named in one line, no secret shown."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from harness import RetryPolicy, Secret, UsageError, shown_url

from .pace import AUTO_MOST, Places
from .servers import Address

OPENAI = "https://api.openai.com/v1"
_ROUTES = {"/chat/completions": "chat", "/completions": "completions"}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


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


def names_secret(address: Address) -> bool:
    """Whether the address itself carries what opens the server: a password, or a key in its query."""
    return "@" in address.base.netloc or bool(parse_qsl(address.base.query))


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
