"""The model that is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness import ModelOptions, Prompt, Request, Response, Sample, UsageError
from harness.testing import check_model
from harness_plugins.models.dummy import DummyModel


def make(**args: Any) -> DummyModel:
    return DummyModel.create(args, ModelOptions())


def choice_sample(number: int, target: Any, choices: Sequence[str] = ("A", "B", "C", "D")) -> Sample:
    request = Request("loglikelihood", Prompt(f"{number}?"), tuple(choices))
    return Sample("task", "", number, {}, (request,), target, tuple(choices))


def text_sample(number: int, target: Any, choices: Sequence[str] = ()) -> Sample:
    return Sample("task", "", number, {}, (Request("generate", Prompt(f"{number}?")),), target, tuple(choices))


def answers(model: DummyModel, samples: Sequence[Sample]) -> list[Response]:
    model.prepare()
    model.inspect_samples(samples)
    model.take_samples(samples)
    model.load()
    requests = [request for sample in samples for request in sample.requests]
    given = dict(model.respond(requests))
    return [given[number] for number in range(len(requests))]


def best(response: Response) -> int:
    return response.logprobs.index(max(response.logprobs))


@pytest.mark.parametrize("mode", ["fixed", "random"])
def test_a_dummy_keeps_the_contract_of_models(mode: str) -> None:
    assert check_model(make(mode=mode)) == []


def test_gold_prefers_the_right_choice_whatever_its_length() -> None:
    choices = ("no", "a very long and wrong answer", "yes", "A")
    for target in range(4):
        (response,) = answers(make(mode="gold"), [choice_sample(0, target, choices)])
        per_character = [value / len(choice) for value, choice in zip(response.logprobs, choices, strict=True)]
        assert best(response) == per_character.index(max(per_character)) == target
        assert response.is_greedy == tuple(number == target for number in range(4))


def test_gold_knows_which_sample_asks_when_two_prompts_are_the_same() -> None:
    samples = [choice_sample(7, 1), choice_sample(7, 3)]
    assert samples[0].requests == samples[1].requests
    assert [best(response) for response in answers(make(mode="gold"), samples)] == [1, 3]


def test_gold_accepts_every_right_choice() -> None:
    (response,) = answers(make(mode="gold"), [choice_sample(0, (1, 2))])
    assert response.is_greedy == (False, True, True, False)


def test_gold_prefers_the_right_context_where_each_choice_has_its_own() -> None:
    requests = tuple(Request("loglikelihood", Prompt(f"{name} was late because"), (" he slept",)) for name in "XYZ")
    sample = Sample("task", "", 0, {}, requests, 1, ("X", "Y", "Z"))
    values = [response.logprobs[0] for response in answers(make(mode="gold"), [sample])]
    assert values.index(max(values)) == 1


def test_gold_does_not_prefer_any_choice_without_its_question() -> None:
    choices = ("A", "B", "C")
    requests = (
        Request("loglikelihood", Prompt("?"), choices),
        Request("loglikelihood", Prompt(""), choices, unconditional=True),
    )
    asked, alone = answers(make(mode="gold"), [Sample("task", "", 0, {}, requests, 2, choices)])
    gain = [with_question - without for with_question, without in zip(asked.logprobs, alone.logprobs, strict=True)]
    assert gain.index(max(gain)) == 2


def test_gold_says_that_a_text_is_right_without_choices() -> None:
    sample = Sample("task", "", 0, {}, (Request("loglikelihood", Prompt("Roses are"), (" red",)),), "red")
    assert answers(make(mode="gold"), [sample])[0].is_greedy == (True,)


@pytest.mark.parametrize(
    ("target", "choices", "text"),
    [("42", (), "42"), (("42", "43"), (), "42"), (2, ("x", "y", "z"), "z"), ((1, 0), ("x", "y"), "y")],
)
def test_gold_writes_the_right_text(target: Any, choices: Sequence[str], text: str) -> None:
    (response,) = answers(make(mode="gold"), [text_sample(0, target, choices)])
    assert (response.text, response.finish_reason) == (text, "stop")


def test_the_text_can_be_wrapped_so_that_a_filter_finds_it() -> None:
    model = make(mode="gold", text="【答案】{answer}<eoa>")
    assert answers(model, [text_sample(0, "D")])[0].text == "【答案】D<eoa>"


def test_a_hidden_gold_answer_is_an_error_of_its_sample_alone() -> None:
    hidden, known = answers(make(mode="gold"), [choice_sample(0, None), choice_sample(1, 2)])
    assert hidden.error is not None and "keeps the gold answer" in hidden.error
    assert best(known) == 2


def test_a_gold_index_outside_the_choices_is_an_error() -> None:
    (response,) = answers(make(mode="gold"), [choice_sample(0, 9)])
    assert response.error is not None and "9" in response.error


def test_gold_without_samples_is_an_error() -> None:
    ((_, response),) = make(mode="gold").respond([Request("generate", Prompt("?"))])
    assert response.error is not None and "not seen" in response.error


def test_fixed_always_takes_the_same_choice_or_text() -> None:
    samples = [choice_sample(number, 0) for number in range(3)]
    assert [best(response) for response in answers(make(mode="fixed", index=2), samples)] == [2, 2, 2]
    texts = answers(make(mode="fixed", text="我不知道"), [text_sample(number, "x") for number in range(2)])
    assert [response.text for response in texts] == ["我不知道", "我不知道"]
    assert answers(make(mode="fixed", index=1), [text_sample(0, 0, ("yes", "no"))])[0].text == "no"


def test_random_depends_on_the_request_and_the_seed_alone() -> None:
    samples = [choice_sample(number, 0) for number in range(40)]
    forwards = answers(make(mode="random"), samples)
    backwards = answers(make(mode="random"), samples[::-1])[::-1]
    assert forwards == backwards
    assert forwards != answers(make(mode="random", seed=1), samples)


def test_random_is_at_chance_and_not_by_length() -> None:
    samples = [choice_sample(number, 0, ("a", "bb" * 20)) for number in range(1000)]
    short = sum(best(response) == 0 for response in answers(make(mode="random"), samples))
    assert 430 < short < 570


def test_random_repeats_are_drawn_anew() -> None:
    requests = tuple(Request("generate", Prompt("?"), repeat=number) for number in range(30))
    texts = {response.text for response in answers(make(), [Sample("task", "", 0, {}, requests, "1")])}
    assert len(texts) > 5


def test_a_text_of_its_own_costs_one_nat_a_character() -> None:
    sample = Sample("task", "", 0, {}, (Request("rolling", Prompt("四个字了", prefix="")),), None)
    (response,) = answers(make(), [sample])
    assert (response.logprobs, response.token_counts) == ((-4.0,), (4,))


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"mode": "perfect"}, "gold, fixed, random"),
        ({"index": -1}, "index"),
        ({"seed": "x"}, "seed"),
        ({"m": 1}, "'m'"),
    ],
)
def test_wrong_arguments_are_refused(args: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make(**args)
