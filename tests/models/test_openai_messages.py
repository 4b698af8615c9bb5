"""What services say is understood: a prompt that is too long, an account without money."""

from __future__ import annotations

import json

import pytest

from harness_plugins.models.openai.errors import is_overflow, is_unpaid, parse_error


@pytest.mark.parametrize(
    "message",
    [
        "Input length (5000 tokens) exceeds the maximum allowed length (4096 tokens). Use a shorter input.",
        "The input length is 9000, which exceeds the KV memory budget of 4096 tokens.",
        "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000",
        "input length and `max_tokens` exceed context limit: 199000 + 21333 > 200000",
        "Total tokens of image and text exceed max message tokens.",
        "length of prompt_tokens (40000) must be less than max_seq_len (32768).",
        "Prompt exceeds max length",
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
        "the prompt token length 9000 exceeds the session length 8192",
        "The number of tokens in prompt exceed the limit",
        "Please reduce the length of the messages.",
    ],
)
def test_a_prompt_that_is_too_long_is_called_so(message: str) -> None:
    assert is_overflow(parse_error(json.dumps({"error": {"message": message}}).encode()))


def test_a_prompt_that_is_too_long_is_called_so_by_the_errors_name() -> None:
    error = {"error": {"code": "context_length_exceeded", "message": "Your request was refused."}}
    assert is_overflow(parse_error(json.dumps(error).encode()))


@pytest.mark.parametrize(
    "message",
    [
        "Input tokens per minute limit exceeded. Try again in 2s.",
        "You exceeded your current quota, please check your plan.",
        "max_tokens must be at least 1",
        "The model `long-context` does not exist",
    ],
)
def test_other_refusals_are_no_long_prompt(message: str) -> None:
    assert not is_overflow(parse_error(json.dumps({"error": {"message": message}}).encode()))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
        (403, {"error": {"code": "AccountOverdueError", "message": "your account has an overdue balance."}}),
        (429, {"error": {"code": "SetLimitExceeded", "message": "the model service has been paused."}}),
        (403, {"error": {"code": "AllocationQuota.FreeTierOnly", "message": "The free tier has been exhausted."}}),
        (400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access it."}}),
    ],
)
def test_an_account_without_money_is_told_from_a_limit(status: int, error: dict[str, object]) -> None:
    assert is_unpaid(parse_error(json.dumps(error).encode()), status)


def test_a_limit_a_minute_and_a_prompt_about_money_are_no_account_without_any() -> None:
    limit = {"error": {"code": "rate_limit_exceeded", "message": "Rate limit reached. Try again in 2s."}}
    prompt = {"error": {"code": "bad", "message": "invalid text: your account balance is insufficient"}}
    assert not is_unpaid(parse_error(json.dumps(limit).encode()), 429)
    assert not is_unpaid(parse_error(json.dumps(prompt).encode()), 400)
