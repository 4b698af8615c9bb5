"""What breaks the contract of a plugin fails one sample, or ends the run in one line, and is named with its field."""

from __future__ import annotations

import json
import re
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

from harness import (
    Asked,
    CorpusMetric,
    Filter,
    HarnessError,
    Metric,
    Model,
    ModelError,
    Modifier,
    Observation,
    PluginError,
    Request,
    Response,
    RowScore,
    Sample,
    View,
    hookimpl,
)
from harness.registry import Registry, load_plugins
from harness.run.answers import answers, checked_response
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec
from harness.scoring.row_metrics import FirstView
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


def finished(
    tmp_path: Path,
    task: str,
    registry: Registry,
    model: str = "dummy",
    modify: Sequence[str] = (),
    rows: Sequence[Mapping[str, Any]] = ({"q": "1 + 1 ="}, {"q": "2 + 2 ="}),
    said: list[str] | None = None,
) -> Any:
    """The result of a run of a small task; `said` is filled with what it told."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "sums.yaml").write_text(
        "task: sums\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: generate_until\n"
        f"doc_to_text: '{{{{ q }}}}'\ndoc_to_target: '2'\n{task}",
        encoding="utf-8",
    )
    progress = Progress()
    progress.message = (said if said is not None else []).append  # type: ignore[method-assign]
    spec = RunSpec((str(tmp_path / "sums.yaml"),), model, output=str(tmp_path / "runs"), modify=tuple(modify))
    return run(spec, registry, progress)


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


def value_or_reason(found: Any) -> tuple[float | None, str]:
    """The first task's first value, and why there is none; a value that is missing is a failure of the run."""
    (metric,) = found.report["tasks"][0]["metrics"]
    assert found.exit_code == (1 if metric.get("error") or found.report["tasks"][0]["counts"]["failed"] else 0)
    return metric["value"], str(metric.get("error"))


