"""pass@k and pass^k of any metric, over the replies to a question that is asked several times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import Request, Response, Sample, UsageError
from harness.record.report import build_report
from harness.record.result_rows import rows
from harness.registry import load_plugins
from harness.run.result import load_run
from harness.scoring import Scorer
from harness.testing import run_harness
from harness.types import FilterPipeline, FilterStep, MetricSpec, Prompt, Record, ScoringSpec

REGISTRY = load_plugins()
NUMBER = FilterStep("regex", {"regex_pattern": r"#### (\d+)"})
TAKE_FIRST = FilterStep("take_first")


def scorer(
    *metrics: MetricSpec, steps: tuple[FilterStep, ...] = (NUMBER,), output_type: Any = "generate_until"
) -> Scorer:
    spec = ScoringSpec(output_type, metrics, (FilterPipeline("none", steps),))
    return Scorer(spec, REGISTRY.metric, REGISTRY.filter, where="tasks/x.yaml")


def scores(made: Scorer, target: Any, *replies: str) -> dict[str, Any]:
    request = Request("generate", Prompt(suffix="Q"))
    sample = Sample("t", "", 0, {}, (request,) * len(replies), target)
    scored = made.score(sample, [Response(text=reply) for reply in replies])
    assert scored.error is None, scored.error
    return dict(scored.scores)


EXACT = MetricSpec("exact_match")
REPLIES = ("#### 7", "#### 8", "no idea", "#### 7")


def test_one_metric_gives_several_k() -> None:
    made = scorer(
        EXACT, MetricSpec("pass_at_k", options={"k": [1, 2, 4]}), MetricSpec("pass_hat_k", options={"k": [2]})
    )

    assert [key.name for key in made.keys] == ["exact_match", "pass_at_1", "pass_at_2", "pass_at_4", "pass_hat_2"]
    assert scores(made, "7", *REPLIES) == pytest.approx(
        {"exact_match": 0.5, "pass_at_1": 0.5, "pass_at_2": 5 / 6, "pass_at_4": 1.0, "pass_hat_2": 1 / 6}
    )


def test_filters_that_join_replies_are_left_out_of_it() -> None:
    for joining in (TAKE_FIRST, FilterStep("majority_vote")):
        made = scorer(EXACT, MetricSpec("pass_at_k", options={"k": 2}), steps=(NUMBER, joining))
        assert scores(made, "7", "#### 8", "#### 8", "#### 7") == {
            "exact_match": 0.0,
            "pass_at_k": pytest.approx(2 / 3),
        }


def test_of_names_a_metric_of_the_task_with_its_options() -> None:
    loose = MetricSpec("exact_match", options={"regexes_to_ignore": [","]})
    named = scorer(MetricSpec("chrf"), loose, MetricSpec("pass_at_k", options={"of": "exact_match"}), steps=())
    assert scores(named, "1,000", "1000")["pass_at_k"] == 1.0

    written = {"of": {"metric": "exact_match", "ignore_case": True}}
    entry = scorer(MetricSpec("chrf"), MetricSpec("pass_hat_k", options=written), steps=())
    assert scores(entry, "Oslo", "OSLO")["pass_hat_k"] == 1.0
    plain = scorer(MetricSpec("chrf"), MetricSpec("pass_hat_k", options={"of": "exact_match"}), steps=())
    assert scores(plain, "Oslo", "OSLO")["pass_hat_k"] == 0.0


def test_a_score_between_0_and_1_passes_from_a_threshold_on() -> None:
    for threshold, passes in ((0.6, 1.0), (0.7, 0.0)):
        options = {"of": "f1", "threshold": threshold}
        made = scorer(EXACT, MetricSpec("pass_at_k", options=options), steps=())
        assert scores(made, "a red fox", "red cat fox x")["pass_at_k"] == passes  # F1 is 2/3


def test_hidden_gold_is_not_scored_and_an_unread_reply_has_not_passed() -> None:
    made = scorer(EXACT, MetricSpec("pass_at_k"))
    assert scores(made, None, "#### 7", "what?") == {"exact_match": None, "pass_at_k": None}
    assert scores(made, "7", "what?", "what?") == {"exact_match": 0.0, "pass_at_k": 0.0}
    # F1 of two empty texts is 1: an answer that nobody could read still passes nothing.
    empty = scorer(MetricSpec("f1"), MetricSpec("pass_at_k", options={"threshold": 0.0}))
    assert scores(empty, "", "what?")["pass_at_k"] == 0.0


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([MetricSpec("pass_at_k")], "metric 'pass_at_k': say by `of` which metric scores a single reply"),
        ([EXACT, MetricSpec("pass_hat_k", options={"of": "pass_at_k"})], "say by `of` which metric"),
        ([EXACT, MetricSpec("pass_at_k", options={"of": "exact_mach"})], "did you mean 'exact_match'"),
        ([EXACT, MetricSpec("pass_at_k", options={"of": {"ignore_case": True}})], "with the key 'metric' is expected"),
        ([EXACT, MetricSpec("pass_at_k", options={"of": 5})], "of: a metric's name, or an entry"),
        ([EXACT, MetricSpec("pass_at_k", options={"of": "bleu"})], "'bleu' does not score a single reply"),
        ([EXACT, MetricSpec("pass_at_k", options={"of": "acc"})], "cannot score a task of output_type"),
        ([EXACT, MetricSpec("pass_at_k", options={"of": {"metric": "f1", "levl": "char"}})], "did you mean 'level'"),
        ([MetricSpec("f1", higher_is_better=False), MetricSpec("pass_at_k")], "less is better for 'f1'"),
        (
            [EXACT, MetricSpec("pass_at_10"), MetricSpec("pass_at_k", options={"k": [1, 10]})],
            "two metrics give a score 'pass_at_10'",
        ),
    ],
)
def test_what_cannot_say_which_replies_pass_is_refused(metrics: list[MetricSpec], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        scorer(*metrics)
    assert message in str(caught.value)
    assert str(caught.value).startswith("tasks/x.yaml: ") and "\n" not in str(caught.value)


def test_choices_have_one_answer_only() -> None:
    with pytest.raises(UsageError, match="cannot score a task of output_type 'multiple_choice'"):
        scorer(MetricSpec("acc"), MetricSpec("pass_at_k"), output_type="multiple_choice")


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        # avg_at_k, then majority_at_k of all, of 2 and of 4: worked out by hand.
        (("7", "8", "no idea", "7"), (0.5, 1.0, 1.0, 1.0)),
        (("8", "7", "7", "8"), (0.5, 0.0, 0.5, 0.0)),  # a tie: the first of the two wins
        (("8", "8", "7", "7"), (0.5, 0.0, 0.5, 0.0)),
        (("no", "idea", "7", "no"), (0.25, 1.0, 0.5, 1.0)),  # one vote is a majority of one
        (("no", "idea", "at", "all"), (0.0, 0.0, 0.0, 0.0)),
        (("8", "7", "7", "7"), (0.75, 1.0, 0.5, 1.0)),
    ],
)
def test_means_and_majorities_are_those_worked_out_by_hand(
    replies: tuple[str, ...], expected: tuple[float, ...]
) -> None:
    ks: tuple[dict[str, Any], ...] = ({}, {"k": 2}, {"k": 4})
    majorities = [MetricSpec("majority_at_k", options=options) for options in ks]
    texts = [f"#### {reply}" for reply in replies]
    found = [scores(scorer(EXACT, each), "7", *texts) for each in (MetricSpec("avg_at_k"), *majorities)]
    assert [each.get("avg_at_k", each.get("majority_at_k")) for each in found] == list(expected)


def test_intervals_are_over_questions_and_a_failed_reply_leaves_its_question_out() -> None:
    """Four answers to each of four questions, of which 4, 2 and 0 are right; of the last one an answer failed."""
    made = scorer(EXACT, MetricSpec("avg_at_k"), MetricSpec("pass_at_k", options={"k": 2}), MetricSpec("majority_at_k"))
    records = []
    for number, right in enumerate((4, 2, 0, 4)):
        responses = [Response(text=f"#### {7 if at < right else 8}") for at in range(4)]
        if number == 3:
            responses[1] = Response(error="the server was gone")
        request = Request("generate", Prompt(suffix="Q"))
        sample = Sample("t", "", number, {}, (request,) * 4, "7")
        scored = made.score(sample, responses)
        records.append(
            Record(
                "t", "", number, {}, Prompt(), "7", (), tuple(responses), ("",) * 4, scores=scored.scores,
                answers=scored.answers, unparsed=scored.unparsed, error=scored.error,
            )
        )  # fmt: skip
    (result,) = made.summarise("t", records, [("", "", ())])
    found = {metric.metric: metric for metric in result.metrics}

    assert (result.counts.n, result.counts.failed) == (4, 1)
    assert all(metric.n == 3 for metric in found.values())
    assert found["avg_at_k"].value == 0.5 and found["avg_at_k"].stderr == pytest.approx(0.5 / 3**0.5)
    # 1 - C(n - c, k) / C(n, k): 1, 1 - 1/6 and 0.
    assert found["pass_at_k"].value == pytest.approx((1 + 5 / 6 + 0) / 3)
    assert found["majority_at_k"].value == pytest.approx(2 / 3)


TASK = """\
task: sums
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
filter_list:
  - {name: strict, filter: [{function: regex, regex_pattern: '(\\d+)'}, {function: take_first}]}
  - {name: vote, filter: [{function: regex, regex_pattern: '(\\d+)'}, {function: majority_vote}]}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture
