"""What breaks the contract of a plugin fails one sample, or ends the run in one line, and is named with its field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import Filter, Metric, Model, ModelError, Observation, Request, Response, Sample, hookimpl
from harness.registry import Registry, load_plugins
from harness.run.answers import answers, checked_response
from harness.run.runner import run
from harness.run.spec import RunSpec
from harness.types import Prompt

SCORED = Request("loglikelihood", Prompt("a"), (" b", " c"))
ROLLING = Request("rolling", Prompt("a"))
GENERATED = Request("generate", Prompt("a"))
FINE = Response(logprobs=(-1.0, -2.0), is_greedy=(True, False), token_counts=(1, 1))


class Given(Model):
    """Answers with what a test gives it."""

    name = "given"
    supports = frozenset({"loglikelihood", "generate"})

    def __init__(self, given: Any) -> None:
        self.given = given

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        return self.given(requests) if callable(self.given) else iter(self.given)


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    found = checked_response(
        Response(
            logprobs=np.array([-1.0, -2.0], dtype=np.float32),  # type: ignore[arg-type]
            is_greedy=[np.bool_(True), torch.tensor(False)],  # type: ignore[arg-type]
            token_counts=torch.tensor([1, 2]),  # type: ignore[arg-type]
            prompt_tokens=np.int64(3),  # type: ignore[arg-type]
            seconds=torch.tensor(0.5),  # type: ignore[arg-type]
        ),
        SCORED,
        "mine",
    )

    assert found == Response(
        logprobs=(-1.0, -2.0), is_greedy=(True, False), token_counts=(1, 2), prompt_tokens=3, seconds=0.5
    )
    assert json.dumps([found.logprobs, found.is_greedy, found.token_counts, found.prompt_tokens, found.seconds])


@pytest.mark.parametrize(
    ("request_", "response", "said"),
    [
        (GENERATED, None, "an answer is a Response, not None"),
        (GENERATED, "text", "an answer is a Response, not 'text' (str)"),
        (GENERATED, Response(), "text is None, where an answer is to be generated"),
        (GENERATED, Response(text=5), "text is a text, not 5 (int)"),
        (GENERATED, Response(text=b"5"), "text is a text, not b'5' (bytes)"),
        (GENERATED, Response(text="5", reasoning=1), "reasoning is a text, not 1 (int)"),
        (GENERATED, Response(text="5", completion_tokens=1.5), "completion_tokens is a whole number, not 1.5 (float)"),
        (GENERATED, Response(text="5", prompt_tokens="3"), "prompt_tokens is a whole number, not '3' (str)"),
        (GENERATED, Response(text="5", seconds=float("nan")), "seconds is nan, which is not a finite number"),
        (GENERATED, Response(text="5", truncated=None), "truncated is a whole number, not None"),
        (SCORED, replace(FINE, logprobs=(-1.0,)), "logprobs has 1 values, where 2 are asked for"),
        (SCORED, replace(FINE, logprobs=None), "logprobs is a tuple, not None"),
        (SCORED, replace(FINE, logprobs=-1.0), "logprobs is a tuple, not -1.0 (float)"),
        (SCORED, replace(FINE, logprobs="ab"), "logprobs is a tuple, not 'ab' (str)"),
        (SCORED, replace(FINE, logprobs=(-1.0, "-2")), "logprobs[1] is a number, not '-2' (str)"),
        (SCORED, replace(FINE, logprobs=(-1.0, None)), "logprobs[1] is a number, not None"),
        (SCORED, replace(FINE, logprobs=(-1.0, float("nan"))), "logprobs[1] is nan"),
        (SCORED, replace(FINE, logprobs=(-1.0, float("-inf"))), "logprobs[1] is -inf"),
        (SCORED, replace(FINE, logprobs=(0.7, -1.0)), "logprobs has 0.7: log-probabilities are at most 0"),
        (SCORED, replace(FINE, logprobs=((-1.0,), (-2.0,))), "logprobs[0] is a number, not (-1.0,) (tuple)"),
        (SCORED, replace(FINE, is_greedy=(True,)), "is_greedy has 1 values, where 2 are asked for"),
        (SCORED, replace(FINE, is_greedy=(1, 0)), "is_greedy[0] is True or False, not 1 (int)"),
        (SCORED, replace(FINE, token_counts=(1, 1.5)), "token_counts[1] is a whole number, not 1.5 (float)"),
        (ROLLING, FINE, "logprobs has 2 values, where 1 are asked for"),
    ],
)
def test_an_answer_that_is_none_fails_its_request_and_names_the_field(
    request_: Request, response: Any, said: str
) -> None:
    found = checked_response(response, request_, "mine")

    assert found.error is not None and found.error.startswith("model 'mine': ") and said in found.error
    assert "\n" not in found.error and found.text is None and found.logprobs == ()


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ([None], None),
        ([5], "pairs of an index and a Response, not 5 (int)"),
        ([(0, FINE, 1)], "pairs of an index and a Response"),
        ([("0", FINE)], "the index of an answer is a whole number, not '0' (str)"),
        ([(0.0, FINE)], "the index of an answer is a whole number, not 0.0 (float)"),
        ([(True, FINE)], "the index of an answer is a whole number, not True (bool)"),
        ([(-1, FINE)], "it answered request -1, and was asked 2"),
        ([(2, FINE)], "it answered request 2, and was asked 2"),
        (lambda requests: None, "TypeError"),
        (lambda requests: 1 / 0, "ZeroDivisionError"),
        (lambda requests: exit(), "SystemExit"),
    ],
)
def test_what_cannot_be_told_whose_answer_it_is_ends_the_run_in_one_line(given_: Any, said: str | None) -> None:
    if said is None:  # a generator that ends early
        assert [response.error for _, response in answers(Given(given_), "mine", [SCORED, SCORED])] == [
            "model 'mine' gave no answer"
        ] * 2
        return
    with pytest.raises(ModelError) as caught:
        list(answers(Given(given_), "mine", [SCORED, SCORED]))
    assert "model 'mine'" in str(caught.value) and said in str(caught.value) and "\n" not in str(caught.value)


def test_a_numpy_index_is_an_index_and_what_is_left_out_is_named() -> None:
    found = dict(answers(Given([(np.int64(1), FINE), (torch.tensor(1), FINE)]), "mine", [SCORED, SCORED]))

    assert (found[0].error, found[1]) == ("model 'mine' gave no answer", FINE)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.floats(), max_size=3),
    st.tuples(st.floats(), st.none()),
    st.builds(lambda value: np.float64(value), st.floats()),
    st.builds(lambda value: np.array([value]), st.floats()),
    st.builds(lambda value: torch.tensor(value), st.floats(width=32)),
    st.builds(object),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        (
            "text", "logprobs", "is_greedy", "token_counts", "reasoning", "finish_reason", "prompt_tokens",
            "completion_tokens", "truncated", "seconds", "error",
        ),
        JUNK,
    ),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([SCORED, ROLLING, GENERATED]), st.one_of(JUNK, st.builds(lambda f: Response(**f), FIELDS)))
def test_whatever_a_model_gives_becomes_plain_values_or_an_error(request_: Request, response: Any) -> None:
    found = checked_response(response, request_, "mine")

    if found.error is None and request_.kind == "generate":
        assert type(found.text) is str
    elif found.error is None:
        assert len(found.logprobs) == max(1, len(request_.continuations))
        assert all(type(value) is float for value in found.logprobs)
    json.dumps([found.text, found.logprobs, found.seconds, found.error], allow_nan=False)


def registry_with(**classes: Any) -> Registry:
    registry = load_plugins()
    module = SimpleNamespace(__name__="odd_plugin")
    for hook, cls in classes.items():
        setattr(module, hook, hookimpl(specname=hook)(lambda cls=cls: [cls]))
    registry.register(module, package="odd-package", name="odd")
    return registry


def finished(tmp_path: Path, task: str, registry: Registry, model: str = "dummy") -> Any:
    (tmp_path / "rows.jsonl").write_text('{"q": "1 + 1 ="}\n{"q": "2 + 2 ="}\n', encoding="utf-8")
    (tmp_path / "sums.yaml").write_text(
        "task: sums\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: generate_until\n"
        f"doc_to_text: '{{{{ q }}}}'\ndoc_to_target: '2'\n{task}",
        encoding="utf-8",
    )
    spec = RunSpec(tasks=(str(tmp_path / "sums.yaml"),), model=model, output=str(tmp_path / "runs"))
    return run(spec, registry)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda: "0.5", "the score is a number, not '0.5' (str)"),
        (lambda: [0.5], "the score is a number, not [0.5] (list)"),
        (lambda: float("nan"), "the score is nan"),
        (lambda: (1.0, "x"), "score[1] is a number, not 'x' (str)"),
        (lambda: np.array([1.0, 2.0]), "the score is a number, not"),
        (lambda: {"acc": 1.0}, "the score is a number, not {'acc': 1.0} (dict)"),
        (lambda: np.float32(0.5), None),
        (lambda: torch.tensor(0.5), None),
        (lambda: np.bool_(True), None),
        (lambda: True, None),
    ],
)
def test_a_score_is_a_number_or_the_sample_fails(tmp_path: Path, score: Callable[[], Any], said: str | None) -> None:
    class Odd(Metric):
        name = "odd"
        output_types = frozenset({"generate_until"})

        def score(self, seen: Observation) -> Any:
            return score()

    found = finished(tmp_path, "metric_list: [{metric: odd}]\n", registry_with(harness_metrics=Odd))

    errors = [record.error for record in found.samples()]
    if said is None:
        assert errors == [None, None]
        assert found.report["tasks"][0]["metrics"][0]["value"] in (0.5, 1.0)
    else:
        assert all("metric odd" in str(error) and said in str(error) for error in errors)
        assert found.report["tasks"][0]["metrics"][0]["value"] is None


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (lambda replies: None, "what it gave is a tuple, not None"),
        (lambda replies: "42", "what it gave is a tuple, not '42' (str)"),
        (lambda replies: [42], "answer 0 is a text, not 42 (int)"),
        (lambda replies: [], "it gave 0 answers for 1 replies"),
        (lambda replies: [*replies, "more"], "it gave 2 answers for 1 replies"),
    ],
)
def test_a_filter_gives_texts_or_the_sample_fails(tmp_path: Path, given_: Callable[[Any], Any], said: str) -> None:
    class Odd(Filter):
        name = "odd_filter"

        def apply(self, replies: Sequence[str | None], sample: Sample) -> Any:
            return given_(replies)

    task = "filter_list: [{name: f, filter: [{function: odd_filter}]}]\nmetric_list: [{metric: exact_match}]\n"
    found = finished(tmp_path, task, registry_with(harness_filters=Odd))

    assert all("filter odd_filter" in str(record.error) and said in str(record.error) for record in found.samples())
