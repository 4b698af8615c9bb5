from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from harness import Metric, Prompt, Record, Response
from harness.scoring import Scorer
from harness.types import Counts, MetricSpec, ScoringSpec
from harness_plugins.metrics.choice import Accuracy, CharNormAccuracy, MatthewsCorrelation
from harness_plugins.metrics.perplexity import WordPerplexity


class Widest(Metric):
    name = "widest"
    aggregation = "self"

    def score(self, seen):
        return (1.0,)

    def aggregate(self, scores):
        return max(row[0] for row in scores)


METRICS = {cls.name: cls for cls in (Accuracy, CharNormAccuracy, MatthewsCorrelation, WordPerplexity, Widest)}


def scorer(*metrics, output_type="multiple_choice", average="micro"):
    specs = tuple(spec if isinstance(spec, MetricSpec) else MetricSpec(spec) for spec in metrics)
    return Scorer(ScoringSpec(output_type, specs, average=average), METRICS.__getitem__, {}.__getitem__)


def record(subset, number, score, name="acc", **more):
    responses = more.pop("responses", ())
    return Record("t", subset, number, {}, Prompt(), 0, (), responses, (), {name: score}, **more)


def records(subset, scores, **more):
    return [record(subset, number, score, **more) for number, score in enumerate(scores)]


def named(results):
    return {(result.level, result.name, result.average): result for result in results}


def test_a_task_without_subsets_has_one_result():
    rows = records("", [1.0, 0.0, 1.0, 1.0])
    (result,) = scorer("acc").summarise("t", rows, [("", "", ())])
    (metric,) = result.metrics
    assert (result.level, result.name, result.average) == ("task", "t", None)
    assert (metric.value, metric.n) == (0.75, 4)
    assert metric.stderr == pytest.approx(0.25)  # sample sd 0.5 over the root of 4
    assert 0.0 < metric.interval[0] < 0.75 < metric.interval[1] < 1.0


def test_micro_pools_the_samples_and_macro_the_subsets():
    law, math_scores = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0], [0.0, 1.0]
    rows = [*records("law", law), *records("math", math_scores)]
    results = scorer("acc").summarise("t", rows, [("law", "Law", ("arts",)), ("math", "Maths", ("stem",))])
    assert [(r.level, r.name, r.average) for r in results] == [
        ("subset", "law", None),
        ("subset", "math", None),
        ("group", "arts", "micro"),
        ("group", "arts", "macro"),
        ("group", "stem", "micro"),
        ("group", "stem", "macro"),
        ("task", "t", "micro"),
        ("task", "t", "macro"),
    ]
    by_name = named(results)
    micro, macro = by_name["task", "t", "micro"].metrics[0], by_name["task", "t", "macro"].metrics[0]
    law_error, math_error = np.std(law, ddof=1) / math.sqrt(8), np.std(math_scores, ddof=1) / math.sqrt(2)
    assert micro.value == pytest.approx(0.7) and macro.value == pytest.approx(0.625)
    assert micro.stderr == pytest.approx(np.std(law + math_scores, ddof=1) / math.sqrt(10))
    assert macro.stderr == pytest.approx(math.hypot(law_error, math_error) / 2)
    assert micro.n == macro.n == 10
    assert by_name["subset", "law", None].title == "Law"


def test_the_tasks_own_average_comes_first():
    rows = [*records("a", [1.0, 0.0]), *records("b", [1.0, 1.0])]
    results = scorer("acc", average="macro").summarise("t", rows, [("a", "", ()), ("b", "", ())])
    assert [result.average for result in results if result.level == "task"] == ["macro", "micro"]


def test_a_single_chosen_subset_is_also_the_whole():
    results = scorer("acc").summarise("t", records("law", [1.0, 0.0]), [("law", "Law", ("arts",))])
    assert [(r.level, r.name, r.average) for r in results] == [("subset", "law", None), ("task", "t", None)]
    assert results[0].metrics == results[1].metrics


def test_what_was_not_scored_is_counted_and_is_not_zero():
    rows = [*records("", [1.0, 1.0, None]), record("", 3, None, error="HTTP 500")]
    (result,) = scorer("acc").summarise("t", rows, [("", "", ())])
    assert (result.metrics[0].value, result.metrics[0].n) == (1.0, 2)
    assert result.counts == Counts(n=4, failed=1)