def _sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps({"question": f"q{number}", "answer": str(number)}) + "\n" for number in range(6))
    Path("rows.jsonl").write_text(rows, encoding="utf-8")
    Path("sums.yaml").write_text(TASK, encoding="utf-8")


@pytest.mark.usefixtures("_sums")
def test_a_task_that_is_asked_several_times_gives_all_of_them() -> None:
    added = "sums.metric_list=[{metric: exact_match}, {metric: pass_at_k, k: [1, 3]}, {metric: pass_hat_k, k: 3}]"
    model = ("--model", "dummy", "--model_args", "mode=gold")
    done = run_harness("--tasks", "sums.yaml", "--set", added, "--set", "sums.repeats=3", *model)

    assert done.exit_code == 0, done.stderr
    (folder,) = Path("runs").iterdir()
    report = load_run(folder).report
    assert report is not None
    names = ("exact_match", "pass_at_1", "pass_at_3", "pass_hat_k")
    found = {metric["metric"]: metric["value"] for metric in report["tasks"][0]["metrics"]}
    assert found == {f"{name}@{way}": 1.0 for name in names for way in ("strict", "vote")}


@pytest.mark.usefixtures("_sums")
def test_too_few_replies_are_refused_before_anything_is_asked() -> None:
    added = "sums.metric_list=[{metric: exact_match}, {metric: pass_at_k, k: [1, 8]}]"
    done = run_harness("--tasks", "sums.yaml", "--set", added, "--set", "sums.repeats=3", "--model", "dummy")

    assert done.exit_code == 4
    assert "needs 8 replies to each question, and task 'sums' has repeats: 3 (--set sums.repeats=8)" in done.stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("metric", "options", "shown"),
    [
        ("pass_at_k", {}, ["pass_at_k, k = 1"]),
        ("pass_at_k", {"k": 2}, ["pass_at_k, k = 2"]),
        ("pass_hat_k", {"k": 2}, ["pass_hat_k, k = 2"]),
        ("pass_at_k", {"k": [1, 2]}, ["pass_at_1", "pass_at_2"]),
        ("pass_at_10", {}, ["pass_at_10"]),
    ],
)
def test_a_table_says_of_how_many_replies_one_must_pass(metric: str, options: dict, shown: list[str]) -> None:
    made = scorer(EXACT, MetricSpec(metric, options=options))
    results = made.summarise("t", [], [("", "", ())])

    labels = [row.metric for row in rows(build_report({}, results)) if row.metric != "exact_match"]
    assert labels == shown
