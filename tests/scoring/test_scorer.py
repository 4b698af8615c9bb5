from __future__ import annotations

import re

import pytest

from harness import Filter, Metric, Request, Response, Sample, UsageError
from harness.errors import PluginError, suggest
from harness.scoring import Scorer
from harness.types import FilterPipeline, FilterStep, MetricSpec, Prompt, ScoringSpec
from harness_plugins.filters import text as text_filters
from harness_plugins.metrics import choice, text


class Doubtful(Metric):
    name = "doubtful"

    def score(self, seen):
        return {"raise": 1 / 0 if seen.predictions == ("raise",) else 0, "nan": float("nan")}.get(
            seen.predictions[0], 1
        )


class Broken(Filter):
    name = "broken"

    def apply(self, replies, sample):
        raise KeyError("field")


METRICS = {cls.name: cls for cls in [*choice.harness_metrics(), *text.harness_metrics(), Doubtful]}
FILTERS = {cls.name: cls for cls in [*text_filters.harness_filters(), Broken]}


def find_metric(name):
    if name not in METRICS:
        raise PluginError(f"unknown metric '{name}'{suggest(name, METRICS)}")
    return METRICS[name]


def find_filter(name):
    if name not in FILTERS:
        raise PluginError(f"unknown filter '{name}'{suggest(name, FILTERS)}")
    return FILTERS[name]


def scorer(output_type, metrics, pipelines=(), **options):
    specs = tuple(MetricSpec(name, options=options.get(name, {})) for name in metrics)
    return Scorer(ScoringSpec(output_type, specs, tuple(pipelines)), find_metric, find_filter, where="tasks/x.yaml")


def pipeline(name, *steps):
    return FilterPipeline(name, tuple(FilterStep(function, dict(options)) for function, options in steps))


def generated(target, *replies):
    request = Request("generate", Prompt(suffix="Q"))
    return Sample("t", "", 0, {}, (request,) * len(replies), target), [Response(text=reply) for reply in replies]


def test_choices_are_scored_by_every_metric():
    sample = Sample("t", "", 0, {}, (Request("loglikelihood", Prompt(), (" a", " bcd")),), 0, ("a", "bcd"))
    scored = scorer("multiple_choice", ["acc", "acc_norm"]).score(sample, [Response(logprobs=(-1.0, -1.5))])
    assert scored.scores == {"acc": 1.0, "acc_norm": 0.0}
    assert scored.answers == {} and not scored.unparsed and scored.error is None


def test_the_unconditional_request_is_kept_apart():
    requests = (
        Request("loglikelihood", Prompt(suffix="Q"), (" a", " b")),
        Request("loglikelihood", Prompt(), (" a", " b"), unconditional=True),
    )
    both = scorer("multiple_choice", ["acc", "acc_mutual_info"])
    responses = [Response(logprobs=(-1.0, -2.0)), Response(logprobs=(-0.5, -8.0))]
    assert both.needs_unconditional
    for sample_requests in (requests, ()):  # a sample scored again from its record has no requests
        sample = Sample("t", "", 0, {}, sample_requests, 1, ("a", "b"))
        assert both.score(sample, responses).scores == {"acc": 0.0, "acc_mutual_info": 1.0}


def test_each_pipeline_has_its_own_score_and_answers():
    strict = pipeline("strict", ("regex", {"regex_pattern": r"#### (\d+)"}))
    flexible = pipeline("flexible", ("regex", {"regex_pattern": r"(\d+)", "group_select": -1}))
    both = scorer("generate_until", ["exact_match"], [strict, flexible])
    scored = both.score(*generated("7", "it is 7"))
    assert scored.scores == {"exact_match@strict": 0.0, "exact_match@flexible": 1.0}
    assert scored.answers == {"strict": (None,), "flexible": ("7",)}
    assert both.headline == "exact_match@strict" and scored.unparsed


def test_a_sample_is_unparsed_only_when_no_reply_could_be_read():
    one = scorer("generate_until", ["exact_match"], [pipeline("none", ("regex", {"regex_pattern": "([AB])"}))])
    assert one.score(*generated("A", "?", "A")).unparsed is False
    assert one.score(*generated("A", "?", "!")).unparsed is True


def test_a_failed_response_fails_its_sample():
    sample, _ = generated("7", "")
    scored = scorer("generate_until", ["exact_match"]).score(sample, [Response(error="HTTP 500")])
    assert scored.error == "HTTP 500" and scored.scores == {"exact_match": None}