def test_a_set_without_a_scored_sample_has_no_value():
    results = scorer("acc").summarise("t", records("a", [None, None]), [("a", "", ()), ("b", "", ())])
    assert all((result.metrics[0].value, result.metrics[0].n) == (None, 0) for result in results)
    task = named(results)["task", "t", "micro"]
    assert task.counts.n == 2 and task.metrics[0].stderr is None and task.metrics[0].interval is None


def test_counts_say_what_is_in_doubt():
    rows = [
        record("", 0, 0.0, unparsed=True, responses=(Response(text=" \n"),)),
        record("", 1, 1.0, responses=(Response(text="A", truncated=12),)),
        record("", 2, 1.0, responses=(Response(text=""), Response(text="A"))),
        record("", 3, 1.0, responses=(Response(logprobs=(-1.0,)),)),
    ]
    (result,) = scorer("acc").summarise("t", rows, [("", "", ())])
    assert result.counts == Counts(n=4, failed=0, unparsed=1, truncated=1, empty=1)


def test_clusters_widen_the_error():
    rows = [record("", i, float(i < 30), cluster=f"image {i // 10}") for i in range(60)]
    (clustered,) = scorer("acc").summarise("t", rows, [("", "", ())])
    (plain,) = scorer("acc").summarise("t", records("", [float(i < 30) for i in range(60)]), [("", "", ())])
    assert clustered.metrics[0].stderr > 2 * plain.metrics[0].stderr
    low, high = clustered.metrics[0].interval
    assert 0.0 <= low < plain.metrics[0].interval[0] and plain.metrics[0].interval[1] < high <= 1.0


def test_a_metric_with_its_own_value_is_formed_from_all_its_statistics():
    rows = [
        *records("a", [(-20.0, 4.0), (-30.0, 6.0)], name="word_perplexity"),
        *records("b", [(-9.0, 3.0), (-8.0, 2.0)], name="word_perplexity"),
    ]
    wikitext = scorer("word_perplexity", output_type="loglikelihood_rolling")
    results = named(wikitext.summarise("t", rows, [("a", "", ()), ("b", "", ())]))
    micro, macro = results["task", "t", "micro"].metrics[0], results["task", "t", "macro"].metrics[0]
    assert micro.value == pytest.approx(math.exp(67 / 15))
    assert macro.value == pytest.approx((math.exp(5.0) + math.exp(17 / 5)) / 2)
    assert micro.stderr > 0 and micro.interval[0] < micro.value < micro.interval[1]
    assert micro.higher_is_better is False


def test_a_metric_may_look_at_all_scores():
    (result,) = scorer("widest").summarise("t", records("", [(1.0,), (3.0,)], name="widest"), [("", "", ())])
    assert result.metrics[0].value == 3.0


@pytest.mark.parametrize(("aggregation", "value"), [("median", 2.0), ("max", 9.0), ("min", 0.0), ("nanmean", 3.25)])
def test_other_aggregations(aggregation, value):
    rows = records("", [0.0, 1.0, 3.0, 9.0])
    (result,) = scorer(MetricSpec("acc", aggregation=aggregation)).summarise("t", rows, [("", "", ())])
    assert result.metrics[0].value == value and result.metrics[0].aggregation == aggregation


def test_lm_eval_names_choose_the_metrics_own_way():
    spec = MetricSpec("word_perplexity", aggregation="weighted_perplexity")
    rows = records("", [(-4.0, 2.0)], name="word_perplexity")
    wikitext = scorer(spec, output_type="loglikelihood_rolling")
    (result,) = wikitext.summarise("t", rows, [("", "", ())])
    assert result.metrics[0].value == pytest.approx(math.exp(2.0))


def test_a_task_may_turn_the_direction_round():
    (result,) = scorer(MetricSpec("acc", higher_is_better=False)).summarise("t", records("", [1.0]), [("", "", ())])
    assert result.metrics[0].higher_is_better is False


def test_statistics_that_do_not_fit_the_others_fail_their_sample():
    rows = records("", [(-1.0, 2.0), (1.0,), (-3.0, 4.0)], name="word_perplexity")
    (result,) = scorer("word_perplexity", output_type="loglikelihood_rolling").summarise("t", rows, [("", "", ())])
    assert (result.counts.n, result.counts.failed, result.metrics[0].n) == (3, 1, 2)
    assert result.metrics[0].value is not None


def test_records_are_read_once_and_other_subsets_are_passed_over():
    rows = itertools.chain(records("a", [1.0, 0.0]), records("left_out", [0.0] * 9))
    results = scorer("acc").summarise("t", rows, [("a", "", ())])
    assert results[0].metrics[0].value == 0.5 and next(rows, None) is None