@pytest.mark.parametrize(
    ("hook", "gives", "said"),
    [
        ("from_means", lambda: "0.5", "is a number, not '0.5' (str)"),
        ("from_means", lambda: None, "is a number, not None"),
        ("from_means", lambda: float("nan"), "is nan, which is not a finite number"),
        ("from_means", lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        ("from_means", lambda: exit(), "SystemExit"),
        ("from_means", lambda: np.float32(0.5), None),
        ("from_sums", lambda: [0.5], "is a number, not [0.5] (list)"),
        ("aggregate", lambda: {"a": 0.5}, "is a number, not {'a': 0.5} (dict)"),
        ("aggregate", lambda: torch.tensor(0.5), None),
        ("measure", lambda: 1 / 0, "ZeroDivisionError: division by zero"),
        ("measure", lambda: "0.5", "is a number, not '0.5' (str)"),
        ("measure", lambda: np.float32(0.5), None),
    ],
)
def test_a_value_of_a_set_is_a_number_or_is_named_as_missing(
    tmp_path: Path, hook: str, gives: Callable[[], Any], said: str | None
) -> None:
    class Odd(CorpusMetric if hook == "measure" else Metric):  # type: ignore[misc]
        name = "odd"
        output_types = frozenset({"generate_until"})
        aggregation = "self"
        identity: Mapping[str, Any] = {}

        def score(self, seen: Observation) -> Any:
            return None if hook == "measure" else (1.0, 2.0)

        def item(self, seen: Observation) -> Any:
            return 1.0

        def measure(self, items: Any) -> Any:
            raise NotImplementedError

    setattr(Odd, hook, lambda self, *given: gives())
    found = finished(tmp_path, "metric_list: [{metric: odd}]\n", registry_with(harness_metrics=Odd))

    value, reason = value_or_reason(found)
    if said is None:
        assert value == 0.5
    else:
        assert value is None and said in reason
        assert hook in reason or "Error" in reason or "Exit" in reason
        assert "odd has no value" in found.summary()


@pytest.mark.parametrize(
    ("field", "given_", "said"),
    [
        ("statistics", lambda self, score: None, "what statistics gave is a tuple, not None"),
        ("statistics", lambda self, score: (1.0, "x"), "statistics[1] is a number, not 'x' (str)"),
        ("statistics", lambda self, score: (), "statistics gave none"),
        ("statistics", lambda self, score: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_statistics_are_numbers_or_the_sample_fails(tmp_path: Path, field: str, given_: Any, said: str) -> None:
    class Odd(Metric):
        name = "odd"
        output_types = frozenset({"generate_until"})
        aggregation = "self"

        def score(self, seen: Observation) -> Any:
            return 1.0

    setattr(Odd, field, given_)
    found = finished(tmp_path, "metric_list: [{metric: odd}]\n", registry_with(harness_metrics=Odd))

    assert all("metric odd" in str(record.error) and said in str(record.error) for record in found.samples())
    assert value_or_reason(found)[0] is None


@pytest.mark.parametrize(
    ("field", "given_", "said"),
    [
        ("bounds", (0.0, None), "metric 'odd': bounds[1] is a number, not None"),
        ("values", "ab", "metric 'odd': values is a tuple, not 'ab' (str)"),
        ("higher_is_better", "yes", "metric 'odd': higher_is_better is True or False, not 'yes' (str)"),
        ("output_types", None, "metric 'odd': output_types is a tuple, not None"),
        ("aggregation", 3, "metric 'odd': aggregation is a text, not 3 (int)"),
    ],
)
def test_what_a_metric_says_of_itself_is_held_against_its_type(
    tmp_path: Path, field: str, given_: Any, said: str
) -> None:
    class Odd(Metric):
        name = "odd"

        def score(self, seen: Observation) -> Any:
            return 1.0

    setattr(Odd, field, given_)
    with pytest.raises(PluginError, match=re.escape(said)):
        finished(tmp_path, "metric_list: [{metric: odd}]\n", registry_with(harness_metrics=Odd))


@pytest.mark.parametrize(
    ("field", "given_", "said"),
    [
        ("views", None, "views is a tuple, not None"),
        ("views", [5], "views[0] is a View, not 5 (int)"),
        ("views", [], "shows a row in no way at all"),
        ("views", [View(wording=3)], "views[0].wording is 3, of 1 that the task has"),
        ("views", [View(wording=-1)], "views[0].wording is -1"),
        ("views", [View(question=7)], "views[0].question is a text, not 7 (int)"),
        ("views", [View(images="no")], "views[0].images is True or False, not 'no' (str)"),
        ("views", [View(order=(0.5,))], "views[0].order is a whole number, not 0.5 (float)"),
        ("views", [View(order=None)], "views[0].order is a tuple, not None"),
        ("row_scores", None, "what row_scores gave is a tuple, not None"),
        ("row_scores", ["worst"], "row_scores[0] is a RowScore, not 'worst' (str)"),
        ("row_scores", [RowScore("worst", "speed", FirstView())], "row_scores[0].of is 'speed', no score of this task"),
        ("row_scores", [RowScore("worst", "exact_match", None)], "row_scores[0].metric is a Metric, not None"),
        ("keys", None, "keys is a mapping, not None"),
    ],
)
def test_what_a_modifier_gives_is_named_before_anything_is_asked(
    tmp_path: Path, field: str, given_: Any, said: str
) -> None:
    class Odd(Modifier):
        name = "odd"

    setattr(Odd, field, lambda self, *given: given_)
    with pytest.raises(PluginError) as caught:
        finished(
            tmp_path, "metric_list: [{metric: exact_match}]\n", registry_with(harness_modifiers=Odd), modify=("odd",)
        )
    assert "modifier 'odd'" in str(caught.value) and said in str(caught.value)


def test_a_row_score_of_numpy_counts_and_one_that_raises_fails_its_row(tmp_path: Path) -> None:
    class Odd(Metric):
        name = "odd"

        def score(self, seen: Observation) -> Any:
            return np.float32(0.5) if seen.sample.id else seen.views["first"]  # type: ignore[call-overload]

    class Twice(Modifier):
        name = "twice"
        several = True

        def views(self, asked: Asked) -> Any:
            return np.array([View(), View(question="again")], dtype=object)

        def row_scores(self, keys: Any, labels: str) -> Any:
            return [RowScore("both", keys[0].name, Odd())]

    task = "options: {columns: [a, b], answer: gold, question: q}\nmetric_list: [{metric: exact_match}]\n"
    rows = [{"q": f"{n}?", "a": "x", "b": "y", "gold": 0} for n in range(2)]
    found = finished(tmp_path, task, registry_with(harness_modifiers=Twice), modify=("twice",), rows=rows)

    (metric,) = found.report["tasks"][0]["metrics"]
    assert (metric["metric"], metric["value"], metric["n"]) == ("both", 0.5, 1)
    assert found.report["tasks"][0]["counts"]["failed"] == 1


@pytest.mark.parametrize("given_", [lambda: None, lambda: 5, lambda: [5], lambda: {1: 2}, lambda: 1 / 0, exit])
@pytest.mark.parametrize("field", ["describe", pytest.param("incidents", marks=pytest.mark.slow)])
def test_what_a_model_says_of_itself_costs_no_answer(tmp_path: Path, field: str, given_: Callable[[], Any]) -> None:
    class Odd(Given):
        name = "odd_model"

        def __init__(self) -> None:
            super().__init__(lambda requests: iter([(n, Response(text="2")) for n, _ in enumerate(requests)]))

    setattr(Odd, field, lambda self: given_())
    task, said = "metric_list: [{metric: exact_match}]\n", []
    found = finished(tmp_path, task, registry_with(harness_models=Odd), "odd_model", said=said)

    assert (found.report["tasks"][0]["metrics"][0]["value"], found.exit_code) == (1.0, 0)
    if field == "incidents":
        assert "model 'odd_model'" in found.report["incidents"][0]["text"]
    else:
        assert len([line for line in said if "model 'odd_model'" in line]) == 1


@pytest.mark.parametrize(
    ("field", "given_", "said"),
    [
        ("identity", None, "identity is a mapping, not None"),
        ("identity", {"weights": object()}, "identity must be plain JSON values"),
        ("supports", None, "supports is a tuple, not None"),
        ("modalities", {"text", 3}, "a name in modalities is a text, not 3 (int)"),
    ],
)
def test_what_decides_a_models_answers_is_known_or_the_run_does_not_begin(
    tmp_path: Path, field: str, given_: Any, said: str
) -> None:
    class Odd(Given):
        name = "odd_model"

        def __init__(self) -> None:
            super().__init__([])

    setattr(Odd, field, given_)
    with pytest.raises(HarnessError) as caught:
        finished(tmp_path, "metric_list: [{metric: exact_match}]\n", registry_with(harness_models=Odd), "odd_model")
    assert "model 'odd_model'" in str(caught.value) and said in str(caught.value)
    assert not list((tmp_path / "runs").glob("*/*"))


def test_what_a_plugin_registers_is_a_class_with_a_name_or_the_plugin_is_broken() -> None:
    registry = load_plugins()
    for hook in ("harness_models", "harness_metrics", "harness_filters", "harness_modifiers"):
        for number, given_ in enumerate([None, 5, [None], ["odd"], [object()], [Metric], [Modifier()]]):
            name = f"odd_{hook}_{number}"
            module = SimpleNamespace(__name__=name, **{hook: hookimpl(specname=hook)(lambda given_=given_: given_)})
            registry.register(module, package="odd-package", name=name)

    assert "exact_match" in registry.names("metric")
    assert len(registry.broken) == 28
    for broken in registry.broken:
        assert broken.error and broken.name.removeprefix("odd_")[:-2] in broken.error