def test_an_exception_in_a_metric_stays_with_that_metric():
    both = scorer("generate_until", ["exact_match", "doubtful"])
    scored = both.score(*generated("raise", "raise"))
    assert scored.scores == {"exact_match": 1.0, "doubtful": None}
    assert re.fullmatch(rf"metric doubtful: ZeroDivisionError: division by zero \({__file__}:\d+\)", scored.error)


def test_a_score_that_is_no_number_is_an_error():
    scored = scorer("generate_until", ["doubtful"]).score(*generated("x", "nan"))
    assert scored.error == "metric doubtful: ValueError: the score is nan, which is not a finite number"


def test_an_exception_in_a_filter_fails_the_sample():
    broken = scorer("generate_until", ["exact_match"], [pipeline("p", ("broken", {}))])
    scored = broken.score(*generated("7", "7"))
    assert re.fullmatch(rf"filter broken: KeyError: 'field' \({__file__}:\d+\)", scored.error)
    assert scored.scores == {"exact_match": None}


def test_options_for_texts_mean_nothing_to_a_metric_of_choices_and_others_are_refused():
    spec = ScoringSpec("multiple_choice", (MetricSpec("acc", options={"ignore_case": True, "average": "macro"}),))
    assert Scorer(spec, find_metric, find_filter).headline == "acc"
    spec = ScoringSpec("multiple_choice", (MetricSpec("acc", options={"ignore_cose": True}),))
    with pytest.raises(UsageError, match="takes no option 'ignore_cose'"):
        Scorer(spec, find_metric, find_filter)


def test_hidden_gold_is_unscored_and_not_failed():
    scored = scorer("generate_until", ["exact_match", "f1"]).score(*generated(None, "7"))
    assert scored.scores == {"exact_match": None, "f1": None} and scored.error is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate_until", ["exact_mach"]), "tasks/x.yaml: unknown metric 'exact_mach'; did you mean 'exact_match'?"),
        (("generate_until", ["acc"]), "metric 'acc' cannot score a task of output_type 'generate_until'"),
        (("generate_until", []), "metric_list is empty"),
        (("generate_until", ["f1", "f1"]), "listed more than once"),
        (("generate_until", ["f1"], [pipeline("a", ("regx", {}))]), "unknown filter 'regx'; did you mean 'regex'?"),
        (("multiple_choice", ["acc"], [pipeline("a", ("regx", {}))]), "unknown filter 'regx'; did you mean 'regex'?"),
        (
            ("generate_until", ["f1"], [pipeline("a", ("regex", {"patern": "x"}))]),
            "filter 'regex' takes no option 'patern'",
        ),
        (
            ("generate_until", ["f1"], [pipeline("a", ("regex", {"regex_pattern": "("}))]),
            "refuses its options: missing",
        ),
        (("generate_until", ["f1"], [pipeline("a", ("take_first_k", {}))]), "needs the option 'k'"),
        (("generate_until", ["f1"], [pipeline("a"), pipeline("a")]), "two pipelines of filter_list are named 'a'"),
    ],
)
def test_a_mistake_is_found_when_the_scorer_is_made(arguments, message):
    with pytest.raises(UsageError) as caught:
        scorer(*arguments)
    assert str(caught.value).startswith("tasks/x.yaml: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_options_of_a_metric_name_those_it_takes():
    with pytest.raises(UsageError, match="takes no option 'ignore_cas'; did you mean 'ignore_case'"):
        scorer("generate_until", ["exact_match"], exact_match={"ignore_cas": True})


def test_one_name_may_mean_one_formula_for_choices_and_one_for_texts():
    sample = Sample("t", "", 0, {}, (), 1, ("no", "yes"))
    labels = scorer("multiple_choice", ["f1"]).score(sample, [Response(logprobs=(-2.0, -1.0))])
    assert labels.scores == {"f1": (1.0, 1.0, 1.0)}
    assert scorer("generate_until", ["f1"]).score(*generated("x b", "b c")).scores == {"f1": 0.5}


def test_unknown_aggregation_is_refused():
    spec = ScoringSpec("multiple_choice", (MetricSpec("acc", aggregation="meen"),))
    with pytest.raises(UsageError, match="unknown aggregation 'meen'; did you mean 'mean'"):
        Scorer(spec, find_metric, find_filter)
    spec = ScoringSpec("multiple_choice", (MetricSpec("mcc", aggregation="mean"),))
    with pytest.raises(UsageError, match="its own way"):
        Scorer(spec, find_metric, find_filter)
