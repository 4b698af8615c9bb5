"""One policy for all that asks a server: what is asked again, after how long, and when it is enough."""

from __future__ import annotations

import pytest

from harness import RetriesExhausted, Retryable, RetryPolicy, UsageError, asked_pause


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made, which take no time."""
    pauses: list[float] = []
    monkeypatch.setattr("harness.retry.time.sleep", pauses.append)
    return pauses


class Server:
    """Fails as it is told, then answers."""

    def __init__(self, *failures: Retryable) -> None:
        self.failures = list(failures)

    def ask(self) -> str:
        if self.failures:
            raise self.failures.pop(0)
        return "rows"


def test_pauses_grow_and_vary_until_there_is_an_answer(slept: list[float]) -> None:
    server = Server(*(Retryable("it says 503") for _ in range(6)))
    assert RetryPolicy(retries=6, delay=1.0).call(server.ask) == "rows"
    assert all(0.5 * 2**number <= pause <= 2**number for number, pause in enumerate(slept))
    assert len(set(slept)) == 6


def test_it_is_enough_after_the_retries(slept: list[float]) -> None:
    with pytest.raises(RetriesExhausted, match="it says 500") as given_up:
        RetryPolicy(retries=2).call(Server(*(Retryable("it says 500") for _ in range(9))).ask)
    assert given_up.value.attempts == 3
    assert len(slept) == 2


def test_to_be_asked_for_fewer_requests_is_no_failure(slept: list[float]) -> None:
    server = Server(*(Retryable("it says 429", pause=2.0, throttled=True) for _ in range(20)))
    assert RetryPolicy(retries=0, total=300.0).call(server.ask) == "rows"
    assert all(2.0 <= pause <= 2.5 for pause in slept)


def test_nobody_waits_beyond_the_time_in_all(slept: list[float]) -> None:
    policy = RetryPolicy(retries=99, delay=1.0, total=100.0)
    with pytest.raises(RetriesExhausted, match="it says 503; it asks to wait 3600 s"):
        policy.call(Server(Retryable("it says 503", pause=3600.0)).ask)
    assert slept == []
    with pytest.raises(RetriesExhausted):
        policy.call(Server(*(Retryable("it says 503") for _ in range(99))).ask)
    assert 30 < sum(slept) < 100


def test_a_mistaken_delay_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RETRY_DELAY", "soon")
    with pytest.raises(UsageError, match="HARNESS_RETRY_DELAY=soon: is no number of seconds"):
        RetryPolicy.for_data()


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"Retry-After": "7"}, "", 7),
        ({"retry-after": "1.5"}, "Please try again in 36s", 1.5),
        ({"Retry-After-Ms": "250"}, "", 0.25),
        ({}, "Rate limit reached. Please try again in 36s.", 36),
        ({}, "Please try again in 1m2.5s.", 62.5),
        ({}, "Please retry after 120ms", 0.12),
        ({}, "请求过快，请 30 秒后重试", 30),
        ({}, "wait 2 minutes", 120),
        ({"x-ratelimit-reset-requests": "1m0s"}, "", 60),
        ({"x-ratelimit-reset-requests": "9s", "x-ratelimit-reset-tokens": "40ms"}, "", 9),
        (
            {
                "x-ratelimit-reset-requests": "50s",
                "x-ratelimit-remaining-requests": "12",
                "x-ratelimit-reset-tokens": "2s",
                "x-ratelimit-remaining-tokens": "0",
            },
            "",
            2,
        ),
        ({"RateLimit": '"api";r=0;t=55'}, "", 55),
        ({"RateLimit": '"api";r=17;t=55'}, "", None),
        ({"Retry-After": "soon"}, "", None),
        ({"Retry-After": "nan"}, "", None),
        ({"Retry-After": "-5"}, "", 0),
        ({"Retry-After": "Wed, 99 Foo 2026"}, "no", None),
        # Moments are of the server's clock, however far that is from the clock here.
        ({"Date": "Thu, 01 Jan 1998 00:00:00 GMT", "Retry-After": "Thu, 01 Jan 1998 00:00:30 GMT"}, "", 30),
        ({"Date": "Fri, 01 Jan 2100 00:00:00 GMT", "x-ratelimit-reset": "4102444845"}, "", 45),
        ({"Date": "now", "Retry-After": "12"}, "", 12),
        ({}, "try again later", None),
    ],
)
def test_for_how_long_a_server_asks_to_wait(headers: dict[str, str], message: str, seconds: float | None) -> None:
    assert asked_pause(headers, message) == (None if seconds is None else pytest.approx(seconds))
