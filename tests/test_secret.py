"""Keys, passwords and tokens never show: not printed, not in a command line, not in an address."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError
from harness.secret import (
    Secret,
    is_secret_name,
    revealed,
    sealed,
    secrets_of_command,
    shown,
    shown_command,
    shown_url,
)

KEY = "sk-Abc123/+=xyz"


def test_a_secret_does_not_print() -> None:
    secret = Secret(KEY)
    for text in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>20}",
        repr([secret]),
        repr({"a": secret}),
    ):
        assert KEY not in text and "***" in text
    assert secret.reveal() == KEY and secret == Secret(KEY) and secret != KEY
    with pytest.raises(TypeError):
        json.dumps(secret)


@pytest.mark.parametrize(
    "name",
    ["api_key", "api-key", "apikey", "key", "X-Api-Key", "Ocp-Apim-Subscription-Key", "token", "hf_token", "password",
     "Authorization", "client_secret", "cookie", "sig", "access_token"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name) and is_secret_name(name.upper())


@pytest.mark.parametrize(
    "name", ["think_end_token", "tokenizer", "max_tokens", "eos_token", "keyboard", "model", "monkey", "api-version"]
)
def test_names_of_other_things(name: str) -> None:
    assert not is_secret_name(name)


def test_secrets_are_sealed_at_any_depth_and_come_back() -> None:
    given_args = {
        "api_key": KEY,
        "headers": {"X-Team": "blue", "Authorization": f"Bearer {KEY}"},
        "extra_body": {"top_k": 3, "provider": {"api_key": KEY, "tokens": ["a"]}},
        "default_headers": '{"X-A": "' + KEY + '"}',
        "model": "m",
    }
    held = sealed(given_args)
    assert KEY not in repr(held) and "blue" not in repr(held) and held["model"] == "m"
    assert KEY not in json.dumps(shown(held))
    back = revealed(held)
    assert back["api_key"] == KEY and back["extra_body"] == given_args["extra_body"]


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("http://user:pass@host:80/v1", "http://***@host:80/v1"),
        ("https://host/v1?api-version=1&api-key=abc&sig=x", "https://host/v1?api-version=1&api-key=***&sig=***"),
        ("https://host/v1", "https://host/v1"),
        ("http://[bad", "http://[bad"),
    ],
)
def test_addresses(url: str, seen: str) -> None:
    assert shown_url(url) == seen
    assert str(DataError(f"cannot reach {url} at all")) == f"cannot reach {seen} at all"


@pytest.mark.parametrize(
    "argument",
    [
        f"model=m,api_key={KEY},num_concurrent=2",
        f"api_key='{KEY}'",
        f'{{"model": "m", "api_key": "{KEY}"}}',
        f'model=m,headers={{"X-Anything": "{KEY}"}}',
        f'extra_body={{"provider": {{"token": "{KEY}"}}}}',
        f"openai,model=m,api_key={KEY}",
        f"base_url=http://user:{KEY.replace('/', '')}@host/v1",
        f"base_url=http://host/v1?api-key={KEY},model=m",
        f"Authorization: Bearer {KEY}",
    ],
)
def test_a_command_line_shows_no_secret_and_its_errors_hide_them(argument: str) -> None:
    key = KEY.replace("/", "") if "user:" in argument else KEY
    assert key in argument
    seen = shown_command(["harness", "--model_args", argument])
    assert key not in seen and "***" in seen and "--model_args" in seen
    message = f"something went wrong with {key} here"
    for secret in secrets_of_command([argument]):
        message = secret.hide_in(message)
    assert key not in message


def test_a_flag_that_is_none_hides_its_value_too() -> None:
    assert KEY not in shown_command(["harness", "--api_key", KEY])


@given(st.text(min_size=4, max_size=12), st.text(max_size=20), st.text(max_size=20))
def test_whatever_the_secret_it_is_hidden_where_it_stands_alone(value: str, before: str, after: str) -> None:
    hidden = Secret(value).hide_in(f"{before} {value} {after}")
    assert value in f"{before} {after}" or value in "***" or f" {value} " not in hidden


def test_a_short_placeholder_is_hidden_in_no_word() -> None:
    assert Secret("x").hide_in("use max_completion_tokens") == "use max_completion_tokens"
    assert Secret("token").hide_in("max_tokens of a token") == "max_tokens of a ***"
