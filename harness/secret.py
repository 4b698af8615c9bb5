"""Keys, passwords and tokens: values that a program uses and never shows.

From the parser on they are `Secret`s, which print as `***`. What is made of text (a command line, a URL, a server's
message) goes through `shown_command`, `shown_url` or `Secret.hide_in` before anybody sees it or it is written down.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

MASK = "***"
# Names of arguments, fields, headers and query parameters whose value is a secret. `think_end_token` is none.
_NAME = (
    r"(?:[\w-]*[_-])?(?:api[_-]?|access[_-]?|secret[_-]?|private[_-]?|subscription[_-]?|auth[_-]?|account[_-]?|shared[_-]?)?key"
    r"|apikey|(?:[\w-]*[_-])?(?:api|hf|hub|auth|access|bearer|session|security|refresh|id|github|x)[_-]?token|token"
    r"|(?:[\w-]*[_-])?(?:password|passwd|passphrase|pwd|secret|credentials?|authori[sz]ation|cookies?|signature|sig|sas)"
)
_SECRET_NAME = re.compile(rf"(?:{_NAME})", re.I)
_ALL_SECRET = ("header", "headers", "default_headers", "extra_headers")
_QUOTED = r"\\?\"(?:[^\"\\]|\\[^\"])*\\?\"|'[^']*'"
# A value without quotes ends where the next argument begins.
_PAIR = re.compile(
    rf"(?<![\w.-])((?:{_NAME})\\?[\"']?\s*[=:]\s*)"
    rf"({_QUOTED}|\\?[\"'][^\"']*|(?:(?!,\s*[\w.-]+\s*[=:])[^}}\]\"'&\n])+)",
    re.I,
)
_HEADERS = re.compile(rf"(?<![\w.-])((?:{'|'.join(_ALL_SECRET)})\\?[\"']?\s*[=:]\s*)\{{[^}}]*\}}?", re.I)
_BEARER = re.compile(r"(\b(?:bearer|basic)\s+)[^\s,'\"}]+", re.I)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+", re.I)
_QUERY = re.compile(rf"([?&;](?:{_NAME}|code)=)[^&;#\s'\",]*", re.I)
_LONG_ENOUGH = 4
"""Characters. A shorter value is a placeholder (`x`), and is part of too many words to be found in a text."""


class Secret:
    """A text that does not show: not by print, not in a traceback's locals, not as JSON."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._value

    def hide_in(self, text: str) -> str:
        """The text with `***` wherever it repeats the secret as a word of its own: `key` is not hidden in `monkey`."""
        for written in _ways_to_write(self._value):
            before = r"(?<![A-Za-z0-9])" if written[0].isalnum() else ""
            after = r"(?![A-Za-z0-9])" if written[-1].isalnum() else ""
            text = re.sub(f"{before}{re.escape(written)}{after}", MASK, text)
        return text

    def __repr__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def is_secret_name(name: str) -> bool:
    """Whether an argument, field, header or query parameter of this name holds a secret."""
    return _SECRET_NAME.fullmatch(name) is not None


def sealed(value: Any, name: str = "") -> Any:
    """The value with every text that is secret by its name as a `Secret`, at any depth; all headers are."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        inner = _parsed(value)
        hidden = None if inner is None else sealed(inner, name)
        return value if next(secrets_in(hidden), None) is None else hidden
    if isinstance(value, Mapping):
        whole = name.lower() in _ALL_SECRET
        return {key: sealed(item, "key" if whole else str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(sealed(item, name) for item in value)
    secret = is_secret_name(name) and value is not None and not isinstance(value, Secret | bool)
    return Secret(str(value)) if secret else value


def revealed(value: Any) -> Any:
    """The opposite of `sealed`, for what is handed to whoever uses it."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return {key: revealed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(revealed(item) for item in value)
    return value


def shown(value: Any) -> Any:
    """The value as it may be written down: `***` for secrets, also inside URLs."""
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, Mapping):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return shown_urls(value) if isinstance(value, str) else value


def secrets_in(value: Any) -> Iterator[Secret]:
    """Every `Secret` in a value."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from secrets_in(item)


def shown_url(url: str) -> str:
    """An address without its password and without the keys of its query."""
    try:
        parts = urlsplit(url)
        user, at, host = parts.netloc.rpartition("@")
        if at:  # else it stays as it is written: unix:///x.sock
            url = parts._replace(netloc=f"{MASK if user else ''}{at}{host}").geturl()
    except ValueError:
        url = re.sub(r"//[^/]*@", f"//{MASK}@", url)
    return _QUERY.sub(rf"\g<1>{MASK}", url)


def shown_urls(text: str) -> str:
    """A text with every address in it as it may be shown."""
    return _URL.sub(lambda found: shown_url(found[0]), text) if "://" in text else text


def shown_command(arguments: Sequence[str]) -> str:
    """A command line that one may see and write down: to be completed by whoever runs it again."""
    written, flag = [], ""
    for argument in arguments:
        written.append(MASK if flag and is_secret_name(flag.lstrip("-")) else shown_argument(argument))
        flag = argument if argument.startswith("--") and "=" not in argument else ""
    return shlex.join(written)


def shown_argument(text: str) -> str:
    """One argument without the secrets that names inside it tell of."""
    text = _HEADERS.sub(rf"\g<1>{{{MASK}}}", shown_urls(text))
    return _BEARER.sub(rf"\g<1>{MASK}", _PAIR.sub(rf"\g<1>{MASK}", text))


def secrets_of_command(arguments: Sequence[str]) -> list[Secret]:
    """The secrets in a command line, to be hidden in whatever is said about it."""
    values: list[str] = []
    for argument in arguments:
        values += [match[2].strip("\\\"'") for match in _PAIR.finditer(argument)]
        for match in _HEADERS.finditer(argument):
            values += re.findall(r":\s*\\?[\"']([^\"'\\]*)", match[0])
        values += [secret.reveal() for match in _URL.finditer(argument) for secret in secrets_of_url(match[0])]
    values += [value.split()[-1] for value in values if value.lower().startswith(("bearer ", "basic "))]
    return [Secret(value) for value in sorted(set(values), key=len, reverse=True) if len(value) >= _LONG_ENOUGH]


def secrets_of_url(url: str) -> list[Secret]:
    """The user and password of an address, as it writes them and as they are sent, and the keys of its query."""
    user, _, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    plain = unquote(user)
    basic = base64.b64encode(plain.encode()).decode()  # RFC 7617
    of_user = [user, user.partition(":")[2], plain, unquote(user.partition(":")[2]), basic]
    parts = [*of_user, *(match[0].partition("=")[2] for match in _QUERY.finditer(url))]
    return [Secret(value) for value in dict.fromkeys(parts) if value]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _ways_to_write(value: str) -> list[str]:
    """As it is, inside JSON, inside a URL, and as `shlex.quote` writes it; nothing for a placeholder."""
    if len(value) < _LONG_ENOUGH:
        return []
    ways = (value, json.dumps(value)[1:-1], quote(value, safe=""), value.replace("'", "'\"'\"'"))
    return sorted(set(ways), key=len, reverse=True)
