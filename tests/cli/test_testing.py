"""The checks that plugin authors use: silent on what keeps the contract, plain about what does not."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from harness import (
    Asked,
    Filter,
    Metric,
    Model,
    Modifier,
    Observation,
    Request,
    Response,
    RowScore,
    Sample,
    ScoreKey,
    View,
)
from harness.registry import load_plugins
from harness.testing import check_filter, check_metric, check_model, check_modifier, observation, run_harness

REGISTRY = load_plugins()


class Length(Metric):
    name = "length"
    output_types = frozenset({"generate_until"})

    def score(self, seen: Observation) -> Any:
        return float(len(seen.predictions[0] or ""))


class Parrot(Model):
    name = "parrot"
    supports = frozenset({"generate", "loglikelihood", "rolling"})

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in reversed(list(enumerate(requests))):
            n = max(1, len(request.continuations))
            yield (index, Response(text="8", logprobs=(-1.0,) * n, is_greedy=(True,) * n, token_counts=(1,) * n))


def test_what_keeps_the_contract_has_no_problems() -> None:
    assert check_metric(Length()) == []
    assert check_model(Parrot()) == []


def without_options(name: str) -> bool:
    """Whether a metric can be made as it is; the others are checked by the examples of their tasks."""
    if REGISTRY.metric(name).member.__func__ is not Metric.member.__func__:  # a family: only its members can
        return False
    parameters = inspect.signature(REGISTRY.metric(name)).parameters.values()
    named = [item for item in parameters if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)]
    return all(item.default is not item.empty for item in named)


PAIRS = [observation(gold, choices=("good", "bad"), logprobs=(-4.0, -6.0)) for gold in (0, 1)]
LABELLED = [observation("good", logprobs=(-4.0,), doc={"label": label}) for label in (True, False)]
OF_THEIR_OWN = {"reward_accuracy": PAIRS, "reward_margin": PAIRS, "reward_gap": LABELLED}
"""What metrics are given that take no plain question."""


@pytest.mark.parametrize("name", [*filter(without_options, REGISTRY.names("metric"))])
def test_our_own_metrics_keep_it(name: str) -> None:
    assert check_metric(REGISTRY.metric(name)(), OF_THEIR_OWN.get(name, ())) == []


def can_be_made(name: str) -> bool:
    parameters = inspect.signature(REGISTRY.filter(name)).parameters.values()
    if name == "refusal":  # it wants one of two options
        return False
    return all(item.default is not item.empty or item.kind is item.VAR_KEYWORD for item in parameters)


@pytest.mark.parametrize("name", [*filter(can_be_made, REGISTRY.names("filter"))])
def test_our_own_filters_keep_it(name: str) -> None:
    assert check_filter(REGISTRY.filter(name)()) == []


COUNT = itertools.count()


class Last(Filter):
    """The last word."""

    name = "last"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> Sequence[str | None]:
        return [None if reply is None or not reply.split() else reply.split()[-1] for reply in replies]


@pytest.mark.parametrize(
    ("apply", "problem"),
    [
        (lambda replies: [reply.split() for reply in replies], "filter 'last': apply"),
        (lambda replies: [reply.strip() for reply in replies], "apply raises AttributeError: 'NoneType' object has no"),
        (
            lambda replies: [str(int(reply or 0)) for reply in replies],
            "apply raises ValueError: invalid literal for int",
        ),
        (lambda replies: replies.gone, "apply raises AttributeError"),
        (lambda replies: replies[:1], "apply makes 1 of 6 replies, which 'joins' does not say"),
        (lambda replies: [], "it gave 0 answers for 1 replies"),
        (lambda replies: [str(next(COUNT)) for _ in replies], "for the same replies"),
        (lambda replies: "yes", "filter 'last': apply: "),
    ],
)
def test_a_filter_that_does_not(apply: Any, problem: str) -> None:
    assert check_filter(Last()) == []
    bad = type("Bad", (Last,), {"apply": lambda self, replies, sample: apply(replies)})()
    assert any(problem in found for found in check_filter(bad))


def test_our_dummy_keeps_it() -> None:
    assert check_model(REGISTRY.model("dummy")()) == []


@pytest.mark.parametrize(
    ("score", "problem"),
    [
        (lambda seen: "1", "score gives '1', not a finite number"),
        (lambda seen: float("nan"), "score gives nan, not a finite number"),
        (lambda seen: (1.0, 2.0), "score gives 2 numbers, which 'mean' cannot join; use 'self'"),
        (lambda seen: len(seen.predictions[0]), "score raises TypeError"),
        (lambda seen: object(), "and then"),
        (lambda seen: (1.0,) * (1 + isinstance(seen.sample.target, tuple)), "the count must be the same"),
    ],
)
def test_a_metric_that_does_not(score: Any, problem: str) -> None:
    bad = type("Bad", (Length,), {"score": lambda self, seen: score(seen)})()
    assert problem in check_metric(bad)[0]
    assert check_metric(bad)[0].startswith("metric 'length': ")


def test_a_metric_with_its_own_way_to_one_value() -> None:
    own = type("Own", (Length,), {"aggregation": "self", "score": lambda self, seen: (1.0, 2.0)})
    assert "must define from_means" in check_metric(own())[0]
    own.from_means = lambda self, means: means[0] / means[1]  # type: ignore[attr-defined]
    assert check_metric(own()) == []
    assert "unknown aggregation" in check_metric(type("Odd", (Length,), {"aggregation": "average"})())[0]
    assert "is no output type" in check_metric(type("Odd", (Length,), {"output_types": frozenset({"chat"})})())[0]


def test_a_metric_may_be_checked_on_ones_own_samples() -> None:
    class Half(Length):
        def score(self, seen: Observation) -> float:
            return float(str(seen.sample.doc["limit"])) / 2

    assert check_metric(Half(), [observation("x", "y", doc={"limit": 3})]) == []
    assert "KeyError" in check_metric(Half(), [observation("x", "y")])[0]
    assert check_metric(Half()) == [], "rows without its column say nothing about the metric"


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        (Response(), "a generate request needs a text in its response, not None"),
        (Response(text="8", error="busy"), "a plain generate request fails: busy"),
        (
            Response(text="8", logprobs=(-1.0,), token_counts=(1,)),
            "a loglikelihood response needs 3 values in logprobs",
        ),
        (Response(text="8", logprobs=(1.0,) * 3, token_counts=(1,) * 3), "log-probabilities are numbers of at most 0"),
    ],
)
def test_a_model_that_does_not(response: Response, problem: str) -> None:
    class Bad(Parrot):
        def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
            yield from ((index, response) for index, _ in enumerate(requests))

    assert any(problem in found for found in check_model(Bad()))


def test_a_model_that_forgets_a_request_or_changes_its_identity() -> None:
    class Forgetful(Parrot):
        count = 0

        @property
        def identity(self) -> Mapping[str, Any]:
            self.count += 1
            return {"asked": self.count}

        def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
            yield 0, Response(text="8")

    problems = check_model(Forgetful())
    assert any("where nothing was asked" in problem for problem in problems)
    assert any("where 3 requests were numbered" in problem for problem in problems)
    assert any("identity is another" in problem for problem in problems)


def test_a_model_that_raises_is_named() -> None:
    class Broken(Parrot):
        def load(self) -> None:
            raise OSError("no weights")

    assert check_model(Broken()) == ["model 'parrot': OSError: no weights"]


def test_commands_run_in_process() -> None:
    result = run_harness("--limit", "-3")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: --limit")


class Turned(Modifier):
    name = "turned"
    needs = frozenset({"options"})

    def views(self, asked: Asked) -> Sequence[View]:
        return [View(order=tuple(reversed(range(len(asked.options)))))]


class Twice(Turned):
    def views(self, asked: Asked) -> Sequence[View]:
        return [View(), View(wording=1)]


class Silent(Twice):
    several = True


class Odd(Turned):
    needs = frozenset({"optoins"})

    def views(self, asked: Asked) -> Sequence[View]:
        return [View(order=(0, 0))]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> Sequence[RowScore]:
        return [RowScore("half", "f2", Length())]


class Loud(Turned):
    def views(self, asked: Asked) -> Sequence[View]:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("modifier", "problems"),
    [
        (Turned(), []),
        (Twice(), ["modifier 'turned': views shows a row several times, which 'several' does not say"]),
        (
            Silent(),
            ["modifier 'turned': shows a row several times, and row_scores says nothing of all its views together"],
        ),
        (
            Odd(),
            [
                "modifier 'turned': needs names 'optoins', which no task says",
                "modifier 'turned': views orders three options as [0, 0]",
                "modifier 'turned': row_scores: 'half' is of 'f2', no score of the task",
            ],
        ),
        (Loud(), ["modifier 'turned': RuntimeError: no"]),
    ],
)
def test_a_modifier_that_breaks_the_contract_is_told_so(modifier: Modifier, problems: list[str]) -> None:
    assert check_modifier(modifier) == problems


@pytest.mark.parametrize("name", ["circular", "shuffle_options", "paraphrase", "no_question", "no_image"])
def test_our_own_modifiers_keep_it(name: str) -> None:
    assert check_modifier(REGISTRY.modifier(name)()) == []
