"""Observations without a run: what a metric sees of a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from harness import Observation, Prompt, Request, Response, Sample


@pytest.fixture
def choice_seen() -> Callable[..., Observation]:
    """Observe a multiple-choice sample: `choice_seen(choices, target, logprobs)`."""

    def make(choices: Sequence[str], target: Any, logprobs: Sequence[float], **more: Any) -> Observation:
        greedy = more.pop("greedy", (False,) * len(logprobs))
        unconditional = more.pop("unconditional", ())
        sample = Sample("t", "", 0, {}, (), target, tuple(choices))
        responses = (Response(logprobs=tuple(logprobs), is_greedy=tuple(greedy)),)
        return Observation(sample, responses, (Response(logprobs=tuple(unconditional)),) if unconditional else ())

    return make


@pytest.fixture
def text_seen() -> Callable[..., Observation]:
    """Observe answers that were read from replies: `text_seen(target, answer, ...)`."""

    def make(target: Any, *answers: str | None, **fields: Any) -> Observation:
        sample = Sample("t", "", 0, {}, (), target, subset_fields=fields)
        return Observation(sample, tuple(Response(text=answer) for answer in answers), (), answers)

    return make


@pytest.fixture
def rolling_seen() -> Callable[..., Observation]:
    """Observe a text's log-probability: `rolling_seen(text, logprob)`."""

    def make(text: str, logprob: float) -> Observation:
        sample = Sample("t", "", 0, {}, (Request("rolling", Prompt(suffix=text)),), None)
        return Observation(sample, (Response(logprobs=(logprob,)),))

    return make


@pytest.fixture(scope="session")
def evaluate_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hugging Face's evaluate copies the code that it runs: not into the home folder here, and into one a process."""
    import evaluate

    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_MODULES_CACHE", "HF_METRICS_CACHE"):
            patch.setattr(evaluate.config, name, str(tmp_path_factory.mktemp(name.lower())))
        yield
